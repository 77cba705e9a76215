"""Rename or move a file: its inode is found at the target and no longer under its old name.

The inode with its new name is exact; seen there through a mount is equivalent.
"""

from attacks import inode
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    IOSQE_ASYNC,
    MS_BIND,
    NULL,
    O_CREAT,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    O_WRONLY,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
)
from attacks.consts_files import IOSQE_IO_LINK
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

CONTENT = b"precious\n"

FAMILY = Family(
    "rename-file",
    title="Rename or move a file",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, f"{NEAR}a", 0o644, CONTENT),),
    attack_technique="T1036",
    group="file system",
)
OTHER = (Object(ObjectKind.FILE, f"{NEAR}b", 0o644, b"other\n"),)
IN_THE_WAY = (Object(ObjectKind.FILE, TARGET, 0o644, b"in the way\n"),)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


@FAMILY.witness
def the_inode_is_elsewhere(w: Kernel) -> None:
    before = inode.shown(w.setup, _old(w))
    inode.same(w, inode.shown(w, w.path()), before)
    inode.different(w, inode.shown_if_any(w, _old(w)), before)


# Direct calls


@FAMILY.variant(Technique.BASELINE)
def rename(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.rename(_old(k), k.path()).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def renameat(k: Kernel) -> None:
    """Lists that name rename often forget its *at sibling."""
    k.renameat(AT_FDCWD, _old(k), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def renameat_dirfd(k: Kernel) -> None:
    """A real dirfd for the new name defeats rules that only match AT_FDCWD."""
    here = k.open(k.parent(), O_PATH | O_DIRECTORY)
    k.renameat(AT_FDCWD, _old(k), here, k.name()).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def renameat_inherited_dirfd(k: Kernel) -> None:
    """The new directory was opened before the filter: rules on open never see it."""
    here = k.setup.open(k.parent(), O_PATH | O_DIRECTORY)
    k.renameat(AT_FDCWD, _old(k), here, k.name()).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def rename_proc_fd(k: Kernel) -> None:
    """A descriptor's link in procfs turns it into a path, so plain rename is relative to it."""
    here = k.open(k.parent(), O_PATH)
    k.rename(_old(k), k.proc_fd(here, f"/{k.recording.effect.name}")).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def renameat2(k: Kernel) -> None:
    """The newest rename; lists that stop at renameat miss it."""
    k.renameat2(AT_FDCWD, _old(k), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def renameat2_noreplace(k: Kernel) -> None:
    """A flag that mv uses: rules that let only a flagless renameat2 through are too narrow."""
    k.renameat2(AT_FDCWD, _old(k), AT_FDCWD, k.path(), RENAME_NOREPLACE).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def renameat2_whiteout(k: Kernel) -> None:
    """The file is moved and a whiteout, a device node, takes its old name."""
    k.renameat2(AT_FDCWD, _old(k), AT_FDCWD, k.path(), RENAME_WHITEOUT).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, objects=IN_THE_WAY)
def renameat2_exchange(k: Kernel) -> None:
    """Two files swap names, so the old name never goes away."""
    k.renameat2(AT_FDCWD, _old(k), AT_FDCWD, k.path(), RENAME_EXCHANGE).decisive()


# A new name is given and the old one taken away


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def link_unlink(k: Kernel) -> None:
    """What rename did before there was rename: two calls that are harmless one by one."""
    k.link(_old(k), k.path())
    k.unlink(_old(k)).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def linkat_unlinkat(k: Kernel) -> None:
    """The *at siblings of link and unlink."""
    k.linkat(AT_FDCWD, _old(k), AT_FDCWD, k.path(), 0)
    k.unlinkat(AT_FDCWD, _old(k), 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=OTHER)
def linkat_rename_over(k: Kernel) -> None:
    """Another file is renamed over the old name: no rename ever mentions the new one."""
    k.linkat(AT_FDCWD, _old(k), AT_FDCWD, k.path(), 0)
    k.rename(k.near("b"), _old(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def linkat_inherited_fd_unlink(k: Kernel) -> None:
    """The new name is given to a descriptor from before the filter; the old path only goes."""
    file = k.setup.open(_old(k), O_RDONLY)
    k.linkat(AT_FDCWD, k.proc_fd(file), AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW)
    k.unlink(_old(k)).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def linkat_empty_path_unlink(k: Kernel) -> None:
    """A descriptor is given the new name, so the call that links never sees the old path."""
    file = k.open(_old(k), O_PATH)
    k.linkat(file, k.text(""), AT_FDCWD, k.path(), AT_EMPTY_PATH)
    k.unlink(_old(k)).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_renameat(k: Kernel) -> None:
    """The kernel renames on behalf of a ring: no rename call is ever made."""
    k.ring().renameat(AT_FDCWD, _old(k), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_async_renameat(k: Kernel) -> None:
    """A kernel worker thread renames, outside the caller's own context."""
    ring = k.ring().asynchronous(IOSQE_ASYNC)
    ring.renameat(AT_FDCWD, _old(k), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_linkat_unlinkat(k: Kernel) -> None:
    """One submission links and then unlinks: a ring that may not rename does it in two steps."""
    ring = k.ring()
    ring.wait_for_next(
        "LINKAT",
        fd=AT_FDCWD,
        addr=_old(k),
        length=AT_FDCWD,
        off=k.path(),
        flags=IOSQE_IO_LINK,
    )
    ring.submit("UNLINKAT", fd=AT_FDCWD, addr=_old(k)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))
def io_uring_setup_only_renameat(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().renameat(AT_FDCWD, _old(k), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_sqpoll_renameat(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    k.ring(sqpoll=True).renameat(AT_FDCWD, _old(k), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_renameat(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    k.setup.ring().by(k).renameat(AT_FDCWD, _old(k), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_renameat(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    ring.by(k).stores_only().renameat(AT_FDCWD, _old(k), AT_FDCWD, k.path()).decisive()


# Mounts


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=IN_THE_WAY
)
def bind_mount_unlink(k: Kernel) -> None:
    """The file is mounted at the new place and loses its only name; the mount keeps it."""
    k.mount(_old(k), k.path(), NULL, MS_BIND, NULL)
    k.unlink(_old(k)).decisive()


# Within one directory: what judges moves between directories has nothing to say

BESIDE = (Object(ObjectKind.FILE, f"{TARGET}.old", 0o644, CONTENT),)


def the_inode_beside_is_elsewhere(w: Kernel) -> None:
    before = inode.shown(w.setup, _beside(w))
    inode.same(w, inode.shown(w, w.path()), before)
    inode.different(w, inode.shown_if_any(w, _beside(w)), before)


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=BESIDE, looks=the_inode_beside_is_elsewhere)
def rename_within_directory(k: Kernel) -> None:
    """No directory is left: a right to move between directories is not asked for."""
    k.rename(_beside(k), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=BESIDE, looks=the_inode_beside_is_elsewhere)
def link_unlink_within_directory(k: Kernel) -> None:
    """A second name beside the first one, and the first goes: nothing moves between directories."""
    k.link(_beside(k), k.path())
    k.unlink(_beside(k)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, objects=BESIDE, looks=the_inode_beside_is_elsewhere)
def io_uring_renameat_within_directory(k: Kernel) -> None:
    """The kernel renames within a directory on behalf of a ring."""
    k.ring().renameat(AT_FDCWD, _beside(k), AT_FDCWD, k.path()).decisive()


# Controls that must not move the file


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def link_only(k: Kernel) -> None:
    """With two names the file is linked, not moved: the old name is still there."""
    k.link(_old(k), k.path()).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, objects=BESIDE, looks=the_inode_beside_is_elsewhere, negative=True
)
def link_only_within_directory(k: Kernel) -> None:
    """The same beside the target: the old name is still there."""
    k.link(_beside(k), k.path()).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def copy_unlink(k: Kernel) -> None:
    """What mv does between file systems: the contents are moved, the inode is another."""
    copy = k.open(k.path(), O_CREAT | O_WRONLY, 0o644)
    k.write(copy, k.data(CONTENT, name="content"), len(CONTENT))
    k.unlink(_old(k)).decisive()


def _old(k: Kernel) -> Buffer:
    """The file's name before."""
    return k.near("a")


def _beside(k: Kernel) -> Buffer:
    """A file's name in the target's own directory."""
    return k.text(f"{k.recording.effect.path}.old")
