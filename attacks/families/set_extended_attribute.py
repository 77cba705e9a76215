"""Set an extended attribute of a file: ``user.k`` is there afterwards.

The attribute on the same inode is exact; another file that has it, under the same name, is
equivalent.
"""

from attacks import witness
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    IOSQE_ASYNC,
    MS_BIND,
    NULL,
    O_PATH,
    O_RDONLY,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result
from attacks.ring import Ring

NAME = "user.k"
VALUE = b"value"

FAMILY = Family(
    "set-extended-attribute",
    title="Set an extended attribute of a file",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, TARGET, 0o644, b"plain\n"),),
    attack_technique="T1564",
    group="file system",
    unrecorded={
        "setxattr of trusted.* attributes": (
            "needs CAP_SYS_ADMIN in the initial user namespace, which no sandbox has"
        ),
    },
)
OTHER = (Object(ObjectKind.FILE, f"{NEAR}f0", 0o644, b"other\n"),)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


@FAMILY.witness
def the_value_is_there(w: Kernel) -> None:
    found = w.buffer(64, name="found")
    w.lgetxattr(w.path(), w.text(NAME), found, found.size)
    witness.same(w, found, w.data(VALUE, name="wanted"), len(VALUE))


# Direct calls


@FAMILY.variant(Technique.BASELINE)
def setxattr(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.setxattr(k.path(), k.text(NAME), _value(k), len(VALUE), 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def lsetxattr(k: Kernel) -> None:
    """The form that follows no link is the same for a file, and a number of its own."""
    k.lsetxattr(k.path(), k.text(NAME), _value(k), len(VALUE), 0).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def fsetxattr(k: Kernel) -> None:
    """By descriptor, one for reading: there is no path to look at."""
    file = k.open(k.path(), O_RDONLY)
    k.fsetxattr(file, k.text(NAME), _value(k), len(VALUE), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def fsetxattr_inherited(k: Kernel) -> None:
    """The file was opened before the filter, for reading only: that is enough."""
    file = k.setup.open(k.path(), O_RDONLY)
    k.fsetxattr(file, k.text(NAME), _value(k), len(VALUE), 0).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def setxattr_proc_fd(k: Kernel) -> None:
    """The link of an O_PATH descriptor, which fsetxattr refuses, is a path to the file."""
    file = k.open(k.path(), O_PATH)
    k.setxattr(k.proc_fd(file), k.text(NAME), _value(k), len(VALUE), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def setxattr_proc_inherited_path_fd(k: Kernel) -> None:
    """A descriptor from before the filter that can neither read nor write leads to the file."""
    file = k.setup.open(k.path(), O_PATH)
    k.setxattr(k.proc_fd(file), k.text(NAME), _value(k), len(VALUE), 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def setxattrat(k: Kernel) -> None:
    """Since 6.13, with value, size and flags behind a pointer; older lists do not know it."""
    args = _args(k)
    k.setxattrat(AT_FDCWD, k.path(), 0, k.text(NAME), args, args.size).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def setxattrat_i386(k: Kernel) -> None:
    """The newest form is in the 32-bit table too, with the same structure."""
    args = _args(k)
    k.i386.setxattrat(AT_FDCWD, k.path(), 0, k.text(NAME), args, args.size).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def setxattrat_empty_path(k: Kernel) -> None:
    """With an empty path the newest form works by descriptor, as fsetxattr does."""
    args = _args(k)
    file = k.open(k.path(), O_RDONLY)
    k.setxattrat(file, k.text(""), AT_EMPTY_PATH, k.text(NAME), args, args.size).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_setxattr(k: Kernel) -> None:
    """The kernel sets the attribute on behalf of a ring: no setxattr call is ever made."""
    _by_ring(k, k.ring()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_async_setxattr(k: Kernel) -> None:
    """A kernel worker thread sets it, outside the caller's own context."""
    _by_ring(k, k.ring().asynchronous(IOSQE_ASYNC)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_fsetxattr(k: Kernel) -> None:
    """The form by descriptor is another opcode, which rules for rings have to know."""
    file = k.open(k.path(), O_RDONLY)
    k.ring().fsetxattr(file, k.text(NAME), _value(k), len(VALUE), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))
def io_uring_setup_only_setxattr(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    _by_ring(k, k.woken_ring()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_sqpoll_setxattr(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    _by_ring(k, k.ring(sqpoll=True)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_setxattr(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    _by_ring(k, k.setup.ring().by(k)).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_setxattr(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    _by_ring(k, ring.by(k).stores_only()).decisive()


# Another file that has the attribute


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    objects=OTHER,
)
def rename_replace(k: Kernel) -> None:
    """A file that has the attribute already takes the target's name."""
    k.setup.setxattr(k.near("f0"), k.text(NAME), _value(k), len(VALUE), 0)
    k.rename(k.near("f0"), k.path()).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=MOUNTS,
    objects=OTHER,
)
def bind_mount(k: Kernel) -> None:
    """A file that has the attribute already is mounted over the target."""
    k.setup.setxattr(k.near("f0"), k.text(NAME), _value(k), len(VALUE), 0)
    k.mount(k.near("f0"), k.path(), NULL, MS_BIND, NULL).decisive()


# Controls that must not set the attribute


@FAMILY.variant(Technique.NEWER_SYSCALL, negative=True)
def setxattrat_path_fd(k: Kernel) -> None:
    """An O_PATH descriptor is refused by setxattrat, unlike by fchmodat2 and fchownat."""
    args = _args(k)
    file = k.open(k.path(), O_PATH)
    name = k.text(NAME)
    k.setxattrat(file, k.text(""), AT_EMPTY_PATH, name, args, args.size).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def setxattr_other_name(k: Kernel) -> None:
    """The name is behind a pointer, so a filter cannot tell; the kernel can."""
    k.setxattr(k.path(), k.text("user.other"), _value(k), len(VALUE), 0).decisive()


def _value(k: Kernel) -> Buffer:
    return k.data(VALUE, name="value")


def _args(k: Kernel) -> Buffer:
    return k.struct("QII", _value(k), len(VALUE), 0, name="xattr_args")


def _by_ring(k: Kernel, ring: Ring) -> Result:
    return ring.setxattr(k.path(), k.text(NAME), _value(k), len(VALUE), 0)
