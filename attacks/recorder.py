"""The recorder underneath ``Kernel``: operations, memory and paths, without any named call.

Recording is symbolic.  Every recorded operation is a node with a number of its own; an operand that
is an earlier result holds that number in a ``Slot``.  When recording ends the nodes get their slots
(setup, victim, attack, in pre-order) and the operands are rewritten.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from attacks.consts import Named
from attacks.effects import Effect
from attacks.errors import AttackError
from attacks.program import (
    ARENA_SIZE,
    MAX_DEPTH,
    MAX_OPERATIONS,
    MAY_DECIDE,
    Abi,
    Add,
    Addr,
    Blob,
    Call,
    Compare,
    Const,
    Copy,
    Entry,
    Env,
    Environment,
    Expect,
    Fault,
    Find,
    Load,
    Operation,
    Print,
    Program,
    Slot,
    Store,
    Syscall,
    Value,
    Wait,
    changed,
    is_decisive,
    operands,
    with_operands,
)

WORK = "/work"
"""The subject's working directory."""
_WORD = (1 << 64) - 1
_LOW = (1 << 32) - 1
_GARBAGE = 0xDEADBEEF << 32
_DIGITS = 20
_LARGEST_MODE = 0xFFFF
_STACK_SIZE = 16 * 1024
_RECORDED = Load(Const(0))


class Section(StrEnum):
    SETUP = "setup"
    VICTIM = "victim"
    ATTACK = "attack"


class Buffer(Struct, frozen=True):
    """Memory of the arena; ``at`` gives an address inside it."""

    blob: int
    size: int

    def at(self, offset: int) -> Addr:
        return Addr(self.blob, offset)


class Node(Struct):
    number: int
    op: Operation
    body: list[Node] | None = None
    decisive: bool = False
    may_fail: bool = False


class Result(Struct, frozen=True):
    """What an operation returned, usable as a later operand.

    ``cause`` is the operation that made it happen, where that is another one: the result of an
    io_uring operation is loaded from memory, but it was a call that caused it.
    """

    node: Node
    cause: Node | None = None

    def decisive(self) -> Result:
        """Marks the operation that causes the effect."""
        node = self.cause or self.node
        if not isinstance(node.op, MAY_DECIDE):
            raise AttackError(f"{type(node.op).__name__} cannot be the decisive operation")
        node.decisive = True
        return self

    def may_fail(self) -> Result:
        """Lets the program go on when this call returns an error."""
        if not isinstance(self.node.op, Syscall):
            raise AttackError(f"{type(self.node.op).__name__} cannot fail")
        self.node.may_fail = True
        return self

    def call(self, body: tuple[Operation, ...]) -> Syscall:
        """The call as it is marked, with what the process or thread does that it makes."""
        node = self.node
        assert isinstance(node.op, Syscall)
        return changed(node.op, node.op.args, body, decisive=node.decisive, may_fail=node.may_fail)


Arg = int | Result | Buffer | Addr | Const | Env
"""Anything that can be an operand."""


def earlier(slot: Slot) -> Result:
    """The result of an operation that was recorded before, in another recording."""
    return Result(Node(slot.index, _RECORDED))


