"""What each container of a pod gets: its security context over that of the pod, as on a node.

Defaults are those of the API, the kubelet and containerd; what the API server or the kubelet would
refuse raises ProfileError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from mitigations.candidate import Finding, ProfileError
from mitigations.manifest import (
    Node,
    Pod,
    flag_of,
    misspelt_keys,
    number_of,
    text_of,
    unknown_keys,
)
from mitigations.oci import DOCKER_CAPABILITIES
from mitigations.suggestion import did_you_mean, quote

PROFILE_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
APPARMOR_CONTAINER = "container.apparmor.security.beta.kubernetes.io/"

# fmt: off
_SHARED = (
    "appArmorProfile", "runAsGroup", "runAsNonRoot", "runAsUser", "seLinuxOptions",
    "seccompProfile",
)
_POD_CONTEXT = (
    *_SHARED, "fsGroup", "fsGroupChangePolicy", "seLinuxChangePolicy", "supplementalGroups",
    "supplementalGroupsPolicy", "sysctls", "windowsOptions",
)
_CONTAINER_CONTEXT = (
    *_SHARED, "allowPrivilegeEscalation", "capabilities", "privileged", "procMount",
    "readOnlyRootFilesystem", "windowsOptions",
)
_POD_FIELDS = (
    "containers", "ephemeralContainers", "hostIPC", "hostNetwork", "hostPID", "hostUsers",
    "initContainers", "runtimeClassName", "securityContext", "shareProcessNamespace",
)
_OTHER_POD_FIELDS = (
    "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "dnsConfig", "dnsPolicy",
    "enableServiceLinks", "hostAliases", "hostname", "hostnameOverride", "imagePullSecrets",
    "nodeName", "nodeSelector", "os", "overhead", "preemptionPolicy", "priority",
    "priorityClassName", "readinessGates", "resourceClaims", "resources", "restartPolicy",
    "schedulerName", "schedulingGates", "serviceAccount", "serviceAccountName",
    "setHostnameAsFQDN", "subdomain", "terminationGracePeriodSeconds", "tolerations",
    "topologySpreadConstraints", "volumes",
)
_OTHER_CONTAINER_FIELDS = (
    "args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe",
    "name", "ports", "readinessProbe", "resizePolicy", "resources", "restartPolicy",
    "restartPolicyRules", "startupProbe", "stdin", "stdinOnce", "targetContainerName",
    "terminationMessagePath", "terminationMessagePolicy", "tty", "volumeDevices", "volumeMounts",
    "workingDir",
)
# fmt: on
_LARGEST_ID = (1 << 31) - 1
_GROUPS = ("initContainers", "containers", "ephemeralContainers")


class Profile(Struct, frozen=True):
    """A ``seccompProfile`` or ``appArmorProfile``: one of PROFILE_TYPES."""

    type: str
    localhost: str
    """Empty if it is not of type Localhost."""
    node: Node


class SecurityContext(Struct, frozen=True):
    """What is in force in one container, whether the container or the pod says it."""

    name: str
    node: Node
    """The container."""
    privileged: bool
    seccomp: Profile | None
    """None where nothing is given."""
    apparmor: Profile | None
    capabilities: frozenset[str]
    """The bounding set, and what uid 0 has: ``CAP_...``."""
    drops_all: bool
    added: tuple[str, ...]
    """What ``capabilities.add`` names, without ``CAP_``; upper case."""
    allow_privilege_escalation: bool | None
    uid: int | None
    """None where the image decides."""
    gid: int | None
    run_as_non_root: bool
    writable: tuple[str, ...] | None
    """With a read-only root, where volumes are mounted that can be written to; else None."""
    stays: bool
    """False for an init container that ends before the containers start."""
    pid_namespace: str
    """Equal for containers that see each other's processes; empty for that of the node."""
    findings: tuple[Finding, ...]

    @property
    def no_new_privs(self) -> bool:
        return self.allow_privilege_escalation is False


class ContainerError(Struct, frozen=True):
    """A container that no node would start."""

    name: str
    error: ProfileError


