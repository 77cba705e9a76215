"""Moving bytes into and out of files: what the families on a file's contents share.

The structures are those of x86-64 unless a name ends in 32.  Where a recipe needs a descriptor it
gets one, so that the family says how the file is opened and this module how the bytes travel.
"""

from __future__ import annotations

from msgspec import Struct

from attacks.calls.operand import Fd
from attacks.consts import (
    AF_UNIX,
    AT_FDCWD,
    IORING_REGISTER_FILES,
    MAP_PRIVATE,
    MAP_SHARED,
    NULL,
    O_RDONLY,
    PROT_READ,
    PROT_WRITE,
    SOCK_DGRAM,
    Named,
)
from attacks.effects import Object, ObjectKind
from attacks.family import NEAR
from attacks.kernel import Kernel
from attacks.recorder import Arg, Buffer, Result
from attacks.ring import Ring

PAGE = 4096
MAP_SHARED_VALIDATE = Named(3, "MAP_SHARED_VALIDATE")
SEEK_END = Named(2, "SEEK_END")
RESOLVE_IN_ROOT = Named(0x10, "RESOLVE_IN_ROOT")
SOL_SOCKET = Named(1, "SOL_SOCKET")
SCM_RIGHTS = Named(1, "SCM_RIGHTS")
SYS_RECVMSG = Named(17, "SYS_RECVMSG")
IOCB_CMD_PREAD = Named(0, "IOCB_CMD_PREAD")
IOCB_CMD_PWRITE = Named(1, "IOCB_CMD_PWRITE")
IOCB_CMD_PWRITEV = Named(8, "IOCB_CMD_PWRITEV")
IORING_REGISTER_BUFFERS = Named(0, "IORING_REGISTER_BUFFERS")
IORING_MSG_SEND_FD = Named(1, "IORING_MSG_SEND_FD")
IORING_MSG_RING_CQE_SKIP = Named(1, "IORING_MSG_RING_CQE_SKIP")
IOSQE_FIXED_FILE = Named(1, "IOSQE_FIXED_FILE")
IOSQE_IO_LINK = Named(4, "IOSQE_IO_LINK")
SYS_TRUNCATE = Named(76, "SYS_truncate")
RWF_APPEND = Named(0x10, "RWF_APPEND")
RWF_NOAPPEND = Named(0x20, "RWF_NOAPPEND")
FALLOC_FL_KEEP_SIZE = Named(1, "FALLOC_FL_KEEP_SIZE")
FALLOC_FL_PUNCH_HOLE = Named(2, "FALLOC_FL_PUNCH_HOLE")
FS_IOC_RESVSP64 = Named(0x4030582A, "FS_IOC_RESVSP64")
FS_IOC_UNRESVSP64 = Named(0x4030582B, "FS_IOC_UNRESVSP64")

WHERE_IT_IS = -1
"""As an offset: the file's own position."""
HOW_SIZE = 24
_NO_OFFSET = -1
"""What splice has in the place of an offset where the other side is a pipe."""
_HANDLE_BYTES = 128
_CONTROL_SIZE = 64
_CONTROL_HEADER, _CONTROL_HEADER32 = 16, 12


# Structures


def iovec(k: Kernel, memory: Arg, size: int) -> Buffer:
    return k.struct("QQ", memory, size, name="iov")


def iovec32(k: Kernel, memory: Arg, size: int) -> Buffer:
    return k.struct("II", memory, size, name="iov32")


def open_how(k: Kernel, flags: int, resolve: int = 0) -> Buffer:
    return k.struct("QQQ", flags, 0, resolve, name="how")


def file_range(k: Kernel, size: int) -> Buffer:
    """``struct space_resv``: whence and start are 0, the file's beginning."""
    return k.struct("HHIqqIIQQ", 0, 0, 0, 0, size, 0, 0, 0, 0, name="space")


def file_range32(k: Kernel, size: int) -> Buffer:
    """The same without padding, as the 32-bit table wants it."""
    return k.struct("HHqqIIQQ", 0, 0, 0, size, 0, 0, 0, 0, name="space32")