class Recording:
    """What all recorders of one variant share."""

    def __init__(
        self, effect: Effect, parameters: Mapping[str, int], blobs: Iterable[Blob] = ()
    ) -> None:
        """``blobs``: memory that is there already."""
        self.effect = effect
        self.parameters = parameters
        self._blobs = list(blobs)
        self._texts: dict[bytes, Buffer] = {}
        self._sections: dict[Section, list[Node]] = {section: [] for section in Section}
        self._open = {section: [nodes] for section, nodes in self._sections.items()}
        self.count = 0

    @property
    def blobs(self) -> tuple[Blob, ...]:
        return tuple(self._blobs)

    @property
    def attack(self) -> Sequence[Node]:
        """What was recorded of the attack, without bodies."""
        return self._sections[Section.ATTACK]

    def emit(self, section: Section, op: Operation) -> Result:
        node = Node(self.count, op)
        self.count += 1
        self._open[section][-1].append(node)
        return Result(node)

    def allocate(self, data: bytes, size: int, align: int, name: str) -> Buffer:
        if len(data) > size:
            raise AttackError(f"{len(data)} bytes do not fit into {size}")
        self._blobs.append(Blob(data, size, align, name))
        return Buffer(len(self._blobs) - 1, size)

    def text(self, data: bytes) -> Buffer:
        """One blob for each distinct text: nothing writes to it."""
        if data not in self._texts:
            self._texts[data] = self.allocate(data, len(data), 1, "")
        return self._texts[data]

    @contextmanager
    def body(self, section: Section, result: Result) -> Generator[None]:
        """Operations recorded meanwhile belong to the new process or thread."""
        if not isinstance(result.node.op, Syscall) or result.node.body:
            raise AttackError("only a call without a body can get one")
        stack = self._open[section]
        if len(stack) > MAX_DEPTH:
            raise AttackError(f"bodies are nested more than {MAX_DEPTH} deep")
        result.node.body = []
        stack.append(result.node.body)
        yield
        stack.pop()
        if not result.node.body:
            raise AttackError("a child's body is empty")

    def finish(self, *, attacks: bool = True) -> Program:
        """The program, with every handle resolved to a slot; a witness's has nothing decisive."""
        numbers: dict[int, int] = {}
        for section in Section:
            _number(self._sections[section], numbers)
        ops = {s: tuple([_resolve(n, numbers) for n in self._sections[s]]) for s in Section}
        program = Program(
            blobs=tuple(self._blobs),
            setup=ops[Section.SETUP],
            victim=ops[Section.VICTIM],
            attack=ops[Section.ATTACK],
        )
        check(program, attacks=attacks)
        return program


def _number(nodes: list[Node], numbers: dict[int, int]) -> None:
    for node in nodes:
        numbers[node.number] = len(numbers)
        if node.body:
            _number(node.body, numbers)


def _resolve(node: Node, numbers: Mapping[int, int]) -> Operation:
    def slot(value: Value) -> Value:
        if type(value) is not Slot:
            return value
        if numbers[value.index] >= numbers[node.number]:
            raise AttackError(f"{type(node.op).__name__} uses a result that is not there yet")
        return Slot(numbers[value.index])

    op = node.op
    values = operands(op)
    if Slot in map(type, values):
        op = with_operands(op, map(slot, values))
    if isinstance(op, Syscall):
        if node.body or node.decisive or node.may_fail:
            body = tuple(_resolve(inner, numbers) for inner in node.body or ())
            return changed(op, op.args, body, decisive=node.decisive, may_fail=node.may_fail)
    elif node.decisive and isinstance(op, Store | Copy | Call | Fault):
        return replace(op, decisive=True)
    return op


def check(program: Program, *, attacks: bool = True) -> None:
    """``AttackError`` for what no program may be; a witness's has nothing decisive."""
    flat = program.flatten()
    if len(flat) > MAX_OPERATIONS:
        raise AttackError(f"{len(flat)} operations, {MAX_OPERATIONS} are the most")
    size = program.layout()[-1] + program.blobs[-1].size if program.blobs else 0
    if size > ARENA_SIZE:
        raise AttackError(f"{size} bytes of memory, {ARENA_SIZE} are the most")
    found = [section for section, op in flat if is_decisive(op)]
    if found != (["attack"] if attacks else []):
        wanted = "one of the attack" if attacks else "none"
        raise AttackError(f"{len(found)} decisive operations, not {wanted}")
    addresses = [value for _, op in flat for value in operands(op) if type(value) is Addr]
    for value in addresses:
        if not 0 <= value.offset <= program.blobs[value.blob].size:
            raise AttackError(f"address {value.offset} bytes into a blob that is shorter")


