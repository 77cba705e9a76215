"""Which kinds of layers could hold a family where seccomp cannot, by their documentation.

From the manual pages: landlock(7), capabilities(7), apparmor.d(5), namespaces(7) and
mount_namespaces(7).  None of it is measured, and nobody may print it as if it were.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct


class LayerKind(StrEnum):
    SECCOMP = "seccomp"
    CAPABILITY = "capability"
    LANDLOCK = "Landlock"
    APPARMOR = "AppArmor"
    NAMESPACE = "namespace"


class Hint(Struct, frozen=True):
    """A layer that could hold a family, and by what."""

    kind: LayerKind
    how: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.how}"


_TOPOLOGY = "whoever is in a domain that handles file access cannot change mounts"
_PTRACE = "nobody in a domain may ptrace what is outside of it"
_LANDLOCK = {
    "create-directory": "LANDLOCK_ACCESS_FS_MAKE_DIR",
    "create-file": "LANDLOCK_ACCESS_FS_MAKE_REG",
    "create-filesystem-object": "LANDLOCK_ACCESS_FS_MAKE_REG, _DIR, _SYM and the others",
    "create-hard-link": "LANDLOCK_ACCESS_FS_MAKE_REG, and _REFER between directories",
    "create-node": "LANDLOCK_ACCESS_FS_MAKE_FIFO, _SOCK, _CHAR, _BLOCK",
    "create-symlink": "LANDLOCK_ACCESS_FS_MAKE_SYM",
    "delete-file": "LANDLOCK_ACCESS_FS_REMOVE_FILE",
    "remove-directory": "LANDLOCK_ACCESS_FS_REMOVE_DIR",
    "rename-file": "LANDLOCK_ACCESS_FS_REMOVE_FILE and _MAKE_REG",
    "read-file": "LANDLOCK_ACCESS_FS_READ_FILE",
    "list-directory": "LANDLOCK_ACCESS_FS_READ_DIR",
    "append-file": "LANDLOCK_ACCESS_FS_WRITE_FILE",
    "overwrite-file": "LANDLOCK_ACCESS_FS_WRITE_FILE",
    "truncate-file": "LANDLOCK_ACCESS_FS_TRUNCATE (ABI 3)",
    "execute-program": "LANDLOCK_ACCESS_FS_EXECUTE",
    "write-sysctl": "LANDLOCK_ACCESS_FS_WRITE_FILE",
    "connect-tcp": "LANDLOCK_ACCESS_NET_CONNECT_TCP (ABI 4)",
    "accept-connection": "LANDLOCK_ACCESS_NET_BIND_TCP (ABI 4), for TCP",
    "kill-process": "LANDLOCK_SCOPE_SIGNAL (ABI 6)",
    "connect-unix": "LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET (ABI 6), for abstract names",
    "call-ioctl": "LANDLOCK_ACCESS_FS_IOCTL_DEV (ABI 5), for devices",
    "trace-process": _PTRACE,
    "read-process-memory": _PTRACE,
    "write-process-memory": _PTRACE,
    "steal-descriptor": _PTRACE,
    "mount-file-system": _TOPOLOGY,
    "change-mount": _TOPOLOGY,
    "unmount": _TOPOLOGY,
    "change-root": "pivot_root is refused like every change of mounts; chroot is not",
}
_WRITES = "no file rule that has w for the path"
# Without the right, or a kernel that has it: what might get through.  More rather than less, and
# none for REFER, as a domain without it can link and rename nothing to another directory.
LANDLOCK_RIGHTS: Mapping[str, frozenset[str]] = {
    "LANDLOCK_ACCESS_FS_REFER": frozenset(),
    "LANDLOCK_ACCESS_FS_TRUNCATE": frozenset(
        ("truncate-file", "overwrite-file", "clear-set-id-bits", "change-timestamps", "fill-disk")
    ),
    "LANDLOCK_ACCESS_FS_IOCTL_DEV": frozenset(
        ("call-ioctl", "inject-terminal-input", "hang-up-terminal", "configure-network")
    ),
    "LANDLOCK_ACCESS_FS_RESOLVE_UNIX": frozenset(
        ("connect-unix", "send-datagram", "signal-by-ipc", "signal-observer", "probe-existence")
    ),
    "LANDLOCK_ACCESS_NET_BIND_TCP": frozenset(
        ("accept-connection", "signal-by-ipc", "signal-observer")
    ),
    "LANDLOCK_ACCESS_NET_CONNECT_TCP": frozenset(
        ("connect-tcp", "signal-by-ipc", "signal-observer", "send-datagram")
    ),
    "LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET": frozenset(
        ("connect-unix", "send-datagram", "signal-by-ipc", "signal-observer")
    ),
    "LANDLOCK_SCOPE_SIGNAL": frozenset(
        ("kill-process", "signal-by-ipc", "signal-observer", "signal-on-access", "probe-existence")
    ),
}
_APPARMOR = {
    **dict.fromkeys(
        (
            "create-directory",
            "create-file",
            "create-filesystem-object",
            "create-node",
            "create-symlink",
            "delete-file",
            "remove-directory",
            "rename-file",
            "overwrite-file",
            "truncate-file",
            "change-mode",
            "change-owner",
            "change-timestamps",
            "write-sysctl",
            "change-process-oom-score",
            "change-process-core-filter",
        ),
        _WRITES,
    ),
    "append-file": "no file rule that has w or a for the path",
    "create-hard-link": "no file rule that has l for the path",
    "read-file": "no file rule that has r for the path",
    "list-directory": "no file rule that has r for the path",
    "execute-program": "no file rule that has x for the path",
    "run-written-code": "no file rule that has m, for mapped files",
    "mount-file-system": "no mount rule",
    "change-mount": "no mount or remount rule",
    "unmount": "no umount rule",
    "change-root": "no pivot_root rule, and capability rules for chroot",
    "kill-process": "no signal rule",
    "trace-process": "no ptrace rule",
    "read-process-memory": "no ptrace rule",
    "write-process-memory": "no ptrace rule",
    "connect-tcp": "no network rule",
    "accept-connection": "no network rule",
    "open-socket": "no network rule",
    "send-datagram": "no network rule",
    "connect-unix": "no unix rule",
    "new-user-namespace": "no userns rule (4.0)",
    "create-posix-queue": "no mqueue rule (4.0)",
    "use-io-uring": "no io_uring rule (4.0)",
}
_CAPABILITY = {
    "change-owner": "without CAP_CHOWN",
    "change-user-id": "without CAP_SETUID",
    "change-group-id": "without CAP_SETGID",
    "change-root": "without CAP_SYS_CHROOT",
    "leave-chroot": "without CAP_SYS_CHROOT",
    "open-by-handle": "without CAP_DAC_READ_SEARCH",
    "set-file-capability": "without CAP_SETFCAP",
    "mount-file-system": "without CAP_SYS_ADMIN, here and in any user namespace",
    "change-mount": "without CAP_SYS_ADMIN, here and in any user namespace",
    "unmount": "without CAP_SYS_ADMIN, here and in any user namespace",
    "new-namespace": "without CAP_SYS_ADMIN, here and in any user namespace",
    "join-namespace": "without CAP_SYS_ADMIN",
    "set-host-name": "without CAP_SYS_ADMIN",
    "set-domain-name": "without CAP_SYS_ADMIN",
    "configure-network": "without CAP_NET_ADMIN",
    "set-clock": "without CAP_SYS_TIME",
    "load-kernel-module": "without CAP_SYS_MODULE",
    "unload-kernel-module": "without CAP_SYS_MODULE",
    "restart-machine": "without CAP_SYS_BOOT",
    "kexec": "without CAP_SYS_BOOT",
    "access-io-ports": "without CAP_SYS_RAWIO",
    "read-kernel-log": "without CAP_SYSLOG",
    "process-accounting": "without CAP_SYS_PACCT",
    "enable-swap": "without CAP_SYS_ADMIN",
}
_READ_ONLY = "a mount namespace in which the tree is mounted read-only"
_ELSEWHERE = "a pid namespace in which the others are not"
_NAMESPACE = {
    **dict.fromkeys(
        (
            "create-directory",
            "create-file",
            "create-filesystem-object",
            "create-hard-link",
            "create-node",
            "create-symlink",
            "delete-file",
            "remove-directory",
            "rename-file",
            "append-file",
            "overwrite-file",
            "truncate-file",
            "change-mode",
            "change-owner",
            "change-timestamps",
            "change-inode-flags",
            "set-extended-attribute",
            "remove-extended-attribute",
            "set-file-capability",
            "clear-set-id-bits",
            "fill-disk",
        ),
        _READ_ONLY,
    ),
    **dict.fromkeys(("read-file", "list-directory"), "a mount namespace in which it is not"),
    "execute-program": "a mount namespace in which what is writable is mounted noexec",
    **dict.fromkeys(
        (
            "kill-process",
            "trace-process",
            "read-process-memory",
            "write-process-memory",
            "steal-descriptor",
            "compare-processes",
            "change-process-affinity",
            "change-process-limits",
            "change-process-priority",
            "change-process-scheduling",
            "get-process-descriptor",
        ),
        _ELSEWHERE,
    ),
    **dict.fromkeys(
        ("connect-tcp", "accept-connection", "send-datagram"),
        "a network namespace without a way out",
    ),
    **dict.fromkeys(
        (
            "create-message-queue",
            "create-semaphore",
            "create-shared-memory",
            "create-posix-queue",
            "signal-by-ipc",
        ),
        "an IPC namespace of its own",
    ),
    "set-host-name": "a UTS namespace of its own",
    "set-domain-name": "a UTS namespace of its own",
}
_BY_KIND: Mapping[LayerKind, Mapping[str, str]] = {
    LayerKind.LANDLOCK: _LANDLOCK,
    LayerKind.APPARMOR: _APPARMOR,
    LayerKind.CAPABILITY: _CAPABILITY,
    LayerKind.NAMESPACE: _NAMESPACE,
}


def could_hold(family: str) -> tuple[Hint, ...]:
    """The layers that could hold a family, named without parameters; none if none is known."""
    return tuple(Hint(kind, said[family]) for kind, said in _BY_KIND.items() if family in said)


def families_named() -> frozenset[str]:
    """All families that any of the lists names."""
    return frozenset(name for said in _BY_KIND.values() for name in said)
