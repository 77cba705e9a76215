"""Why a call is answered as it is, and which lines of a profile let a self-filtering program start.

Nothing is proved here: ``evaluator.self_filter_doctor`` compiles them and runs the check again.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence

from msgspec import Struct

from attacks.program import Syscall
from evaluator import predict
from mitigations import changes
from mitigations.bpf import Decision, Filter
from mitigations.changes import Change
from mitigations.classic import MAX_INSTRUCTIONS
from mitigations.rules import LETS_THROUGH, Condition, Profile, Rule
from mitigations.runtimes import action_value, becomes_or
from mitigations.witness import meets

_DENY = "SCMP_ACT_ERRNO"
_ALLOW = "SCMP_ACT_ALLOW"
_LOW = (1 << 32) - 1
_OPTION_CALL = "prctl"
"""Its first argument says what it is, so that a rule on it can be about one option."""


class Blame(Struct, frozen=True):
    """Who gave an answer, and the JSON path of that, if there is a source."""

    said: str
    where: str = ""


def blame(
    profile: Profile | None, filters: Sequence[Filter], call: Syscall, args: Sequence[int | None]
) -> Blame:
    """The rule, default action or instruction behind the answer to a call."""
    known = [*args, *[0] * (6 - len(args))]
    decision = predict.decide(call, known, filters)
    if decision.allows:
        return Blame("the filters let it pass, so that the kernel itself has answered")
    if decision.depends:
        return Blame(f"the filters answer {decision.text}")
    if profile is None:
        return _by_instruction(decision)
    (value,) = decision.possible
    naming = [one for one in profile.rules if call.name in one.names]
    for rule in naming:
        if _holds(rule, known) and action_value(rule.action, rule.errno_ret) == value:
            return Blame(f"{rule.where} answers {decision.text}", rule.where)
    if action_value(profile.default_action, profile.default_errno_ret) == value:
        about = "is for these arguments of" if naming else "names"
        said = f"no rule {about} {call.name}, and {profile.default_action} is the default"
        where = f"{profile.where}.defaultAction" if profile.where else "defaultAction"
        return Blame(f"{said}: {decision.text}", where)
    return Blame(f"the runtime's own part of the filter answers {decision.text}")


def _by_instruction(decision: Decision) -> Blame:
    number, pc = divmod(decision.ret_pc, MAX_INSTRUCTIONS)
    return Blame(f"instruction {pc} of filter {number + 1} returns {decision.text}")


def _holds(rule: Rule, args: Sequence[int | None]) -> bool:
    alone = [meets(one, args) for one in rule.conditions]
    return any(alone) if becomes_or(rule) else all(alone)


def allowing(profile: Profile, name: str, args: Sequence[int | None]) -> list[Change]:
    """Changes, one after the other, after which a call passes; each is to the profile before."""
    made, profile = _without_denials(profile, name, args)
    known = [*args, *[0] * (6 - len(args))]
    allowed = any(
        one.action in LETS_THROUGH and name in one.names and _holds(one, known)
        for one in profile.rules
    )
    if profile.default_action not in LETS_THROUGH and not allowed:
        made.append(_granted(profile, name, args))
    return made


def refusing(profile: Profile, name: str, args: Sequence[int | None]) -> list[Change]:
    """Changes after which a call is answered ENOSYS, as by a kernel that does not have it."""
    for rule in profile.rules:
        if rule.names == (name,) and rule.action == _DENY and not rule.conditions:
            return [changes.set_errno(profile, rule, errno.ENOSYS)]
    made, profile = _without_denials(profile, name, args)
    return [*made, changes.add_rule(profile, name, _DENY, errno_ret=errno.ENOSYS)]


def _without_denials(
    profile: Profile, name: str, args: Sequence[int | None]
) -> tuple[list[Change], Profile]:
    """The profile without the rules that deny this call."""
    known = [*args, *[0] * (6 - len(args))]
    made: list[Change] = []
    while True:
        denying = (
            one
            for one in profile.rules
            if name in one.names and one.action not in LETS_THROUGH and _holds(one, known)
        )
        rule = next(denying, None)
        if rule is None:
            return made, profile
        change = changes.remove_name(profile, rule, name)
        made.append(change)
        profile = change.profile or profile


def _granted(profile: Profile, name: str, args: Sequence[int | None]) -> Change:
    """The narrowest line that allows a call: where others of its options are denied, this one."""
    some = any(name in one.names and one.conditions for one in profile.rules)
    if some and name == _OPTION_CALL and args and args[0] is not None:
        option = Condition(0, "SCMP_CMP_MASKED_EQ", _LOW, args[0] & _LOW)
        return changes.add_rule(profile, name, _ALLOW, option)
    for rule in profile.rules:
        if rule.action == _ALLOW and not rule.conditions:
            change = changes.add_name(profile, rule, name)
            if change is not None:
                return change
    return changes.add_rule(profile, name, _ALLOW)


_WHOLE_RULE = re.compile(r"remove .*\[(\d+)\]")


def in_order(made: Sequence[Change]) -> tuple[str, ...]:
    """The lines, so that each path is still right when its turn comes.

    Whole rules go last, from the end on.
    """
    gone = {one.line: int(rule[1]) for one in made if (rule := _WHOLE_RULE.fullmatch(one.line))}
    kept = (one.line for one in made if one.line not in gone)
    return (*kept, *sorted(gone, key=lambda line: -gone[line]))
