"""Reads a results document: typed frames for pandas, files on disk, one HTML page.

Sees only the document (``run.json``), never the code that measured it.
"""

from reports.document import ReportError
from reports.load import Results, load
from reports.write import write

__all__ = ["ReportError", "Results", "load", "write"]
