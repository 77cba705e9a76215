"""Change the mode of a file: set the permission bits of the parameter ``bits``.

The file starts with 0600 and belongs to the subject.  The same inode with the bits is exact;
another file with the bits under the same name is equivalent.
"""

import struct

from attacks import deputy, supervisor
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    O_CREAT,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.errors import AttackError
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Parameters, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Recorder

START = 0o600


def _effect(parameters: Parameters) -> Effect:
    bits = parameters["bits"]
    if bits & ~0o7777 or bits & START or not bits:
        raise AttackError(f"change-mode: bits={bits:#o} is not some of 07177 (0600 is set before)")
    return Effect(EffectKind.MODE, bits=bits)


FAMILY = Family(
    "change-mode",
    title="Change the mode of a file",
    group="file system",
    effect=_effect,
    objects=(Object(ObjectKind.FILE, TARGET, START, b"private\n"),),
    parameters={"bits": 0o044},
    attack_technique="T1222.002",
)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)
ACL_NAME = "system.posix_acl_access"
ACL_SIZE = 28


def _replacement(parameters: Parameters) -> tuple[Object, ...]:
    return (Object(ObjectKind.FILE, f"{NEAR}f0", START | parameters["bits"]),)


def _fits_acl(parameters: Parameters) -> bool:
    """An access control list holds the nine permission bits and no others."""
    return parameters["bits"] & ~0o777 == 0


# Direct calls


