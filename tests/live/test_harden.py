"""What harden prints holds and works: each test looks at a run of the very text."""

import json
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from attacks import library
from evaluator import campaign
from evaluator.drafts import Draft, draft_of
from evaluator.harden import Hardening, Terms, intended
from evaluator.harden_records import Hardened
from evaluator.harden_report import hardened
from evaluator.plan import Plan
from evaluator.records import CandidateResult
from evaluator.request import families
from evaluator.verdict import HOLDING, Outcome
from evaluator.workloads import DEFAULTS, Workload, workload
from evaluator.workloads import chosen as workloads
from mitigations.candidate import Candidate
from mitigations.load import LIBRARY, load

ALLOW, ERRNO, KILL = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL"
ALL = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
ENOSYS = 38
SUITE = frozenset(library.suite().variants)
JOBS = min(2, len(os.sched_getaffinity(0)))
STATIC, SHELL = workload("static-entry"), workload("shell-basics")
USUAL = workloads(DEFAULTS)
THREADS, OWN_FILTER = workload("threads"), workload("self-filter")
SOCKETCALL = workload("socketcall")
_ASKS_FOR_A_RING = """
import ctypes
c = ctypes.CDLL(None, use_errno=True)
ring = c.syscall(425, 4, ctypes.create_string_buffer(120))
print("ok" if ring >= 0 or ctypes.get_errno() == 38 else "refused")
"""
# What a library does that prefers io_uring and goes on without it where the kernel has none.
RING = Workload(
    name="ring",
    title="Asks for an io_uring, and does without",
    command=("python3", "-S", "-c", _ASKS_FOR_A_RING),
    stdout="ok\n",
)


def here(one: Workload) -> Workload:
    """Skips where a program under test is not installed."""
    if one.missing():
        pytest.skip(f"not installed: {', '.join(one.missing())}")
    return one


def draft(folder: Path, *rules: dict[str, Any], default: str = ALLOW, **more: Any) -> Draft:
    path = folder / "profile.json"
    document = {"defaultAction": default, "architectures": ALL, "syscalls": [*rules], **more}
    path.write_text(json.dumps(document, indent=2))
    return draft_of(str(path), "auto", "runc-1.1", "container")


def rule(*names: str, action: str = ERRNO, **more: Any) -> dict[str, Any]:
    return {"names": [*names], "action": action, **more}


def made(one: Draft, names: Sequence[str], chosen: Sequence[Workload], **more: Any) -> Hardened:
    terms = Terms(families(names, library.SUITE), tuple(chosen), jobs=JOBS, suite=SUITE, **more)
    hardening = Hardening(one, terms)
    hardening.run()
    return hardened(hardening, None)


def evaluated(text: str, folder: Path, names: Sequence[str], *works: Workload) -> CandidateResult:
    """A fresh run of a printed profile, by nothing that harden has."""
    path = folder / "again.json"
    path.write_text(text)
    (candidate,) = load(path)
    assert isinstance(candidate, Candidate)
    plan = Plan(
        candidates=(candidate,),
        families=families(names, library.SUITE),
        workloads=works,
        jobs=JOBS,
        suite=SUITE,
    )
    (result,) = campaign.evaluate(plan, lambda _: None)
    return result


def holds(result: CandidateResult) -> bool:
    return all(one.verdict in HOLDING for one in result.families)


# ------------------------------------------------------------------ what it breaks, and mends

BROKEN = [
    pytest.param([rule("clone3", errnoRet=1)], THREADS, "clone3 (EPERM)", id="clone3-eperm"),
    pytest.param(
        [rule("io_uring_setup", action=KILL)],
        RING,
        "io_uring_setup (SIGSYS (killed))",
        id="io_uring-kill",
    ),
]


@pytest.mark.parametrize(("rules", "work", "call"), BROKEN)
def test_a_broken_program_is_shown_and_mended(
    rules: list[dict[str, Any]], work: Workload, call: str, tmp_path: Path
) -> None:
    found = made(
        draft(tmp_path, *rules, rule("mkdir", "mkdirat")), ["create-directory"], [here(work)]
    )
    (shown,) = found.workloads
    assert not shown.before
    assert call in shown.reason_before
    assert shown.after
    assert found.holds
    name = rules[0]["names"][0]
    answers = {
        one["errnoRet"]
        for one in json.loads(found.profile)["syscalls"]
        if name in one["names"] and one["action"] == ERRNO
    }
    assert answers == {ENOSYS}  # still denied, and honest programs fall back
    result = evaluated(found.profile, tmp_path, ["create-directory"], work)
    assert holds(result)
    assert [one.works for one in result.workloads] == [True]


