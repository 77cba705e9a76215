"""What a profile says of a call, by its rules alone, as seccomp_rule_add(3) explains them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, product

from mitigations import libseccomp, x86_64
from mitigations.bpf import Filter
from mitigations.candidate import Finding
from mitigations.classic import answer_text
from mitigations.rules import OF_ABI, Condition, Profile, Rule
from mitigations.runtimes import action_value, becomes_or
from mitigations.witness import answer, meets, written

_MULTIPLEXERS = ("socketcall", "ipc")
_KILL = 0
_NO_CALL = 0xFFFFFFFF
_X32 = x86_64.X32_BIT
_LOW, _WORD = (1 << 32) - 1, (1 << 64) - 1
_ARGUMENTS = 6
_MOST_SAMPLES = 1 << 10
_MOST_CONDITIONS = 6
"""crun does not look at more of them in one rule."""


def meant(profile: Profile, abi: str, nr: int, args: Sequence[int]) -> set[int] | None:
    """The values that a filter may return for it; None where the rules do not say.

    Where several rules hold that differ, libseccomp does not promise which one counts.
    """
    name = x86_64.name(abi, nr)
    if nr == _NO_CALL or (abi == "i386" and name in _MULTIPLEXERS):
        return None
    if abi == "x86_64" and nr > _X32:  # of no table, and libseccomp takes it for x32
        return None
    if not profile.judges(abi):
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
    found = (meets(condition, args) for condition in rule.conditions)
    return any(found) if becomes_or(rule) else all(found)


def miscompiled(profile: Profile, compiled: Filter) -> Iterator[Finding]:
    """Calls that the compiled filter answers otherwise than the rules on their arguments say.

    libseccomp 2.5.4 does so where two rules of one call look at one argument and one of them does
    not ask for equality, and of values above 32 bits through the tables of i386 and x32.
    """
    judged = [abi for abi in OF_ABI if profile.judges(abi)]
    for name, rules in _conditional(profile).items():
        tried = ((abi, args) for abi in judged for args in _samples(rules, abi))
        found = (_difference(profile, compiled, abi, name, args) for abi, args in tried)
        shown = next((one for one in found if one), None)
        if shown:
            witness, got, said = shown
            message = (
                f"libseccomp {libseccomp.version()} makes something else of the rules on {name}: "
                f"{witness} gets {got}, and they say {said}"
            )
            yield Finding("compiled-wrongly", message, f"{rules[0].where}.args", witness)


def _conditional(profile: Profile) -> dict[str, list[Rule]]:
    """The calls that some rule looks at the arguments of, as far as they can be compared."""
    found: dict[str, list[Rule]] = {}
    for rule in profile.rules:
        for name in rule.names if rule.conditions else ():
            found.setdefault(name, []).append(rule)
    return {
        name: rules
        for name, rules in found.items()
        if (libseccomp.resolve(name) or -1) >= 0 and all(map(_is_plain, rules))
    }


def _is_plain(rule: Rule) -> bool:
    """Whether nobody on the way takes its conditions for others than they are."""
    beyond = any(
        one.operator == "SCMP_CMP_MASKED_EQ" and one.value_two & ~one.value
        for one in rule.conditions
    )
    return len(rule.conditions) <= _MOST_CONDITIONS and not beyond


def _samples(rules: Sequence[Rule], abi: str) -> Iterator[list[int]]:
    """Arguments around the values of the rules."""
    # What no rule of a 32-bit table asks about is no news: their parameters are narrow.
    wide = any(one.value > _LOW for rule in rules for one in rule.conditions)
    mask = _WORD if abi == "x86_64" or (abi == "x32" and wide) else _LOW
    values: list[set[int]] = [{0} for _ in range(_ARGUMENTS)]
    for one in chain.from_iterable(rule.conditions for rule in rules):
        values[one.index].update(value & mask for value in _around(one))
    for args in islice(product(*map(sorted, values)), _MOST_SAMPLES):
        yield list(args)


def _around(condition: Condition) -> tuple[int, ...]:
    if condition.operator == "SCMP_CMP_MASKED_EQ":
        outside = ~condition.value & _WORD
        return condition.value_two, condition.value_two | outside, condition.value
    return condition.value - 1, condition.value, condition.value + 1, condition.value & _LOW


def _difference(
    profile: Profile, compiled: Filter, abi: str, name: str, args: Sequence[int]
) -> tuple[str, str, str] | None:
    """The call, what it gets and what it should get, if that is not the same."""
    nr = x86_64.number(abi, name)
    said = None if nr is None else meant(profile, abi, nr, args)
    if nr is None or said is None:
        return None
    got = answer((compiled,), abi, name, args).possible
    if got <= said:
        return None
    return written(abi, name, args), _in_words(got), _in_words(said)


def _in_words(values: Iterable[int | None]) -> str:
    return " or ".join(sorted(answer_text(one) for one in values if one is not None))
