"""Delete a file.

The target's inode losing its last name is exact; a file that was moved away or is hidden is
equivalent.
"""

from attacks import deputy
from attacks.consts import (
    AT_FDCWD,
    AT_REMOVEDIR,
    IOSQE_ASYNC,
    MNT_DETACH,
    MS_BIND,
    NULL,
    O_CREAT,
    O_DIRECTORY,
    O_PATH,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    RENAME_EXCHANGE,
    RENAME_WHITEOUT,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel

FAMILY = Family(
    "delete-file",
    title="Delete a file",
    group="file system",
    effect=lambda _: Effect(EffectKind.DELETED),
    objects=(Object(ObjectKind.FILE, TARGET, 0o644, b"keep me\n"),),
    attack_technique="T1070.004",
    unrecorded={
        "umount of the file system, by the 32-bit call that takes no flags": (
            "the judge holds the inode, so that its file system is busy; umount2 detaches"
        ),
    },
)
OTHER = (Object(ObjectKind.FILE, f"{NEAR}f0", 0o644, b"other\n"),)
SOURCE = (Object(ObjectKind.DIRECTORY, f"{NEAR}src", 0o755),)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


# Direct calls


@FAMILY.variant(Technique.BASELINE)
def unlink(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.unlink(k.path()).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def unlinkat(k: Kernel) -> None:
    """Lists that name unlink often forget its *at sibling, which is what rm calls."""
    k.unlinkat(AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def unlinkat_dirfd(k: Kernel) -> None:
    """A real dirfd defeats rules that only match AT_FDCWD."""
    here = k.open(k.parent(), O_PATH)
    k.unlinkat(here, k.name(), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def unlinkat_inherited_dirfd(k: Kernel) -> None:
    """The directory was opened before the filter."""
    here = k.setup.open(k.parent(), O_PATH | O_DIRECTORY)
    k.unlinkat(here, k.name(), 0).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def unlink_proc_cwd(k: Kernel) -> None:
    """A magic link of procfs leads to the same place under another name."""
    k.unlink(k.proc(f"self/cwd/{k.from_cwd()}")).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def unlinkat_wide_flags(k: Kernel) -> None:
    """The kernel reads 32 bits of the flags; a filter that compares all 64 with 0 misses."""
    k.unlinkat(AT_FDCWD, k.path(), k.wide(0)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def unlinkat_wide_dirfd(k: Kernel) -> None:
    """The kernel reads 32 bits of dirfd; a filter that compares all 64 with AT_FDCWD misses."""
    k.unlinkat(k.wide(AT_FDCWD), k.path(), 0).decisive()


# Other system call tables


@FAMILY.variant(Technique.COMPAT_ABI)
def unlink_i386(k: Kernel) -> None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    k.i386.unlink(k.path()).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def unlinkat_i386(k: Kernel) -> None:
    """The *at sibling in the 32-bit table."""
    k.i386.unlinkat(AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.X32_ABI)
def unlink_x32(k: Kernel) -> None:
    """x32 has the same architecture word and other numbers (bit 30 is set)."""
    k.x32.unlink(k.path()).decisive()


@FAMILY.variant(Technique.X32_ABI)
def unlinkat_x32(k: Kernel) -> None:
    """The *at sibling among the x32 numbers."""
    k.x32.unlinkat(AT_FDCWD, k.path(), 0).decisive()


# Another file takes the name


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=OTHER)
def rename_over(k: Kernel) -> None:
    """A file renamed onto another deletes that one: no unlink call is made."""
    k.rename(k.near("f0"), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=OTHER)
def renameat_over(k: Kernel) -> None:
    """The *at sibling of rename."""
    k.renameat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=OTHER)
def renameat2_over(k: Kernel) -> None:
    """The newest rename; lists that stop at renameat miss it."""
    k.renameat2(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, objects=OTHER)
def rename_over_i386(k: Kernel) -> None:
    """Rename onto the target through the 32-bit table."""
    k.i386.rename(k.near("f0"), k.path()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, objects=OTHER)
def io_uring_rename_over(k: Kernel) -> None:
    """A ring renames another file onto the target."""
    k.ring().renameat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path()).decisive()


# The file is moved away


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def rename_away(k: Kernel) -> None:
    """The file keeps its contents under a name where nobody looks."""
    k.rename(k.path(), k.source("gone")).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, grade=Grade.EQUIVALENT, objects=SOURCE)
def rename_away_i386(k: Kernel) -> None:
    """Moves the file away through the 32-bit table."""
    k.i386.rename(k.path(), k.source("gone")).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=OTHER)
