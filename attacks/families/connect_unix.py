"""Reach a local socket of somebody outside the mitigation: by path, by abstract name, by pair.

The witness has a socket of each kind, and one of them gets a connection or a datagram.  What the
subject is connected to from before the filter is the victim's, who then connects to the witness.
"""

from attacks import deputy, loopback
from attacks.consts import (
    AF_UNIX,
    AT_FDCWD,
    MS_BIND,
    NULL,
    O_PATH,
    O_WRONLY,
    SOCK_DGRAM,
    SOCK_STREAM,
    Named,
)
from attacks.consts_network import (
    MSG_NOSIGNAL,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SYS_CONNECT,
    SYS_SENDTO,
)
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "connect-unix",
    title="Reach a local socket",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="network",
    attack_technique="T1559",
)
STREAM = "d/s"
DATAGRAM = "d/g"
PACKETS = "d/q"
ABSTRACT = "\0sidestep-observer"
ABSTRACT_DATAGRAM = "\0sidestep-observer-datagram"
INHERITED_NAME = "\0sidestep-neighbour"
INHERITED = Assumption.INHERITED_DESCRIPTOR
SYS_CONNECT_NUMBER = Named(42, "SYS_connect")
POLLIN = Named(1, "POLLIN")
UID_GID = (28, 32)
"""Where struct stat has the ids."""
WORD = (1 << 64) - 1


@FAMILY.witness
def something_comes_in(w: Kernel) -> None:
    s = w.setup
    places = (
        (SOCK_STREAM, STREAM),
        (SOCK_DGRAM, DATAGRAM),
        (SOCK_SEQPACKET, PACKETS),
        (SOCK_STREAM, ABSTRACT),
        (SOCK_DGRAM, ABSTRACT_DATAGRAM),
    )
    socks = [_open_to_all(s, type_, name) for type_, name in places]
    fields = [field for sock in socks for field in (sock, POLLIN, 0)]
    waiting = s.struct("IHH" * len(socks), *fields, name="fds")
    w.expect(w.poll(waiting, len(socks), 0), WORD, 1)


# Connections


@FAMILY.variant(Technique.BASELINE)
def connect(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _connect(k, _stream(k), STREAM).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def connect_abstract(k: Kernel) -> None:
    """An abstract name is in no file system: rules on paths and mounts do not apply."""
    _connect(k, _stream(k), ABSTRACT).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def connect_seqpacket(k: Kernel) -> None:
    """The third type of local socket, which lists of allowed types forget."""
    _connect(k, k.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0), PACKETS).decisive()