def test_an_allowlist_without_seccomp_is_mended_by_one_name(tmp_path: Path) -> None:
    strict = draft_of(str(LIBRARY / "strict-allowlist.json"), "auto", "runc-1.1", "container")
    found = made(strict, ["create-directory"], [OWN_FILTER])
    (shown,) = found.workloads
    assert "seccomp (EPERM)" in shown.reason_before
    assert found.holds
    # What the program was denied besides, and does not miss, stays denied.
    assert [(one.call, one.repairs) for one in found.changes] == [("seccomp", ("self-filter",))]
    again = evaluated(found.profile, tmp_path, ["create-directory"], OWN_FILTER)
    assert [one.works for one in again.workloads] == [True]


def test_an_allowlist_without_socketcall_is_mended_by_one_name(tmp_path: Path) -> None:
    document = json.loads((LIBRARY / "strict-allowlist.json").read_text())
    rules = [*document["syscalls"], rule("fork", "waitpid", action=ALLOW)]
    strict = draft(tmp_path, *rules, default=ERRNO, defaultErrnoRet=1)
    found = made(strict, ["create-directory"], [SOCKETCALL])
    (shown,) = found.workloads
    if not shown.in_control:
        pytest.skip(f"no 32-bit calls here: {shown.reason_before}")
    assert "i386:socketcall (EPERM)" in shown.reason_before
    assert found.holds
    assert [(one.call, one.repairs) for one in found.changes] == [
        ("i386:socketcall", ("socketcall",))
    ]


def test_what_is_mended_is_closed_again_where_the_objective_asks_for_it(tmp_path: Path) -> None:
    """The shell needs openat, by which files are created: both cannot be had."""
    strict = draft_of(str(LIBRARY / "strict-allowlist.json"), "auto", "runc-1.1", "container")
    found = made(strict, ["create-file"], [SHELL])
    assert not found.holds
    (shown,) = found.workloads
    assert not shown.before
    assert shown.after
    assert {one.family for one in found.conflicts} == {"create-file"}


# ------------------------------------------------------------------ the bundled profiles

INDEX = tomllib.loads((LIBRARY / "library.toml").read_text())["profile"]
# What the profile's intent names, of the families that it leaks.
STATED = {one["file"]: one["states"] for one in INDEX if "states" in one}
CANNOT = {"wide-argument-hole.json"}


def test_every_leaky_profile_has_a_stated_family() -> None:
    leaky = {one["file"] for one in INDEX if "leaky" in one["expected"].values()}
    assert leaky == set(STATED)
    assert all(STATED.values())


@pytest.mark.parametrize("name", STATED)
def test_a_leaky_profile_is_made_to_hold_what_it_states(name: str, tmp_path: Path) -> None:
    one = draft_of(str(LIBRARY / name), "auto", "runc-1.1", "container")
    found = made(one, STATED[name], USUAL)
    assert found.confirmed
    assert found.holds == (name not in CANNOT)
    if found.holds:
        result = evaluated(found.profile, tmp_path, STATED[name], *USUAL)
        assert holds(result)
        assert all(work.works for work in result.workloads)
        assert not {Outcome.HARNESS_ERROR, Outcome.DISAGREEMENT}.intersection(result.counts)
    else:
        (conflict, *_) = found.conflicts
        assert "cannot name setxattrat" in conflict.said
        assert {hint.kind.value for hint in conflict.layers} == {"AppArmor", "namespace"}


def test_the_same_is_chosen_again() -> None:
    one = draft_of(str(LIBRARY / "wide-argument-hole.json"), "auto", "runc-1.1", "container")
    wanted = ["clear-set-id-bits", "set-file-capability", "use-io-uring"]
    first, second = (made(one, wanted, [STATIC]) for _ in range(2))
    assert first.profile == second.profile
    assert first.changes == second.changes


