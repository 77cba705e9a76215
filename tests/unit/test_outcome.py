"""From two arms to an outcome: each outcome has its own evidence, and the trace is no evidence."""

from typing import Any

import pytest
from msgspec.structs import replace

from attacks.effects import Effect, EffectKind, Grade
from attacks.family import Assumption, Need, Technique, Variant
from attacks.program import Abi, Addr, Const, Entry, Program, Slot, Store, Syscall
from evaluator import outcome
from evaluator.outcome import Pair, Terms
from evaluator.records import StoppedAt, TrialRecord
from evaluator.verdict import Outcome
from evaluator.wire import Record, Result, Truth
from mitigations.bpf import Filter

from engine import (
    ALLOW,
    EPERM,
    FAKED,
    KILL,
    LOG,
    NOTIFY,
    TRACE,
    TRAP,
    answers,
    answers_all,
    program,
)
from results import DIR, MADE, NOT_REACHED, OLD, arm, facts, returned, seen, started

MKDIR_NR, OPENAT_NR = 83, 257
MKDIR = Syscall("mkdir", (Addr(0), Const(0o755)), decisive=True)
OPEN = Syscall("openat", (Const(-100), Addr(0), Const(0)))
AT = Syscall("mkdirat", (Slot(0), Addr(0), Const(0o755)), decisive=True)
BY_PATH, BY_FD = program(MKDIR), program(OPEN, AT)
WORKED, WORKED_BY_FD = arm(returned(0), after=MADE), arm(returned(3), returned(0), after=MADE)
MOVED = facts(seen(DIR, OLD))
"""A directory that was elsewhere is there now: equivalent."""


def variant(what: Program = BY_PATH, **changes: Any) -> Variant:
    base = Variant(
        id="create-directory/it",
        family="create-directory",
        technique=Technique.BASELINE,
        assumption=Assumption.NONE,
        grade=Grade.EXACT,
        program=what,
        effect=Effect(EffectKind.DIRECTORY),
        objects=(),
        why="It may get through.",
    )
    return replace(base, **changes)


def terms(*filters: bytes, **changes: Any) -> Terms:
    base = Terms(tuple(map(Filter.decode, filters)), "", no_new_privs=False, syscall_insn=0)
    return replace(base, **changes)


NO_MKDIR = terms(answers([MKDIR_NR], EPERM))


def classify(
    *mitigated: Result | str,
    control: Result | str = WORKED,
    under: Terms = NO_MKDIR,
    what: Variant | None = None,
    unmet: str | None = None,
) -> TrialRecord:
    return outcome.classify(Pair(what or variant(), control, mitigated), under, unmet)


def failed(*records: Record, **changes: Any) -> Result:
    """An arm under one filter, without the effect."""
    return arm(*records, filters=1, **changes)


# ------------------------------------------------------------------ blocked, and by what


@pytest.mark.parametrize(
    ("action", "record", "signal", "answer"),
    [
        (EPERM, returned(-1), 0, "EPERM"),
        (0x50000 | 13, returned(-13), 0, "EACCES"),
        (FAKED, returned(0), 0, "0 (faked)"),
        (TRACE, returned(-38), 0, "ENOSYS (no tracer)"),
        (NOTIFY, returned(-38), 0, "ENOSYS (no listener)"),
        (TRAP, started(), 31, "SIGSYS (trapped)"),
        (KILL, started(), 31, "SIGSYS (killed)"),
        (0, started(), 31, "SIGSYS (killed)"),
    ],
)
def test_a_block_names_the_call_and_the_answer(
    action: int, record: Record, signal: int, answer: str
) -> None:
    under = terms(answers([MKDIR_NR], action))
    found = classify(failed(record, wait_status=signal), under=under)
    assert found.outcome is Outcome.BLOCKED
    assert found.stopped_at == StoppedAt("mkdir", "x86_64", answer, decisive=True)
    assert not found.prerequisite_only
    assert found.control_effect is Grade.EXACT
    assert found.mitigated_effect is None
    assert found.predicted == "BLOCKED"
    assert found.reason is None


