"""Postures: what the subject may do before the candidate is put on."""

from __future__ import annotations

from msgspec import Struct

from evaluator.errors import InputError

# Numbers of capabilities(7), in order; the list ends with Linux 5.9.
# fmt: off
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)
# fmt: on
CAPABILITY_NUMBERS = {f"CAP_{name}": number for number, name in enumerate(CAPABILITIES)}

# What a container of Docker or containerd has unless told otherwise (moby, daemon/pkg/oci/caps).
# fmt: off
_CONTAINER = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP",
    "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)
# fmt: on
CONTAINER = frozenset(f"CAP_{name}" for name in _CONTAINER)


class Posture(Struct, frozen=True):
    """Ids, capabilities (effective, permitted and bounding are one set) and no_new_privs."""

    name: str
    uid: int
    gid: int
    capabilities: frozenset[str]
    no_new_privs: bool

    @property
    def mask(self) -> int:
        """The capabilities as the bits of capset(2)."""
        return sum(1 << CAPABILITY_NUMBERS[name] for name in self.capabilities)


POSTURES = {
    posture.name: posture
    for posture in (
        Posture("container", 0, 0, CONTAINER, no_new_privs=False),
        Posture("restricted", 1000, 1000, frozenset(), no_new_privs=True),
        Posture("root", 0, 0, frozenset(CAPABILITY_NUMBERS), no_new_privs=False),
    )
}
WITHOUT_CAPABILITIES = Posture("no-capabilities", 0, 0, frozenset(), no_new_privs=False)
"""Nobody asks for it by an option: what a family comes to without any is measured under it."""


def posture(name: str) -> Posture:
    """The posture of that name, or an ``InputError``."""
    if name == WITHOUT_CAPABILITIES.name:
        return WITHOUT_CAPABILITIES
    try:
        return POSTURES[name]
    except KeyError:
        raise InputError(f"unknown posture {name!r}: one of {', '.join(POSTURES)}") from None
