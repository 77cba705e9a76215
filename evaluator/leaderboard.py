"""Rates of models over scenarios, and models compared.

The unit is the scenario: samples of one scenario are averaged first.  Every rate is there twice:
over what was answered, and over all that was asked, where a refusal or a cut-off answer counts
as 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from attacks.library import SUITE
from evaluator import intervals
from evaluator.intervals import Clusters, Rate
from evaluator.samples import KNOWN
from evaluator.score_run import Scored
from mitigations.generate.reply import Status

METRICS = (
    "valid",
    "enforced",
    "starts",
    "poc_blocked",
    "visible_held",
    "hidden_held",
    "held",
    "workloads_ok",
    "joint",
    "false_fix",
)
_OF_FAMILIES = frozenset({"poc_blocked", "visible_held", "hidden_held", "held", "false_fix"})
"""Nothing to be said of where nothing has to be held."""
_ANSWERED = frozenset({Status.OK, Status.INVALID})
_BROKE = frozenset({Status.API_ERROR})
"""Nothing was asked, as far as the model is concerned."""
_SURE = 0.05


class Bypassed(Struct, frozen=True):
    """What one technique did to the answers of one row."""

    technique: str
    answers: int
    """Answers that it was tried against: a way of it works there without the answer."""
    bypassed: int
    """Of these, answers that some way of it got through."""
    ways: int
    """Ways that got through, summed over answers."""


class Row(Struct, frozen=True):
    """One model, strategy and level."""

    model: str
    strategy: str
    level: str
    samples: int
    statuses: Mapping[Status, int]
    rates: Mapping[str, Rate]
    """By metric: over what was answered."""
    asked: Mapping[str, Rate]
    """By metric: over all that was asked (intention to treat)."""
    gap: Rate
    """Share of answers that hold all visible ways less that of those that hold all hidden ones,
    over all that was asked, on the scenarios that have both."""
    pass_at: Mapping[int, float] = field(default_factory=dict[int, float])
    """By k: the chance that one of k answers reaches ``joint``."""
    pass_all: Mapping[int, float] = field(default_factory=dict[int, float])
    """By k: the chance that all of k answers do (pass^k)."""
    cost_per_solved: float | None = None
    """US dollars for each scenario that some answer solved; None where none was solved, or where
    the cost of one sample is not known."""
    techniques: tuple[Bypassed, ...] = ()
    """What bypassed it, the technique that got through most answers first."""


class Comparison(Struct, frozen=True):
    """``joint`` of two rows on the scenarios that both were asked."""

    first: str
    second: str
    scenarios: int
    difference: Rate
    p: float | None
    detectable: float | None
    """The least difference that so many scenarios would have shown with 80 % power."""
    adjusted: float | None = None
    """``p`` after Holm's procedure over all comparisons."""

    @property
    def winner(self) -> str:
        """Empty if the interval holds 0, the adjusted p is not below 0.05, or nothing is known."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None or low <= 0 <= high:
            return ""
        if self.adjusted is None or self.adjusted >= _SURE:
            return ""
        return self.first if low > 0 else self.second


class Leaderboard(Struct, frozen=True):
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    suite: str = SUITE
    private_suite: str = ""
    """The digest of the private ways that were added; empty if there were none."""


def leaderboard(scored: Sequence[Scored], private_suite: str = "") -> Leaderboard:
    """The rows in the order of their ``joint`` over all that was asked, the best first.

    No two rows are compared if there is one cluster only: there would be nothing to say.
    """
    arms: dict[tuple[str, str, str], list[Scored]] = {}
    for one in scored:
        arms.setdefault(one.arm, []).append(one)
    rows = sorted((_row(arm, mine) for arm, mine in arms.items()), key=_order)
    several = len({one.cluster for one in scored}) > 1
    asked = [row for row in rows if row.strategy != KNOWN] if several else []
    found = [
        _compared(one, other, arms[_arm(one)], arms[_arm(other)])
        for one, other in itertools.combinations(asked, 2)
    ]
    adjusted = intervals.holm([one.p for one in found])
    together = (replace(one, adjusted=p) for one, p in zip(found, adjusted, strict=True))
    return Leaderboard(tuple(rows), tuple(together), private_suite=private_suite)


def _arm(row: Row) -> tuple[str, str, str]:
    return row.model, row.strategy, row.level


def _order(row: Row) -> tuple[float, tuple[str, str, str]]:
    mean = row.asked["joint"].mean
    return (-mean if mean is not None else math.inf, _arm(row))


def _row(arm: tuple[str, str, str], mine: Sequence[Scored]) -> Row:
    asked = [one for one in mine if one.status not in _BROKE]
    answered = [one for one in asked if one.status in _ANSWERED]
    fewest = min((len(one) for one in _by_scenario(asked).values()), default=0)
    ks = sorted({1, fewest} - {0})
    return Row(
        *arm,
        samples=len(mine),
        statuses={status: sum(one.status is status for one in mine) for status in Status},
        rates={metric: _rate(answered, metric) for metric in METRICS},
        asked={metric: _rate(asked, metric) for metric in METRICS},
        gap=_gap(asked),
        pass_at={k: value for k in ks if (value := _pass(asked, k, _some)) is not None},
        pass_all={k: value for k in ks if (value := _pass(asked, k, _all)) is not None},
        cost_per_solved=_cost(mine),
        techniques=tuple(_techniques(asked)),
    )


def _by_scenario(scored: Iterable[Scored]) -> dict[str, list[Scored]]:
    found: dict[str, list[Scored]] = {}
    for one in scored:
        found.setdefault(one.scenario, []).append(one)
    return found


def _clusters(scored: Iterable[Scored]) -> Clusters:
    return {one.scenario: one.cluster for one in scored}


def value(one: Scored, metric: str) -> float | None:
    """0 or 1; None if it cannot be judged, or if nothing has to be held.

    No answer and an invalid one are 0, but no ``false_fix``: nobody would take them for a fix.
    """
    if one.score is None:
        nothing = not one.hides if metric == "hidden_held" else not one.holds
        return None if metric in _OF_FAMILIES and nothing else 0.0
    found: bool | None = getattr(one.score, metric)
    return None if found is None else float(found)


def _means(scored: Iterable[Scored], metric: str) -> dict[str, float]:
    means: dict[str, float] = {}
    for name, mine in _by_scenario(scored).items():
        values = [found for one in mine if (found := value(one, metric)) is not None]
        if values:
            means[name] = sum(values) / len(values)
    return means


def _rate(scored: Sequence[Scored], metric: str) -> Rate:
    return intervals.interval(_means(scored, metric), _clusters(scored))


def _gap(scored: Sequence[Scored]) -> Rate:
    visible, hidden = _means(scored, "visible_held"), _means(scored, "hidden_held")
    both = {name: visible[name] - hidden[name] for name in visible if name in hidden}
    return intervals.interval(both, _clusters(scored), least=-1.0)


def _pass(
    scored: Iterable[Scored], k: int, chance: Callable[[int, int, int], float]
) -> float | None:
    values = [
        chance(len(mine), sum(value(one, "joint") == 1 for one in mine), k)
        for mine in _by_scenario(scored).values()
        if len(mine) >= k
    ]
    return sum(values) / len(values) if values else None


def _some(n: int, right: int, k: int) -> float:
    """The unbiased estimate of pass@k from ``right`` of ``n`` (Chen et al. 2021)."""
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def _all(n: int, right: int, k: int) -> float:
    """The unbiased estimate of pass^k from ``right`` of ``n``."""
    return math.comb(right, k) / math.comb(n, k)


def _cost(mine: Sequence[Scored]) -> float | None:
    costs = [one.cost for one in mine]
    solved = {one.scenario for one in mine if value(one, "joint") == 1}
    if not solved or any(cost is None for cost in costs):
        return None
    return sum(cost for cost in costs if cost is not None) / len(solved)


def _techniques(scored: Iterable[Scored]) -> list[Bypassed]:
    answers: dict[str, int] = {}
    bypassed: dict[str, int] = {}
    ways: dict[str, int] = {}
    for one in scored:
        for technique, tried in one.score.techniques.items() if one.score else ():
            answers[technique] = answers.get(technique, 0) + 1
            bypassed[technique] = bypassed.get(technique, 0) + bool(tried.bypasses)
            ways[technique] = ways.get(technique, 0) + tried.bypasses
    found = [Bypassed(name, count, bypassed[name], ways[name]) for name, count in answers.items()]
    return sorted(found, key=lambda one: (-one.bypassed, -one.ways, one.technique))


def _compared(
    one: Row, other: Row, first: Sequence[Scored], second: Sequence[Scored]
) -> Comparison:
    a = _means((x for x in first if x.status not in _BROKE), "joint")
    b = _means((x for x in second if x.status not in _BROKE), "joint")
    both = {name: a[name] - b[name] for name in a if name in b}
    clusters = _clusters(first)
    return Comparison(
        " / ".join(filter(None, _arm(one))),
        " / ".join(filter(None, _arm(other))),
        len(both),
        intervals.interval(both, clusters, least=-1.0),
        intervals.paired([a[name] for name in both], [b[name] for name in both]),
        intervals.detectable(both, clusters),
    )
