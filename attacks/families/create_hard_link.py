"""Create a hard link: a file of the subject's gets the target as one more name.

A new name of the inode is exact; the same inode seen there through a mount is equivalent.
"""

from attacks import inode
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    IOSQE_ASYNC,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    NULL,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    OPEN_TREE_CLONE,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, near

FAMILY = Family(
    "create-hard-link",
    title="Create a hard link",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, f"{NEAR}f0", 0o644, b"old\n"),),
    group="file system",
)
IN_THE_WAY = (Object(ObjectKind.FILE, TARGET, 0o644, b"in the way\n"),)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


@FAMILY.witness
def two_names_of_one_inode(w: Kernel) -> None:
    inode.same(w, inode.shown(w, w.path()), inode.shown(w, w.near("f0")))


# Direct calls


@FAMILY.variant(Technique.BASELINE)
def link(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.link(k.near("f0"), k.path()).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def linkat(k: Kernel) -> None:
    """Lists that name link often forget its *at sibling, which is what ln calls."""
    k.linkat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def linkat_dirfd(k: Kernel) -> None:
    """A real dirfd for the new name defeats rules that only match AT_FDCWD."""
    here = k.open(k.parent(), O_PATH | O_DIRECTORY)
    k.linkat(AT_FDCWD, k.near("f0"), here, k.name(), 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def linkat_follow(k: Kernel) -> None:
    """The old name is a symbolic link, for whoever looks at the text of paths."""
    beside = near(k.recording.effect, "f0").rpartition("/")[2]
    k.symlink(k.text(beside), k.near("l"))
    k.linkat(AT_FDCWD, k.near("l"), AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def linkat_empty_path(k: Kernel) -> None:
    """Since 6.10 no capability is needed to link what a descriptor stands for."""
    file = k.open(k.near("f0"), O_PATH)
    k.linkat(file, k.text(""), AT_FDCWD, k.path(), AT_EMPTY_PATH).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def linkat_proc_fd(k: Kernel) -> None:
    """The link of an O_PATH descriptor in procfs is followed to the file."""
    file = k.open(k.near("f0"), O_PATH)
    k.linkat(AT_FDCWD, k.proc_fd(file), AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def linkat_proc_inherited_fd(k: Kernel) -> None:
    """A file that was opened before the filter gets a name that outlives it."""
    file = k.setup.open(k.near("f0"), O_RDWR)
    k.linkat(AT_FDCWD, k.proc_fd(file), AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_DESCRIPTOR,
    needs=(Need.CAP_DAC_READ_SEARCH,),
)
def linkat_inherited_fd_empty_path(k: Kernel) -> None:
    """Needs no procfs; but who did not open the descriptor himself needs a capability for it."""
    file = k.setup.open(k.near("f0"), O_RDONLY)
    k.linkat(file, k.text(""), AT_FDCWD, k.path(), AT_EMPTY_PATH).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_linkat(k: Kernel) -> None:
    """The kernel links on behalf of a ring: no link call is ever made."""
    k.ring().linkat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_async_linkat(k: Kernel) -> None:
    """A kernel worker thread links, outside the caller's own context."""
    ring = k.ring().asynchronous(IOSQE_ASYNC)
    ring.linkat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))
def io_uring_setup_only_linkat(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().linkat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_sqpoll_linkat(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    ring = k.ring(sqpoll=True)
    ring.linkat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_linkat(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    k.setup.ring().by(k).linkat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_linkat(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    submitter = ring.by(k).stores_only()
    submitter.linkat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), 0).decisive()


# Mounts


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=IN_THE_WAY
)
def bind_mount(k: Kernel) -> None:
    """A file mounted over another is one inode under two paths."""
    k.mount(k.near("f0"), k.path(), NULL, MS_BIND, NULL).decisive()


@FAMILY.variant(
    Technique.NEWER_SYSCALL, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=IN_THE_WAY
)
def open_tree_move_mount(k: Kernel) -> None:
    """The newer calls mount the file over another: lists that name only mount miss them."""
    tree = k.open_tree(AT_FDCWD, k.near("f0"), OPEN_TREE_CLONE)
    k.move_mount(tree, k.text(""), AT_FDCWD, k.path(), MOVE_MOUNT_F_EMPTY_PATH).decisive()


# Within one directory: what judges moves between directories has nothing to say

BESIDE = (Object(ObjectKind.FILE, f"{TARGET}.old", 0o644, b"old\n"),)


def two_names_beside_each_other(w: Kernel) -> None:
    inode.same(w, inode.shown(w, w.path()), inode.shown(w, _beside(w)))


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=BESIDE, looks=two_names_beside_each_other)
def link_within_directory(k: Kernel) -> None:
    """Both names are in one directory: a right to link between directories is not asked for."""
    k.link(_beside(k), k.path()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, objects=BESIDE, looks=two_names_beside_each_other)
def io_uring_linkat_within_directory(k: Kernel) -> None:
    """The kernel links within a directory on behalf of a ring."""
    k.ring().linkat(AT_FDCWD, _beside(k), AT_FDCWD, k.path(), 0).decisive()


# Controls that must not give the file one more name


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def symlink(k: Kernel) -> None:
    """A symbolic link leads to the file and is an inode of its own."""
    k.symlink(k.link_to("f0"), k.path()).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, objects=BESIDE, looks=two_names_beside_each_other, negative=True
)
def rename_within_directory(k: Kernel) -> None:
    """The same beside the target: the file is moved, not linked."""
    k.rename(_beside(k), k.path()).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def rename(k: Kernel) -> None:
    """The file has the new name and no longer the old one: it is moved, not linked."""
    k.rename(k.near("f0"), k.path()).decisive()


def _beside(k: Kernel) -> Buffer:
    """A file's name in the target's own directory."""
    return k.text(f"{k.recording.effect.path}.old")
