"""Where a profile does not do what it says: what runtimes and libseccomp make of it in silence."""

import errno
from collections.abc import Iterator
from itertools import chain, islice

from mitigations import libseccomp, x86_64
from mitigations.candidate import Finding
from mitigations.json_section import MOST_FINDINGS
from mitigations.rules import ERRNO_ACTIONS, Profile, Rule
from mitigations.runtimes import action_value, becomes_or
from mitigations.suggestion import did_you_mean, quote

_LETS_THROUGH = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
_OTHER_ABIS = {"SCMP_ARCH_X86": "i386", "SCMP_ARCH_X32": "x32"}


def find_traps(profile: Profile) -> list[Finding]:
    """In the order of the source; of a file that is nothing but traps, the first ones."""
    found = chain(
        _default_traps(profile),
        _architecture_traps(profile),
        (finding for rule in profile.rules for finding in _rule_traps(rule, profile)),
        _shadow_traps(profile),
    )
    return list(islice(found, MOST_FINDINGS))


def _at(profile: Profile, key: str) -> str:
    return f"{profile.where}.{key}" if profile.where else key


def _default_traps(profile: Profile) -> Iterator[Finding]:
    action, number = profile.default_action, profile.default_errno_ret
    yield from _action_traps(
        action, number, _at(profile, "defaultAction"), _at(profile, "defaultErrnoRet"), profile
    )


def _architecture_traps(profile: Profile) -> Iterator[Finding]:
    missing = [abi for name, abi in _OTHER_ABIS.items() if name not in profile.architectures]
    if missing:
        message = (
            "the rules do not judge calls through "
            f"{' and '.join(missing)} at all: the kernel kills them with SIGSYS"
        )
        yield Finding("missing-architectures", message, _at(profile, "architectures"))


def _rule_traps(rule: Rule, profile: Profile) -> Iterator[Finding]:
    if not rule.names:
        yield Finding("empty-rule", "names no system call: it does nothing", rule.where)
        return
    yield from _action_traps(
        rule.action, rule.errno_ret, f"{rule.where}.action", f"{rule.where}.errnoRet", profile
    )
    default = action_value(profile.default_action, profile.default_errno_ret)
    if action_value(rule.action, rule.errno_ret) == default:
        message = "the same as the default action: runtimes skip it"
        yield Finding("rule-equals-default", message, rule.where)
        return
    if becomes_or(rule):
        message = (
            "two conditions on one argument: runtimes make a rule of each condition, "
            "so that any one of them is enough"
        )
        yield Finding("conditions-become-or", message, f"{rule.where}.args")
    for index, condition in enumerate(rule.conditions):
        if condition.value_two and condition.operator != "SCMP_CMP_MASKED_EQ":
            message = f"ignored: {condition.operator} compares with value alone"
            yield Finding("value-two-ignored", message, f"{rule.where}.args[{index}].valueTwo")
    for name, where in zip(rule.names, rule.named_at, strict=True):
        if libseccomp.resolve(name) is None:
            yield _unknown_syscall(name, where, rule, profile)


def _shadow_traps(profile: Profile) -> Iterator[Finding]:
    """Rules that libseccomp drops: for one call, the first rule without conditions is the only one.

    Seen with libseccomp 2.5.4: whether the others come before it or after makes no difference.
    """
    default = action_value(profile.default_action, profile.default_errno_ret)
    values = {id(one): action_value(one.action, one.errno_ret) for one in profile.rules}
    counting = [one for one in profile.rules if values[id(one)] != default]
    winners: dict[str, Rule] = {}
    for rule in counting:
        for name in rule.names if not rule.conditions else ():
            winners.setdefault(name, rule)
    for rule in counting:
        for name, where in zip(rule.names, rule.named_at, strict=True):
            winner = winners.get(name, rule)
            if values[id(winner)] != values[id(rule)]:
                message = f"does nothing: {winner.where} answers every {name}"
                yield Finding("shadowed-rule", message, where)


def _unknown_syscall(name: str, where: str, rule: Rule, profile: Profile) -> Finding:
    number = x86_64.number("x86_64", name)
    if number is None:
        known = f"nor does Linux 6.18{did_you_mean(name, x86_64.NUMBERS['x86_64'])}"
    else:
        known = f"though Linux has it (number {number})"
    if rule.action not in _LETS_THROUGH and profile.default_action in _LETS_THROUGH:
        effect = "the call is not stopped"
    else:
        effect = "the call gets the default action"
    return Finding(
        "unknown-syscall",
        f"libseccomp {libseccomp.version()} does not know {quote(name)}, {known}: "
        f"runtimes drop it without a word, {effect}",
        where,
    )


def _action_traps(
    action: str, number: int | None, action_at: str, number_at: str, profile: Profile
) -> Iterator[Finding]:
    if number is not None and action not in ERRNO_ACTIONS:
        yield Finding("errno-ignored", f"{action} carries no errno: crun refuses it", number_at)
    if action == "SCMP_ACT_ERRNO" and number == 0:
        message = "answers 0: the call is not made, and the program is told that it succeeded"
        yield Finding("errno-zero", message, number_at)
    elif action == "SCMP_ACT_ERRNO" and number is not None and number not in errno.errorcode:
        message = f"Linux has no errno {number}"
        yield Finding("unknown-errno-number", message, number_at)
    elif action == "SCMP_ACT_TRACE":
        message = "without a tracer the kernel answers ENOSYS; the subject may be its own tracer"
        yield Finding("trace-without-tracer", message, action_at)
    elif action == "SCMP_ACT_NOTIFY":
        yield Finding("notify-without-listener", _notify_message(profile), action_at)


def _notify_message(profile: Profile) -> str:
    answer = "it is loaded here without a listener, so that the kernel answers ENOSYS"
    if profile.listener_path:
        return f"no agent answers at {quote(profile.listener_path)} during an evaluation: {answer}"
    return f"runc does not start a container without listenerPath; {answer}"