def renameat2_exchange(k: Kernel) -> None:
    """Two files swap names: the target now shows the other one."""
    k.renameat2(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), RENAME_EXCHANGE).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def renameat2_whiteout(k: Kernel) -> None:
    """The file is moved and leaves a whiteout, a device node, in its place."""
    k.renameat2(AT_FDCWD, k.path(), AT_FDCWD, k.source("gone"), RENAME_WHITEOUT).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, relocatable=False)
def rename_parent(k: Kernel) -> None:
    """The whole directory is moved: rules on the file itself never apply."""
    k.rename(k.parent(), k.text(f"{k.recording.effect.parent}.moved")).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_unlinkat(k: Kernel) -> None:
    """The kernel unlinks on behalf of a ring: no unlink call is ever made."""
    k.ring().unlinkat(AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_async_unlinkat(k: Kernel) -> None:
    """A kernel worker thread deletes the file."""
    k.ring().asynchronous(IOSQE_ASYNC).unlinkat(AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))
def io_uring_setup_only_unlinkat(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().unlinkat(AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_sqpoll_unlinkat(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    k.ring(sqpoll=True).unlinkat(AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_unlinkat(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    k.setup.ring().by(k).unlinkat(AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_personality_unlinkat(k: Kernel) -> None:
    """Entries run with credentials that were stored in the ring before any restriction."""
    ring = k.setup.ring().registered_personality()
    ring.by(k).unlinkat(AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_unlinkat(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    ring.by(k).stores_only().unlinkat(AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def io_uring_i386_unlinkat(k: Kernel) -> None:
    """The ring's calls have entries in the 32-bit table too."""
    k.i386.ring().unlinkat(AT_FDCWD, k.path(), 0).decisive()


# Mounts


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=SOURCE
)
def bind_mount_over_parent(k: Kernel) -> None:
    """Another directory, mounted over the parent, hides the file."""
    k.mount(k.near("src"), k.parent(), NULL, MS_BIND, NULL).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS)
def tmpfs_over_parent(k: Kernel) -> None:
    """An empty file system, mounted over the parent, hides the file."""
    k.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), 0, NULL).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=MOUNTS,
)
def umount_parent(k: Kernel) -> None:
    """The file is on a file system of its own, which is taken away with all that is on it."""
    k.setup.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), 0, NULL)
    k.setup.close(k.setup.open(k.path(), O_CREAT | O_WRONLY, 0o644))
    k.umount2(k.parent(), MNT_DETACH).decisive()


@FAMILY.variant(
    Technique.SIBLING_SYSCALL,
    assumption=Assumption.TRUSTED_SETUP,
    needs=ADMIN,
    fresh=(Fresh.IPC, Fresh.MOUNT),
)
def mq_unlink(k: Kernel) -> None:
    """A message queue is a file where its file system is mounted, and has an unlink of its own."""
    k.setup.mount(k.text("mqueue"), k.parent(), k.text("mqueue"), 0, NULL)
    k.setup.close(k.setup.mq_open(k.name(), O_CREAT | O_RDWR, 0o600, NULL))
    k.mq_unlink(k.name()).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def ptrace_neighbour(k: Kernel) -> None:
    """A neighbour without the filter is made to call unlink by planting an instruction in it."""
    deputy.traced_call(k, deputy.SYS_UNLINK, k.path())


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_proc_mem(k: Kernel) -> None:
    """A neighbour's code is overwritten through a file, with open and write, without ptrace."""
    deputy.planted_call(k, deputy.SYS_UNLINK, k.path())


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def io_uring_stolen_unlinkat(k: Kernel) -> None:
    """A neighbour's ring is fetched by pidfd_getfd, so io_uring_setup need not be allowed."""
    deputy.stolen_ring(k).unlinkat(AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        thread.unlink(k.path())


# Controls that must not delete the file


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def unlinkat_removedir(k: Kernel) -> None:
    """With AT_REMOVEDIR unlinkat removes directories only, so that flag may be let through."""
    k.unlinkat(AT_FDCWD, k.path(), AT_REMOVEDIR).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def open_truncate(k: Kernel) -> None:
    """Truncating destroys the contents; the file is still there, which is another effect."""
    k.open(k.path(), O_WRONLY | O_TRUNC).decisive()
