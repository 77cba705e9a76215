"""What is done to the victim: the process beside the subject, of the same user.

It has the program's arena at the same addresses, and everything else of its own.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from attacks.calls.operand import Fd, Pid
from attacks.consts import (
    AF_UNIX,
    AT_FDCWD,
    CLONE_FILES,
    CLONE_NEWPID,
    CLONE_VFORK,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    NULL,
    O_RDONLY,
    O_RDWR,
    PROT_READ,
    PROT_WRITE,
    PTRACE_ATTACH,
    SOCK_STREAM,
    WALL,
    Named,
)
from attacks.deputy import STOLEN_FD
from attacks.kernel import Kernel
from attacks.program import Env, Environment
from attacks.recorder import Arg, Buffer, Result
from attacks.ring import Ring

PRIO_PROCESS = Named(0, "PRIO_PROCESS")
PRIO_PGRP = Named(1, "PRIO_PGRP")
PRIO_USER = Named(2, "PRIO_USER")

F_SETOWN_EX = Named(15, "F_SETOWN_EX")
F_OWNER_PGRP = Named(2, "F_OWNER_PGRP")
FIOGETOWN = Named(0x8903, "FIOGETOWN")
IORING_REGISTER_BUFFERS = Named(0, "IORING_REGISTER_BUFFERS")
MAP_FIXED_NOREPLACE = Named(0x100000, "MAP_FIXED_NOREPLACE")
SOL_SOCKET = Named(1, "SOL_SOCKET")
SO_PEERPIDFD = Named(77, "SO_PEERPIDFD")
SEEK_SET = Named(0, "SEEK_SET")

PLACE = Named(0x10000000, "PLACE")
"""Where the victim maps a page of its own, below 4 GiB so that every table can name it."""
MESSAGE = b"written by another process"
PAGE = 4096
SECRET_SIZE = 16
_SOCKET_NAME = b"\1\0\0sidestep-victim"
_PATH_SIZE = 96
_SYSCALL = b"\x0f\x05"
_RET = b"\xc3"
_MOV_EAX, _MOV_EDI, _MOV_ESI, _MOV_EDX = b"\xb8", b"\xbf", b"\xbe", b"\xba"


def pid(k: Kernel) -> Pid:
    """The victim's pid."""
    return k.env(Environment.VICTIM_PID)


def path(k: Kernel, name: str) -> Buffer:
    """``/proc/PID/name`` of the victim."""
    return k.proc_pid(k.env(Environment.VICTIM_PID), f"/{name}")


def task_path(k: Kernel, name: str) -> Buffer:
    """``/proc/PID/task/PID/name`` of the victim."""
    victim = k.env(Environment.VICTIM_PID)
    whole = k.data(b"/proc/".ljust(_PATH_SIZE, b"\0"), align=1, name="path")
    k.print_number(whole.at(len("/proc/")), victim, k.text("/task/"))
    end = k.add(whole, k.find(whole, whole.size, b"task/"))
    k.print_number(k.add(end, len("task/")), victim, k.text(f"/{name}"))
    return whole


@contextmanager
def before_the_filter(k: Kernel) -> Generator[Kernel]:
    """Setup that names the victim by its pid, which only a child made there can.

    Who runs the setup is in another pid namespace than its children, to which the subject belongs;
    what they open is in a table that they share.
    """
    setup = k.setup
    child = setup.clone(CLONE_FILES | CLONE_VFORK)
    with setup.child(child):
        yield setup
    setup.wait4(child, NULL, WALL, NULL)


def own_group(k: Kernel) -> Result:
    """The victim leads a group of its own from now on; the result is the group's negative number.

    There is no subtraction here: the kernel says a group that owns a descriptor as a negative pid.
    """
    k.victim.setpgid(0, 0)
    number = k.buffer(4, name="group")
    socket = k.victim.socket(AF_UNIX, SOCK_STREAM, 0)
    owner = k.victim.struct("II", F_OWNER_PGRP, k.victim.getpid(), name="f_owner_ex")
    k.victim.fcntl(socket, F_SETOWN_EX, owner)
    k.victim.ioctl(socket, FIOGETOWN, number)
    return k.victim.load(number, 0, 4)


def run_anywhere(k: Kernel) -> None:
    """A victim that is to be busy does not share the subject's processor, if there is another."""
    k.victim.sched_setaffinity(0, 8, k.struct("Q", -1, name="all"))


def stop_by_ptrace(k: Kernel) -> None:
    """Attaches, and waits until the victim has stopped."""
    k.ptrace(PTRACE_ATTACH, pid(k), NULL, NULL)
    k.wait4(pid(k), NULL, WALL, NULL)


