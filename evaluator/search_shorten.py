"""Makes a program that works as short as it can be: whatever it works without is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attacks.program import Program
from attacks.shorter import droppable, without, without_unused_memory

Works = Callable[[Sequence[Program]], Sequence[bool]]
"""Whether each of some programs works, by running it."""
_ROUNDS = 4
_REPEATS = 3


def shortened(program: Program, works: Works) -> Program:
    """The program less the operations and the memory that it does not need.

    Where the shorter one does not work every time, the program as it was.
    """
    best = program
    for _ in range(_ROUNDS):
        fewer = _fewer(best, works)
        if fewer is best:
            break
        best = fewer
    best = without_unused_memory(best)
    return best if best == program or all(works([best] * _REPEATS)) else program


def _fewer(program: Program, works: Works) -> Program:
    """Without all operations of those that nobody reads that it works without."""
    slots = droppable(program)
    answers = works([without(program, slot) for slot in slots])
    needless = [slot for slot, yes in zip(slots, answers, strict=True) if yes]
    whole = program
    for slot in needless:  # the last first: what is before it keeps its place
        whole = without(whole, slot)
    if len(needless) < 2 or all(works([whole])):
        return whole
    best = without(program, needless[0])
    for slot in needless[1:]:
        fewer = without(best, slot)
        if all(works([fewer])):
            best = fewer
    return best
