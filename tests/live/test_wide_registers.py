"""By int 0x80, 64-bit code passes whole registers to the filters; the call then gets their halves.

The runner's own entry clears the upper halves; here a program brings its own instructions.
"""

import struct

import pytest

from attacks.program import Addr, Blob, Call, Program
from evaluator.sandbox import Sandbox
from evaluator.wire import RecordState
from mitigations.bpf import Filter
from mitigations.classic import Action
from mitigations.x86_64 import AUDIT_ARCH_I386, NUMBERS

from engine import call, config, instructions, run

GETPID, CHDIR = (NUMBERS["i386"][name] for name in ("getpid", "chdir"))
ARENA, PAGE = 0x400000, 4096
FIRST_LOW, FIRST_HIGH = 16, 20
PROT_RWX = 7
GARBAGE = 0xDEADBEEF_00000007


def wide_int80(nr: int, first: int) -> bytes:
    """push rbx; mov rbx, first; mov eax, nr; int 0x80; pop rbx; ret"""
    return (
        b"\x53\x48\xbb"
        + struct.pack("<Q", first)
        + b"\xb8"
        + struct.pack("<I", nr)
        + b"\xcd\x80\x5b\xc3"
    )


def telling(offset: int) -> bytes:
    """A filter that answers i386's getpid with the low bits of a word as an errno."""
    return instructions(
        (0x20, 0, 0, 4),
        (0x15, 0, 5, AUDIT_ARCH_I386),
        (0x20, 0, 0, offset),
        (0x54, 0, 0, 0xFF),
        (0x04, 0, 0, 1),
        (0x44, 0, 0, Action.ERRNO),
        (0x16, 0, 0, 0),
        (0x06, 0, 0, Action.ALLOW),
    )


@pytest.mark.parametrize(("offset", "byte"), [(FIRST_LOW, 0x07), (FIRST_HIGH, 0xEF)])
def test_a_filter_of_i386_sees_whole_registers(offset: int, byte: int) -> None:
    what = Program(
        blobs=(Blob(wide_int80(GETPID, GARBAGE), PAGE, PAGE),),
        setup=(call("mprotect", Addr(0), PAGE, PROT_RWX),),
        attack=(Call(Addr(0)),),
    )
    filter_ = telling(offset)
    decided = Filter.decode(filter_).decide(AUDIT_ARCH_I386, GETPID, (GARBAGE,))
    assert decided.data == byte + 1
    with Sandbox() as sandbox:
        (result,) = run(sandbox, what, config(filter_))
    record = result.records[1]
    assert record.state is RecordState.DONE
    assert -record.result & 0xFFFFFFFF == byte + 1


def test_the_call_itself_gets_the_lower_halves() -> None:
    """A path is found by an address with garbage above it."""
    path = ARENA + PAGE
    what = Program(
        blobs=(
            Blob(wide_int80(CHDIR, (GARBAGE & ~0xFFFFFFFF) | path), PAGE, PAGE),
            Blob(b"/\0", 2),
        ),
        setup=(call("mprotect", Addr(0), PAGE, PROT_RWX),),
        attack=(Call(Addr(0)),),
    )
    with Sandbox() as sandbox:
        (result,) = run(sandbox, what, config())
    assert result.records[1].state is RecordState.DONE
    assert result.records[1].result & 0xFFFFFFFF == 0