def made_to_call(k: Kernel, number: int, *args: Arg) -> Result:
    """Plants a call of up to three 32-bit arguments in the victim's code, which soon runs it."""
    code = bytearray(_MOV_EAX + int(number).to_bytes(4, "little"))
    late: list[tuple[int, Arg]] = []
    for load, arg in zip((_MOV_EDI, _MOV_ESI, _MOV_EDX), args, strict=False):
        late.append((len(code) + len(load), arg))
        code += load + bytes(4)
    planted = k.data(bytes(code + _SYSCALL + _RET), name="code")
    for offset, arg in late:
        k.store(planted, offset, 4, arg)
    memory = k.open(path(k, "mem"), O_RDWR)
    return k.pwrite64(memory, planted, planted.size, k.env(Environment.VICTIM_HOOK))


def secret(k: Kernel) -> Env:
    """Where the victim's secret lies; the subject has zeros there."""
    return k.env(Environment.SECRET)


def iovec(k: Kernel, base: Arg, size: int) -> Buffer:
    """One ``struct iovec``."""
    return k.struct("QQ", base, size, name="iovec")


def iovec32(k: Kernel, base: Arg, size: int) -> Buffer:
    """One ``struct iovec`` of the 32-bit table."""
    return k.struct("II", base, size, name="iovec32")


def memory(k: Kernel, flags: int) -> Result:
    """The victim's memory as a file."""
    return k.open(path(k, "mem"), flags)


def memory_by_ring(k: Kernel, ring: Ring, flags: int) -> Result:
    """The victim's memory as a file that a ring opens.

    It is to be used through another ring: a kernel thread does what comes next, and on this ring
    the answer that is there already would be taken for its end.
    """
    return ring.openat(AT_FDCWD, path(k, "mem"), flags, 0)


def inherited_memory(k: Kernel, flags: int) -> Result:
    """The victim's memory as a file that was opened before the filter."""
    return k.setup.open(path(k.setup, "mem"), flags)


def stolen_ring_with_buffer(k: Kernel, address: Arg) -> Ring:
    """A ring of the victim's, stolen, with which the victim's memory there is registered."""
    ring = k.victim.ring()
    pinned = iovec(k.victim, address, 2 * SECRET_SIZE)
    k.victim.raw("io_uring_register", ring.fd, IORING_REGISTER_BUFFERS, pinned, 1)
    k.victim.raw("dup2", ring.fd, STOLEN_FD)
    pidfd = k.pidfd_open(pid(k), 0)
    return ring.stolen(k, k.pidfd_getfd(pidfd, STOLEN_FD, 0))


def pipe(k: Kernel) -> tuple[Result, Result]:
    """The two ends of a new pipe, first the one to read from."""
    ends = k.buffer(8, name="pipe")
    k.pipe2(ends, 0)
    return k.load(ends, 0, 4), k.load(ends, 4, 4)


def listen(k: Kernel) -> Result:
    """The victim's listening socket, in the abstract name space."""
    name = k.data(_SOCKET_NAME, name="sockaddr_un")
    listener = k.victim.socket(AF_UNIX, SOCK_STREAM, 0)
    k.victim.bind(listener, name, name.size)
    k.victim.listen(listener, 1)
    return listener


def connect(k: Kernel) -> Result:
    """A socket that is connected to the victim."""
    name = k.data(_SOCKET_NAME, name="sockaddr_un")
    client = k.socket(AF_UNIX, SOCK_STREAM, 0)
    k.connect(client, name, name.size)
    return client


def peer_pidfd(k: Kernel) -> Result:
    """A pidfd of the victim, from a socket that is connected to it."""
    listen(k)
    client = connect(k)
    pidfd, size = k.buffer(4, name="pidfd"), k.struct("I", 4, name="size")
    k.getsockopt(client, SOL_SOCKET, SO_PEERPIDFD, pidfd, size)
    return k.load(pidfd, 0, 4)


def aio(k: Kernel, opcode: int, fd: Arg, buf: Arg, size: int, offset: Arg) -> Result:
    """Submits one request to a new context; the result is the submission's."""
    context = k.buffer(8, name="aio_context")
    k.io_setup(1, context)
    request = k.struct("QIIHHIQQQQII", 0, 0, 0, opcode, 0, fd, buf, size, offset, 0, 0, 0)
    return k.io_submit(k.load(context), 1, k.struct("Q", request, name="requests"))


def map_place(k: Kernel, flags: int = MAP_PRIVATE | MAP_ANONYMOUS, fd: Fd = -1) -> Result:
    """The victim maps its page; what is there is zero."""
    prot = PROT_READ | PROT_WRITE
    return k.victim.mmap(PLACE, PAGE, prot, flags | MAP_FIXED_NOREPLACE, fd, 0)


@contextmanager
def asked_inside(w: Kernel) -> Generator[Kernel]:
    """What a witness asks from within the victim's pid namespace, where the victim has its pid.

    A namespace is for children, so a child enters it and has one there; results are shared.
    """
    outer = w.clone(CLONE_VFORK)
    with w.child(outer):
        w.setns(w.open(path(w, "ns/pid"), O_RDONLY), CLONE_NEWPID)
        inner = w.clone(CLONE_VFORK)
        with w.child(inner):
            yield w
        w.wait4(inner, NULL, WALL, NULL)
    w.wait4(outer, NULL, WALL, NULL)
