"""Our checker takes what the kernel takes, and refuses what it refuses, by a name of its own."""

import errno
import random
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drawn_filters import raw_filters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mitigations import classic
from mitigations.bpf import Filter
from mitigations.classic import MAX_INSTRUCTIONS, FilterError, Instruction

CHECKER = Path(__file__).with_name("kernel_checker.py")
COUNT = struct.Struct("<I")
ALLOW = Instruction(classic.RETURN_K, 0, 0, 0x7FFF0000)
NOTHING = Instruction(0, 0, 0, 0)
CODES = {
    "division-by-zero",
    "empty",
    "jump-out-of-range",
    "load-out-of-range",
    "load-unaligned",
    "no-return",
    "opcode-not-allowed",
    "scratch-out-of-range",
    "shift-too-large",
    "uninitialised-scratch",
    "unknown-opcode",
}
KNOWN = [*range(0x100), *sorted(classic.SECCOMP_CODES) * 3]
FEWEST_REFUSED, FEWEST_TAKEN = 1000, 1000
EDGES = (
    0, 1, 3, 4, 15, 16, 31, 32, 60, 61, 63, 64, 255, 256, 4095, 4096, 0x7FFFFFFF, 0x80000000,
    0xFFFFF000, 0xFFFFF004, 0xFFFFFFFC, 0xFFFFFFFF,
)  # fmt: skip


class Kernel:
    """The kernel's word on programs."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, CHECKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def takes(self, program: bytes) -> bool:
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answers is not None
        pipe.write(COUNT.pack(len(program) // 8) + program)
        pipe.flush()
        (error,) = COUNT.unpack(answers.read(COUNT.size))
        assert error in (0, errno.EINVAL)
        return not error

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    one = Kernel()
    yield one
    one.close()


def refused_as(program: bytes) -> str | None:
    """The code of our checker; None where it takes the program."""
    try:
        Filter.decode(program)
    except FilterError as error:
        return error.code
    return None


def mutated(dice: random.Random, instructions: list[Instruction]) -> list[Instruction]:
    """One instruction is dropped, doubled, moved, or made into something else."""
    at = dice.randrange(len(instructions))
    one = instructions[at]
    match dice.randrange(8):
        case 0:
            return instructions[:at]
        case 1:
            return [*instructions[:at], *instructions[at + 1 :]]
        case 2:
            return [*instructions[:at], one, *instructions[at:]]
        case 3:
            other = dice.choice(instructions)
            return [*instructions[:at], other, *instructions[at + 1 :]]
        case 4:
            one = one._replace(code=dice.choice((dice.choice(KNOWN), dice.randrange(0x10000))))
        case 5:
            one = one._replace(jt=dice.choice((0, 1, 255, dice.randrange(256))))
        case 6:
            one = one._replace(jf=dice.choice((0, 1, 255, dice.randrange(256))))
        case _:
            one = one._replace(k=dice.choice((*EDGES, dice.getrandbits(32))))
    return [*instructions[:at], one, *instructions[at + 1 :]]


def test_mutated_programs_are_taken_by_both_or_by_none(
    kernel: Kernel, record_property: Callable[[str, object], None]
) -> None:
    count: Counter[str] = Counter()

    @settings(max_examples=150, suppress_health_check=list(HealthCheck))
    @given(raw_filters(), st.integers(0, 1 << 32))
    def agree(program: bytes, seed: int) -> None:
        dice = random.Random(seed)
        instructions = list(classic.unpack(program))
        for _ in range(60):
            tried = instructions
            for _ in range(dice.choice((1, 1, 2, 3))):
                tried = mutated(dice, tried) if tried else tried
            agree_on(kernel, classic.pack(tried), count)

    agree()
    record_property("programs", ", ".join(f"{code}: {n}" for code, n in sorted(count.items())))
    assert count["taken"] >= FEWEST_TAKEN
    assert count.total() - count["taken"] >= FEWEST_REFUSED
    assert set(count) == CODES | {"taken"}


def agree_on(kernel: Kernel, program: bytes, count: Counter[str]) -> None:
    code = refused_as(program)
    assert kernel.takes(program) is (code is None), (code, classic.unpack(program))
    assert code is None or code in CODES
    count[code or "taken"] += 1


@pytest.mark.parametrize("end", [ALLOW, Instruction(classic.RETURN_A, 0, 0, 0)])
def test_every_opcode_is_taken_by_both_or_by_none(kernel: Kernel, end: Instruction) -> None:
    """All of them with each of the operands at which the kernel draws a line."""
    for code in (*range(0x200), 0x1006, 0x8000, 0xFF06, 0xFFFF):
        for k in (0, 1, 4, 15, 16, 31, 32, 60, 62, 64, 0xFFFFFFFF):
            tried = [Instruction(code, 0, 0, k), end]
            agree_on(kernel, classic.pack(tried), Counter())


@pytest.mark.parametrize(
    ("length", "taken"),
    [(0, False), (1, True), (MAX_INSTRUCTIONS - 1, True), (MAX_INSTRUCTIONS, True)]
    + [(length, False) for length in (MAX_INSTRUCTIONS + 1, 2 * MAX_INSTRUCTIONS, 0xFFFF)],
)
def test_the_lengths_that_are_taken_are_those_of_the_kernel(
    kernel: Kernel, length: int, taken: bool
) -> None:
    program = classic.pack([NOTHING] * (length - 1) + [ALLOW] * min(1, length))
    assert kernel.takes(program) is taken
    assert refused_as(program) == (None if taken else "too-long" if length else "empty")


def test_the_longest_jumps_are_those_of_the_kernel(kernel: Kernel) -> None:
    for distance in (0, 254, 255, 256, 4093, 4094, 4095, 0xFFFFFFFE, 0xFFFFFFFF):
        for length in (2, 256, 257, MAX_INSTRUCTIONS):
            end = [NOTHING] * (length - 2) + [ALLOW]
            agree_on(
                kernel, classic.pack([Instruction(classic.JUMP, 0, 0, distance), *end]), Counter()
            )
            short = min(distance, 255)
            test = classic.JMP | classic.JEQ | classic.K
            for jt, jf in ((short, 0), (0, short), (short, short)):
                agree_on(kernel, classic.pack([Instruction(test, jt, jf, 0), *end]), Counter())
