"""Which arguments of a call a recording keeps: those that a rule of a profile could look at.

Numbers that choose what a call does (a command, an option, flags, a socket family); never an
address, a descriptor, a size or an id, which differ from run to run.  After the man pages of
section 2; a filter sees words and not what they point at, so the flags of clone3 and openat2 are
nowhere here.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from msgspec import Struct

from mitigations import x86_64

ARGUMENTS = 6
Arguments = tuple[int | None, int | None, int | None, int | None, int | None, int | None]
NO_ARGUMENTS: Arguments = (None, None, None, None, None, None)

# The call and the arguments that are kept; prctl=22: only where its first argument is 22.
_TABLE = """
accept4 3; arch_prctl 0; bpf 0; clock_gettime 0; clone 0; dup3 2; epoll_create1 0; epoll_ctl 1;
eventfd2 1; execveat 4; faccessat2 3; fadvise64 3; fallocate 1; fanotify_init 0 1; fcntl 1;
fcntl64 1; flock 1; fsconfig 1; fsmount 1; fsopen 1; futex 1; getrandom 2; getsockopt 1 2;
inotify_init1 0; io_uring_register 1; ioctl 1; ioprio_set 0; ipc 0; keyctl 0; kill 1;
landlock_restrict_self 1; madvise 2; membarrier 0; memfd_create 1; mlockall 0; mmap 2 3;
mmap2 2 3; mount 3; mprotect 2; mremap 3; open 1; openat 2; perf_event_open 4; personality 0;
pidfd_open 1; pipe2 1; pkey_mprotect 2; prctl=22 0 1; prctl=47 0 1; prctl 0; preadv2 5;
prlimit64 1; ptrace 0; pwritev2 5; quotactl 0; reboot 2; renameat2 4; rt_sigaction 0;
rt_sigprocmask 0; rt_tgsigqueueinfo 2; seccomp 0 1; semctl 2; setns 1; setsockopt 1 2; shmctl 1;
signalfd4 3; socket 0 1 2; socketcall 0; socketpair 0 1 2; splice 5; statx 2; syslog 0; tgkill 2;
timerfd_create 0 1; tkill 1; umount2 1; unlinkat 2; unshare 0; userfaultfd 0; wait4 2; waitid 0 3
"""
_OTHER_ON_I386 = frozenset({"mmap"})
"""i386's mmap has all its arguments in memory."""

_CLONE_FLAGS = {
    "CLONE_VM": 0x100, "CLONE_FS": 0x200, "CLONE_FILES": 0x400, "CLONE_SIGHAND": 0x800,
    "CLONE_PIDFD": 0x1000, "CLONE_PTRACE": 0x2000, "CLONE_VFORK": 0x4000, "CLONE_PARENT": 0x8000,
    "CLONE_THREAD": 0x10000, "CLONE_NEWNS": 0x20000, "CLONE_SYSVSEM": 0x40000,
    "CLONE_SETTLS": 0x80000, "CLONE_PARENT_SETTID": 0x100000,
    "CLONE_CHILD_CLEARTID": 0x200000, "CLONE_DETACHED": 0x400000, "CLONE_UNTRACED": 0x800000,
    "CLONE_CHILD_SETTID": 0x1000000, "CLONE_NEWCGROUP": 0x2000000, "CLONE_NEWUTS": 0x4000000,
    "CLONE_NEWIPC": 0x8000000, "CLONE_NEWUSER": 0x10000000, "CLONE_NEWPID": 0x20000000,
    "CLONE_NEWNET": 0x40000000, "CLONE_IO": 0x80000000, "CLONE_NEWTIME": 0x80, "SIGCHLD": 17,
}  # fmt: skip
_FAMILIES = {
    **{int(family): family.name for family in socket.AddressFamily},
    0: "AF_UNSPEC",
    1: "AF_UNIX",
    38: "AF_ALG",
    40: "AF_VSOCK",
    44: "AF_XDP",
}
_NAMES = {
    "clone": {value: name for name, value in _CLONE_FLAGS.items()},
    "unshare": {value: name for name, value in _CLONE_FLAGS.items()},
    "socket": _FAMILIES,
    "socketpair": _FAMILIES,
}
_MOST_FLAGS = 32


class Kept(Struct, frozen=True):
    """The kept arguments of a call; with ``only``, where its first argument is that."""

    call: str
    only: int | None
    indices: tuple[int, ...]

    def on(self, abi: str) -> bool:
        known = x86_64.number(abi, self.call) is not None
        return known and not (abi == "i386" and self.call in _OTHER_ON_I386)


def _parse(entry: str) -> Kept:
    head, *indices = entry.split()
    call, _, only = head.partition("=")
    return Kept(call, int(only) if only else None, tuple(map(int, indices)))


KEPT = tuple(_parse(entry) for entry in _TABLE.split(";"))


def kept(abi: str, call: str, args: Sequence[int | None]) -> Arguments:
    """``args`` without what is not kept of them."""
    for one in KEPT:
        if one.call == call and one.on(abi) and one.only in (None, args[0]):
            found = [value if i in one.indices else None for i, value in enumerate(args)]
            return (found[0], found[1], found[2], found[3], found[4], found[5])
    return NO_ARGUMENTS


def value_text(call: str, index: int, value: int) -> str:
    """A kept argument as a person would write it, where that is short: AF_INET, 0x5401."""
    names = _NAMES.get(call, {}) if index == 0 else {}
    if names is _FAMILIES:
        return names.get(value, str(value))
    if names and value:
        return _flags_text(names, value)
    return hex(value) if value > 9 else str(value)


def _flags_text(names: dict[int, str], value: int) -> str:
    signal = "SIGCHLD" if value & 0xFF == _CLONE_FLAGS["SIGCHLD"] else ""
    rest = value & ~0xFF if signal else value
    found = [names[1 << bit] for bit in range(_MOST_FLAGS) if rest >> bit & 1 and 1 << bit in names]
    known = sum(_CLONE_FLAGS[name] for name in found)
    odd = [hex(rest & ~known)] if rest & ~known else []
    return "|".join([*found, *odd, *([signal] if signal else [])])


def value_of(call: str, index: int, text: str) -> int | None:
    """The number of an argument as strace prints it; ``None`` where it takes a table to know."""
    try:
        return int(text, 0) & (1 << 64) - 1
    except ValueError:
        pass
    if index or call not in _NAMES:
        return None
    families = {name: value for value, name in _FAMILIES.items()} | {"AF_LOCAL": 1}
    known = families if _NAMES[call] is _FAMILIES else _CLONE_FLAGS
    parts = [_part(known, one) for one in text.removeprefix("flags=").split("|")]
    return None if None in parts else sum(one or 0 for one in parts)


def _part(known: dict[str, int], text: str) -> int | None:
    if text in known:
        return known[text]
    try:
        return int(text, 0)
    except ValueError:
        return None
