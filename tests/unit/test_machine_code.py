"""What a program does after an execve: the file is the program, and nothing more."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from attacks import library
from attacks.program import (
    Abi,
    Add,
    Addr,
    Blob,
    Compare,
    Const,
    Copy,
    Entry,
    Env,
    Environment,
    Expect,
    Fault,
    Load,
    Operation,
    Program,
    Slot,
    Store,
    Syscall,
    Value,
    fits_image,
)
from evaluator.errors import HarnessError
from evaluator.machine_code import image

SIZE = 64
PLACES = SIZE - 8
WORD = (1 << 64) - 1
FIRST = 1


def program(*body: Operation) -> Program:
    """A program that executes a file which does ``body``."""
    return Program(
        blobs=(Blob(bytes(range(SIZE)), SIZE), Blob(b"", SIZE)),
        attack=(Syscall("execve", body=body, decisive=True),),
    )


def output(tmp_path: Path, *body: Operation) -> bytes:
    file = tmp_path / "image"
    file.write_bytes(image(program(*body)))
    file.chmod(0o700)
    done = subprocess.run([file], stdout=subprocess.PIPE, check=True, timeout=10)
    return done.stdout


def written(blob: int, size: int = SIZE) -> Syscall:
    return Syscall("write", (Const(1), Addr(blob), Const(size)))


def test_it_has_the_memory_of_the_program(tmp_path: Path) -> None:
    assert output(tmp_path, written(0), written(1)) == bytes(range(SIZE)) + bytes(SIZE)


def test_it_stops_at_the_first_call_that_fails(tmp_path: Path) -> None:
    closed = Syscall("close", (Const(99),))
    assert output(tmp_path, written(0, 2), closed, written(0)) == b"\0\1"
    allowed = Syscall("close", (Const(99),), may_fail=True)
    assert output(tmp_path, allowed, written(0, 2)) == b"\0\1"


def test_it_stops_where_an_expectation_is_not_met(tmp_path: Path) -> None:
    assert output(tmp_path, written(0, 1), Expect(Const(0x1F), 0xF, 0xF), written(0, 1)) == b"\0\0"
    assert output(tmp_path, written(0, 1), Expect(Const(0x1F), 0xF, 0x1F), written(0)) == b"\0"


@pytest.mark.parametrize(
    ("abi", "entry"),
    [(Abi.X86_64, Entry.SYSCALL), (Abi.X86_64, Entry.WIDE_SYSCALL), (Abi.I386, Entry.INT80)],
)
def test_it_enters_the_kernel_as_the_program_would(tmp_path: Path, abi: Abi, entry: Entry) -> None:
    call = Syscall("dup", (Const(1),), abi, entry)
    again = Syscall("write", (Slot(FIRST), Addr(0, 5), Const(3)), abi, entry)
    assert output(tmp_path, call, again) == b"\5\6\7"


def test_a_32_bit_error_ends_it_and_a_high_address_does_not(tmp_path: Path) -> None:
    failing = Syscall("close", (Const(99),), Abi.I386, Entry.INT80)
    assert output(tmp_path, failing, written(0)) == b""
    # mmap2 of a page gives an address with its highest bit set as often as not.
    mapping = Syscall(
        "mmap2",
        (Const(0xF0000000), Const(4096), Const(3), Const(0x32), Const(0xFFFFFFFF), Const(0)),
        Abi.I386,
        Entry.INT80,
    )
    assert output(tmp_path, mapping, Store(Addr(1), 0, 8, Slot(FIRST)), written(1, 8)) == (
        0xF0000000.to_bytes(8, "little")
    )


# ------------------------------------------------------- against a model of what the runner does

values: SearchStrategy[Value] = st.one_of(
    st.integers(0, WORD).map(Const), st.integers(0, 3).map(lambda n: Slot(FIRST + n))
)
places = st.builds(Addr, st.integers(0, 1), st.integers(0, PLACES // 2))
widths = st.sampled_from([1, 2, 4, 8])
operations: SearchStrategy[Operation] = st.one_of(
    st.builds(Load, places, st.integers(0, PLACES // 2), widths),
    st.builds(Store, places, st.integers(0, PLACES // 2), widths, values),
    st.builds(Add, values, values),
    st.builds(Copy, places, places, st.integers(0, 8).map(Const)),
    st.builds(Compare, places, places, st.integers(0, 8).map(Const)),
)
# What a slot can be read for is there before anything else.
RESULTS = (Add(Const(1), Const(WORD)), *(Load(Addr(0), 8 * n) for n in range(3)))


def modelled(ops: Sequence[Operation]) -> bytes:
    memory = bytearray(range(SIZE)) + bytearray(SIZE)
    slots: dict[int, int] = {}

    def at(place: Value, offset: int = 0) -> int:
        assert isinstance(place, Addr)
        return SIZE * place.blob + place.offset + offset

    def number(value: Value) -> int:
        assert isinstance(value, Const | Slot)
        return value.value if isinstance(value, Const) else slots[value.index]

    for slot, op in enumerate(ops, FIRST):
        match op:
            case Load(address, offset, width):
                begin = at(address, offset)
                slots[slot] = int.from_bytes(memory[begin : begin + width], "little")
            case Store(address, offset, width, value):
                low = number(value) & ((1 << 8 * width) - 1)
                begin = at(address, offset)
                memory[begin : begin + width] = low.to_bytes(width, "little")
            case Add(a, b):
                slots[slot] = (number(a) + number(b)) & WORD
            case Copy(to, source, size):
                for n in range(number(size)):  # byte by byte, upwards
                    memory[at(to, n)] = memory[at(source, n)]
            case Compare(a, b, size):
                n = number(size)
                slots[slot] = int(memory[at(a) : at(a, n)] == memory[at(b) : at(b, n)])
            case _:
                raise AssertionError(op)
        slots.setdefault(slot, 0)
    return bytes(memory)


@settings(max_examples=100, deadline=None)
@given(st.lists(operations, max_size=12))
def test_it_computes_what_the_program_computes(
    tmp_path_factory: pytest.TempPathFactory, ops: list[Operation]
) -> None:
    body = (*RESULTS, *ops)
    where = tmp_path_factory.mktemp("image")
    assert output(where, *body, written(0), written(1)) == modelled(body)


# ------------------------------------------------------------------------------ what does not fit


@pytest.mark.parametrize(
    "op",
    [
        Fault(),
        Syscall("fork", body=(written(0),)),
        Syscall("getpid", entry=Entry.SYSENTER, abi=Abi.I386),
        Add(Env(Environment.SUBJECT_PID), Const(1)),
        Add(Slot(0), Const(1)),
    ],
)
def test_what_needs_more_than_memory_and_the_kernel_is_refused(op: Operation) -> None:
    assert not fits_image(op, FIRST)
    with pytest.raises(HarnessError):
        image(program(op))


def test_a_program_that_executes_nothing_has_no_image() -> None:
    with pytest.raises(HarnessError, match="executes no image"):
        image(library.find_variant("create-directory/mkdir").program)


def test_what_a_rewrite_puts_into_an_image_fits() -> None:
    found = library.find_variant("create-directory/io-uring-mkdirat~exec")
    assert image(found.program).startswith(b"\x7fELF\x02\x01\x01")
