"""Several runs in order of time: what moved, against what, and in which files."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from reports.document import parse_document
from reports.history import Move, build_history, render_history

SAMPLE = Path(__file__).parents[1] / "data" / "results" / "sample.json"


@pytest.fixture
def raw() -> dict[str, Any]:
    return json.loads(SAMPLE.read_text())


def run(raw: dict[str, Any], day: int, **verdicts: str) -> dict[str, Any]:
    """The sample of a day; ``verdicts`` are of create-directory, by candidate with underscores."""
    made = copy.deepcopy(raw)
    made["started"] = f"2026-11-{day:02}T10:00:00+00:00"
    for candidate in made["candidates"]:
        wanted = verdicts.get(candidate["name"].replace("-", "_"))
        for family in candidate["families"]:
            if wanted and family["family"] == "create-directory":
                family["verdict"] = wanted
    return made


def history_of(*runs: dict[str, Any]) -> Any:
    return build_history(parse_document(one) for one in runs)


def test_runs_are_in_order_of_time_and_moves_are_told(raw: dict[str, Any]) -> None:
    found = history_of(
        run(raw, 3, no_new_directories="held"),
        run(raw, 1, no_new_directories="held"),
        run(raw, 2, no_new_directories="leaky"),
    )
    assert [one.document.started[8:10] for one in found.runs] == ["01", "02", "03"]
    (track,) = found.moved
    assert (track.candidate, track.subject) == ("no-new-directories", "create-directory")
    assert [cell.move for cell in track.cells] == [None, Move.WORSE, Move.BETTER]
    assert [(one.worse, one.better) for one in found.runs] == [(0, 0), (1, 0), (0, 1)]
    assert found.headline == (
        "In the latest of 3 runs, create-directory of no-new-directories became better"
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("held", "leaky", Move.WORSE),
        ("held", "open", Move.WORSE),
        ("held", "undecided", Move.WORSE),
        ("held here", "untested", Move.WORSE),
        ("held", "held here", Move.OTHER),
        ("leaky", "open", Move.OTHER),
        ("undecided", "held", Move.BETTER),
        ("leaky", "leaky", None),
    ],
)
def test_what_is_not_shown_to_be_held_is_worse(
    before: str, after: str, expected: Move | None, raw: dict[str, Any]
) -> None:
    found = history_of(run(raw, 1, block_mkdir=before), run(raw, 2, block_mkdir=after))
    assert [one.cells[1].move for one in found.moved] == ([expected] if expected else [])


def test_a_workload_and_a_candidate_that_cannot_be_used_move_as_well(raw: dict[str, Any]) -> None:
    later = run(raw, 2)
    later["candidates"][0]["workloads"][-1]["works"] = True
    later["candidates"][1] |= {"valid": False, "families": [], "workloads": [], "trials": []}
    moved = {
        (one.candidate, one.subject): one.cells[1] for one in history_of(run(raw, 1), later).moved
    }
    assert moved["block-mkdir", "workload shell-basics"].move is Move.BETTER
    whole = moved["no-new-directories", "the candidate"]
    assert (whole.verdict, whole.move) == ("invalid", Move.WORSE)


def test_what_is_missing_in_between_is_compared_with_the_last_time(raw: dict[str, Any]) -> None:
    without = run(raw, 2)
    del without["candidates"][1]
    found = history_of(
        run(raw, 1, no_new_directories="held"), without, run(raw, 3, no_new_directories="leaky")
    )
    (track,) = found.moved
    assert [cell.verdict for cell in track.cells] == ["held", "", "leaky"]
    assert track.cells[2].move is Move.WORSE


def test_another_environment_is_said(raw: dict[str, Any]) -> None:
    other = run(raw, 2)
    other["environment"]["kernel"] = "6.99"
    other["suite"] = "2027.01"
    assert history_of(run(raw, 1), other).runs[1].differs == (
        "suite: 2026.11 before, 2027.01 now",
        "kernel: 6.12.0 before, 6.99 now",
    )


def test_every_link_leads_to_a_file_and_a_run_counts_once(raw: dict[str, Any]) -> None:
    one, other = (parse_document(run(raw, day)) for day in (1, 2))
    files = render_history([one, other, one])
    assert len(files) == 3
    again = render_history([other, parse_document(run(raw, 3))])
    shared = set(files) & set(again)
    assert len(shared) == 2  # the index, and the page of the run that is in both
    for name in set(files) - {"index.html"}:
        assert f'href="{name}"' in files["index.html"]
        assert files[name].startswith("<!DOCTYPE html>")


def test_one_run_is_no_history(raw: dict[str, Any]) -> None:
    assert history_of(raw).headline == "One run, and nothing to compare it with"