@pytest.mark.parametrize(
    ("action", "record", "signal", "survives", "audited"),
    [
        (EPERM, returned(-1), 0, True, False),
        (TRAP, started(), 31, None, False),
        (KILL, started(), 31, False, True),
    ],
)
def test_a_block_says_what_it_leaves_behind(
    action: int, record: Record, signal: int, survives: bool | None, audited: bool
) -> None:
    under = terms(answers([MKDIR_NR], action))
    left = classify(failed(record, wait_status=signal), under=under).aftermath
    assert left is not None
    assert (left.survives, left.audited) == (survives, audited)
    asking = replace(under, logging=frozenset({0}))
    asked = classify(failed(record, wait_status=signal), under=asking).aftermath
    assert asked is not None
    assert (asked.survives, asked.audited) == (survives, True)


@pytest.mark.parametrize(("action", "logged"), [(LOG, True), (ALLOW, False)])
def test_a_bypass_leaves_something_behind_only_if_it_is_logged(action: int, logged: bool) -> None:
    under = terms(answers([MKDIR_NR], action))
    found = classify(failed(returned(0), after=MADE), under=under)
    assert found.outcome is Outcome.BYPASSED
    assert (found.aftermath is not None) is logged
    assert not logged or found.aftermath.said == "got through with an audit record"


def test_a_block_of_an_earlier_call_is_of_a_prerequisite_only() -> None:
    under = terms(answers([OPENAT_NR], EPERM))
    arms = failed(returned(-1), NOT_REACHED)
    found = classify(arms, control=WORKED_BY_FD, under=under, what=variant(BY_FD))
    assert found.outcome is Outcome.BLOCKED
    assert found.prerequisite_only
    assert found.stopped_at == StoppedAt("openat", "x86_64", "EPERM", decisive=False)


def test_the_first_denied_call_is_named() -> None:
    may_fail = Syscall("openat", OPEN.args, may_fail=True)
    under = terms(answers([OPENAT_NR, 258], EPERM))
    arms = failed(returned(-1), returned(-1))
    found = classify(arms, control=WORKED_BY_FD, under=under, what=variant(program(may_fail, AT)))
    assert found.stopped_at is not None
    assert found.stopped_at.call == "openat"


@pytest.mark.parametrize("may_fail", [False, True])
def test_what_has_to_follow_the_decisive_call_can_be_stopped(may_fail: bool) -> None:
    after = Syscall("openat", OPEN.args, may_fail=may_fail)
    found = classify(
        failed(returned(0), returned(-1)),
        control=arm(returned(0), returned(3), after=MADE),
        under=terms(answers([OPENAT_NR], EPERM)),
        what=variant(program(MKDIR, after)),
    )
    if may_fail:  # the program goes on without it, so that it explains nothing
        assert found.outcome is Outcome.INEFFECTIVE
        return
    assert found.outcome is Outcome.BLOCKED
    assert found.stopped_at == StoppedAt("openat", "x86_64", "EPERM", decisive=False)
    assert found.reason is not None
    assert "has to follow it" in found.reason


def test_who_dies_of_a_call_that_may_fail_does_not_go_on() -> None:
    may_fail = Syscall("openat", OPEN.args, may_fail=True)
    last = Syscall("write", (Const(1), Addr(0), Const(1)))
    found = classify(
        failed(returned(0), started(), NOT_REACHED, wait_status=31),
        control=arm(returned(0), returned(3), returned(1), after=MADE),
        under=terms(answers([OPENAT_NR], KILL)),
        what=variant(program(MKDIR, may_fail, last)),
    )
    assert (found.outcome, found.predicted) == (Outcome.BLOCKED, "BLOCKED")
    assert found.stopped_at == StoppedAt("openat", "x86_64", "SIGSYS (killed)", decisive=False)


