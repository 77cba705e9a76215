"""A program less one of its operations, and less the memory that nothing uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from attacks.program import (
    Addr,
    Operation,
    Program,
    Slot,
    Syscall,
    Value,
    is_decisive,
    operands,
    size_of,
    with_operands,
)


def droppable(program: Program) -> list[int]:
    """Slots of the attack's operations that can be left out, the last first.

    Not the decisive one and what it is inside of, nor one whose result somebody reads, nor the only
    one of a child.
    """
    flat = program.flatten()
    kept = set(_read(flat)) | set(_alone(flat))
    return [
        slot
        for slot, (section, op) in reversed([*enumerate(flat)])
        if section == "attack"
        and slot not in kept
        and not any(is_decisive(one) for _, one in flat[slot : slot + size_of(op)])
        and set(_read(flat[slot + size_of(op) :])).isdisjoint(range(slot, slot + size_of(op)))
    ]


def _read(flat: Sequence[tuple[str, Operation]]) -> Iterator[int]:
    """Slots that these operations read."""
    for _, op in flat:
        yield from (value.index for value in operands(op) if isinstance(value, Slot))


def _alone(flat: Sequence[tuple[str, Operation]]) -> Iterator[int]:
    """Slots of operations that are all that a child does."""
    for slot, (_, op) in enumerate(flat):
        if isinstance(op, Syscall) and len(op.body) == 1:
            yield slot + 1


def without(program: Program, slot: int) -> Program:
    """The program less the operation at a slot and all that is in it."""
    size = size_of(program.flatten()[slot][1])

    def moved(value: Value) -> Value:
        if isinstance(value, Slot) and value.index > slot:
            return Slot(value.index - size)
        return value

    counted = iter(range(len(program.flatten())))
    sections = {
        name: tuple(_kept(getattr(program, name), counted, slot, moved))
        for name in ("setup", "victim", "attack")
    }
    return replace(program, **sections)


def _kept(
    ops: tuple[Operation, ...],
    slots: Iterator[int],
    dropped: int,
    moved: Callable[[Value], Value],
) -> Iterator[Operation]:
    for op in ops:
        gone = next(slots) == dropped
        body = op.body if isinstance(op, Syscall) else ()
        inner = tuple(_kept(body, slots, dropped, moved))
        if gone:
            continue
        kept = with_operands(op, map(moved, operands(op)))
        yield replace(kept, body=inner) if isinstance(kept, Syscall) and body else kept


def without_unused_memory(program: Program) -> Program:
    """The program less the blobs that no operation names."""
    named = [
        value.blob
        for _, op in program.flatten()
        for value in operands(op)
        if isinstance(value, Addr)
    ]
    kept = sorted(set(named))
    if len(kept) == len(program.blobs):
        return program
    places = {blob: place for place, blob in enumerate(kept)}

    def moved(value: Value) -> Value:
        return Addr(places[value.blob], value.offset) if isinstance(value, Addr) else value

    nowhere = iter(range(len(program.flatten())))
    sections = {
        name: tuple(_kept(getattr(program, name), nowhere, -1, moved))
        for name in ("setup", "victim", "attack")
    }
    return replace(program, blobs=tuple(program.blobs[one] for one in kept), **sections)
