"""The tables that people read first: a summary and the matrix of verdicts.  Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.schema import Candidate, Document, Family

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
    "robustness",
    "routes",
    "utility",
    "simulated",
)


def summary_rows(document: Document) -> list[tuple[object, ...]]:
    """One row per candidate and family; an invalid candidate has one row without a family."""
    lines: list[tuple[object, ...]] = []
    for candidate in document.candidates:
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
        candidate.robustness,
        candidate.routes,
        candidate.utility,
        candidate.simulated,
    )
