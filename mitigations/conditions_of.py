"""Conditions of rules for arguments that a filter tells apart: first comparisons, else masks.

A rule has one comparison for each argument at most, of 64 bits, or runtimes make several of it.
What the tests of a filter single out is written as one comparison where it is one (LE, NE, ...),
and else as a list of masks: each rule then asks that certain bits have certain values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from mitigations import classic
from mitigations.analysis import Bits, Part, Test
from mitigations.rules import Condition

_WORD = 32
_LOW = (1 << _WORD) - 1
_WHOLE = (1 << 64) - 1
_ARGUMENTS = 4  # before it in struct seccomp_data: nr, arch, the instruction pointer
_ARGUMENT_COUNT = 6
_MOST_PATTERNS = 1 << 11
_MOST_CLASSES = 1 << 12
_FEW = 16
"""So many values of a stretch are easier to read one by one than as masks."""

Conditions = tuple[Condition, ...]
Answers = Mapping[int, Sequence[Conditions]]
"""What is answered, and the lists of conditions of which one has to hold for that."""
_Pattern = tuple[int, int]
"""A mask over words of struct seccomp_data, the first the lowest, and the bits that it must show.
"""
_ANYTHING: _Pattern = (0, 0)


class TooManyError(Exception):
    """No list of conditions that anybody would want says it."""


def by_comparison(parts: Sequence[Part]) -> Answers | None:
    """One comparison for each answer and stretch of one argument; None where masks are needed."""
    tests = [test for part in parts for test in part.tests]
    words = {test.bits.word for test in tests}
    plain = all(test.bits == Bits(test.bits.word) for test in tests)
    if len({word // 2 for word in words}) != 1 or min(words) < _ARGUMENTS or not plain:
        return None
    if any(test.operator == classic.JSET for test in tests):
        return None
    low = min(words) & ~1
    stretches = _stretches(parts, low)
    if stretches is None:
        return None
    index = (low - _ARGUMENTS) // 2
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for first, last, value in stretches:
        found[value].append((first, last))
    return {value: list(_compared(index, ends)) for value, ends in found.items()}


def by_mask(parts: Sequence[Part]) -> Answers:
    """Masks for each answer; TooManyError, also where the instruction pointer is asked for."""
    found: dict[int, set[_Pattern]] = defaultdict(set)
    for part in parts:
        found[part.value].update(_patterns(part.tests))
        if len(found[part.value]) > _MOST_PATTERNS:
            raise TooManyError
    return {value: [_conditions(one) for one in _merged(all_)] for value, all_ in found.items()}


# ------------------------------------------------------------------------------------ comparisons


def _stretches(parts: Sequence[Part], low: int) -> list[tuple[int, int, int]] | None:
    """First, last and answer of what an argument may be; None if that is not a line.

    Between two constants that a half is compared with, one value stands for all: so it is enough
    that the lower half does not matter wherever the upper one may be several.
    """
    lows, highs = _classes(parts, low), _classes(parts, low + 1)
    if len(lows) * len(highs) > _MOST_CLASSES:
        return None
    found: list[tuple[int, int, int]] = []
    for high, high_end in highs:
        row = [(each, end, _value(parts, low, high << _WORD | each)) for each, end in lows]
        if high == high_end:
            found += [(high << _WORD | a, high << _WORD | b, value) for a, b, value in row]
        elif len({value for _, _, value in row}) == 1:
            found.append((high << _WORD, high_end << _WORD | _LOW, row[0][2]))
        else:
            return None
    joined = found[:1]
    for first, last, value in found[1:]:
        if joined[-1][2] == value:
            joined[-1] = (joined[-1][0], last, value)
        else:
            joined.append((first, last, value))
    return joined


def _classes(parts: Sequence[Part], word: int) -> list[tuple[int, int]]:
    starts = {0}
    for test in (test for part in parts for test in part.tests if test.bits.word == word):
        starts |= {test.constant, test.constant + 1}
    ordered = sorted(one for one in starts if one <= _LOW)
    return list(zip(ordered, [one - 1 for one in ordered[1:]] + [_LOW], strict=True))


def _value(parts: Sequence[Part], low: int, argument: int) -> int:
    args = [0] * _ARGUMENT_COUNT
    args[(low - _ARGUMENTS) // 2] = argument
    return next(part.value for part in parts if part.holds(args))


def _compared(index: int, ends: Sequence[tuple[int, int]]) -> Iterator[Conditions]:
    match ends:
        case [(0, before), (after, _)] if after == before + 2 and ends[1][1] == _WHOLE:
            yield (Condition(index, "SCMP_CMP_NE", before + 1, 0),)
            return
        case _:
            pass
    for first, last in ends:
        if first == last:
            yield (Condition(index, "SCMP_CMP_EQ", first, 0),)
        elif first == 0:
            yield (Condition(index, "SCMP_CMP_LE", last, 0),)
        elif last == _WHOLE:
            yield (Condition(index, "SCMP_CMP_GE", first, 0),)
        elif last - first < _FEW:
            for value in range(first, last + 1):
                yield (Condition(index, "SCMP_CMP_EQ", value, 0),)
        else:
            yield from (_masked(index, *block) for block in _blocks(first, last))


def _blocks(first: int, last: int) -> Iterator[_Pattern]:
    """From ``first`` to ``last`` in steps that a mask each stands for."""
    while first <= last:
        size = first & -first
        while size > last - first + 1:
            size >>= 1
        yield _WHOLE & ~(size - 1), first
        first += size


# ------------------------------------------------------------------------------------------ masks


def _patterns(tests: Sequence[Test]) -> list[_Pattern]:
    """The masks of which one is met where all tests pass; no two are met together."""
    found = [_ANYTHING]
    for test in tests:
        ways = list(_ways(test))
        met = (_both(one, way) for one in found for way in ways)
        found = [each for each in met if each is not None]
        if len(found) > _MOST_PATTERNS:
            raise TooManyError
    return found


def _both(one: _Pattern, other: _Pattern) -> _Pattern | None:
    if (one[1] ^ other[1]) & one[0] & other[0]:
        return None
    return one[0] | other[0], one[1] | other[1]


def _ways(test: Test) -> Iterator[_Pattern]:
    """A test as masks: it comes out as wanted by the first bit that differs from its constant."""
    constant = test.constant
    if test.operator == classic.JSET:
        looked_at = [place for place in range(_WORD) if constant >> place & 1]
        for count, place in enumerate(looked_at if test.holds else ()):
            wanted = {place: 1, **dict.fromkeys(looked_at[:count], 0)}
            yield from _placed(test.bits, wanted)
        if not test.holds:
            yield from _placed(test.bits, dict.fromkeys(looked_at, 0))
        return
    digits = {place: constant >> place & 1 for place in range(_WORD)}
    larger, smaller, equal = {
        (classic.JEQ, True): (False, False, True),
        (classic.JEQ, False): (True, True, False),
        (classic.JGT, True): (True, False, False),
        (classic.JGT, False): (False, True, True),
        (classic.JGE, True): (True, False, True),
        (classic.JGE, False): (False, True, False),
    }[test.operator, test.holds]
    for place in reversed(range(_WORD)):
        above = {each: digits[each] for each in range(place + 1, _WORD)}
        if smaller if digits[place] else larger:
            yield from _placed(test.bits, {**above, place: 1 - digits[place]})
    if equal:
        yield from _placed(test.bits, digits)


def _placed(bits: Bits, wanted: Mapping[int, int]) -> Iterator[_Pattern]:
    """The mask by which places of what was computed have these digits; nothing if they cannot."""
    mask = value = 0
    for place, digit in wanted.items():
        own = digit ^ (bits.flip >> place & 1)
        source = place - bits.shift
        if not bits.mask >> place & 1 or not 0 <= source < _WORD:
            if own:
                return
            continue
        mask |= 1 << source
        value |= own << source
    yield mask << _WORD * bits.word, value << _WORD * bits.word


def _merged(patterns: set[_Pattern]) -> list[_Pattern]:
    """Two that differ in what one bit must be are one that does not ask for it."""
    left = set(patterns)
    pending = sorted(patterns)
    while pending:
        one = pending.pop()
        if one not in left:
            continue
        mask, value = one
        for bit in (1 << place for place in range(mask.bit_length()) if mask >> place & 1):
            other = (mask, value ^ bit)
            if other in left:
                left -= {one, other}
                both = (mask & ~bit, value & ~bit)
                left.add(both)
                pending.append(both)
                break
    return sorted(left)


def _conditions(pattern: _Pattern) -> Conditions:
    mask, value = pattern
    if mask & ((1 << _WORD * _ARGUMENTS) - 1):
        raise TooManyError  # no rule sees the instruction pointer
    found: list[Condition] = []
    for index in range(_ARGUMENT_COUNT):
        by = _WORD * (_ARGUMENTS + 2 * index)
        if asked := mask >> by & _WHOLE:
            found += _masked(index, asked, value >> by & _WHOLE)
    return tuple(found)


def _masked(index: int, mask: int, value: int) -> Conditions:
    if mask == _WHOLE:
        return (Condition(index, "SCMP_CMP_EQ", value, 0),)
    return (Condition(index, "SCMP_CMP_MASKED_EQ", mask, value),)
