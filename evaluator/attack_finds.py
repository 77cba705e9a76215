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
    short = shortened(program, works)
    marked = _marked(short, works)
    return marked if marked == short else shortened(marked, works)


def _marked(program: Program, works: Works) -> Program:
    """Marks the last operation, if the effect is not there after the one that is marked.

    Of a program that is as short as it can be nothing is needless: the last operation completes the
    effect.  Who waits for a child does not, and neither does what is inside of one.
    """
    flat = program.flatten()
    decisive = next(slot for slot, op in _attack(program) if is_decisive(op))
    if not any(op is flat[decisive][1] for op in program.attack):
        return program
    cut = _cut_after(program, decisive)
    if cut == program or all(works([cut])):
        return cut
    last = program.attack[-1]
    at = len(flat) - size_of(last)
    if not isinstance(last, MAY_DECIDE) or size_of(last) > 1:
        return program
    if isinstance(last, Syscall) and last.name in _WAITS:
        return program
    moved = _with_mark(program, decisive, at)
    if decisive in droppable(moved):
        fewer = without(moved, decisive)
        if all(works([fewer])):
            return fewer
    return moved if all(works([moved])) else program


def _cut_after(program: Program, slot: int) -> Program:
    """The program up to the end of the top-level operation of the attack at a slot."""
    first = len(program.flatten()) - sum(map(size_of, program.attack))
    kept: list[Operation] = []
    for op in program.attack:
        kept.append(op)
        first += size_of(op)
        if first > slot:
            break
    return without_unused_memory(replace(program, attack=tuple(kept)))


def _with_mark(program: Program, old: int, new: int) -> Program:
    """The decisive mark goes from one top-level operation of the attack to another."""
    first = len(program.flatten()) - sum(map(size_of, program.attack))
    attack: list[Operation] = []
    for op in program.attack:
        attack.append(_decisive(op, first == new) if first in (old, new) else op)
        first += size_of(op)
    return replace(program, attack=tuple(attack))


def _decisive(op: Operation, yes: bool) -> Operation:
    return replace(op, decisive=yes) if isinstance(op, MAY_DECIDE) else op
