"""What filters say of a program: before the run, and on what ran; and when the kernel differs."""

from typing import Any

import pytest

from attacks.effects import Effect, EffectKind, Grade
from attacks.family import Assumption, Need, Technique, Variant
from attacks.program import (
    Abi,
    Addr,
    Call,
    Const,
    Entry,
    Env,
    Environment,
    Fault,
    Print,
    Program,
    Slot,
    Store,
    Syscall,
)
from evaluator import predict
from evaluator.outline import ARENA
from evaluator.wire import Record, Result
from mitigations.bpf import Filter

from engine import (
    EPERM,
    FAKED,
    KILL,
    KILL_THREAD,
    LOG,
    NOTIFY,
    TRACE,
    TRAP,
    answers,
    answers_all,
    instructions,
    program,
)
from results import NOT_REACHED, arm, returned, started

MKDIR_NR, OPENAT_NR, MKDIRAT_NR = 83, 257, 258
MKDIR = Syscall("mkdir", (Addr(0), Const(0o755)), decisive=True)
OPEN = Syscall("openat", (Const(-100), Addr(0), Const(0)))
AT = Syscall("mkdirat", (Slot(0), Addr(0), Const(0o755)), decisive=True)
RET_ALLOW = (6, 0, 0, 0x7FFF0000)


def denies(*numbers: int, action: int = EPERM) -> list[Filter]:
    return [Filter.decode(answers(numbers, action))]


def denies_if_argument(number: int, index: int, value: int) -> list[Filter]:
    """EPERM where the low word of that argument is ``value``."""
    rows = (
        (0x20, 0, 0, 0),
        (0x15, 0, 3, number),
        (0x20, 0, 0, 16 + 8 * index),
        (0x15, 0, 1, value),
        (6, 0, 0, EPERM),
        RET_ALLOW,
    )
    return [Filter.decode(instructions(*rows))]


def predicted(what: Program, filters: list[Filter], control: Result | None = None) -> str:
    return predict.predicted(what, filters, control, 0)


# ------------------------------------------------------------------ before the run


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], "BYPASSED"),
        (denies(OPENAT_NR), "BYPASSED"),
        (denies(MKDIR_NR), "BLOCKED"),
        (denies(MKDIR_NR, action=FAKED), "BLOCKED"),
        (denies(MKDIR_NR, action=TRACE), "BLOCKED"),
        (denies(MKDIR_NR, action=LOG), "BYPASSED"),
        ([*denies(OPENAT_NR), *denies(MKDIR_NR)], "BLOCKED"),
    ],
)
def test_a_single_call(filters: list[Filter], expected: str) -> None:
    assert predicted(program(MKDIR), filters) == expected


@pytest.mark.parametrize(
    ("action", "may_fail", "expected"),
    [
        (EPERM, False, "BLOCKED"),  # the program stops there
        (EPERM, True, "DEPENDS"),  # it goes on, and what it does then hangs on what it has
        (FAKED, False, "DEPENDS"),
        (TRACE, False, "BLOCKED"),
        (KILL, True, "BLOCKED"),
        (KILL_THREAD, True, "BLOCKED"),
        (TRAP, True, "BLOCKED"),
    ],
)
def test_a_denied_prerequisite(action: int, may_fail: bool, expected: str) -> None:
    first = Syscall("openat", OPEN.args, may_fail=may_fail)
    assert predicted(program(first, AT), denies(OPENAT_NR, action=action)) == expected


@pytest.mark.parametrize("action", [EPERM, FAKED, KILL, TRAP, TRACE])
def test_what_follows_the_cause_is_needed(action: int) -> None:
    what = program(MKDIR, OPEN)
    assert predicted(what, denies(OPENAT_NR, action=action)) == "BLOCKED"


@pytest.mark.parametrize(("action", "expected"), [(EPERM, "BYPASSED"), (KILL, "DEPENDS")])
def test_what_may_fail_after_the_cause_is_not(action: int, expected: str) -> None:
    what = program(MKDIR, Syscall("openat", OPEN.args, may_fail=True))
    assert predicted(what, denies(OPENAT_NR, action=action)) == expected


WAIT4_NR = 61
WAIT = Syscall("wait4", (Slot(0),))


