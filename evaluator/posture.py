"""Postures: what the subject may do before the candidate is put on."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

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


class Ruleset(Struct, frozen=True):
    """What Landlock denies: landlock_create_ruleset(2), landlock_add_rule(2)."""

    fs: int
    """``LANDLOCK_ACCESS_FS_...`` that need a rule."""
    net: int = 0
    """``LANDLOCK_ACCESS_NET_...``, denied for every port."""
    scoped: int = 0
    """``LANDLOCK_SCOPE_...``"""
    paths: tuple[tuple[str, int], ...] = ()
    """What is allowed below each path; one that is not there has no rule."""


class Posture(Struct, frozen=True):
    """Ids, capabilities (effective, permitted and bounding are one set) and no_new_privs."""

    name: str
    uid: int
    gid: int
    capabilities: frozenset[str]
    no_new_privs: bool
    rulesets: tuple[Ruleset, ...] = ()

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
NO_NEW_PRIVS = Posture("no-new-privs", 0, 0, CONTAINER, no_new_privs=True)
LANDLOCK_ABI = 7
"""The newest that is known here: LANDLOCK_CREATE_RULESET_VERSION of landlock_create_ruleset(2)."""
_READ = 1 << 0 | 1 << 2 | 1 << 3  # EXECUTE, READ_FILE, READ_DIR
_WRITE_FILE, _REFER, _TRUNCATE, _IOCTL_DEV = 1 << 1, 1 << 13, 1 << 14, 1 << 15
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc")


def landlocked(abi: int) -> Posture:
    """``NO_NEW_PRIVS`` under all that Landlock can deny with that ABI (landlock(7)).

    Programs and libraries can be read, devices used, and a workload has its own directory.
    """
    fs = (1 << 13) - 1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        fs |= right if abi >= since else 0
    devices = (_READ | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV) & fs
    paths = (*((path, _READ) for path in _SYSTEM), ("/dev", devices), ("/work/w", fs))
    net, scoped = (3 if abi >= 4 else 0), (3 if abi >= 6 else 0)
    ruleset = Ruleset(fs, net, scoped, paths)
    return replace(NO_NEW_PRIVS, name=f"landlock-abi-{abi}", rulesets=(ruleset,))


# Nobody asks for these by an option: what a family comes to under a layer is measured in them.
_UNASKED = {
    one.name: one
    for one in (
        WITHOUT_CAPABILITIES,
        NO_NEW_PRIVS,
        *(landlocked(abi) for abi in range(1, LANDLOCK_ABI + 1)),
    )
}


def posture(name: str) -> Posture:
    """The posture of that name, or an ``InputError``."""
    if name in _UNASKED:
        return _UNASKED[name]
    try:
        return POSTURES[name]
    except KeyError:
        raise InputError(f"unknown posture {name!r}: one of {', '.join(POSTURES)}") from None