def contexts(pod: Pod, all_capabilities: frozenset[str]) -> list[SecurityContext | ContainerError]:
    """One for each container, in the order in which they start.

    ProfileError for a mistake that takes the whole pod down.
    """
    containers = [(group, node) for group in _GROUPS for node in pod.spec.items(group)]
    if not any(group == "containers" for group, _ in containers):
        raise pod.spec.error("a pod without containers", "no-containers")
    _refuse_windows(pod.spec)
    shared = _PodContext(pod, _names([node for _, node in containers]))
    found: list[SecurityContext | ContainerError] = []
    for group, node in containers:
        name = _name(node)
        try:
            if group == "ephemeralContainers" and pod.is_template:
                raise node.error(
                    "ephemeral containers are not allowed in a template: the API server refuses it",
                    "refused-by-api",
                )
            stays = group != "initContainers" or text_of(node.get("restartPolicy")) == "Always"
            found.append(_context(shared, node, name, all_capabilities, stays=stays))
        except ProfileError as error:
            found.append(ContainerError(name, error))
    return found


def _names(containers: Iterable[Node]) -> list[str]:
    found: list[str] = []
    for node in containers:
        name = _name(node)
        if name in found:
            said = f"a second container called {quote(name)}: the API server refuses it"
            raise node.error(said, "refused-by-api")
        found.append(name)
    return found


def _name(node: Node) -> str:
    name = text_of(node.get("name"))
    if not name:
        raise node.error("a container without a name", "no-name")
    return name


def _refuse_windows(spec: Node) -> None:
    system = spec.at("os.name")
    if system is not None and system.text() == "windows":
        raise system.error("a Windows pod: there is no seccomp", "windows")


class _PodContext:
    """What all containers of a pod have in common."""

    def __init__(self, pod: Pod, names: Sequence[str]) -> None:
        spec = pod.spec
        self.annotations = pod.annotations
        self.context = spec.get("securityContext")
        self.is_shared = flag_of(spec.get("shareProcessNamespace")) or False
        self.is_of_node = flag_of(spec.get("hostPID")) or False
        self.has_own_users = flag_of(spec.get("hostUsers")) is False
        self._refuse(spec)
        self.findings = (
            *misspelt_keys(spec, (*_POD_FIELDS, *_OTHER_POD_FIELDS), _POD_FIELDS),
            *self._context_findings(),
            *self._pod_findings(spec),
            *self._annotation_findings(names),
        )

    def _refuse(self, spec: Node) -> None:
        if self.is_shared and self.is_of_node:
            said = "shareProcessNamespace and hostPID are both true: the API server refuses it"
            raise spec.error(said, "refused-by-api")
        for key in ("runAsUser", "runAsGroup", "fsGroup"):
            _id(self.get(key))

    def pid_namespace(self, name: str, target: str) -> str:
        """That of a container; an ephemeral one may join another's by its ``target``."""
        if self.is_of_node:
            return ""
        return "all containers" if self.is_shared else f"container {target or name}"

    def get(self, key: str) -> Node | None:
        return None if self.context is None else self.context.get(key)

    def annotation(self, key: str) -> Node | None:
        return None if self.annotations is None else self.annotations.get(key)

    def _context_findings(self) -> Iterator[Finding]:
        if self.context is None:
            return
        for key in self.context.fields():
            if key in _CONTAINER_CONTEXT and key not in _POD_CONTEXT:
                node = self.context.get(key)
                if node is not None:
                    what = "no field of a pod's securityContext: the API server drops it; give it "
                    yield node.finding("unknown-field", f"{what}to each container")
        known = (*_POD_CONTEXT, *_CONTAINER_CONTEXT)
        yield from unknown_keys(self.context, known)
        yield from _not_modelled(self.context, _POD_UNMODELLED)

    def _pod_findings(self, spec: Node) -> Iterator[Finding]:
        for key in ("hostPID", "hostIPC", "hostNetwork"):
            node = spec.get(key)
            if node is not None and node.flag():
                what = "not modelled: the sandbox has its own namespace, the pod the node's"
                yield node.finding("host-namespace", what)
        users = spec.get("hostUsers")
        if users is not None and users.flag():
            what = "not modelled: the sandbox is a user namespace of its own"
            yield users.finding("host-namespace", what)
        runtime = spec.get("runtimeClassName")
        if runtime is not None:
            name = quote(runtime.text())
            what = f"not modelled: runtime class {name} may answer calls without this kernel"
            yield runtime.finding("runtime-class", what)

    def _annotation_findings(self, names: Sequence[str]) -> Iterator[Finding]:
        if self.annotations is None:
            return
        for key in self.annotations.fields():
            node = self.annotations.get(key)
            if node is None:
                continue
            if key == SECCOMP_POD or key.startswith(SECCOMP_CONTAINER):
                what = "ignored since Kubernetes 1.27: use securityContext.seccompProfile"
                yield node.finding("annotation-ignored", what)
            elif key.startswith(APPARMOR_CONTAINER):
                name = key.removeprefix(APPARMOR_CONTAINER)
                if name not in names:
                    what = f"no container is called {quote(name)}{did_you_mean(name, names)}"
                    yield node.finding("annotation-ignored", what)
                else:
                    what = "deprecated since Kubernetes 1.30: use securityContext.appArmorProfile"
                    yield node.finding("annotation-deprecated", what)