@pytest.mark.parametrize(
    ("what", "action", "expected"),
    [
        (program(MKDIR, WAIT), EPERM, "BYPASSED"),
        (program(MKDIR, WAIT), KILL, "DEPENDS"),  # is the effect one that survives?
        (program(MKDIR, WAIT, OPEN), EPERM, "BLOCKED"),  # it does not come to what follows
        (program(MKDIR, WAIT, OPEN), FAKED, "DEPENDS"),
        # Who does not wait for a child may end before it has done its part.
        (program(Syscall("fork", body=(MKDIR,)), WAIT), EPERM, "DEPENDS"),
        (program(Syscall("fork", body=(MKDIR,)), WAIT), FAKED, "DEPENDS"),
    ],
)
def test_who_only_waits_is_not_needed(what: Program, action: int, expected: str) -> None:
    assert predicted(what, denies(WAIT4_NR, action=action)) == expected


def test_a_child_that_ends_takes_only_its_own_part_along() -> None:
    helper = Syscall("fork", body=(OPEN,))
    assert predicted(program(helper, MKDIR), denies(OPENAT_NR)) == "DEPENDS"
    assert predicted(program(helper, MKDIR), denies(OPENAT_NR, MKDIR_NR)) == "BLOCKED"
    assert predicted(program(Syscall("fork", body=(OPEN, MKDIR))), denies(OPENAT_NR)) == "BLOCKED"


def test_an_unknown_answer_before_a_sure_one_changes_nothing() -> None:
    what = program(OPEN, Syscall("fchdir", (Slot(0),)), MKDIR)
    if_seven = denies_if_argument(81, 0, 7)
    assert predicted(what, if_seven) == "DEPENDS"
    assert predicted(what, [*if_seven, *denies(MKDIR_NR)]) == "BLOCKED"


def test_after_a_denied_call_the_controls_results_are_not_those_of_the_run() -> None:
    before = Syscall("open", (Addr(0),), may_fail=True)
    at = Syscall("mkdirat", (Slot(1), Addr(0), Const(0o755)), decisive=True)
    what = program(before, OPEN, at)
    control = arm(returned(3), returned(7), returned(0, 7, 0, 0o755))
    unless_seven = denies_if_argument(MKDIRAT_NR, 0, 7)
    assert predicted(what, unless_seven, control) == "BLOCKED"
    assert predicted(what, [*unless_seven, *denies(2)], control) == "DEPENDS"


# ------------------------------------------------------------------ its own supervisor

TRACEME = Syscall("ptrace", (Const(0), Const(0)))
LISTENER = Syscall("seccomp", (Const(1), Const(8), Addr(0)))


@pytest.mark.parametrize(
    ("supervisor", "action", "expected"),
    [
        (TRACEME, TRACE, "DEPENDS"),
        (TRACEME, TRAP, "DEPENDS"),  # a tracer need not pass on the signal
        (TRACEME, NOTIFY, "BLOCKED"),
        (LISTENER, TRACE, "DEPENDS"),
        (LISTENER, NOTIFY, "DEPENDS"),
        (LISTENER, TRAP, "BLOCKED"),
    ],
)
def test_a_supervisor_of_ones_own_may_let_a_call_pass(
    supervisor: Syscall, action: int, expected: str
) -> None:
    assert predicted(program(supervisor, MKDIR), denies(MKDIR_NR, action=action)) == expected


def test_nobody_answers_before_there_is_a_supervisor() -> None:
    assert predicted(program(OPEN, TRACEME, AT), denies(OPENAT_NR, action=TRACE)) == "BLOCKED"
    assert predicted(program(TRACEME, MKDIR), denies(101, action=TRACE)) == "BLOCKED"
    attach = Syscall("ptrace", (Const(16), Env(Environment.VICTIM_PID)))  # it is not the own one
    assert predicted(program(attach, MKDIR), denies(MKDIR_NR, action=TRACE)) == "BLOCKED"


# ------------------------------------------------------------------ what a program does not show


def of_variant(filters: list[Filter], **changes: Any) -> str:
    one = Variant(
        id="create-directory/it",
        family="create-directory",
        technique=Technique.BASELINE,
        assumption=Assumption.NONE,
        grade=Grade.EXACT,
        program=program(MKDIR),
        effect=Effect(EffectKind.DIRECTORY),
        objects=(),
        why="It may get through.",
        **changes,
    )
    return predict.of_variant(one, predict.foretold(one.program, filters, None, 0), filters)


