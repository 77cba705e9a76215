"""What the filters say of a program's calls: before the run, and on the arguments that ran."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from enum import Enum, auto

from msgspec import Struct

from attacks.family import Need, Variant
from attacks.program import EXECS, Abi, Operation, Program, Syscall, is_decisive
from evaluator.outline import (
    NOWHERE,
    Call,
    Outline,
    is_usual,
    outline,
    reaches,
    seen_as,
)
from evaluator.wire import Record, RecordState, Result, call_number
from mitigations import x86_64
from mitigations.bpf import Decision, Filter, decide_stack
from mitigations.classic import MAX_ERRNO, Action

SIGSYS = 31
DEPENDS = "DEPENDS"
_INSTRUCTION = 2
"""The size of ``syscall``."""
_ASKS = (Action.TRACE, Action.USER_NOTIF)
_TRACERS = (Action.TRACE, Action.TRAP)
_KILLS = (Action.KILL_PROCESS, Action.KILL_THREAD, Action.TRAP)


class Judged(Struct, frozen=True):
    """A call of the attack with the filters' decision on it."""

    slot: int
    op: Syscall
    decision: Decision
    asks: bool = False
    """The filters leave it to a supervisor, and the program is one itself."""
    in_body: bool = False
    """Whether a child, a thread or another image makes it."""


def decide(
    op: Syscall, args: Sequence[int | None], filters: Sequence[Filter], insn: int = 0
) -> Decision:
    """The decision on one call; ``None`` stands for an argument that is not known."""
    word = reaches(op)
    known = [None if arg is None else arg & word for arg in args]
    ip = insn + _INSTRUCTION if insn and is_usual(op) else None
    return decide_stack(filters, *seen_as(op), known, ip)


def decide_call(
    call: Call, args: Sequence[int | None], filters: Sequence[Filter], insn: int
) -> Decision:
    """The decision on a call of an outline, whose arguments have the bits that are passed on."""
    # A filter sees the address after the instruction; we know that of the usual one.
    ip = insn + _INSTRUCTION if insn and call.usual else None
    return decide_stack(filters, call.arch, call.nr, args, ip)


def decide_ran(call: Call, record: Record, filters: Sequence[Filter], insn: int) -> Decision:
    """The decision on a call with the arguments that it was made with."""
    args = [arg & call.word for arg in record.args]
    return decide_call(call, args, filters, insn)


def is_known(program: Program) -> bool:
    """Whether every call of a program has a number in its table."""
    calls = (op for _, op in program.flatten() if isinstance(op, Syscall))
    return all(x86_64.number(op.abi.value, op.name) is not None for op in calls)


def decisive_calls(program: Program) -> set[tuple[Abi, str]]:
    """ABI and name of the calls that cause the effect."""
    return {
        (op.abi, op.name)
        for section, op in program.flatten()
        if section == "attack" and isinstance(op, Syscall) and op.decisive
    }


def until_decisive(program: Program) -> list[Operation]:
    """The attack's operations up to the decisive one, which comes last."""
    found: list[Operation] = []
    for section, op in program.flatten():
        if section != "attack":
            continue
        found.append(op)
        if is_decisive(op):
            break
    return found


def judged(program: Program, result: Result, filters: Sequence[Filter], insn: int) -> list[Judged]:
    """Every call that the subject says it made, decided on the arguments that it says it used."""
    plan = outline(program)
    found: list[Judged] = []
    for call in plan.calls:
        record = result.records[call.slot]
        if record.state is not RecordState.NOT_REACHED:
            decision = decide_ran(call, record, filters, insn)
            asks = decision.action in _ASKS and _may_pass(plan, call, decision.action)
            found.append(Judged(call.slot, call.op, decision, asks, call.in_body))
    return found


def answer(decision: Decision, *, text: bool = True) -> str:
    """What the program got instead of its call, in words."""
    match decision.action:
        case Action.ERRNO:
            return errno_name(min(decision.data, MAX_ERRNO)) if decision.data else "0 (faked)"
        case Action.TRAP:
            return "SIGSYS (trapped)"
        case Action.TRACE:
            return "ENOSYS (no tracer)"
        case Action.USER_NOTIF:
            return "ENOSYS (no listener)"
        case Action.KILL_PROCESS | Action.KILL_THREAD:
            return "SIGSYS (killed)"
        case _:
            return decision.text if text else ""


