"""A seccomp profile as a resource of the Security Profiles Operator, which brings it to nodes."""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from mitigations.rules import ARCHITECTURES, Profile, Rule, condition_as_dict

_VERSION = "security-profiles-operator.x-k8s.io/v1"
_PERMITTED = 1  # EPERM
_NOT_A_NAME = re.compile(r"[^a-z0-9]+")
_LONGEST_NAME = 63
_MOST_NAMES = 6
_LARGEST = (1 << 63) - 1  # the API's numbers are signed
_UNKNOWN = ("SCMP_ARCH_LOONGARCH64",)
_LISTENERS = "/var/run/security-profiles-operator/"


def resource(profile: Profile, name: str) -> tuple[str, list[str]]:
    """The YAML of a SeccompProfile that the API server takes, and what of the profile it lacks."""
    import yaml

    lost: list[str] = []
    if profile.default_action == "SCMP_ACT_NOTIFY":
        said = "the operator refuses SCMP_ACT_NOTIFY as the default action"
        lost.append(f"{said}: nobody is asked, and the answer is EPERM")
        profile = replace(profile, default_action="SCMP_ACT_ERRNO", default_errno_ret=None)
    if profile.default_errno_ret not in (None, _PERMITTED):
        said = f"defaultErrnoRet {profile.default_errno_ret}: the operator has no such field"
        lost.append(f"{said}, the runtime answers EPERM")
    spec: dict[str, Any] = {"defaultAction": profile.default_action}
    if profile.architectures:
        spec["architectures"] = list(_architectures(profile, lost))
    if profile.flags is not None:
        spec["flags"] = list(profile.flags)
        if not profile.flags:
            lost.append("flags: an empty list is none to the operator, and the runtime has its own")
            del spec["flags"]
    if profile.listener_path:
        if not profile.listener_path.startswith(_LISTENERS):
            lost.append(f"listenerPath {profile.listener_path}: it has to be below {_LISTENERS}")
        else:
            spec["listenerPath"] = profile.listener_path
    if profile.listener_metadata:
        spec["listenerMetadata"] = profile.listener_metadata
    sayable = [one for one in profile.rules if one.names and _is_sayable(one, profile, lost)]
    rules = [_rule(one, lost) for one in sayable]
    if rules:
        spec["syscalls"] = rules
    called = resource_name(name)
    document = {
        "apiVersion": _VERSION,
        "kind": "SeccompProfile",
        "metadata": {"name": called},
        "spec": spec,
    }
    heading = (
        "# For a pod: seccompProfile with type: Localhost and\n"
        f"# localhostProfile: operator/{called}.json\n"
    )
    return heading + yaml.safe_dump(document, sort_keys=False), lost


def resource_name(name: str) -> str:
    """A name as Kubernetes allows it (RFC 1123)."""
    plain = _NOT_A_NAME.sub("-", name.casefold()).strip("-")
    return plain[:_LONGEST_NAME].strip("-") or "profile"


def _architectures(profile: Profile, lost: list[str]) -> list[str]:
    for one in profile.architectures:
        assert one in ARCHITECTURES
        if one in _UNKNOWN:
            lost.append(f"{one}: the operator does not know it")
    return [one for one in profile.architectures if one not in _UNKNOWN]


def _is_sayable(rule: Rule, profile: Profile, lost: list[str]) -> bool:
    values = [max(one.value, one.value_two) for one in rule.conditions]
    if not values or max(values) <= _LARGEST:
        return True
    names = f"{', '.join(rule.names[:_MOST_NAMES])}{', ...' if rule.names[_MOST_NAMES:] else ''}"
    lost.append(
        f"{rule.where}.args: a value of {max(values):#x}, and the operator's are below 2**63: "
        f"{names} get {profile.default_action} there, not {rule.action}"
    )
    return False


def _rule(rule: Rule, lost: list[str]) -> dict[str, Any]:
    # Its list is a set: a name that stands there twice would be refused.
    entry: dict[str, Any] = {"names": list(dict.fromkeys(rule.names)), "action": rule.action}
    if rule.errno_ret:
        entry["errnoRet"] = rule.errno_ret
    elif rule.errno_ret == 0:
        lost.append(f"{rule.where}.errnoRet 0: the operator takes it for unset, which is EPERM")
    if rule.conditions:
        entry["args"] = [condition_as_dict(one) for one in rule.conditions]
    return entry
