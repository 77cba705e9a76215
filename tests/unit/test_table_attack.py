"""What a model found, on a terminal: nothing that somebody wrote reaches it raw."""

import io
from typing import Any

import pytest
from rich.console import Console

from evaluator.table_attack import show_attack

EVIL = "x\x1b[31m\u202e"


def replay(candidate: str, outcome: str, *, effect: bool, baseline: str = "BLOCKED") -> Any:
    return {
        "candidate": candidate,
        "source": candidate,
        "outcome": outcome,
        "effect": effect,
        "baseline": baseline,
        "reason": "",
    }


def find(number: int, *replayed: Any) -> dict[str, Any]:
    return {
        "id": f"create-directory/model-{number:016x}",
        "known": "",
        "operations": 1,
        "confirmed": 3,
        "text": [EVIL] * 20,
        "file": None,
        "replay": EVIL,
        "replayed": list(replayed),
    }


def document(*finds: dict[str, Any]) -> dict[str, Any]:
    family = {
        "family": "create-directory",
        "verdict": "found" if finds else "censored",
        "evidence": "1 way found: 1 request",
        "censored": "2 refused of 9 requests",
        "ended": EVIL,
        "usage": {"input_tokens": 1, "output_tokens": 2, "cost": None},
        "unsettled": [EVIL] * 5,
        "finds": list(finds),
    }
    return {
        "candidate": {"name": EVIL},
        "basis": {"suite": "s", "posture": "container", "kernel": "6.18"},
        "model": {"name": EVIL, "black_box": True, "prompt": "attack/1"},
        "families": [family],
    }


def shown(width: int, *finds: dict[str, Any]) -> str:
    file = io.StringIO()
    show_attack(Console(file=file, width=width, highlight=False), document(*finds))
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_nothing_is_shown_raw_and_refusals_are_there(width: int) -> None:
    text = shown(width, find(1, replay(EVIL, "BYPASSED", effect=True)))
    assert not set(text) & {"\x1b", "\u202e"}
    assert "2 refused of 9" in " ".join(text.split())
    assert "cost not known" in " ".join(text.split())


def test_whom_else_a_find_gets_past_is_said_by_its_number() -> None:
    rows = (
        ("hit", "BYPASSED", True, "BLOCKED"),
        ("tight", "BLOCKED", False, "BLOCKED"),
        ("open", "BYPASSED", True, "BYPASSED"),
        ("alike", "BYPASSED", False, "BLOCKED"),
        ("broken", "invalid", False, ""),
    )
    finds = [
        find(n, *(replay(a, b, effect=c, baseline=d) for a, b, c, d in rows)) for n in range(2)
    ]
    lines = [line.split() for line in shown(80, *finds).splitlines()]
    assert ["hit", "BLOCKED", "1,", "2", "-", "-"] in lines
    assert ["tight", "BLOCKED", "-", "1,", "2", "-"] in lines
    assert ["open", "BYPASSED", "1,", "2", "-", "-"] in lines
    assert ["alike", "BLOCKED", "-", "-", "1", "equivalent,", "2", "equivalent"] in lines
    assert ["broken", "-", "-", "-", "1", "invalid,", "2", "invalid"] in lines
    assert "1 of 5 stop the baseline and let some of these through" in shown(80, *finds)
