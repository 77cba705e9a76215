"""Puts results on disk: all of them or, on failure, what was there before."""

from __future__ import annotations

import csv
import io
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from reports.document import parse_document
from reports.errors import ReportError
from reports.schema import Document
from reports.tables import SUMMARY_COLUMNS, summary_rows
from reports.text import ascii_json, one_line

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_SPACES = " \t\r\n\xa0\u3000"
Writer = Callable[[dict[str, Any], Document, Path], None]
Filler = Callable[[Path], None]
"""Writes one file that exists already and is empty."""


def write(
    raw: dict[str, Any], target: str | Path, beside: Mapping[str, bytes] = MappingProxyType({})
) -> tuple[Path, ...]:
    """Write the four files into a directory, or one file if ``target`` ends like one of them.

    Into a directory go the files ``beside`` as well, contents by name.

    Every file is written beside its place and renamed when all are complete.  ReportError, one
    line, if the document is wrong or the disk does not take it; older files then stay.
    """
    document = parse_document(raw)
    directory, names = _places(target)
    files = {name: _filler(writer, raw, document) for name, writer in names.items()}
    if names is FILES:
        files |= {name: partial(_write_content, content) for name, content in beside.items()}
    return _write_all(files, directory)


def write_texts(texts: dict[str, str], directory: str | Path) -> tuple[Path, ...]:
    """Write files of these names and contents into a directory: all of them, or none."""

    def filler(text: str) -> Filler:
        return lambda path: _write_text(text, path)

    return _write_all({name: filler(text) for name, text in texts.items()}, Path(directory))


def _filler(writer: Writer, raw: dict[str, Any], document: Document) -> Filler:
    return lambda path: writer(raw, document, path)


def _places(target: str | Path) -> tuple[Path, dict[str, Writer]]:
    """The directory, and what is to be written there; what ends in / is a directory."""
    path = Path(target)
    if path.suffix in BY_SUFFIX and not path.is_dir() and not str(target).endswith("/"):
        return path.parent, {path.name: BY_SUFFIX[path.suffix]}
    return path, FILES


def _write_all(files: dict[str, Filler], directory: Path) -> tuple[Path, ...]:
    """Every file beside its place first, and renamed when all are complete."""
    suffix = f".{secrets.token_hex(4)}.tmp"
    parts = {name: directory / f".{name}{suffix}" for name in files}
    target = directory / next(iter(files)) if len(files) == 1 else directory
    made: list[Path] = []
    try:
        made = _missing(directory)
        _make_directory(directory)
        for name in files:
            _refuse_in_the_way(directory / name)
        try:
            for name, part in parts.items():
                _create(part)
                files[name](part)
            return tuple(part.replace(directory / name) for name, part in parts.items())
        except OSError as error:
            # The name of the temporary file would tell the reader nothing.
            error.filename, error.filename2 = str(target), None
            raise
        finally:
            for part in parts.values():
                with suppress(OSError):
                    part.unlink(missing_ok=True)
    except OSError as error:
        where = error.filename2 or error.filename or directory
        raise ReportError(f"{where}: cannot write: {error.strerror or error}") from None
    finally:
        _remove_empty(made)


def write_bytes(path: Path, content: bytes) -> None:
    """One file, as a whole or not at all, owned by whoever called sudo; ReportError, one line."""
    _write_all({path.name: partial(_write_content, content)}, path.parent)


def _refuse_in_the_way(path: Path) -> None:
    """Before anything is replaced: a rename would fail half-way, or do away with a FIFO."""
    if path.exists() and not path.is_file() and not path.is_symlink():
        raise ReportError(f"{path}: cannot write: not a regular file")


def check(target: str | Path) -> None:
    """Find out before a long run whether ``write`` could write there; leaves nothing behind."""
    check_names(*_places(target))


def check_file(path: Path) -> None:
    """The same for ``write_bytes``."""
    check_names(path.parent, [path.name])


def check_names(directory: Path, names: Iterable[str]) -> None:
    """The same for files of these names."""
    made: list[Path] = []
    try:
        made = _missing(directory)
        for name in names:
            _refuse_in_the_way(directory / name)
        _make_directory(directory)
        part = directory / f".check.{secrets.token_hex(4)}.tmp"
        _create(part)
        part.unlink()
    except OSError as error:
        where = directory if error.filename is None else error.filename
        raise ReportError(f"{where}: cannot write: {error.strerror or error}") from None
    finally:
        _remove_empty(made)


def _create(path: Path) -> None:
    """A new file, never one that somebody put there, owned by whoever called sudo."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        owner = caller()
        if owner is not None:
            os.fchown(descriptor, *owner)
    finally:
        os.close(descriptor)


def _missing(directory: Path) -> list[Path]:
    """The directories that are still to be made, the innermost first."""
    return [path for path in (directory, *directory.parents) if not path.exists()]


def _remove_empty(made: Iterable[Path]) -> None:
    for path in made:
        with suppress(OSError):
            path.rmdir()


def _make_directory(directory: Path) -> None:
    owner = caller()
    for path in reversed(_missing(directory)):
        path.mkdir(exist_ok=True)
        if owner is not None:
            os.chown(path, *owner, follow_symlinks=False)
    if not directory.is_dir():
        raise NotADirectoryError(20, "not a directory", str(directory))


def caller() -> tuple[int, int] | None:
    """User and group of whoever started us through sudo; None if we are nobody's root."""
    if os.geteuid() != 0:
        return None
    try:
        owner = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
    except (KeyError, ValueError):
        return None
    return owner if min(owner) >= 0 else None


def _write_content(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _write_json(raw: dict[str, Any], document: Document, path: Path) -> None:
    path.write_bytes(ascii_json(raw) + b"\n")


def _write_csv(raw: dict[str, Any], document: Document, path: Path) -> None:
    _write_text(csv_text(document), path)


def csv_text(document: Document) -> str:
    """``summary.csv``: a line for each candidate and family."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(SUMMARY_COLUMNS)
    lines.writerows([cell(value) for value in line] for line in summary_rows(document))
    return text.getvalue()


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def cell(value: object) -> object:
    """One visible line; what a spreadsheet would run as a formula gets an apostrophe.

    Spreadsheets look past spaces, and take the wide forms of these characters for the same.
    """
    if not isinstance(value, str):
        return value
    if value.lstrip(_SPACES).startswith(_FORMULA):
        value = f"'{value}"
    return one_line(value)


def _write_parquet(raw: dict[str, Any], document: Document, path: Path) -> None:
    from reports.parquet import write_parquet  # pyarrow is slow to import

    write_parquet(raw, document, path)


def _write_html(raw: dict[str, Any], document: Document, path: Path) -> None:
    from reports.html import render  # jinja2 is needed for the page alone

    _write_text(render(document), path)


def _write_markdown(raw: dict[str, Any], document: Document, path: Path) -> None:
    from reports.markdown import markdown

    _write_text(markdown(document), path)


FILES: dict[str, Writer] = {
    "run.json": _write_json,
    "results.parquet": _write_parquet,
    "summary.csv": _write_csv,
    "report.html": _write_html,
}
BY_SUFFIX = {Path(name).suffix: writer for name, writer in FILES.items()} | {".md": _write_markdown}
