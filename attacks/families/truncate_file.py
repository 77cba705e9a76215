"""Truncate a file: it becomes shorter.

The same file with fewer bytes is exact; a shorter file under the same name is equivalent.  The
witness asks both ways: by a descriptor from before, and by name.
"""

from attacks import deputy
from attacks import file_contents as contents
from attacks.consts import (
    AT_FDCWD,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    NULL,
    O_ACCMODE,
    O_PATH,
    O_RDONLY,
    O_TRUNC,
    O_WRONLY,
    OPEN_TREE_CLONE,
    RENAME_EXCHANGE,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.program import Environment

OLD = b"everything that there was\n"
FAMILY = Family(
    "truncate-file",
    title="Truncate a file",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, TARGET, 0o644, OLD),),
    attack_technique="T1485",
    group="file system",
    unrecorded={
        "fallocate FALLOC_FL_COLLAPSE_RANGE": "needs ext4, xfs or the like; tmpfs refuses it",
        "IORING_OP_FALLOCATE with FALLOC_FL_COLLAPSE_RANGE": "the same: tmpfs refuses it",
    },
)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)
EMPTY = (contents.beside("empty", b""),)


@FAMILY.witness
def shorter(w: Kernel) -> None:
    last = len(OLD) - 1
    file, named = contents.watched(w), contents.watched_by_name(w)
    contents.not_both(w, file.byte_at(w, last), named.byte_at(w, last))


# Direct calls


