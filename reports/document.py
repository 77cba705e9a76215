"""From JSON to the structs of ``reports.schema``, checked on entry, and on to table rows."""

# pyright: standard
# (what comes out of JSON is of no known type until it is checked here)

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from reports.errors import ReportError
from reports.schema import (
    OUTCOMES,
    SCHEMA,
    TABLES,
    VERDICTS,
    WORKLOAD_OUTCOMES,
    Candidate,
    Document,
    Finding,
)
from reports.text import encodable

T = TypeVar("T")


def parse_document(raw: object) -> Document:
    """Check a results document and make it typed; ReportError names the first wrong key."""
    if not isinstance(raw, dict) or "schema" not in raw:
        raise ReportError("no results document: the key 'schema' is missing")
    if raw["schema"] != SCHEMA:
        raise ReportError(
            f"schema: {str(raw['schema'])[:80]!r} is not {SCHEMA!r}: another version of sidestep "
            "wrote it; read it with that one, or evaluate again"
        )
    document = typed(raw, Document)
    _check_names(document)
    _check_words(document)
    return document


def typed(raw: object, kind: type[T]) -> T:
    """JSON as a struct; ReportError names the first wrong key."""
    try:
        return msgspec.convert(raw, kind, str_keys=True)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at ")
        raise ReportError(
            f"{where.strip('`').removeprefix('$.') or 'document'}: {message}"
        ) from None
    except UnicodeEncodeError:
        raise ReportError("document: a string holds half of a surrogate pair") from None


def complete(raw: object) -> dict[str, Any]:
    """A results document with every key that the schema knows, the missing ones at their default.

    ReportError names the first wrong key.
    """
    filled: dict[str, Any] = msgspec.to_builtins(parse_document(raw))
    return filled


def parse_json(text: str) -> object:
    """JSON as the standard has it: NaN and Infinity are errors."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"not JSON: {error}") from None


def load_document(path: Path) -> dict[str, Any]:
    """The raw document of a results directory, a ``run.json`` or a ``results.parquet``."""
    try:
        found = _locate(path)
        in_the_way = found.exists() and not found.is_file()
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror or error}") from None
    if in_the_way:
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
    """The rows of one table, in the order of its columns; lists as tuples, steps as structs."""
    columns = TABLES[table].columns[1:]
    for candidate in encodable_candidates(document):
        for item in _items(candidate, table):
            yield (candidate.name, *(_value(item, column.path) for column in columns))


def encodable_candidates(document: Document) -> tuple[Candidate, ...]:
    """The candidates in text that UTF-8, and so every table, can hold: a file name may be none."""
    try:
        msgspec.json.encode(document.candidates)
    except UnicodeEncodeError:
        shown = _encodable(msgspec.to_builtins(document.candidates))
        return msgspec.convert(shown, tuple[Candidate, ...])
    return document.candidates


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return encodable(value)
        case list() | tuple():
            return [_encodable(one) for one in value]
        case dict():
            return {_encodable(key): _encodable(one) for key, one in value.items()}
        case _:
            return value


def findings(candidate: Candidate) -> list[Finding]:
    """Errors first, then warnings, then notes."""
    return [
        *(Finding("error", fault.code, fault.message, fault.where) for fault in candidate.errors),
        *(
            Finding("warning", one.code, one.message, one.where, one.witness, one.confirmed_by)
            for one in candidate.warnings
        ),
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
    return item


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
        name = encodable(candidate.name)  # as the tables call it
        if name in seen:
            raise ReportError(f"candidates[{number}].name: {candidate.name[:80]!r} appears twice")
        seen.add(name)


def _check_words(document: Document) -> None:
    """What a reader could take for good news must be a word that we know."""
    for number, candidate in enumerate(document.candidates):
        place = f"candidates[{number}]"
        for index, family in enumerate(candidate.families):
            _check_word(family.verdict, VERDICTS, f"{place}.families[{index}].verdict")
            for row, count in enumerate(family.aftermaths):
                where = f"{place}.families[{index}].aftermaths[{row}].outcome"
                _check_word(count.outcome, OUTCOMES, where)
        for index, trial in enumerate(candidate.trials):
            _check_word(trial.outcome, OUTCOMES, f"{place}.trials[{index}].outcome")
        for index, workload in enumerate(candidate.workloads):
            known = ("", *WORKLOAD_OUTCOMES)  # older documents have none
            _check_word(workload.outcome, known, f"{place}.workloads[{index}].outcome")


def _check_word(word: str, known: tuple[str, ...], where: str) -> None:
    if word not in known:
        words = ", ".join(one for one in known if one)
        raise ReportError(f"{where}: {word[:80]!a} is none of {words}")
