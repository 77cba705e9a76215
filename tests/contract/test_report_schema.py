"""What the evaluator writes is what reports reads, and the page on data is current."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from msgspec import Struct

from evaluator import records, verdict
from mitigations import candidate
from reports import schema

PAIRS: list[tuple[type[Any], type[Any]]] = [
    (schema.Aftermath, records.Aftermath),
    (schema.AftermathCount, records.AftermathCount),
    (schema.AuditLog, records.AuditLog),
    (schema.Candidate, records.CandidateResult),
    (schema.Cause, records.Cause),
    (schema.Environment, records.Environment),
    (schema.Family, records.FamilyRecord),
    (schema.Fault, records.Problem),
    (schema.Gate, verdict.Gate),
    (schema.GroundTruth, records.GroundTruth),
    (schema.Layer, records.LayerRecord),
    (schema.Probe, records.Probe),
    (schema.RouteCount, records.RouteCount),
    (schema.Search, records.SearchRecord),
    (schema.Starts, records.Starts),
    (schema.Step, records.StepRecord),
    (schema.StoppedAt, records.StoppedAt),
    (schema.Tool, records.Tool),
    (schema.Trial, records.TrialRecord),
    (schema.Warn, candidate.Finding),
    (schema.Workload, records.WorkloadRecord),
]


def fields(cls: type[Any]) -> set[str]:
    return set(cls.__struct_fields__)


@pytest.mark.parametrize(("read", "written"), PAIRS, ids=lambda cls: cls.__name__)
def test_both_sides_have_the_same_keys(read: type[Any], written: type[Any]) -> None:
    assert fields(written) == fields(read)


def test_the_document_has_the_keys_of_a_run() -> None:
    assert {"schema", *fields(records.Run)} == fields(schema.Document)
    assert records.SCHEMA == schema.SCHEMA


@pytest.mark.parametrize(
    ("read", "written"),
    [
        (schema.VERDICTS, verdict.Verdict),
        (schema.HOLDING, verdict.HOLDING),
        (schema.OUTCOMES, verdict.Outcome),
        (schema.WORKLOAD_OUTCOMES, records.WorkloadOutcome),
    ],
)
def test_both_sides_know_the_same_words(read: tuple[str, ...], written: Iterable[str]) -> None:
    assert set(read) == set(written)


def test_no_struct_of_the_schema_is_forgotten() -> None:
    row = {schema.Column, schema.Table, schema.Document, schema.Finding}
    everything = {
        one
        for one in vars(schema).values()
        if isinstance(one, type) and issubclass(one, Struct) and one is not Struct
    }
    assert everything - row == {read for read, _ in PAIRS}


@pytest.mark.parametrize(("read", "written"), PAIRS, ids=lambda cls: cls.__name__)
def test_what_may_be_missing_may_be_missing_on_both_sides(
    read: type[Any], written: type[Any]
) -> None:
    def optional(cls: type[Any]) -> set[str]:
        hints = get_type_hints(cls)
        return {name for name in fields(cls) if type(None) in getattr(hints[name], "__args__", ())}

    assert optional(written) <= optional(read)


@pytest.mark.parametrize(("script", "page"), [("data", "data"), ("attack_library", "attacks")])
def test_a_generated_page_is_current(script: str, page: str) -> None:
    root = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location(script, root / "docs" / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (root / "docs" / f"{page}.md").read_text()
    assert module.page() == written, f"run docs/{script}.py --write"