# Datagrams


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def sendto(k: Kernel) -> None:
    """A datagram needs no connection, and so no connect."""
    _sendto(k, k.socket(AF_UNIX, SOCK_DGRAM, 0), DATAGRAM).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def sendto_type_raw(k: Kernel) -> None:
    """For this family the kernel takes SOCK_RAW for SOCK_DGRAM."""
    _sendto(k, k.socket(AF_UNIX, SOCK_RAW, 0), DATAGRAM).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def sendmsg_abstract(k: Kernel) -> None:
    """In sendmsg the name is behind a pointer, and here it is in no file system either."""
    message = loopback.message(k, _letter(k), loopback.unix(k, ABSTRACT_DATAGRAM))
    k.sendmsg(k.socket(AF_UNIX, SOCK_DGRAM, 0), message, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def sendmmsg(k: Kernel) -> None:
    """The call for many messages sends one; lists of the socket calls forget it."""
    messages = loopback.message_vector(k, _letter(k), loopback.unix(k, DATAGRAM))
    k.sendmmsg(k.socket(AF_UNIX, SOCK_DGRAM, 0), messages, 1, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def connect_write(k: Kernel) -> None:
    """Connecting a datagram socket sends nothing; the plain write that follows does."""
    sock = k.socket(AF_UNIX, SOCK_DGRAM, 0)
    _connect(k, sock, DATAGRAM)
    k.write(sock, _letter(k), 1).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def socketpair_sendto(k: Kernel) -> None:
    """One end of a harmless pair of datagram sockets can send to anybody else."""
    pair = k.buffer(8, name="pair")
    k.socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)
    _sendto(k, k.load(pair, 0, 4), DATAGRAM).decisive()


# Other names of the same socket


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def connect_symlink(k: Kernel) -> None:
    """The address names a symbolic link, which the kernel follows."""
    k.symlink(k.relative(STREAM), k.relative("l"))
    _connect(k, _stream(k), "l").decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def connect_hard_link(k: Kernel) -> None:
    """A socket can have a second name, in a directory that rules do not watch."""
    k.link(k.relative(STREAM), k.relative("l"))
    _connect(k, _stream(k), "l").decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def connect_renamed(k: Kernel) -> None:
    """Whoever may write the directory can give the socket another name."""
    k.rename(k.relative(STREAM), k.relative("l"))
    _connect(k, _stream(k), "l").decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def connect_proc_fd(k: Kernel) -> None:
    """The link of an O_PATH descriptor in procfs is a name of the socket."""
    found = k.openat(AT_FDCWD, k.relative(STREAM), O_PATH)
    number = k.proc_fd(found)
    address = k.buffer(2 + number.size, name="address")
    k.store(address, 0, 2, AF_UNIX)
    k.copy(address.at(2), number, number.size)
    k.connect(_stream(k), address, address.size).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    needs=(Need.CAP_SYS_ADMIN,),
    fresh=(Fresh.MOUNT, Fresh.NET),
    objects=(Object(ObjectKind.FILE, "m"),),
)
def connect_bind_mount(k: Kernel) -> None:
    """A socket, mounted over a file, is reached by the name of the file."""
    k.mount(k.relative(STREAM), k.relative("m"), NULL, MS_BIND, NULL)
    _connect(k, _stream(k), "m").decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_connect(k: Kernel) -> None:
    """A ring connects: no connect call is ever made."""
    sock, to = _stream(k), loopback.unix(k, STREAM)
    k.ring().submit("CONNECT", fd=sock, addr=to, off=to.size).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_socket_sendmsg(k: Kernel) -> None:
    """The ring makes the socket as well: a filter does not see its family."""
    ring, message = k.ring(), loopback.message(k, _letter(k), loopback.unix(k, DATAGRAM))
    sock = ring.submit("SOCKET", fd=AF_UNIX, off=SOCK_DGRAM)
    ring.submit("SENDMSG", fd=sock, addr=message, length=1).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_sqpoll_connect(k: Kernel) -> None:
    """A kernel thread takes the entry from memory and connects."""
    sock, to = _stream(k), loopback.unix(k, STREAM)
    k.ring(sqpoll=True).submit("CONNECT", fd=sock, addr=to, off=to.size).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_socket_connect(k: Kernel) -> None:
    """A ring from before the filter makes and connects a socket: there is only io_uring_enter."""
    ring, to = k.setup.ring().by(k), loopback.unix(k, STREAM)
    sock = ring.submit("SOCKET", fd=AF_UNIX, off=SOCK_STREAM)
    ring.submit("CONNECT", fd=sock, addr=to, off=to.size).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_socket_connect(k: Kernel) -> None:
    """A polled ring from before the filter makes and connects a socket without any call."""
    ring, to = k.setup.ring(sqpoll=True), loopback.unix(k, ABSTRACT)
    ring.nop()
    storing = ring.by(k).stores_only()
    sock = storing.submit("SOCKET", fd=AF_UNIX, off=SOCK_STREAM)
    storing.submit("CONNECT", fd=sock, addr=to, off=to.size).decisive()


# The 32-bit table, where arguments change shape


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_connect_i386(k: Kernel) -> None:
    """One 32-bit number stands for all of the socket calls, with the arguments in memory."""
    sock, to = loopback.socketcall_socket(k, AF_UNIX, SOCK_STREAM), loopback.unix(k, STREAM)
    loopback.socketcall(k, SYS_CONNECT, sock, to, to.size).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_sendto_i386(k: Kernel) -> None:
    """The multiplexer leads to a datagram as well."""
    sock, to = loopback.socketcall_socket(k, AF_UNIX, SOCK_DGRAM), loopback.unix(k, DATAGRAM)
    loopback.socketcall(k, SYS_SENDTO, sock, _letter(k), 1, 0, to, to.size).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def sendmsg_i386(k: Kernel) -> None:
    """The 32-bit sendmsg has structures and a number of its own."""
    message = loopback.message32(k, _letter(k), loopback.unix(k, DATAGRAM))
    k.i386.sendmsg(k.socket(AF_UNIX, SOCK_DGRAM, 0), message, 0).decisive()


