"""What filters will see of an attack's calls, as far as it is known before any run.

It hangs on the program alone and is found once for each: every candidate asks about the same calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from msgspec import Struct

from attacks.program import (
    Abi,
    Addr,
    Const,
    Entry,
    Env,
    Environment,
    Operation,
    Program,
    Slot,
    Store,
    Syscall,
    Value,
    executes,
    is_decisive,
    size_of,
    spawns,
)
from evaluator.wire import call_number
from mitigations import x86_64

ARENA = 0x400000
"""Where runner.c maps the arena."""
_WORD, _LOW = (1 << 64) - 1, (1 << 32) - 1
_ARGUMENTS = 6
_JUDGE = -1
NOWHERE = 1 << 31
"""Behind every slot."""
_WAITS = frozenset({"wait4", "waitid", "waitpid", "io_getevents"})


class Call(Struct, frozen=True, gc=False):
    """A call of an attack, as a filter sees it."""

    slot: int
    op: Syscall
    arch: int
    nr: int
    args: tuple[int | None, ...]
    """All six; None where only a run can tell."""
    late: tuple[tuple[int, int], ...]
    """For those: which argument, and the slot whose result it is; a negative one is the judge's."""
    word: int
    """The bits of an argument that reach the kernel through this table."""
    usual: bool
    """Whether the address of its instruction is that of the runner's usual one."""
    end: int
    """The slot behind the body that it is in; ``NOWHERE`` if it is in none."""
    needed: bool
    """Whether the effect needs it, should its cause come before it."""
    followed: bool
    """Whether something needed comes after it."""

    @property
    def in_body(self) -> bool:
        return self.end != NOWHERE

    @property
    def waits(self) -> bool:
        """Whether it only waits for what is under way."""
        return self.op.name in _WAITS


class Outline(Struct, frozen=True, gc=False):
    """All calls of an attack, in the order of their slots."""

    calls: tuple[Call, ...]
    decisive: int
    """The slot of the operation that causes the effect."""
    by_store: bool
    """Whether that one is a store to memory."""
    elsewhere: bool
    """Whether that one makes, or is made by, another process or thread than the first."""
    traced_from: int
    """From this slot on the program may be traced by itself."""
    heard_from: int
    """From this slot on it may have a listener of its own."""

    @property
    def supervised(self) -> bool:
        """Whether it may answer for itself what filters ask somebody."""
        return min(self.traced_from, self.heard_from) != NOWHERE


@cache
def outline(program: Program) -> Outline:
    """What is known of a program's attack."""
    ops = attack_ops(program)
    layout = program.layout()
    made = [(slot, op) for slot, op in ops if isinstance(op, Syscall)]
    with_body = [(slot, op) for slot, op in made if op.body]
    children, images = _ends(with_body, spawns), _ends(with_body, executes)
    calls: list[Call] = []
    followed = False
    for slot, op in reversed(made):
        end = min(children.get(slot, NOWHERE), images.get(slot, NOWHERE))
        call = _call(slot, op, layout, end, image=slot in images, followed=followed)
        calls.append(call)
        followed = followed or call.needed
    decisive = _first(slot for slot, op in ops if is_decisive(op))
    return Outline(
        calls=tuple(reversed(calls)),
        decisive=decisive,
        by_store=any(isinstance(op, Store) and op.decisive for _, op in ops),
        elsewhere=decisive in children or any(op.decisive and spawns(op) for _, op in with_body),
        traced_from=_first(slot for slot, op in made if _traces_itself(op)),
        heard_from=_first(slot for slot, op in made if op.name == "seccomp"),
    )


def attack_ops(program: Program) -> list[tuple[int, Operation]]:
    """The attack's operations with their slots."""
    return [
        (slot, op) for slot, (section, op) in enumerate(program.flatten()) if section == "attack"
    ]


def seen_as(op: Syscall) -> tuple[int, int]:
    """``arch`` and ``nr``, as a filter sees them."""
    return _in_table(op.abi, op.name)


@cache
def _in_table(abi: Abi, name: str) -> tuple[int, int]:
    return x86_64.arch(abi.value), call_number(Syscall(name, abi=abi), x86_64.number)


def reaches(op: Syscall) -> int:
    """The bits of an argument that reach the kernel through a call's table."""
    return _LOW if op.abi is Abi.I386 else _WORD


def is_usual(op: Syscall) -> bool:
    """Whether the runner makes a call by the one instruction whose address is known."""
    return op.entry is Entry.SYSCALL and not spawns(op)


def constant(value: Value, layout: Sequence[int]) -> int | None:
    """What is known of an operand without a run: a number, an address in the arena."""
    match value:
        case Const():
            return value.value & _WORD
        case Addr():
            return ARENA + layout[value.blob] + value.offset
        case _:
            return None


def known_args(op: Syscall, layout: Sequence[int]) -> list[int | None]:
    """A call's arguments as far as they are known without a run; None for the others."""
    return [constant(value, layout) for value in op.args]


def _call(
    slot: int, op: Syscall, layout: Sequence[int], end: int, *, image: bool, followed: bool
) -> Call:
    arch, nr = seen_as(op)
    word = reaches(op)
    args: list[int | None] = []
    late: list[tuple[int, int]] = []
    for index, value in enumerate(op.args):
        known = constant(value, layout)
        args.append(None if known is None else known & word)
        if known is None:
            late.append((index, value.index if isinstance(value, Slot) else _JUDGE))
    return Call(
        slot=slot,
        op=op,
        arch=arch,
        nr=nr,
        args=(*args, *[0] * (_ARGUMENTS - len(args))),
        late=tuple(late),
        word=word,
        usual=is_usual(op) and not image,
        end=end,
        needed=not op.may_fail and (followed or op.name not in _WAITS),
        followed=followed,
    )


def _ends(
    ops: Sequence[tuple[int, Syscall]], chosen: Callable[[Operation], bool]
) -> Mapping[int, int]:
    """For each slot in a body of the chosen operations: the slot behind the innermost of them."""
    ends: dict[int, int] = {}
    for slot, op in ops:
        if chosen(op):
            end = slot + size_of(op)
            ends.update(dict.fromkeys(range(slot + 1, end), end))
    return ends


def _traces_itself(op: Syscall) -> bool:
    """Whether it makes a tracer of a process of the program's own: not of the victim."""
    return op.name == "ptrace" and Env(Environment.VICTIM_PID) not in op.args


def _first(slots: Iterable[int]) -> int:
    return next(iter(slots), NOWHERE)