def stopped(one: Judged, record: Record, result: Result) -> str | None:
    """What the filters answered instead of this call; ``None`` if they let it pass.

    Where that hangs on a word that nobody knows (the instruction pointer of an unusual entry), the
    kernel's answer tells: it is one that the filters could have given.
    """
    if one.asks and record.state is RecordState.DONE and record.error != errno.ENOSYS:
        return None
    if not one.decision.depends:
        return None if one.decision.allows else answer(one.decision)
    if record.state is RecordState.STARTED and result.signal == SIGSYS:
        return "SIGSYS (killed)"
    values = [value for value in one.decision.possible if value is not None]
    answers = {value & 0xFFFF for value in values if Action.of(value) is Action.ERRNO}
    return errno_name(record.error) if record.error and record.error in answers else None


def errno_name(number: int) -> str:
    return errno.errorcode.get(number, f"errno {number}")


def contradiction(one: Judged, record: Record, result: Result) -> str | None:
    """How the kernel's answer to a call differs from the simulator's; ``None`` if it does not."""
    decision = one.decision
    if decision.depends or one.asks:
        return None
    if decision.action is Action.TRAP and record.state is RecordState.DONE and _undone(one, record):
        return None
    if decision.action in _KILLS:
        # With other threads alive the process may live on: what counts is that it did not return.
        returned = record.state is not RecordState.STARTED
        return (
            f"{one.op.name}: simulated {decision.text}, but the call returned" if returned else None
        )
    # After an execve it is the new program that dies, of a call of its own; and who waits for a
    # thread of his (CLONE_VFORK) dies of one of that thread's.
    died = record.state is RecordState.STARTED and result.signal == SIGSYS and not result.timed_out
    if died and not one.in_body and not one.op.body and one.op.name not in EXECS:
        return f"{one.op.name}: simulated {decision.text}, but the kernel killed the subject"
    if decision.allows or record.state is not RecordState.DONE:
        return None
    expected = {Action.ERRNO: min(decision.data, MAX_ERRNO)}.get(
        decision.action or Action.ERRNO, errno.ENOSYS
    )
    got = record.error
    if got != expected or (not expected and record.result != 0):
        answered = errno_name(got) if got else record.result
        return f"{one.op.name}: simulated {decision.text}, but the kernel answered {answered}"
    return None


def _undone(one: Judged, record: Record) -> bool:
    """Whether a trapped call came back as it went: its SIGSYS was taken by a tracer or a handler.

    The kernel rolls the call back, so that its number is in the place of a result.
    """
    return record.result & 0xFFFFFFFF == call_number(one.op, x86_64.number)


class Foretold(Struct, frozen=True):
    """What the filters say of a program before it runs."""

    said: str
    """``BLOCKED``, ``BYPASSED`` or ``DEPENDS``."""
    may_kill: bool = False
    """Where it is blocked: whether by a death."""


class _Consequence(Enum):
    """What an answer of the filters does to a program."""

    STOPPED = auto()
    CHILD_ENDED = auto()
    UNSURE = auto()
    """It goes on, and what it does then hangs on what the call has or has not done."""
    NONE = auto()


def predicted(
    program: Program, filters: Sequence[Filter], control: Result | None, insn: int
) -> str:
    """``BLOCKED``, ``BYPASSED`` or ``DEPENDS``."""
    return foretold(program, filters, control, insn).said


def foretold(
    program: Program, filters: Sequence[Filter], control: Result | None, insn: int
) -> Foretold:
    """What the filters do to a program, call by call.

    The control's arguments stand for those of this run, up to the first call that does not simply
    pass: results are unknown from there on, and all of them if there is no control.
    """
    plan = outline(program)
    unsure_from = NOWHERE
    behind = 0
    for call in plan.calls:
        if call.slot < behind:  # whose part it was has ended
            continue
        decision = decide_call(call, _arguments(call, control, unsure_from), filters, insn)
        if decision.allows:
            continue
        what = _consequence(plan, call, decision)
        if what is _Consequence.STOPPED:
            return Foretold("BLOCKED", _may_kill(decision))
        if what is _Consequence.NONE:
            continue
        if what is _Consequence.CHILD_ENDED:
            behind = call.end
        unsure_from = min(unsure_from, call.slot)
    return Foretold("BYPASSED" if unsure_from == NOWHERE else DEPENDS)


def _arguments(call: Call, control: Result | None, unsure_from: int) -> Sequence[int | None]:
    """What is known of a call's arguments where results from one slot on are not."""
    if not call.late or control is None:
        return call.args
    record = control.records[call.slot]
    if record.state is RecordState.NOT_REACHED:
        return call.args
    args = list(call.args)
    for index, source in call.late:
        if source < unsure_from:
            args[index] = record.args[index] & call.word
    return args


def _consequence(plan: Outline, call: Call, decision: Decision) -> _Consequence:
    found = {_of_answer(plan, call, value) for value in decision.possible}
    return found.pop() if len(found) == 1 else _Consequence.UNSURE


