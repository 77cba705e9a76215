"""The attack program: straight-line operations over an arena and result slots.

A program has three sections that share one arena and one numbering of operations:

- ``setup`` runs in the subject's own posture *before* the candidate's layers are put on
  (only for variants whose assumption says that something was opened or prepared earlier);
- ``victim`` runs in the victim process, unfiltered, before the attack starts;
- ``attack`` runs under the candidate.

Every operation has a *slot*: its index when the three sections are flattened in the order setup,
victim, attack, bodies included, in pre-order.  The result of an operation is the value of its
slot, so ``Slot(3)`` is "what operation 3 returned".  There are no loops and no branches: what is
recorded is what runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import cache, cached_property
from operator import attrgetter
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

MAX_OPERATIONS = 512
ARENA_SIZE = 256 * 1024
MAX_DEPTH = 4
EXECS = ("execve", "execveat")


class Abi(StrEnum):
    """The system call table that a call goes through; a filter sees it as ``arch`` and ``nr``."""

    X86_64 = "x86_64"
    I386 = "i386"
    X32 = "x32"


class Entry(StrEnum):
    """How a program enters the kernel; the last three all show as AUDIT_ARCH_I386."""

    SYSCALL = "syscall"
    WIDE_SYSCALL = "wide-syscall"
    """``syscall`` with garbage in the upper half of rax, which the kernel drops before a filter
    looks."""
    INT80 = "int80"
    SYSENTER = "sysenter"
    FAR_INT80 = "far-int80"


class Environment(StrEnum):
    """Values that only the judge knows, when the trial starts."""

    VICTIM_PID = "victim_pid"
    SUBJECT_PID = "subject_pid"
    VICTIM_HOOK = "victim_hook"
    """Address of a function that the victim calls again and again."""
    SYSCALL_INSN = "syscall_insn"
    """Address of a ``syscall`` instruction in the runner's own text."""
    HANDLER = "handler"
    """Address of a signal handler that stores its signal's number at ``CAUGHT``."""
    RESTORER = "restorer"
    """Address of the ``sa_restorer`` that a handler needs: it calls rt_sigreturn."""
    CAUGHT = "caught"
    """Address of the 32-bit word that the handler writes."""
    SECRET = "secret"  # noqa: S105 - nothing of ours
    """Address of a page that each process has of its own; the victim's begins with the secret."""
    ID_OFFSET = "id_offset"
    """What makes a user or group id that the witness sees the subject's: -1, or 0 where no user
    namespace is between them."""


class Const(Struct, frozen=True, eq=False):
    """A 64-bit constant; ``text`` is how a person writes it (``O_CREAT|O_WRONLY``)."""

    value: int
    text: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


class Addr(Struct, frozen=True):
    """The address of a blob of the arena, plus an offset."""

    blob: int
    offset: int = 0


class Slot(Struct, frozen=True):
    """The result of an earlier operation."""

    index: int


class Env(Struct, frozen=True):
    """A value from the judge."""

    name: Environment


Value = Const | Addr | Slot | Env


class Syscall(Struct, frozen=True, eq=False):
    """One raw system call.

    The program stops at the first call that returns an error, unless ``may_fail``.  With a ``body``
    the call creates a process or thread: where it returns 0 the body runs and then ends,
    elsewhere the program goes on after the body.  The body of an ``execve`` is what the executed
    file does, with memory and results of its own.  ``opcode`` names the io_uring operations that an
    ``io_uring_enter`` submits, so that a trace can show them.
    """

    name: str
    args: tuple[Value, ...] = ()
    abi: Abi = Abi.X86_64
    entry: Entry = Entry.SYSCALL
    decisive: bool = False
    may_fail: bool = False
    body: tuple[Operation, ...] = ()
    opcode: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Syscall) and _what_runs(self) == _what_runs(other)

    def __hash__(self) -> int:
        return hash(_what_runs(self))


_what_runs = attrgetter("name", "args", "abi", "entry", "decisive", "may_fail", "body")


class Load(Struct, frozen=True):
    """slot = the ``width`` bytes at ``address + offset``, zero-extended."""

    address: Value
    offset: int = 0
    width: int = 8


class Store(Struct, frozen=True):
    """The low ``width`` bytes of ``value`` go to ``address + offset``.

    ``decisive`` where a store is the attack.
    """

    address: Value
    offset: int
    width: int
    value: Value
    decisive: bool = False


