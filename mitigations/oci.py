"""Seccomp profiles in JSON: OCI's `linux.seccomp`, and Docker's format that resolves to it.

The two share most keys and differ in meaning. containerd reads a Kubernetes Localhost profile as
OCI: `archMap`, `includes`, `excludes` and `name` are keys it does not know, so it ignores them.
Docker and podman evaluate them. `read` decides which of the two a document is read as, refuses
what runtimes refuse, and reports what they would silently drop.
"""

import errno
import re
from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from mitigations.candidate import Finding, ProfileError
from mitigations.classic import MAX_ERRNO
from mitigations.json_section import MOST_FINDINGS, UINT64, Section
from mitigations.rules import (
    ACTIONS,
    ARCHITECTURES,
    LARGEST_RETURN_DATA,
    NATIVE,
    OPERATORS,
    Condition,
    Profile,
    Rule,
)
from mitigations.strict_json import JsonObject
from mitigations.suggestion import did_you_mean, quote

Meaning = Literal["oci", "docker"]
Choice = Literal["auto", "oci", "docker"]

GO_NATIVE = "amd64"

# What Docker grants a container without --cap-add (CapBnd 00000000a80425fb).
DOCKER_CAPABILITIES = frozenset(
    {
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    }
)

_IDENTIFYING = ("defaultAction", "defaultErrnoRet", "architectures", "archMap", "syscalls")
_TOP = (*_IDENTIFYING, "defaultErrno", "flags", "listenerPath", "listenerMetadata")
_REMARKS = ("comment", "$schema")
_RULE = ("names", "name", "action", "errnoRet", "errno", "args", "includes", "excludes", "comment")
_ARGUMENT = ("index", "value", "valueTwo", "op")
_GATE = ("caps", "arches", "minKernel")
_ARCH_MAP = ("architecture", "subArchitectures")

_KERNEL_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.\d{1,6})?", re.ASCII)


class _Gate(Struct, frozen=True):
    """An `includes` or `excludes` of Docker's format."""

    capabilities: tuple[str, ...]
    arches: tuple[str, ...]
    kernel: tuple[int, int] | None

    @property
    def is_empty(self) -> bool:
        return not self.capabilities and not self.arches and self.kernel is None


class _SourceRule(Struct, frozen=True):
    """A rule as written, in either format."""

    rule: Rule
    legacy_name: str
    includes: _Gate
    excludes: _Gate
    errno_name: str


class _Source(Struct, frozen=True):
    """A document as written, in either format."""

    top: Section
    rules: tuple[_SourceRule, ...]
    architectures: tuple[str, ...]
    arch_map: tuple[tuple[str, tuple[str, ...]], ...]
    default_errno_name: str


class Reading(Struct, frozen=True):
    """What a document means; no profile where it leaves the process unconfined."""

    profile: Profile | None
    meaning: Meaning
    findings: tuple[Finding, ...]


def read(
    document: object,
    *,
    meaning: Choice = "auto",
    capabilities: frozenset[str] = DOCKER_CAPABILITIES,
    kernel: tuple[int, int],
) -> Reading:
    findings: list[Finding] = []
    section, where = _profile_section(document, findings)
    source = _read_source(Section(section, where, (*_TOP, *_REMARKS), findings))
    docker_keys = _docker_keys(source)
    detected: Meaning = "docker" if docker_keys and not where else "oci"
    chosen = detected if meaning == "auto" else meaning
    if chosen == "docker":
        if meaning == "auto":
            findings.append(_docker_format(docker_keys))
        profile = _resolve_docker(source, capabilities, kernel)
    else:
        _note_ignored(source)
        profile = _resolve(source, source.architectures, tuple(each.rule for each in source.rules))
    return Reading(profile, chosen, tuple(findings[:MOST_FINDINGS]))


def _profile_section(document: object, findings: list[Finding]) -> tuple[object, str]:
    """The profile itself, and its path in the document."""
    if not isinstance(document, JsonObject):
        return document, ""
    if not document or _looks_like_profile(document):
        return document, ""
    captured: object = document.get("seccomp")
    if isinstance(captured, JsonObject) and _looks_like_profile(captured):
        findings.append(Finding("captured-block", "only the seccomp block of it is evaluated"))
        return captured, "seccomp"
    if "ociVersion" in document or "linux" in document:
        linux: object = document.get("linux")
        section: object = linux.get("seccomp") if isinstance(linux, JsonObject) else None
        if section is None:
            raise ProfileError(
                "this OCI config has no seccomp section: its container runs unconfined",
                "linux.seccomp",
                "no-seccomp-section",
            )
        findings.append(Finding("oci-config", "an OCI config: only its linux.seccomp is evaluated"))
        return section, "linux.seccomp"
    keys = ", ".join(quote(key) for key in list(document)[:4])
    raise ProfileError(
        f"not a seccomp profile: none of {', '.join(_IDENTIFYING)} (its keys: {keys})",
        code="not-a-profile",
    )


