"""Arguments that a filter lets pass and that mean the same to the kernel.

What a filter does with every argument of a call is known exactly (``mitigations.analysis``), and so
is how much of each argument the kernel reads (``attacks.arguments``).  Where a part that passes
wants bits that the kernel does not heed, the call is made with these bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from attacks.arguments import KINDS, UNHEEDED
from attacks.kernel import Kernel
from attacks.program import Abi, Const, Syscall
from attacks.recorder import Arg, Result
from attacks.replay import Made, Rule
from evaluator.outline import constant
from mitigations import x86_64
from mitigations.analysis import Bits, InexactError, Part, Test, partition, solution
from mitigations.bpf import Filter
from mitigations.classic import JEQ

_LOW = (1 << 32) - 1
_FIRST = 4
"""The word of struct seccomp_data that is the lower half of the first argument."""
_READ = {"fd": (_LOW, 0), "int": (_LOW, 0), "mode": (0xFFFF, 0)}
_ALL = (_LOW, _LOW)
_NOTHING = (0, 0)
_ARGUMENTS = 6
_MOST = 8


class Change(Struct, frozen=True):
    """What becomes of one argument: the bits of ``mask`` are those of ``bits``."""

    index: int
    mask: int
    bits: int


Changes = tuple[Change, ...]


def fits(op: Syscall, layout: Sequence[int], filters: Sequence[Filter]) -> list[Changes]:
    """Changes of a call's arguments by each of which the filters let it pass; the least first."""
    nr = x86_64.number(op.abi.value, op.name)
    if op.name not in KINDS or nr is None:
        return []
    try:
        parts = partition(filters, x86_64.arch(op.abi.value), nr)
        found = {one for part in parts if part.allows for one in _changes(op, layout, part)}
    except InexactError:
        return []
    return sorted(found, key=lambda one: (len(one), [(c.index, c.bits) for c in one]))[:_MOST]


def _changes(op: Syscall, layout: Sequence[int], part: Part) -> Iterator[Changes]:
    """The changes that make a call belong to a part, if there are any."""
    found: list[Change] = []
    for index in range(_ARGUMENTS):
        own = constant(op.args[index], layout) if index < len(op.args) else 0
        wanted = _wanted(op, index, own, part)
        if wanted is None:
            return
        if wanted.mask:
            found.append(wanted)
    if found:
        yield tuple(found)


def _wanted(op: Syscall, index: int, own: int | None, part: Part) -> Change | None:
    """What has to become of one argument; None where nothing helps."""
    mask = bits = 0
    for half, read in enumerate(_read(op, index)):
        word = _FIRST + 2 * index + half
        shift = 32 * half
        value = None if own is None else own >> shift & _LOW
        tests = [one for one in part.tests if one.bits.word == word]
        if not tests or (value is not None and all(one.passes(value) for one in tests)):
            continue
        if value is None and read:
            continue  # a descriptor, say: that is seen when it runs
        kept = Test(Bits(word, mask=read), JEQ, (value or 0) & read, holds=True)
        new = solution(frozenset((*tests, kept) if read else tests))
        if new is None:
            return None
        mask |= (_LOW & ~read) << shift
        bits |= (new & ~read & _LOW) << shift
    return Change(index, mask, bits)


def _read(op: Syscall, index: int) -> tuple[int, int]:
    """Which bits of the two halves of an argument the kernel heeds."""
    kinds = KINDS[op.name]
    if index >= len(kinds):
        return _NOTHING
    low, high = _READ.get(kinds[index], _ALL)
    return low & ~UNHEEDED.get((op.name, index), 0), high if op.abi is not Abi.I386 else _LOW


def fitted(slot: int, changes: Changes) -> Rule:
    """The rule that makes these changes to the call at a slot, through the table that it is in."""

    def rule(k: Kernel, call: Made) -> Result | None:
        if call.slot != slot:
            return None
        args = [*call.args, *[0] * (max(one.index for one in changes) + 1 - len(call.args))]
        for one in changes:
            args[one.index] = _changed(k, args[one.index], one)
        return k.through(call.abi, call.entry).raw(call.name, *args)

    return rule


def _changed(k: Kernel, arg: Arg, change: Change) -> Arg:
    match arg:
        case Const(value, text):
            kept = value & ~change.mask
            said = f"{change.bits:#x}|{text or hex(kept)}" if kept or text else hex(change.bits)
            return Const(kept | change.bits, said if change.bits else text)
        case int():
            return Const(arg & ~change.mask | change.bits)
        case Result():  # what a call returned: its upper half is empty
            return k.add(arg, Const(change.bits))
        case _:
            return arg


def in_words(changes: Changes) -> str:
    """Which bits of which arguments are set, for readers."""
    return ", ".join(f"argument {one.index + 1} with {one.bits:#x}" for one in changes)
