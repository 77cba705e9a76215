"""A seccomp profile as a resource of the Security Profiles Operator, which brings it to nodes."""

from __future__ import annotations

import re
from typing import Any

from mitigations.candidate import ProfileError
from mitigations.rules import ARCHITECTURES, Profile, Rule, condition_as_dict

_VERSION = "security-profiles-operator.x-k8s.io/v1"
_PERMITTED = 1  # EPERM
_NOT_A_NAME = re.compile(r"[^a-z0-9]+")
_LONGEST_NAME = 63
_LARGEST = (1 << 63) - 1  # the API's numbers are signed
_UNKNOWN = ("SCMP_ARCH_LOONGARCH64",)
_LISTENERS = "/var/run/security-profiles-operator/"


def resource(profile: Profile, name: str) -> tuple[str, list[str]]:
    """The YAML of a SeccompProfile, and what of the profile it does not say.

    ProfileError where the API server would refuse it.
    """
    import yaml

    lost: list[str] = []
    if profile.default_action == "SCMP_ACT_NOTIFY":
        said = "the operator refuses SCMP_ACT_NOTIFY as the default action"
        raise ProfileError(said, profile.architectures_at() or "", "notify-default")
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
    rules = [_rule(one, lost) for one in profile.rules if one.names]
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


def _rule(rule: Rule, lost: list[str]) -> dict[str, Any]:
    # Its list is a set: a name that stands there twice would be refused.
    entry: dict[str, Any] = {"names": list(dict.fromkeys(rule.names)), "action": rule.action}
    if rule.errno_ret:
        entry["errnoRet"] = rule.errno_ret
    elif rule.errno_ret == 0:
        lost.append(f"{rule.where}.errnoRet 0: the operator takes it for unset, which is EPERM")
    for one in rule.conditions:
        if max(one.value, one.value_two) > _LARGEST:
            said = f"a value of {max(one.value, one.value_two):#x}: the operator's are below 2**63"
            raise ProfileError(said, f"{rule.where}.args", "value-too-large")
    if rule.conditions:
        entry["args"] = [condition_as_dict(one) for one in rule.conditions]
    return entry
