"""Changes to a profile that fit on one line: what to paste where, and the profile after it."""

import json

from msgspec import Struct
from msgspec.structs import replace

from mitigations.rules import Condition, Profile, Rule, condition_as_dict, rule_as_dict


class Change(Struct, frozen=True):
    """``line`` tells a person what to do; ``where`` is the JSON path at which it is done."""

    line: str
    where: str
    profile: Profile | None
    """After the change; None where there is no source to change."""


def has_list(rule: Rule) -> bool:
    """Whether a rule has a list of names: Docker's old ``name`` holds a single one."""
    return all(one.startswith(f"{rule.where}.names") for one in rule.named_at)


def add_name(profile: Profile, rule: Rule, name: str) -> Change | None:
    """None where the rule has no list of names."""
    if not has_list(rule):
        return None
    where = f"{rule.where}.names"
    at = (*rule.named_at, f"{where}[{len(rule.names)}]")
    changed = replace(rule, names=(*rule.names, name), named_at=at)
    return Change(f"add {json.dumps(name)} to {where}", where, _with(profile, rule, changed))


def remove_name(profile: Profile, rule: Rule, name: str) -> Change:
    """The whole rule where it names nothing else."""
    kept = [pair for pair in zip(rule.names, rule.named_at, strict=True) if pair[0] != name]
    if not kept:
        return Change(f"remove {rule.where}", rule.where, _with(profile, rule))
    names, named_at = zip(*kept, strict=True)
    changed = replace(rule, names=names, named_at=named_at)
    where = rule.named_at[rule.names.index(name)]
    every = "every " if rule.names.count(name) > 1 else ""
    line = f"remove {every}{json.dumps(name)} from {rule.where}.names"
    return Change(line, where, _with(profile, rule, changed))


def add_rule(
    profile: Profile, name: str, action: str, *conditions: Condition, errno_ret: int | None = None
) -> Change:
    """A rule on one call, behind those that are there."""
    where = _at(profile, "syscalls")
    at = f"{where}[new]"
    rule = Rule((name,), (f"{at}.names[0]",), action, errno_ret, conditions, at)
    line = f"add {json.dumps(rule_as_dict(rule))} to {where}"
    return Change(line, where, replace(profile, rules=(*profile.rules, rule)))


def set_condition(profile: Profile, rule: Rule, index: int, condition: Condition) -> Change:
    """Another condition in the place of one; ``index`` is its place in the rule's list."""
    where = f"{rule.where}.args[{index}]"
    conditions = (*rule.conditions[:index], condition, *rule.conditions[index + 1 :])
    changed = replace(rule, conditions=conditions)
    line = f"set {where} to {json.dumps(condition_as_dict(condition))}"
    return Change(line, where, _with(profile, rule, changed))


def drop_conditions(profile: Profile, rule: Rule) -> Change:
    """The rule is for all arguments from then on."""
    where = f"{rule.where}.args"
    return Change(f"remove {where}", where, _with(profile, rule, replace(rule, conditions=())))


def set_action(profile: Profile, rule: Rule, action: str) -> Change:
    where = f"{rule.where}.action"
    changed = replace(rule, action=action)
    return Change(f"set {where} to {json.dumps(action)}", where, _with(profile, rule, changed))


def set_errno(profile: Profile, rule: Rule, number: int) -> Change:
    """What a rule that answers an errno answers from then on."""
    where = f"{rule.where}.errnoRet"
    changed = replace(rule, errno_ret=number)
    return Change(f"set {where} to {number}", where, _with(profile, rule, changed))


def set_default(profile: Profile, action: str) -> Change:
    where = _at(profile, "defaultAction")
    changed = replace(profile, default_action=action)
    return Change(f"set {where} to {json.dumps(action)}", where, changed)


def remove_architecture(profile: Profile, architecture: str) -> Change:
    """The kernel kills what calls through a table that no architecture stands for."""
    where = profile.architectures_at(architecture)
    kept = tuple(one for one in profile.architectures if one != architecture)
    line = f"remove {json.dumps(architecture)} from {profile.architectures_at()}"
    return Change(line, where, replace(profile, architectures=kept))


def _at(profile: Profile, key: str) -> str:
    return f"{profile.where}.{key}" if profile.where else key


def _with(profile: Profile, old: Rule, *new: Rule) -> Profile:
    place = next(n for n, one in enumerate(profile.rules) if one is old)
    return replace(profile, rules=(*profile.rules[:place], *new, *profile.rules[place + 1 :]))
