"""Candidates on both axes: every one is there once, and no name lies upon another."""

import itertools
import random

import pytest
from msgspec.structs import replace

from reports.plot import COLUMN, LEFT, ROW, SIDE, TOP, Plot, plot
from reports.schema import Candidate, Fault, Starts

NAMES = ("robustness", "routes", "utility")


def candidate(name: str, robustness: float | None, utility: float | None) -> Candidate:
    counted = {"robustness": f"{robustness} held", "utility": f"{utility} work"}
    return Candidate(
        name, f"{name}.json", valid=True, robustness=robustness, utility=utility, counted=counted
    )


def drawn(*candidates: Candidate) -> Plot:
    found = plot(candidates)
    assert found is not None
    return found


def test_one_candidate_needs_no_plot() -> None:
    assert plot([]) is None
    assert plot([candidate("a", 1.0, 1.0)]) is None


def test_candidates_without_a_point_make_no_plot() -> None:
    assert plot([candidate("a", 1.0, None), candidate("b", None, 1.0)]) is None


def test_robustness_goes_right_and_utility_up() -> None:
    found = drawn(candidate("best", 1.0, 1.0), candidate("worst", 0.0, 0.0))
    assert [(one.x, one.y) for one in found.points] == [
        (LEFT + SIDE, TOP),
        (LEFT, TOP + found.tall),
    ]
    assert [one.labels[0].name for one in found.points] == ["best", "worst"]


def test_equal_scores_share_a_point() -> None:
    found = drawn(candidate("a", 0.5, 1.0), candidate("b", 0.5, 1.0), candidate("c", 0.0, 1.0))
    assert [[label.name for label in one.labels] for one in found.points] == [["a", "b"], ["c"]]
    assert found.points[0].labels[1].robustness == "0.5 held"


def test_what_does_not_start_or_has_no_score_stands_apart_with_the_reason() -> None:
    dead = replace(
        candidate("dead", None, None), starts=Starts(loads=True, runtime=False, static=False)
    )
    invalid = Candidate("wrong", "wrong.json", valid=False, errors=(Fault("not JSON"),))
    aimless = replace(
        candidate("aimless", None, 1.0), counted={"robustness": "nothing targeted", "utility": "u"}
    )
    found = drawn(candidate("a", 0.5, 1.0), dead, invalid, aimless)
    assert [(one.name, one.why, one.fails) for one in found.apart] == [
        ("dead", "does not start", True),
        ("wrong", "invalid", True),
        ("aimless", "robustness \u2013 (nothing targeted), utility 1.00 (u)", False),
    ]
    assert all(one.y > TOP + found.tall for one in found.apart)
    assert found.apart[-1].y < found.height


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("count", [2, 20, 60])
def test_no_name_lies_upon_another_and_all_are_within_the_drawing(seed: int, count: int) -> None:
    random_ = random.Random(seed)
    # Few values, so that some candidates share a point and some lie close together.
    values = [0.0, 0.01, 0.5, 0.98, 1.0, None] if seed % 2 else [1.0]
    candidates = [
        candidate(f"{n}", random_.choice(values), random_.choice(values)) for n in range(count)
    ]
    found = plot([candidate("first", 0.5, 0.5), *candidates])
    assert found is not None
    labels = [label for point in found.points for label in point.labels]
    heights = [one.y for one in labels] + [one.y for one in found.apart]
    assert all(b - a >= ROW - 1e-9 for a, b in itertools.pairwise(heights))
    assert min(heights) >= TOP
    assert max(one.y for one in labels) <= TOP + found.tall + 1e-9
    assert max(heights) < found.height
    assert all(LEFT <= one.x <= LEFT + SIDE < COLUMN for one in found.points)
    if count < 20:
        names = {one.name for one in labels} | {one.name for one in found.apart}
        assert names == {"first", *(one.name for one in candidates)}