# ------------------------------------------------------------------ bypassed


@pytest.mark.parametrize("record", [returned(0), returned(-1), NOT_REACHED, started()])
def test_the_effect_decides_and_not_what_the_subject_says(record: Record) -> None:
    found = classify(arm(record, filters=1, after=MADE))
    assert found.outcome is Outcome.BYPASSED
    assert found.mitigated_effect is Grade.EXACT
    assert found.stopped_at is None


def test_a_claim_of_success_without_the_effect_is_no_bypass() -> None:
    under = terms(answers([MKDIR_NR], FAKED))
    assert classify(failed(returned(0)), under=under).outcome is Outcome.BLOCKED


def test_an_equivalent_effect_counts_where_the_control_had_no_better() -> None:
    what = variant(grade=Grade.EQUIVALENT)
    control = arm(returned(0), after=MOVED)
    mitigated = arm(returned(0), filters=1, after=MOVED)
    assert classify(mitigated, control=control, what=what).outcome is Outcome.BYPASSED
    # Exact in the control, equivalent only under the filter: not the same way through.
    lesser = arm(returned(-1), filters=1, after=MOVED)
    assert classify(lesser, what=what).outcome is Outcome.BLOCKED


def test_one_success_of_many_is_a_bypass() -> None:
    blocked, through = failed(returned(-1)), arm(returned(0), filters=1, after=MADE)
    found = classify(blocked, blocked, through, blocked)
    assert (found.outcome, found.agree, found.repeats) == (Outcome.BYPASSED, False, 4)
    assert found.mitigated_effect is Grade.EXACT


def test_a_block_needs_every_repeat() -> None:
    blocked = failed(returned(-1))
    found = classify(blocked, blocked)
    assert (found.outcome, found.agree, found.repeats) == (Outcome.BLOCKED, True, 2)
    found = classify(blocked, "the runner died")
    assert (found.outcome, found.agree) == (Outcome.HARNESS_ERROR, False)


# ------------------------------------------------------------------ not enforced


@pytest.mark.parametrize(
    ("truth", "under", "said"),
    [
        (Truth(0, 0, 0, True, 0, 0, 0), NO_MKDIR, "0 seccomp filters are in force, not 1"),
        (Truth(2, 2, 0, True, 0, 0, 0), NO_MKDIR, "2 seccomp filters are in force, not 1"),
        (Truth(1, 1, 0, True, 0, 0, 0), NO_MKDIR, "Seccomp: 1"),
        (Truth(2, 1, 0, False, 0, 0, 0), NO_MKDIR, "could not be read"),
        (Truth(2, 1, 0, True, 0, 0, 0), replace(NO_MKDIR, no_new_privs=True), "no_new_privs"),
    ],
)
def test_what_is_not_in_force_blocks_nothing(truth: Truth, under: Terms, said: str) -> None:
    for after in (MADE, facts()):
        found = classify(arm(returned(-1), truth=truth, after=after), under=under)
        assert found.outcome is Outcome.NOT_ENFORCED
        assert said in (found.reason or "")


def test_filters_that_were_there_before_are_not_the_candidates() -> None:
    ambient = Truth(2, 2, 0, True, 0, 0, 0)
    control = arm(returned(0), after=MADE, truth=ambient)
    mitigated = arm(returned(-1), truth=ambient._replace(filters=3))
    assert classify(mitigated, control=control).outcome is Outcome.BLOCKED
    missing = arm(returned(-1), truth=ambient)
    assert classify(missing, control=control).outcome is Outcome.NOT_ENFORCED


def test_a_candidate_that_does_not_load_is_not_enforced() -> None:
    under = replace(NO_MKDIR, layers_missing="the kernel refused the filter: Invalid argument")
    found = classify("not run", under=under)
    assert found.outcome is Outcome.NOT_ENFORCED
    assert found.reason == "the kernel refused the filter: Invalid argument"


# ------------------------------------------------------------------ two views that differ


