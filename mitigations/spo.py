"""Custom resources of the Security Profiles Operator: the profile that it writes to the node.

That file is the spec of a SeccompProfile less what the operator keeps to itself, with the rules of
its base profiles added; containerd then reads it as OCI.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from mitigations.candidate import AppArmorLayer, Finding, Layer, ProfileError
from mitigations.manifest import Node, kind_of, object_name, text_of, unknown_keys
from mitigations.strict_json import JsonObject, is_list
from mitigations.suggestion import did_you_mean, quote
from mitigations.yaml_text import lines_of, place

GROUP = "security-profiles-operator.x-k8s.io"
MEANING = "spo"
_PROFILE = (
    *("defaultAction", "architectures", "listenerPath", "listenerMetadata", "syscalls", "flags"),
)
_SPEC = (*_PROFILE, "baseProfileName", "disabled", "state")
_RULE = ("names", "action", "errnoRet", "args")
_ARGUMENT = ("index", "value", "valueTwo", "op")
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

    def located(self, error: ProfileError) -> ProfileError:
        """An error about the document, at path, file and line of the resource."""
        origin = self._origin(error.where)
        return ProfileError(f"{origin.path}: {error.message}", origin.where, error.code)

    def finding(self, one: Finding) -> Finding:
        """The same for a finding."""
        origin = self._origin(one.where)
        return replace(one, message=f"{origin.path}: {one.message}", where=origin.where)

    def _origin(self, path: str) -> Origin:
        """Of a value, or of what holds it."""
        while path and path not in self.origins:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.origins[path]


class _Rule(Struct, frozen=True):
    """An element of ``syscalls`` as the operator writes it; origins by path within it."""

    document: JsonObject
    origins: Mapping[str, Origin]


def is_spo(node: Node) -> bool:
    return text_of(node.get("apiVersion")).partition("/")[0] == GROUP


def seccomp_profile(node: Node, others: Iterable[Node]) -> SpoProfile:
    """The file of a SeccompProfile; ``others`` are the objects among which its base may be."""
    kind = kind_of(node)
    if kind in _NO_SECCOMP:
        what = f"a {kind} is {_NO_SECCOMP[kind]}, which is not evaluated"
        raise node.error(what, "not-evaluated")
    if kind != "SeccompProfile":
        raise node.error(f"unknown kind {quote(kind)} of {GROUP}", "unknown-kind")
    bases = [
        one
        for one in others
        if is_spo(one) and kind_of(one) == "SeccompProfile" and one is not node
    ]
    spec = _spec(node)
    findings: list[Finding] = []
    _refuse_disabled(spec)
    _note_unknown(spec, findings)
    document, origins = _own_part(spec)
    rules = _rules(spec, findings)
    for base in _chain(node, bases):
        more = _rules(base, findings)
        _refuse_clash(rules, more, base)
        rules = more + rules
    if rules:
        document["syscalls"] = [one.document for one in rules]
    for index, rule in enumerate(rules):
        origins.update({f"syscalls[{index}]{path}": at for path, at in rule.origins.items()})
    return SpoProfile(object_name(node), document, origins, tuple(findings))


def _spec(node: Node) -> Node:
    spec = node.get("spec")
    if spec is None:
        raise node.error("a SeccompProfile without spec", "no-spec")
    return spec


def _refuse_disabled(spec: Node) -> None:
    disabled, state = spec.get("disabled"), spec.get("state")
    if disabled is not None and disabled.flag():
        raise disabled.error("disabled: the operator writes no file for it", "disabled")
    if state is not None and state.text() == "Disabled":
        raise state.error("disabled: the operator writes no file for it", "disabled")


def _note_unknown(spec: Node, findings: list[Finding]) -> None:
    for key in spec.fields():
        if key not in _SPEC:
            hint = did_you_mean(key, _SPEC)
            said = f"spec.{key}: unknown field, which the API server drops{hint}"
            where = place(spec.source, spec.value.lines[key])
            findings.append(Finding("unknown-field", said, where))


def _own_part(spec: Node) -> tuple[JsonObject, dict[str, Origin]]:
    """All but the rules, and where it stands."""
    document = JsonObject()
    origins = {"": Origin(spec.path, spec.where)}
    for key in _PROFILE:
        value = spec.get(key)
        if value is not None and key != "syscalls":
            document[key] = value.value
            origins.update(_origins(value, key))
    return document, origins


def _origins(node: Node, path: str) -> dict[str, Origin]:
    """Of a value and of all that is in it, which has this path in the written profile."""
    found = {path: Origin(node.path, node.where)}
    for inner, line in lines_of(node.value).items():
        joint = inner if inner.startswith("[") else f".{inner}"
        found[path + joint] = Origin(node.path + joint, place(node.source, line))
    return found


def _rules(spec: Node, findings: list[Finding]) -> list[_Rule]:
    found: list[_Rule] = []
    for node in spec.items("syscalls"):
        rule = JsonObject()
        findings += unknown_keys(node, _RULE)
        for key in _RULE:
            value = node.get(key)
            if value is None:
                continue
            rule[key] = _arguments(value, findings) if key == "args" else value.value
            if key == "errnoRet":
                rule[key] = _errno(value)
                if not rule[key]:
                    del rule[key]
                    said = "0 is unset to the operator: the runtime answers EPERM"
                    findings.append(value.finding("errno-zero-unset", said))
        found.append(_Rule(rule, _origins(node, "")))
    return found


def _arguments(node: Node, findings: list[Finding]) -> list[object]:
    """Conditions without what the API server drops: names of fields have one spelling there."""
    found: list[object] = []
    for one in node.elements():
        findings += unknown_keys(one, _ARGUMENT)
        kept = ((key, one.value[key]) for key in _ARGUMENT if key in one.value)
        found.append(JsonObject(kept))
    return found


def _errno(node: Node) -> int:
    """A number; v1beta1 had it as a string."""
    if isinstance(node.value, str) and node.value.isascii() and node.value.isdigit():
        return int(node.value[:10])
    return node.number()


# --------------------------------------------------------------------------------- base profiles


def _chain(profile: Node, others: Sequence[Node]) -> list[Node]:
    """The specs of its base profile, of the base of that, and so on."""
    found: list[Node] = []
    seen = {object_name(profile).partition("/")[2]}
    while True:
        spec = _spec(profile)
        base = spec.get("baseProfileName")
        name = text_of(base)
        if base is None or not name:
            return found
        if name.startswith("oci://"):
            said = f"{quote(name)} is in a registry: pull it (spoc pull) and give it as a file"
            raise base.error(said, "base-in-registry")
        if name in seen or len(seen) > _MOST_BASES:
            said = f"a chain of base profiles that does not end within {_MOST_BASES}"
            raise base.error(said, "endless-base")
        seen.add(name)
        profile = _base(name, base, _namespace(profile), others)
        found.append(_spec(profile))


def _base(name: str, said_at: Node, namespace: str, others: Sequence[Node]) -> Node:
    """The profile of this name that the operator finds: in the same namespace, if any is given."""
    names = {object_name(one).partition("/")[2] for one in others}
    called = [one for one in others if object_name(one) == f"seccompprofile/{name}"]
    here = [
        one for one in called if "" in (namespace, _namespace(one)) or namespace == _namespace(one)
    ]
    if not here:
        hint = did_you_mean(name, names - {name})
        where = f" in namespace {quote(namespace)}" if called else ""
        message = f"no SeccompProfile {quote(name)}{where} in this file or beside it{hint}"
        raise said_at.error(message, "no-base-profile")
    first, *more = here
    for one in more:
        if _spec(one).value != _spec(first).value:
            places = f"{first.where} and {one.where}"
            message = f"two SeccompProfiles are called {quote(name)}, and differ: {places}"
            raise said_at.error(message, "ambiguous-base")
    return first


def _namespace(node: Node) -> str:
    return text_of(node.at("metadata.namespace"))


def _refuse_clash(rules: Iterable[_Rule], more: Iterable[_Rule], base: Node) -> None:
    """What is said of a call in both is one rule or the other, by the operator's version."""
    own = _answers(rules)
    for name, answers in _answers(more).items():
        if name in own and own[name] != answers:
            said = f"says of {quote(name)} something else than the profile that is based on it"
            what = f"{said}: what the operator makes of that hangs on its version"
            raise base.error(what, "base-disagrees")


def _answers(rules: Iterable[_Rule]) -> dict[str, set[tuple[object, object]]]:
    found: dict[str, set[tuple[object, object]]] = {}
    for rule in rules:
        names: object = rule.document.get("names")
        for name in names if is_list(names) else ():
            if isinstance(name, str):
                answer = (str(rule.document.get("action")), rule.document.get("errnoRet"))
                found.setdefault(name, set()).add(answer)
    return found


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