# What is there already


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def connect_inherited_socket(k: Kernel) -> None:
    """Where socket is denied and connect forgotten, a socket from before the filter will do."""
    _connect(k, _stream(k.setup), STREAM).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def sendto_inherited_pair(k: Kernel) -> None:
    """A pair of sockets for one's own use, from before the filter, can send to others."""
    pair = k.buffer(8, name="pair")
    k.setup.socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)
    _sendto(k, k.load(pair, 0, 4), DATAGRAM).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def write_inherited_connection(k: Kernel) -> None:
    """For what is connected already, the plainest of calls tells the other side."""
    k.write(_inherited_connection(k), _letter(k), 1).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, assumption=INHERITED)
def io_uring_send_inherited_connection(k: Kernel) -> None:
    """A ring sends on the connection from before the filter."""
    sock = _inherited_connection(k)
    k.ring().submit("SEND", fd=sock, addr=_letter(k), length=1).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def splice_inherited_connection(k: Kernel) -> None:
    """What is in a pipe moves into the connection without a write or send call on it."""
    sock = _inherited_connection(k)
    k.splice(loopback.piped(k, _letter(k)), NULL, sock, NULL, 1, 0).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def connect_stolen_socket(k: Kernel) -> None:
    """A neighbour's socket is fetched by pidfd_getfd, so socket need not be allowed."""
    _connect(k, loopback.stolen_socket(k, AF_UNIX, SOCK_STREAM), STREAM).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_proc_mem_connect(k: Kernel) -> None:
    """A neighbour's code is overwritten through a file, so that it connects a socket it has."""
    k.victim.dup2(_stream(k.victim), deputy.STOLEN_FD)
    to = loopback.unix(k, STREAM)
    loopback.planted_code(k, SYS_CONNECT_NUMBER, deputy.STOLEN_FD, to, to.size).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        _connect(thread, _stream(thread), STREAM)


# Controls that must not reach anybody


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def open_socket_file(k: Kernel) -> None:
    """Opening the socket by its path like a pipe is refused."""
    k.openat(AT_FDCWD, k.relative(STREAM), O_WRONLY).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def sendto_stream(k: Kernel) -> None:
    """A stream socket does not connect by sending, as TCP does with fast open."""
    to = loopback.unix(k, STREAM)
    k.sendto(_stream(k), _letter(k), 1, MSG_NOSIGNAL, to, to.size).decisive().may_fail()


def _stream(k: Kernel) -> Result:
    return k.socket(AF_UNIX, SOCK_STREAM, 0)


def _connect(k: Kernel, sock: Result, name: str) -> Result:
    to = loopback.unix(k, name)
    return k.connect(sock, to, to.size)


def _sendto(k: Kernel, sock: Result, name: str) -> Result:
    to = loopback.unix(k, name)
    return k.sendto(sock, _letter(k), 1, 0, to, to.size)


def _letter(k: Kernel) -> Buffer:
    return k.data(b"X", name="letter")


def _open_to_all(s: Kernel, type_: int, name: str) -> Result:
    """A socket of the witness that the subject may reach, and owns where it is a file."""
    at = loopback.unix(s, name)
    sock = s.socket(AF_UNIX, type_ | SOCK_NONBLOCK, 0)
    s.bind(sock, at, at.size)
    if type_ != SOCK_DGRAM:
        s.listen(sock, 4)
    if not name.startswith("\0"):
        about = s.buffer(144, name="stat")
        s.stat(s.text("d"), about)
        s.chown(s.text(name), *(s.load(about, offset, 4) for offset in UID_GID))
    return sock


def _inherited_connection(k: Kernel) -> Result:
    """A connection from before the filter, to a victim that tells of what it gets."""
    there = loopback.unix(k, INHERITED_NAME)
    listener = _stream(k.victim)
    k.victim.bind(listener, there, there.size)
    loopback.watched_peer(k, listener, loopback.unix(k, ABSTRACT))
    sock = _stream(k.setup)
    k.setup.connect(sock, there, there.size)
    return sock
