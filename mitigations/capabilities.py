"""The names of capabilities(7), and sets of them as people write them down."""

from mitigations.candidate import ProfileError
from mitigations.suggestion import did_you_mean, quote

# In the order of their numbers; the list ends with Linux 5.9.
# fmt: off
_NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)
# fmt: on
CAPABILITIES = tuple(f"CAP_{name}" for name in _NAMES)
ALL = "ALL"


def named(word: str, where: str = "") -> frozenset[str]:
    """The capability of that name, or all of them for ``ALL``.

    As Docker and Kubernetes read it: in any case, with or without ``CAP_``.  ``ProfileError``
    where no capability is called so.
    """
    upper = word.upper()
    if upper == ALL:
        return frozenset(CAPABILITIES)
    name = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if name not in CAPABILITIES:
        hint = did_you_mean(name, CAPABILITIES)
        raise ProfileError(f"no capability {quote(word)}{hint}", where, "unknown-capability")
    return frozenset((name,))
