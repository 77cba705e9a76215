"""Kubernetes manifests as candidates: one for each container of each pod.

The filter is the one that the container gets on a node: of its seccompProfile if it has one, else
of its pod's; a Localhost profile is read as containerd reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from mitigations import pod_security
from mitigations.candidate import (
    AppArmorLayer,
    Attachment,
    Candidate,
    CapabilitiesLayer,
    FailedCandidate,
    Finding,
    Layer,
    NoNewPrivsLayer,
    OwnPosture,
    ProfileError,
    ReadOnlyRootLayer,
    SecurityProfile,
)
from mitigations.capabilities import CAPABILITIES
from mitigations.manifest import Pod
from mitigations.oci import DOCKER_CAPABILITIES
from mitigations.security_context import ContainerError, Profile, SecurityContext, contexts
from mitigations.suggestion import plain, quote

SECCOMP_ROOT = Path("/var/lib/kubelet/seccomp")
MEANING = "kubernetes"
SCRATCH = "/work"
"""Where effects without a target are in the sandbox: some place that can be written to."""
_ALL = frozenset(CAPABILITIES)
_SETS = {_ALL: "all", DOCKER_CAPABILITIES: "default"}
_SOMEBODY = 1000
"""Who runs where nothing is known but that it is not root."""
_NEIGHBOUR = "unfiltered-neighbour"


class NodeSetup(Struct, frozen=True):
    """What a manifest does not say: how the node is set up."""

    seccomp_root: Path = SECCOMP_ROOT
    seccomp_default: bool = False
    """The kubelet's: whether no profile means RuntimeDefault."""
    runtime_default: Path | None = None
    """What stands for RuntimeDefault; None for the one that came with us."""


class Profiles(Protocol):
    """Whoever can read and compile the profiles that manifests name; ProfileError if not."""

    def uses(self, path: Path, /) -> object:
        """Hears of a file that a candidate is made from, or would be if it were there."""
        ...

    def localhost(self, path: Path) -> Candidate:
        """The profile of a node's file, as containerd reads it."""
        ...

    def runtime_default(self, path: Path | None, capabilities: frozenset[str]) -> Candidate:
        """The profile that the runtime makes for a container with this bounding set."""
        ...


def candidates(
    pod: Pod, source: str, setup: NodeSetup, profiles: Profiles
) -> Iterator[Candidate | FailedCandidate]:
    """One for each container, named ``deployment/web:container``."""
    try:
        found = contexts(pod, _ALL)
    except ProfileError as error:
        yield FailedCandidate(pod.name, source, error)
        return
    known = [one for one in found if isinstance(one, SecurityContext)]
    bare = [one for one in known if one.stays and not _profile_type(one, setup)]
    for one in found:
        name = f"{pod.name}:{one.name}"
        try:
            if isinstance(one, ContainerError):
                raise one.error
            filtered = _filtered(one, setup, profiles)
            # A runtime does not look at what it is asked for a privileged container.
            requested = None if one.privileged else security_profile(one.seccomp, setup)
            read = _candidate(pod, one, filtered, bare, name, source)
            asked = apparmor_profile(one.apparmor)
            yield replace(read, requested=requested, requested_apparmor=asked)
        except ProfileError as error:
            yield FailedCandidate(name, source, error)


def security_profile(profile: Profile | None, setup: NodeSetup) -> SecurityProfile:
    """The kubelet's translation of a container's seccompProfile, or of its pod's.

    pkg/kubelet/kuberuntime/helpers.go, fieldSeccompProfile.  ProfileError where the API server or
    the kubelet refuses.  Whether the file is there only the runtime finds out.
    """
    if profile is None:
        return SecurityProfile("RuntimeDefault" if setup.seccomp_default else "Unconfined")
    if profile.type == "Localhost":
        return SecurityProfile(profile.type, str(_localhost_path(profile, setup.seccomp_root)))
    return SecurityProfile(profile.type)


def apparmor_profile(profile: Profile | None) -> SecurityProfile | None:
    """The kubelet's translation of a container's appArmorProfile, its annotation, or its pod's.

    pkg/kubelet/kuberuntime/helpers.go, getAppArmorProfile.
    """
    return None if profile is None else SecurityProfile(profile.type, profile.localhost)


def _profile_type(context: SecurityContext, setup: NodeSetup) -> str:
    """RuntimeDefault or Localhost; empty where there is no filter."""
    if context.privileged:  # the kubelet sends the profile, and the runtime does not look at it
        return ""
    if context.seccomp is not None and context.seccomp.type == "Localhost":
        return context.seccomp.type  # a bad path is told where it is opened
    asked = security_profile(context.seccomp, setup).type
    return "" if asked == "Unconfined" else asked


# ------------------------------------------------------------------------------------ its filter


def _filtered(context: SecurityContext, setup: NodeSetup, profiles: Profiles) -> Candidate | None:
    """The candidate of the profile that the container gets; None where it gets none."""
    match _profile_type(context, setup):
        case "Localhost":
            assert context.seccomp is not None
            path = _localhost_path(context.seccomp, setup.seccomp_root)
            profiles.uses(path)
            if not _is_there(path):
                raise context.seccomp.node.error(
                    f"{plain(str(path))} is not there: a node would not start the container "
                    "(--seccomp-root says where its profiles are)",
                    "no-such-profile",
                )
            return _as_blamed(context, path, lambda: profiles.localhost(path))
        case "RuntimeDefault":
            given = setup.runtime_default
            return _as_blamed(
                context, given, lambda: profiles.runtime_default(given, context.capabilities)
            )
        case _:
            return None