class Recorder:
    """Records operations into one section, for one ABI; see ``Kernel`` for the named calls."""

    def __init__(
        self,
        recording: Recording,
        section: Section = Section.ATTACK,
        abi: Abi = Abi.X86_64,
        entry: Entry = Entry.SYSCALL,
    ) -> None:
        self.recording = recording
        self._section = section
        self._abi = abi
        self._entry = entry

    # Calls

    def raw(self, name: str, *args: Arg, opcode: str = "") -> Result:
        """Any call by name, for what has no method of its own."""
        values = tuple([_value(arg) for arg in args])
        op = Syscall(name, values, abi=self._abi, entry=self._entry, opcode=opcode)
        return self._emit(op)

    @contextmanager
    def child(self, created: Result) -> Generator[None]:
        """What the new process or thread does, before it ends."""
        with self.recording.body(self._section, created):
            yield

    def again(self, op: Operation, results: Mapping[int, Result]) -> Result:
        """An operation of another program, whose slots are ``results`` here.

        Its body is recorded apart.
        """
        values = operands(op)
        if Slot in map(type, values):
            numbered = (
                Slot(results[value.index].node.number) if type(value) is Slot else value
                for value in values
            )
            op = with_operands(op, numbered)
        if isinstance(op, Syscall) and op.body:
            op = replace(op, body=())
        return self._emit(op)

    # Plain operations

    def load(self, address: Arg, offset: int = 0, width: int = 8) -> Result:
        return self._emit(Load(_value(address), offset, width))

    def store(self, address: Arg, offset: int, width: int, value: Arg) -> Result:
        return self._emit(Store(_value(address), offset, width, _value(value)))

    def add(self, a: Arg, b: Arg) -> Result:
        return self._emit(Add(_value(a), _value(b)))

    def copy(self, address: Arg, source: Arg, size: Arg) -> Result:
        return self._emit(Copy(_value(address), _value(source), _value(size)))

    def compare(self, a: Arg, b: Arg, size: Arg) -> Result:
        return self._emit(Compare(_value(a), _value(b), _value(size)))

    def find(self, address: Arg, size: Arg, wanted: bytes) -> Result:
        """Where the bytes ``wanted`` first are, or -1."""
        needle = self.data(wanted, align=1, name="wanted")
        return self._emit(Find(_value(address), _value(size), needle.at(0), Const(len(wanted))))

    def print_number(self, address: Arg, value: Arg, suffix: Arg = 0) -> Result:
        return self._emit(Print(_value(address), _value(value), _value(suffix)))

    def wait(
        self, address: Arg, offset: int = 0, value: Arg = 0, bound_us: int = 200_000
    ) -> Result:
        return self._emit(Wait(_value(address), offset, _value(value), bound_us))

    def call(self, address: Arg) -> Result:
        return self._emit(Call(_value(address)))

    def expect(self, value: Arg, mask: int, equals: int) -> Result:
        return self._emit(Expect(_value(value), mask, equals))

    def fault(self) -> Result:
        return self._emit(Fault())

    # Memory

    def data(self, data: bytes, *, align: int = 8, name: str = "") -> Buffer:
        return self.recording.allocate(data, len(data), align, name)

    def buffer(self, size: int, *, align: int = 8, name: str = "") -> Buffer:
        return self.recording.allocate(b"", size, align, name)

    def text(self, text: str) -> Buffer:
        """A NUL-terminated string."""
        return self.recording.text(text.encode() + b"\0")

    def struct(self, layout: str, *values: Arg, name: str = "") -> Buffer:
        """A packed little-endian structure; addresses and results are stored when it is used.

        ``layout`` has one letter of the ``struct`` module for each value (``BHIQ``) and ``x`` for
        padding.
        """
        image = bytearray()
        late: list[tuple[int, int, Arg]] = []
        rest = iter(values)
        for letter in layout:
            width = struct.calcsize(f"<{letter}")
            value = 0 if letter == "x" else next(rest)
            if not isinstance(value, int):
                late.append((len(image), width, value))
                value = 0
            image += (int(value) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        if next(rest, None) is not None:
            raise AttackError(f"more values than the layout {layout} has places")
        result = self.data(bytes(image), name=name)
        for offset, width, value in late:
            self.store(result, offset, width, value)
        return result

    def stack(self) -> Addr:
        """The upper end of fresh memory for a child that shares the parent's."""
        return self.buffer(_STACK_SIZE, align=16, name="stack").at(_STACK_SIZE)

    # Values

    def wide(self, value: int | Result) -> Result | Const:
        """The same value for whoever reads 32 bits of it, with garbage above them."""
        if isinstance(value, Result):
            return self.add(value, Const(_GARBAGE, f"{_GARBAGE:#x}"))
        text = value.text if isinstance(value, Named) else f"{value & _LOW:#x}"
        return Const(_GARBAGE | value & _LOW, f"{_GARBAGE:#x}|{text}")

    def param(self, name: str) -> int:
        """A parameter of the family."""
        return self.recording.parameters[name]

    def env(self, name: Environment) -> Env:
        """A value that the judge fills in."""
        return Env(name)

    # Paths

    def path(self) -> Buffer:
        """The target."""
        return self.text(self.recording.effect.path)

    def parent(self) -> Buffer:
        """The directory of the target."""
        return self.text(self.recording.effect.parent)

    def name(self) -> Buffer:
        """The target's last component."""
        return self.text(self.recording.effect.name)

    def near(self, path: str) -> Buffer:
        """A path on the target's file system, to rename or link from; see ``near``."""
        return self.text(near(self.recording.effect, path))

    def source(self, name: str = "t") -> Buffer:
        """Something in ``src``, near the target's directory."""
        return self.near(f"src/{name}")

    def link_to(self, path: str) -> Buffer:
        """What a symbolic link at the target has to say to lead to ``near(path)``."""
        parent = self.recording.effect.parent
        up = "" if parent.startswith("/") else "../" * len(parent.split("/"))
        return self.text(up + near(self.recording.effect, path).removeprefix(f"{parent}/"))

    def relative(self, path: str) -> Buffer:
        """A path that does not leave the working directory."""
        depth = 0
        for part in path.split("/"):
            depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
            if path.startswith("/") or depth < 0:
                raise AttackError(f"{path!r} leaves the working directory")
        return self.text(path)

    def absolute(self, path: str = "") -> Buffer:
        """The target, or a path of the working directory, from the root."""
        return self.text(self.absolute_text(path))

    def absolute_text(self, path: str = "") -> str:
        path = path or self.recording.effect.path
        return path if path.startswith("/") else f"{WORK}/{path}"

    def from_root(self) -> Buffer:
        """The target's last component as a path from the root, for after a chroot."""
        return self.text(f"/{self.recording.effect.name}")

    def from_cwd(self) -> str:
        """The target as a path relative to the working directory, wherever it is."""
        path = self.recording.effect.path
        return f"..{path}" if path.startswith("/") else path

    def proc(self, path: str) -> Buffer:
        """A path of procfs."""
        return self.text(f"/proc/{path}")

    def proc_fd(self, fd: Arg, suffix: str = "") -> Buffer:
        """``/proc/self/fd/N`` and what follows it."""
        return self._numbered("/proc/self/fd/", fd, suffix)

    def proc_pid(self, pid: Arg, suffix: str = "") -> Buffer:
        """``/proc/PID`` and what follows it."""
        return self._numbered("/proc/", pid, suffix)

    def _numbered(self, prefix: str, number: Arg, suffix: str) -> Buffer:
        size = len(prefix) + _DIGITS + len(suffix) + 1
        path = self.recording.allocate(prefix.encode(), size, 1, "path")
        self.print_number(path.at(len(prefix)), number, self.text(suffix) if suffix else 0)
        return path

    def _emit(self, op: Operation) -> Result:
        return self.recording.emit(self._section, op)


def near(effect: Effect, path: str) -> str:
    """Where to put what must be on the target's file system.

    That is the working directory, unless the target is elsewhere: then it is a hidden name in the
    target's own directory, which may be a mount.
    """
    return f"{effect.parent}/.{path}" if effect.parent.startswith("/") else path


def octal(mode: Arg) -> Arg:
    """Permission bits are written in octal."""
    if isinstance(mode, Named) or not isinstance(mode, int) or mode > _LARGEST_MODE:
        return mode
    return Named(mode, f"{'0' if mode else ''}{mode:o}")


def _value(arg: Arg) -> Value:
    match arg:
        case Named():
            return Const(int(arg) & _WORD, arg.text)
        case int():
            return Const(arg & _WORD)
        case Result():
            return Slot(arg.node.number)
        case Buffer():
            return arg.at(0)
        case Addr() | Const() | Env():
            return arg
        case _:
            raise AttackError(f"{arg!r} is no operand: a path is k.relative(...) or k.path()")
