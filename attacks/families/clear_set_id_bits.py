"""Clear the set-user-id and set-group-id bits of a program file.

Chmod is one way; but the kernel clears them itself whenever the owner or the contents change, so
that many calls do it by the way.  The same inode without the bits is exact; another file without
them, under the same name, is equivalent.
"""

from attacks import deputy, inode
from attacks.consts import (
    AT_FDCWD,
    IOSQE_ASYNC,
    MAP_SHARED,
    MS_BIND,
    NULL,
    O_CREAT,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    PROT_READ,
    PROT_WRITE,
    Named,
)
from attacks.consts_files import S_SET_ID
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

START, WANTED = 0o6755, 0o755
CONTENT = b"#!/bin/false\n" * 8
UNCHANGED = -1
PAGE = 4096

FALLOC_FL_KEEP_SIZE = Named(1, "FALLOC_FL_KEEP_SIZE")
FS_IOC_UNRESVSP = Named(0x4030582B, "FS_IOC_UNRESVSP")
IOCB_CMD_PWRITE = 1
MADV_REMOVE = Named(9, "MADV_REMOVE")

FAMILY = Family(
    "clear-set-id-bits",
    title="Clear the set-id bits of a program file",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, TARGET, START, CONTENT),),
    attack_technique="T1222.002",
    group="file system",
)
OTHER = (Object(ObjectKind.FILE, f"{NEAR}f0", WANTED, b"other\n"),)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


@FAMILY.witness
def neither_bit_is_set(w: Kernel) -> None:
    inode.has(w, inode.shown(w, w.path()), inode.MODE, 0, S_SET_ID)


# By mode


