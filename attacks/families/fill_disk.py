"""Fill a file system: take 128 KiB of it.

The witness asks the target's file system how many blocks are free, before and after, so it does not
matter whether the space has a name.
"""

import struct

from attacks import deputy, witness
from attacks.calls.operand import Fd
from attacks.consts import (
    MAP_SHARED,
    NULL,
    O_RDONLY,
    O_RDWR,
    O_TMPFILE,
    O_WRONLY,
    PROT_READ,
    PROT_WRITE,
    Named,
)
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Recorder, Result

FAMILY = Family(
    "fill-disk",
    title="Fill a file system",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, TARGET),),
    stays=True,
    attack_technique="T1499",
    group="file system",
    unrecorded={
        "memfd_create and fallocate": "takes memory of the machine, not space of a file system",
        "shmget and shmat": "takes memory of the machine, not space of a file system",
        "fcntl(F_SETPIPE_SZ)": "takes memory of the machine, not space of a file system",
        "setxattr of 60000 bytes": "tmpfs counts attributes as inodes, not as blocks",
        "ioctl(FS_IOC_ZERO_RANGE)": "tmpfs lacks this mode of fallocate",
        "mkdir again and again": "takes inodes, not blocks: see create-directory",
    },
)
SIZE = 128 * 1024
PAGE = 4096
SOURCE = (Object(ObjectKind.FILE, f"{NEAR}full", content=bytes(SIZE)),)
FALLOC_FL_KEEP_SIZE = Named(1, "FALLOC_FL_KEEP_SIZE")
FS_IOC_RESVSP = Named(0x40305828, "FS_IOC_RESVSP")
FS_IOC_RESVSP64 = Named(0x4030582A, "FS_IOC_RESVSP64")
FS_IOC_RESVSP_32 = Named(0x402C5828, "FS_IOC_RESVSP_32")
MADV_POPULATE_WRITE = Named(23, "MADV_POPULATE_WRITE")
IOCB_CMD_PWRITE = Named(1, "IOCB_CMD_PWRITE")
_FREE_BLOCKS = 24
"""``f_bfree`` in ``struct statfs``."""


