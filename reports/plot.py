"""Where things lie on two axes: the geometry of the plot, so that the template only draws.

Robustness goes to the right and utility up.  What has the same scores shares a point.  Names stand
in a column beside the plane, a row each, so that they cannot overlap; a line leads from each point
to its names.  What lacks a score has no point and stands apart, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from reports.answer import Standing, standing
from reports.schema import Candidate
from reports.scores import scores
from reports.text import abbreviate

SIDE, ROW, GAP = 300, 20, 6
LEFT, TOP, BELOW = 64, 44, 76
COLUMN = LEFT + SIDE + 66
WIDTH = COLUMN + 450
NAMED = 20
"""So many candidates are named one by one; of more, one for each point, and their number."""
_NAME, _COUNTS, _WHY = 30, 12, 90
"""Characters that there is room for."""


class Words(Struct, frozen=True):
    """What is written around the plane."""

    title: str
    description: str
    x: str
    y: str
    heads: tuple[str, str]
    """Of the columns of numbers beside the names."""


CANDIDATES = Words(
    "Candidates by robustness and utility",
    "Robustness grows to the right and utility upwards, so that the best place is the upper right "
    "corner. The table below holds the same numbers.",
    "robustness: effects held",
    "utility: workloads that work",
    ("held", "work"),
)


class Mark(Struct, frozen=True):
    """One thing with both scores, from 0 to 1."""

    name: str
    robustness: float
    utility: float
    said: tuple[str, str]
    """Both scores as they stand beside the name."""
    shared: tuple[str, str]
    """The same where several share a line."""


class Label(Struct, frozen=True):
    y: float
    name: str
    robustness: str
    utility: str


class Point(Struct, frozen=True):
    """Candidates with the same scores: where they are drawn, and their names."""

    x: float
    y: float
    labels: tuple[Label, ...]

    @property
    def bend(self) -> float:
        """The height at which the line arrives at the names."""
        return (self.labels[0].y + self.labels[-1].y) / 2


class Apart(Struct, frozen=True):
    """A candidate without a point."""

    y: float
    name: str
    why: str
    fails: bool
    """It does not start, or cannot be used at all."""


class Plot(Struct, frozen=True):
    points: tuple[Point, ...]
    apart: tuple[Apart, ...]
    tall: float
    """Height of the plane."""
    height: float
    """Of the whole drawing."""
    words: Words = CANDIDATES
    width: int = WIDTH
    side: int = SIDE
    left: int = LEFT
    top: int = TOP
    column: int = COLUMN
    """Where the names begin."""


def plot(candidates: Sequence[Candidate]) -> Plot | None:
    """The drawing; ``None`` where there is nothing to compare, or no point to draw."""
    marks = [mark for one in candidates if (mark := _mark(one)) is not None]
    outside = [one for one in candidates if _mark(one) is None]
    return draw(marks, [(one.name, *_why_apart(one)) for one in outside])


def draw(
    marks: Sequence[Mark], outside: Sequence[tuple[str, str, bool]], words: Words = CANDIDATES
) -> Plot | None:
    """The same of anything: ``outside`` has name, reason, and whether it fails altogether."""
    total = len(marks) + len(outside)
    if total < 2 or not marks:
        return None
    groups: dict[tuple[float, float], list[Mark]] = {}
    for one in marks:
        groups.setdefault((one.utility, one.robustness), []).append(one)
    # From the top down, and from the right to the left, so that few lines cross.
    found = [
        (place, _rows(groups[place], by_name=total <= NAMED)) for place in sorted(groups)[::-1]
    ]
    tall = max(SIDE, sum(ROW * len(rows) + GAP for _, rows in found) - GAP - ROW)
    points = _points(found, tall)
    apart = _apart(outside, TOP + tall + BELOW)
    low = apart[-1].y if apart else TOP + tall + BELOW - ROW
    return Plot(points, apart, tall, low + ROW, words)


def _mark(candidate: Candidate) -> Mark | None:
    if candidate.utility is None or candidate.robustness is None:
        return None
    robust, useful = scores(candidate).robustness, scores(candidate).utility
    return Mark(
        candidate.name,
        candidate.robustness,
        candidate.utility,
        (robust.counts, useful.counts),
        (robust.shown, useful.shown),
    )


def _points(
    found: Sequence[tuple[tuple[float, float], Sequence[tuple[str, str, str]]]], tall: float
) -> tuple[Point, ...]:
    heights = [TOP + tall * (1 - utility) for (utility, _), _ in found]
    starts = _stacked(heights, [len(rows) for _, rows in found], TOP + tall)
    return tuple(
        Point(
            LEFT + SIDE * robustness,
            y,
            tuple(Label(start + ROW * n, *row) for n, row in enumerate(rows)),
        )
        for ((_, robustness), rows), y, start in zip(found, heights, starts, strict=True)
    )


def _rows(group: Sequence[Mark], *, by_name: bool) -> list[tuple[str, str, str]]:
    """Each name with both scores; the first for all if there are many."""
    if not by_name and len(group) > 1:
        name = f"{abbreviate(group[0].name, _NAME)} and {len(group) - 1} more"
        return [(name, *group[0].shared)]
    return [
        (
            abbreviate(one.name, _NAME),
            abbreviate(one.said[0], _COUNTS),
            abbreviate(one.said[1], _COUNTS),
        )
        for one in group
    ]


def _apart(outside: Sequence[tuple[str, str, bool]], top: float) -> tuple[Apart, ...]:
    """The worst first, as the page has them; beyond some only their number."""
    shown = [
        Apart(top + ROW * n, abbreviate(name, _NAME), why, fails)
        for n, (name, why, fails) in enumerate(outside[:NAMED])
    ]
    if len(outside) > NAMED:
        shown.append(Apart(top + ROW * NAMED, f"{len(outside) - NAMED} more", "", fails=False))
    return tuple(shown)


def _why_apart(candidate: Candidate) -> tuple[str, bool]:
    where = standing(candidate)
    if where in (Standing.INVALID, Standing.DOES_NOT_START):
        return where.value, True
    found = scores(candidate)
    return abbreviate(f"{found.robustness}, {found.utility}", _WHY), False


def _stacked(middles: Sequence[float], rows: Sequence[int], bottom: float) -> list[float]:
    """Heights of the first rows of groups, each group near its middle and clear of the others.

    The middles go down the page, and all rows have room above the bottom.
    """
    starts: list[float] = []
    free: float = TOP
    for middle, count in zip(middles, rows, strict=True):
        starts.append(max(free, middle - ROW * (count - 1) / 2))
        free = starts[-1] + ROW * count + GAP
    limit = bottom + ROW + GAP
    for n in reversed(range(len(starts))):
        starts[n] = min(starts[n], limit - ROW * rows[n] - GAP)
        limit = starts[n]
    return starts
