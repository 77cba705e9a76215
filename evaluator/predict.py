"""What the filters say of a program's calls: before the run, and on the arguments that ran."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from msgspec import Struct

from attacks.family import Need, Variant
from attacks.program import (
    EXECS,
    Abi,
    Add,
    Addr,
    Const,
    Entry,
    Env,
    Operation,
    Print,
    Program,
    Slot,
    Syscall,
    Value,
    executes,
    is_decisive,
    size_of,
    spawns,
)
from evaluator.wire import Record, RecordState, Result, call_number
from mitigations import x86_64
from mitigations.bpf import Decision, Filter, decide_stack
from mitigations.classic import MAX_ERRNO, Action

SIGSYS = 31
ARENA = 0x400000
"""Where runner.c maps the arena."""
DEPENDS = "DEPENDS"
_ASKS = (Action.TRACE, Action.USER_NOTIF)
_KILLS = (Action.KILL_PROCESS, Action.KILL_THREAD, Action.TRAP)


class Judged(Struct, frozen=True):
    """A call of the attack with the filters' decision on it."""

    slot: int
    op: Syscall
    decision: Decision
    asks: bool = False
    """The filters leave it to a supervisor, and the program is one itself."""


def decide(
    op: Syscall, args: Sequence[int | None], filters: Sequence[Filter], insn: int = 0
) -> Decision:
    """The decision on one call; ``None`` stands for an argument that is not known."""
    nr = call_number(op, x86_64.number)
    padded = [*args, *[0] * (6 - len(args))]
    if op.abi is Abi.I386:
        low = [None if arg is None else arg & 0xFFFFFFFF for arg in padded]
        return decide_stack(filters, x86_64.AUDIT_ARCH_I386, nr, low, None)
    # A filter sees the address after the instruction; we know that of the usual one.
    usual = op.entry is Entry.SYSCALL and not spawns(op)
    ip = insn + 2 if insn and usual else None
    return decide_stack(filters, x86_64.AUDIT_ARCH_X86_64, nr, padded, ip)


def is_known(program: Program) -> bool:
    """Whether every call of a program has a number in its table."""
    calls = (op for _, op in program.flatten() if isinstance(op, Syscall))
    return all(x86_64.number(op.abi.value, op.name) is not None for op in calls)


def supervises(program: Program) -> bool:
    """Whether a program may answer for itself what its filters ask somebody."""
    calls = (op.name for _, op in attack_ops(program) if isinstance(op, Syscall))
    return any(name in ("ptrace", "seccomp") for name in calls)


def decisive_calls(program: Program) -> set[tuple[Abi, str]]:
    """ABI and name of the calls that cause the effect."""
    return {
        (op.abi, op.name)
        for _, op in attack_ops(program)
        if isinstance(op, Syscall) and op.decisive
    }


def attack_ops(program: Program) -> list[tuple[int, Operation]]:
    """The attack's operations with their slots."""
    return [
        (slot, op) for slot, (section, op) in enumerate(program.flatten()) if section == "attack"
    ]


def until_decisive(program: Program) -> list[Operation]:
    """The attack's operations up to the decisive one, which comes last."""
    found: list[Operation] = []
    for _, op in attack_ops(program):
        found.append(op)
        if is_decisive(op):
            break
    return found


def judged(program: Program, result: Result, filters: Sequence[Filter], insn: int) -> list[Judged]:
    """Every call that the subject says it made, decided on the arguments that it says it used."""
    found: list[Judged] = []
    for slot, op in attack_ops(program):
        if isinstance(op, Syscall) and result.records[slot].state is not RecordState.NOT_REACHED:
            decision = decide(op, result.records[slot].args, filters, insn)
            asks = decision.action in _ASKS and supervises(program)
            found.append(Judged(slot, op, decision, asks))
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


def contradiction(one: Judged, record: Record, result: Result, *, in_body: bool) -> str | None:
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
    if died and not in_body and not one.op.body and one.op.name not in EXECS:
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


def bodies(program: Program) -> frozenset[int]:
    """Slots of operations inside children and threads."""
    return _below(program, lambda op: isinstance(op, Syscall) and bool(op.body))


def in_images(program: Program) -> frozenset[int]:
    """Slots of what an executed file does: its calls come from elsewhere and are in no trace."""
    return _below(program, executes)


