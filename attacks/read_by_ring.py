"""Reading a secret file with the help of a ring: recipes of the family read-file."""

from __future__ import annotations

from attacks import file_contents as contents
from attacks.calls.operand import Fd
from attacks.consts import AT_FDCWD, O_RDONLY
from attacks.effects import SECRET
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

SIZE = len(SECRET)


def opened(k: Kernel) -> Result:
    return k.open(k.path(), O_RDONLY)


def got(k: Kernel) -> Buffer:
    """Where the secret is to arrive."""
    return k.buffer(64, name="got")


def read_it(k: Kernel, fd: Fd) -> None:
    """The decisive read of a file that was opened in some way."""
    k.read(fd, got(k), SIZE).decisive()


# Rings that the program makes


def io_uring_openat_read(k: Kernel) -> None:
    """A ring opens and reads: neither call is made."""
    file = k.ring().openat(AT_FDCWD, k.path(), O_RDONLY, 0)
    k.ring().submit("READ", fd=file, addr=got(k), length=SIZE).decisive()


def io_uring_openat2_readv(k: Kernel) -> None:
    """Other opcodes than those that a ring with restrictions would be denied first."""
    how, vector = contents.open_how(k, O_RDONLY), contents.iovec(k, got(k), SIZE)
    file = k.ring().openat2(AT_FDCWD, k.path(), how, contents.HOW_SIZE)
    k.ring().submit("READV", fd=file, addr=vector, length=1).decisive()


def io_uring_linked_direct(k: Kernel) -> None:
    """One submission opens into the ring's own table and reads: there is never a descriptor."""
    ring = k.ring()
    contents.linked_open(k, ring, O_RDONLY)
    ring.submit("READ", addr=got(k), length=SIZE, flags=contents.IOSQE_FIXED_FILE).decisive()


def io_uring_splice(k: Kernel) -> None:
    """A ring moves the bytes into a pipe, without the call splice."""
    file, to = opened(k), contents.pipe(k)
    ring = k.ring()
    ring.submit(
        "SPLICE", fd=to.writer, off=contents.WHERE_IT_IS, file_index=file, length=SIZE
    ).decisive()
    k.read(to.reader, got(k), SIZE)


def io_uring_read_fixed(k: Kernel) -> None:
    """The bytes go to memory that the ring has pinned, by an opcode of its own."""
    file, ring, memory = (
        opened(k),
        k.ring(),
        k.buffer(contents.PAGE, align=contents.PAGE, name="pinned"),
    )
    contents.register_buffer(k, ring, memory, contents.PAGE)
    ring.submit("READ_FIXED", fd=file, addr=memory, length=SIZE).decisive()


# Rings from before the filter


def io_uring_personality(k: Kernel) -> None:
    """Entries run with credentials that were stored in the ring before any restriction."""
    ring = k.setup.ring().registered_personality().by(k)
    read_it(k, ring.openat(AT_FDCWD, k.path(), O_RDONLY, 0))


def io_uring_inherited_file(k: Kernel) -> None:
    """The open file is in a ring's table: there is no descriptor that could be closed or seen."""
    ring = contents.ring_that_holds(k.setup, opened(k.setup)).by(k)
    ring.submit("READ", addr=got(k), length=SIZE, flags=contents.IOSQE_FIXED_FILE).decisive()


def io_uring_fixed_fd_install(k: Kernel) -> None:
    """A file in a ring's table becomes a descriptor again (6.8)."""
    ring = contents.ring_that_holds(k.setup, opened(k.setup)).by(k)
    read_it(k, ring.submit("FIXED_FD_INSTALL", flags=contents.IOSQE_FIXED_FILE))


def io_uring_msg_ring(k: Kernel) -> None:
    """A file in one ring's table is sent to a new ring, and no call on descriptors is made."""
    holder = contents.ring_that_holds(k.setup, opened(k.setup)).by(k)
    ring = contents.through_another_ring(k, holder)
    ring.submit("READ", addr=got(k), length=SIZE, flags=contents.IOSQE_FIXED_FILE).decisive()


def io_uring_inherited_sqpoll(k: Kernel) -> None:
    """A polled ring from before the filter opens and reads, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    submitter = ring.by(k).stores_only()
    file = submitter.openat(AT_FDCWD, k.path(), O_RDONLY, 0)
    submitter.submit("READ", fd=file, addr=got(k), length=SIZE).decisive()
