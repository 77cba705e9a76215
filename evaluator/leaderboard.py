"""Rates of models, with intervals that know that scenarios of a cluster are alike.

The unit is the scenario: samples of one scenario are averaged first.  Intervals come from a
regression on a constant with cluster-robust errors, comparisons from differences of the same
scenarios (scipy's permutation test flips their signs).  Every rate is there twice: over what was
answered, and over all that was asked, where a refusal or a cut-off answer counts as 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct, field

from evaluator.scenarios import scenario
from evaluator.score_run import KNOWN, Scored
from mitigations.generate.reply import Status

Array = np.ndarray[tuple[int], np.dtype[np.float64]]
METRICS = (
    "valid",
    "enforced",
    "starts",
    "poc_blocked",
    "held",
    "workloads_ok",
    "joint",
    "false_fix",
)
_ANSWERED = frozenset({Status.OK, Status.INVALID})
_BROKE = frozenset({Status.API_ERROR})
"""Nothing was asked, as far as the model is concerned."""
_SEED = 20261101
_PERMUTATIONS = 9999
_DETECTABLE = 2.8
"""So many standard errors are found with 80 % power at 5 %, two-sided."""


class Rate(Struct, frozen=True):
    """A mean over scenarios, with its 95 % interval; None where there is nothing to average."""

    mean: float | None
    low: float | None
    high: float | None
    scenarios: int


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
    pass_at: Mapping[int, float] = field(default_factory=dict[int, float])
    """By k: the chance that one of k answers reaches ``joint``."""
    pass_all: Mapping[int, float] = field(default_factory=dict[int, float])
    """By k: the chance that all of k answers do (pass^k)."""
    cost_per_solved: float | None = None
    """US dollars for each scenario that some answer solved; None where no cost is known."""


class Comparison(Struct, frozen=True):
    """``joint`` of two rows on the scenarios that both were asked."""

    first: str
    second: str
    scenarios: int
    difference: Rate
    p: float | None
    detectable: float | None
    """The least difference that so many scenarios would have shown with 80 % power."""

    @property
    def winner(self) -> str:
        """Empty if the interval holds 0, or nothing can be said."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None or low <= 0 <= high:
            return ""
        return self.first if low > 0 else self.second


class Leaderboard(Struct, frozen=True):
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]


def leaderboard(scored: Sequence[Scored]) -> Leaderboard:
    """The rows in the order of their ``joint`` over all that was asked, the best first."""
    arms: dict[tuple[str, str, str], list[Scored]] = {}
    for one in scored:
        arms.setdefault(one.arm, []).append(one)
    rows = sorted((_row(arm, mine) for arm, mine in arms.items()), key=_order)
    pairs = itertools.combinations([row for row in rows if row.strategy != KNOWN], 2)
    return Leaderboard(
        tuple(rows),
        tuple(_compared(one, other, arms[_arm(one)], arms[_arm(other)]) for one, other in pairs),
    )


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
        len(mine),
        {status: sum(one.status is status for one in mine) for status in Status},
        {metric: _rate(answered, metric) for metric in METRICS},
        {metric: _rate(asked, metric) for metric in METRICS},
        {k: value for k in ks if (value := _pass(asked, k, _some)) is not None},
        {k: value for k in ks if (value := _pass(asked, k, _all)) is not None},
        _cost(mine),
    )


def _by_scenario(scored: Iterable[Scored]) -> dict[str, list[Scored]]:
    found: dict[str, list[Scored]] = {}
    for one in scored:
        found.setdefault(one.scenario, []).append(one)
    return found


def value(one: Scored, metric: str) -> float | None:
    """0 or 1; None if it cannot be judged, or if nothing has to be held.

    No answer and an invalid one are 0, but no ``false_fix``: nobody would take them for a fix.
    """
    if one.score is None:
        return 0.0
    found: bool | None = getattr(one.score, metric)
    return None if found is None else float(found)


def _means(scored: Iterable[Scored], metric: str) -> dict[str, float]:
    means: dict[str, float] = {}
    for name, mine in _by_scenario(scored).items():
        values = [found for one in mine if (found := value(one, metric)) is not None]
        if values:
            means[name] = sum(values) / len(values)
    return means


def _rate(scored: Iterable[Scored], metric: str) -> Rate:
    rate = _interval(_means(scored, metric))
    if rate.low is None or rate.high is None:
        return rate
    return Rate(rate.mean, max(0.0, rate.low), min(1.0, rate.high), rate.scenarios)


def _interval(means: Mapping[str, float]) -> Rate:
    """The mean and its interval; none with fewer than two clusters."""
    if not means:
        return Rate(None, None, None, 0)
    mean = float(np.mean(list(means.values())))
    error = _error(means)
    if error is None:
        return Rate(mean, None, None, len(means))
    from scipy import stats

    clusters = len({scenario(name).cluster for name in means})
    reach = float(stats.t.ppf(0.975, clusters - 1)) * error
    return Rate(mean, mean - reach, mean + reach, len(means))


def _error(means: Mapping[str, float]) -> float | None:
    """The cluster-robust standard error of the mean of scenarios."""
    import statsmodels.api  # pyright: ignore[reportMissingTypeStubs]

    names = list(means)
    clusters = [scenario(name).cluster for name in names]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    if len(numbers) < 2:
        return None
    sm: Any = statsmodels.api  # it has no types
    fitted = sm.OLS(np.array([means[name] for name in names]), np.ones(len(names))).fit(
        cov_type="cluster", cov_kwds={"groups": np.array([numbers[one] for one in clusters])}
    )
    return float(fitted.bse[0])


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
    return math.comb(right, k) / math.comb(n, k)


def _cost(mine: Sequence[Scored]) -> float | None:
    costs = [one.cost for one in mine]
    solved = {one.scenario for one in mine if value(one, "joint") == 1}
    if not solved or any(cost is None for cost in costs):
        return None
    return sum(cost for cost in costs if cost is not None) / len(solved)


def _compared(
    one: Row, other: Row, first: Sequence[Scored], second: Sequence[Scored]
) -> Comparison:
    a = _means((x for x in first if x.status not in _BROKE), "joint")
    b = _means((x for x in second if x.status not in _BROKE), "joint")
    both = {name: a[name] - b[name] for name in a if name in b}
    error = _error(both) if both else None
    return Comparison(
        " / ".join(filter(None, _arm(one))),
        " / ".join(filter(None, _arm(other))),
        len(both),
        _interval(both),
        _p([a[name] for name in both], [b[name] for name in both]),
        None if error is None else _DETECTABLE * error,
    )


def _mean_difference(first: Array, second: Array) -> float:
    return float(np.mean(first - second))


def _p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided, by flipping signs of the differences of pairs."""
    if len(first) < 2:
        return None
    from scipy import stats

    found = stats.permutation_test(
        (np.array(first), np.array(second)),
        _mean_difference,
        permutation_type="samples",
        n_resamples=_PERMUTATIONS,
        rng=np.random.default_rng(_SEED),
        vectorized=False,
    )
    return float(found.pvalue)
