"""Candidates out of the ordinary: what the kernel really does with them decides."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from attacks import library
from evaluator import campaign
from evaluator.assemble import run_exit_code
from evaluator.errors import InputError
from evaluator.plan import Plan
from evaluator.records import CandidateResult
from evaluator.request import families
from evaluator.verdict import ExitCode, Outcome, Verdict
from evaluator.workloads import DEFAULTS, chosen
from mitigations.load import load

from engine import ALLOW, EPERM, FAKED, KILL

LOAD_NR, RETURN, IF_EQUAL = [32, 0, 0, 0], 6, 21
EXECVE, EXECVEAT, MKDIR, SECCOMP = 59, 322, 83, 317


def answers(numbers: Sequence[int], action: int) -> dict[str, Any]:
    """A filter as raw instructions: these calls get ``action``, all others are allowed."""
    tests = [[IF_EQUAL, len(numbers) - i, 0, number] for i, number in enumerate(numbers)]
    return {"instructions": [LOAD_NR, *tests, [RETURN, 0, 0, ALLOW], [RETURN, 0, 0, action]]}


def evaluate(folder: Path, *documents: dict[str, Any], **changes: Any) -> list[CandidateResult]:
    """The candidates of these documents, in their order."""
    candidates = []
    for number, document in enumerate(documents):
        path = folder / f"{number}.json"
        path.write_text(json.dumps(document))
        candidates += load(path)
    usual: dict[str, Any] = {
        "families": (library.family("create-directory").default,),
        "workloads": (),
    }
    plan = Plan(candidates=tuple(candidates), **{**usual, **changes})
    return list(campaign.evaluate(plan, lambda _: None))


def raw(*filters: dict[str, Any], attachment: str = "runtime") -> dict[str, Any]:
    return {"filters": list(filters), "attachment": attachment}


@pytest.mark.parametrize("order", [("self", "runtime"), ("runtime", "self")])
def test_equal_bytes_put_on_by_somebody_else_are_another_candidate(
    order: tuple[str, str], tmp_path: Path
) -> None:
    """Without no_new_privs and privilege nobody loads a filter for himself; a runtime does."""
    twins = [raw(answers([MKDIR], EPERM), attachment=one) for one in order]
    found = dict(zip(order, evaluate(tmp_path, *twins), strict=True))
    assert found["runtime"].families[0].verdict is Verdict.LEAKY
    assert found["self"].families[0].verdict is Verdict.NOT_ENFORCED
    assert "EACCES" in found["self"].starts.reason


def test_a_faked_execve_starts_nothing(tmp_path: Path) -> None:
    (found,) = evaluate(
        tmp_path, raw(answers([EXECVE, EXECVEAT], FAKED)), workloads=chosen(DEFAULTS)
    )
    assert (found.starts.static, found.starts.dynamic) == (False, False)
    assert {one.workload: one.works for one in found.workloads} == {
        "static-entry": False,
        "shell-basics": False,
    }
    assert found.utility is None


def test_a_faked_load_is_no_fault_of_ours(tmp_path: Path) -> None:
    (found,) = evaluate(
        tmp_path,
        raw(answers([SECCOMP], FAKED), answers([MKDIR], EPERM)),
        workloads=chosen(DEFAULTS),
    )
    assert found.families[0].verdict is Verdict.NOT_ENFORCED
    assert found.starts.loads is False
    assert found.utility is None
    assert run_exit_code([found], []) is ExitCode.LACKING


def test_a_death_while_loading_names_the_signal(tmp_path: Path) -> None:
    (found,) = evaluate(tmp_path, raw(answers([SECCOMP], KILL), answers([MKDIR], EPERM)))
    assert found.families[0].verdict is Verdict.NOT_ENFORCED
    assert "died of SIG" in found.starts.reason


def test_an_errno_that_is_too_large_is_what_the_kernel_makes_of_it(tmp_path: Path) -> None:
    (found,) = evaluate(tmp_path, raw(answers([MKDIR], 0x50000 | 5000)))
    mkdir = next(one for one in found.trials if one.variant == "create-directory/mkdir")
    assert mkdir.stopped_at is not None
    assert mkdir.stopped_at.answer == "errno 4095"


def test_a_program_that_fails_is_stopped_by_its_first_denied_call(tmp_path: Path) -> None:
    """Its exit, which is denied as well, stops nothing."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {
                "names": ["open", "openat", "openat2", "exit", "exit_group"],
                "action": "SCMP_ACT_ERRNO",
            }
        ],
    }
    (found,) = evaluate(tmp_path, profile, families=(library.family("execute-program").default,))
    deputy = next(one for one in found.trials if one.variant == "execute-program/sh-deputy")
    assert deputy.outcome is Outcome.BLOCKED
    assert deputy.stopped_at is not None
    assert (deputy.stopped_at.call, deputy.stopped_at.answer) == ("openat", "EPERM")
    assert deputy.aftermath is not None
    assert (deputy.aftermath.survives, deputy.aftermath.audited) == (True, False)


@pytest.mark.parametrize("target", ["/data", "/var/lib/x", "/tmp/a/b", "/run", "/dev/shm"])
def test_a_target_is_made_with_all_that_leads_to_it(target: str, tmp_path: Path) -> None:
    """Twice, as nothing of the first time may be left."""
    wanted = families([f"create-directory@{target}"])
    for _ in range(2):
        (found,) = evaluate(tmp_path, raw(answers([MKDIR], EPERM)), families=wanted)
        assert found.families[0].verdict is Verdict.LEAKY
        assert Outcome.HARNESS_ERROR not in found.counts


@pytest.mark.parametrize("target", ["/usr", "/etc/x", "/proc", "/tmp", "/work", "/dev/null"])
def test_what_is_not_the_attackers_is_no_target(target: str) -> None:
    with pytest.raises(InputError, match=r"choose another, like /data"):
        families([f"create-directory@{target}"])
