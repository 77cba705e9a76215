"""A candidate in another format, for deployment: the text or bytes, and what they leave out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from mitigations import export_c, export_daemonset, export_spo, export_systemd, one_filter
from mitigations.bpf import Filter
from mitigations.candidate import (
    AppArmorLayer,
    Attachment,
    Candidate,
    CapabilitiesLayer,
    LandlockLayer,
    Layer,
    NoNewPrivsLayer,
    OwnPosture,
    ProfileError,
    ReadOnlyRootLayer,
    SeccompLayer,
)
from mitigations.rules import Profile
from mitigations.rules_of import differences, rules_of
from mitigations.runtimes import STUBLESS

_PERMITTED = 1  # EPERM, which runtimes answer where no errno is given


class Exported(Struct, frozen=True):
    content: bytes
    lost: tuple[str, ...]
    """A sentence without a full stop for each thing that it does not say."""
    differs: tuple[str, ...] = ()
    """Those of them that are about calls which its filter answers otherwise."""


def export(candidate: Candidate, to: str) -> Exported:
    """The candidate as one of ``FORMATS``; ProfileError where nothing true can be written."""
    return FORMATS[to](candidate)


# ------------------------------------------------------------------------------- seccomp profiles


def _oci(candidate: Candidate) -> Exported:
    profile, differs, lost = _profile_of(candidate)
    return Exported(_as_json(profile), (*_lost_layers(candidate), *differs, *lost), differs)


def _docker(candidate: Candidate) -> Exported:
    profile, differs, lost = _profile_of(candidate)
    if profile.default_errno_ret not in (None, _PERMITTED):
        said = (
            f"defaultErrnoRet {profile.default_errno_ret}: Docker 20.10 drops it and answers EPERM"
        )
        lost = (*lost, said)
    return Exported(_as_json(profile), (*_lost_layers(candidate), *differs, *lost))


def _spo(candidate: Candidate) -> Exported:
    profile, differs, before = _profile_of(candidate)
    text, lost = export_spo.resource(profile, candidate.name)
    return Exported(text.encode(), (*_lost_layers(candidate), *differs, *before, *lost))


def _daemonset(candidate: Candidate) -> Exported:
    written = _oci(candidate)
    return Exported(
        export_daemonset.objects(written.content, candidate.name).encode(), written.lost
    )


def _as_json(profile: Profile) -> bytes:
    return json.dumps(profile.as_dict(), indent=2).encode() + b"\n"


def _profile_of(candidate: Candidate) -> tuple[Profile, tuple[str, ...], tuple[str, ...]]:
    """The rules behind its filter, or those that come nearest; what differs, what else is lost."""
    if len(candidate.seccomp) == 1 and candidate.profile is not None:
        return candidate.profile, (), ()
    found = rules_of(_filters_of(candidate))
    return found.profile, found.lost, tuple(_lost_without_rules(candidate, found.profile))


def _filters_of(candidate: Candidate) -> list[Filter]:
    if not candidate.seccomp:
        others = [_said(one) for one in candidate.layers]
        has = f"it has {' and '.join(others)}" if others else "it denies nothing"
        raise ProfileError(
            f"it has no filter, and this format holds nothing else ({has})", code="no-filter"
        )
    return [Filter.decode(one.program) for one in candidate.seccomp]


def _lost_without_rules(candidate: Candidate, profile: Profile) -> Iterator[str]:
    """What rules that were made for filters do not say beside answers, or runtimes make of them."""
    yield from _lost_flags(candidate)
    if profile.default_action not in STUBLESS:
        yield "that calls newer than any named get the default action: runc answers ENOSYS"


def _lost_flags(candidate: Candidate) -> Iterator[str]:
    flags = dict.fromkeys(flag for one in candidate.seccomp for flag in one.flags)
    if flags:
        yield f"the flags {', '.join(flags)}"


def _lost_layers(
    candidate: Candidate, kept: tuple[type[Layer], ...] = (SeccompLayer,)
) -> Iterator[str]:
    """What stands beside the filter and not in the format."""
    for layer in candidate.layers:
        if not isinstance(layer, kept):
            yield _said(layer)
    if isinstance(candidate.posture, OwnPosture) and candidate.posture.uid:
        yield f"it runs as uid {candidate.posture.uid}"
    if candidate.attachment is Attachment.SELF:
        yield "the program puts it on itself, later than a runtime does"


def _said(layer: Layer) -> str:
    match layer:
        case SeccompLayer():
            return "a seccomp filter"
        case NoNewPrivsLayer():
            return "no_new_privs (allowPrivilegeEscalation: false, noNewPrivileges)"
        case CapabilitiesLayer():
            return f"the capability set: {', '.join(sorted(layer.kept)) or 'none'}"
        case AppArmorLayer():
            return f"the AppArmor profile {layer.profile}"
        case LandlockLayer():
            return "a Landlock ruleset"
        case ReadOnlyRootLayer():
            return "the read-only root"
        case _:
            assert_never(layer)


# -------------------------------------------------------------------------------- everything else


def _systemd(candidate: Candidate) -> Exported:
    text, lost = export_systemd.drop_in(candidate)
    kept = (
        SeccompLayer, NoNewPrivsLayer, CapabilitiesLayer, AppArmorLayer, ReadOnlyRootLayer
    )  # fmt: skip
    standing = replace(candidate, posture=None)  # User= says it
    flags = () if candidate.directives else _lost_flags(candidate)
    return Exported(text.encode(), (*_lost_layers(standing, kept), *flags, *lost))


def _bpf(candidate: Candidate) -> Exported:
    filters = _filters_of(candidate)
    lost = (*_lost_layers(candidate), *_lost_flags(candidate))
    programs = [one.program for one in candidate.seccomp]
    if len(programs) == 1:
        return Exported(programs[0], lost)
    program = one_filter.joined(programs)
    return Exported(program, (*lost, *differences(filters, [Filter.decode(program)])))


def _c(candidate: Candidate) -> Exported:
    kept = (SeccompLayer, NoNewPrivsLayer, LandlockLayer)
    if not any(isinstance(one, kept) for one in candidate.layers):
        raise ProfileError("it has nothing that a program could put on itself", code="no-filter")
    text = export_c.loader(candidate)
    return Exported(text.encode(), tuple(_lost_layers(candidate, kept)))


FORMATS: dict[str, Callable[[Candidate], Exported]] = {
    "oci": _oci,
    "docker": _docker,
    "spo": _spo,
    "daemonset": _daemonset,
    "systemd": _systemd,
    "bpf": _bpf,
    "c": _c,
}
