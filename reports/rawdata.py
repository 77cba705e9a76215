"""The page's data: every trial once, as small numbers that point into lists of strings.

A trial is ``[variant, outcome, scope, stopped, reason, program]``, grouped by candidate.  A program
that ran alike under several candidates is kept once; only bypasses carry one.  For each family that
something gets through, ``causes`` say why and what would close it.
"""

from __future__ import annotations

from collections.abc import Hashable

from reports.program import Line, lines
from reports.schema import Candidate, Document, Family, Trial
from reports.text import script_json, visible

CAUSES = 8
"""For each family of each candidate; the others are in ``run.json``."""


class Pool:
    """Values, each kept once, by position."""

    def __init__(self) -> None:
        self.values: list[str | list[int]] = []
        self._positions: dict[Hashable, int] = {}

    def add(self, value: str | list[int]) -> int:
        key: Hashable = value if isinstance(value, str) else tuple(value)
        if key not in self._positions:
            self._positions[key] = len(self.values)
            self.values.append(value)
        return self._positions[key]


def data_block(document: Document) -> str:
    """The content of the page's data element."""
    strings, variants, steps, programs, causes = Pool(), Pool(), Pool(), Pool(), Pool()
    strings.add("")

    def text(value: str | None) -> int:
        return strings.add(visible(value or ""))

    def step(line: Line) -> int:
        flags = line.decisive | line.differs << 1 | line.is_memory << 2
        about = [text(line.slots), text(line.section), text(line.abi)]
        results = [text(line.control), text(line.mitigated), text(line.filter)]
        return steps.add([flags, *about, *results, *(text(words) for words in line.texts)])

    def row(trial: Trial) -> list[int | list[int]]:
        about = (trial.variant, _family(trial), trial.technique, trial.assumption, trial.title)
        numbers: list[int | list[int]] = [
            variants.add([text(word) for word in about]),
            text(trial.outcome),
            text(trial.scope),
            text(stopped(trial)),
            text(trial.reason),
        ]
        if trial.outcome == "BYPASSED":
            numbers.append(programs.add([step(line) for line in lines(trial.steps)]))
        return numbers

    def causes_of(family: Family) -> list[int]:
        return [
            causes.add(
                [text(part) for part in (one.call, one.said, one.where, one.fix, one.breaks)]
            )
            for one in family.causes[:CAUSES]
        ]

    def group(candidate: Candidate) -> dict[str, object]:
        return {
            "name": visible(candidate.name),
            "trials": [row(trial) for trial in candidate.trials],
            "causes": [
                [text(one.family), *causes_of(one)] for one in candidate.families if one.causes
            ],
        }

    candidates = [group(candidate) for candidate in document.candidates]
    return script_json(
        {
            "strings": strings.values,
            "variants": variants.values,
            "steps": steps.values,
            "programs": programs.values,
            "causes": causes.values,
            "candidates": candidates,
        }
    )


def stopped(trial: Trial) -> str:
    """Where a trial was stopped, and what that leaves behind, in words."""
    at, left = trial.stopped_at, trial.aftermath
    if at is None:
        return left.said if left else ""
    abi = "" if at.abi == "x86_64" else f" ({at.abi})"
    where = "" if at.decisive else ", prerequisite"
    by = "" if at.layer == "seccomp" else f", {at.layer}"
    return f"{at.call}{abi}: {at.answer}{by}{where}" + (f", {left.said}" if left else "")


def _family(trial: Trial) -> str:
    return trial.family or trial.variant.split("/")[0]
