"""Which answers did not solve their scenarios, and why, in words."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from reports.leaderboard_schema import Sample
from reports.text import abbreviate, counted, one_line

LISTED, LISTED_ON_PAGE = 40, 600
"""So many answers of a row, and of all, that solved nothing are listed; scores.json has all."""


class Failure(Struct, frozen=True):
    """An answer that did not solve its scenario, and why."""

    scenario: str
    number: int
    label: str
    false_fix: bool
    why: tuple[str, ...]


class Failures(Struct, frozen=True):
    name: str
    shown: tuple[Failure, ...]
    total: int


def status_word(status: str) -> str:
    return "API error" if status == "api_error" else status


def failures(name: str, samples: Sequence[Sample], limit: int) -> Failures:
    """The answers of a row that did not solve their scenarios; at most ``limit`` are shown."""
    failed = [one for one in samples if one.score is None or one.score.joint is not True]
    failed.sort(key=lambda one: (one.scenario, one.sample))
    shown = failed[: min(LISTED, limit)]
    return Failures(name, tuple(map(_failure, shown)), len(failed))


def _is_public(way: str) -> bool:
    """Whether it may be named: what several rewrites made is of a private suite."""
    return way.count("~") <= 1


def _failure(one: Sample) -> Failure:
    score = one.score
    if score is None:
        why = (abbreviate(one_line(one.why), 200),) if one.why else ()
        return Failure(one.scenario, one.sample, status_word(one.status), False, why)
    reasons: list[str] = []
    if not score.enforced:
        reasons.append("the kernel does not confirm that it is in force")
    if not score.starts:
        reasons.append("a container does not start under it")
    for ways, kind in ((score.visible, "visible"), (score.hidden, "hidden")):
        if ways.bypasses:
            number = counted(len(ways.bypasses), f"{kind} way")
            public = next((way for way in ways.bypasses if _is_public(way)), "")
            such = f", such as {abbreviate(public, 80)}" if public else ""
            reasons.append(f"{number} through{such}")
        if ways.unsettled:
            reasons.append(f"{counted(ways.unsettled, f'{kind} way')} undecided")
    for names, what in ((score.broken, "broken"), (score.unjudged, "cannot be judged here")):
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            reasons.append(f"{what}: {', '.join(names[:4])}{more}")
    label = "not judged" if score.joint is None else "not solved"
    return Failure(one.scenario, one.sample, label, score.false_fix is True, tuple(reasons))