# Pipes


class Pipe(Struct, frozen=True):
    """The descriptors of a pipe."""

    reader: Result
    writer: Result


def pipe(k: Kernel) -> Pipe:
    ends = k.buffer(8, name="pipe")
    k.pipe2(ends, 0)
    return Pipe(k.load(ends, 0, 4), k.load(ends, 4, 4))


def filled_pipe(k: Kernel, text: Buffer) -> Pipe:
    """A pipe that holds the bytes."""
    new = pipe(k)
    k.write(new.writer, text, text.size)
    return new


# Mappings


def mapped(k: Kernel, fd: Fd, prot: int, flags: int = MAP_SHARED) -> Result:
    """The file's first page in memory."""
    return k.mmap(NULL, PAGE, prot, flags, fd, 0)


def mapped_writable(k: Kernel, fd: Fd) -> Result:
    return mapped(k, fd, PROT_READ | PROT_WRITE)


def mapped_by_mmap2(k: Kernel, fd: Fd, prot: int, flags: int) -> Result:
    """Through the 32-bit table, whose mmap2 counts the offset in pages."""
    return k.i386.raw("mmap2", NULL, PAGE, prot, flags, fd, 0)


def mapped_by_old_mmap(k: Kernel, fd: Fd, prot: int, flags: int) -> Result:
    """Through the 32-bit table, whose oldest mmap has its six arguments in memory."""
    arguments = k.struct("IIIIII", 0, PAGE, prot, flags, fd, 0, name="mmap_arg")
    return k.i386.raw("mmap", arguments)


def shown(k: Kernel, fd: Fd, size: int) -> None:
    """Brings a file's first bytes into the program's own memory without a read call."""
    k.copy(k.buffer(size, name="got"), mapped(k, fd, PROT_READ, MAP_PRIVATE), size)


# Asynchronous input and output


def aio(
    k: Kernel,
    fd: Fd,
    operation: int,
    memory: Arg,
    size: int,
    *,
    flags: int = 0,
    pointer: str = "Q",
) -> Result:
    """Submits one operation, which on a regular file is done when the call returns.

    ``pointer`` is the width of what the array of pointers holds.
    """
    context = k.buffer(8, name="context")
    k.io_setup(1, context)
    block = k.struct(
        "QIIHHIQQQQII", 0, 0, flags, operation, 0, fd, memory, size, 0, 0, 0, 0, name="iocb"
    )
    blocks = k.struct(pointer, block, name="iocbs")
    return k.io_submit(k.load(context), 1, blocks)


# Rings


def linked_open(k: Kernel, ring: Ring, flags: int) -> None:
    """Opens the target into the ring's first slot, together with what is submitted next."""
    ring.register_files(1)
    ring.wait_for_next(
        "OPENAT",
        fd=AT_FDCWD,
        addr=k.path(),
        op_flags=flags,
        file_index=1,
        flags=IOSQE_IO_LINK,
    )


def register_buffer(k: Kernel, ring: Ring, memory: Arg, size: int) -> None:
    """Pins memory for the operations on fixed buffers."""
    k.raw("io_uring_register", ring.fd, IORING_REGISTER_BUFFERS, iovec(k, memory, size), 1)


def spliced(ring: Ring, source: Pipe, to: Fd, size: int) -> Result:
    """Moves bytes out of a pipe to the beginning of a file.

    The ring must be new: the kernel does this in a thread, and a ring with answers that nobody took
    does not wait for the next.
    """
    return ring.submit("SPLICE", fd=to, file_index=source.reader, addr=_NO_OFFSET, length=size)


def ring_that_holds(k: Kernel, fd: Fd) -> Ring:
    """A new ring with the file as its first registered one; the descriptor is closed."""
    ring = k.ring()
    table = k.struct("I", fd, name="files")
    k.raw("io_uring_register", ring.fd, IORING_REGISTER_FILES, table, 1)
    k.close(fd)
    return ring


