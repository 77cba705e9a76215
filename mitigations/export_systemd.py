"""A candidate as a drop-in of a systemd service (systemd.exec(5))."""

from __future__ import annotations

import errno
import textwrap
from collections.abc import Iterator, Sequence

from mitigations import systemd
from mitigations.bpf import Filter
from mitigations.candidate import (
    AppArmorLayer,
    Candidate,
    CapabilitiesLayer,
    NoNewPrivsLayer,
    OwnPosture,
    ProfileError,
    ReadOnlyRootLayer,
)
from mitigations.rules import LETS_THROUGH, NATIVE, OF_ABI, Profile
from mitigations.rules_of import differences, rules_of

_KILLS = ("SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP")
"""SIGSYS kills as well where nobody handles it."""
_ASKS = ("SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE")
"""Where nobody is asked, the kernel answers ENOSYS."""
_PERMITTED = errno.EPERM
_WIDTH = 90


def drop_in(candidate: Candidate) -> tuple[str, list[str]]:
    """The text of ``SERVICE.d/seccomp.conf``, and what of the candidate it does not say.

    Of a unit it is the lines that enforce something.  Anything else is read again and compared.
    """
    if candidate.directives:
        return "\n".join(("[Service]", *candidate.directives)) + "\n", []
    lost: list[str] = []
    lines = ["[Service]"]
    if isinstance(candidate.posture, OwnPosture) and candidate.posture.uid:
        lines.append(f"User={candidate.posture.uid}")
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
                pass  # the filters are written below, and Landlock is no directive
    filters = [Filter.decode(one.program) for one in candidate.seccomp]
    if filters:
        written = list(_filter_lines(filters))
        lines += written
        again = systemd.filters_of(written)
        lost += _lost_architectures(candidate)
        lost += differences(filters, [Filter.decode(one.program) for one in again])
    return "\n".join(lines) + "\n", lost


def _one_line(value: str) -> str:
    if not value.isprintable() or value.endswith("\\"):
        said = f"{value!r} does not fit in a line of a unit file"
        raise ProfileError(said, code="not-expressible")
    return value


def _lost_architectures(candidate: Candidate) -> Iterator[str]:
    listed = candidate.profile.architectures if candidate.profile else ()
    others = [one for one in listed if one not in (NATIVE, *OF_ABI.values())]
    if others:
        yield f"the architectures {', '.join(others)}: there is no such call on this machine"


def _filter_lines(filters: Sequence[Filter]) -> Iterator[str]:
    """Without SystemCallArchitectures= systemd closes no table of the machine."""
    profile = rules_of(filters, arguments=False).profile
    names = {"x86_64": "x86-64", "i386": "x86", "x32": "x32"}
    judged = [names[abi] for abi in OF_ABI if profile.judges(abi)]
    yield f"SystemCallArchitectures={' '.join(judged)}"
    denied: list[str] = []
    if profile.default_action in LETS_THROUGH:
        default = ""
    else:
        default = _answer(profile.default_action, profile.default_errno_ret or _PERMITTED)
        yield f"SystemCallErrorNumber={default}"
        # The first list decides what all lists are, and takes @default in, which may be less here.
        yield "SystemCallFilter=@default"
        yield "SystemCallFilter=~@default"
        yield from _wrapped("SystemCallFilter=", _let_through(profile))
    for rule in profile.rules:
        if rule.action not in LETS_THROUGH:
            answer = _answer(rule.action, rule.errno_ret)
            if answer != default:  # or libseccomp, and with it systemd, refuses the rule
                denied += [f"{name}:{answer}" for name in rule.names]
    yield from _wrapped("SystemCallFilter=~", denied)


def _let_through(profile: Profile) -> list[str]:
    return [name for rule in profile.rules if rule.action in LETS_THROUGH for name in rule.names]


def _answer(action: str, errno_ret: int | None) -> str:
    """An errno by name or number, or kill."""
    if action in _KILLS:
        return "kill"
    number = errno.ENOSYS if action in _ASKS else errno_ret
    assert number is not None
    return errno.errorcode.get(number, str(number))


def _wrapped(directive: str, words: Sequence[str]) -> Iterator[str]:
    """Several lines of one directive add up; ``~`` has to stand on each."""
    for line in textwrap.wrap(
        " ".join(words), _WIDTH, break_long_words=False, break_on_hyphens=False
    ):
        yield directive + line
