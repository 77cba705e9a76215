"""Give a program file a capability: ``security.capability`` is there afterwards.

Whoever executes the file then gets the capability.  The same inode with it is exact; another file
that has it, under the same name, is equivalent.
"""

import struct

from attacks import inode
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    O_PATH,
    O_RDONLY,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result
from attacks.ring import Ring

NAME = "security.capability"
REVISION_2, EFFECTIVE, NET_BIND_SERVICE = 0x02000000, 1, 1 << 10
SIZE = 20

FAMILY = Family(
    "set-file-capability",
    title="Give a program file a capability",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, TARGET, 0o755, b"#!/bin/false\n"),),
    attack_technique="T1548",
    group="file system",
)
OTHER = (Object(ObjectKind.FILE, f"{NEAR}f0", 0o755, b"#!/bin/true\n"),)
SETFCAP = (Need.CAP_SETFCAP,)


@FAMILY.witness
def the_file_has_a_capability(w: Kernel) -> None:
    inode.shown(w, w.path())
    w.lgetxattr(w.path(), w.text(NAME), w.buffer(64, name="found"), 64)


# Direct calls


@FAMILY.variant(Technique.BASELINE, needs=SETFCAP)
def setxattr(k: Kernel) -> None:
    """The call that the author of the policy has in mind: it is what setcap uses."""
    k.setxattr(k.path(), k.text(NAME), _value(k), SIZE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETFCAP)
def lsetxattr(k: Kernel) -> None:
    """The form that follows no link is the same for a file, and a number of its own."""
    k.lsetxattr(k.path(), k.text(NAME), _value(k), SIZE, 0).decisive()


@FAMILY.variant(Technique.FD_RELATIVE, needs=SETFCAP)
def fsetxattr(k: Kernel) -> None:
    """By descriptor, one for reading: there is no path to look at."""
    file = k.open(k.path(), O_RDONLY)
    k.fsetxattr(file, k.text(NAME), _value(k), SIZE, 0).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, needs=SETFCAP
)
def fsetxattr_inherited(k: Kernel) -> None:
    """The file was opened before the filter, for reading only: that is enough."""
    file = k.setup.open(k.path(), O_RDONLY)
    k.fsetxattr(file, k.text(NAME), _value(k), SIZE, 0).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, needs=SETFCAP)
def setxattr_proc_fd(k: Kernel) -> None:
    """The link of an O_PATH descriptor, which fsetxattr refuses, is a path to the file."""
    file = k.open(k.path(), O_PATH)
    k.setxattr(k.proc_fd(file), k.text(NAME), _value(k), SIZE, 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, needs=SETFCAP)
def setxattrat(k: Kernel) -> None:
    """Since 6.13, with value, size and flags behind a pointer; older lists do not know it."""
    args = _args(k)
    k.setxattrat(AT_FDCWD, k.path(), 0, k.text(NAME), args, args.size).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, needs=SETFCAP)
def setxattrat_empty_path(k: Kernel) -> None:
    """With an empty path the newest form works by descriptor, as fsetxattr does."""
    args = _args(k)
    file = k.open(k.path(), O_RDONLY)
    k.setxattrat(file, k.text(""), AT_EMPTY_PATH, k.text(NAME), args, args.size).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=SETFCAP)
def io_uring_setxattr(k: Kernel) -> None:
    """The kernel sets the capability on behalf of a ring: no setxattr call is ever made."""
    _by_ring(k, k.ring()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=SETFCAP)
def io_uring_fsetxattr(k: Kernel) -> None:
    """The form by descriptor is another opcode, which rules for rings have to know."""
    file = k.open(k.path(), O_RDONLY)
    k.ring().fsetxattr(file, k.text(NAME), _value(k), SIZE, 0).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_RING,
    needs=(*SETFCAP, Need.SQPOLL),
)
def io_uring_inherited_sqpoll_setxattr(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    _by_ring(k, ring.by(k).stores_only()).decisive()


# Another file that has it


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=SETFCAP,
    objects=OTHER,
)
def rename_replace(k: Kernel) -> None:
    """A program that has the capability already takes the target's name."""
    k.setup.setxattr(k.near("f0"), k.text(NAME), _value(k), SIZE, 0)
    k.rename(k.near("f0"), k.path()).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=SETFCAP,
    objects=OTHER,
)
def unlink_link(k: Kernel) -> None:
    """A link takes the capability along, as it is the inode that has it."""
    k.setup.setxattr(k.near("f0"), k.text(NAME), _value(k), SIZE, 0)
    k.unlink(k.path())
    k.linkat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


# Controls that must not give a capability


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def setxattr_unknown_revision(k: Kernel) -> None:
    """The kernel looks at the value before it stores it: this one has a revision from nowhere."""
    value = k.data(b"\xff" * SIZE, name="capabilities")
    k.setxattr(k.path(), k.text(NAME), value, SIZE, 0).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def setxattr_user_name(k: Kernel) -> None:
    """The same bytes under a name that anybody may set give nobody anything."""
    k.setxattr(k.path(), k.text("user.capability"), _value(k), SIZE, 0).decisive()


def _value(k: Kernel) -> Buffer:
    """CAP_NET_BIND_SERVICE, permitted and effective, as a ``struct vfs_cap_data``."""
    packed = struct.pack("<IIIII", REVISION_2 | EFFECTIVE, NET_BIND_SERVICE, 0, 0, 0)
    return k.data(packed, name="capabilities")


def _args(k: Kernel) -> Buffer:
    return k.struct("QII", _value(k), SIZE, 0, name="xattr_args")


def _by_ring(k: Kernel, ring: Ring) -> Result:
    return ring.setxattr(k.path(), k.text(NAME), _value(k), SIZE, 0)
