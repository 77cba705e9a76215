"""Several changes to one profile at once: each was made to the same profile.

Rules are told apart by where they stand in the source; those that stand nowhere are new.
"""

from __future__ import annotations

from collections.abc import Iterable
from errno import EPERM

from msgspec import Struct, field
from msgspec.structs import replace

from mitigations.changes import Change, has_list
from mitigations.rules import ERRNO_ACTIONS, Condition, Profile, Rule

_MASKED = "SCMP_CMP_MASKED_EQ"


class _Rewritten(Struct):
    """What becomes of one rule."""

    rule: Rule
    gone: bool = False
    dropped: set[str] = field(default_factory=set[str])
    added: list[str] = field(default_factory=list[str])
    bare: bool = False
    """Without its conditions."""
    conditions: dict[int, Condition] = field(default_factory=dict[int, Condition])
    action: str = ""

    @property
    def untouched(self) -> bool:
        """Whether it still says what it said, if perhaps of other calls."""
        return not (self.gone or self.bare or self.conditions or self.action)

    def take(self, changed: Rule | None) -> None:
        """One of the changes to the rule; None where it removes it."""
        if changed is None:
            self.gone = True
            return
        self.dropped.update(set(self.rule.names).difference(changed.names))
        self.added += [name for name in changed.names if name not in self.rule.names]
        if changed.action != self.rule.action:
            self.action = changed.action
        if self.rule.conditions and not changed.conditions:
            self.bare = True
            return
        pairs = zip(self.rule.conditions, changed.conditions, strict=True)
        for place, (old, new) in enumerate(pairs):
            if new != old:
                self.conditions[place] = _both(self.conditions.get(place, new), new)

    def result(self) -> Rule | None:
        """None where nothing is left of it."""
        kept = [
            pair
            for pair in zip(self.rule.names, self.rule.named_at, strict=True)
            if pair[0] not in self.dropped
        ]
        more = list(dict.fromkeys(self.added))
        count = len(self.rule.names)
        kept += [(name, f"{self.rule.where}.names[{count + n}]") for n, name in enumerate(more)]
        if self.gone or not kept:
            return None
        names, named_at = zip(*kept, strict=True)
        conditions = [
            self.conditions.get(place, one) for place, one in enumerate(self.rule.conditions)
        ]
        return replace(
            self.rule,
            names=names,
            named_at=named_at,
            action=self.action or self.rule.action,
            conditions=() if self.bare else tuple(conditions),
        )


def merged(profile: Profile, changes: Iterable[Change]) -> Profile:
    """The profile after all of these; new rules that say the same of several calls become one."""
    rules = {rule.where: _Rewritten(rule) for rule in profile.rules}
    new: list[Rule] = []
    gone: set[str] = set()
    default, architectures = profile.default_action, list(profile.architectures)
    for change in changes:
        assert change.profile is not None
        if change.profile.default_action != profile.default_action:
            default = change.profile.default_action
        more = change.profile.architectures
        gone |= set(profile.architectures).difference(more)
        architectures += [one for one in more if one not in architectures]
        changed = {rule.where: rule for rule in change.profile.rules}
        new += [rule for where, rule in changed.items() if where not in rules]
        for where, one in rules.items():
            if changed.get(where) is not one.rule:
                one.take(changed.get(where))
    alone = [rule for rule in _together(new) if not _joined(rule, rules.values())]
    kept = [rule for one in rules.values() if (rule := one.result()) is not None]
    return replace(
        profile,
        default_action=default,
        architectures=tuple(one for one in architectures if one not in gone),
        rules=(*kept, *alone),
    )


def _joined(rule: Rule, rules: Iterable[_Rewritten]) -> bool:
    """Whether a rule that is there says the same, and has taken the names of a new one."""
    for one in rules:
        if one.untouched and _says(one.rule) == _says(rule) and has_list(one.rule):
            one.added += [name for name in rule.names if name not in one.rule.names]
            return True
    return False


def _says(rule: Rule) -> object:
    errno_ret = EPERM if rule.errno_ret is None else rule.errno_ret
    return rule.action, errno_ret if rule.action in ERRNO_ACTIONS else None, rule.conditions


def _both(one: Condition, other: Condition) -> Condition:
    """Of two conditions that ask for clear bits, one that asks for all of them."""
    alike = one.operator == other.operator == _MASKED and one.value_two == other.value_two == 0
    return replace(one, value=one.value | other.value) if alike else other


def _together(rules: Iterable[Rule]) -> list[Rule]:
    grouped: dict[object, list[str]] = {}
    first: dict[object, Rule] = {}
    for rule in rules:
        key = _says(rule)
        first.setdefault(key, rule)
        names = grouped.setdefault(key, [])
        names += [name for name in rule.names if name not in names]
    return [
        replace(
            first[key],
            names=tuple(names),
            named_at=tuple(f"{first[key].where}.names[{n}]" for n in range(len(names))),
        )
        for key, names in grouped.items()
    ]
