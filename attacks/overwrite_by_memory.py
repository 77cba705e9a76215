"""Overwriting a file that is mapped: recipes of the family overwrite-file."""

from __future__ import annotations

from attacks import file_contents as contents
from attacks.consts import (
    MAP_PRIVATE,
    MAP_SHARED,
    O_RDONLY,
    O_RDWR,
    PROT_READ,
    PROT_WRITE,
    Named,
)
from attacks.kernel import Kernel
from attacks.overwrite_by_ring import SIZE, new, opened
from attacks.recorder import Result

MADV_REMOVE = Named(9, "MADV_REMOVE")


# Stores, and calls that store


def mmap_shared(k: Kernel) -> None:
    """The file becomes memory; stores write it, and no call does."""
    _store(k, _mapped(k).decisive())


def mmap_shared_validate(k: Kernel) -> None:
    """A type of mapping of its own, which a rule that compares the flags with MAP_SHARED misses."""
    both = PROT_READ | PROT_WRITE
    memory = contents.mapped(k, opened(k, O_RDWR), both, contents.MAP_SHARED_VALIDATE)
    _store(k, memory.decisive())


def mmap_mprotect(k: Kernel) -> None:
    """The mapping is made for reading and becomes writable later."""
    memory = contents.mapped(k, opened(k, O_RDWR), PROT_READ)
    k.mprotect(memory, contents.PAGE, PROT_READ | PROT_WRITE).decisive()
    _store(k, memory)


def read_into_mapping(k: Kernel) -> None:
    """Reading another file writes this one, because its memory is where the bytes go."""
    k.read(k.open(k.near("src"), O_RDONLY), _mapped(k), SIZE).decisive()


def getrandom_into_mapping(k: Kernel) -> None:
    """Every call with an answer in memory writes files: this one has no descriptor at all."""
    k.getrandom(_mapped(k), SIZE, 0).decisive()


def uname_into_mapping(k: Kernel) -> None:
    """A call that every filter allows writes the machine's name over the file."""
    k.uname(_mapped(k)).decisive()


def process_vm_writev_self(k: Kernel) -> None:
    """A call that writes another process's memory is used on the caller's own mapping."""
    remote = contents.iovec(k, _mapped(k), SIZE)
    local = contents.iovec(k, new(k), SIZE)
    k.process_vm_writev(k.getpid(), local, 1, remote, 1, 0).decisive()


def io_uring_read_into_mapping(k: Kernel) -> None:
    """What the ring is asked for is to read another file."""
    source, memory = k.open(k.near("src"), O_RDONLY), _mapped(k)
    k.ring().submit("READ", fd=source, addr=memory, length=SIZE).decisive()


def io_uring_readv_fixed_into_mapping(k: Kernel) -> None:
    """The file's own memory is pinned and read into: only a registration mentions it."""
    ring, memory = k.ring(), _mapped(k)
    contents.register_buffer(k, ring, memory, contents.PAGE)
    vector = contents.iovec(k, memory, SIZE)
    source = k.open(k.near("src"), O_RDONLY)
    ring.submit("READV_FIXED", fd=source, addr=vector, length=1).decisive()


# Advice that punches a hole


def madvise_remove(k: Kernel) -> None:
    """Advice on memory punches a hole into the file that is mapped there."""
    k.madvise(_mapped(k), contents.PAGE, MADV_REMOVE).decisive()


def process_madvise_remove(k: Kernel) -> None:
    """Since 6.13 a process may give itself any advice by descriptor: madvise is not called."""
    vector = contents.iovec(k, _mapped(k), contents.PAGE)
    k.process_madvise(k.pidfd_open(k.getpid(), 0), vector, 1, MADV_REMOVE, 0).decisive()


def io_uring_madvise_remove(k: Kernel) -> None:
    """A ring gives the advice that punches a hole."""
    memory = _mapped(k)
    k.ring().submit("MADVISE", addr=memory, length=contents.PAGE, op_flags=MADV_REMOVE).decisive()


# The 32-bit table


def mmap2_i386(k: Kernel) -> None:
    """This mmap has a name that the 64-bit table lacks."""
    _store(k, _mapped_by_mmap2(k).decisive())


def old_mmap_i386(k: Kernel) -> None:
    """All six arguments are behind one pointer, where no filter can look."""
    both = PROT_READ | PROT_WRITE
    memory = contents.mapped_by_old_mmap(k, opened(k.i386, O_RDWR), both, MAP_SHARED)
    _store(k, memory.decisive())


def madvise_remove_i386(k: Kernel) -> None:
    """The advice that punches a hole, for memory that mmap2 put within reach of 32 bits."""
    k.i386.madvise(_mapped_by_mmap2(k), contents.PAGE, MADV_REMOVE).decisive()


# From before the filter


def inherited_fd_mmap(k: Kernel) -> None:
    """A descriptor from before the filter is mapped, and then no call is needed."""
    file = opened(k.setup, O_RDWR)
    _store(k, contents.mapped_writable(k, file).decisive())


def inherited_mapping(k: Kernel) -> None:
    """The file was mapped before the filter: storing to memory is all that happens."""
    _store(k, _mapped(k.setup)).decisive()


# What does not reach the file


def mmap_private(k: Kernel) -> None:
    """Stores to a private mapping stay in the process."""
    both = PROT_READ | PROT_WRITE
    _store(k, contents.mapped(k, opened(k, O_RDWR), both, MAP_PRIVATE).decisive())


def proc_self_mem_read_only_mapping(k: Kernel) -> None:
    """/proc/self/mem writes over protections, and not into a shared mapping for reading."""
    memory = contents.mapped(k, opened(k, O_RDWR), PROT_READ)
    own = k.open(k.proc("self/mem"), O_RDWR)
    k.pwrite64(own, new(k), SIZE, memory).decisive().may_fail()


def _mapped(k: Kernel) -> Result:
    return contents.mapped_writable(k, opened(k, O_RDWR))


def _mapped_by_mmap2(k: Kernel) -> Result:
    file = opened(k.i386, O_RDWR)
    return contents.mapped_by_mmap2(k, file, PROT_READ | PROT_WRITE, MAP_SHARED)


def _store(k: Kernel, memory: Result) -> Result:
    return k.copy(memory, new(k), SIZE)
