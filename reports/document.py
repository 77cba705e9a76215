"""From JSON to the dataclasses of ``reports.schema``, checked on entry, and on to table rows."""

# pyright: standard
# (what comes out of JSON is of no known type until it is checked here)

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

from reports.errors import ReportError
from reports.schema import (
    SCHEMA,
    TABLES,
    Candidate,
    Document,
    Finding,
    Scalar,
    described,
    split_optional,
)

KINDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def parse_document(raw: object) -> Document:
    """Check a results document and make it typed; ReportError names the first wrong key."""
    if not isinstance(raw, dict) or "schema" not in raw:
        raise ReportError("no results document: the key 'schema' is missing")
    if raw["schema"] != SCHEMA:
        raise ReportError(f"schema: {str(raw['schema'])[:80]!r} is not {SCHEMA!r}")
    try:
        document: Document = _reader(Document)(raw)
    except _WrongError as error:
        raise ReportError(str(error)) from None
    _check_names(document)
    return document


def parse_json(text: str) -> object:
    """JSON as the standard has it: NaN and Infinity are errors."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"not JSON: {error}") from None


def load_document(path: Path) -> dict[str, Any]:
    """The raw document of a results directory, a ``run.json`` or a ``results.parquet``."""
    found = _locate(path)
    if found.exists() and not found.is_file():
        raise ReportError(f"{found}: not a regular file")
    try:
        if found.suffix == ".parquet":
            from reports.parquet import read_parquet  # pyarrow is slow to import

            raw: object = read_parquet(found)
        else:
            raw = parse_json(found.read_text(encoding="utf-8"))
        parse_document(raw)
    except ReportError as error:
        raise ReportError(f"{found}: {error}") from None
    except UnicodeDecodeError as error:
        raise ReportError(f"{found}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise ReportError(f"{found}: {error.strerror or error}") from None
    assert isinstance(raw, dict)
    return raw


def rows(document: Document, table: str) -> Iterator[tuple[object, ...]]:
    """The rows of one table, in the order of its columns."""
    columns = TABLES[table].columns[1:]
    for candidate in document.candidates:
        for item in _items(candidate, table):
            yield (candidate.name, *(_value(item, column.path) for column in columns))


def findings(candidate: Candidate) -> list[Finding]:
    """Errors first, then warnings, then notes."""
    return [
        *(Finding("error", fault.code, fault.message, fault.where) for fault in candidate.errors),
        *(Finding("warning", warn.code, warn.message, warn.where) for warn in candidate.warnings),
        *(Finding("note", "", note, "") for note in candidate.notes),
    ]


def _items(candidate: Candidate, table: str) -> tuple[object, ...]:
    match table:
        case "candidates":
            return (candidate,)
        case "families":
            return candidate.families
        case "trials":
            return candidate.trials
        case "workloads":
            return candidate.workloads
        case _:
            return tuple(findings(candidate))


def _value(item: object, path: tuple[str, ...]) -> object:
    for name in path:
        if item is None:
            return None
        item = getattr(item, name)
    if isinstance(item, tuple):
        return [_plain(member) for member in item]
    return item


def _plain(member: Any) -> object:
    if isinstance(member, str):
        return member
    return {name: getattr(member, name) for name in member.__slots__}


def _locate(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("run.json", "results.parquet"):
        if (path / name).is_file():
            return path / name
    raise ReportError(f"{path}: neither run.json nor results.parquet is in this directory")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON value")


def _check_names(document: Document) -> None:
    seen: set[str] = set()
    for number, candidate in enumerate(document.candidates):
        if candidate.name in seen:
            raise ReportError(f"candidates[{number}].name: {candidate.name[:80]!r} appears twice")
        seen.add(candidate.name)


class _WrongError(Exception):
    """What is wrong with a value; the path grows while the error travels out."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.path: list[str | int] = []

    def __str__(self) -> str:
        keys = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in reversed(self.path))
        return f"{''.join(keys).removeprefix('.') or 'document'}: {self.args[0]}"


Reader = Callable[[Any], Any]


@cache
def _reader(annotated: Any) -> Reader:
    """A function that checks one value of a type; made once per type, called a million times."""
    kind, optional = split_optional(annotated)
    if kind in KINDS:
        read = _scalar_reader(kind)
    elif dataclasses.is_dataclass(kind):
        read = _object_reader(kind)  # type: ignore[arg-type]  # a class, not an instance
    elif kind == Scalar:
        read = _any_scalar
    elif get_origin(kind) is tuple:
        read = _list_reader(get_args(kind)[0])
    else:
        read = _mapping_reader(get_args(kind)[1])
    return (lambda raw: None if raw is None else read(raw)) if optional else read


def _object_reader(cls: type[Any]) -> Reader:
    readers = [(name, _reader(kind)) for name, (kind, _) in described(cls).items()]
    required = [f.name for f in dataclasses.fields(cls) if _is_required(f)]

    def read(raw: Any) -> Any:
        if not isinstance(raw, dict):
            raise _WrongError(f"expected an object, found {_kind(raw)}")
        arguments: dict[str, Any] = {}
        for name, convert in readers:
            if name in raw:
                try:
                    arguments[name] = convert(raw[name])
                except _WrongError as error:
                    error.path.append(name)
                    raise
        try:
            return cls(**arguments)
        except TypeError:
            wrong = _WrongError("missing")
            wrong.path.append(next(name for name in required if name not in raw))
            raise wrong from None

    return read


def _is_required(entry: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return entry.default is missing and entry.default_factory is missing


def _list_reader(member: Any) -> Reader:
    convert = _reader(member)

    def read(raw: Any) -> Any:
        if not isinstance(raw, list):
            raise _WrongError(f"expected a list, found {_kind(raw)}")
        made: list[Any] = []
        try:
            for item in raw:
                made.append(convert(item))  # noqa: PERF401 - its length is the position of an error
        except _WrongError as error:
            error.path.append(len(made))
            raise
        return tuple(made)

    return read


def _mapping_reader(member: Any) -> Reader:
    convert = None if member is object else _reader(member)

    def read(raw: Any) -> Any:
        if not isinstance(raw, dict):
            raise _WrongError(f"expected an object, found {_kind(raw)}")
        if convert is None:
            return raw
        made: dict[str, Any] = {}
        for key, item in raw.items():
            try:
                made[key] = convert(item)
            except _WrongError as error:
                error.path.append(key[:80])
                raise
        return made

    return read


def _scalar_reader(kind: type[Any]) -> Reader:
    def read(raw: Any) -> Any:
        if type(raw) is kind:
            if kind is int and abs(raw) >= 1 << 63:
                raise _WrongError("a number that does not fit 64 bits")
            return raw
        if kind is float and type(raw) is int:
            return float(raw)
        raise _WrongError(f"expected {KINDS[kind]}, found {_kind(raw)}")

    return read


def _any_scalar(raw: Any) -> Any:
    if isinstance(raw, dict | list):
        raise _WrongError(f"expected one value, found {_kind(raw)}")
    return raw


def _kind(raw: object) -> str:
    match raw:
        case None:
            return "null"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return KINDS.get(type(raw), type(raw).__name__)
