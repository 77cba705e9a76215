"""The tables that people read first: a summary and the matrix of verdicts.  Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from reports.document import encodable_candidates
from reports.schema import Candidate, Document, Family
from reports.scores import scores

if TYPE_CHECKING:
    import pandas as pd

SUMMARY_COLUMNS = (
    "candidate",
    "family",
    "verdict",
    "targeted",
    "working",
    "blocked",
    "bypassed",
    "untestable",
    "shortest_bypass",
    "reason",
    "left_behind",
    "robustness",
    "robustness_counts",
    "routes",
    "routes_counts",
    "utility",
    "utility_counts",
    "simulated",
)


def summary_rows(document: Document) -> list[tuple[object, ...]]:
    """One row per candidate and family; an invalid candidate has one row without a family."""
    lines: list[tuple[object, ...]] = []
    for candidate in encodable_candidates(document):
        if candidate.valid:
            lines += [_summary_row(candidate, family) for family in candidate.families]
        else:
            reason = candidate.errors[0].message if candidate.errors else ""
            given = {"candidate": candidate.name, "verdict": "invalid", "reason": reason}
            lines.append(tuple(given.get(column) for column in SUMMARY_COLUMNS))
    return lines


def summary(document: Document) -> pd.DataFrame:
    """``summary.csv`` as a frame."""
    import pandas as pd  # lazily, as in reports.frames

    return pd.DataFrame(summary_rows(document), columns=list(SUMMARY_COLUMNS))


def matrix(document: Document) -> pd.DataFrame:
    """Verdicts: a row for each family, a column for each valid candidate."""
    import pandas as pd  # lazily, as in reports.frames

    document = replace(document, candidates=encodable_candidates(document))
    columns = {
        candidate.name: {family.family: family.verdict for family in candidate.families}
        for candidate in document.candidates
        if candidate.valid
    }
    made = pd.DataFrame(columns, index=family_names(document), dtype="object")
    made.index.name = "family"
    return made


def family_names(document: Document) -> list[str]:
    """Every family of the run: targeted ones first, else in the order they were judged."""
    targeted: dict[str, bool] = {}
    for candidate in document.candidates:
        for family in candidate.families:
            targeted[family.family] = targeted.get(family.family, False) or family.targeted
    return sorted(targeted, key=lambda name: not targeted[name])


def _summary_row(candidate: Candidate, family: Family) -> tuple[object, ...]:
    return (
        candidate.name,
        family.family,
        family.verdict,
        family.targeted,
        family.working,
        family.blocked,
        family.bypassed,
        family.untestable,
        family.shortest_bypass,
        family.reason,
        left_behind(family),
        *_scored(candidate),
        candidate.simulated,
    )


def _scored(candidate: Candidate) -> list[object]:
    """Each score as a number, and what it was made of."""
    found = scores(candidate)
    each = (found.robustness, found.routes, found.utility)
    return [part for one in each for part in (one.value, one.counts)]


def left_behind(family: Family) -> str:
    """What blocks and logged ways through leave behind, with their numbers; empty if nothing."""
    return ". ".join(f"{one.trials} {one.said}" for one in family.aftermaths)
