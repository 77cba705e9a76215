"""Create a symbolic link.

A new link at the target, or one more name of an old one, is exact; a link that was moved there, or
is seen through a mount, is equivalent.
"""

from attacks import inode
from attacks.consts import (
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    MS_BIND,
    NULL,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_PATH,
    RENAME_NOREPLACE,
    S_IFLNK,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel

FAMILY = Family(
    "create-symlink",
    title="Create a symbolic link",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    group="file system",
)
SOURCE = (
    Object(ObjectKind.DIRECTORY, f"{NEAR}src", 0o755),
    Object(ObjectKind.SYMLINK, f"{NEAR}src/t", content=b"nowhere"),
)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)
NOWHERE = "nowhere"


@FAMILY.witness
def a_symbolic_link(w: Kernel) -> None:
    inode.is_of_type(w, inode.shown(w, w.path()), S_IFLNK)


# Direct calls


@FAMILY.variant(Technique.BASELINE)
def symlink(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.symlink(k.text(NOWHERE), k.path()).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def symlinkat(k: Kernel) -> None:
    """Lists that name symlink often forget its *at sibling, which is what ln calls."""
    k.symlinkat(k.text(NOWHERE), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def symlinkat_dirfd(k: Kernel) -> None:
    """A real dirfd defeats rules that only match AT_FDCWD."""
    here = k.open(k.parent(), O_PATH | O_DIRECTORY)
    k.symlinkat(k.text(NOWHERE), here, k.name()).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def symlinkat_inherited_dirfd(k: Kernel) -> None:
    """The directory was opened before the filter: rules on open never see it."""
    here = k.setup.open(k.parent(), O_PATH | O_DIRECTORY)
    k.symlinkat(k.text(NOWHERE), here, k.name()).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def symlink_proc_fd(k: Kernel) -> None:
    """A descriptor's link in procfs turns it into a path, so plain symlink is relative to it."""
    here = k.open(k.parent(), O_PATH)
    path = k.proc_fd(here, f"/{k.recording.effect.name}")
    k.symlink(k.text(NOWHERE), path).decisive()


# A symbolic link that is there already


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=SOURCE)
def link(k: Kernel) -> None:
    """Link does not follow: a symbolic link gets one more name, and symlink is not called."""
    k.link(k.source(), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=SOURCE)
def linkat(k: Kernel) -> None:
    """The *at sibling of link follows only when it is told to."""
    k.linkat(AT_FDCWD, k.source(), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, objects=SOURCE
)
def linkat_inherited_path_fd(k: Kernel) -> None:
    """A descriptor of the link itself, from before the filter, is given a name in a new place."""
    held = k.setup.open(k.source(), O_PATH | O_NOFOLLOW)
    k.linkat(AT_FDCWD, k.proc_fd(held), AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def rename(k: Kernel) -> None:
    """Rename does not care what it moves: a rule on its arguments cannot see the type."""
    k.rename(k.source(), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def renameat2_noreplace(k: Kernel) -> None:
    """The newest rename; lists that stop at renameat miss it."""
    k.renameat2(AT_FDCWD, k.source(), AT_FDCWD, k.path(), RENAME_NOREPLACE).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_symlinkat(k: Kernel) -> None:
    """The kernel makes the link on behalf of a ring: no symlink call is ever made."""
    k.ring().symlinkat(k.text(NOWHERE), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, objects=SOURCE)
def io_uring_linkat(k: Kernel) -> None:
    """A ring gives an old link one more name, so a ring without SYMLINKAT is not enough."""
    k.ring().linkat(AT_FDCWD, k.source(), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))
def io_uring_setup_only_symlinkat(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().symlinkat(k.text(NOWHERE), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_sqpoll_symlinkat(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    k.ring(sqpoll=True).symlinkat(k.text(NOWHERE), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_symlinkat(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    k.setup.ring().by(k).symlinkat(k.text(NOWHERE), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_symlinkat(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    ring.by(k).stores_only().symlinkat(k.text(NOWHERE), AT_FDCWD, k.path()).decisive()


# Mounts


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=MOUNTS,
    target_name="self",
)
def mount_proc(k: Kernel) -> None:
    """A procfs over the parent brings symbolic links of its own."""
    k.mount(k.text("proc"), k.parent(), k.text("proc"), 0, NULL).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=SOURCE
)
def bind_mount_over_parent(k: Kernel) -> None:
    """Another directory, mounted over the parent, brings its links along."""
    k.mount(k.near("src"), k.parent(), NULL, MS_BIND, NULL).decisive()


# Controls that must not make a symbolic link


@FAMILY.variant(
    Technique.SIBLING_SYSCALL,
    objects=(
        Object(ObjectKind.DIRECTORY, f"{NEAR}src", 0o755),
        Object(ObjectKind.SYMLINK, f"{NEAR}src/t", content=b"file"),
        Object(ObjectKind.FILE, f"{NEAR}src/file", 0o644, b"file\n"),
    ),
    negative=True,
)
def linkat_follow(k: Kernel) -> None:
    """With AT_SYMLINK_FOLLOW it is what the link leads to that gets one more name."""
    k.linkat(AT_FDCWD, k.source(), AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def mknod_symlink(k: Kernel) -> None:
    """Mknod takes many types, but not that of a symbolic link."""
    k.mknod(k.path(), S_IFLNK | 0o777, 0).decisive().may_fail()
