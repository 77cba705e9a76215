"""Change the flags of an inode, as chattr does: the file is marked "no dump".

That is the flag that needs no capability; the ways to the others are the same.  The same inode with
the flag is exact; another file that has it, under the same name, is equivalent.
"""

from attacks import inode
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    MS_BIND,
    NULL,
    O_CREAT,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    O_WRONLY,
)
from attacks.consts_files import (
    FS_IOC32_SETFLAGS,
    FS_IOC_FSSETXATTR,
    FS_IOC_GETFLAGS,
    FS_IOC_SETFLAGS,
    FS_NOATIME_FL,
    FS_NODUMP_FL,
    FS_XFLAG_NODUMP,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

FAMILY = Family(
    "change-inode-flags",
    title="Change the flags of an inode",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, TARGET, 0o644, b"plain\n"),),
    attack_technique="T1222.002",
    group="file system",
    unrecorded={
        "ioctl FS_IOC_SETFLAGS with FS_IMMUTABLE_FL": (
            "needs CAP_LINUX_IMMUTABLE in the initial user namespace; the call is the same"
        ),
    },
)
OTHER = (Object(ObjectKind.FILE, f"{NEAR}f0", 0o644, b"other\n"),)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


@FAMILY.witness
def the_flag_is_set(w: Kernel) -> None:
    inode.shown(w, w.path())
    flags = w.buffer(8, name="flags")
    w.ioctl(w.openat(AT_FDCWD, w.path(), O_RDONLY), FS_IOC_GETFLAGS, flags)
    w.expect(w.load(flags, 0, 4), FS_NODUMP_FL, FS_NODUMP_FL)


# By descriptor


@FAMILY.variant(Technique.BASELINE)
def ioctl_setflags(k: Kernel) -> None:
    """The request that the author of the policy has in mind: it is what chattr uses."""
    file = k.open(k.path(), O_RDONLY)
    k.ioctl(file, FS_IOC_SETFLAGS, _flags(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def ioctl_setflags_inherited(k: Kernel) -> None:
    """The file was opened before the filter, for reading only: that is enough to change it."""
    file = k.setup.open(k.path(), O_RDONLY)
    k.ioctl(file, FS_IOC_SETFLAGS, _flags(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def ioctl_setflags_reopened(k: Kernel) -> None:
    """A descriptor that can only name the file is opened anew through procfs."""
    file = k.setup.open(k.path(), O_PATH)
    k.ioctl(k.open(k.proc_fd(file), O_RDONLY), FS_IOC_SETFLAGS, _flags(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def ioctl_fssetxattr(k: Kernel) -> None:
    """A second request, once of XFS alone, sets the same flags: a rule on the first misses it."""
    file = k.open(k.path(), O_RDONLY)
    attributes = k.struct("IIIIIQ", FS_XFLAG_NODUMP, 0, 0, 0, 0, 0, name="fsxattr")
    k.ioctl(file, FS_IOC_FSSETXATTR, attributes).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def ioctl_setflags_i386(k: Kernel) -> None:
    """The size is part of a request's number, so 32-bit programs have another number for it."""
    file = k.i386.open(k.path(), O_RDONLY)
    k.i386.ioctl(file, FS_IOC32_SETFLAGS, _flags(k)).decisive()


# By path


@FAMILY.variant(Technique.NEWER_SYSCALL)
def file_setattr(k: Kernel) -> None:
    """Since 6.17 there is a call for it, by path: rules on ioctl never see it."""
    attributes = _attributes(k)
    k.file_setattr(AT_FDCWD, k.path(), attributes, attributes.size, 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def file_setattr_dirfd(k: Kernel) -> None:
    """A real dirfd defeats rules on the new call that only match AT_FDCWD."""
    here = k.open(k.parent(), O_PATH | O_DIRECTORY)
    attributes = _attributes(k)
    k.file_setattr(here, k.name(), attributes, attributes.size, 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def file_setattr_empty_path(k: Kernel) -> None:
    """With an empty path the new call works by descriptor, as the ioctl does."""
    file = k.open(k.path(), O_RDONLY)
    attributes = _attributes(k)
    k.file_setattr(file, k.text(""), attributes, attributes.size, AT_EMPTY_PATH).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def file_setattr_proc_fd(k: Kernel) -> None:
    """An O_PATH descriptor is refused, but its link in procfs is a path like any other."""
    file = k.open(k.path(), O_PATH)
    attributes = _attributes(k)
    k.file_setattr(AT_FDCWD, k.proc_fd(file), attributes, attributes.size, 0).decisive()


# Another file that has the flag


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    objects=OTHER,
)
def rename_replace(k: Kernel) -> None:
    """A file that has the flag already takes the target's name."""
    _mark(k.setup, k.near("f0"))
    k.rename(k.near("f0"), k.path()).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
)
def marked_directory_recreate(k: Kernel) -> None:
    """New files take this flag from their directory: the file only has to be made again."""
    _mark(k.setup, k.parent())
    k.unlink(k.path())
    k.open(k.path(), O_CREAT | O_WRONLY, 0o644).decisive()


@FAMILY.variant(
    Technique.ASYNC_KERNEL,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    objects=OTHER,
)
def io_uring_rename_replace(k: Kernel) -> None:
    """Rings have no such ioctl, but they rename a file that has the flag over the target."""
    _mark(k.setup, k.near("f0"))
    k.ring().renameat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=MOUNTS,
    objects=OTHER,
)
def bind_mount(k: Kernel) -> None:
    """A file that has the flag already is mounted over the target."""
    _mark(k.setup, k.near("f0"))
    k.mount(k.near("f0"), k.path(), NULL, MS_BIND, NULL).decisive()


# Controls that must not set the flag


@FAMILY.variant(Technique.NEWER_SYSCALL, negative=True)
def file_setattr_path_fd(k: Kernel) -> None:
    """An O_PATH descriptor with an empty path is refused, unlike by fchmodat2."""
    file = k.open(k.path(), O_PATH)
    attributes = _attributes(k)
    size = attributes.size
    k.file_setattr(file, k.text(""), attributes, size, AT_EMPTY_PATH).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def ioctl_setflags_noatime(k: Kernel) -> None:
    """The flags are behind a pointer: for a filter this is the same call, with another effect."""
    file = k.open(k.path(), O_RDONLY)
    k.ioctl(file, FS_IOC_SETFLAGS, k.struct("Q", FS_NOATIME_FL, name="flags")).decisive()


def _flags(k: Kernel) -> Buffer:
    return k.struct("Q", FS_NODUMP_FL, name="flags")


def _attributes(k: Kernel) -> Buffer:
    return k.struct("QIIII", FS_XFLAG_NODUMP, 0, 0, 0, 0, name="file_attr")


def _mark(k: Kernel, path: Buffer) -> None:
    k.ioctl(k.open(path, O_RDONLY), FS_IOC_SETFLAGS, _flags(k))
