"""``results.parquet``: one row per trial; the rest of the document travels in the file's metadata.

So the one file is complete: whoever has it can load every table and render the page again.
"""

# pyright: standard
# (pyarrow has no type stubs)

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from reports.document import parse_json, rows
from reports.errors import ReportError
from reports.schema import TABLES, Column, Document, Step, described, split_optional

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
    encoded = json.dumps(rest, ensure_ascii=True).encode()
    names = [field.name for field in schema]
    lines = [
        json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)
        for row in rows(document, "trials")
    ]
    # Through JSON because pa.array() imports pandas, which takes longer than a whole evaluation.
    text = "\n".join(lines).encode(errors="replace")
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
    expected = [column.name for column in TABLES["trials"].columns]
    missing = sorted(set(expected) - set(table.column_names))
    if missing:
        raise ReportError(f"column {missing[0]!r} is missing")
    raw = parse_json(encoded.decode())
    trials: dict[str, list[dict[str, object]]] = {}
    for line in table.select(expected).to_pylist():
        trials.setdefault(line["candidate"], []).append(_nest(line))
    if isinstance(raw, dict) and isinstance(raw.get("candidates"), list):
        for candidate in raw["candidates"]:
            candidate["trials"] = trials.get(candidate.get("name"), [])
    return raw


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
