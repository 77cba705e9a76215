"""A candidate as a drop-in of a systemd service (systemd.exec(5))."""

from __future__ import annotations

import errno
import re
import textwrap
from collections.abc import Iterator

from mitigations.candidate import (
    AppArmorLayer,
    Candidate,
    CapabilitiesLayer,
    NoNewPrivsLayer,
    OwnPosture,
    ProfileError,
    ReadOnlyRootLayer,
)
from mitigations.rules import LETS_THROUGH, NATIVE, OF_ABI, Profile, Rule

_KILLS_THREAD = ("SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD")
_KILLS = (*_KILLS_THREAD, "SCMP_ACT_KILL_PROCESS")
_NAME = re.compile(r"[A-Za-z0-9_]+")
_PERMITTED = errno.EPERM
_WIDTH = 90


def drop_in(candidate: Candidate, profile: Profile | None) -> tuple[str, list[str]]:
    """The text of ``SERVICE.d/seccomp.conf``, and what of the profile it does not say.

    ProfileError where the filter cannot be said with calls and errnos alone.
    """
    lost: list[str] = []
    lines = ["[Service]"]
    if isinstance(candidate.posture, OwnPosture) and candidate.posture.uid:
        lines.append(f"User={candidate.posture.uid}")
    if profile is not None:
        lines += _filter_lines(profile, lost)
    for layer in candidate.layers:
        match layer:
            case NoNewPrivsLayer():
                lines.append("NoNewPrivileges=yes")
            case CapabilitiesLayer():
                lines.append(f"CapabilityBoundingSet={' '.join(sorted(layer.kept))}")
            case AppArmorLayer():
                lines.append(f"AppArmorProfile={_one_line(layer.profile)}")
            case ReadOnlyRootLayer():
                lines.append("ProtectSystem=strict")
                lines += [f"ReadWritePaths={_one_line(path)}" for path in layer.writable]
            case _:
                pass  # the filters are written above, and Landlock is no directive
    return "\n".join(lines) + "\n", lost


def _one_line(value: str) -> str:
    if not value.isprintable() or value.endswith("\\"):
        said = f"{value!r} does not fit in a line of a unit file"
        raise ProfileError(said, code="not-expressible")
    return value


def _filter_lines(profile: Profile, lost: list[str]) -> Iterator[str]:
    for rule in profile.rules:
        if rule.conditions:
            raise ProfileError(
                "a rule on arguments, and SystemCallFilter= takes calls only: nothing is written",
                f"{rule.where}.args",
                "not-expressible",
            )
    lost += _lost_of(profile)
    yield from _architecture_lines(profile, lost)
    if profile.default_action in LETS_THROUGH:
        yield from _deny_lines(profile, lost)
    else:
        yield from _allow_lines(profile, lost)


def _lost_of(profile: Profile) -> Iterator[str]:
    if profile.flags:
        yield f"the flags {', '.join(profile.flags)}"
    for action in dict.fromkeys((profile.default_action, *(one.action for one in profile.rules))):
        if action in _KILLS_THREAD:
            yield f"{action}: systemd kills the process, not the thread"
    if profile.default_action == "SCMP_ACT_LOG":
        yield "the log of what no rule names (SystemCallLog= would take it)"


def _architecture_lines(profile: Profile, lost: list[str]) -> Iterator[str]:
    """Systemd filters every table of the machine; without this directive none is closed."""
    judged = [abi for abi in OF_ABI if profile.judges(abi)]
    names = {"x86_64": "x86-64", "i386": "x86", "x32": "x32"}
    yield f"SystemCallArchitectures={' '.join(names[abi] for abi in judged)}"
    others = [one for one in profile.architectures if one not in (NATIVE, *OF_ABI.values())]
    if others:
        lost.append(f"the architectures {', '.join(others)}: there is no such call on this machine")


def _deny_lines(profile: Profile, lost: list[str]) -> Iterator[str]:
    words: list[str] = []
    for rule in profile.rules:
        if rule.action not in LETS_THROUGH:
            answer = _answer(rule)
            words += [f"{name}:{answer}" for name in _plain(rule, lost)]
    if words:
        yield from _wrapped("SystemCallFilter=~", words)


def _allow_lines(profile: Profile, lost: list[str]) -> Iterator[str]:
    default = _default(profile)
    words: list[str] = []
    for rule in profile.rules:
        if rule.action in LETS_THROUGH:
            words += _plain(rule, lost)
        elif _answer(rule) != default:
            raise ProfileError(
                f"{rule.action} beside another default action: an allow-list of systemd has one "
                "answer for all other calls, nothing is written",
                f"{rule.where}.action",
                "not-expressible",
            )
    if any(rule.action == "SCMP_ACT_LOG" for rule in profile.rules):
        lost.append("the log of calls that are let through (SystemCallLog= would take it)")
    if default != "kill":
        yield f"SystemCallErrorNumber={default}"
    lost.append("an allow-list of systemd lets the calls of @default through as well")
    yield from _wrapped("SystemCallFilter=", words or ["@default"])


def _plain(rule: Rule, lost: list[str]) -> list[str]:
    """Its names, less those that cannot be one of any call; runtimes drop them as well."""
    strange = [name for name in rule.names if not _NAME.fullmatch(name)]
    lost += [f"{name!r}: no call is called so" for name in strange]
    return [name for name in rule.names if name not in strange]


def _default(profile: Profile) -> str:
    return _said(profile.default_action, profile.default_errno_ret, "defaultAction")


def _answer(rule: Rule) -> str:
    return _said(rule.action, rule.errno_ret, f"{rule.where}.action")


def _said(action: str, errno_ret: int | None, where: str) -> str:
    """An errno by name or number, or kill."""
    if action in _KILLS:
        return "kill"
    if action != "SCMP_ACT_ERRNO":
        said = f"{action}: SystemCallFilter= answers an errno or kills, nothing is written"
        raise ProfileError(said, where, "not-expressible")
    number = _PERMITTED if errno_ret is None else errno_ret
    if number == 0:
        said = "errno 0: systemd takes none, nothing is written"
        raise ProfileError(said, where, "not-expressible")
    return errno.errorcode.get(number, str(number))


def _wrapped(directive: str, words: list[str]) -> Iterator[str]:
    """Several lines of one directive add up; ``~`` has to stand on each."""
    for line in textwrap.wrap(
        " ".join(dict.fromkeys(words)), _WIDTH, break_long_words=False, break_on_hyphens=False
    ):
        yield directive + line
