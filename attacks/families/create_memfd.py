"""Create a file that has no name: memory behind a descriptor.

The subject's links in procfs show it as deleted.
"""

from attacks import descriptors, witness
from attacks.consts import (
    AT_FDCWD,
    MFD_CLOEXEC,
    O_CREAT,
    O_EXCL,
    O_RDWR,
    O_TMPFILE,
    Named,
)
from attacks.effects import Effect, EffectKind, Grade
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.program import Environment

MFD_ALLOW_SEALING = Named(2, "MFD_ALLOW_SEALING")
MFD_NOEXEC_SEAL = Named(8, "MFD_NOEXEC_SEAL")
MFD_UNKNOWN = Named(0x40, "0x40")
VICTIMS_FD = 88

FAMILY = Family(
    "create-memfd",
    title="Create a file in memory",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    stays=True,
    attack_technique="T1620",
    group="processes",
    unrecorded={
        "shmget, then shmat": "memory with an id and no descriptor, see create-shared-memory",
    },
)


@FAMILY.witness
def a_nameless_file_is_open(w: Kernel) -> None:
    descriptors.one_of(w, witness.subject(w), [b"/memfd:", b"/secretmem", b" (deleted)"])


@FAMILY.variant(Technique.BASELINE, references=("man 2 memfd_create",))
def memfd_create(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.memfd_create(k.text("m"), MFD_CLOEXEC).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def memfd_create_flags(k: Kernel) -> None:
    """Flags come and go with versions of the kernel: no value of them is typical."""
    k.memfd_create(k.text("m"), MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, references=("man 2 memfd_secret",))
def memfd_secret(k: Kernel) -> None:
    """Since 5.14; memory that even the kernel does not see, by a call that lists may not have."""
    k.memfd_secret(0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT)
def open_tmpfile(k: Kernel) -> None:
    """A flag of open makes a file without a name; in a tmpfs that is memory behind a descriptor."""
    k.open(k.parent(), O_TMPFILE | O_RDWR, 0o600).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, grade=Grade.EQUIVALENT)
def io_uring_open_tmpfile(k: Kernel) -> None:
    """A ring makes the file without a name."""
    k.ring().openat(AT_FDCWD, k.parent(), O_TMPFILE | O_RDWR, 0o600).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT)
def open_unlink(k: Kernel) -> None:
    """The oldest way: a file that is deleted while it is open."""
    k.open(k.path(), O_CREAT | O_EXCL | O_RDWR, 0o600)
    k.unlink(k.path()).decisive()


@FAMILY.variant(
    Technique.DEPUTY_PROCESS,
    assumption=Assumption.UNFILTERED_NEIGHBOUR,
    grade=Grade.EQUIVALENT,
)
def pidfd_getfd_of_neighbour(k: Kernel) -> None:
    """A neighbour without the filter has such a file; its descriptor is fetched."""
    k.victim.raw("dup2", k.victim.memfd_create(k.text("m"), MFD_CLOEXEC), VICTIMS_FD)
    pidfd = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    k.pidfd_getfd(pidfd, VICTIMS_FD, 0).decisive()


@FAMILY.variant(
    Technique.PROC_INTERFACE,
    assumption=Assumption.UNFILTERED_NEIGHBOUR,
    grade=Grade.EQUIVALENT,
)
def open_proc_fd_of_neighbour(k: Kernel) -> None:
    """A neighbour's file is opened through its link in procfs: an open like any other."""
    k.victim.raw("dup2", k.victim.memfd_create(k.text("m"), MFD_CLOEXEC), VICTIMS_FD)
    pid = k.env(Environment.VICTIM_PID)
    k.open(k.proc_pid(pid, f"/fd/{VICTIMS_FD}"), O_RDWR).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def memfd_create_unknown_flag(k: Kernel) -> None:
    """A flag that no kernel knows is refused."""
    k.memfd_create(k.text("m"), MFD_UNKNOWN).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def open_named(k: Kernel) -> None:
    """A file that keeps its name."""
    k.open(k.path(), O_CREAT | O_EXCL | O_RDWR, 0o600).decisive()
