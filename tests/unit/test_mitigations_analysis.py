"""A partition is exact: whatever the arguments, one part has them, and the interpreter agrees."""

import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitigations import x86_64
from mitigations.analysis import (
    Bits,
    InexactError,
    Test,
    difference,
    partition,
    solution,
)
from mitigations.bpf import Filter, decide_stack
from mitigations.candidate import Candidate
from mitigations.classic import JEQ, JGE, JGT, JSET, answer_text
from mitigations.load import load
from mitigations.x86_64 import AUDIT_ARCH_I386, AUDIT_ARCH_X86_64

LIBRARY = Path(__file__).parents[2] / "mitigations" / "library"
ALLOW, EPERM, KILL = 0x7FFF0000, 0x50001, 0x80000000
Line = tuple[int, int, int, int]
EDGES = (0, 1, 2, 7, 8, 0x40, 0xFF, 0x100, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
constants = st.sampled_from(EDGES) | st.integers(0, 0xFFFFFFFF)
arguments = st.tuples(*[st.tuples(constants, constants).map(lambda two: two[0] | two[1] << 32)] * 6)
LOADS = [(0x20, 0, 0, offset) for offset in range(0, 64, 4)]
# AND, OR, XOR and the shifts by a constant; TAX, TXA and one word of scratch memory.
MOVES = st.one_of(
    st.tuples(st.sampled_from([0x54, 0x44, 0xA4]), st.just(0), st.just(0), constants),
    st.tuples(st.sampled_from([0x64, 0x74]), st.just(0), st.just(0), st.integers(0, 31)),
    st.sampled_from([(0x07, 0, 0, 0), (0x87, 0, 0, 0), (0x02, 0, 0, 1), (0x60, 0, 0, 1)]),
    st.sampled_from([(0x01, 0, 0, 7), (0x00, 0, 0, 0x40), (0x5C, 0, 0, 0), (0x80, 0, 0, 0)]),
)
RETURNS = [(6, 0, 0, value) for value in (ALLOW, EPERM, KILL, 0x50000, 0x7FFC0000)]


def filter_of(*lines: Line) -> list[Filter]:
    return [Filter.decode(b"".join(struct.pack("<HBBI", *line) for line in lines))]


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    """A program of loads, moves and tests; every jump goes forward and none too far."""
    length = draw(st.integers(0, 14))
    lines: list[Line] = [(0x02, 0, 0, 1)]
    for left in range(length, 0, -1):
        kind = draw(st.integers(0, 3))
        if kind == 0:
            lines.append(draw(st.sampled_from(LOADS)))
        elif kind == 1:
            lines.append(draw(MOVES))
        else:
            test = draw(st.sampled_from([0x15, 0x25, 0x35, 0x45, 0x15, 0x1D, 0x2D, 0x3D, 0x4D]))
            jumps = st.integers(0, left)
            lines.append((test, draw(jumps), draw(jumps), draw(constants)))
    lines += [draw(st.sampled_from(RETURNS)) for _ in range(2)]
    (made,) = filter_of(*lines)
    return made


@settings(max_examples=200)
@given(st.lists(filters(), min_size=1, max_size=2), st.lists(arguments, min_size=1, max_size=12))
def test_every_call_is_in_one_part_that_answers_as_the_interpreter(
    stack: list[Filter], calls: list[tuple[int, ...]]
) -> None:
    try:
        parts = partition(stack, AUDIT_ARCH_X86_64, 1)
    except InexactError:
        return
    for args in (*calls, *(part.args for part in parts)):
        for pointer in (0, 0x7FFF00000002, *(part.pointer for part in parts)):
            (part,) = [one for one in parts if one.holds(args, pointer)]
            said = decide_stack(stack, AUDIT_ARCH_X86_64, 1, args, pointer)
            assert said.possible == {part.value}


@settings(max_examples=200)
@given(st.lists(filters(), min_size=1, max_size=2))
def test_a_witness_is_in_its_own_part(stack: list[Filter]) -> None:
    try:
        parts = partition(stack, AUDIT_ARCH_X86_64, 1)
    except InexactError:
        return
    for part in parts:
        assert part.holds(part.args, part.pointer)
        assert [one for one in parts if one.holds(part.args, part.pointer)] == [part]


TESTS = st.builds(
    Test,
    bits=st.builds(
        Bits, st.just(4), st.integers(-31, 31), st.integers(1, 0xFF), st.integers(0, 0xFF)
    ),
    operator=st.sampled_from([JEQ, JGT, JGE, JSET]),
    constant=st.integers(0, 0xFF),
    holds=st.booleans(),
)


@settings(max_examples=300)
@given(st.lists(TESTS, min_size=1, max_size=4))
def test_no_solution_is_overlooked(tests: list[Test]) -> None:
    """On eight bits all values can be tried; a shift moves them to where the tests look."""
    tried = [
        value
        for shift in range(0, 32, 8)
        for value in (low << shift & 0xFFFFFFFF for low in range(256))
        if all(test.passes(value) for test in tests)
    ]
    found = solution(frozenset(tests))
    assert found is None or all(test.passes(found) for test in tests)
    assert found is not None or not tried


WHOLE = st.builds(
    Test,
    bits=st.just(Bits(4)),
    operator=st.sampled_from([JEQ, JGT, JGE]),
    constant=st.one_of(st.integers(0, 5), st.integers(0xFFFFFFFA, 0xFFFFFFFF)),
    holds=st.booleans(),
)


@settings(max_examples=300)
@given(st.lists(WHOLE, min_size=1, max_size=12))
def test_no_value_of_a_whole_word_is_overlooked(tests: list[Test]) -> None:
    """Beside the constants and their neighbours no value can be the only one."""
    near = [(test.constant + by) & 0xFFFFFFFF for test in tests for by in range(-7, 8)]
    tried = [value for value in near if all(test.passes(value) for test in tests)]
    found = solution(frozenset(tests))
    assert (found is None) == (not tried)
    assert found is None or all(test.passes(found) for test in tests)


def test_a_long_list_of_values_is_read_in_no_time() -> None:
    """Each one more was compared with all the others, for each of those."""
    tests = frozenset(Test(Bits(4), JEQ, value, holds=False) for value in range(4000))
    begin = time.process_time()
    assert solution(tests) == 4000
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("path", sorted(LIBRARY.glob("*.json")), ids=lambda path: path.stem)
def test_bundled_profiles_are_analysed_exactly(path: Path) -> None:
    (candidate,) = load(path)
    assert isinstance(candidate, Candidate)
    stack = [Filter.decode(layer.program) for layer in candidate.seccomp]
    for abi, table in x86_64.NUMBERS.items():
        arch = AUDIT_ARCH_I386 if abi == "i386" else AUDIT_ARCH_X86_64
        for nr in table.values():
            parts = partition(stack, arch, nr)
            for part in parts:
                said = decide_stack(stack, arch, nr, part.args, part.pointer)
                assert said.possible == {part.value}


def conditions(*lines: Line) -> list[tuple[str, tuple[str, ...]]]:
    stack = filter_of(*lines)
    return [(part.answer, part.conditions) for part in partition(stack, AUDIT_ARCH_X86_64, 1)]


def test_conditions_are_written_as_in_c() -> None:
    low, high = (0x20, 0, 0, 16), (0x20, 0, 0, 20)
    allow, deny = (6, 0, 0, ALLOW), (6, 0, 0, EPERM)
    assert conditions(high, (0x15, 0, 3, 0), low, (0x15, 0, 1, 5), deny, allow) == [
        ("ERRNO(EPERM)", ("args[0] == 0x5",)),
        ("ALLOW", ("high(args[0]) == 0x0", "low(args[0]) != 0x5")),
        ("ALLOW", ("high(args[0]) != 0x0",)),
    ]
    assert conditions(low, (0x45, 0, 1, 0x40), deny, allow) == [
        ("ERRNO(EPERM)", ("(low(args[0]) & 0x40) != 0",)),
        ("ALLOW", ("(low(args[0]) & 0x40) == 0",)),
    ]
    assert conditions(low, (0x54, 0, 0, 3), (0x15, 0, 1, 1), deny, allow) == [
        ("ERRNO(EPERM)", ("(low(args[0]) & 0x3) == 0x1",)),
        ("ALLOW", ("(low(args[0]) & 0x3) != 0x1",)),
    ]


def test_what_changes_nothing_is_no_condition() -> None:
    low = (0x20, 0, 0, 16)
    assert conditions(low, (0x15, 0, 1, 5), (6, 0, 0, ALLOW), (6, 0, 0, ALLOW)) == [("ALLOW", ())]


def test_what_was_decided_before_is_not_asked_again() -> None:
    low, deny, allow = (0x20, 0, 0, 16), (6, 0, 0, EPERM), (6, 0, 0, ALLOW)
    assert conditions(low, (0x35, 0, 1, 8), (0x25, 1, 0, 3), deny, allow) == [
        ("ALLOW", ("low(args[0]) >= 0x8",)),
        ("ERRNO(EPERM)", ("low(args[0]) < 0x8",)),
    ]


def test_arithmetic_that_mixes_bits_is_told() -> None:
    with pytest.raises(InexactError, match=r"instruction 1 calculates with low\(args\[0\]\)"):
        conditions((0x20, 0, 0, 16), (0x04, 0, 0, 1), (0x15, 0, 0, 5), (6, 0, 0, ALLOW))


def test_a_filter_of_i386_may_see_high_words() -> None:
    """64-bit code that calls by int 0x80 has them (tests/live/test_wide_registers.py)."""
    high = (0x20, 0, 0, 20)
    stack = filter_of(high, (0x15, 0, 1, 0), (6, 0, 0, ALLOW), (6, 0, 0, EPERM))
    for arch in (AUDIT_ARCH_I386, AUDIT_ARCH_X86_64):
        assert [part.answer for part in partition(stack, arch, 1)] == ["ALLOW", "ERRNO(EPERM)"]


def library_filters(name: str) -> list[Filter]:
    (candidate,) = load(LIBRARY / name)
    assert isinstance(candidate, Candidate)
    return [Filter.decode(layer.program) for layer in candidate.seccomp]


def test_a_difference_is_every_region_that_opened_or_closed() -> None:
    before, after = (library_filters(f"{name}.json") for name in ("unconfined", "block-mkdir"))
    changes = list(difference(before, after))
    closed = {(one.abi, one.call) for one in changes if one.closed}
    assert not any(one.opened for one in changes)
    assert {call for abi, call in closed if abi == "x86_64"} == {"mkdir", "mkdirat"}
    assert {call for abi, call in closed if abi == "i386"} == set(x86_64.NUMBERS["i386"])
    assert [one for one in difference(after, before) if one.closed] == []
    assert list(difference(after, after)) == []


@settings(max_examples=30)
@given(filters(), filters(), arguments)
def test_a_difference_is_what_the_interpreter_sees(
    old: Filter, new: Filter, args: tuple[int, ...]
) -> None:
    try:
        changes = [one for one in difference([old], [new]) if one.call == "write"]
    except InexactError:
        return
    for one in changes:
        seen_as = x86_64.arch(one.abi), one.nr, one.witness
        before, after = (each.decide(*seen_as, None).possible for each in (old, new))
        assert one.before in {answer_text(value or 0) for value in before}
        assert one.after in {answer_text(value or 0) for value in after}
    said = [each.decide(AUDIT_ARCH_X86_64, 1, args, 0).possible for each in (old, new)]
    assert said[0] == said[1] or any(one.abi == "x86_64" for one in changes)


def test_too_many_ways_are_told_at_once() -> None:
    low, allow, deny = (0x20, 0, 0, 16), (6, 0, 0, ALLOW), (6, 0, 0, EPERM)
    many = [one for bit in range(30) for one in ((0x45, 1, 0, 1 << bit), (0x20, 0, 0, 16))]
    with pytest.raises(InexactError, match="ways"):
        partition(filter_of(low, *many, (0x15, 0, 1, 5), deny, allow), AUDIT_ARCH_X86_64, 1)


def test_a_jump_to_the_same_place_is_no_condition() -> None:
    low, allow = (0x20, 0, 0, 16), (6, 0, 0, ALLOW)
    many = [one for bit in range(30) for one in (low, (0x45, 0, 0, 1 << bit))]
    (part,) = partition(filter_of(*many, allow), AUDIT_ARCH_X86_64, 1)
    assert part.tests == ()


def test_a_product_with_0_is_0() -> None:
    low, times_0 = (0x20, 0, 0, 16), (0x24, 0, 0, 0)
    found = conditions(low, times_0, (0x15, 0, 1, 0), (6, 0, 0, EPERM), (6, 0, 0, ALLOW))
    assert found == [("ERRNO(EPERM)", ())]


def test_of_a_word_that_is_known_nothing_else_is_said() -> None:
    low, deny, allow = (0x20, 0, 0, 16), (6, 0, 0, EPERM), (6, 0, 0, ALLOW)
    found = conditions(low, (0x25, 3, 0, 5), (0x15, 0, 1, 3), deny, allow, deny)
    assert ("ERRNO(EPERM)", ("low(args[0]) == 0x3",)) in found
