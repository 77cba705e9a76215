"""Custom resources of the Security Profiles Operator: the profile that it writes to the node.

That file is the spec of a SeccompProfile less what the operator keeps to itself, with the rules of
its base profiles added; containerd then reads it as OCI.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from mitigations.candidate import AppArmorLayer, Finding, Layer, ProfileError
from mitigations.manifest import Node, kind_of, object_name, text_of
from mitigations.strict_json import JsonObject, is_list
from mitigations.suggestion import did_you_mean, quote
from mitigations.yaml_text import lines_of, place

GROUP = "security-profiles-operator.x-k8s.io"
MEANING = "spo"
_PROFILE = (
    *("defaultAction", "architectures", "listenerPath", "listenerMetadata", "syscalls", "flags"),
)
_SPEC = (*_PROFILE, "baseProfileName", "disabled", "state")
_MOST_BASES = 15
"""How long a chain of base profiles the operator follows."""
_NO_SECCOMP = {
    "RawSelinuxProfile": "an SELinux policy",
    "SelinuxProfile": "an SELinux policy",
    "ProfileBinding": "a binding of a profile to images",
    "ProfileRecording": "a recording (see sidestep record)",
}


class Origin(Struct, frozen=True):
    """Where a value of the written profile comes from."""

    path: str
    """``spec.syscalls[0].names[1]``"""
    where: str
    """File and line."""


class SpoProfile(Struct, frozen=True):
    """What the operator writes to the node."""

    name: str
    document: JsonObject
    """An OCI block."""
    origins: Mapping[str, Origin]
    """By JSON path in ``document``."""
    findings: tuple[Finding, ...]


# --------------------------------------------------------------------------------------- AppArmor


def apparmor_layers(node: Node) -> tuple[tuple[Layer, ...], tuple[Finding, ...]]:
    """What an AppArmorProfile puts on, by its name: the operator alone writes its text."""
    name = object_name(node).partition("/")[2]
    spec = node.get("spec")
    mode = None if spec is None else spec.get("mode")
    complains = None if spec is None else spec.get("complainMode")
    if spec is not None:
        _refuse_disabled(spec)
    if mode is not None and mode.one_of(("Enforce", "Complain")) == "Complain":
        return (), (mode.finding("complain-mode", "violations are logged, not denied"),)
    if complains is not None and complains.flag():
        return (), (complains.finding("complain-mode", "violations are logged, not denied"),)
    said = "the operator makes the profile of it: in force only where that one is loaded"
    return (AppArmorLayer(name),), (node.finding("not-modelled", said),)
