"""Overwriting a file with the help of a ring: recipes of the family overwrite-file."""

from __future__ import annotations

from attacks import file_contents as contents
from attacks.calls.operand import Fd
from attacks.consts import AT_FDCWD, O_WRONLY
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

NEW = b"something other\n"
SIZE = len(NEW)


def opened(k: Kernel, flags: int = O_WRONLY) -> Result:
    return k.open(k.path(), flags)


def new(k: Kernel) -> Buffer:
    """What is to stand in the file."""
    return k.data(NEW, name="new")


def write_it(k: Kernel, fd: Fd) -> None:
    """The decisive write to a file that was opened in some way."""
    k.write(fd, new(k), SIZE).decisive()


def io_uring_write(k: Kernel) -> None:
    """A ring writes, without the call."""
    k.ring().submit("WRITE", fd=opened(k), addr=new(k), length=SIZE).decisive()


def io_uring_writev(k: Kernel) -> None:
    """The opcode of the first ring that there was: one that restricts WRITE may allow it."""
    vector = contents.iovec(k, new(k), SIZE)
    k.ring().submit("WRITEV", fd=opened(k), addr=vector, length=1).decisive()


def io_uring_write_fixed(k: Kernel) -> None:
    """The bytes come from memory that the ring has pinned, by an opcode of its own."""
    ring, memory = k.ring(), _pinned(k)
    contents.register_buffer(k, ring, memory, contents.PAGE)
    ring.submit("WRITE_FIXED", fd=opened(k), addr=memory, length=SIZE).decisive()


def io_uring_writev_fixed(k: Kernel) -> None:
    """The newest opcode that writes (6.15): lists of opcodes from before do not have it."""
    ring, memory = k.ring(), _pinned(k)
    contents.register_buffer(k, ring, memory, contents.PAGE)
    vector = contents.iovec(k, memory, SIZE)
    ring.submit("WRITEV_FIXED", fd=opened(k), addr=vector, length=1).decisive()


def io_uring_splice(k: Kernel) -> None:
    """A ring moves the bytes out of a pipe, without the call splice."""
    source = contents.filled_pipe(k, new(k))
    contents.spliced(k.ring(), source, opened(k), SIZE).decisive()


def io_uring_tee_splice(k: Kernel) -> None:
    """A ring copies from pipe to pipe and then moves the bytes into the file."""
    source, between = contents.filled_pipe(k, new(k)), contents.pipe(k)
    k.ring().submit("TEE", fd=between.writer, file_index=source.reader, length=SIZE)
    contents.spliced(k.ring(), between, opened(k), SIZE).decisive()


def io_uring_pipe_splice(k: Kernel) -> None:
    """A ring makes, fills and empties the pipe (6.16): no call on pipes is made."""
    ring, ends = k.ring(), k.buffer(8, name="pipe")
    ring.submit("PIPE", addr=ends)
    between = contents.Pipe(k.load(ends, 0, 4), k.load(ends, 4, 4))
    ring.submit("WRITE", fd=between.writer, addr=new(k), length=SIZE)
    contents.spliced(k.ring(), between, opened(k), SIZE).decisive()


def io_uring_linked_direct(k: Kernel) -> None:
    """One submission opens into the ring's own table and writes: there is never a descriptor."""
    ring = k.ring()
    contents.linked_open(k, ring, O_WRONLY)
    ring.submit("WRITE", addr=new(k), length=SIZE, flags=contents.IOSQE_FIXED_FILE).decisive()


def io_uring_inherited_sqpoll(k: Kernel) -> None:
    """A polled ring from before the filter opens and writes, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    submitter = ring.by(k).stores_only()
    file = submitter.openat(AT_FDCWD, k.path(), O_WRONLY, 0)
    submitter.submit("WRITE", fd=file, addr=new(k), length=SIZE).decisive()


def _pinned(k: Kernel) -> Buffer:
    """A page of memory that begins with what is to be written."""
    memory = k.buffer(contents.PAGE, align=contents.PAGE, name="pinned")
    k.copy(memory, new(k), SIZE)
    return memory
