"""Calls that show what a compiled filter does, as text that ``sidestep explain`` reads."""

from collections.abc import Iterable, Sequence

from mitigations import x86_64
from mitigations.bpf import Decision, Filter, decide_stack
from mitigations.rules import Condition

_WORD = (1 << 64) - 1
_LOW = (1 << 32) - 1
_ARGUMENTS = 6

Args = Sequence[int | None]


def answer(filters: Sequence[Filter], abi: str, name: str, args: Args = (None,) * 6) -> Decision:
    """What the filters say to a call; ``None`` is an argument that may be anything."""
    nr = x86_64.number(abi, name)
    assert nr is not None
    mask = _LOW if abi == "i386" else _WORD
    known = [None if one is None else one & mask for one in args]
    return decide_stack(filters, x86_64.arch(abi), nr, known, None)


def witness(
    filters: Sequence[Filter], abi: str, name: str, value: int, args: Args = (None,) * 6
) -> str:
    """The call as text, if it gets this very answer whatever is left open; else empty."""
    if x86_64.number(abi, name) is None:
        return ""
    decision = answer(filters, abi, name, args)
    return written(abi, name, args) if decision.possible == frozenset({value}) else ""


def written(abi: str, name: str, args: Args = ()) -> str:
    """``i386:mkdir(...)``, ``chmod(_, 0x1000001ed, ...)``."""
    known = [*args]
    while known and known[-1] is None:
        known.pop()
    shown = ["_" if one is None else hex(one) for one in known]
    rest = ["..."] if len(known) < _ARGUMENTS else []
    return f"{'' if abi == 'x86_64' else f'{abi}:'}{name}({', '.join([*shown, *rest])})"


def meets(condition: Condition, args: Args) -> bool:
    """Whether the arguments of a call meet a condition of a rule."""
    found = args[condition.index]
    if found is None:
        return False
    value = condition.value
    match condition.operator:
        case "SCMP_CMP_MASKED_EQ":
            return found & value == condition.value_two
        case "SCMP_CMP_EQ":
            return found == value
        case "SCMP_CMP_NE":
            return found != value
        case "SCMP_CMP_LT":
            return found < value
        case "SCMP_CMP_LE":
            return found <= value
        case "SCMP_CMP_GT":
            return found > value
        case _:
            return found >= value


def meeting(conditions: Iterable[Condition]) -> Args | None:
    """Arguments that meet all conditions of a rule; None if none is found at once."""
    conditions = tuple(conditions)
    args: list[int | None] = [None] * _ARGUMENTS
    for one in conditions:
        if args[one.index] is None:
            args[one.index] = _meeting(one) & _WORD
    return args if all(meets(one, args) for one in conditions) else None


def _meeting(condition: Condition) -> int:
    match condition.operator:
        case "SCMP_CMP_NE":
            return condition.value ^ 1
        case "SCMP_CMP_LT":
            return condition.value - 1
        case "SCMP_CMP_GT":
            return condition.value + 1
        case "SCMP_CMP_MASKED_EQ":
            return condition.value_two
        case _:
            return condition.value
