"""Creating a regular file with the help of a ring: recipes of the family create-file."""

from __future__ import annotations

from attacks.consts import (
    AT_FDCWD,
    IOSQE_ASYNC,
    O_CREAT,
    O_RDWR,
)
from attacks.kernel import Kernel
from attacks.recorder import Buffer

MODE = 0o644
HOW_SIZE = 24


def open_how(k: Kernel, flags: int) -> Buffer:
    return k.struct("QQQ", flags, MODE, 0, name="how")


def io_uring_openat(k: Kernel) -> None:
    """The kernel opens on behalf of a ring: no open call is ever made."""
    k.ring().openat(AT_FDCWD, k.path(), O_CREAT | O_RDWR, MODE).decisive()


def io_uring_async_openat(k: Kernel) -> None:
    """A kernel worker thread creates the file."""
    ring = k.ring().asynchronous(IOSQE_ASYNC)
    ring.openat(AT_FDCWD, k.path(), O_CREAT | O_RDWR, MODE).decisive()


def io_uring_openat_direct(k: Kernel) -> None:
    """The file goes into the ring's own table, so not even a descriptor appears."""
    ring = k.ring()
    ring.register_files(4)
    ring.openat(AT_FDCWD, k.path(), O_CREAT | O_RDWR, MODE, slot=1).decisive()


def io_uring_openat2(k: Kernel) -> None:
    """The newest open, by a ring."""
    how = open_how(k, O_CREAT | O_RDWR)
    k.ring().openat2(AT_FDCWD, k.path(), how, HOW_SIZE).decisive()


def io_uring_setup_only_openat(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().openat(AT_FDCWD, k.path(), O_CREAT | O_RDWR, MODE).decisive()


def io_uring_sqpoll_openat(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    k.ring(sqpoll=True).openat(AT_FDCWD, k.path(), O_CREAT | O_RDWR, MODE).decisive()


def io_uring_inherited_openat(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    ring = k.setup.ring().by(k)
    ring.openat(AT_FDCWD, k.path(), O_CREAT | O_RDWR, MODE).decisive()


def io_uring_personality_openat(k: Kernel) -> None:
    """Entries run with credentials that were stored in the ring before any restriction."""
    ring = k.setup.ring().registered_personality().by(k)
    ring.openat(AT_FDCWD, k.path(), O_CREAT | O_RDWR, MODE).decisive()


def io_uring_inherited_sqpoll_openat(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    submitter = ring.by(k).stores_only()
    submitter.openat(AT_FDCWD, k.path(), O_CREAT | O_RDWR, MODE).decisive()


def io_uring_i386_openat(k: Kernel) -> None:
    """The ring's calls have entries in the 32-bit table too."""
    k.i386.ring().openat(AT_FDCWD, k.path(), O_CREAT | O_RDWR, MODE).decisive()