@pytest.mark.parametrize(
    ("denied", "expected"),
    [
        (denies(MKDIR_NR), "BLOCKED"),
        (denies(MKDIR_NR, action=KILL), "DEPENDS"),
        ([*denies(MKDIR_NR), *denies(231, action=KILL)], "DEPENDS"),  # it dies in the end
        (denies(OPENAT_NR), "BYPASSED"),
    ],
)
def test_a_death_by_the_filter_may_leave_a_core_file(denied: list[Filter], expected: str) -> None:
    assert of_variant(denied, core_file=True) == expected


@pytest.mark.parametrize("need", [Need.SHELL, Need.LOADER])
def test_what_a_shell_calls_matters_where_a_filter_denies_such_calls(need: Need) -> None:
    assert of_variant(denies(165), needs=frozenset({need})) == "BYPASSED"  # mount
    assert of_variant(denies(OPENAT_NR), needs=frozenset({need})) == "DEPENDS"
    assert of_variant(denies(MKDIR_NR), needs=frozenset({need})) == "BLOCKED"


def test_setup_and_victim_are_not_filtered() -> None:
    what = program(MKDIR, setup=(OPEN,))
    assert predicted(what, denies(OPENAT_NR)) == "BYPASSED"


def test_an_unknown_result_matters_only_where_a_filter_looks_at_it() -> None:
    what = program(OPEN, AT)
    assert predicted(what, denies_if_argument(MKDIRAT_NR, 0, 7)) == "DEPENDS"
    assert predicted(what, denies_if_argument(MKDIRAT_NR, 2, 0o755)) == "BLOCKED"
    assert predicted(what, denies_if_argument(MKDIRAT_NR, 2, 0)) == "BYPASSED"
    assert predicted(what, denies(MKDIRAT_NR)) == "BLOCKED"


def test_the_controls_results_stand_for_unknown_ones() -> None:
    what = program(OPEN, AT)
    filters = denies_if_argument(MKDIRAT_NR, 0, 7)
    for dirfd, expected in ((7, "BLOCKED"), (8, "BYPASSED")):
        control = arm(returned(dirfd), returned(0, dirfd, 0, 0o755))
        assert predicted(what, filters, control) == expected
    control = arm(returned(-2), NOT_REACHED)
    assert predicted(what, filters, control) == "DEPENDS"


def test_a_value_from_the_judge_is_unknown() -> None:
    call = Syscall("mkdirat", (Env(Environment.VICTIM_PID), Addr(0)), decisive=True)
    assert predicted(program(call), denies_if_argument(MKDIRAT_NR, 0, 7)) == "DEPENDS"


def test_an_address_is_known_in_advance() -> None:
    what = program(MKDIR)
    assert predicted(what, denies_if_argument(MKDIR_NR, 0, ARENA)) == "BLOCKED"


@pytest.mark.parametrize(
    "op",
    [
        Store(Addr(0), 0, 8, Const(0), decisive=True),
        Fault(decisive=True),
        Call(Addr(0), decisive=True),
    ],
    ids=["store", "fault", "call"],
)
def test_what_is_no_call_gets_through_anything(op: Store | Fault | Call) -> None:
    assert predicted(program(op), [Filter.decode(answers_all(KILL))]) == "BYPASSED"


def test_a_path_printed_from_an_unknown_result_is_uncertain() -> None:
    may_fail = Syscall("openat", OPEN.args, may_fail=True)
    what = program(may_fail, Print(Addr(0), Slot(0)), MKDIR)
    assert predicted(what, denies(OPENAT_NR)) == "DEPENDS"


# ------------------------------------------------------------------ what a filter sees

X86_64, I386 = 0xC000003E, 0x40000003


def denies_word(offset: int, value: int) -> list[Filter]:
    """EPERM where that word of seccomp_data has that value."""
    rows = ((0x20, 0, 0, offset), (0x15, 0, 1, value), (6, 0, 0, EPERM), RET_ALLOW)
    return [Filter.decode(instructions(*rows))]