@pytest.mark.parametrize(
    ("record", "signal"), [(returned(0), 0), (returned(-13), 0), (started(), 31)]
)
def test_a_denial_that_the_kernel_did_not_make_is_a_disagreement(
    record: Record, signal: int
) -> None:
    found = classify(failed(record, wait_status=signal))
    assert found.outcome is Outcome.DISAGREEMENT
    assert found.stopped_at is None
    assert "simulated ERRNO(EPERM)" in (found.reason or "")


def test_a_kill_that_nobody_simulated_is_a_disagreement() -> None:
    found = classify(failed(started(), wait_status=31), under=terms(answers_all(ALLOW)))
    assert found.outcome is Outcome.DISAGREEMENT
    assert "but the kernel killed the subject" in (found.reason or "")


# ------------------------------------------------------------------ neither


def test_an_effect_that_does_not_come_though_all_was_allowed_is_ineffective() -> None:
    under = terms(answers_all(ALLOW))
    found = classify(failed(returned(0)), under=under)
    assert found.outcome is Outcome.INEFFECTIVE
    assert found.reason == "every call that matters was allowed, but the effect did not come"
    late = classify(failed(returned(0), timed_out=True), under=under)
    assert late.outcome is Outcome.INEFFECTIVE
    assert "in time" in (late.reason or "")


def test_a_death_that_is_not_the_filters_is_ineffective() -> None:
    under = terms(answers_all(ALLOW))
    found = classify(failed(started(), wait_status=9), under=under)
    assert found.outcome is Outcome.INEFFECTIVE


def test_a_lost_runner_is_a_harness_error() -> None:
    found = classify("the runner died")
    assert (found.outcome, found.reason) == (Outcome.HARNESS_ERROR, "the runner died")


def test_a_world_that_was_not_ready_is_a_harness_error() -> None:
    found = classify(failed(returned(0), before=MOVED))
    assert found.outcome is Outcome.HARNESS_ERROR
    found = classify(failed(returned(0)), control=replace(WORKED, before=MOVED))
    assert found.outcome is Outcome.HARNESS_ERROR
    assert "was there before" in (found.reason or "")


# ------------------------------------------------------------------ unsupported


def test_a_need_that_was_probed_explains_a_control_without_effect() -> None:
    what = variant(needs=frozenset({Need.X32}))
    for control in ("setup ENOSYS", arm(returned(-1))):
        found = classify("not run", control=control, what=what, unmet="kernel: no x32")
        assert (found.outcome, found.reason) == (Outcome.UNSUPPORTED, "kernel: no x32")
        assert found.control_effect is None


def test_a_call_that_the_kernel_lacks_explains_a_control_without_effect() -> None:
    found = classify("not run", control=arm(returned(-38)))
    assert found.outcome is Outcome.UNSUPPORTED
    assert found.reason == "kernel: mkdir answers ENOSYS without the candidate"


def test_an_entry_that_faults_explains_a_control_without_effect() -> None:
    op = Syscall("mkdir", MKDIR.args, abi=Abi.I386, entry=Entry.SYSENTER, decisive=True)
    found = classify("not run", control=arm(started(), wait_status=11), what=variant(program(op)))
    assert found.outcome is Outcome.UNSUPPORTED
    assert "sysenter from 64-bit code ends in signal 11" in (found.reason or "")


@pytest.mark.parametrize(
    ("control", "said"),
    [
        (arm(returned(-13)), "mkdir answered EACCES"),
        (arm(started(), wait_status=11), "died in operation 0"),
        (arm(returned(0)), "no effect in the control arm"),
        ("setup EPERM", "control arm: setup EPERM"),
    ],
)
def test_a_control_that_fails_without_a_probed_cause_is_ours(
    control: Result | str, said: str
) -> None:
    found = classify("not run", control=control)
    assert found.outcome is Outcome.HARNESS_ERROR
    assert said in (found.reason or "")


