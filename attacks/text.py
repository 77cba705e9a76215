"""How a program reads: one strace-like line for each operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from msgspec import Struct, field

from attacks.program import (
    Abi,
    Add,
    Addr,
    Blob,
    Call,
    Compare,
    Const,
    Copy,
    Entry,
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
    is_decisive,
    operands,
)

_SIGN_BIT = 1 << 63
_ESCAPES = {ord("\n"): "\\n", ord("\t"): "\\t", ord('"'): '\\"', ord("\\"): "\\\\"}
_LONGEST_STRING = 64
_LONGEST_LOOK = 4096
_PRINTABLE = b"\t\n" + bytes(range(0x20, 0x7F))
_NAMED = (Load, Add, Compare, Find)


class Line(Struct, frozen=True):
    """One operation as text, with its place in the program."""

    slot: int
    section: str
    depth: int
    text: str
    decisive: bool

    def __str__(self) -> str:
        mark = "*" if self.decisive else " "
        return f"{self.slot:3}  {self.section:6}  {mark} {'  ' * self.depth}{self.text}"


class Context(Struct, frozen=True):
    """What the text of one operation depends on beyond the operation itself."""

    blobs: tuple[Blob, ...] = ()
    read: frozenset[int] = frozenset()
    """Slots that a later operation reads: only these are shown as ``r3 = ...``."""
    printed: Mapping[tuple[int, int], tuple[Value, Value]] = field(
        default_factory=dict[tuple[int, int], tuple[Value, Value]]
    )
    """(blob, offset) -> the value that a Print puts there and its suffix."""
    strings: dict[tuple[int, int], str | None] = field(
        default_factory=dict[tuple[int, int], str | None]
    )
    """(blob, offset) -> what was found there: the same string is an operand again and again."""


def context_of(program: Program, *, results: bool = True) -> Context:
    """The context in which every operation of ``program`` is rendered.

    ``results``: whether those that are used later are named.
    """
    flat = program.flatten()
    printed = {
        (op.address.blob, op.address.offset): (op.value, op.suffix)
        for _, op in flat
        if isinstance(op, Print) and isinstance(op.address, Addr)
    }
    read = (value for _, op in flat if results for value in operands(op))
    slots = frozenset(value.index for value in read if isinstance(value, Slot))
    return Context(program.blobs, slots, printed)


def program_text(program: Program) -> list[Line]:
    """All lines of a program in slot order; what a child runs stands indented below its call."""
    context = context_of(program)
    lines: list[Line] = []
    for section, ops in (
        ("setup", program.setup),
        ("victim", program.victim),
        ("attack", program.attack),
    ):
        _append(lines, section, ops, 0, context)
    return lines


def _append(
    lines: list[Line], section: str, ops: tuple[Operation, ...], depth: int, context: Context
) -> None:
    for op in ops:
        slot = len(lines)
        lines.append(Line(slot, section, depth, render(op, context, slot), is_decisive(op)))
        if isinstance(op, Syscall):
            _append(lines, section, op.body, depth + 1, context)


def render(op: Operation, context: Context, slot: int | None = None) -> str:
    """The text of one operation; with its ``slot``, a result that is used later is named."""
    text = _render(op, context)
    if isinstance(op, _NAMED) or (slot is not None and slot in context.read):
        return f"r{slot} = {text}" if slot is not None else text
    return text


def _render(op: Operation, context: Context) -> str:
    match op:
        case Syscall():
            return _syscall(op, context)
        case Load(address, offset, width):
            return _memory(address, offset, width, context)
        case Store(address, offset, width, value):
            return f"{_memory(address, offset, width, context)} = {_value(value, context)}"
        case Add(a, b):
            return f"{_value(a, context)} + {_value(b, context)}"
        case Copy(address, source, size):
            return (
                f"memcpy({_pointer(address, context)}, {_pointer(source, context)}, "
                f"{_value(size, context)})"
            )
        case Compare(a, b, size):
            sides = f"{_pointer(a, context)}, {_pointer(b, context)}"
            return f"same({sides}, {_value(size, context)})"
        case Find(address, size, wanted, wanted_size):
            return (
                f"find({_pointer(address, context)}, {_value(size, context)}, "
                f"{_value(wanted, context)}, {_value(wanted_size, context)})"
            )
        case Print(address, value, suffix):
            ending = _format_suffix(suffix, context)
            return f'sprintf({_pointer(address, context)}, "%ld{ending}", {_value(value, context)})'
        case Wait(address, offset, value, bound_us):
            word = _memory(address, offset, 4, context)
            return f"wait while {word} == {_value(value, context)}, at most {_duration(bound_us)}"
        case Call(address):
            return f"call {_pointer(address, context)}"
        case Expect(value, mask, equals):
            masked = "" if mask == 2**64 - 1 else f" & {mask:#x}"
            return f"expect {_value(value, context)}{masked} == {_number(equals)}"
        case Fault():
            return "ud2"
        case _:
            assert_never(op)


def _syscall(op: Syscall, context: Context) -> str:
    prefix = "" if op.abi is Abi.X86_64 else f"{op.abi}:"
    if op.entry not in (Entry.SYSCALL, Entry.INT80):
        prefix = f"{op.abi}({op.entry}):"
    opcode = f"[{op.opcode}]" if op.opcode else ""
    arguments = ", ".join([_value(argument, context) for argument in op.args])
    ending = "  (may fail)" if op.may_fail else ""
    return f"{prefix}{op.name}{opcode}({arguments}){ending}"


def _value(value: Value, context: Context) -> str:
    """A value as an argument: a blob that holds a string is shown as the string."""
    if isinstance(value, Addr):
        string = _string_at(value.blob, value.offset, context)
        if string is not None:
            return f'"{string}"'
    return _pointer(value, context)


def _pointer(value: Value, context: Context) -> str:
    """A value as a place in memory: a blob is shown by its name, whatever it holds."""
    # Not by patterns: this is asked a hundred thousand times.
    if isinstance(value, Const):
        return value.text or _number(value.value)
    if isinstance(value, Addr):
        blob, offset = value.blob, value.offset
        name = (context.blobs[blob].name if blob < len(context.blobs) else "") or f"blob{blob}"
        return f"&{name} + {offset:#x}" if offset else f"&{name}"
    return f"r{value.index}" if isinstance(value, Slot) else value.name.value.upper()


def _memory(address: Value, offset: int, width: int, context: Context) -> str:
    kind = f"u{8 * width}"
    if isinstance(address, Addr):
        return f"*({kind}*)({_pointer(Addr(address.blob, address.offset + offset), context)})"
    place = _pointer(address, context)
    if offset:
        place += f" {'-' if offset < 0 else '+'} {abs(offset):#x}"
    return f"*({kind}*)({place})"


def _string_at(index: int, offset: int, context: Context) -> str | None:
    """The string that starts there, or None where the bytes are no string but a structure."""
    key = index, offset
    if key not in context.strings:
        context.strings[key] = _read_string(index, offset, context)
    return context.strings[key]


def _read_string(index: int, offset: int, context: Context) -> str | None:
    if index >= len(context.blobs):
        return None
    blob = context.blobs[index]
    content, _, rest = blob.data[offset : offset + _LONGEST_LOOK].partition(b"\0")
    if rest.strip(b"\0") or content.translate(None, _PRINTABLE):
        return None
    if not content and (blob.size - offset != 1 or (index, offset) in context.printed):
        return None
    shown = content[:_LONGEST_STRING].decode("ascii").translate(_ESCAPES)
    if len(content) > _LONGEST_STRING:
        return f"{shown}..."
    added = context.printed.get((index, offset + len(content)))
    if added is None:
        return shown
    value, suffix = added
    return f"{shown}<{_pointer(value, context)}>{_format_suffix(suffix, context)}"


def _format_suffix(suffix: Value, context: Context) -> str:
    match suffix:
        case Const(0):
            return ""
        case Addr(blob, offset):
            return _string_at(blob, offset, context) or "%s"
        case _:
            return "%s"


def _number(value: int) -> str:
    """Small numbers in decimal, negative ones with their sign, the rest in hex."""
    if _SIGN_BIT <= value < 2 * _SIGN_BIT:
        signed = value - 2 * _SIGN_BIT
        return str(signed) if signed > -65536 else f"{value:#x}"
    return str(value) if abs(value) < 1024 else f"{value:#x}"


def _duration(microseconds: int) -> str:
    if microseconds % 1000:
        return f"{microseconds} us"
    return f"{microseconds // 1000} ms"
