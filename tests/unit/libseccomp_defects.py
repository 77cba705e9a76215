"""Where libseccomp writes a filter that does not do what the rules say.

`shared-argument`: two rules of one call look at the same argument, and one of them does not ask for
equality (NE, LT, LE, GT, GE).  The filter can then go on to a comparison without loading its word:
it looks at the other half of the argument, or at another argument, that was loaded before.

`low-halves`: through the tables of i386 and x32, only the lower halves of arguments and of the
values of rules are compared.  For i386 that is wrong of values above 32 bits alone, for arguments
have no more.  x32 passes 64 bits: there whatever is in the upper half of an argument goes unseen.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from mitigations import x86_64
from mitigations.rules import Condition, Profile, Rule
from mitigations.runtimes import becomes_or

SEEN_IN = "2.5.4"
_LOW = 0xFFFFFFFF
_EQUALITIES = frozenset({"SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"})


def is_miscompiled(profile: Profile, abi: str, nr: int) -> bool:
    """Whether `shared-argument` is about this call, so that the rules do not tell its answer."""
    name = x86_64.name(abi, nr)
    lists = [each for rule in profile.rules if name in rule.names for each in _written(rule)]
    return any(_meet(one, other) for index, one in enumerate(lists) for other in lists[index + 1 :])


def _written(rule: Rule) -> list[tuple[Condition, ...]]:
    """The lists of conditions that libseccomp gets for one rule."""
    if becomes_or(rule):
        return [(condition,) for condition in rule.conditions]
    return [rule.conditions]


def _meet(one: Sequence[Condition], other: Sequence[Condition]) -> bool:
    return any(
        a.index == b.index and not {a.operator, b.operator} <= _EQUALITIES
        for a in one
        for b in other
    )


def low_halves(profile: Profile) -> Profile:
    """The rules as `low-halves` makes them."""
    rules = tuple(
        replace(
            rule,
            conditions=tuple(
                replace(each, value=each.value & _LOW, value_two=each.value_two & _LOW)
                for each in rule.conditions
            ),
        )
        for rule in profile.rules
    )
    return replace(profile, rules=rules)