def test_what_the_filter_would_let_pass_elsewhere_is_marked() -> None:
    for under, elsewhere in ((NO_MKDIR, False), (terms(answers([1], EPERM)), True)):
        found = classify("not run", control=arm(returned(-38)), under=under)
        assert found.outcome is Outcome.UNSUPPORTED
        assert found.reachable_elsewhere is elsewhere


def test_a_need_that_is_lacking_does_not_hide_an_effect() -> None:
    found = classify(arm(returned(0), filters=1, after=MADE), unmet="kernel: no such thing")
    assert found.outcome is Outcome.BYPASSED


def test_a_sentinel_that_answers_for_a_call_that_the_kernel_lacks_is_no_effect() -> None:
    what = variant(guarded=True)
    found = classify(
        arm(returned(0), filters=1, after=MADE), what=what, unmet="kernel: no such thing"
    )
    assert (found.outcome, found.reason) == (Outcome.UNSUPPORTED, "kernel: no such thing")
    assert (found.control_effect, found.mitigated_effect) == (None, None)


def test_a_negative_control_is_never_evidence() -> None:
    what = variant(negative=True)
    found = classify("not run", control=arm(returned(0)), what=what)
    assert found.outcome is Outcome.UNSUPPORTED
    assert not found.reachable_elsewhere
    found = classify("not run", what=what)
    assert found.outcome is Outcome.HARNESS_ERROR
    assert found.reason == "negative control: it reached the effect"


# ------------------------------------------------------------------ hostile subjects, routes


def test_a_subject_that_overwrites_its_trace_hides_no_effect_and_makes_none() -> None:
    junk = Record(returned().state, 0x4141414141414141, (0x4141414141414141,) * 6)
    through = arm(junk, filters=1, after=MADE)
    assert classify(through).outcome is Outcome.BYPASSED
    held = classify(failed(junk))
    assert held.outcome is Outcome.DISAGREEMENT  # never BYPASSED, never dropped


def test_a_store_that_is_the_attack_is_never_blocked_by_seccomp() -> None:
    what = variant(program(Store(Addr(0), 0, 8, Const(1), decisive=True)))
    found = classify(failed(returned(0)), under=terms(answers_all(EPERM)), what=what)
    assert found.outcome is Outcome.INEFFECTIVE
    assert what.beyond_seccomp


def route(what: Program, under: Terms, control: Result | None = None) -> str:
    return outcome.route(what, control, under)


def test_two_ways_that_a_filter_cannot_tell_apart_are_one_route() -> None:
    other = program(MKDIR, texts=("other/t",))
    assert route(BY_PATH, NO_MKDIR) == route(other, NO_MKDIR) == "x86_64:mkdir"
    assert route(BY_FD, NO_MKDIR) == "x86_64:mkdirat"
    i386 = program(Syscall("mkdir", MKDIR.args, abi=Abi.I386, entry=Entry.INT80, decisive=True))
    assert route(i386, NO_MKDIR) == "i386:mkdir"


def test_what_is_denied_on_the_way_is_part_of_the_route() -> None:
    under = terms(answers([OPENAT_NR], EPERM))
    assert route(BY_FD, under) == "x86_64:mkdirat after x86_64:openat"


def test_each_step_shows_both_arms_and_the_filters_answer() -> None:
    found = classify(failed(returned(-1)))
    (step,) = found.steps
    assert (step.control, step.mitigated, step.filter) == ("0", "-1 EPERM", "ERRNO(EPERM)")
    assert step.decisive
    assert step.text.startswith('mkdir("d/t"')


def test_a_step_that_was_not_reached_is_not_judged() -> None:
    under = terms(answers([OPENAT_NR], EPERM))
    arms = failed(returned(-1), NOT_REACHED)
    found = classify(arms, control=WORKED_BY_FD, under=under, what=variant(BY_FD))
    assert [one.mitigated for one in found.steps] == ["-1 EPERM", None]
    assert [one.control for one in found.steps] == ["3", "0"]
