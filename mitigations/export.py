"""A candidate in another format, for deployment: the text or bytes, and what they leave out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from mitigations import export_c, export_daemonset, export_spo, export_systemd
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
from mitigations.rules_of import profile_of
from mitigations.runtimes import STUBLESS

_PERMITTED = 1  # EPERM, which runtimes answer where no errno is given


class Exported(Struct, frozen=True):
    content: bytes
    lost: tuple[str, ...]
    """A sentence without a full stop for each thing that it does not say."""


def export(candidate: Candidate, to: str) -> Exported:
    """The candidate as one of ``FORMATS``; ProfileError where nothing true can be written."""
    return FORMATS[to](candidate)


# ------------------------------------------------------------------------------- seccomp profiles


def _oci(candidate: Candidate) -> Exported:
    profile = _profile_of(candidate)
    lost = (*_lost_layers(candidate), *_lost_without_rules(candidate, profile))
    return Exported(_as_json(profile), lost)


def _docker(candidate: Candidate) -> Exported:
    profile = _profile_of(candidate)
    lost = [*_lost_layers(candidate), *_lost_without_rules(candidate, profile)]
    if profile.default_errno_ret not in (None, _PERMITTED):
        said = (
            f"defaultErrnoRet {profile.default_errno_ret}: Docker 20.10 drops it and answers EPERM"
        )
        lost.append(said)
    return Exported(_as_json(profile), tuple(lost))


def _spo(candidate: Candidate) -> Exported:
    profile = _profile_of(candidate)
    text, lost = export_spo.resource(profile, candidate.name)
    beside = (*_lost_layers(candidate), *_lost_without_rules(candidate, profile))
    return Exported(text.encode(), (*beside, *lost))


def _daemonset(candidate: Candidate) -> Exported:
    written = _oci(candidate)
    return Exported(
        export_daemonset.objects(written.content, candidate.name).encode(), written.lost
    )


def _as_json(profile: Profile) -> bytes:
    return json.dumps(profile.as_dict(), indent=2).encode() + b"\n"


def _profile_of(candidate: Candidate) -> Profile:
    """The rules behind its filter, or rules that come to the same where there are none."""
    filters = candidate.seccomp
    if not filters:
        raise ProfileError("it has no filter: there is nothing to write", code="no-filter")
    if len(filters) == 1 and candidate.profile is not None:
        return candidate.profile
    return profile_of([Filter.decode(one.program) for one in filters])


def _lost_without_rules(candidate: Candidate, profile: Profile) -> Iterator[str]:
    """What rules that were made for filters do not say, or runtimes make of them."""
    if candidate.profile is profile:
        return
    flags = dict.fromkeys(flag for one in candidate.seccomp for flag in one.flags)
    if flags:
        yield f"the flags {', '.join(flags)}"
    if profile.default_action not in STUBLESS:
        yield "that calls newer than any named get the default action: runc answers ENOSYS"


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
    filters = candidate.seccomp
    profile = _profile_of(candidate) if filters else None
    text, lost = export_systemd.drop_in(candidate, profile)
    kept = (
        SeccompLayer, NoNewPrivsLayer, CapabilitiesLayer, AppArmorLayer, ReadOnlyRootLayer
    )  # fmt: skip
    standing = replace(candidate, posture=None)  # User= says it
    flags = dict.fromkeys(flag for one in filters for flag in one.flags)
    said = [f"the flags {', '.join(flags)}"] if flags and candidate.profile is None else []
    return Exported(text.encode(), (*_lost_layers(standing, kept), *said, *lost))


def _bpf(candidate: Candidate) -> Exported:
    filters = candidate.seccomp
    if len(filters) != 1:
        said = f"it has {len(filters)} filters, and a file of instructions holds one"
        raise ProfileError(said, code="several-filters" if filters else "no-filter")
    (layer,) = filters
    lost = [*_lost_layers(candidate)]
    if layer.flags:
        lost.append(f"the flags {', '.join(layer.flags)}")
    return Exported(layer.program, tuple(lost))


def _c(candidate: Candidate) -> Exported:
    if not candidate.seccomp:
        raise ProfileError("it has no filter: there is nothing to load", code="no-filter")
    text = export_c.loader(candidate)
    kept = (SeccompLayer, NoNewPrivsLayer)
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
