"""What network families share: addresses, messages, and peers that no filter covers.

Everything stays on the loopback device of the subjects' network namespace.  The witness listens at
``PORT``.  A connection that the subject has from before its filter cannot lead to the witness,
which is prepared later: it leads to the victim, who tells the witness when something comes in.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from contextlib import contextmanager

from msgspec.structs import replace

from attacks.calls.operand import Fd, Ptr
from attacks.consts import (
    AF_UNIX,
    NULL,
    O_RDWR,
    SOCK_DGRAM,
    SOCK_STREAM,
    SYS_SOCKET,
)
from attacks.consts_network import (
    AF_INET,
    AF_INET6,
    IOCB_CMD_PWRITE,
    SCM_RIGHTS,
    SO_OOBINLINE,
    SO_REUSEADDR,
    SOCK_NONBLOCK,
    SOL_SOCKET,
)
from attacks.deputy import STOLEN_FD
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Arg, Buffer, Result

PORT = 20477
"""Where the witness listens."""
INHERITED_PORT = 20478
"""Where the victim listens, for connections that are there before the filter."""
ADDRESS_SIZE = 16
"""Of an IPv4 socket address."""
ADDRESS6_SIZE = 28
LOOPBACK = 0x7F000001
ANY = 0
LOOPBACK6 = bytes(15) + b"\x01"
ANY6 = bytes(16)
_START_NS = 300_000
_WORD = (1 << 64) - 1
_CONTROL_SIZE, _CONTROL_FD = 24, 16
LONG_US = 2_000_000
"""For somebody whom the machine may keep from running for a while."""


# Addresses


def inet(k: Kernel, port: int = PORT, host: int = LOOPBACK, family: int = AF_INET) -> Buffer:
    """An IPv4 socket address."""
    packed = struct.pack("<H", family) + struct.pack(">HI", port, host) + bytes(8)
    return k.data(packed, name="address")


def inet6(k: Kernel, port: int = PORT, host: bytes = LOOPBACK6) -> Buffer:
    """An IPv6 socket address."""
    packed = struct.pack("<H", AF_INET6) + struct.pack(">HI", port, 0) + host + bytes(4)
    return k.data(packed, name="address")


def mapped(host: int = LOOPBACK) -> bytes:
    """The IPv6 form of an IPv4 address."""
    return bytes(10) + b"\xff\xff" + host.to_bytes(4, "big")


def unix(k: Kernel, path: str) -> Buffer:
    """An AF_UNIX socket address: a path, or after a NUL an abstract name."""
    name = path.encode() if path.startswith("\0") else path.encode() + b"\0"
    return k.data(struct.pack("<H", AF_UNIX) + name, name="address")


# Arguments behind pointers


def iovec(k: Kernel, data: Buffer) -> Buffer:
    return k.struct("QQ", data, data.size, name="iov")


def message(k: Kernel, data: Buffer, to: Buffer | None = None) -> Buffer:
    """A ``msghdr`` with one piece of data, to an address."""
    name, size = (to, to.size) if to else (NULL, 0)
    return k.struct("QQQQQQQ", name, size, iovec(k, data), 1, NULL, 0, 0, name="msg")


def message_vector(k: Kernel, data: Buffer, to: Buffer) -> Buffer:
    """One ``mmsghdr``, for sendmmsg."""
    layout = (to, to.size, iovec(k, data), 1, NULL, 0, 0, 0)
    return k.struct("QQQQQQQQ", *layout, name="msgvec")


def message32(k: Kernel, data: Buffer, to: Buffer) -> Buffer:
    """The 32-bit ``mmsghdr``, which begins with the 32-bit ``msghdr``."""
    iov = k.struct("II", data, data.size, name="iov")
    return k.struct("IIIIIIII", to, to.size, iov, 1, 0, 0, 0, 0, name="msg")


def socketcall(k: Kernel, call: int, *args: Arg) -> Result:
    """The multiplexer of the 32-bit table, with its arguments in memory."""
    return k.i386.socketcall(call, k.struct("I" * len(args), *args, name="args"))


def socketcall_socket(k: Kernel, domain: int, type_: int, protocol: int = 0) -> Result:
    return socketcall(k, SYS_SOCKET, domain, type_, protocol)


def rights(k: Kernel, data: Buffer, control: Buffer) -> Buffer:
    """A ``msghdr`` that brings or takes one descriptor in ``control``."""
    size = control.size
    return k.struct("QQQQQQQ", NULL, 0, iovec(k, data), 1, control, size, 0, name="msg")


def queued_descriptor(k: Kernel, fd: Fd) -> Result:
    """The end of a pair of sockets where a descriptor waits to be received; recorded in ``k``."""
    pair = k.buffer(8, name="pair")
    k.socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)
    head = (_CONTROL_FD + 4, SOL_SOCKET, SCM_RIGHTS, fd, 0)
    control = k.struct("QIIII", *head, name="control")
    k.sendmsg(k.load(pair, 4, 4), rights(k, k.data(b"X"), control), 0)
    return k.load(pair, 0, 4)


def received_descriptor(k: Kernel, sockfd: Fd) -> Result:
    """The number of the descriptor that comes with the next message, by recvmsg."""
    control = k.buffer(_CONTROL_SIZE, name="control")
    got = k.recvmsg(sockfd, rights(k, k.buffer(8, name="data"), control), 0)
    return replace(k.load(control, _CONTROL_FD, 4), cause=got.node)


def asynchronous_write(k: Kernel, fd: Fd, data: Buffer) -> Result:
    """A write by io_submit; returns that call."""
    context = k.buffer(8, name="context")
    k.io_setup(4, context)
    control = k.buffer(64, name="iocb")
    k.store(control, 16, 2, IOCB_CMD_PWRITE)
    k.store(control, 20, 4, fd)
    k.store(control, 24, 8, data)
    k.store(control, 32, 8, data.size)
    return k.io_submit(k.load(context), 1, k.struct("Q", control, name="list"))


def piped(k: Kernel, data: Buffer) -> Result:
    """The reading end of a pipe that holds the data."""
    ends = k.buffer(8, name="pipe")
    k.pipe2(ends, 0)
    k.write(k.load(ends, 4, 4), data, data.size)
    return k.load(ends, 0, 4)


# Sockets


def bound(k: Kernel, type_: int, address: Buffer, protocol: int = 0) -> Result:
    """A socket at an internet address, even if an older one there is not quite gone."""
    domain = AF_INET6 if address.size == ADDRESS6_SIZE else AF_INET
    sock = k.socket(domain, type_, protocol)
    _switch_on(k, sock, SO_REUSEADDR)
    k.bind(sock, address, address.size)
    return sock


def listener(k: Kernel) -> Result:
    """The witness's: at every address of both families, never blocking."""
    sock = bound(k, SOCK_STREAM | SOCK_NONBLOCK, inet6(k, PORT, ANY6))
    k.listen(sock, 8)
    return sock