class Add(Struct, frozen=True):
    """slot = a + b, modulo 2**64."""

    a: Value
    b: Value


class Copy(Struct, frozen=True):
    """``size`` bytes go from ``source`` to ``address``; ``decisive`` where that is the attack."""

    address: Value
    source: Value
    size: Value
    decisive: bool = False


class Compare(Struct, frozen=True):
    """slot = 1 if the ``size`` bytes at ``a`` and ``b`` are the same, else 0."""

    a: Value
    b: Value
    size: Value


class Find(Struct, frozen=True):
    """slot = where the bytes ``wanted`` first are among ``size`` bytes at ``address``, or -1."""

    address: Value
    size: Value
    wanted: Value
    wanted_size: Value


class Print(Struct, frozen=True):
    """``value`` in decimal goes to ``address``, then the text at ``suffix``, then a NUL."""

    address: Value
    value: Value
    suffix: Value = Const(0)


class Wait(Struct, frozen=True):
    """Spins until the 32-bit word at ``address + offset`` is not ``value``, for ``bound_us``."""

    address: Value
    offset: int = 0
    value: Value = Const(0)
    bound_us: int = 200_000


class Call(Struct, frozen=True):
    """Calls the code at ``address``; ``decisive`` where running it is the attack."""

    address: Value
    decisive: bool = False


class Expect(Struct, frozen=True):
    """Stops the program unless ``value & mask == equals``."""

    value: Value
    mask: int
    equals: int


class Fault(Struct, frozen=True):
    """Executes ``ud2``: a death without a system call; ``decisive`` where dying is the attack."""

    decisive: bool = False


Operation = (
    Syscall | Load | Store | Add | Copy | Compare | Find | Print | Wait | Call | Expect | Fault
)


class Blob(Struct, frozen=True, eq=False):
    """Bytes of the arena: ``data``, then zeros up to ``size``, aligned to ``align``."""

    data: bytes
    size: int
    align: int = 8
    name: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and self._bytes() == other._bytes()

    def __hash__(self) -> int:
        return hash(self._bytes())

    def _bytes(self) -> tuple[bytes, int, int]:
        return self.data, self.size, self.align