def _below(program: Program, chosen: Callable[[Operation], bool]) -> frozenset[int]:
    """Slots of the bodies of the chosen operations."""
    inside: set[int] = set()
    for slot, (_, op) in enumerate(program.flatten()):
        if chosen(op):
            inside.update(range(slot + 1, slot + size_of(op)))
    return frozenset(inside)


def predicted(
    program: Program, filters: Sequence[Filter], control: Result | None, insn: int
) -> str:
    """``BLOCKED``, ``BYPASSED`` or ``DEPENDS``: the filters on the control's arguments.

    What a denied call would have returned is known (its errno, or the faked 0); what hangs on it
    further on is unknown, and so is every result if there is no control.
    """
    known: dict[int, int | None] = {}
    uncertain = False
    layout = program.layout()
    elsewhere = in_images(program)
    ops = attack_ops(program)
    asks = supervises(program)
    bodies_end: list[int] = []
    at = 0

    def decision_on(slot: int, op: Syscall) -> Decision:
        args = [
            _argument(value, index, slot, known, layout, control)
            for index, value in enumerate(op.args)
        ]
        return decide(op, args, filters, 0 if slot in elsewhere else insn)

    while at < len(ops):
        slot, op = ops[at]
        at += 1
        while bodies_end and at > bodies_end[-1]:
            bodies_end.pop()
        if not isinstance(op, Syscall):
            if isinstance(op, Add) and any(_unknown(value, known) for value in (op.a, op.b)):
                known[slot] = None
            if isinstance(op, Print) and _unknown(op.value, known):
                uncertain = True
            if is_decisive(op):
                return DEPENDS if uncertain else "BYPASSED"
            continue
        decision = decision_on(slot, op)
        if decision.depends:
            return DEPENDS
        if asks and decision.action in _ASKS:  # its own supervisor may let it pass
            if op.decisive:
                return DEPENDS
            known[slot] = None
            uncertain = True
        elif not decision.allows:
            if op.decisive:
                return "BLOCKED"
            if _ends(op, decision):
                # Only a child has ended, unless it was not in one: its parent goes on.
                end = bodies_end[-1] if bodies_end else len(ops)
                if any(is_decisive(other) for _, other in ops[at:end]) or not bodies_end:
                    return "BLOCKED"
                at, uncertain = end, True
                continue
            known[slot] = None if _fails(decision) else 0
            uncertain = True
        if op.decisive:
            # A supervisor has to do its part after that.
            rest = [(n, one) for n, one in ops[at:] if isinstance(one, Syscall)] if asks else []
            sure = not uncertain and all(decision_on(*one).allows for one in rest)
            return "BYPASSED" if sure else DEPENDS
        if op.body:
            bodies_end.append(at + size_of(op) - 1)
    return DEPENDS if uncertain else "BYPASSED"


def of_variant(variant: Variant, said: str) -> str:
    """What was predicted of its program, less what a program does not show."""
    # A death by the filter writes the core file as well as any other.
    if variant.core_file and said == "BLOCKED":
        return DEPENDS
    # What a shell or the loader calls on its way is not in the program.
    foreign = variant.needs & {Need.SHELL, Need.LOADER}
    return DEPENDS if foreign and said == "BYPASSED" else said


def _fails(decision: Decision) -> bool:
    """Whether a denied call returns an error."""
    return decision.action is not Action.ERRNO or decision.data > 0


def _ends(op: Syscall, decision: Decision) -> bool:
    """Whether whoever makes a call that is denied comes to an end by that."""
    return decision.action in _KILLS or (_fails(decision) and not op.may_fail)


def _unknown(value: Value, known: dict[int, int | None]) -> bool:
    return isinstance(value, Slot) and value.index in known


def constant(value: Value, layout: Sequence[int]) -> int | None:
    """What is known of an operand without a run: a number, an address in the arena."""
    match value:
        case Const():
            return value.value & ((1 << 64) - 1)
        case Addr():
            return ARENA + layout[value.blob] + value.offset
        case _:
            return None


def _argument(
    value: Value,
    index: int,
    slot: int,
    known: dict[int, int | None],
    layout: Sequence[int],
    control: Result | None,
) -> int | None:
    match value:
        case Const() | Addr():
            return constant(value, layout)
        case Slot() if value.index in known:
            return known[value.index]
        case Slot() | Env():
            if control is None or control.records[slot].state is RecordState.NOT_REACHED:
                return None
            return control.records[slot].args[index]