@FAMILY.variant(Technique.BASELINE)
def chmod(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.chmod(k.path(), WANTED).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def fchmodat(k: Kernel) -> None:
    """Lists that name chmod often forget its *at sibling, which is what chmod(1) calls."""
    k.fchmodat(AT_FDCWD, k.path(), WANTED).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def fchmod(k: Kernel) -> None:
    """By descriptor, one for reading: there is no path to look at."""
    k.fchmod(k.open(k.path(), O_RDONLY), WANTED).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def fchmodat2(k: Kernel) -> None:
    """Since 6.6; lists and libraries from before do not know its number."""
    k.fchmodat2(AT_FDCWD, k.path(), WANTED, 0).decisive()


# By owner: even the one that it has


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def chown_unchanged(k: Kernel) -> None:
    """With -1 twice the owner stays and the bits go: a rule that lets it pass clears them."""
    k.chown(k.path(), UNCHANGED, UNCHANGED).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def chown_to_oneself(k: Kernel) -> None:
    """The owner that the file has already, so that no capability is needed."""
    k.chown(k.path(), k.geteuid(), k.getegid()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def lchown_unchanged(k: Kernel) -> None:
    """The form for symbolic links clears the bits of files."""
    k.lchown(k.path(), UNCHANGED, UNCHANGED).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def fchownat_unchanged(k: Kernel) -> None:
    """The *at sibling of chown, which chown(1) calls."""
    k.fchownat(AT_FDCWD, k.path(), UNCHANGED, UNCHANGED, 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def fchown_unchanged_inherited(k: Kernel) -> None:
    """A descriptor from before the filter, for reading only, and an owner that stays."""
    file = k.setup.open(k.path(), O_RDONLY)
    k.fchown(file, UNCHANGED, UNCHANGED).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def chown32_unchanged_i386(k: Kernel) -> None:
    """The 32-bit table has a second chown, under a name that lists may lack."""
    k.i386.raw("chown32", k.path(), UNCHANGED, UNCHANGED).decisive()


# By contents


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def write(k: Kernel) -> None:
    """One byte is enough: whoever may write may clear."""
    k.write(k.open(k.path(), O_WRONLY), _byte(k), 1).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def write_inherited(k: Kernel) -> None:
    """The file was opened before the filter, and no filter stops write."""
    file = k.setup.open(k.path(), O_WRONLY)
    k.write(file, _byte(k), 1).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def pwritev2(k: Kernel) -> None:
    """A write that lists of writing calls often forget."""
    vector = k.struct("QQ", _byte(k), 1, name="iov")
    k.pwritev2(k.open(k.path(), O_WRONLY), vector, 1, 0, 0, 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=OTHER)
def sendfile(k: Kernel) -> None:
    """The kernel copies from another file: nothing is written by a write call."""
    k.sendfile(k.open(k.path(), O_WRONLY), _other(k), NULL, 1).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=OTHER)
def copy_file_range(k: Kernel) -> None:
    """The kernel copies from file to file, by a call that few lists have."""
    target = k.open(k.path(), O_WRONLY)
    k.copy_file_range(_other(k), NULL, target, NULL, 1, 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def splice(k: Kernel) -> None:
    """A byte is moved from a pipe to the file."""
    pipe = k.buffer(8, name="pipe")
    k.pipe2(pipe, 0)
    k.write(k.load(pipe, 4, 4), _byte(k), 1)
    target = k.open(k.path(), O_WRONLY)
    k.splice(k.load(pipe, 0, 4), NULL, target, NULL, 1, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def aio_pwrite(k: Kernel) -> None:
    """The old asynchronous interface has its write in memory that io_submit points to."""
    context = k.buffer(8, name="context")
    file = k.open(k.path(), O_WRONLY)
    k.io_setup(1, context)
    iocb = k.struct(
        "QIIHHIQQQQQ", 0, 0, 0, IOCB_CMD_PWRITE, 0, file, _byte(k), 1, 0, 0, 0, name="iocb"
    )
    k.io_submit(k.load(context), 1, k.struct("Q", iocb, name="iocbs")).decisive()


# By length


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def truncate(k: Kernel) -> None:
    """Cuts the file and clears the bits, without opening it."""
    k.truncate(k.path(), 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def ftruncate(k: Kernel) -> None:
    """Cuts by descriptor: no path, and a number of its own."""
    k.ftruncate(k.open(k.path(), O_WRONLY), 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def truncate_same_length(k: Kernel) -> None:
    """The length that the file has already: nothing of it is lost, only the bits."""
    k.truncate(k.path(), len(CONTENT)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def truncate64_i386(k: Kernel) -> None:
    """The 32-bit table has a second truncate, with the length in two halves."""
    k.i386.raw("truncate64", k.path(), 0, 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def open_truncate(k: Kernel) -> None:
    """A flag of open cuts the file and clears the bits: nothing is written at all."""
    k.open(k.path(), O_WRONLY | O_TRUNC).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def open_read_only_truncate(k: Kernel) -> None:
    """The flag cuts even a file that is opened for reading, which rules on O_ACCMODE let pass."""
    k.open(k.path(), O_RDONLY | O_TRUNC).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def openat2_truncate(k: Kernel) -> None:
    """The flag is behind a pointer, where no filter can look."""
    how = k.struct("QQQ", O_WRONLY | O_TRUNC, 0, 0, name="how")
    k.openat2(AT_FDCWD, k.path(), how, how.size).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def creat(k: Kernel) -> None:
    """Truncates what is there, without any flags to look at."""
    k.creat(k.path(), WANTED).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def fallocate(k: Kernel) -> None:
    """Room is made behind the end; what the file says stays, only the bits go."""
    k.fallocate(k.open(k.path(), O_RDWR), FALLOC_FL_KEEP_SIZE, 0, PAGE).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def ioctl_unresvsp(k: Kernel) -> None:
    """An ioctl once of XFS alone punches holes on any file system that can: it is fallocate."""
    space = k.struct("HHIQQIIQQ", 0, 0, 0, 0, PAGE, 0, 0, 0, 0, name="space")
    k.ioctl(k.open(k.path(), O_RDWR), FS_IOC_UNRESVSP, space).decisive()


@FAMILY.variant(Technique.MEMORY_ALIAS)
def madvise_remove(k: Kernel) -> None:
    """Advice on a mapping punches a hole into the file, which no list of writing calls has."""
    file = k.open(k.path(), O_RDWR)
    mapping = k.mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
    k.madvise(mapping, PAGE, MADV_REMOVE).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_write(k: Kernel) -> None:
    """A ring writes a byte: no write call is made."""
    file = k.open(k.path(), O_WRONLY)
    k.ring().submit("WRITE", fd=file, addr=_byte(k), length=1).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_async_write(k: Kernel) -> None:
    """A kernel worker thread writes a byte."""
    file = k.open(k.path(), O_WRONLY)
    ring = k.ring().asynchronous(IOSQE_ASYNC)
    ring.submit("WRITE", fd=file, addr=_byte(k), length=1).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_ftruncate(k: Kernel) -> None:
    """A ring cuts the file: no truncate call is made."""
    file = k.open(k.path(), O_WRONLY)
    k.ring().submit("FTRUNCATE", fd=file).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_openat_truncate(k: Kernel) -> None:
    """A ring opens the file with the flag that cuts it."""
    k.ring().openat(AT_FDCWD, k.path(), O_WRONLY | O_TRUNC, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))
def io_uring_setup_only_openat_truncate(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().openat(AT_FDCWD, k.path(), O_WRONLY | O_TRUNC, 0).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_openat_truncate(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    ring.by(k).stores_only().openat(AT_FDCWD, k.path(), O_WRONLY | O_TRUNC, 0).decisive()


# Another file without the bits


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=OTHER)
def rename_replace(k: Kernel) -> None:
    """A file without the bits takes the target's name."""
    k.rename(k.near("f0"), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT)
def unlink_recreate(k: Kernel) -> None:
    """The file is deleted and made again without the bits."""
    k.unlink(k.path())
    k.open(k.path(), O_CREAT | O_WRONLY, WANTED).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=OTHER
)
def bind_mount(k: Kernel) -> None:
    """A file without the bits is mounted over the target."""
    k.mount(k.near("f0"), k.path(), NULL, MS_BIND, NULL).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def ptrace_neighbour(k: Kernel) -> None:
    """A neighbour without the filter is made to call chmod by planting an instruction in it."""
    deputy.traced_call(k, deputy.SYS_CHMOD, k.path(), WANTED)


# Controls that must not clear the bits


@FAMILY.variant(Technique.MEMORY_ALIAS, negative=True)
def store_to_mapping(k: Kernel) -> None:
    """A store through a shared mapping changes the contents and is no write to the kernel."""
    file = k.open(k.path(), O_RDWR)
    mapping = k.mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
    k.store(mapping, 0, 1, ord("y")).decisive()


@FAMILY.variant(Technique.FD_RELATIVE, negative=True)
def open_for_writing(k: Kernel) -> None:
    """Opening alone changes nothing, so a rule has to look at O_TRUNC or at what follows."""
    k.open(k.path(), O_WRONLY).decisive()


@FAMILY.variant(Technique.FD_RELATIVE, negative=True)
def fchmod_path_fd(k: Kernel) -> None:
    """An O_PATH descriptor is refused by fchmod."""
    k.fchmod(k.open(k.path(), O_PATH), WANTED).decisive().may_fail()


def _byte(k: Kernel) -> Buffer:
    return k.data(b"y", name="byte")


def _other(k: Kernel) -> Result:
    return k.open(k.near("f0"), O_RDONLY)
