"""Several filters as one program: it runs them newest first and returns the strictest answer.

seccomp(2): of several answers that of the highest precedence counts, and of equal ones that of the
filter that was added last.
"""

from __future__ import annotations

from collections.abc import Sequence

from mitigations import classic
from mitigations.candidate import ProfileError
from mitigations.classic import Action, Instruction

_LOAD, _STORE = classic.LD | classic.MEM, classic.ST
_LOAD_X = classic.LDX | classic.MEM
_SET, _SET_X = classic.LD | classic.IMM, classic.LDX | classic.IMM
_AND, _XOR = (classic.ALU | one | classic.K for one in (classic.AND, classic.XOR))
_LARGER_THAN_X = classic.JMP | classic.JGT | classic.X
_ACTION = 0xFFFF0000  # SECCOMP_RET_ACTION_FULL
_SIGN = 0x80000000
"""The kernel compares actions as signed numbers."""
_USES_SCRATCH = (_LOAD, _LOAD_X, classic.ST, classic.STX)


def joined(programs: Sequence[bytes]) -> bytes:
    """One program for several, oldest first; ProfileError where it would not fit in one."""
    filters = [classic.unpack(one) for one in programs]
    used = {one.k for each in filters for one in each if one.code in _USES_SCRATCH}
    free = [word for word in range(classic.SCRATCH_WORDS) if word not in used]
    if len(free) < 3:
        said = "the filters use all of a program's memory, and are not one: --to c has them all"
        raise ProfileError(said, code="several-filters")
    held, found, key = free[:3]
    whole = [_do(_SET, int(Action.ALLOW)), _do(_STORE, held)]
    for each in reversed(filters):
        whole += _body(each)
        whole += [
            _do(_STORE, found),
            *_compared(key),
            _do(_LOAD, held),
            *_compared(),
            _do(_LOAD_X, key),
            Instruction(_LARGER_THAN_X, 0, 2, 0),
            _do(_LOAD, found),
            _do(_STORE, held),
            _do(_SET, 0),
            _do(_SET_X, 0),
        ]
    whole += [_do(_LOAD, held), _do(classic.RETURN_A, 0)]
    if len(whole) > classic.MAX_INSTRUCTIONS:
        said = (
            f"the filters are {len(whole)} instructions together, and a program has "
            f"{classic.MAX_INSTRUCTIONS}: --to c has them all"
        )
        raise ProfileError(said, code="several-filters")
    return classic.pack(whole)


def _body(instructions: Sequence[Instruction]) -> list[Instruction]:
    """The filter, going on behind its end with its answer in A.

    Every instruction stays where it is, for jumps are measured; answers are loaded behind them.
    """
    body, answers = list(instructions), list[Instruction]()
    returns = [at for at, one in enumerate(body) if one.code & 7 == classic.RET]
    constant = [at for at in returns if body[at].code == classic.RETURN_K]
    end = len(body) + 2 * len(constant)
    for at in returns:
        start = end
        if body[at].code == classic.RETURN_K:
            start = len(body) + len(answers)
            answers += [_do(_SET, body[at].k), _do(classic.JUMP, end - start - 2)]
        body[at] = _do(classic.JUMP, start - at - 1)
    return body + answers


def _compared(into: int | None = None) -> list[Instruction]:
    """What an answer in A is compared by: smaller is stricter."""
    stored = [] if into is None else [_do(_STORE, into)]
    return [_do(_AND, _ACTION), _do(_XOR, _SIGN), *stored]


def _do(code: int, k: int) -> Instruction:
    return Instruction(code, 0, 0, k)