def through_another_ring(k: Kernel, holder: Ring) -> Ring:
    """A new ring, to which ``holder`` sent its first registered file."""
    ring = k.ring()
    ring.register_files(1)
    holder.submit(
        "MSG_RING",
        fd=ring.fd,
        addr=IORING_MSG_SEND_FD,
        file_index=1,
        op_flags=IORING_MSG_RING_CQE_SKIP,
    )
    return ring


# Descriptors that come in a message


class Message(Struct, frozen=True):
    """Where to receive: a ``msghdr`` and the control data that it points to."""

    header: Buffer
    control: Buffer

    def descriptor(self, k: Kernel) -> Result:
        """What was received."""
        return k.load(self.control, _CONTROL_HEADER, 4)

    def descriptor32(self, k: Kernel) -> Result:
        return k.load(self.control, _CONTROL_HEADER32, 4)


def queued_descriptor(k: Kernel, fd: Fd) -> Result:
    """A socket at which a message with the descriptor waits; the descriptor is closed."""
    pair = k.buffer(8, name="sockets")
    k.socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)
    control = k.struct("QIIII", _CONTROL_HEADER + 4, SOL_SOCKET, SCM_RIGHTS, fd, 0, name="cmsg")
    vector = iovec(k, k.text("x"), 1)
    header = k.struct("QIIQQQQII", 0, 0, 0, vector, 1, control, control.size, 0, 0, name="msg")
    k.sendmsg(k.load(pair, 0, 4), header, 0)
    k.close(fd)
    return k.load(pair, 4, 4)


def empty_message(k: Kernel) -> Message:
    control = k.buffer(_CONTROL_SIZE, name="control")
    vector = iovec(k, k.buffer(8), 1)
    header = k.struct("QIIQQQQII", 0, 0, 0, vector, 1, control, control.size, 0, 0, name="msg")
    return Message(header, control)


def empty_message32(k: Kernel) -> Message:
    control = k.buffer(_CONTROL_SIZE, name="control")
    vector = iovec32(k, k.buffer(8), 1)
    header = k.struct("IIIIIII", 0, 0, vector, 1, control, control.size, 0, name="msg32")
    return Message(header, control)


# Handles


def directory_by_handle(k: Kernel, flags: int) -> Result:
    """The target's directory, opened by its handle."""
    handle = k.buffer(8 + _HANDLE_BYTES, name="handle")
    k.store(handle, 0, 4, _HANDLE_BYTES)
    k.name_to_handle_at(AT_FDCWD, k.parent(), handle, k.buffer(8, name="mount_id"), 0)
    return k.open_by_handle_at(AT_FDCWD, handle, flags)


# What witnesses look at


class Watched(Struct, frozen=True):
    """An open file that a witness looks at."""

    fd: Result

    def byte_at(self, w: Kernel, offset: int) -> Result:
        """1 where the file is longer than ``offset``, else 0."""
        return w.pread64(self.fd, w.buffer(8, name="byte"), 1, offset)

    def begins_with(self, w: Kernel, text: bytes) -> Result:
        """1 where the file begins with the text, else 0."""
        found = w.buffer(len(text), name="found")
        w.copy(found, w.buffer(len(text), name="zeros"), len(text))
        w.pread64(self.fd, found, len(text), 0)
        return w.compare(found, w.data(text, name="old"), len(text))


def watched(w: Kernel) -> Watched:
    """The file that is the target before the attack, whatever is done to its name."""
    return Watched(w.setup.openat(AT_FDCWD, w.path(), O_RDONLY))


def watched_by_name(w: Kernel) -> Watched:
    """The file that has the target's name when the witness looks."""
    return Watched(w.openat(AT_FDCWD, w.path(), O_RDONLY))


def not_both(w: Kernel, a: Result, b: Result) -> None:
    """Goes on unless both are 1."""
    w.expect(w.add(a, b), 2, 0)


# Objects


def beside(name: str, content: bytes) -> Object:
    """A file on the target's file system, for ``k.near(name)``."""
    return Object(ObjectKind.FILE, f"{NEAR}{name}", 0o644, content)
