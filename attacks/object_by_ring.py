"""Making any file system object with the help of a ring: recipes of create-filesystem-object."""

from __future__ import annotations

from attacks.consts import (
    AT_FDCWD,
    O_CREAT,
    O_RDWR,
)
from attacks.kernel import Kernel

MODE = 0o644
NOWHERE = "nowhere"


def io_uring_mkdirat(k: Kernel) -> None:
    """The kernel makes the directory on behalf of a ring."""
    k.ring().mkdirat(AT_FDCWD, k.path(), 0o755).decisive()


def io_uring_openat(k: Kernel) -> None:
    """The kernel creates the file on behalf of a ring."""
    k.ring().openat(AT_FDCWD, k.path(), O_CREAT | O_RDWR, MODE).decisive()


def io_uring_symlinkat(k: Kernel) -> None:
    """A ring makes the symbolic link."""
    k.ring().symlinkat(k.text(NOWHERE), AT_FDCWD, k.path()).decisive()


def io_uring_linkat(k: Kernel) -> None:
    """A ring gives a file one more name."""
    k.ring().linkat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), 0).decisive()


def io_uring_setup_only_mkdirat(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().mkdirat(AT_FDCWD, k.path(), 0o755).decisive()


def io_uring_sqpoll_mkdirat(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    k.ring(sqpoll=True).mkdirat(AT_FDCWD, k.path(), 0o755).decisive()


def io_uring_inherited_mkdirat(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    k.setup.ring().by(k).mkdirat(AT_FDCWD, k.path(), 0o755).decisive()


def io_uring_inherited_sqpoll_mkdirat(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    ring.by(k).stores_only().mkdirat(AT_FDCWD, k.path(), 0o755).decisive()


def io_uring_i386_mkdirat(k: Kernel) -> None:
    """The ring's calls have entries in the 32-bit table too."""
    k.i386.ring().mkdirat(AT_FDCWD, k.path(), 0o755).decisive()