# Other processes


def watched_peer(k: Kernel, sock: Fd, to: Buffer, type_: int = SOCK_STREAM) -> None:
    """The victim takes one byte of the first connection to ``sock`` and then connects to ``to``.

    So the witness, who listens there, knows that something came in.  An end without a byte does
    not count.
    """
    v = k.victim
    domain = AF_UNIX if to.size not in (ADDRESS_SIZE, ADDRESS6_SIZE) else AF_INET
    v.listen(sock, 1)
    with v.child(v.thread()):
        got = v.buffer(8, name="got")
        v.expect(v.read(v.accept(sock, NULL, NULL), got, 1), _WORD, 1)
        v.connect(v.socket(domain, type_, 0), to, to.size)


def inherited_connection(k: Kernel, *, urgent: bool = False) -> Result:
    """A TCP connection from before the filter, to a victim that tells of what it gets.

    ``urgent``: urgent data is what it gets, too.
    """
    there = inet(k, INHERITED_PORT)
    sock = bound(k.victim, SOCK_STREAM, there)
    if urgent:
        _switch_on(k.victim, sock, SO_OOBINLINE)
    watched_peer(k, sock, inet(k))
    sock = k.setup.socket(AF_INET, SOCK_STREAM, 0)
    k.setup.connect(sock, there, there.size)
    return sock


def stolen_socket(k: Kernel, domain: int, type_: int, protocol: int = 0) -> Result:
    """A socket of the victim's, fetched by ``pidfd_getfd``."""
    k.victim.dup2(k.victim.socket(domain, type_, protocol), STOLEN_FD)
    pidfd = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    return k.pidfd_getfd(pidfd, STOLEN_FD, 0)


def planted_code(k: Kernel, number: int, *args: int | Buffer) -> Result:
    """Overwrites a function of the victim with a call, through ``/proc/PID/mem``."""
    image = bytearray()
    late: list[tuple[int, Buffer]] = []
    for opcode, arg in zip(_MOV, (number, *args), strict=False):
        image += opcode
        if isinstance(arg, Buffer):
            late.append((len(image), arg))
        image += (0 if isinstance(arg, Buffer) else arg).to_bytes(4, "little")
    code = k.data(bytes(image) + b"\x0f\x05\xc3", name="code")  # syscall; ret
    for offset, arg in late:
        k.store(code, offset, 4, arg)
    memory = k.open(k.proc_pid(k.env(Environment.VICTIM_PID), "/mem"), O_RDWR)
    return k.pwrite64(memory, code, code.size, k.env(Environment.VICTIM_HOOK))


@contextmanager
def visitor(k: Kernel, *, ready: Ptr, done: Buffer) -> Generator[Kernel]:
    """What is recorded meanwhile the victim does, when ``ready`` is no longer zero."""
    v = k.victim
    with v.child(v.thread()):
        # Whoever spins from the beginning is in the way of those who start the subject.
        v.nanosleep(k.data(struct.pack("<qq", 0, _START_NS), name="time"), NULL)
        v.wait(ready, bound_us=LONG_US)
        yield v
        v.store(done, 0, 4, 1)


def _switch_on(k: Kernel, sock: Result, option: int) -> None:
    k.setsockopt(sock, SOL_SOCKET, option, k.data(struct.pack("<I", 1), name="on"), 4)


_MOV = (b"\xb8", b"\xbf", b"\xbe", b"\xba", b"\x41\xba", b"\x41\xb8", b"\x41\xb9")
"""``mov`` of 32 bits into eax, edi, esi, edx, r10d, r8d, r9d."""
