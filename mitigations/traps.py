"""Where a profile does not do what it says: what runtimes and libseccomp make of it in silence."""

import errno
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, islice

from msgspec.structs import replace

from mitigations import libseccomp, x86_64
from mitigations.analysis import Part, native_parts
from mitigations.bpf import UNFILTERED_X86_64, Filter
from mitigations.candidate import Finding
from mitigations.classic import Action, answer_text
from mitigations.json_section import MOST_FINDINGS
from mitigations.meaning import miscompiled
from mitigations.rules import ERRNO_ACTIONS, LETS_THROUGH, OF_ABI, Profile, Rule
from mitigations.runtimes import action_value, becomes_or
from mitigations.suggestion import did_you_mean, quote
from mitigations.witness import meeting, meets, witness

_EVERYWHERE = "getpid"
"""A call that all tables have."""


def find_traps(profile: Profile, compiled: Filter) -> list[Finding]:
    """In the order of the source; of a file that is nothing but traps, the first ones."""
    looked_at = _Profile(profile, compiled)
    found = chain(
        looked_at.default_traps(),
        looked_at.architecture_traps(),
        (finding for rule in profile.rules for finding in looked_at.rule_traps(rule)),
        looked_at.shadow_traps(),
        miscompiled(profile, compiled),
        looked_at.open_traps(),
    )
    return list(islice(found, MOST_FINDINGS))


