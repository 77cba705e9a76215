"""``results.parquet``: one row per trial; the rest of the document travels in the file's metadata.

So the one file is complete: whoever has it can load every table and render the page again.
"""

# pyright: standard
# (pyarrow has no type stubs)

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from reports.document import parse_json, rows
from reports.errors import ReportError
from reports.schema import TABLES, Column, Document, Step, described, split_optional
from reports.text import ascii_json, encodable

METADATA_KEY = b"sidestep.document"

TYPES = {
    "string": pa.string(),
    "Int64": pa.int64(),
    "Float64": pa.float64(),
    "boolean": pa.bool_(),
    "list of string": pa.list_(pa.string()),
}
PLAIN = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}


def write_parquet(raw: dict[str, Any], document: Document, path: Path) -> None:
    """Write the trials, and the document without them as metadata."""
    schema = pa.schema([(column.name, _type(column)) for column in TABLES["trials"].columns])
    rest = {
        **raw,
        "candidates": [
            {key: value for key, value in candidate.items() if key != "trials"}
            for candidate in raw["candidates"]
        ],
    }
    encoded = ascii_json(rest)
    names = [field.name for field in schema]
    lines = [
        msgspec.json.encode(dict(zip(names, row, strict=True))) for row in rows(document, "trials")
    ]
    # Through JSON because pa.array() imports pandas, which takes longer than a whole evaluation.
    text = b"\n".join(lines)
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    reading = pj.ReadOptions(use_threads=False, block_size=len(text) + 1)
    table = (
        pj.read_json(io.BytesIO(text), reading, options) if lines else schema.empty_table()
    ).replace_schema_metadata({METADATA_KEY: encoded})
    with path.open("wb") as stream:
        pq.write_table(table, stream, compression="zstd")


def read_parquet(path: Path) -> object:
    """The raw document, put together again."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, ValueError) as error:
        raise ReportError(f"not a readable parquet file: {str(error).splitlines()[0]}") from None
    encoded = (table.schema.metadata or {}).get(METADATA_KEY)
    if encoded is None:
        raise ReportError("a parquet file without a results document in it")
    _check_columns(table)
    try:
        raw = parse_json(encoded.decode())
    except UnicodeDecodeError:
        raise ReportError("the results document in it is not UTF-8") from None
    trials: dict[str, list[dict[str, object]]] = {}
    expected = [column.name for column in TABLES["trials"].columns]
    for line in table.select(expected).to_pylist():
        trials.setdefault(line["candidate"], []).append(_nest(line))
    if isinstance(raw, dict) and isinstance(raw.get("candidates"), list):
        for candidate in raw["candidates"]:
            if isinstance(candidate, dict):
                candidate["trials"] = trials.pop(encodable(str(candidate.get("name"))), [])
    if trials:
        stray = str(next(iter(trials)))
        raise ReportError(f"column 'candidate': {stray[:80]!r} is no candidate of the document")
    return raw


def _check_columns(table: Any) -> None:
    """Every column is there with its type; ReportError names the first that is not."""
    for column in TABLES["trials"].columns:
        if column.name not in table.column_names:
            raise ReportError(f"column {column.name!r} is missing")
        kind = table.schema.field(column.name).type
        # What pandas or another tool wrote again may be longer, or of no type where all is missing.
        if not (pa.types.is_null(kind) or _FITS[column.dtype](kind)):
            raise ReportError(f"column {column.name!r} is {kind}, not {column.dtype}")


def _is_list_of(test: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    def fits(kind: pa.DataType) -> bool:
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        return bool(is_list) and (pa.types.is_null(kind.value_type) or test(kind.value_type))

    return fits


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


_FITS: dict[str, Callable[[pa.DataType], bool]] = {
    "string": _is_text,
    "Int64": pa.types.is_integer,
    "Float64": pa.types.is_floating,
    "boolean": pa.types.is_boolean,
    "list of string": _is_list_of(_is_text),
    "list of struct": _is_list_of(pa.types.is_struct),
}


def _nest(line: dict[str, Any]) -> dict[str, object]:
    trial: dict[str, Any] = {}
    for column in TABLES["trials"].columns[1:]:
        head, *tail = column.path
        if not tail:
            trial[head] = line[column.name]
        elif line[column.name] is None:
            trial.setdefault(head, None)
        else:
            trial[head] = {**(trial.get(head) or {}), tail[0]: line[column.name]}
    return trial


def _type(column: Column) -> pa.DataType:
    if column.dtype != "list of struct":
        return TYPES[column.dtype]
    members = {name: split_optional(kind)[0] for name, (kind, _) in described(Step).items()}
    return pa.list_(pa.struct([(name, PLAIN[kind]) for name, kind in members.items()]))
