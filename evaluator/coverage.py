"""Which calls of the kernel the library exercises, and which it does not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from attacks.family import FamilyInstance
from attacks.program import Abi, Syscall
from attacks.ring import OPCODES
from mitigations import x86_64

_SIBLINGS = """
open openat openat2 creat; mkdir mkdirat; mknod mknodat; rmdir unlinkat; unlink unlinkat;
rename renameat renameat2; link linkat; symlink symlinkat; chmod fchmod fchmodat fchmodat2;
chown lchown fchown fchownat; utime utimes futimesat utimensat; truncate ftruncate;
execve execveat; fork vfork clone clone3; read pread64 readv preadv preadv2;
write pwrite64 writev pwritev pwritev2; sendto sendmsg sendmmsg; recvfrom recvmsg recvmmsg;
pipe pipe2; accept accept4; eventfd eventfd2; epoll_create epoll_create1; signalfd signalfd4;
inotify_init inotify_init1; getdents getdents64; setrlimit prlimit64; semop semtimedop;
setxattr lsetxattr fsetxattr setxattrat; removexattr lremovexattr fremovexattr removexattrat;
setuid setreuid setresuid; setgid setregid setresgid; mlock mlock2 mlockall;
kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal;
sched_setscheduler sched_setparam sched_setattr; settimeofday clock_settime clock_adjtime;
access faccessat faccessat2; init_module finit_module; kexec_load kexec_file_load
"""
SIBLINGS = [frozenset(group.split()) for group in _SIBLINGS.split(";")]
"""Calls of which one often does what another does, by the SEE ALSO of their man pages."""


class Coverage(Struct, frozen=True):
    """Calls by table, and operations of a ring; ``used`` by how many variants."""

    abi: str
    known: int
    used: Mapping[str, int]
    unused: tuple[str, ...]


def coverage(families: Iterable[FamilyInstance]) -> list[Coverage]:
    """What the attacks of these families call; setup and victims do not count."""
    used: dict[str, dict[str, int]] = {name: {} for name in (*Abi, "io_uring")}
    for instance in families:
        for variant in instance.variants:
            for abi, name in _entries(variant.program.flatten()):
                used[abi][name] = used[abi].get(name, 0) + 1
    tables: dict[str, Iterable[str]] = {abi.value: x86_64.NUMBERS[abi.value] for abi in Abi}
    tables["io_uring"] = [f"IORING_OP_{name}" for name in OPCODES]
    return [
        Coverage(
            abi=abi,
            known=len(set(names)),
            used=dict(sorted(used[abi].items())),
            unused=tuple(sorted(set(names) - used[abi].keys())),
        )
        for abi, names in tables.items()
    ]


def missing_siblings(families: Iterable[FamilyInstance]) -> dict[str, tuple[str, ...]]:
    """By family, the siblings of its decisive calls that none of its attacks makes.

    Not all of them can have the effect: the family's ``unrecorded`` and docs/attacks.md say why.
    """
    found: dict[str, tuple[str, ...]] = {}
    for instance in families:
        attacks = [variant.program for variant in instance.variants if not variant.negative]
        flat = [entry for program in attacks for entry in program.flatten()]
        made = {name for _, name in _entries(flat)}
        decisive = {op.name for _, op in flat if isinstance(op, Syscall) and op.decisive}
        groups = [group for group in SIBLINGS if group & decisive]
        lacking = sorted({name for group in groups for name in group} - made)
        if lacking:
            found[instance.label] = tuple(lacking)
    return found


def _entries(flat: Iterable[tuple[str, object]]) -> set[tuple[str, str]]:
    entries: set[tuple[str, str]] = set()
    for section, op in flat:
        if section == "attack" and isinstance(op, Syscall):
            entries.add((op.abi.value, op.name))
            entries |= {("io_uring", one) for one in op.opcode.split(", ") if one}
    return entries
