"""Remove an extended attribute of a file: ``user.k`` is gone afterwards, and the file is not.

The witness gives the file its attribute.  Gone from the same inode is exact; a file without it,
under the same name, is equivalent.
"""

from attacks import inode
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    MS_BIND,
    NULL,
    O_CREAT,
    O_PATH,
    O_RDONLY,
    O_WRONLY,
)
from attacks.consts_files import ENODATA
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel

NAME = "user.k"
VALUE = b"value"
_WORD = (1 << 64) - 1

FAMILY = Family(
    "remove-extended-attribute",
    title="Remove an extended attribute of a file",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, TARGET, 0o644, b"marked\n"),),
    attack_technique="T1562.001",
    group="file system",
)
OTHER = (Object(ObjectKind.FILE, f"{NEAR}f0", 0o644, b"other\n"),)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


@FAMILY.witness
def the_attribute_is_gone(w: Kernel) -> None:
    w.setup.setxattr(w.path(), w.text(NAME), w.data(VALUE, name="value"), len(VALUE), 0)
    inode.shown(w, w.path())
    length = w.lgetxattr(w.path(), w.text(NAME), NULL, 0).may_fail()
    w.expect(length, _WORD, -ENODATA & _WORD)


# Direct calls


@FAMILY.variant(Technique.BASELINE)
def removexattr(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.removexattr(k.path(), k.text(NAME)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def lremovexattr(k: Kernel) -> None:
    """The form that follows no link is the same for a file, and a number of its own."""
    k.lremovexattr(k.path(), k.text(NAME)).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def fremovexattr(k: Kernel) -> None:
    """By descriptor, one for reading: there is no path to look at."""
    file = k.open(k.path(), O_RDONLY)
    k.fremovexattr(file, k.text(NAME)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def fremovexattr_inherited(k: Kernel) -> None:
    """The file was opened before the filter, for reading only: that is enough."""
    file = k.setup.open(k.path(), O_RDONLY)
    k.fremovexattr(file, k.text(NAME)).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def removexattrat(k: Kernel) -> None:
    """Since 6.13; lists and libraries from before do not know its number."""
    k.removexattrat(AT_FDCWD, k.path(), 0, k.text(NAME)).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def removexattrat_empty_path(k: Kernel) -> None:
    """With an empty path the newest form works by descriptor, as fremovexattr does."""
    file = k.open(k.path(), O_RDONLY)
    k.removexattrat(file, k.text(""), AT_EMPTY_PATH, k.text(NAME)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def removexattr_proc_fd(k: Kernel) -> None:
    """The link of an O_PATH descriptor, which fremovexattr refuses, is a path to the file."""
    file = k.open(k.path(), O_PATH)
    k.removexattr(k.proc_fd(file), k.text(NAME)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def removexattr_proc_inherited_path_fd(k: Kernel) -> None:
    """A descriptor from before the filter that can neither read nor write leads to the file."""
    file = k.setup.open(k.path(), O_PATH)
    k.removexattr(k.proc_fd(file), k.text(NAME)).decisive()


# Another file that has no such attribute


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=OTHER)
def rename_replace(k: Kernel) -> None:
    """A file without the attribute takes the target's name."""
    k.rename(k.near("f0"), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT)
def unlink_recreate(k: Kernel) -> None:
    """The file is deleted and made again; attributes are not made with it."""
    k.unlink(k.path())
    k.open(k.path(), O_CREAT | O_WRONLY, 0o644).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, grade=Grade.EQUIVALENT, objects=OTHER)
def io_uring_rename_replace(k: Kernel) -> None:
    """Rings cannot remove attributes, but they rename a file without one over the target."""
    k.ring().renameat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=OTHER
)
def bind_mount(k: Kernel) -> None:
    """A file without the attribute is mounted over the target."""
    k.mount(k.near("f0"), k.path(), NULL, MS_BIND, NULL).decisive()


# Controls that must not remove the attribute


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def setxattr_empty(k: Kernel) -> None:
    """An empty value is a value: unlike that of an access list, it does not remove."""
    k.setxattr(k.path(), k.text(NAME), NULL, 0, 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, negative=True)
def removexattrat_path_fd(k: Kernel) -> None:
    """An O_PATH descriptor is refused by removexattrat, unlike by fchmodat2 and fchownat."""
    file = k.open(k.path(), O_PATH)
    k.removexattrat(file, k.text(""), AT_EMPTY_PATH, k.text(NAME)).decisive().may_fail()