def _of_answer(plan: Outline, call: Call, value: int | None) -> _Consequence:
    """What one value that the filters may return does, by where its call stands."""
    if value is None or _may_pass(plan, call, Action.of(value)):
        return _Consequence.UNSURE
    action = Action.of(value)
    if action.allows:
        return _Consequence.NONE
    if call.op.decisive:
        return _Consequence.STOPPED
    kills, fails = action in _KILLS, value != Action.ERRNO
    if call.slot > plan.decisive:
        return _afterwards(plan, call, kills=kills, fails=fails)
    if not kills and (call.op.may_fail or not fails):
        return _Consequence.UNSURE
    # A child's end leaves its parent, and the effect if that does not come in the child.
    if call.in_body and not plan.decisive < call.end:
        return _Consequence.CHILD_ENDED
    return _Consequence.STOPPED


def _afterwards(plan: Outline, call: Call, *, kills: bool, fails: bool) -> _Consequence:
    """What a denied call does to an effect whose cause comes before it.

    What is recorded behind the cause is there because there is no effect without it.
    """
    if kills:
        ends = call.needed or call.followed
        return _Consequence.STOPPED if ends else _Consequence.UNSURE
    # Who has not waited for somebody else may come too early, or end too early.
    if call.waits and not (call.needed and fails):
        return _Consequence.UNSURE if call.needed or plan.elsewhere else _Consequence.NONE
    return _Consequence.STOPPED if call.needed else _Consequence.NONE


def _may_pass(plan: Outline, call: Call, action: Action | None) -> bool:
    """Whether a supervisor may let a call go on, and the program is one itself."""
    traced = call.slot > plan.traced_from and call.op.name != "ptrace"
    heard = call.slot > plan.heard_from and call.op.name != "seccomp"
    # A tracer is told of the signal by which a call is trapped, and need not pass it on.
    return (traced and action in _TRACERS) or (heard and action in _ASKS)


def _may_kill(decision: Decision) -> bool:
    return any(value is None or Action.of(value) in _KILLS for value in decision.possible)


def of_variant(variant: Variant, foretold_: Foretold, filters: Sequence[Filter]) -> str:
    """What was foretold of its program, less what a program does not show."""
    # A death by the filter may write the core file as well as any other, were it in the end.
    if variant.core_file and foretold_.said == "BLOCKED":
        dies = foretold_.may_kill or not _passes(_ENDS, filters)
        return DEPENDS if dies else foretold_.said
    # What a shell or the loader calls on its way is not in the program.
    foreign = not variant.needs.isdisjoint(_MADE_BY_OTHERS)
    if foreign and foretold_.said == "BYPASSED" and not _passes(_FOREIGN, filters):
        return DEPENDS
    return foretold_.said


def _passes(names: Sequence[str], filters: Sequence[Filter]) -> bool:
    """Whether the filters allow these native calls, whatever their arguments are."""
    anything = (None,) * 6
    ops = (Syscall(name) for name in names)
    return all(decide_stack(filters, *seen_as(op), anything, None).allows for op in ops)


_MADE_BY_OTHERS = (Need.SHELL, Need.LOADER)
_ENDS = ("exit", "exit_group")
_FOREIGN = (
    *("access", "alarm", "arch_prctl", "brk", "chdir", "clock_getres", "clock_gettime"),
    *("clone", "clone3", "close", "close_range", "dup", "dup2", "dup3", "execve", "exit"),
    *("exit_group", "faccessat", "faccessat2", "fadvise64", "fcntl", "fork", "fstat", "fstatfs"),
    *("futex", "getcwd", "getdents64", "getegid", "geteuid", "getgid", "getgroups", "getpeername"),
    *("getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid"),
    *("getresuid", "getrlimit", "getrusage", "getsid", "gettid", "gettimeofday", "getuid"),
    *("ioctl", "lseek", "lstat", "madvise", "membarrier", "mmap", "mprotect", "mremap", "munmap"),
    *("nanosleep", "newfstatat", "open", "openat", "pipe", "pipe2", "poll", "ppoll", "prctl"),
    *("pread64", "prlimit64", "pselect6", "read", "readlink", "readlinkat", "restart_syscall"),
    *(
        "rseq",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "rt_sigsuspend",
        "sched_getaffinity",
    ),
    *("sched_yield", "select", "set_robust_list", "set_tid_address", "setpgid", "sigaltstack"),
    *("stat", "statfs", "statx", "sysinfo", "tgkill", "time", "umask", "uname", "vfork"),
    *("wait4", "waitid", "write", "writev"),
)
"""More than shells and loaders call on their way."""
