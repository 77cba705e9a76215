"""Stored results as pandas frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, to_builtins

from reports.document import load_document, parse_document, rows
from reports.schema import TABLES, Document

if TYPE_CHECKING:
    import pandas as pd


class Results(Struct, frozen=True, eq=False):
    """One run as typed frames; ``docs/data.md`` describes the columns."""

    document: Document
    candidates: pd.DataFrame
    families: pd.DataFrame
    trials: pd.DataFrame
    workloads: pd.DataFrame
    findings: pd.DataFrame


def load(path: str | Path) -> Results:
    """Load a results directory, a ``run.json`` or a ``results.parquet``.

    ReportError, one line, if the file cannot be read or is not a results document.
    """
    document = parse_document(load_document(Path(path)))
    return Results(document, **{name: frame(document, name) for name in TABLES})


def frame(document: Document, table: str) -> pd.DataFrame:
    """One table of the document as a frame with the dtypes of its columns."""
    import pandas as pd  # half a second: only those who ask for frames pay for it

    columns = TABLES[table].columns
    lines = [[_plain(value) for value in row] for row in rows(document, table)]
    made = pd.DataFrame(lines, columns=[c.name for c in columns])
    plain = {c.name: c.dtype for c in columns if not c.dtype.startswith("list")}
    lists = {c.name: "object" for c in columns if c.dtype.startswith("list")}
    return made.astype({**plain, **lists})


def _plain(value: object) -> object:
    """Lists of plain values, for those who do not know our structs."""
    return list(to_builtins(value)) if isinstance(value, tuple) else value
