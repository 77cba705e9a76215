"""Stored results come back as they were written, or are refused in one line."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import reports
from reports import ReportError, load, write
from reports.answer import Standing, standing
from reports.document import complete, parse_document
from reports.schema import TABLES
from reports.tables import matrix, summary

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "data" / "results" / "sample.json"


@pytest.fixture
def raw() -> dict[str, Any]:
    return json.loads(SAMPLE.read_text())


def test_every_table_has_its_columns_and_dtypes() -> None:
    results = load(SAMPLE)
    for name, table in TABLES.items():
        frame = getattr(results, name)
        dtypes = {c.name: c.dtype if c.dtype[:4] != "list" else "object" for c in table.columns}
        assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == dtypes


def test_an_empty_run_has_the_same_columns(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["candidates"] = []
    write(raw, tmp_path)
    for source in (tmp_path / "run.json", tmp_path / "results.parquet"):
        results = load(source)
        assert [c.name for c in TABLES["trials"].columns] == list(results.trials.columns)
        assert len(results.trials) == 0


def test_all_three_ways_to_load_agree(raw: dict[str, Any], tmp_path: Path) -> None:
    write(raw, tmp_path)
    expected = load(SAMPLE).document
    assert expected == load(tmp_path).document
    assert expected == load(tmp_path / "results.parquet").document
    (tmp_path / "run.json").unlink()
    assert expected == load(tmp_path).document


def test_an_aftermath_that_is_not_known_survives_parquet(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    blocked = next(one for one in raw["candidates"][0]["trials"] if one["outcome"] == "BLOCKED")
    blocked["aftermath"] |= {"survives": None}
    write(raw, tmp_path / "x.parquet")
    assert load(tmp_path / "x.parquet").document == parse_document(raw)


def test_both_scores_of_a_summary_have_counts_or_a_reason() -> None:
    rows = summary(load(SAMPLE).document).groupby("candidate").first()
    counts = ["robustness_counts", "routes_counts", "utility_counts"]
    assert list(rows.loc["block-mkdir", counts]) == ["0 of 1", "5 of 7", "1 of 2"]
    assert list(rows.loc["unconfined", counts[:2]]) == ["nothing targeted"] * 2
    assert "4 blocked silently; the process lives on" in rows.loc["block-mkdir", "left_behind"]


def test_nested_values_become_columns(raw: dict[str, Any]) -> None:
    trials = load(SAMPLE).trials
    blocked = trials[(trials.candidate == "block-mkdir") & (trials.outcome == "BLOCKED")]
    assert {"mkdir", "mkdirat"} == set(blocked.stopped_at_call)
    assert trials.steps.map(len).min() == 1


def test_the_matrix_has_a_verdict_for_every_family_and_candidate() -> None:
    found = matrix(load(SAMPLE).document)
    assert found.loc["create-directory"].tolist() == ["leaky", "held", "open"]


def test_an_invalid_candidate_is_a_row_of_the_summary(raw: dict[str, Any]) -> None:
    raw["candidates"] = [
        {"name": "x", "source": "x.json", "valid": False, "errors": [{"message": "not JSON"}]}
    ]
    row = summary(parse_document(raw)).iloc[0]
    assert (row.candidate, row.verdict, row.reason) == ("x", "invalid", "not JSON")


Change = Callable[[dict[str, Any]], object]
WRONG: dict[str, tuple[Change, str]] = {
    "no schema": (lambda d: d.pop("schema"), "the key 'schema' is missing"),
    "another version": (
        lambda d: d.update(schema="sidestep.results/9"),
        "schema: 'sidestep.results/9' is not 'sidestep.results/1'",
    ),
    "a missing key": (
        lambda d: d["candidates"][1].pop("source"),
        "candidates[1]: Object missing required field `source`",
    ),
    "a wrong type": (
        lambda d: d["candidates"][0]["trials"][2].update(outcome=3),
        "candidates[0].trials[2].outcome: Expected `str`, got `int`",
    ),
    "true is no number": (
        lambda d: d["candidates"][0].update(instructions=True),
        "candidates[0].instructions: Expected `int`, got `bool`",
    ),
    "a list for an object": (
        lambda d: d.update(environment=[]),
        "environment: Expected `object`, got `array`",
    ),
    "a number too large": (
        lambda d: d["candidates"][0].update(held=1 << 70),
        "candidates[0].held: Expected `int` <= 9223372036854775807",
    ),
    "a wrong value in a mapping": (
        lambda d: d["candidates"][0]["counts"].update(BLOCKED="many"),
        "candidates[0].counts[...]: Expected `int`, got `str`",
    ),
    "half of a surrogate pair": (
        lambda d: d["gates"].append({"candidate": "x", "gate": "y", "ok": "\ud800"}),
        "document: a string holds half of a surrogate pair",
    ),
    "a verdict of nobody": (
        lambda d: d["candidates"][0]["families"][3].update(verdict="bogus"),
        "candidates[0].families[3].verdict: 'bogus' is none of leaky, open, ",
    ),
    "a verdict in half a pair": (
        lambda d: d["candidates"][0]["families"][0].update(verdict="held\udcff"),
        "candidates[0].families[0].verdict: 'held\\udcff' is none of ",
    ),
    "an outcome of nobody": (
        lambda d: d["candidates"][0]["trials"][2].update(outcome="blocked"),
        "candidates[0].trials[2].outcome: 'blocked' is none of BYPASSED, ",
    ),
    "an aftermath of nobody": (
        lambda d: d["candidates"][0]["families"][0].update(
            aftermaths=[{"outcome": "FINE", "trials": 1}]
        ),
        "candidates[0].families[0].aftermaths[0].outcome: 'FINE' is none of ",
    ),
    "a workload's outcome of nobody": (
        lambda d: d["candidates"][0]["workloads"][0].update(outcome="fine"),
        "candidates[0].workloads[0].outcome: 'fine' is none of works, broken, ",
    ),
    "one name twice": (
        lambda d: d["candidates"][1].update(name="block-mkdir"),
        "candidates[1].name: 'block-mkdir' appears twice",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_document_names_the_key(name: str, raw: dict[str, Any], tmp_path: Path) -> None:
    change, expected = WRONG[name]
    change(raw)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(ReportError) as error:
        load(path)
    assert expected in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b""),
        ("run.json", b"{"),
        ("run.json", b"[]"),
        ("run.json", b"\xff\xfe{}"),
        ("run.json", b'{"schema": NaN}'),
        ("run.json", b"[" * 100_000),
        ("results.parquet", b""),
        ("results.parquet", b"PAR1" + b"\0" * 100),
    ],
)
def test_a_damaged_file_is_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReportError) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_parquet_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "results.parquet")
    with pytest.raises(ReportError, match="without a results document"):
        load(tmp_path)


def test_a_missing_file_and_an_empty_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="No such file"):
        load(tmp_path / "none.json")
    with pytest.raises(ReportError, match=r"neither run\.json nor results\.parquet"):
        load(tmp_path)


def test_unknown_keys_are_no_error(raw: dict[str, Any]) -> None:
    newer = copy.deepcopy(raw)
    newer["candidates"][0]["trials"][0]["something"] = {"new": 1}
    assert parse_document(raw) == parse_document(newer)


def test_only_frames_import_pandas(tmp_path: Path) -> None:
    program = f"""