@FAMILY.witness
def blocks_are_gone(w: Kernel) -> None:
    before, after = (w.buffer(120, name=name) for name in ("before", "after"))
    w.setup.statfs(w.parent(), before)
    w.statfs(w.parent(), after)
    taken = w.add(w.load(after, _FREE_BLOCKS), SIZE // PAGE)
    w.store(after, _FREE_BLOCKS, 8, taken)
    witness.same(w, before.at(_FREE_BLOCKS), after.at(_FREE_BLOCKS), 8)


@FAMILY.variant(Technique.BASELINE)
def fallocate(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.fallocate(_file(k), 0, 0, SIZE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def fallocate_keep_size(k: Kernel) -> None:
    """The blocks lie beyond the end of the file, so its size, and limits on it, say nothing."""
    k.fallocate(_file(k), FALLOC_FL_KEEP_SIZE, 0, SIZE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def write(k: Kernel) -> None:
    """Whoever may write may fill: no rule on allocation is asked."""
    k.write(_file(k), k.buffer(SIZE, name="zeros"), SIZE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def writev(k: Kernel) -> None:
    """One small piece of memory is written many times by one call."""
    piece = k.buffer(PAGE, name="zeros")
    count = SIZE // PAGE
    k.writev(
        _file(k), k.struct("Q" * 2 * count, *(piece, PAGE) * count, name="iov"), count
    ).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def pwritev2(k: Kernel) -> None:
    """The newest of the writing calls has its own number."""
    iov = k.struct("QQ", k.buffer(SIZE, name="zeros"), SIZE, name="iov")
    k.pwritev2(_file(k), iov, 1, 0, 0, 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def fallocate_inherited_fd(k: Kernel) -> None:
    """The file was opened before the filter: no rule on open, and no path rule, sees it."""
    k.fallocate(k.setup.open(k.path(), O_WRONLY), 0, 0, SIZE).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def fallocate_tmpfile(k: Kernel) -> None:
    """The file never has a name, so nobody finds what fills the file system."""
    file = k.open(k.parent(), O_TMPFILE | O_RDWR, 0o600)
    k.fallocate(file, 0, 0, SIZE).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def fallocate_unlinked(k: Kernel) -> None:
    """A file that has lost its name keeps its blocks for as long as it is open."""
    file = _file(k)
    k.unlink(k.path())
    k.fallocate(file, 0, 0, SIZE).decisive()


# fallocate as an ioctl


@FAMILY.variant(Technique.MULTIPLEXER)
def ioctl_resvsp(k: Kernel) -> None:
    """An ioctl that XFS brought works on every file system: it is fallocate by another name."""
    k.ioctl(_file(k), FS_IOC_RESVSP, _space(k)).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def ioctl_resvsp64(k: Kernel) -> None:
    """The same ioctl has a second number."""
    k.ioctl(_file(k), FS_IOC_RESVSP64, _space(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def ioctl_resvsp_i386(k: Kernel) -> None:
    """For 32-bit programs the structure is shorter, and so the ioctl has yet another number."""
    space = k.data(struct.pack("<hhqqiI4i", 0, 0, 0, SIZE, *(0,) * 6), name="space")
    k.i386.ioctl(_file(k), FS_IOC_RESVSP_32, space).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def fallocate_i386(k: Kernel) -> None:
    """In the 32-bit table offset and length take two places each, the low word first."""
    k.i386.raw("fallocate", _file(k), 0, 0, 0, SIZE, 0).decisive()


# Through a mapping


@FAMILY.variant(Technique.MEMORY_ALIAS)
def mmap_store(k: Kernel) -> None:
    """Each page of a mapping is allocated when it is touched: no call fills anything."""
    memory = _mapping(k)
    zeros = k.buffer(SIZE, name="zeros")
    k.copy(memory, zeros, SIZE).decisive()


@FAMILY.variant(Technique.MEMORY_ALIAS)
def madvise_populate_write(k: Kernel) -> None:
    """A piece of advice touches all pages at once."""
    k.madvise(_mapping(k), SIZE, MADV_POPULATE_WRITE).decisive()


@FAMILY.variant(Technique.MEMORY_ALIAS, objects=SOURCE)
def read_into_mapping(k: Kernel) -> None:
    """Reading fills the file where what is read lands in a mapping of it."""
    memory = _mapping(k)
    # Of a file, not of /dev/zero: that gives a ring less where somebody else waits for the core.
    k.read(k.open(k.near("full"), O_RDONLY), memory, SIZE).decisive()


# From one file to another


@FAMILY.variant(Technique.NEWER_SYSCALL, objects=SOURCE)
def copy_file_range(k: Kernel) -> None:
    """The kernel copies one file into another without any write."""
    source = k.open(k.near("full"), O_RDONLY)
    k.copy_file_range(source, NULL, _file(k), NULL, SIZE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def sendfile_zero(k: Kernel) -> None:
    """A device without end is a source that costs nothing."""
    source = k.open(k.text("/dev/zero"), O_RDONLY)
    k.sendfile(_file(k), source, NULL, SIZE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def splice_zero(k: Kernel) -> None:
    """A pipe is filled from the device and emptied into the file, and nothing is written."""
    source, file = k.open(k.text("/dev/zero"), O_RDONLY), _file(k)
    ends = k.buffer(8, name="pipe")
    k.pipe2(ends, 0)
    out, into = k.load(ends, 0, 4), k.load(ends, 4, 4)
    k.splice(source, NULL, into, NULL, SIZE // 2, 0)
    k.splice(out, NULL, file, NULL, SIZE // 2, 0)
    k.splice(source, NULL, into, NULL, SIZE // 2, 0)
    k.splice(out, NULL, file, NULL, SIZE // 2, 0).decisive()


# Asynchronous


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_fallocate(k: Kernel) -> None:
    """A ring allocates: there is no fallocate call."""
    k.ring().submit("FALLOCATE", fd=_file(k), addr=SIZE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_write(k: Kernel) -> None:
    """A ring writes: the file grows by no write call."""
    zeros = k.buffer(SIZE, name="zeros")
    k.ring().submit("WRITE", fd=_file(k), addr=zeros, length=SIZE).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_fallocate(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    ring, file = k.setup.ring(), k.setup.open(k.path(), O_WRONLY)
    ring.by(k).submit("FALLOCATE", fd=file, addr=SIZE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_submit_pwrite(k: Kernel) -> None:
    """The older asynchronous interface has calls of its own, and the write is in a structure."""
    context, file = k.buffer(8, name="context"), _file(k)
    block = k.struct(
        "QIIHHIQQQQII", 0, 0, 0, IOCB_CMD_PWRITE, 0, file, k.buffer(SIZE, name="zeros"), SIZE,
        0, 0, 0, 0, name="iocb",
    )  # fmt: skip
    k.io_setup(4, context)
    handle = k.load(context)
    k.io_submit(handle, 1, k.struct("Q", block, name="blocks")).decisive()
    k.io_getevents(handle, 1, 1, k.buffer(32, name="event"), NULL)


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        thread.fallocate(_file(thread), 0, 0, SIZE)


# Controls that must not fill anything


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def ftruncate(k: Kernel) -> None:
    """A file can be made long without a single block."""
    k.ftruncate(_file(k), SIZE).decisive()


@FAMILY.variant(Technique.MEMORY_ALIAS, negative=True)
def mmap_untouched(k: Kernel) -> None:
    """A mapping that nobody touches takes nothing."""
    file = k.open(k.path(), O_RDWR)
    k.ftruncate(file, SIZE)
    _map(k, file).decisive()


def _file(k: Recorder) -> Result:
    return k.raw("open", k.path(), O_WRONLY)


def _mapping(k: Kernel) -> Result:
    file = k.open(k.path(), O_RDWR)
    k.ftruncate(file, SIZE)
    return _map(k, file)


def _map(k: Kernel, file: Fd) -> Result:
    return k.mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)


def _space(k: Kernel) -> Buffer:
    """``struct space_resv``: a range that begins at the start of the file."""
    return k.data(struct.pack("<hhxxxxqqiI4i", 0, 0, 0, SIZE, *(0,) * 6), name="space")
