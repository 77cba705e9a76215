"""Pin memory: take pages that cannot be swapped out or reclaimed.

The witness reads the subject's own account of locked and pinned memory in procfs.
"""

from attacks import deputy, witness
from attacks.consts import (
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_SHARED,
    NULL,
    PROT_READ,
    PROT_WRITE,
    Named,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "pin-memory",
    title="Pin memory",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    attack_technique="T1499",
    group="file system",
    unrecorded={
        "shmctl(SHM_LOCK)": "the pages are pinned for the segment, in no process's account",
    },
)
SIZE = 64 * 1024
PAGE = 4096
MAP_LOCKED = Named(0x2000, "MAP_LOCKED")
MCL_CURRENT = Named(1, "MCL_CURRENT")
MCL_FUTURE = Named(2, "MCL_FUTURE")
MCL_ONFAULT = Named(4, "MCL_ONFAULT")
MLOCK_ONFAULT = Named(1, "MLOCK_ONFAULT")
MADV_POPULATE_WRITE = Named(23, "MADV_POPULATE_WRITE")
IORING_REGISTER_BUFFERS = Named(0, "IORING_REGISTER_BUFFERS")
IORING_REGISTER_BUFFERS2 = Named(15, "IORING_REGISTER_BUFFERS2")


@FAMILY.witness
def the_account_is_not_zero(w: Kernel) -> None:
    status = witness.about(w, witness.subject(w), "status")
    witness.has(w, status, b"\nVmLck:\t")
    witness.lacks(w, status, b"\nVmLck:\t       0 kB\nVmPin:\t       0 kB\n")


@FAMILY.variant(Technique.BASELINE)
def mlock(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.mlock(_pages(k), SIZE).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def mlock2(k: Kernel) -> None:
    """The call with flags came with Linux 4.4 and has a number of its own."""
    k.mlock2(_pages(k), SIZE, 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def mlock2_onfault(k: Kernel) -> None:
    """With its flag nothing is pinned until it is touched, and all is accounted for at once."""
    k.mlock2(_pages(k), SIZE, MLOCK_ONFAULT).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mlockall_current(k: Kernel) -> None:
    """Everything that the process has is pinned by one call without an address."""
    k.mlockall(MCL_CURRENT | MCL_ONFAULT).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mlockall_future(k: Kernel) -> None:
    """The call pins nothing; what is mapped later is pinned, by mappings like any others."""
    k.mlockall(MCL_FUTURE).decisive()
    _map(k, 0)


@FAMILY.variant(Technique.MEMORY_ALIAS)
def mmap_locked(k: Kernel) -> None:
    """A flag of mmap pins what it maps: rules on the mlock calls never see it."""
    _map(k, MAP_LOCKED).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def mmap2_locked_i386(k: Kernel) -> None:
    """The 32-bit table has a mapping call of its own, with the offset in pages."""
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED
    k.i386.raw("mmap2", NULL, SIZE, PROT_READ | PROT_WRITE, flags, -1, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def old_mmap_locked_i386(k: Kernel) -> None:
    """The oldest mapping call takes a pointer to its arguments, where no filter can look."""
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED
    args = k.struct("IIIIII", 0, SIZE, PROT_READ | PROT_WRITE, flags, -1, 0, name="args")
    k.i386.raw("mmap", args).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def memfd_secret(k: Kernel) -> None:
    """Memory that is hidden from the kernel is pinned too, by a mapping without the flag."""
    file = k.memfd_secret(0)
    k.ftruncate(file, SIZE)
    k.mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_register_buffers(k: Kernel) -> None:
    """The buffers of a ring are pinned, in an account beside the one for locked memory."""
    ring, iov = k.ring(), k.struct("QQ", _pages(k), SIZE, name="iov")
    k.raw("io_uring_register", ring.fd, IORING_REGISTER_BUFFERS, iov, 1).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_register_buffers2(k: Kernel) -> None:
    """The second way to register them has another operation number."""
    ring, iov = k.ring(), k.struct("QQ", _pages(k), SIZE, name="iov")
    arg = k.struct("IIQQQ", 1, 0, 0, iov, 0, name="register")
    k.raw("io_uring_register", ring.fd, IORING_REGISTER_BUFFERS2, arg, 32).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_register_buffers(k: Kernel) -> None:
    """A ring from before the filter takes buffers as well: only the register call is left."""
    ring, iov = k.setup.ring(), k.struct("QQ", _pages(k), SIZE, name="iov")
    k.raw("io_uring_register", ring.fd, IORING_REGISTER_BUFFERS, iov, 1).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def io_uring_register_buffers_i386(k: Kernel) -> None:
    """A ring of a 32-bit program takes a vector of buffers that is half as wide."""
    ring, iov = k.i386.ring(), k.struct("II", _pages(k), SIZE, name="iov")
    k.i386.raw("io_uring_register", ring.fd, IORING_REGISTER_BUFFERS, iov, 1).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC pins for the whole process."""
    pages = _pages(k)
    with deputy.sibling_thread(k) as thread:
        thread.mlock(pages, SIZE)


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def madvise_populate_write(k: Kernel) -> None:
    """Touching pages takes them, but leaves them for the kernel to take back."""
    k.madvise(_map(k, 0), SIZE, MADV_POPULATE_WRITE).decisive()


def _pages(k: Kernel) -> Buffer:
    return k.buffer(SIZE, align=PAGE, name="pages")


def _map(k: Kernel, more: int) -> Result:
    flags = MAP_PRIVATE | MAP_ANONYMOUS | more
    return k.mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags, -1, 0)
