"""From a program that got through to a find: shortened, marked by what runs show, and compared.

What a program's author says of it is of no account here.  Labels of constants and of operations of
a ring are dropped.  Two programs are compared by the calls that they make and where the filters
decide each: who needs no call that another does not need gets through wherever that one does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from attacks import jsonform
from attacks.effects import Grade
from attacks.family import Assumption, FamilyInstance
from attacks.program import MAY_DECIDE, Operation, Program, Syscall, is_decisive, size_of
from attacks.shorter import droppable, without, without_unused_memory
from evaluator.derived import rewritten
from evaluator.outcome import Terms
from evaluator.outline import outline
from evaluator.predict import decide_call, is_known
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


def calls_of(program: Program, terms: Terms) -> frozenset[str]:
    """The calls of an attack: table, name, and the tests of the filters that decide about each."""
    found: set[str] = set()
    for call in outline(program).calls:
        decision = decide_call(call, call.args, terms.filters, terms.syscall_insn)
        region = ",".join(f"{pc}{'+' if taken else '-'}" for pc, taken in decision.region)
        found.add(f"{call.op.abi.value}:{call.op.name}" + (f"[{region}]" if region else ""))
    return frozenset(found)


def library_calls(family: FamilyInstance, terms: Terms) -> list[tuple[str, frozenset[str]]]:
    """What is recorded, or made by one rule, and in scope: ids and calls, the shortest first."""
    known = [
        one
        for one in (*family.variants, *rewritten(family))
        if is_known(one.program)
        and one.assumption is Assumption.NONE
        and one.grade is Grade.EXACT
        and not one.negative
        and not one.beyond_seccomp
    ]
    known.sort(key=lambda one: (len(one.program.flatten()), one.id))
    return [(one.id, calls_of(one.program, terms)) for one in known]


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
    """Slots of the attack's calls that can cause an effect: not of who makes or awaits a child.

    Stores and the like stay marked where their author says so: they follow the call that matters.
    """
    return [
        slot
        for slot, op in _attack(program)
        if isinstance(op, Syscall) and not op.body and op.name not in _WAITS
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