def test_every_change_is_needed(tmp_path: Path) -> None:
    """Without any one of them something gets through."""
    one = draft_of(
        str(LIBRARY / "deny-create-directory-by-name.json"), "auto", "runc-1.1", "container"
    )
    wanted = ["create-directory", "create-node"]
    terms = Terms(families(wanted, library.SUITE), (STATIC, SHELL), jobs=JOBS, suite=SUITE)
    hardening = Hardening(one, terms)
    hardening.run()
    assert hardened(hardening, None).holds
    assert len(hardening.elements) > 1
    for left_out in hardening.elements:
        fewer = [other for other in hardening.elements if other is not left_out]
        text = one.with_elements(fewer).text
        assert not holds(evaluated(text, tmp_path, wanted)), left_out.line


# ------------------------------------------------------------------ what cannot be


def test_a_contradiction_is_said_and_not_averaged(tmp_path: Path) -> None:
    found = made(draft(tmp_path), ["create-process", "create-directory"], [SHELL])
    assert not found.holds
    verdicts = {one.family: one.after for one in found.families}
    assert verdicts["create-directory"] in ("held", "held here")
    assert verdicts["create-process"] == "open" or verdicts["create-process"] == "leaky"
    conflict = found.conflicts[0]
    assert conflict.family == "create-process"
    assert conflict.refused
    for refused in conflict.refused:
        assert refused.workload == "shell-basics"
        assert refused.needs
    (work,) = found.workloads
    assert work.after


def test_a_program_that_no_change_helps_is_said(tmp_path: Path) -> None:
    (tmp_path / "deny.json").write_text(
        json.dumps(
            {
                "attachment": "runtime",
                "filters": [{"instructions": [[32, 0, 0, 0], [21, 0, 1, 435], *ANSWERS]}],
            }
        )
    )
    one = draft_of(str(tmp_path / "deny.json"), "auto", "runc-1.1", "container")
    found = made(one, ["create-directory"], [here(THREADS)])
    (work,) = found.workloads
    if not work.in_control:
        pytest.skip(work.reason_before)
    assert not work.after
    assert "clone3 (EPERM)" in work.reason
    assert not found.holds
    assert any("bytes" in note for note in found.notes)


ANSWERS = [[6, 0, 0, 0x00050001], [6, 0, 0, 0x7FFF0000]]


def test_too_few_rounds_are_said(tmp_path: Path) -> None:
    found = made(draft(tmp_path), ["create-filesystem-object"], [SHELL], rounds=1)
    assert not found.holds
    assert "--rounds" in found.ended


def test_who_interrupts_keeps_the_last_choice(tmp_path: Path) -> None:
    def interrupt(said: str) -> None:
        raise KeyboardInterrupt(said)

    terms = Terms(
        families(["create-directory"], library.SUITE),
        (STATIC,),
        jobs=JOBS,
        suite=SUITE,
        on_round=interrupt,
    )
    hardening = Hardening(draft(tmp_path, rule("mkdir")), terms)
    with pytest.raises(KeyboardInterrupt):
        hardening.run()
    found = hardened(hardening, None)
    assert found.changes
    assert found.diff


# ------------------------------------------------------------------ what nobody named


def test_without_an_objective_it_is_what_the_profile_gives_away(tmp_path: Path) -> None:
    one = draft(tmp_path, rule("mkdir", "mkdirat"))
    every = families(["create-directory", "change-mode"], library.SUITE)
    terms = Terms(every, (), shown=USUAL, jobs=JOBS, suite=SUITE)
    meant = intended(one, terms, named=False, must=False)
    assert [family.label for family in meant.families] == ["create-directory"]
    assert meant.chosen == USUAL


def test_only_what_gets_past_every_layer_is_closed(tmp_path: Path) -> None:
    """A ruleset that holds the family leaves nothing to change; one about another, all of it."""
    draft(tmp_path, rule("mkdir", "mkdirat"))
    path = tmp_path / "layered.toml"

    def hardening(right: str) -> Hardened:
        path.write_text(
            '[[layer]]\nkind = "seccomp"\nfile = "profile.json"\n'
            f'[[layer]]\nkind = "landlock"\nruleset = [{{ handled_access_fs = ["{right}"] }}]\n'
        )
        start = draft_of(str(path), "auto", "runc-1.1", "container")
        assert [one.kind for one in start.beside] == ["no-new-privs", "landlock"]
        return made(start, ["create-directory"], [STATIC])

    held, open_ = hardening("make_dir"), hardening("make_fifo")
    assert (held.holds, held.changes) == (True, ())
    assert open_.holds
    assert [one.line for one in open_.changes]
    assert holds(evaluated(open_.profile, tmp_path, ["create-directory"]))
