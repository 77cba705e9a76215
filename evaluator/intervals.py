"""Means over scenarios, with intervals that know that scenarios of a cluster are alike.

The unit is the scenario: what is known of one is averaged before it comes here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

Array = np.ndarray[tuple[int], np.dtype[np.float64]]
Clusters = Mapping[str, str]
"""The cluster of each scenario."""
_SEED = 20261101
_PERMUTATIONS = 9999
_LEVEL = 0.05
_DETECTABLE = 2.8
"""So many standard errors are found with 80 % power at 5 %, two-sided."""


class Rate(Struct, frozen=True):
    """A mean over scenarios, with its 95 % interval; None where there is nothing to average."""

    mean: float | None
    low: float | None
    high: float | None
    scenarios: int


def interval(means: Mapping[str, float], clusters: Clusters, least: float = 0.0) -> Rate:
    """The mean of values from ``least`` to 1 with its interval, by cluster-robust errors.

    There is no interval with fewer than two clusters.  Where no two scenarios differ, the error
    would be 0: so many clusters that agree show that a share of all would, by the exact interval of
    a binomial (Clopper and Pearson), and the others may be anything.
    """
    if not means:
        return Rate(None, None, None, 0)
    mean = float(np.mean(list(means.values())))
    error = standard_error(means, clusters)
    if error is None:
        return Rate(mean, None, None, len(means))
    from scipy import stats

    count = len({clusters[name] for name in means})
    if len(set(means.values())) == 1:
        agree = float(stats.binomtest(count, count).proportion_ci(1 - _LEVEL).low)
        rest = 1 - agree
        return Rate(mean, agree * mean + rest * least, agree * mean + rest, len(means))
    reach = float(stats.t.ppf(1 - _LEVEL / 2, count - 1)) * error
    return Rate(mean, max(least, mean - reach), min(1.0, mean + reach), len(means))


def standard_error(means: Mapping[str, float], clusters: Clusters) -> float | None:
    """The cluster-robust standard error of the mean; None with fewer than two clusters."""
    names = list(means)
    groups = [clusters[name] for name in names]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    if len(numbers) < 2:
        return None
    import statsmodels.api  # pyright: ignore[reportMissingTypeStubs]

    sm: Any = statsmodels.api  # it has no types
    fitted = sm.OLS(np.array([means[name] for name in names]), np.ones(len(names))).fit(
        cov_type="cluster", cov_kwds={"groups": np.array([numbers[one] for one in groups])}
    )
    return float(fitted.bse[0])


def detectable(means: Mapping[str, float], clusters: Clusters) -> float | None:
    """The least mean that so many scenarios would have told from 0, with 80 % power at 5 %.

    None where no two values differ: then nothing is known of how they vary.
    """
    error = standard_error(means, clusters) if means else None
    return _DETECTABLE * error if error else None


def paired(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The two-sided p-value of a permutation test that flips the signs of differences of pairs."""
    if len(first) < 2:
        return None
    from scipy import stats

    found = stats.permutation_test(
        (np.array(first), np.array(second)),
        _mean_difference,
        permutation_type="samples",
        n_resamples=_PERMUTATIONS,
        rng=np.random.default_rng(_SEED),
        vectorized=True,
    )
    return float(found.pvalue)


def _mean_difference(first: Array, second: Array, axis: int = -1) -> Array:
    difference: Array = np.mean(first - second, axis=axis)
    return difference


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values of tests that were made together, adjusted by Holm's procedure; None stays None."""
    known = [one for one in values if one is not None]
    if not known:
        return list(values)
    from statsmodels.stats import multitest  # pyright: ignore[reportMissingTypeStubs]

    untyped: Any = multitest
    adjusted = iter(untyped.multipletests(known, method="holm")[1])
    return [None if one is None else float(next(adjusted)) for one in values]