_POD_UNMODELLED = {
    "fsGroup": "the group of volumes and a supplementary group of the process",
    "seLinuxOptions": "SELinux",
    "supplementalGroups": "supplementary groups",
    "sysctls": "sysctls of the pod's namespaces",
    "windowsOptions": "Windows",
}
_CONTAINER_UNMODELLED = {"seLinuxOptions": "SELinux", "windowsOptions": "Windows"}


def _not_modelled(node: Node, fields: dict[str, str]) -> Iterator[Finding]:
    for key, what in fields.items():
        found = node.get(key)
        if found is not None:
            yield found.finding("not-modelled", f"not modelled: {what}")


# ------------------------------------------------------------------------------- one container


def _context(
    pod: _PodContext, node: Node, name: str, all_capabilities: frozenset[str], *, stays: bool
) -> SecurityContext:
    own = node.get("securityContext")

    def get(key: str) -> Node | None:
        return None if own is None else own.get(key)

    def either(key: str) -> Node | None:
        return get(key) or pod.get(key)

    findings: list[Finding] = [*pod.findings]
    known = ("securityContext", *_OTHER_CONTAINER_FIELDS)
    findings += misspelt_keys(node, known, ("securityContext",))
    if own is not None:
        findings += unknown_keys(own, (*_CONTAINER_CONTEXT, *_strangers(own)))
        findings += _misplaced(own)
        findings += _not_modelled(own, _CONTAINER_UNMODELLED)
    privileged = flag_of(get("privileged")) or False
    escalation = get("allowPrivilegeEscalation")
    named = _Capabilities(get("capabilities"), all_capabilities, findings)
    _refuse_escalation(escalation, privileged, named.as_written)
    uid, non_root = _id(either("runAsUser")), either("runAsNonRoot")
    if non_root is not None and non_root.flag() and uid == 0:
        raise non_root.error(
            "runAsUser is 0: the kubelet does not start the container", "refused-by-kubelet"
        )
    findings += _unenforced(get("readOnlyRootFilesystem"))
    findings += _unmasked(pod, get("procMount"))
    return SecurityContext(
        name=name,
        node=node,
        privileged=privileged,
        seccomp=_profile(either("seccompProfile")),
        apparmor=_apparmor(get("appArmorProfile"), pod.annotation(APPARMOR_CONTAINER + name))
        or _profile(pod.get("appArmorProfile")),
        capabilities=all_capabilities if privileged else named.granted,
        drops_all=named.drops_all,
        added=named.added,
        allow_privilege_escalation=flag_of(escalation),
        uid=uid,
        gid=_id(either("runAsGroup")),
        run_as_non_root=flag_of(non_root) or False,
        writable=_volumes(node) if flag_of(get("readOnlyRootFilesystem")) else None,
        stays=stays,
        pid_namespace=pod.pid_namespace(name, text_of(node.get("targetContainerName"))),
        findings=tuple(findings),
    )


def _id(node: Node | None) -> int | None:
    if node is not None and type(node.value) is int and not 0 <= node.value <= _LARGEST_ID:
        said = f"{node.value} is not within 0..{_LARGEST_ID}: the API server refuses it"
        raise node.error(said, "refused-by-api")
    return number_of(node)


def _strangers(own: Node) -> list[str]:
    """Keys of the pod's context, which get a line of their own."""
    return [key for key in own.fields() if key in _POD_CONTEXT and key not in _CONTAINER_CONTEXT]


def _misplaced(own: Node) -> Iterator[Finding]:
    for key in _strangers(own):
        node = own.get(key)
        if node is not None:
            what = "no field of a container's securityContext: the API server drops it"
            yield node.finding("unknown-field", f"{what}; it belongs to the pod's")


def _refuse_escalation(node: Node | None, privileged: bool, added: Iterable[str]) -> None:
    if node is None or node.flag():
        return
    # The API server compares with this spelling only; any other gets no_new_privs.
    if privileged or "CAP_SYS_ADMIN" in added:
        why = "privileged" if privileged else "capabilities.add CAP_SYS_ADMIN"
        raise node.error(f"false with {why}: the API server refuses it", "refused-by-api")