import json, sys
import reports
reports.write(json.load(open({str(SAMPLE)!r})), {str(tmp_path)!r})
assert "pandas" not in sys.modules, "pandas"
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_offers_what_the_page_on_data_says() -> None:
    assert {"load", "write", "ReportError", "Results"} <= set(reports.__all__)


def test_what_is_missing_has_its_default(raw: dict[str, Any]) -> None:
    whole = complete(raw)
    del raw["candidates"][0]["trials"]
    del raw["candidates"][0]["held"]
    filled = complete(raw)
    assert list(filled["candidates"][0]) == list(whole["candidates"][0])
    assert list(filled["candidates"][0]["trials"]) == []
    assert filled["candidates"][0]["held"] == 0


def rewritten(path: Path, change: Callable[[Any], Any]) -> None:
    """The file with another table in it, and the same metadata."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def cast(table: Any, name: str, values: list[object]) -> Any:
    import pyarrow as pa

    column = pa.array((values * table.num_rows)[: table.num_rows])
    return table.set_column(table.column_names.index(name), name, column)


COLUMNS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "missing": (lambda t: t.drop_columns(["outcome"]), "column 'outcome' is missing"),
    "twice": (
        lambda t: t.append_column("outcome", t["outcome"]),
        "Multiple matches for FieldRef.Name(outcome)",
    ),
    "a number for a text": (
        lambda t: cast(t, "outcome", [1]),
        "column 'outcome' is int64, not string",
    ),
    "a text for a number": (
        lambda t: cast(t, "repeats", ["1"]),
        "column 'repeats' is string, not Int64",
    ),
    "a text for a list": (
        lambda t: cast(t, "references", ["x"]),
        "column 'references' is string, not list of string",
    ),
    "numbers in a list": (
        lambda t: cast(t, "steps", [[1]]),
        "column 'steps' is list<element: int64>, not list of struct",
    ),
    "nothing where something must be": (
        lambda t: cast(t, "outcome", [None]),
        "candidates[0].trials[0].outcome: Expected `str`, got `null`",
    ),
    "a candidate of nobody": (
        lambda t: cast(t, "candidate", ["x"]),
        "column 'candidate': 'x' is no candidate of the document",
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_wrong_column_is_named(name: str, raw: dict[str, Any], tmp_path: Path) -> None:
    change, expected = COLUMNS[name]
    (path,) = write(raw, tmp_path / "results.parquet")
    rewritten(path, change)
    with pytest.raises(ReportError) as error:
        load(path)
    assert expected in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_file_that_pandas_wrote_again_is_read(raw: dict[str, Any], tmp_path: Path) -> None:
    import pyarrow as pa

    (path,) = write(raw, tmp_path / "results.parquet")
    rewritten(path, lambda table: pa.Table.from_pandas(table.to_pandas(), preserve_index=False))
    assert load(path).document == parse_document(raw)


def test_a_targeted_family_that_is_not_held_never_counts_as_held(raw: dict[str, Any]) -> None:
    candidate = next(one for one in parse_document(raw).candidates if one.name == "block-mkdir")
    families = tuple(
        replace(one, verdict="bogus") if one.verdict == "leaky" else one
        for one in candidate.families
    )
    assert standing(candidate) is Standing.LEAKY
    assert standing(replace(candidate, families=families)) is Standing.UNDECIDED
