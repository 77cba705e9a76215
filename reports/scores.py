"""The scores of a candidate, each with its counts or with the reason why there is none."""

from __future__ import annotations

from msgspec import Struct

from reports.schema import Candidate


class Score(Struct, frozen=True):
    name: str
    value: float | None
    counts: str
    """``2 of 3``, or why there is no value."""

    @property
    def shown(self) -> str:
        """``0.67``, or a dash."""
        return "\u2013" if self.value is None else f"{self.value:.2f}"

    def __str__(self) -> str:
        return f"{self.name} {self.shown} ({self.counts})"


class Scores(Struct, frozen=True):
    robustness: Score
    routes: Score
    utility: Score


def scores(candidate: Candidate) -> Scores:
    """All scores; a document of before the counts were in it says so."""

    def score(name: str, value: float | None) -> Score:
        return Score(name, value, candidate.counted.get(name, "counts not recorded"))

    return Scores(
        score("robustness", candidate.robustness),
        score("routes", candidate.routes),
        score("utility", candidate.utility),
    )
