"""What ``sidestep score`` writes is what ``leaderboard.html`` is drawn from."""

from typing import Any

import pytest
from msgspec import Struct

from evaluator import (
    intervals,
    leaderboard,
    leaderboard_document,
    samples,
    scenario_check,
    scenarios,
    score_run,
    scoring,
)
from reports import leaderboard_schema as schema
from reports.leaderboard import HOPELESS
from reports.leaderboard_document import parse_leaderboard

from boards import board

PAIRS: list[tuple[type[Any], type[Any], set[str]]] = [
    (schema.Rate, intervals.Rate, set()),
    (schema.Bypassed, leaderboard.Bypassed, set()),
    (schema.Tried, scoring.Tried, set()),
    (schema.Row, leaderboard.Row, set()),
    (schema.Comparison, leaderboard.Comparison, {"winner"}),
    (schema.Sample, score_run.Scored, set()),
    (schema.Score, scoring.Score, set()),
    (schema.Ways, scoring.Ways, set()),
]
"""Read, written, and what is added when the document is made."""
WHOLE = (schema.Leaderboard, schema.Asked, schema.Digests)


def fields(cls: type[Any]) -> set[str]:
    return set(cls.__struct_fields__)


@pytest.mark.parametrize(("read", "written", "added"), PAIRS, ids=str)
def test_both_sides_have_the_same_keys(
    read: type[Any], written: type[Any], added: set[str]
) -> None:
    assert fields(read) == fields(written) | added


def test_the_document_has_the_keys_of_the_schema() -> None:
    found = board()
    assert set(found) == fields(schema.Leaderboard)
    assert all(set(one) == fields(schema.Asked) for one in found["scenarios"])
    assert set(found["digests"]) == fields(schema.Digests)
    assert all(found["digests"].values())
    assert parse_leaderboard(found).canary == scenarios.CANARY


def test_no_struct_of_the_schema_is_forgotten() -> None:
    own = {
        one
        for one in vars(schema).values()
        if isinstance(one, type) and issubclass(one, Struct) and one.__module__ == schema.__name__
    }
    assert own == {read for read, _, _ in PAIRS} | set(WHOLE)


def test_both_sides_know_the_same_words() -> None:
    assert leaderboard_document.SCHEMA == schema.SCHEMA
    assert list(samples.Status) == list(schema.STATUSES)
    assert leaderboard.METRICS == schema.METRICS
    assert samples.KNOWN == schema.KNOWN
    assert set(HOPELESS) < set(scenarios.Expect)
    assert scenario_check.Known.RUNTIME_DEFAULT == schema.RUNTIME_DEFAULT
