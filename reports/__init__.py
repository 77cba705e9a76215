"""Reads a results document: typed frames for pandas, files on disk, one HTML page.

Sees only the document (``run.json``), never the code that measured it.  What is heavy is imported
when it is asked for: a command that only names ``ReportError`` pays for no table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.errors import ReportError

if TYPE_CHECKING:
    from reports.files import write
    from reports.frames import Results, load

__all__ = ["ReportError", "Results", "load", "write"]


def __getattr__(name: str) -> Any:
    if name in ("Results", "load"):
        from reports.frames import Results, load

        return Results if name == "Results" else load
    if name == "write":
        from reports.files import write

        return write
    raise AttributeError(name)