@pytest.mark.parametrize(
    ("abi", "entry", "number", "arch"),
    [
        (Abi.X86_64, Entry.SYSCALL, 83, X86_64),
        (Abi.X32, Entry.SYSCALL, 83 | 0x40000000, X86_64),
        (Abi.I386, Entry.INT80, 39, I386),
        (Abi.I386, Entry.SYSENTER, 39, I386),
        (Abi.I386, Entry.FAR_INT80, 39, I386),
    ],
)
def test_the_abi_decides_what_the_filter_sees(
    abi: Abi, entry: Entry, number: int, arch: int
) -> None:
    op = Syscall("mkdir", MKDIR.args, abi=abi, entry=entry)
    for filters in (denies_word(0, number), denies_word(4, arch)):
        assert not predict.decide(op, [0, 0], filters).allows
    assert predict.decide(op, [0, 0], denies_word(4, arch ^ 1)).allows


def test_i386_arguments_have_32_bits() -> None:
    op = Syscall("mkdir", MKDIR.args, abi=Abi.I386, entry=Entry.INT80)
    upper = denies_word(28, 1)  # the upper word of the second argument
    assert predict.decide(op, [0, 1 << 32], upper).allows
    assert not predict.decide(MKDIR, [0, 1 << 32], upper).allows


def test_a_filter_sees_the_address_after_the_instruction() -> None:
    assert not predict.decide(MKDIR, [0, 0], denies_word(8, 0x1002), insn=0x1000).allows
    assert predict.decide(MKDIR, [0, 0], denies_word(8, 0x1000), insn=0x1000).allows


# ------------------------------------------------------------------ against the kernel


def contradiction(action: int, record: Record, **changes: object) -> str | None:
    what = program(MKDIR)
    result = arm(record, filters=1, **changes)
    (one,) = predict.judged(what, result, [Filter.decode(answers_all(action))], 0)
    return predict.contradiction(one, record, result)


@pytest.mark.parametrize(
    ("action", "record", "signal"),
    [
        (EPERM, returned(-1), 0),
        (0x50000 | 5000, returned(-4095), 0),  # the kernel knows no larger errno
        (FAKED, returned(0), 0),
        (TRACE, returned(-38), 0),
        (NOTIFY, returned(-38), 0),
        (TRAP, started(), 31),
        (KILL, started(), 31),
        (KILL_THREAD, started(), 31),
        (LOG, returned(0), 0),
        (LOG, returned(-17), 0),
        (LOG, started(), 9),  # something else killed it
    ],
)
def test_the_kernel_did_what_the_simulator_says(action: int, record: Record, signal: int) -> None:
    assert contradiction(action, record, wait_status=signal) is None


@pytest.mark.parametrize(
    ("action", "record", "signal", "said"),
    [
        (EPERM, returned(0), 0, "ERRNO(EPERM), but the kernel answered 0"),
        (EPERM, returned(-13), 0, "but the kernel answered EACCES"),
        (FAKED, returned(3), 0, "ERRNO(0), but the kernel answered 3"),
        (FAKED, returned(-1), 0, "but the kernel answered EPERM"),
        (TRACE, returned(-1), 0, "but the kernel answered EPERM"),
        (EPERM, started(), 31, "but the kernel killed the subject"),
        (LOG, started(), 31, "but the kernel killed the subject"),
        (KILL, returned(0), 0, "KILL_PROCESS, but the call returned"),
        (TRAP, returned(-1), 0, "TRAP, but the call returned"),
    ],
)
def test_the_kernel_did_something_else(action: int, record: Record, signal: int, said: str) -> None:
    assert said in (contradiction(action, record, wait_status=signal) or "")


def test_only_calls_of_the_attack_that_ran_are_judged() -> None:
    what = program(OPEN, MKDIR, AT, setup=(OPEN,))
    result = arm(returned(3), returned(4), started(), NOT_REACHED)
    found = predict.judged(what, result, [], 0)
    assert [(one.slot, one.op.name) for one in found] == [(1, "openat"), (2, "mkdir")]


def test_bodies_are_found_at_any_depth() -> None:
    inner = Syscall("fork", body=(MKDIR, OPEN))
    what = program(OPEN, Syscall("fork", body=(OPEN, inner)), MKDIR)
    result = arm(*[returned()] * 7)
    found = predict.judged(what, result, [], 0)
    assert [one.slot for one in found if one.in_body] == [2, 3, 4, 5]