def holds_profile(document: object) -> bool:
    """Whether a document is meant as a profile or holds one, be it a wrong one."""
    if not isinstance(document, JsonObject):
        return False
    linux: object = document.get("linux")
    inside = (document, document.get("seccomp"))
    return (isinstance(linux, JsonObject) and "seccomp" in linux) or any(
        isinstance(one, JsonObject) and _looks_like_profile(one) for one in inside
    )


def _looks_like_profile(document: JsonObject) -> bool:
    identifying = {key.casefold() for key in _IDENTIFYING}
    return any(key.casefold() in identifying for key in document)


def _read_source(top: Section) -> _Source:
    return _Source(
        top,
        tuple(_read_rule(section) for section in top.sections("syscalls", _RULE)),
        tuple(_one_of(ARCHITECTURES, "architecture", *each) for each in top.texts("architectures")),
        tuple(_read_arch_map(section) for section in top.sections("archMap", _ARCH_MAP)),
        top.text("defaultErrno"),
    )


def _read_arch_map(section: Section) -> tuple[str, tuple[str, ...]]:
    where = section.path("architecture")
    main = _one_of(ARCHITECTURES, "architecture", section.text("architecture"), where)
    others = section.texts("subArchitectures")
    return main, tuple(_one_of(ARCHITECTURES, "architecture", *each) for each in others)


def _read_rule(section: Section) -> _SourceRule:
    names = section.texts("names")
    for name, where in names:
        if not name:
            raise ProfileError("an empty system call name", where, "empty-name")
    rule = Rule(
        tuple(name for name, _ in names),
        tuple(where for _, where in names),
        _one_of(ACTIONS, "action", section.text("action"), section.path("action")),
        section.number("errnoRet", _largest_errno(section.text("action")), "errno-out-of-range"),
        tuple(_read_condition(each) for each in section.sections("args", _ARGUMENT)),
        section.where,
        section.has("names"),
    )
    return _SourceRule(
        rule,
        section.text("name"),
        _read_gate(section.section("includes", _GATE)),
        _read_gate(section.section("excludes", _GATE)),
        section.text("errno"),
    )


def _largest_errno(action: str) -> int:
    """Libseccomp wants less than 4095 for ERRNO; the data of TRACE are any 16 bits."""
    return MAX_ERRNO - 1 if action == "SCMP_ACT_ERRNO" else LARGEST_RETURN_DATA


def _read_condition(section: Section) -> Condition:
    operator = _one_of(OPERATORS, "operator", section.text("op"), section.path("op"))
    for key in ("index", "value"):
        if not section.has(key):
            section.findings.append(
                Finding("missing-value", "not given: runtimes take 0", section.path(key))
            )
    return Condition(
        section.number("index", 5, "bad-index") or 0,
        operator,
        section.number("value", UINT64) or 0,
        section.number("valueTwo", UINT64) or 0,
    )


def _read_gate(section: Section) -> _Gate:
    kernel = section.text("minKernel")
    match = _KERNEL_VERSION.fullmatch(kernel)
    if kernel and match is None:
        raise ProfileError(
            f"{quote(kernel)} is no kernel version like 4.8",
            section.path("minKernel"),
            "bad-min-kernel",
        )
    for capability, where in section.texts("caps"):
        if not capability.startswith("CAP_"):
            section.findings.append(
                Finding("unknown-capability", f"{quote(capability)} is no capability", where)
            )
    return _Gate(
        tuple(capability for capability, _ in section.texts("caps")),
        tuple(arch for arch, _ in section.texts("arches")),
        (int(match[1]), int(match[2])) if match else None,
    )


def _one_of(known: tuple[str, ...], what: str, value: str, where: str) -> str:
    if value in known:
        return value
    if not value:
        raise ProfileError(f"no {what} given", where, f"missing-{what}")
    hint = did_you_mean(value, known)
    raise ProfileError(f"unknown {what} {quote(value)}{hint}", where, f"unknown-{what}")


def _docker_keys(source: _Source) -> list[str]:
    """The keys in use that only Docker's format has."""
    tests: Mapping[str, Callable[[_SourceRule], bool]] = {
        "name": lambda each: bool(each.legacy_name),
        "includes": lambda each: not each.includes.is_empty,
        "excludes": lambda each: not each.excludes.is_empty,
        "errno": lambda each: bool(each.errno_name),
    }
    keys = ["archMap"] if source.arch_map else []
    keys += [key for key, test in tests.items() if any(test(each) for each in source.rules)]
    return keys + (["defaultErrno"] if source.default_errno_name else [])


def _docker_format(keys: list[str]) -> Finding:
    return Finding(
        "docker-format",
        f"read as Docker's format because of {', '.join(keys)}; a Kubernetes Localhost profile "
        "is read as OCI, where they are ignored",
    )