def _localhost_path(profile: Profile, root: Path) -> Path:
    """Where the kubelet looks for it; ProfileError where the API server or the node refuses."""
    relative = PurePosixPath(profile.localhost)
    if relative.is_absolute() or ".." in relative.parts or "\0" in profile.localhost:
        raise profile.node.error(
            f"must be a path below the node's profiles, without '..': {quote(profile.localhost)}",
            "path-climbs-out",
        )
    return root / relative


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _as_blamed(
    context: SecurityContext, path: Path | None, read: Callable[[], Candidate]
) -> Candidate:
    """What was read of a profile's file; a mistake in it names the manifest's line as well."""
    node = context.node if context.seccomp is None else context.seccomp.node
    try:
        found = read()
    except ProfileError as error:
        said = f"{path}: {error}" if path is not None else str(error)
        raise node.error(said, error.code) from None
    if path is None:
        return found
    warnings = tuple(replace(one, where=f"{path} {one.where}".rstrip()) for one in found.warnings)
    return replace(found, warnings=warnings)


# --------------------------------------------------------------------------------- the candidate


def _candidate(
    pod: Pod,
    context: SecurityContext,
    filtered: Candidate | None,
    bare: Sequence[SecurityContext],
    name: str,
    source: str,
) -> Candidate:
    posture, capabilities, odd = _standing(context)
    findings: list[Finding] = []
    neighbours = _neighbours(context, bare)
    is_beside = filtered is not None and bool(neighbours)
    if is_beside:
        findings.append(_neighbour_finding(context, neighbours))
    layers: list[Layer] = [NoNewPrivsLayer()] if context.no_new_privs else []
    layers += capabilities
    layers += _apparmor(context, findings)
    if context.writable is not None:
        layers.append(ReadOnlyRootLayer((SCRATCH, *context.writable)))
    base = filtered or Candidate(
        name=name, source=source, layers=(), attachment=Attachment.RUNTIME, meaning=MEANING
    )
    if filtered is None:
        findings.append(_unconfined(context))
    return replace(
        base,
        name=name,
        source=source,
        layers=(*layers, *base.layers),
        meaning=MEANING,
        posture=posture,
        intent="",
        warnings=(*findings, *context.findings, *base.warnings, *odd),
        notes=(*base.notes, pod_security.said(pod, context)),
        assumes=frozenset({_NEIGHBOUR}) if is_beside else frozenset(),
    )


def _standing(context: SecurityContext) -> tuple[OwnPosture, list[Layer], list[Finding]]:
    """Who runs it with what, what of that the manifest takes away, and what is odd about it.

    Without ambient capabilities, which no runtime gives, execve leaves none to an ordinary user.
    """
    findings: list[Finding] = []
    uid = context.uid
    if uid is None:
        uid = _SOMEBODY if context.run_as_non_root else 0
        said = f"no runAsUser: the image decides, taken for uid {uid}"
        findings.append(context.node.finding("user-from-image", said))
    gid = context.gid or 0
    if uid != 0:
        gained = sorted(context.capabilities - DOCKER_CAPABILITIES)
        if context.added and gained:
            said = f"{', '.join(gained)} added for uid {uid}: execve leaves it none of them"
            findings.append(context.node.finding("capabilities-without-root", said))
        return OwnPosture(f"uid {uid}", uid, gid, frozenset()), [], findings
    held = _ALL if context.privileged else DOCKER_CAPABILITIES | context.capabilities
    posture = OwnPosture(f"uid {uid}, {_SETS.get(held, len(held))} capabilities", uid, gid, held)
    if context.capabilities == held:
        return posture, [], findings
    return posture, [CapabilitiesLayer(context.capabilities)], findings


def _apparmor(context: SecurityContext, findings: list[Finding]) -> list[Layer]:
    profile = context.apparmor
    if profile is None or profile.type == "Unconfined":
        return []
    if profile.type == "Localhost":
        return [AppArmorLayer(profile.localhost)]
    if not context.privileged:
        said = "not modelled: the runtime's own AppArmor profile, where the node has AppArmor"
        findings.append(profile.node.finding("not-modelled", said))
    return []


def _unconfined(context: SecurityContext) -> Finding:
    profile = context.seccomp
    if profile is None:
        what = "privileged: no filter" if context.privileged else "no seccompProfile: no filter"
        hint = "" if context.privileged else " (but see --seccomp-default)"
        return context.node.finding("unconfined", what + hint)
    if profile.type == "Unconfined":
        return profile.node.finding("unconfined", "Unconfined: no filter")
    said = f"{profile.type} is not applied: a privileged container gets no filter"
    return profile.node.finding("privileged-unconfined", said)


def _neighbours(context: SecurityContext, bare: Sequence[SecurityContext]) -> list[str]:
    """Who has no filter in the same PID namespace: some of the node's processes always."""
    same = [one for one in bare if one.pid_namespace == context.pid_namespace]
    names = [one.name for one in same if one.name != context.name]
    return names if context.pid_namespace else [*names, "those of the node"]


def _neighbour_finding(context: SecurityContext, neighbours: Sequence[str]) -> Finding:
    some = ", ".join(neighbours[:3]) + (", ..." if len(neighbours) > 3 else "")
    said = f"shares processes with others that have no filter ({some}): {_NEIGHBOUR} counts"
    return context.node.finding("unfiltered-neighbour", said)
