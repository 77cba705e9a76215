"""Which calls of the kernel the library exercises, and which it does not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from attacks.effects import Grade
from attacks.family import Assumption, FamilyInstance, Variant
from attacks.program import Abi, Syscall
from attacks.rewrites import derived
from attacks.rewrites.rings import RING
from attacks.rewrites.siblings import AT
from attacks.ring import OPCODES
from mitigations import x86_64

_SIBLINGS = """
open openat openat2; creat > open openat openat2; mkdir mkdirat; mknod mknodat;
rmdir unlink > unlinkat; rename renameat; rename renameat > renameat2; link > linkat;
symlink symlinkat; chmod fchmod fchmodat fchmodat2; chown fchown fchownat; lchown > fchownat;
utimes futimesat; utime utimes futimesat > utimensat; truncate ftruncate; execve execveat;
clone clone3; fork vfork > clone clone3; read > readv preadv2; readv > preadv2;
pread64 preadv preadv2; pread64 > read readv; write > writev pwritev2; writev > pwritev2;
pwrite64 pwritev pwritev2; pwrite64 > write writev; sendto sendmsg sendmmsg;
recvfrom recvmsg recvmmsg; pipe > pipe2; accept > accept4; eventfd > eventfd2;
epoll_create > epoll_create1; signalfd > signalfd4; inotify_init > inotify_init1;
getdents getdents64; setrlimit > prlimit64; semop > semtimedop; dup > dup2 dup3 fcntl;
setxattr fsetxattr setxattrat; lsetxattr > setxattrat; getxattr fgetxattr > getxattrat;
removexattr fremovexattr removexattrat; lremovexattr > removexattrat;
setuid setreuid > setresuid; setgid setregid > setresgid; mlock > mlock2;
kill > tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal; tkill tgkill;
sched_setscheduler sched_setparam > sched_setattr; settimeofday > clock_settime clock_adjtime;
faccessat faccessat2; access > faccessat faccessat2; stat lstat newfstatat statx;
init_module finit_module; kexec_load kexec_file_load
"""
"""What each of some calls does, all of them do; what those before ``>`` do, those behind it do.

By the man pages of section 2, where the arguments are chosen for it.
"""


def _read_siblings() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for row in _SIBLINGS.split(";"):
        some, one_way, others = row.partition(">")
        for name in some.split():
            found.setdefault(name, set()).update(others.split() if one_way else some.split())
    for name, other in AT.items():
        found.setdefault(name, set()).add(other)
    for name in {*found, *RING}:
        same = found.setdefault(name, set())
        same |= {f"IORING_OP_{RING[one][0]}" for one in {name, *same} if one in RING}
    return {name: frozenset(same - {name}) for name, same in found.items()}


SIBLINGS = _read_siblings()
"""By call: those that can have the same effect, operations of a ring among them.

What the rewrites know of it is in it.
"""


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


def missing_siblings(
    families: Iterable[FamilyInstance],
) -> dict[str, dict[str, tuple[str, ...]]]:
    """By family and decisive call: its siblings by which no variant gets the effect.

    Variants that rewrites make count; the calls are those of variants that decide a verdict
    without an assumption.  A sibling that a negative control tries is known not to do it, and one
    that ``unrecorded`` begins with has its reason there.  Whether the others would do it is not
    known: each of them is a variant to write, or a reason to write down.
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for instance in families:
        recorded = tuple(one for one in instance.variants if not one.parent)
        tried = {name for one in (*recorded, *derived(recorded)) for name in _decisive(one)}
        tried |= {way.split()[0] for way in instance.family.unrecorded}
        lacking = {
            name: tuple(sorted(SIBLINGS.get(name, frozenset()) - tried))
            for name in sorted(
                {name for one in recorded if _counts(one) for name in _decisive(one)}
            )
        }
        if any(lacking.values()):
            found[instance.label] = {name: others for name, others in lacking.items() if others}
    return found


def _counts(variant: Variant) -> bool:
    """Whether it decides a verdict as it is."""
    exact = variant.grade is Grade.EXACT and not variant.negative
    return exact and variant.assumption is Assumption.NONE


def _decisive(variant: Variant) -> set[str]:
    """The names of what causes the effect: a call, or what it submits to a ring."""
    ops = (op for _, op in variant.program.flatten() if isinstance(op, Syscall) and op.decisive)
    return {name for op in ops for name in (op.opcode.split(", ") if op.opcode else [op.name])}


def _entries(flat: Iterable[tuple[str, object]]) -> set[tuple[str, str]]:
    entries: set[tuple[str, str]] = set()
    for section, op in flat:
        if section == "attack" and isinstance(op, Syscall):
            entries.add((op.abi.value, op.name))
            entries |= {("io_uring", one) for one in op.opcode.split(", ") if one}
    return entries