def _note_ignored(source: _Source) -> None:
    """Docker's keys under OCI meaning: each is silently without effect."""
    note = source.top.findings.append
    if source.arch_map:
        message = "ignored in an OCI profile: only the native architecture is covered"
        note(Finding("archmap-ignored", message, source.top.path("archMap")))
    if source.default_errno_name:
        message = "ignored in an OCI profile: use defaultErrnoRet"
        note(Finding("errno-name-ignored", message, source.top.path("defaultErrno")))
    for each in source.rules:
        where = each.rule.where
        if each.legacy_name:
            message = (
                f"ignored in an OCI profile: {quote(each.legacy_name)} gets no rule, use names"
            )
            note(Finding("legacy-name-ignored", message, f"{where}.name"))
        for key, gate in (("includes", each.includes), ("excludes", each.excludes)):
            if not gate.is_empty:
                message = "ignored in an OCI profile: the rule applies to every container"
                note(Finding(f"{key}-ignored", message, f"{where}.{key}"))
        if each.errno_name:
            message = "ignored in an OCI profile: use errnoRet"
            note(Finding("errno-name-ignored", message, f"{where}.errno"))


def _resolve(
    source: _Source,
    architectures: tuple[str, ...],
    rules: tuple[Rule, ...],
    default_errno: int | None = None,
) -> Profile | None:
    top = source.top
    action = top.text("defaultAction")
    errno_ret = top.number("defaultErrnoRet", _largest_errno(action), "errno-out-of-range")
    flags = tuple(flag for flag, _ in top.texts("flags")) if top.has("flags") else None
    if not action and not source.rules:
        message = "no default action and no rules: runc and Docker run the container unconfined"
        top.findings.append(Finding("unconfined", message, top.path("defaultAction")))
        return None
    where = top.path("defaultAction")
    if not action:
        raise ProfileError("no default action given", where, "missing-default-action")
    return Profile(
        default_action=_one_of(ACTIONS, "action", action, where),
        default_errno_ret=default_errno if errno_ret is None else errno_ret,
        architectures=architectures,
        flags=flags,
        listener_path=top.text("listenerPath"),
        listener_metadata=top.text("listenerMetadata"),
        rules=rules,
        where=top.where,
    )


def _resolve_docker(
    source: _Source, capabilities: frozenset[str], kernel: tuple[int, int]
) -> Profile | None:
    top = source.top
    if source.architectures and source.arch_map:
        raise ProfileError(
            "both architectures and archMap are given, Docker takes one of them",
            top.path("archMap"),
            "architectures-and-archmap",
        )
    architectures = source.architectures
    archmap_at = ""
    for index, (main, others) in enumerate(source.arch_map):
        if main == NATIVE:
            architectures = (main, *others)
            archmap_at = f"{top.path('archMap')}[{index}]"
            break
    rules = tuple(
        _docker_rule(each, top.findings)
        for each in source.rules
        if _applies(each, capabilities, kernel)
    )
    default = _errno_number(source.default_errno_name, top.path("defaultErrno"))
    profile = _resolve(source, architectures, rules, default)
    return profile and replace(profile, archmap_at=archmap_at)


def _applies(each: _SourceRule, capabilities: frozenset[str], kernel: tuple[int, int]) -> bool:
    includes, excludes = each.includes, each.excludes
    is_excluded = (
        GO_NATIVE in excludes.arches
        or any(capability in capabilities for capability in excludes.capabilities)
        or (excludes.kernel is not None and kernel >= excludes.kernel)
    )
    return (
        not is_excluded
        and (not includes.arches or GO_NATIVE in includes.arches)
        and all(capability in capabilities for capability in includes.capabilities)
        and (includes.kernel is None or kernel >= includes.kernel)
    )


def _docker_rule(each: _SourceRule, findings: list[Finding]) -> Rule:
    rule = each.rule
    names, named_at = rule.names, rule.named_at
    if each.legacy_name:
        where = f"{rule.where}.name"
        if names:
            raise ProfileError(
                "both name and names are given, Docker takes one of them", where, "name-and-names"
            )
        names, named_at = (each.legacy_name,), (where,)
    where = f"{rule.where}.errno"
    number = _errno_number(each.errno_name, where)
    errno_ret = rule.errno_ret
    if number is not None and errno_ret is None:
        message = "podman answers it, Docker does not know the key and answers EPERM: add errnoRet"
        findings.append(Finding("errno-name-only", message, where))
        errno_ret = number
    elif number != errno_ret and number is not None:
        message = f"podman answers {each.errno_name}, Docker errnoRet {errno_ret} (taken here)"
        findings.append(Finding("errno-disagrees", message, where))
    has_names = rule.has_names or bool(each.legacy_name)
    return Rule(names, named_at, rule.action, errno_ret, rule.conditions, rule.where, has_names)


def _errno_number(name: str, where: str) -> int | None:
    if not name:
        return None
    numbers = {text: number for number, text in errno.errorcode.items()}
    if name not in numbers:
        hint = did_you_mean(name, numbers)
        raise ProfileError(f"unknown errno {quote(name)}{hint}", where, "unknown-errno")
    return numbers[name]