class _Profile:
    """A profile beside what became of it; what it does is asked of the compiled filter."""

    def __init__(self, profile: Profile, compiled: Filter) -> None:
        self._profile = profile
        self._filters = (compiled,)
        self._default = action_value(profile.default_action, profile.default_errno_ret)
        self._counting = [one for one in profile.rules if _value(one) != self._default]
        self._named = Counter(name for rule in self._counting for name in rule.names)

    def _at(self, key: str) -> str:
        where = self._profile.where
        return f"{where}.{key}" if where else key

    def _unnamed(self) -> str:
        """The newest call that no rule names, if it gets the default action."""
        for name in reversed([*x86_64.NUMBERS["x86_64"]]):
            if name not in self._named:
                shown = witness(self._filters, "x86_64", name, self._default)
                if shown:
                    return shown
        return ""

    def _applied(self, rule: Rule) -> str:
        """A call that a rule answers as it says it does; empty if there is none."""
        args = meeting(rule.conditions)
        if args is None:
            return ""
        shown = (witness(self._filters, "x86_64", one, _value(rule), args) for one in rule.names)
        return next((one for one in shown if one), "")

    def default_traps(self) -> Iterator[Finding]:
        profile = self._profile
        yield from _action_traps(
            profile,
            (profile.default_action, profile.default_errno_ret),
            (self._at("defaultAction"), self._at("defaultErrnoRet")),
            self._unnamed,
        )

    def architecture_traps(self) -> Iterator[Finding]:
        missing = [abi for abi in OF_ABI if not self._profile.judges(abi)]
        shown = [self._killed(abi) for abi in missing]
        if shown and all(shown):
            message = (
                "the rules do not judge calls through "
                f"{' and '.join(missing)} at all: the kernel kills them with SIGSYS"
            )
            yield Finding(
                "missing-architectures", message, self._profile.architectures_at(), shown[0]
            )

    def _killed(self, abi: str) -> str:
        """A call that is killed for its table: one that a rule names, if it has one."""
        named = (name for name in self._named if x86_64.number(abi, name) is not None)
        name = next(named, _EVERYWHERE)
        return witness(self._filters, abi, name, Action.KILL_THREAD)

    def rule_traps(self, rule: Rule) -> Iterator[Finding]:
        if not rule.names:
            yield Finding("empty-rule", "names no system call: it does nothing", rule.where)
            return
        yield from _action_traps(
            self._profile,
            (rule.action, rule.errno_ret),
            (f"{rule.where}.action", f"{rule.where}.errnoRet"),
            lambda: self._applied(rule),
        )
        if _value(rule) == self._default:
            message = "the same as the default action: runtimes skip it"
            yield Finding("rule-equals-default", message, rule.where, self._applied(rule))
            return
        yield from self._condition_traps(rule)
        for index, condition in enumerate(rule.conditions):
            yield from self._beyond_mask(rule, index)
            if condition.value_two and condition.operator != "SCMP_CMP_MASKED_EQ":
                message = f"ignored: {condition.operator} compares with value alone"
                yield Finding("value-two-ignored", message, f"{rule.where}.args[{index}].valueTwo")
        for name, where in zip(rule.names, rule.named_at, strict=True):
            if libseccomp.resolve(name) is None:
                yield from self._unknown_syscall(name, where, rule)

    def _condition_traps(self, rule: Rule) -> Iterator[Finding]:
        where = f"{rule.where}.args"
        shown = self._one_is_enough(rule) if becomes_or(rule) else ""
        if shown:
            message = (
                "two conditions on one argument: runtimes make a rule of each condition, "
                "so that any one of them is enough"
            )
            yield Finding("conditions-become-or", message, where, shown)
        alone = [one for one in rule.names if self._is_alone(rule, one)] if rule.conditions else []
        if not alone:
            return
        parts = native_parts(self._filters, alone[0])
        shown = self._shown_by(rule, alone[0], parts[0]) if parts else ""
        if shown and all(part.value == _value(rule) for part in parts):
            message = "always true: the rule is for all arguments"
            yield Finding("condition-always-true", message, where, shown)
        elif shown and all(part.value != _value(rule) for part in parts):
            message = f"never true: {alone[0]} gets the default action"
            yield Finding("condition-never-true", message, where, shown)

    def _beyond_mask(self, rule: Rule, index: int) -> Iterator[Finding]:
        """A comparison that nothing can meet as it is written: libseccomp makes another of it."""
        one = rule.conditions[index]
        kept = one.value_two & one.value
        if one.operator != "SCMP_CMP_MASKED_EQ" or kept == one.value_two:
            return
        met = [
            *rule.conditions[:index],
            replace(one, value_two=kept),
            *rule.conditions[index + 1 :],
        ]
        shown = self._applied(replace(rule, conditions=tuple(met)))
        if shown:
            message = f"has bits outside the mask {one.value:#x}: libseccomp drops them"
            at = f"{rule.where}.args[{index}].valueTwo"
            yield Finding("value-beyond-mask", message, at, shown)

    def _is_alone(self, rule: Rule, name: str) -> bool:
        """Whether a call that libseccomp knows is named by no other rule that counts."""
        known = libseccomp.resolve(name)
        return known is not None and known >= 0 and self._named[name] == rule.names.count(name)

    def _one_is_enough(self, rule: Rule) -> str:
        """A call that does not meet all conditions of a rule, and gets its answer."""
        for name in rule.names:
            for part in native_parts(self._filters, name):
                if part.value == _value(rule) and not all(
                    meets(one, part.args) for one in rule.conditions
                ):
                    return self._shown_by(rule, name, part)
        return ""

    def _shown_by(self, rule: Rule, name: str, part: Part) -> str:
        indexes = {one.index for one in rule.conditions}
        args = [value if n in indexes else None for n, value in enumerate(part.args)]
        return witness(self._filters, "x86_64", name, part.value, args)

    def shadow_traps(self) -> Iterator[Finding]:
        """Rules that libseccomp drops: for one call, the first without conditions is the only one.

        Seen with libseccomp 2.5.4: whether the others come before it or after makes no difference.
        """
        winners: dict[str, Rule] = {}
        for rule in self._counting:
            for name in rule.names if not rule.conditions else ():
                winners.setdefault(name, rule)
        for rule in self._counting:
            for name, where in zip(rule.names, rule.named_at, strict=True):
                winner = winners.get(name, rule)
                if _value(winner) == _value(rule):
                    continue
                args = meeting(rule.conditions) or (None,) * 6
                shown = witness(self._filters, "x86_64", name, _value(winner), args)
                if shown or x86_64.number("x86_64", name) is None:
                    message = f"does nothing: {winner.where} answers every {name}"
                    yield Finding("shadowed-rule", message, where, shown)

    def _unknown_syscall(self, name: str, where: str, rule: Rule) -> Iterator[Finding]:
        number = x86_64.number("x86_64", name)
        if number is None:
            known = f"nor does Linux 6.18{did_you_mean(name, x86_64.NUMBERS['x86_64'])}"
        else:
            known = f"though Linux has it (number {number})"
        shown = witness(self._filters, "x86_64", name, self._default)
        # The stub of runc answers to what lies above all that has a name.
        unnamed = witness(self._filters, "x86_64", name, Action.ERRNO | errno.ENOSYS)
        if number in UNFILTERED_X86_64:
            effect = "the call passes: Linux asks no filter about it"
        elif rule.action not in LETS_THROUGH and self._profile.default_action in LETS_THROUGH:
            effect = "the call is not stopped"
        elif unnamed and not shown:
            effect = "the call answers ENOSYS"
        else:
            effect = "the call gets the default action"
        newer = "" if number is None else _by_newer(number, _value(rule))
        message = (
            f"libseccomp {libseccomp.version()} does not know {quote(name)}, {known}: "
            f"runtimes drop it without a word, {effect}{newer}"
        )
        passes = witness(self._filters, "x86_64", name, Action.ALLOW)
        yield Finding("unknown-syscall", message, where, shown or unnamed or passes)

    def open_traps(self) -> Iterator[Finding]:
        """What passes because nothing is said about it."""
        shown = self._unnamed() if self._profile.default_action in LETS_THROUGH else ""
        if shown:
            message = "whatever no rule names passes, and so does every call that Linux gets later"
            yield Finding("default-allows", message, self._at("defaultAction"), shown)


