"""From a program that got through to a find: confirmed, shortened, and with a route nobody claimed.

What a program's author says of it is of no account here: labels of constants and of ring operations
are dropped, and the decisive operation is the one after which the effect is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from attacks import jsonform
from attacks.family import FamilyInstance
from attacks.program import MAY_DECIDE, Operation, Program, Syscall, is_decisive, size_of
from attacks.shorter import droppable, without, without_unused_memory
from evaluator.search_shorten import shortened
from mitigations.strict_json import is_list, is_table

CONFIRMATIONS = 3
Works = Callable[[Sequence[Program]], Sequence[bool]]
"""Whether each of some programs has the effect in both arms, by running it."""
_ROUNDS = 4
_WAITS = frozenset({"wait4", "waitid", "waitpid"})


def unlabelled(program: Program) -> Program:
    """The program without what is there for readers alone, which nobody has checked."""
    # Whose program it is, and where it may go, was checked when it was read.
    return jsonform.parse(_bare(jsonform.document(program)), confined=False)


def _bare(value: Any) -> Any:
    if is_list(value):
        return [_bare(one) for one in value]
    if not is_table(value):
        return value
    if "const" in value:
        return value["const"]
    return {key: _bare(one) for key, one in value.items() if key != "opcode"}


def out_of_scope(program: Program, family: FamilyInstance) -> str:
    """Why a program is no attack from under the candidate; empty if it is one."""
    if program.setup:
        return "it has a setup, and what runs before the filter is no way past it"
    if _victim(program) != _victim(family.baseline.program):
        return "its victim section is not that of the first example: that process is not filtered"
    if not any(isinstance(op, Syscall) for _, op in _attack(program)):
        return "it makes no system call, and so no filter could stop it"
    return ""


def _victim(program: Program) -> Program:
    """What the unfiltered process does, with the memory that it names."""
    return without_unused_memory(Program(program.blobs, (), program.victim, ()))


def _attack(program: Program) -> list[tuple[int, Operation]]:
    return [(n, op) for n, (name, op) in enumerate(program.flatten()) if name == "attack"]


def settled(program: Program, works: Works) -> Program:
    """The program as short as it can be, its decisive operation marked by what runs showed."""
    best = shortened(program, works)
    for _ in range(_ROUNDS):
        marked = _marked(best, works)
        if marked == best:
            break
        best = shortened(marked, works)
    return best


def _marked(program: Program, works: Works) -> Program:
    """The program with its mark moved, where runs show that it is in the wrong place.

    Of a program that is as short as it can be only the marked operation may be needless, and the
    last one completes the effect.
    """
    decisive = next(slot for slot, op in _attack(program) if is_decisive(op))
    last = next((slot for slot in reversed(_hosts(program)) if slot != decisive), None)
    if last is None:
        return program
    moved = _with_mark(program, last)
    for slot in _around(program, decisive):
        if slot in droppable(moved):
            fewer = without(moved, slot)
            if all(works([fewer])):
                return fewer
    top = [slot for slot, _ in _top(program)]
    if decisive not in top or decisive > last:
        return program
    cut = _cut_after(program, decisive)
    if all(works([cut])):
        return cut
    return moved if all(works([moved])) else program


def _hosts(program: Program) -> list[int]:
    """Slots of the attack's operations that can cause an effect themselves.

    Who makes a child or waits for one does not.
    """
    return [
        slot
        for slot, op in _attack(program)
        if isinstance(op, MAY_DECIDE)
        and not (isinstance(op, Syscall) and (op.body or op.name in _WAITS))
    ]


def _top(program: Program) -> list[tuple[int, Operation]]:
    """The attack's operations that are in no body, with their slots."""
    slot = len(program.flatten()) - sum(map(size_of, program.attack))
    found: list[tuple[int, Operation]] = []
    for op in program.attack:
        found.append((slot, op))
        slot += size_of(op)
    return found


def _around(program: Program, slot: int) -> list[int]:
    """The slots of an operation and of those whose bodies it is in, the outermost first."""
    return [n for n, op in _attack(program) if n <= slot < n + size_of(op)]


def _cut_after(program: Program, slot: int) -> Program:
    """The program up to the top-level operation of the attack at a slot."""
    kept = tuple(op for n, op in _top(program) if n <= slot)
    return without_unused_memory(replace(program, attack=kept))


def _with_mark(program: Program, slot: int) -> Program:
    """The same with the operation of the attack at a slot as the decisive one."""
    first = len(program.flatten()) - sum(map(size_of, program.attack))
    return replace(program, attack=_remarked(program.attack, first, slot))


def _remarked(ops: tuple[Operation, ...], first: int, marked: int) -> tuple[Operation, ...]:
    found: list[Operation] = []
    for op in ops:
        one = replace(op, decisive=first == marked) if isinstance(op, MAY_DECIDE) else op
        if isinstance(one, Syscall) and one.body:
            one = replace(one, body=_remarked(one.body, first + 1, marked))
        found.append(one)
        first += size_of(op)
    return tuple(found)
