"""From the JSON of ``sidestep score`` to the structs of ``reports.leaderboard_schema``, checked."""

# pyright: standard
# (what comes out of JSON is of no known type until it is checked here)

from __future__ import annotations

from pathlib import Path
from typing import Any

from reports.document import parse_json, typed
from reports.errors import ReportError
from reports.leaderboard_schema import METRICS, SCHEMA, STATUSES, Comparison, Leaderboard

SURE = 0.05
"""Only an adjusted p below it names a winner."""


def parse_leaderboard(raw: object) -> Leaderboard:
    """Check a document and make it typed; ReportError names the first wrong key.

    What a reader would take for good news must be borne out by what stands beside it.
    """
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise ReportError(f"no scores: the key 'schema' is not {SCHEMA!r}")
    found = typed(raw, Leaderboard)
    _check(found)
    return found


def load_scores(path: Path) -> dict[str, Any] | None:
    """The document of a ``scores.json``, or of a directory with one; None if it is none.

    ReportError if it is one, and wrong.
    """
    file = path / "scores.json" if path.is_dir() and not (path / "run.json").exists() else path
    try:
        if file.suffix != ".json" or not file.is_file():
            return None
        raw: object = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ReportError):
        return None  # who reads it as a result says what is wrong
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        return None
    try:
        parse_leaderboard(raw)
    except ReportError as error:
        raise ReportError(f"{file}: {error}") from None
    return raw


def _check(found: Leaderboard) -> None:
    names = {one.name for one in found.scenarios}
    arms = {(one.model, one.strategy, one.level) for one in found.rows}
    if len(arms) != len(found.rows):
        raise ReportError("rows: one of them is there twice")
    for number, row in enumerate(found.rows):
        for of in ("rates", "asked"):
            if missing := set(METRICS) - set(getattr(row, of)):
                raise ReportError(f"rows[{number}].{of}: {min(missing)} is missing")
        if unknown := set(row.statuses) - set(STATUSES):
            raise ReportError(f"rows[{number}].statuses: {min(unknown)[:80]!a} is no status")
    for number, one in enumerate(found.samples):
        if one.status not in STATUSES:
            raise ReportError(f"samples[{number}].status: {one.status[:80]!a} is no status")
        if one.scenario not in names:
            raise ReportError(f"samples[{number}].scenario: {one.scenario[:80]!a} is not listed")
        if one.arm not in arms:
            raise ReportError(f"samples[{number}]: no row is of its model, strategy and level")
    for number, pair in enumerate(found.comparisons):
        low, high = pair.difference.low, pair.difference.high
        shown = "" if low is None or high is None else _better(pair, low, high)
        if pair.winner not in ("", shown):
            raise ReportError(
                f"comparisons[{number}].winner: interval or adjusted p do not show it"
            )


def _better(pair: Comparison, low: float, high: float) -> str:
    if pair.adjusted is None or pair.adjusted >= SURE:
        return ""
    return pair.first if low > 0 else pair.second if high < 0 else ""
