"""Compiles what a program does after an execve into a static ELF file for x86-64.

The file does these operations and nothing else: it has the program's memory and results of its
own, stops where the runner would have stopped, and makes no further call but that to end.
Encodings are those of the Intel manual, volume 2; the layout of the file is that of elf(5).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from msgspec import Struct, field

from attacks.program import (
    Add,
    Addr,
    Compare,
    Const,
    Copy,
    Entry,
    Expect,
    Load,
    Operation,
    Program,
    Slot,
    Store,
    Syscall,
    Value,
    executes,
)
from evaluator.errors import HarnessError
from evaluator.outline import ARENA
from evaluator.wire import call_number
from mitigations import x86_64

_CODE = 0x10000000
_PAGE = 4096
_HEADERS = 64 + 2 * 56
_RAX, _RCX, _RDX, _RBX, _RBP, _RSI, _RDI, _R8, _R9, _R10 = 0, 1, 2, 3, 5, 6, 7, 8, 9, 10
_NATIVE = (_RDI, _RSI, _RDX, _R10, _R8, _R9)
_ENTRIES = {
    Entry.SYSCALL: (_NATIVE, b"\x0f\x05"),
    Entry.WIDE_SYSCALL: (_NATIVE, b"\x0f\x05"),
    Entry.INT80: ((_RBX, _RCX, _RDX, _RSI, _RDI, _RBP), b"\xcd\x80"),
}
_WIDE = 0xDEAD << 48
_LARGEST_ERRNO = struct.pack("<i", -4095)
# A 32-bit result: an error is negative, an address is not.
_EXTEND = b"\x89\xc0\x3d" + _LARGEST_ERRNO + b"\x72\x02\x48\x98"
_IF_ERROR = b"\x48\x3d" + _LARGEST_ERRNO + b"\x0f\x83"
_IF_OTHER = b"\x48\x39\xc8\x0f\x85"
_LOADS = {1: b"\x0f\xb6\x01", 2: b"\x0f\xb7\x01", 4: b"\x8b\x01", 8: b"\x48\x8b\x01"}
_STORES = {1: b"\x88\x01", 2: b"\x66\x89\x01", 4: b"\x89\x01", 8: b"\x48\x89\x01"}
_ADD_RCX_TO_RAX, _ADD_RDX_TO_RCX, _AND_RCX_TO_RAX = (
    b"\x48\x01\xc8",
    b"\x48\x01\xd1",
    b"\x48\x21\xc8",
)
_REP_MOVSB = b"\xf3\xa4"
_SAME_BYTES = b"\x48\x39\xc0\xf3\xa6\x0f\x94\xc0\x0f\xb6\xc0"  # cmp rax, rax; repe cmpsb; sete al
# exit_group(0), else exit(0), else death: none of them may be refused for long.
_END = b"\x31\xff\xb8\xe7\0\0\0\x0f\x05\x31\xff\xb8\x3c\0\0\0\x0f\x05\x0f\x0b"


def image(program: Program) -> bytes:
    """The file that the attack of ``program`` executes, from the body of its execve.

    ``HarnessError`` if there is none, or if one of its operations cannot be in such a file.
    """
    for slot, (_, op) in enumerate(program.flatten()):
        if isinstance(op, Syscall) and executes(op):
            arena = program.arena()
            results = ARENA + len(arena) + -len(arena) % 8
            code = _Code(slot + 1, program.layout(), results).compiled(op.body)
            return _file(code, arena, len(op.body))
    raise HarnessError("the program executes no image that it describes")


class _Code(Struct, dict=True):
    first: int
    """The slot of the first operation."""
    layout: Sequence[int]
    """Where the arena has each blob."""
    results: int
    """Where the results are kept: behind the arena."""
    code: bytearray = field(default_factory=bytearray)
    ends: list[int] = field(default_factory=list[int])
    """Where jumps to the end are to be completed."""

    def compiled(self, body: tuple[Operation, ...]) -> bytes:
        for index, op in enumerate(body):
            if self._operation(op):
                self.code += b"\x48\x89\x04\x25" + struct.pack("<I", self.results + 8 * index)
            if isinstance(op, Syscall) and not op.may_fail:
                self._end_if(_IF_ERROR)
        for at in self.ends:
            self.code[at : at + 4] = struct.pack("<i", len(self.code) - at - 4)
        return bytes(self.code + _END)

    def _operation(self, op: Operation) -> bool:
        """Whether it leaves a result in rax."""
        match op:
            case Syscall(entry=entry, body=()) if entry in _ENTRIES:
                self._call(op)
            case Load(address, offset, width):
                self._address(address, offset)
                self.code += _LOADS[width]
            case Store(address, offset, width, value):
                self._address(address, offset)
                self._set(_RAX, value)
                self.code += _STORES[width]
                return False
            case Add(a, b):
                self._set(_RAX, a)
                self._set(_RCX, b)
                self.code += _ADD_RCX_TO_RAX
            case Copy(address, source, size):
                self._set(_RDI, address)
                self._set(_RSI, source)
                self._set(_RCX, size)
                self.code += _REP_MOVSB
                return False
            case Compare(a, b, size):
                self._set(_RDI, a)
                self._set(_RSI, b)
                self._set(_RCX, size)
                self.code += _SAME_BYTES
            case Expect(value, mask, equals):
                self._set(_RAX, value)
                self._set(_RCX, Const(mask))
                self.code += _AND_RCX_TO_RAX
                self._set(_RCX, Const(equals))
                self._end_if(_IF_OTHER)
                return False
            case _:
                raise HarnessError(f"{type(op).__name__} cannot be in a program that is executed")
        return True

    def _call(self, op: Syscall) -> None:
        registers, instruction = _ENTRIES[op.entry]
        for register, value in zip(registers, op.args, strict=False):
            self._set(register, value)
        number = call_number(op, x86_64.number)
        wide = _WIDE if op.entry is Entry.WIDE_SYSCALL else 0
        self._set(_RAX, Const(number | wide))
        self.code += instruction
        if op.entry is Entry.INT80:
            self.code += _EXTEND

    def _address(self, address: Value, offset: int) -> None:
        """The address goes to rcx."""
        self._set(_RCX, address)
        self._set(_RDX, Const(offset))
        self.code += _ADD_RDX_TO_RCX

    def _set(self, register: int, value: Value) -> None:
        high, low = register >> 3, register & 7
        match value:
            case Const(number):
                number &= (1 << 64) - 1
            case Addr(blob, offset):
                number = ARENA + self.layout[blob] + offset
            case Slot(index) if index >= self.first:
                self.code += bytes((0x48 | high << 2, 0x8B, 0x04 | low << 3, 0x25))
                self.code += struct.pack("<I", self.results + 8 * (index - self.first))
                return
            case _:
                raise HarnessError("a program that is executed knows nothing of the one before")
        self.code += bytes((0x48 | high, 0xB8 | low)) + struct.pack("<Q", number)

    def _end_if(self, condition: bytes) -> None:
        self.code += condition
        self.ends.append(len(self.code))
        self.code += bytes(4)


def _file(code: bytes, arena: bytes, results: int) -> bytes:
    memory = len(arena) + 8 + 8 * results
    start = _HEADERS + len(code)
    start += -start % _PAGE
    kept = arena.rstrip(b"\0") or bytes(1)
    header = (2, 62, 1, _CODE + _HEADERS, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    return b"".join(
        (
            b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", *header),
            _segment(5, 0, _CODE, _HEADERS + len(code), _HEADERS + len(code)),
            _segment(6, start, ARENA, len(kept), memory),
            code.ljust(start - _HEADERS, b"\0"),
            kept,
        )
    )


def _segment(flags: int, offset: int, address: int, in_file: int, in_memory: int) -> bytes:
    return struct.pack("<IIQQQQQQ", 1, flags, offset, address, address, in_file, in_memory, _PAGE)