class Program(Struct, frozen=True, dict=True):
    """What a variant does; see the module's text for the sections."""

    blobs: tuple[Blob, ...] = ()
    setup: tuple[Operation, ...] = ()
    victim: tuple[Operation, ...] = ()
    attack: tuple[Operation, ...] = ()

    @cached_property
    def _hash(self) -> int:
        return hash((self.blobs, self.setup, self.victim, self.attack))

    def __hash__(self) -> int:
        """Found once: whoever looks for equal programs asks for it again and again."""
        return self._hash

    def flatten(self) -> Sequence[tuple[str, Operation]]:
        """All operations as (section, operation), in slot order; a body follows its call."""
        return self._flat

    @cached_property
    def _flat(self) -> tuple[tuple[str, Operation], ...]:
        sections = (("setup", self.setup), ("victim", self.victim), ("attack", self.attack))
        found: list[tuple[str, Operation]] = []
        for name, ops in sections:
            _flatten(found, name, ops)
        return tuple(found)

    def layout(self) -> Sequence[int]:
        """The arena offset of each blob."""
        return self._layout

    @cached_property
    def _layout(self) -> tuple[int, ...]:
        offsets: list[int] = []
        end = 0
        for blob in self.blobs:
            end = -(-end // blob.align) * blob.align
            offsets.append(end)
            end += blob.size
        return tuple(offsets)

    def arena(self) -> bytes:
        """The initial contents of the arena, without the zeros at its end."""
        image = bytearray(self.layout()[-1] + self.blobs[-1].size if self.blobs else 0)
        for blob, offset in zip(self.blobs, self.layout(), strict=True):
            image[offset : offset + len(blob.data)] = blob.data
        return bytes(image)

    def digest(self) -> str:
        """Sixteen hex digits that change whenever the program does."""
        canonical = json.dumps(_plain(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def needs_victim(self) -> bool:
        """Whether a victim process must stand beside the subject."""
        if self.victim:
            return True
        return any(
            type(value) is Env and value.name is Environment.VICTIM_PID
            for _, op in self.flatten()
            for value in operands(op)
        )


_OPERANDS: dict[type[Operation], tuple[str, ...]] = {
    Load: ("address",),
    Store: ("address", "value"),
    Add: ("a", "b"),
    Copy: ("address", "source", "size"),
    Compare: ("a", "b", "size"),
    Find: ("address", "size", "wanted", "wanted_size"),
    Print: ("address", "value", "suffix"),
    Wait: ("address", "value"),
    Call: ("address",),
    Expect: ("value",),
    Fault: (),
}
"""The fields that hold values; a system call has its arguments instead."""
_READ_ALL: dict[type[Operation], Callable[[Operation], tuple[Value, ...]]] = {
    kind: attrgetter(*names) for kind, names in _OPERANDS.items() if len(names) > 1
}
_IN_IMAGE = (Load, Store, Add, Copy, Compare, Expect)
_IN_IMAGE_ENTRIES = (Entry.SYSCALL, Entry.WIDE_SYSCALL, Entry.INT80)
MAY_DECIDE = (Syscall, Store, Copy, Call, Fault)
"""What may be the operation that causes the effect."""


def operands(op: Operation) -> tuple[Value, ...]:
    """The values that an operation reads, in order."""
    if isinstance(op, Syscall):
        return op.args
    read_all = _READ_ALL.get(type(op))
    return read_all(op) if read_all else tuple(getattr(op, name) for name in _OPERANDS[type(op)])


def with_operands(op: Operation, values: Iterable[Value]) -> Operation:
    """The same operation on other values, in the order of ``operands``."""
    others = tuple(values)
    if others == operands(op):
        return op
    if isinstance(op, Syscall):
        return changed(op, others, op.body)
    named: dict[str, Any] = dict(zip(_OPERANDS[type(op)], others, strict=True))
    return replace(op, **named)


def changed(
    op: Syscall,
    args: tuple[Value, ...],
    body: tuple[Operation, ...],
    *,
    decisive: bool = False,
    may_fail: bool = False,
) -> Syscall:
    """The same call on other arguments, with another body, and marked as well as it was.

    ``replace`` says this in one line; recording the library does it 20,000 times.
    """
    marked, failing = op.decisive or decisive, op.may_fail or may_fail
    return Syscall(op.name, args, op.abi, op.entry, marked, failing, body, op.opcode)


def is_decisive(op: Operation) -> bool:
    """Whether this operation is the one that causes the effect."""
    return isinstance(op, MAY_DECIDE) and op.decisive


def executes(op: Operation) -> bool:
    """Whether its body is what another file does, which it executes."""
    return isinstance(op, Syscall) and bool(op.body) and op.name in EXECS


def spawns(op: Operation) -> bool:
    """Whether its body is what a new process or thread does."""
    return isinstance(op, Syscall) and bool(op.body) and op.name not in EXECS


def fits_image(op: Operation, first: int) -> bool:
    """Whether an operation can be in an executed file, whose operations begin at slot ``first``.

    It may need nothing but memory, earlier results of the file, and the kernel.
    """
    for value in operands(op):
        if isinstance(value, Env) or (isinstance(value, Slot) and value.index < first):
            return False
    if isinstance(op, Syscall):
        return op.entry in _IN_IMAGE_ENTRIES and not op.body
    return isinstance(op, _IN_IMAGE)


def size_of(op: Operation) -> int:
    """How many slots an operation takes, its body included."""
    if not isinstance(op, Syscall) or not op.body:
        return 1
    return 1 + sum(map(size_of, op.body))


def _flatten(found: list[tuple[str, Operation]], section: str, ops: tuple[Operation, ...]) -> None:
    for op in ops:
        found.append((section, op))
        if isinstance(op, Syscall) and op.body:
            _flatten(found, section, op.body)


def _plain(value: Any) -> Any:
    """Structs to lists that start with the class name: the input of the digest."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType] - any
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType] - any
    names = _digested(kind)
    return [kind.__name__, *(_plain(getattr(value, name)) for name in names)] if names else value


@cache
def _digested(kind: type[Any]) -> tuple[str, ...]:
    """The fields of a struct that change what runs: not what is for readers."""
    if not issubclass(kind, Struct):
        return ()
    return tuple(name for name in kind.__struct_fields__ if (kind, name) not in _FOR_READERS)


_FOR_READERS = {(Const, "text"), (Syscall, "opcode"), (Blob, "name")}
