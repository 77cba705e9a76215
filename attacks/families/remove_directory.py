"""Remove a directory.

The target's inode losing its name is exact; a directory that was moved away or is hidden is
equivalent.
"""

from attacks import deputy
from attacks.consts import (
    AT_FDCWD,
    AT_REMOVEDIR,
    IOSQE_ASYNC,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    NULL,
    O_DIRECTORY,
    O_PATH,
    OPEN_TREE_CLONE,
    RENAME_EXCHANGE,
    RENAME_WHITEOUT,
    Named,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel

SYS_RMDIR = Named(84, "SYS_rmdir")

FAMILY = Family(
    "remove-directory",
    title="Remove a directory",
    effect=lambda _: Effect(EffectKind.DELETED),
    objects=(Object(ObjectKind.DIRECTORY, TARGET, 0o755),),
    attack_technique="T1070.004",
    group="file system",
    unrecorded={
        "ioctl BTRFS_IOC_SNAP_DESTROY on the parent": (
            "needs btrfs mounted with user_subvol_rm_allowed; the sandbox is a tmpfs"
        ),
    },
)
OTHER = (Object(ObjectKind.DIRECTORY, f"{NEAR}e", 0o755),)
SOURCE = (Object(ObjectKind.DIRECTORY, f"{NEAR}src", 0o755),)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


# Direct calls


@FAMILY.variant(Technique.BASELINE)
def rmdir(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.rmdir(k.path()).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def unlinkat_removedir(k: Kernel) -> None:
    """A flag turns unlinkat into rmdir: lists that name rmdir alone miss it."""
    k.unlinkat(AT_FDCWD, k.path(), AT_REMOVEDIR).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def unlinkat_dirfd(k: Kernel) -> None:
    """A real dirfd defeats rules that only match AT_FDCWD."""
    here = k.open(k.parent(), O_PATH | O_DIRECTORY)
    k.unlinkat(here, k.name(), AT_REMOVEDIR).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def unlinkat_inherited_dirfd(k: Kernel) -> None:
    """The parent was opened before the filter."""
    here = k.setup.open(k.parent(), O_PATH | O_DIRECTORY)
    k.unlinkat(here, k.name(), AT_REMOVEDIR).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def rmdir_proc_cwd(k: Kernel) -> None:
    """A magic link of procfs leads to the same place under another name."""
    k.rmdir(k.proc(f"self/cwd/{k.from_cwd()}")).decisive()


# Another directory takes the name


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=OTHER)
def rename_over(k: Kernel) -> None:
    """A directory renamed onto an empty one removes that one: rmdir is not called."""
    k.rename(k.near("e"), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=OTHER)
def renameat2_over(k: Kernel) -> None:
    """The newest rename; lists that stop at renameat miss it."""
    k.renameat2(AT_FDCWD, k.near("e"), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, objects=OTHER)
def io_uring_rename_over(k: Kernel) -> None:
    """A ring renames another directory onto the target."""
    k.ring().renameat(AT_FDCWD, k.near("e"), AT_FDCWD, k.path()).decisive()


# The directory is moved away


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def rename_away(k: Kernel) -> None:
    """The directory lives on under a name where nobody looks."""
    k.rename(k.path(), k.source("gone")).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=OTHER)
def renameat2_exchange(k: Kernel) -> None:
    """Two directories swap names: the target now shows the other one."""
    k.renameat2(AT_FDCWD, k.near("e"), AT_FDCWD, k.path(), RENAME_EXCHANGE).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def renameat2_whiteout(k: Kernel) -> None:
    """The directory is moved and leaves a whiteout, a device node, in its place."""
    k.renameat2(AT_FDCWD, k.path(), AT_FDCWD, k.source("gone"), RENAME_WHITEOUT).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, grade=Grade.EQUIVALENT, objects=SOURCE)
def io_uring_rename_away(k: Kernel) -> None:
    """A ring moves the directory away."""
    k.ring().renameat(AT_FDCWD, k.path(), AT_FDCWD, k.source("gone")).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, relocatable=False)
def rename_parent(k: Kernel) -> None:
    """The parent is moved with all that is in it: rules on the directory itself never apply."""
    k.rename(k.parent(), k.text(f"{k.recording.effect.parent}.moved")).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_unlinkat(k: Kernel) -> None:
    """The kernel removes on behalf of a ring: no rmdir and no unlinkat call is made."""
    k.ring().unlinkat(AT_FDCWD, k.path(), AT_REMOVEDIR).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_async_unlinkat(k: Kernel) -> None:
    """A kernel worker thread removes the directory."""
    ring = k.ring().asynchronous(IOSQE_ASYNC)
    ring.unlinkat(AT_FDCWD, k.path(), AT_REMOVEDIR).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))
def io_uring_setup_only_unlinkat(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().unlinkat(AT_FDCWD, k.path(), AT_REMOVEDIR).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_sqpoll_unlinkat(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    k.ring(sqpoll=True).unlinkat(AT_FDCWD, k.path(), AT_REMOVEDIR).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_unlinkat(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    k.setup.ring().by(k).unlinkat(AT_FDCWD, k.path(), AT_REMOVEDIR).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_unlinkat(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    ring.by(k).stores_only().unlinkat(AT_FDCWD, k.path(), AT_REMOVEDIR).decisive()


# Mounts


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=OTHER
)
def bind_mount_over(k: Kernel) -> None:
    """Another directory, mounted over it, takes its place for whoever walks the path."""
    k.mount(k.near("e"), k.path(), NULL, MS_BIND, NULL).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=SOURCE
)
def bind_mount_over_parent(k: Kernel) -> None:
    """An empty directory, mounted over the parent, hides all that is in it."""
    k.mount(k.near("src"), k.parent(), NULL, MS_BIND, NULL).decisive()


@FAMILY.variant(
    Technique.NEWER_SYSCALL, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=SOURCE
)
def open_tree_move_mount_over_parent(k: Kernel) -> None:
    """The newer calls hide the parent's contents: lists that name only mount miss them."""
    tree = k.open_tree(AT_FDCWD, k.near("src"), OPEN_TREE_CLONE)
    k.move_mount(tree, k.text(""), AT_FDCWD, k.parent(), MOVE_MOUNT_F_EMPTY_PATH).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def ptrace_neighbour(k: Kernel) -> None:
    """A neighbour without the filter is made to call rmdir by planting an instruction in it."""
    deputy.traced_call(k, SYS_RMDIR, k.path())


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def io_uring_stolen_unlinkat(k: Kernel) -> None:
    """A neighbour's ring is fetched by pidfd_getfd, so io_uring_setup need not be allowed."""
    deputy.stolen_ring(k).unlinkat(AT_FDCWD, k.path(), AT_REMOVEDIR).decisive()


# Controls that must not remove the directory


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def unlink_directory(k: Kernel) -> None:
    """Unlink does not remove directories, so it may be let through."""
    k.unlink(k.path()).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def unlinkat_without_flag(k: Kernel) -> None:
    """Without AT_REMOVEDIR unlinkat removes no directory: a rule can look at that one bit."""
    k.unlinkat(AT_FDCWD, k.path(), 0).decisive().may_fail()
