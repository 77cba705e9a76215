"""The scores of a run as a document: what ``--json`` prints and the page is drawn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from attacks import library
from attacks.errors import AttackError
from evaluator.leaderboard import Comparison, Leaderboard
from evaluator.records import Environment, Tool, plain
from evaluator.samples import Sample
from evaluator.scenarios import CANARY, Scenario, scenario
from evaluator.score_run import Scored

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
    board: Leaderboard, scored: Sequence[Scored], samples: Sequence[Sample], origin: Origin
) -> dict[str, Any]:
    """The document in types that ``json`` knows; ``samples`` is what ``scored`` was made from."""
    asked = [scenario(name) for name in dict.fromkeys(one.scenario for one in scored)]
    return {
        "schema": SCHEMA,
        **plain(origin),
        "suite": library.SUITE,
        "digests": {
            "suite": _sha256((library.SUITES / f"{library.SUITE}.json").read_bytes()),
            "scenarios": _sha256(msgspec.json.encode(sorted(asked, key=lambda one: one.name))),
            "samples": _sha256(_encoded(samples)),
        },
        "canary": CANARY,
        "scenarios": [_asked(one) for one in asked],
        **plain(board),
        "comparisons": [_compared(one) for one in board.comparisons],
        "techniques": _techniques(scored),
        "samples": plain(scored),
    }


def _asked(one: Scenario) -> dict[str, Any]:
    names = ("name", "title", "cluster", "tier", "split", "expect")
    return {name: plain(getattr(one, name)) for name in names}


def _compared(one: Comparison) -> dict[str, Any]:
    return {**plain(one), "winner": one.winner}


def _techniques(scored: Iterable[Scored]) -> dict[str, str]:
    """By variant, of all that got through."""
    scores = [one.score for one in scored if one.score is not None]
    through = {way for one in scores for of in (one.visible, one.hidden) for way in of.bypasses}
    return {way: found for way in sorted(through) if (found := _technique(way))}


def _technique(variant: str) -> str:
    try:
        return library.find_variant(variant).technique.value
    except AttackError:  # it is none of the library's
        return ""


def _encoded(samples: Sequence[Sample]) -> bytes:
    """The same answers give the same bytes, wherever they are stored."""
    stored = (msgspec.structs.replace(one, source="", path=None) for one in samples)
    return "\n".join(sorted(json.dumps(plain(one), sort_keys=True) for one in stored)).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
