"""Which calls a candidate denied inside programs that nobody recorded: what a subject execs.

The candidate's filters are loaded with every denial turned into ``SECCOMP_RET_TRAP``, whose data
says what the filter would have answered.  The judge traces the subject, notes each trapped call and
gives it that answer, so the program runs as it would have and we know what it was refused.  A
diagnosis explains an outcome and never makes one up: the effect is looked for as in any trial.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from evaluator.predict import errno_name
from evaluator.records import StoppedAt
from evaluator.wire import KILLED, ConfigSpec, Denied, Filter
from mitigations import classic, x86_64
from mitigations.classic import Action

_ENOSYS = 38


def trapping(config: ConfigSpec) -> ConfigSpec | None:
    """The configuration with trapping filters; ``None`` where a filter computes its answer."""
    filters = [_rewritten(one) for one in config.filters]
    found = tuple(one for one in filters if one is not None)
    return replace(config, filters=found) if len(found) == len(filters) else None


def _rewritten(one: Filter) -> Filter | None:
    instructions = classic.unpack(one.program)
    if any(each.code == classic.RETURN_A for each in instructions):
        return None
    changed = [
        each._replace(k=_trap(each.k)) if each.code == classic.RETURN_K else each
        for each in instructions
    ]
    return Filter(classic.pack(changed), one.flags)


def _trap(value: int) -> int:
    match Action.of(value):
        case Action.ALLOW | Action.LOG:
            return value
        case Action.ERRNO:
            return Action.TRAP | min(value & 0xFFFF, classic.MAX_ERRNO)
        case Action.TRACE | Action.USER_NOTIF:
            return Action.TRAP | _ENOSYS
        case _:
            return Action.TRAP | KILLED


def stopped_at(
    denied: Sequence[Denied], decisive: Collection[tuple[str, str]] = ()
) -> StoppedAt | None:
    """The denied call to name: the one that killed, else the first.

    Where a program fails of it, its own message and its exit come after.  ``decisive`` holds the
    ABI and name of the calls that cause the effect.
    """
    killed = (one for one in denied if one.answer == KILLED)
    first = next(killed, denied[0] if denied else None)
    return named(first, decisive) if first else None


def in_words(denied: Sequence[Denied]) -> str:
    """All denied calls, each once, in order."""
    return ", ".join(dict.fromkeys(f"{call_name(one)} ({_answer(one)})" for one in denied))


def call_name(one: Denied) -> str:
    abi = x86_64.abi_of(one.arch, one.nr) or "unknown"
    name = x86_64.name(abi, one.nr) or f"call {one.nr}"
    return name if abi == "x86_64" else f"{abi}:{name}"


def named(one: Denied, decisive: Collection[tuple[str, str]] = ()) -> StoppedAt:
    """The call in the terms of a result."""
    abi = x86_64.abi_of(one.arch, one.nr) or "unknown"
    name = x86_64.name(abi, one.nr) or f"call {one.nr}"
    return StoppedAt(name, abi, _answer(one), decisive=(abi, name) in decisive)


def _answer(one: Denied) -> str:
    if one.answer == KILLED:
        return "SIGSYS (killed)"
    return errno_name(one.answer) if one.answer else "0 (faked)"
