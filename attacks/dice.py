"""Answers that nobody knows beforehand: eight of them, four of each kind, by a throw of dice.

Whoever guesses is right once in seventy times; whoever gets the same answer to every question, as
from a filter, never is.  The attack notes what it found out in memory of its own that lies at the
same address in every process, where a witness reads it and compares it with the truth.
"""

from __future__ import annotations

from itertools import product

from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Arg, Recorder, Result

QUESTIONS = 8
_PATTERNS = [row for row in product((0, 1), repeat=QUESTIONS) if 2 * sum(row) == QUESTIONS]


def throw(k: Kernel, memory: Arg) -> Result:
    """The address of eight bytes that are 0 or 1; ``memory`` is for the throw itself."""
    rows = b"".join(bytes(_PATTERNS[i % len(_PATTERNS)]) for i in range(256))
    k.raw("getrandom", memory, 1, 0)
    eightfold = k.load(memory, 0, 1)
    for _ in range(3):
        eightfold = k.add(eightfold, eightfold)
    return k.add(k.data(rows, name="rows"), eightfold)


def note(k: Recorder, found: list[Result], wanted: int) -> None:
    """Notes for each result whether it is the wanted one, in 32 bits."""
    answer = k.buffer(8, name="answer")
    expected = k.data(wanted.to_bytes(4, "little", signed=True), name="expected")
    for number, result in enumerate(found):
        k.store(answer, 0, 4, result)
        k.store(k.env(Environment.SECRET), number, 1, k.compare(answer, expected, 4))
