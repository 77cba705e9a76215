"""The scores of a run as a document: what ``--json`` prints and the page is drawn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from attacks import library
from evaluator.leaderboard import Comparison, Leaderboard
from evaluator.records import Environment, Tool, plain
from evaluator.samples import Sample
from evaluator.scenarios import CANARY, Scenario
from evaluator.score_run import Answer, Scored
from mitigations.candidate import Candidate

SCHEMA = "sidestep.scores/1"


class Origin(Struct, frozen=True):
    """Where and how a run took place."""

    tool: Tool
    environment: Environment
    started: str
    """ISO 8601."""
    duration_s: float
    arguments: tuple[str, ...]


def document(
    board: Leaderboard, answers: Sequence[Answer], scored: Sequence[Scored], origin: Origin
) -> dict[str, Any]:
    """The document in types that ``json`` knows; ``answers`` is what ``scored`` was made from."""
    asked = {one.scenario.name: one.scenario for one in answers}
    return {
        "schema": SCHEMA,
        **plain(origin),
        **plain(board),
        "comparisons": [_compared(one) for one in board.comparisons],
        "digests": {
            "suite": _sha256((library.SUITES / f"{board.suite}.json").read_bytes()),
            "scenarios": _sha256(_encoded(asked.values())),
            "samples": _sha256(_encoded(_as_read(one) for one in answers)),
        },
        "canary": CANARY,
        "scenarios": [_asked(one) for one in asked.values()],
        "samples": plain(scored),
    }


def _asked(one: Scenario) -> dict[str, Any]:
    names = ("name", "title", "cluster", "tier", "split", "expect")
    return {name: plain(getattr(one, name)) for name in names}


def _compared(one: Comparison) -> dict[str, Any]:
    return {**plain(one), "winner": one.winner}


def _as_read(one: Answer) -> Sample:
    """Without the place where it is stored; a profile that is no text by what it enforces."""
    text = one.sample.mitigation
    if text is None and isinstance(one.candidate, Candidate):
        text = one.candidate.digest
    return replace(one.sample, source="", path=None, mitigation=text)


def _encoded(found: Iterable[Struct]) -> bytes:
    """Equal for equal ones in any order."""
    return "\n".join(sorted(json.dumps(plain(one), sort_keys=True) for one in found)).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
