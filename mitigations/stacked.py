"""A filter to put beside others: it denies some calls and leaves the rest to them.

Of several filters the kernel takes the strictest answer (seccomp(2)), so nothing need be known of
those that are there already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mitigations import classic
from mitigations.classic import Action, Instruction

_LOAD_ARCH = Instruction(classic.LOAD_WORD, 0, 0, 4)
_EQUAL = classic.JMP | classic.JEQ | classic.K
_MOST = 120
"""Calls in one section: a conditional jump reaches no further than 255 instructions."""


def denying(answers: Mapping[tuple[int, int], int]) -> tuple[Instruction, ...]:
    """A program that answers an errno to each of these calls, given by ``arch`` and ``nr``."""
    by_arch: dict[int, list[tuple[int, int]]] = {}
    for (arch, nr), errno_ret in answers.items():
        by_arch.setdefault(arch, []).append((nr, errno_ret))
    program = [_LOAD_ARCH]
    for arch, calls in by_arch.items():
        for at in range(0, len(calls), _MOST):
            program += _section(arch, calls[at : at + _MOST])
    return (*program, Instruction(classic.RETURN_K, 0, 0, Action.ALLOW))


def _section(arch: int, calls: Sequence[tuple[int, int]]) -> list[Instruction]:
    """Behind it the accumulator holds ``arch`` again, so that the next section can ask for it."""
    body = [Instruction(classic.LOAD_WORD, 0, 0, 0)]
    for nr, errno_ret in calls:
        body.append(Instruction(_EQUAL, 0, 1, nr))
        body.append(Instruction(classic.RETURN_K, 0, 0, Action.ERRNO | errno_ret))
    body.append(_LOAD_ARCH)
    return [Instruction(_EQUAL, 0, len(body), arch), *body]
