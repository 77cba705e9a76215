"""Change the timestamps of a file: it claims to have been modified in September 2001.

The same inode with that time is exact; another file that has it, under the same name, is
equivalent.
"""

from attacks import inode
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    MS_BIND,
    NULL,
    O_PATH,
    O_RDONLY,
    O_WRONLY,
    Named,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

WHEN = 1_000_000_000
UTIME_OMIT = Named((1 << 30) - 2, "UTIME_OMIT")
UTIME_NOW = Named((1 << 30) - 1, "UTIME_NOW")

FAMILY = Family(
    "change-timestamps",
    title="Change the timestamps of a file",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, TARGET, 0o644, b"new\n"),),
    attack_technique="T1070.006",
    group="file system",
)
OTHER = (Object(ObjectKind.FILE, f"{NEAR}f0", 0o644, b"other\n"),)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


@FAMILY.witness
def modified_long_ago(w: Kernel) -> None:
    inode.has(w, inode.shown(w, w.path()), inode.MTIME, WHEN)


# utimensat, which can do all that the others can


@FAMILY.variant(Technique.BASELINE)
def utimensat(k: Kernel) -> None:
    """The call that the author of the policy has in mind: it is what touch uses."""
    k.utimensat(AT_FDCWD, k.path(), _times(k), 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def utimensat_nofollow(k: Kernel) -> None:
    """A flag changes the arguments and, for a regular file, not the effect."""
    k.utimensat(AT_FDCWD, k.path(), _times(k), AT_SYMLINK_NOFOLLOW).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def utimensat_omit(k: Kernel) -> None:
    """One of the two times may be left as it is, which is said behind the pointer."""
    times = k.struct("QQQQ", 0, UTIME_OMIT, WHEN, 0, name="times")
    k.utimensat(AT_FDCWD, k.path(), times, 0).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def utimensat_fd(k: Kernel) -> None:
    """Without a path it works by descriptor, one for reading: that is futimens."""
    file = k.open(k.path(), O_RDONLY)
    k.utimensat(file, NULL, _times(k), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def utimensat_inherited_fd(k: Kernel) -> None:
    """The file was opened before the filter, for reading only: that is enough."""
    file = k.setup.open(k.path(), O_RDONLY)
    k.utimensat(file, NULL, _times(k), 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def utimensat_empty_path(k: Kernel) -> None:
    """Since 5.8 an O_PATH descriptor is accepted with an empty path."""
    file = k.open(k.path(), O_PATH)
    k.utimensat(file, k.text(""), _times(k), AT_EMPTY_PATH).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def utimensat_inherited_path_fd(k: Kernel) -> None:
    """A descriptor from before the filter that can neither read nor write is enough."""
    file = k.setup.open(k.path(), O_PATH)
    k.utimensat(file, k.text(""), _times(k), AT_EMPTY_PATH).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def utimensat_proc_fd(k: Kernel) -> None:
    """The link of an O_PATH descriptor in procfs is a path to the file."""
    file = k.open(k.path(), O_PATH)
    k.utimensat(AT_FDCWD, k.proc_fd(file), _times(k), 0).decisive()


# The calls before it


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def utime(k: Kernel) -> None:
    """The first of them, in whole seconds, still has its number."""
    k.utime(k.path(), k.struct("QQ", WHEN, WHEN, name="times")).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def utimes(k: Kernel) -> None:
    """The second, in microseconds; some C libraries have kept calling it."""
    k.utimes(k.path(), _times(k)).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def futimesat(k: Kernel) -> None:
    """Never in a standard, and forgotten by lists that name the other three."""
    k.futimesat(AT_FDCWD, k.path(), _times(k)).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def futimesat_fd(k: Kernel) -> None:
    """Without a path it works by descriptor too."""
    file = k.open(k.path(), O_RDONLY)
    k.futimesat(file, NULL, _times(k)).decisive()


# The 32-bit table, where times have 32 bits


@FAMILY.variant(Technique.COMPAT_ABI)
def utime_i386(k: Kernel) -> None:
    """Other numbers; a filter without that architecture may let them pass."""
    k.i386.utime(k.path(), k.struct("II", WHEN, WHEN, name="times32")).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def utimes_i386(k: Kernel) -> None:
    """The form in microseconds in the 32-bit table."""
    k.i386.utimes(k.path(), _times32(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def futimesat_i386(k: Kernel) -> None:
    """The forgotten form in the 32-bit table."""
    k.i386.futimesat(AT_FDCWD, k.path(), _times32(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def utimensat_i386(k: Kernel) -> None:
    """The form in nanoseconds in the 32-bit table, under the name that people know."""
    k.i386.utimensat(AT_FDCWD, k.path(), _times32(k), 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def utimensat_time64_i386(k: Kernel) -> None:
    """Since 5.1 that table has a second number for times of 64 bits, which x86-64 never had."""
    k.i386.raw("utimensat_time64", AT_FDCWD, k.path(), _times(k), 0).decisive()


# Another file that has the time


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    objects=OTHER,
)
def rename_replace(k: Kernel) -> None:
    """A file that is old enough takes the target's name."""
    k.setup.utimensat(AT_FDCWD, k.near("f0"), _times(k.setup), 0)
    k.rename(k.near("f0"), k.path()).decisive()


@FAMILY.variant(
    Technique.ASYNC_KERNEL,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    objects=OTHER,
)
def io_uring_rename_replace(k: Kernel) -> None:
    """Rings set no times, but they rename an old file over the target."""
    k.setup.utimensat(AT_FDCWD, k.near("f0"), _times(k.setup), 0)
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
    """An old file is mounted over the target."""
    k.setup.utimensat(AT_FDCWD, k.near("f0"), _times(k.setup), 0)
    k.mount(k.near("f0"), k.path(), NULL, MS_BIND, NULL).decisive()


# Controls that must not set the time


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def utimensat_now(k: Kernel) -> None:
    """Without times the file becomes a new one, which writing to it does as well."""
    k.utimensat(AT_FDCWD, k.path(), NULL, 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True)
def utimensat_access_time_only(k: Kernel) -> None:
    """Two special values behind the pointer keep one time and set the other to now."""
    times = k.struct("QQQQ", WHEN, UTIME_NOW, WHEN, UTIME_OMIT, name="times")
    k.utimensat(AT_FDCWD, k.path(), times, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def write(k: Kernel) -> None:
    """Writing changes the time of the last change to now, and to nothing else."""
    k.write(k.open(k.path(), O_WRONLY), k.data(b"n", name="byte"), 1).decisive()


def _times(k: Kernel) -> Buffer:
    """Two times of 64 bits and their fractions: timespec and timeval are the same here."""
    return k.struct("QQQQ", WHEN, 0, WHEN, 0, name="times")


def _times32(k: Kernel) -> Buffer:
    return k.struct("IIII", WHEN, 0, WHEN, 0, name="times32")
