"""Which level of the Pod Security Standards a container meets, and what keeps it from the next.

The controls are those of Kubernetes 1.34 that a manifest can be held against without a cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

from mitigations.manifest import Node, Pod, flag_of, text_of
from mitigations.security_context import SecurityContext

LEVELS = ("privileged", "baseline", "restricted")
# fmt: off
_BASELINE_CAPABILITIES = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
    "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)
_SAFE_SYSCTLS = (
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
)
# fmt: on
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_RESTRICTED_VOLUMES = (
    *("name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image"),
    *("persistentVolumeClaim", "projected", "secret"),
)


def seccomp_level(context: SecurityContext) -> str:
    """What the seccompProfile alone meets: an explicit Unconfined no level, none given baseline."""
    if context.seccomp is None:
        return "baseline"
    return "privileged" if context.seccomp.type == "Unconfined" else "restricted"


def said(pod: Pod, context: SecurityContext) -> str:
    """One sentence without a full stop: the level of seccomp, of the rest, and why no higher."""
    level, against = _level(pod, context)
    reasons = f": {against[0]}" if against else ""
    more = f" (and {len(against) - 1} more)" if len(against) > 1 else ""
    alone = seccomp_level(context)
    return f"Pod Security: seccomp meets {alone}, the container as a whole {level}{reasons}{more}"


def _level(pod: Pod, context: SecurityContext) -> tuple[str, list[str]]:
    """The level, and what is against the next one."""
    own = context.node.get("securityContext")
    contexts = [one for one in (pod.spec.get("securityContext"), own) if one is not None]
    against = [*_against_baseline(pod, context), *_against_baseline_contexts(contexts)]
    if against:
        return "privileged", against
    against = list(_against_restricted(pod, context))
    return ("baseline", against) if against else ("restricted", [])


def _against_baseline(pod: Pod, context: SecurityContext) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if flag_of(pod.spec.get(key)):
            yield key
    if context.privileged:
        yield "privileged"
    for name in context.added:
        if name not in _BASELINE_CAPABILITIES:
            yield f"capabilities.add {name}"
    if context.seccomp is not None and context.seccomp.type == "Unconfined":
        yield "seccompProfile Unconfined"
    if context.apparmor is not None and context.apparmor.type == "Unconfined":
        yield "appArmorProfile Unconfined"
    for volume in pod.spec.items("volumes"):
        if volume.get("hostPath") is not None:
            yield f"volume {text_of(volume.get('name'))} is a hostPath"
    for port in context.node.items("ports"):
        number = port.get("hostPort")
        if number is not None and number.value != 0:
            yield f"hostPort {number.value}"


def _against_baseline_contexts(contexts: list[Node]) -> Iterator[str]:
    for context in contexts:
        if text_of(context.get("procMount")) == "Unmasked":
            yield "procMount Unmasked"
        for option in ("type", "user", "role"):
            value = text_of(context.at(f"seLinuxOptions.{option}"))
            if value not in (_SELINUX_TYPES if option == "type" else ("",)):
                yield f"seLinuxOptions.{option} {value}"
        if flag_of(context.at("windowsOptions.hostProcess")):
            yield "windowsOptions.hostProcess"
        for one in context.items("sysctls"):
            name = text_of(one.get("name"))
            if name not in _SAFE_SYSCTLS:
                yield f"sysctl {name}"


def _against_restricted(pod: Pod, context: SecurityContext) -> Iterator[str]:
    if context.allow_privilege_escalation is not False:
        yield "allowPrivilegeEscalation is not false"
    if not context.run_as_non_root:
        yield "runAsNonRoot is not true"
    if context.uid == 0:
        yield "runAsUser is 0"
    if seccomp_level(context) != "restricted":
        yield "no seccompProfile"
    if not context.drops_all:
        yield "capabilities.drop has no ALL"
    for name in context.added:
        if name != "NET_BIND_SERVICE":
            yield f"capabilities.add {name}"
    for volume in pod.spec.items("volumes"):
        for key in volume.fields():
            if key not in _RESTRICTED_VOLUMES:
                yield f"volume {text_of(volume.get('name'))} is a {key}"