def _unenforced(read_only: Node | None) -> Iterator[Finding]:
    if read_only is not None and read_only.flag():
        what = (
            "asked about by a target (create-file@/data): without one, variants have a writable "
            "directory, as /dev/shm is in every container"
        )
        yield read_only.finding("read-only-root", what)


def _unmasked(pod: _PodContext, proc_mount: Node | None) -> Iterator[Finding]:
    if proc_mount is not None and proc_mount.one_of(("Default", "Unmasked")) == "Unmasked":
        if not pod.has_own_users:
            said = "Unmasked without hostUsers: false: the API server refuses it"
            raise proc_mount.error(said, "refused-by-api")
        what = "not enforced here: the sandbox has a /proc of its own, not the runtime's masks"
        yield proc_mount.finding("proc-mount", what)


def _volumes(node: Node) -> tuple[str, ...]:
    found = [
        text_of(one.get("mountPath"))
        for one in node.items("volumeMounts")
        if not flag_of(one.get("readOnly"))
    ]
    return tuple(dict.fromkeys(one for one in found if one.startswith("/") and one != "/"))


def _profile(node: Node | None) -> Profile | None:
    """A profile of the form that seccomp and AppArmor share; ProfileError as the API server."""
    if node is None:
        return None
    kind = node.get("type")
    if kind is None:
        raise node.error(f"no type given: one of {', '.join(PROFILE_TYPES)}", "no-type")
    name = node.get("localhostProfile")
    for key in node.fields():
        if key not in ("type", "localhostProfile"):
            hint = did_you_mean(key, ("type", "localhostProfile"))
            raise node.error(f"unknown field {quote(key)}{hint}", "unknown-field")
    if kind.one_of(PROFILE_TYPES) != "Localhost":
        if name is not None:
            what = f"given for type {kind.text()}: the API server refuses it"
            raise name.error(what, "refused-by-api")
        return Profile(kind.text(), "", node)
    if not text_of(name):
        raise node.error("type Localhost without localhostProfile", "no-localhost-profile")
    assert name is not None
    return Profile("Localhost", name.text(), name)


def _apparmor(field: Node | None, annotation: Node | None) -> Profile | None:
    if field is not None or annotation is None:
        return _profile(field)
    said = annotation.text()
    if said.startswith("localhost/") and len(said) > len("localhost/"):
        return Profile("Localhost", said.removeprefix("localhost/"), annotation)
    known = {"runtime/default": "RuntimeDefault", "unconfined": "Unconfined"}
    if said not in known:
        hint = did_you_mean(said, known)
        what = f"{quote(said)} is no runtime/default, localhost/NAME or unconfined{hint}"
        raise annotation.error(what, "unknown-value")
    return Profile(known[said], "", annotation)


class _Capabilities:
    """``capabilities`` as containerd reads it: ALL first, then what is added, then what is dropped.

    Names stand without ``CAP_``; containerd puts that in front of a long name as well, and no
    capability is called that.
    """

    def __init__(self, node: Node | None, known: frozenset[str], findings: list[Finding]) -> None:
        add = [] if node is None else node.items("add")
        drop = [] if node is None else node.items("drop")
        if node is not None:
            findings += unknown_keys(node, ("add", "drop"))
        self.as_written = tuple(one.text() for one in add)
        self.added = tuple(one.upper() for one in self.as_written)
        dropped = tuple(one.text().upper() for one in drop)
        self.drops_all = "ALL" in dropped
        granted = set(known if "ALL" in self.added else DOCKER_CAPABILITIES)
        if self.drops_all:
            granted.clear()
        granted.update(_known(add, known, findings))
        granted.difference_update(_known(drop, known, findings))
        self.granted = frozenset(granted)


def _known(nodes: Iterable[Node], known: frozenset[str], findings: list[Finding]) -> Iterator[str]:
    for node in nodes:
        word = node.text().upper()
        if word == "ALL":
            continue
        if f"CAP_{word}" in known:
            yield f"CAP_{word}"
        elif word in known:
            short = word.removeprefix("CAP_")
            what = (
                f"without effect: containerd makes CAP_{word} of it, which runc and crun leave "
                f"out, for nobody knows it: Kubernetes wants it without CAP_ ({short})"
            )
            findings.append(node.finding("capability-prefix", what))
        else:
            hint = did_you_mean(word, [one.removeprefix("CAP_") for one in known])
            what = f"no capability is called {quote(word)}{hint}"
            findings.append(node.finding("unknown-capability", what))
