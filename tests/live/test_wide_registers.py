"""What 64-bit code leaves in the upper halves of its registers never reaches a filter of i386.

The runner's own entry clears them; here a program brings its own instructions.
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

GETPID = NUMBERS["i386"]["getpid"]
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


@pytest.mark.parametrize(("offset", "word"), [(FIRST_LOW, 7), (FIRST_HIGH, 0)])
def test_a_filter_of_i386_sees_the_lower_halves(offset: int, word: int) -> None:
    what = Program(
        blobs=(Blob(wide_int80(GETPID, GARBAGE), 4096, 4096),),
        setup=(call("mprotect", Addr(0), 4096, PROT_RWX),),
        attack=(Call(Addr(0)),),
    )
    filter_ = telling(offset)
    decided = Filter.decode(filter_).decide(AUDIT_ARCH_I386, GETPID, (GARBAGE & 0xFFFFFFFF,))
    assert decided.data == word + 1
    with Sandbox() as sandbox:
        (result,) = run(sandbox, what, config(filter_))
    record = result.records[1]
    assert record.state is RecordState.DONE
    assert -record.result & 0xFFFFFFFF == word + 1
