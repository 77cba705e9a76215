"""What a profile says of a call, by its rules alone, as seccomp_rule_add(3) explains them."""

import operator
from collections.abc import Callable, Sequence

from mitigations import x86_64
from mitigations.rules import NATIVE, Condition, Profile, Rule
from mitigations.runtimes import action_value, becomes_or

_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "SCMP_CMP_EQ": operator.eq,
    "SCMP_CMP_GE": operator.ge,
    "SCMP_CMP_GT": operator.gt,
    "SCMP_CMP_LE": operator.le,
    "SCMP_CMP_LT": operator.lt,
    "SCMP_CMP_NE": operator.ne,
}
ARCHITECTURES = {"x86_64": NATIVE, "i386": "SCMP_ARCH_X86", "x32": "SCMP_ARCH_X32"}
_MULTIPLEXERS = ("socketcall", "ipc")
_KILL = 0
_NO_CALL = 0xFFFFFFFF
_X32 = x86_64.X32_BIT


def meant(profile: Profile, abi: str, nr: int, args: Sequence[int]) -> set[int] | None:
    """The values that a filter may return for it; None where the rules do not say.

    Where several rules hold that differ, libseccomp does not promise which one counts.
    """
    name = x86_64.name(abi, nr)
    if nr == _NO_CALL or (abi == "i386" and name in _MULTIPLEXERS):
        return None
    if abi == "x86_64" and nr > _X32:  # of no table, and libseccomp takes it for x32
        return None
    if ARCHITECTURES[abi] not in (NATIVE, *profile.architectures):
        return {_KILL}
    default = action_value(profile.default_action, profile.default_errno_ret)
    found = {
        action_value(rule.action, rule.errno_ret)
        for rule in profile.rules
        if name in rule.names and holds(rule, args)
    }
    # A runtime leaves out the rules that say what the default says.
    return found - {default} or {default}


def holds(rule: Rule, args: Sequence[int]) -> bool:
    """Whether the conditions hold; of two on one argument, runtimes make a rule each."""
    found = (matches(condition, args[condition.index]) for condition in rule.conditions)
    return any(found) if becomes_or(rule) else all(found)


def matches(condition: Condition, value: int) -> bool:
    if condition.operator == "SCMP_CMP_MASKED_EQ":
        return value & condition.value == condition.value_two
    return _COMPARE[condition.operator](value, condition.value)