@FAMILY.variant(Technique.BASELINE)
def truncate(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.truncate(k.path(), 0).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def ftruncate(k: Kernel) -> None:
    """Cuts by descriptor: there is no path to look at."""
    k.ftruncate(k.open(k.path(), O_WRONLY), 0).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def truncate_proc_fd(k: Kernel) -> None:
    """An O_PATH descriptor, which ftruncate refuses, gives a path to the file."""
    k.truncate(k.proc_fd(k.open(k.path(), O_PATH)), 0).decisive()


# Opening cuts


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def open_truncate(k: Kernel) -> None:
    """A flag of open does it: neither call of the name is made."""
    k.open(k.path(), O_WRONLY | O_TRUNC).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def open_read_only_truncate(k: Kernel) -> None:
    """Opened for reading, the file is cut all the same: a rule on the access mode sees nothing."""
    k.open(k.path(), O_RDONLY | O_TRUNC).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def open_access_mode_3_truncate(k: Kernel) -> None:
    """The fourth access mode has no name, allows neither reading nor writing, and cuts."""
    k.open(k.path(), O_ACCMODE | O_TRUNC).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def creat(k: Kernel) -> None:
    """An old call whose flags are implied: a rule on open's flags does not see O_TRUNC."""
    k.creat(k.path(), 0o644).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def openat_truncate(k: Kernel) -> None:
    """Lists that name open often forget its *at sibling, which is what libraries call."""
    k.openat(AT_FDCWD, k.path(), O_WRONLY | O_TRUNC).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def openat_dirfd_truncate(k: Kernel) -> None:
    """A real dirfd defeats rules that only match AT_FDCWD."""
    k.openat(k.open(k.parent(), O_PATH), k.name(), O_WRONLY | O_TRUNC).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def openat2_truncate(k: Kernel) -> None:
    """The flag is behind a pointer, where no filter can look."""
    how = contents.open_how(k, O_RDONLY | O_TRUNC)
    k.openat2(AT_FDCWD, k.path(), how, contents.HOW_SIZE).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def open_proc_fd_truncate(k: Kernel) -> None:
    """The path that is opened is that of a descriptor, not the file's."""
    k.open(k.proc_fd(k.open(k.path(), O_PATH)), O_WRONLY | O_TRUNC).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_openat_truncate(k: Kernel) -> None:
    """A ring opens with the flag."""
    k.ring().openat(AT_FDCWD, k.path(), O_RDONLY | O_TRUNC, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_ftruncate(k: Kernel) -> None:
    """A ring cuts the file (6.9); lists of opcodes from before do not have this one."""
    k.ring().submit("FTRUNCATE", fd=k.open(k.path(), O_WRONLY), off=0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))
def io_uring_setup_only_openat_truncate(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().openat(AT_FDCWD, k.path(), O_RDONLY | O_TRUNC, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_sqpoll_openat_truncate(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    ring = k.ring(sqpoll=True)
    ring.openat(AT_FDCWD, k.path(), O_RDONLY | O_TRUNC, 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_personality_openat_truncate(k: Kernel) -> None:
    """Entries run with credentials that were stored in the ring before any restriction."""
    ring = k.setup.ring().registered_personality().by(k)
    ring.openat(AT_FDCWD, k.path(), O_RDONLY | O_TRUNC, 0).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll(k: Kernel) -> None:
    """A polled ring from before the filter opens with the flag, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    submitter = ring.by(k).stores_only()
    submitter.openat(AT_FDCWD, k.path(), O_RDONLY | O_TRUNC, 0).decisive()


# Opened before


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_fd(k: Kernel) -> None:
    """The file was opened before the filter, so that all that is left to see is a number."""
    k.ftruncate(k.setup.open(k.path(), O_WRONLY), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_path_fd(k: Kernel) -> None:
    """A descriptor from before the filter that can neither read nor write is enough."""
    k.truncate(k.proc_fd(k.setup.open(k.path(), O_PATH)), 0).decisive()


# The 32-bit table, where arguments have another shape


@FAMILY.variant(Technique.COMPAT_ABI)
def truncate_i386(k: Kernel) -> None:
    """The 32-bit table has two calls for it: this one takes a length of 32 bits."""
    k.i386.truncate(k.path(), 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def ftruncate_i386(k: Kernel) -> None:
    """The call by descriptor that takes a length of 32 bits."""
    k.i386.ftruncate(k.i386.open(k.path(), O_WRONLY), 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def truncate64_i386(k: Kernel) -> None:
    """The length is split into two arguments, in a call that the 64-bit table lacks."""
    k.i386.raw("truncate64", k.path(), 0, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def ftruncate64_i386(k: Kernel) -> None:
    """The same by descriptor."""
    k.i386.raw("ftruncate64", k.i386.open(k.path(), O_WRONLY), 0, 0).decisive()


# Another file under the same name


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=EMPTY)
def rename_empty(k: Kernel) -> None:
    """An empty file takes the name: nothing was cut."""
    k.rename(k.near("empty"), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=EMPTY)
def renameat2_exchange_empty(k: Kernel) -> None:
    """Two files swap their names, and both are still there."""
    k.renameat2(AT_FDCWD, k.near("empty"), AT_FDCWD, k.path(), RENAME_EXCHANGE).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=EMPTY
)
def bind_mount_empty(k: Kernel) -> None:
    """An empty file is mounted over it."""
    k.mount(k.near("empty"), k.path(), NULL, MS_BIND, NULL).decisive()


@FAMILY.variant(
    Technique.NEWER_SYSCALL, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=EMPTY
)
def open_tree_move_mount_empty(k: Kernel) -> None:
    """A bind mount by the mount API of Linux 5.2, without the mount call."""
    tree = k.open_tree(AT_FDCWD, k.near("empty"), OPEN_TREE_CLONE)
    k.move_mount(tree, k.text(""), AT_FDCWD, k.path(), MOVE_MOUNT_F_EMPTY_PATH).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def ptrace_neighbour(k: Kernel) -> None:
    """A neighbour without the filter is made to call truncate by a planted instruction."""
    deputy.traced_call(k, contents.SYS_TRUNCATE, k.path(), 0)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_proc_mem(k: Kernel) -> None:
    """A neighbour's code is overwritten through a file, with open and write, without ptrace."""
    deputy.planted_call(k, contents.SYS_TRUNCATE, k.path(), 0)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_descriptor(k: Kernel) -> None:
    """A neighbour without the filter has the file open: pidfd_getfd fetches its descriptor."""
    k.victim.dup2(k.victim.open(k.path(), O_WRONLY), deputy.STOLEN_FD)
    pidfd = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    k.ftruncate(k.pidfd_getfd(pidfd, deputy.STOLEN_FD, 0), 0).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def io_uring_stolen_openat_truncate(k: Kernel) -> None:
    """A neighbour's ring is fetched by pidfd_getfd, so io_uring_setup need not be allowed."""
    deputy.stolen_ring(k).openat(AT_FDCWD, k.path(), O_RDONLY | O_TRUNC, 0).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        thread.truncate(k.path(), 0)


# Controls that must not cut the file


@FAMILY.variant(Technique.FD_RELATIVE, negative=True)
def ftruncate_read_only(k: Kernel) -> None:
    """A descriptor for reading is refused by ftruncate, although opening it could have cut."""
    k.ftruncate(k.open(k.path(), O_RDONLY), 0).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def open_path_truncate(k: Kernel) -> None:
    """O_PATH opens nothing, so the kernel drops O_TRUNC beside it."""
    k.open(k.path(), O_PATH | O_TRUNC).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def fallocate_punch_hole(k: Kernel) -> None:
    """A hole at the end takes the bytes, not the length."""
    file = k.open(k.path(), O_WRONLY)
    mode = contents.FALLOC_FL_PUNCH_HOLE | contents.FALLOC_FL_KEEP_SIZE
    k.fallocate(file, mode, 4, len(OLD)).decisive()