def _value(rule: Rule) -> int:
    return action_value(rule.action, rule.errno_ret)


def _by_newer(number: int, value: int) -> str:
    """What a libseccomp that knows the name makes of the rule."""
    release = libseccomp.knows_from(number)
    return f"; libseccomp {release} answers {answer_text(value)}" if release else ""


def _action_traps(
    profile: Profile,
    said: tuple[str, int | None],
    where: tuple[str, str],
    shown: Callable[[], str],
) -> Iterator[Finding]:
    """``said`` is an action with its errno, ``where`` their paths."""
    (action, number), (action_at, number_at) = said, where
    if number is not None and action not in ERRNO_ACTIONS:
        yield Finding("errno-ignored", f"{action} carries no errno: crun refuses it", number_at)
    if action == "SCMP_ACT_ERRNO" and number == 0:
        message = "answers 0: the call is not made, and the program is told that it succeeded"
        yield from _seen("errno-zero", message, number_at, shown())
    elif action == "SCMP_ACT_ERRNO" and number is not None and number not in errno.errorcode:
        message = f"Linux has no errno {number}"
        yield from _seen("unknown-errno-number", message, number_at, shown())
    elif action == "SCMP_ACT_TRACE":
        message = "without a tracer the kernel answers ENOSYS; the subject may be its own tracer"
        yield from _seen("trace-without-tracer", message, action_at, shown())
    elif action == "SCMP_ACT_NOTIFY":
        message = _notify_message(profile)
        yield from _seen("notify-without-listener", message, action_at, shown())


def _seen(code: str, message: str, where: str, shown: str) -> Iterator[Finding]:
    """A finding about what a call is answered, if some call is."""
    if shown:
        yield Finding(code, message, where, shown)


def _notify_message(profile: Profile) -> str:
    answer = "it is loaded here without a listener, so that the kernel answers ENOSYS"
    if profile.listener_path:
        return f"no agent answers at {quote(profile.listener_path)} during an evaluation: {answer}"
    return f"runc does not start a container without listenerPath; {answer}"