@FAMILY.variant(Technique.BASELINE)
def chmod(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.chmod(k.path(), _mode(k)).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def fchmod(k: Kernel) -> None:
    """Changes by descriptor: there is no path to look at."""
    file = k.open(k.path(), O_RDONLY)
    k.fchmod(file, _mode(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def fchmod_inherited(k: Kernel) -> None:
    """The file was opened before the filter, for reading only: that is enough to change it."""
    file = k.setup.open(k.path(), O_RDONLY)
    k.fchmod(file, _mode(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def fchmodat(k: Kernel) -> None:
    """Lists that name chmod often forget its *at sibling, which is what chmod(1) calls."""
    k.fchmodat(AT_FDCWD, k.path(), _mode(k)).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def fchmodat2(k: Kernel) -> None:
    """Since 6.6; lists and libraries from before do not know its number."""
    k.fchmodat2(AT_FDCWD, k.path(), _mode(k), 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def fchmodat2_nofollow(k: Kernel) -> None:
    """A flag changes the arguments and, for a regular file, not the effect."""
    k.fchmodat2(AT_FDCWD, k.path(), _mode(k), AT_SYMLINK_NOFOLLOW).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def fchmodat2_path_fd(k: Kernel) -> None:
    """An O_PATH descriptor, which fchmod refuses, is accepted with an empty path."""
    file = k.open(k.path(), O_PATH)
    k.fchmodat2(file, k.text(""), _mode(k), AT_EMPTY_PATH).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def fchmodat2_inherited_path_fd(k: Kernel) -> None:
    """A descriptor from before the filter that can neither read nor write is enough."""
    file = k.setup.open(k.path(), O_PATH)
    k.fchmodat2(file, k.text(""), _mode(k), AT_EMPTY_PATH).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def chmod_proc_fd(k: Kernel) -> None:
    """The link of an O_PATH descriptor in procfs is a path to the file."""
    file = k.open(k.path(), O_PATH)
    k.chmod(k.proc_fd(file), _mode(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def chmod_proc_inherited_fd(k: Kernel) -> None:
    """The link in procfs of a descriptor from before the filter."""
    file = k.setup.open(k.path(), O_RDONLY)
    k.chmod(k.proc_fd(file), _mode(k)).decisive()


# Arguments with more bits than the kernel reads


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def chmod_wide_mode(k: Kernel) -> None:
    """The kernel reads 16 bits of a mode; a filter that compares all 64 misses."""
    k.chmod(k.path(), 0xDEADBEEFFFF00000 | _mode(k)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def chmod_mode_bit_16(k: Kernel) -> None:
    """Garbage above bit 15 also passes filters that compare the low 32 bits for equality."""
    k.chmod(k.path(), 0x10000 | _mode(k)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def fchmod_wide_fd(k: Kernel) -> None:
    """The kernel reads 32 bits of a descriptor."""
    file = k.open(k.path(), O_RDONLY)
    k.fchmod(k.wide(file), _mode(k)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def fchmodat_wide_dirfd(k: Kernel) -> None:
    """The kernel reads 32 bits of dirfd; a filter that compares all 64 with AT_FDCWD misses."""
    k.fchmodat(k.wide(AT_FDCWD), k.path(), _mode(k)).decisive()


# The access control list is the mode


@FAMILY.variant(Technique.INDIRECT_OBJECT, when=_fits_acl)
def setxattr_acl(k: Kernel) -> None:
    """Writing the access control list as an attribute rewrites the permission bits."""
    k.setxattr(k.path(), k.text(ACL_NAME), _acl(k), ACL_SIZE, 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, when=_fits_acl)
def lsetxattr_acl(k: Kernel) -> None:
    """The form of setxattr that follows no link."""
    k.lsetxattr(k.path(), k.text(ACL_NAME), _acl(k), ACL_SIZE, 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, when=_fits_acl)
def fsetxattr_acl(k: Kernel) -> None:
    """The access control list by descriptor."""
    file = k.open(k.path(), O_RDONLY)
    k.fsetxattr(file, k.text(ACL_NAME), _acl(k), ACL_SIZE, 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, when=_fits_acl)
def setxattrat_acl(k: Kernel) -> None:
    """Since 6.13; lists and libraries from before do not know its number."""
    args = _xattr_args(k)
    k.setxattrat(AT_FDCWD, k.path(), 0, k.text(ACL_NAME), args, args.size).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, when=_fits_acl)
def io_uring_setxattr_acl(k: Kernel) -> None:
    """A ring writes the access control list: no chmod and no setxattr call."""
    acl = _acl(k)
    k.ring().setxattr(k.path(), k.text(ACL_NAME), acl, ACL_SIZE, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, when=_fits_acl)
def io_uring_fsetxattr_acl(k: Kernel) -> None:
    """A ring writes the access control list of an open file."""
    file = k.open(k.path(), O_RDONLY)
    acl = _acl(k)
    k.ring().fsetxattr(file, k.text(ACL_NAME), acl, ACL_SIZE, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP), when=_fits_acl)
def io_uring_setup_only_setxattr_acl(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().setxattr(k.path(), k.text(ACL_NAME), _acl(k), ACL_SIZE, 0).decisive()


@FAMILY.variant(
    Technique.ASYNC_KERNEL,
    needs=(Need.SQPOLL,),
    when=_fits_acl,
)
def io_uring_sqpoll_setxattr_acl(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    ring = k.ring(sqpoll=True)
    ring.setxattr(k.path(), k.text(ACL_NAME), _acl(k), ACL_SIZE, 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, when=_fits_acl)
def io_uring_inherited_setxattr_acl(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    ring = k.setup.ring().by(k)
    ring.setxattr(k.path(), k.text(ACL_NAME), _acl(k), ACL_SIZE, 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, when=_fits_acl)
def io_uring_personality_setxattr_acl(k: Kernel) -> None:
    """Entries run with credentials that were stored in the ring before any restriction."""
    ring = k.setup.ring().registered_personality().by(k)
    ring.setxattr(k.path(), k.text(ACL_NAME), _acl(k), ACL_SIZE, 0).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_RING,
    needs=(Need.SQPOLL,),
    when=_fits_acl,
)
def io_uring_inherited_sqpoll_setxattr_acl(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    submitter = ring.by(k).stores_only()
    submitter.setxattr(k.path(), k.text(ACL_NAME), _acl(k), ACL_SIZE, 0).decisive()


# Other system call tables


@FAMILY.variant(Technique.COMPAT_ABI)
def chmod_i386(k: Kernel) -> None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    k.i386.chmod(k.path(), _mode(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def fchmod_i386(k: Kernel) -> None:
    """The change by descriptor in the 32-bit table."""
    file = k.i386.open(k.path(), O_RDONLY)
    k.i386.fchmod(file, _mode(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def fchmodat_i386(k: Kernel) -> None:
    """The *at sibling in the 32-bit table."""
    k.i386.fchmodat(AT_FDCWD, k.path(), _mode(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def fchmodat2_i386(k: Kernel) -> None:
    """The newest chmod has one number in both tables, and the architecture still differs."""
    k.i386.fchmodat2(AT_FDCWD, k.path(), _mode(k), 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, when=_fits_acl)
def setxattr_acl_i386(k: Kernel) -> None:
    """The access control list through the 32-bit table."""
    k.i386.setxattr(k.path(), k.text(ACL_NAME), _acl(k), ACL_SIZE, 0).decisive()


@FAMILY.variant(Technique.X32_ABI)
def chmod_x32(k: Kernel) -> None:
    """x32 has the same architecture word and other numbers (bit 30 is set)."""
    k.x32.chmod(k.path(), _mode(k)).decisive()


@FAMILY.variant(Technique.X32_ABI)
def fchmodat_x32(k: Kernel) -> None:
    """The *at sibling among the x32 numbers."""
    k.x32.fchmodat(AT_FDCWD, k.path(), _mode(k)).decisive()


# Another file with the bits


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=_replacement)
def rename_replace(k: Kernel) -> None:
    """A file that has the bits already takes the target's name."""
    k.rename(k.near("f0"), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT)
def unlink_recreate(k: Kernel) -> None:
    """The file is deleted and made again with the bits."""
    k.umask(0)
    k.unlink(k.path())
    k.open(k.path(), O_CREAT | O_WRONLY, _mode(k)).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS)
def tmpfs_over_parent(k: Kernel) -> None:
    """A fresh file system over the parent holds a file of that name with the bits."""
    k.umask(0)
    k.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), 0, k.text("mode=0755"))
    k.open(k.path(), O_CREAT | O_RDWR, _mode(k)).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def ptrace_neighbour(k: Kernel) -> None:
    """A neighbour without the filter is made to call chmod by planting an instruction in it."""
    deputy.traced_call(k, deputy.SYS_CHMOD, k.path(), _mode(k))


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_proc_mem(k: Kernel) -> None:
    """A neighbour's code is overwritten through a file, with open and write, without ptrace."""
    deputy.planted_call(k, deputy.SYS_CHMOD, k.path(), _mode(k))


@FAMILY.variant(
    Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR, when=_fits_acl
)
def io_uring_stolen_setxattr_acl(k: Kernel) -> None:
    """A neighbour's ring is fetched by pidfd_getfd, so io_uring_setup need not be allowed."""
    ring = deputy.stolen_ring(k)
    ring.setxattr(k.path(), k.text(ACL_NAME), _acl(k), ACL_SIZE, 0).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        thread.chmod(k.path(), _mode(k))


# One's own supervisor


@FAMILY.variant(Technique.SUPERVISOR_SELF)
def chmod_traced_child(k: Kernel) -> None:
    """A filter that leaves chmod to a tracer (TRACE) asks the parent, which is the attacker."""
    with supervisor.traced_child(k):
        k.chmod(k.path(), _mode(k)).decisive()


@FAMILY.variant(Technique.SUPERVISOR_SELF)
def chmod_traced_by_child(k: Kernel) -> None:
    """A filter that leaves chmod to a tracer (TRACE) asks a child of the attacker's."""
    supervisor.traced_by_child(k)
    k.chmod(k.path(), _mode(k)).decisive()


@FAMILY.variant(Technique.SUPERVISOR_SELF)
def chmod_own_listener(k: Kernel) -> None:
    """A newer filter's listener is asked before TRACE and instead of an older USER_NOTIF."""
    supervisor.answered_by_child(k, deputy.SYS_CHMOD)
    k.chmod(k.path(), _mode(k)).decisive()


# Controls that must not change the mode


@FAMILY.variant(Technique.FD_RELATIVE, negative=True)
def fchmod_path_fd(k: Kernel) -> None:
    """An O_PATH descriptor is refused by fchmod."""
    file = k.open(k.path(), O_PATH)
    k.fchmod(file, _mode(k)).decisive().may_fail()


@FAMILY.variant(Technique.NEWER_SYSCALL, negative=True, when=_fits_acl)
def setxattrat_path_fd(k: Kernel) -> None:
    """An O_PATH descriptor is refused by setxattrat, unlike by fchmodat2."""
    file = k.open(k.path(), O_PATH)
    args, name = _xattr_args(k), k.text(ACL_NAME)
    k.setxattrat(file, k.text(""), AT_EMPTY_PATH, name, args, args.size).decisive().may_fail()


def _mode(k: Kernel) -> int:
    return START | k.param("bits")


def _acl(k: Recorder) -> Buffer:
    """Version 2 of the attribute: entries of tag, permissions and id for user, group, others."""
    mode = START | k.param("bits")
    entries = ((0x01, mode >> 6 & 7), (0x04, mode >> 3 & 7), (0x20, mode & 7))
    packed = b"".join(struct.pack("<HHi", tag, perm, -1) for tag, perm in entries)
    return k.data(struct.pack("<I", 2) + packed, name="acl")


def _xattr_args(k: Kernel) -> Buffer:
    return k.struct("QII", _acl(k), ACL_SIZE, 0, name="xattr_args")
