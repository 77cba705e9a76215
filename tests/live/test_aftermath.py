"""What a block is said to leave behind, and what the kernel does."""

import json
from pathlib import Path
from typing import Any

import pytest

from attacks import library
from evaluator import campaign
from evaluator.plan import Plan
from evaluator.records import TrialRecord
from evaluator.verdict import Outcome
from mitigations.load import load

from engine import ALLOW, EPERM, FAKED, KILL, KILL_THREAD, LOG, NOTIFY, TRACE, TRAP

MKDIR = 83


def tried(folder: Path, action: int, *flags: str) -> TrialRecord:
    """The call mkdir under a filter that answers it so."""
    rows = [[32, 0, 0, 0], [21, 0, 1, MKDIR], [6, 0, 0, action], [6, 0, 0, ALLOW]]
    document: dict[str, Any] = {"filters": [{"flags": flags, "instructions": rows}]}
    path = folder / "candidate.json"
    path.write_text(json.dumps({**document, "attachment": "runtime"}))
    family = library.family("create-directory").default.only({"create-directory/mkdir"})
    plan = Plan(candidates=tuple(load(path)), families=(family,), workloads=(), with_steps=True)
    (found,) = campaign.evaluate(plan, lambda _: None)
    return next(one for one in found.trials if one.variant == "create-directory/mkdir")


@pytest.mark.parametrize("action", [EPERM, FAKED, TRACE, NOTIFY, TRAP, KILL_THREAD, KILL])
def test_who_is_said_to_live_on_comes_back_and_who_is_not_does_not(
    action: int, tmp_path: Path
) -> None:
    """The program has one thread and handles no signal: what is up to it is its death."""
    found = tried(tmp_path, action)
    assert found.outcome is Outcome.BLOCKED
    assert found.aftermath is not None
    (step,) = [one for one in found.steps if one.decisive]
    assert (step.mitigated == "killed by SIGSYS") is (found.aftermath.survives is not True)


@pytest.mark.parametrize("flags", [(), ("SECCOMP_FILTER_FLAG_LOG",)])
def test_the_flag_that_is_loaded_is_the_flag_that_counts(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    found = tried(tmp_path, EPERM, *flags)
    assert found.aftermath is not None
    assert found.aftermath.audited is bool(flags)


def test_a_way_through_that_is_logged_says_so(tmp_path: Path) -> None:
    found = tried(tmp_path, LOG)
    assert found.outcome is Outcome.BYPASSED
    assert found.aftermath is not None
    assert found.aftermath.audited
