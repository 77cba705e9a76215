"""Listen for inbound: somebody outside the mitigation comes and tells a secret.

The visitor is the victim.  It waits until the program says, in memory, that it is ready; then it
connects or sends, and says that it has done so.  It closes first, so that no port stays taken.
"""

import struct

from attacks import deputy, loopback
from attacks.consts import (
    MAP_SHARED,
    NULL,
    PROT_READ,
    PROT_WRITE,
    SOCK_DGRAM,
    SOCK_STREAM,
    SYS_BIND,
    Named,
)
from attacks.consts_network import (
    AF_INET,
    AF_INET6,
    AF_PACKET,
    AF_UNSPEC,
    IPPROTO_MPTCP,
    IPPROTO_UDP,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SO_REUSEPORT,
    SOCK_CLOEXEC,
    SOCK_RAW,
    SOL_SOCKET,
    SYS_ACCEPT,
    SYS_LISTEN,
    SYS_RECV,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "accept-connection",
    title="Listen for inbound connections and data",
    effect=lambda _: Effect(EffectKind.LEARNED),
    has_target=False,
    group="network",
    attack_technique="T1205",
)
PORT = 20481
"""Not where a witness may still listen."""
OTHER_PORT = 20482
SIZE = 16
EVERY_PROTOCOL = Named(0x0300, "htons(ETH_P_ALL)")
SOL_PACKET = Named(263, "SOL_PACKET")
PACKET_RX_RING = Named(5, "PACKET_RX_RING")
PAGE, FRAMES = 4096, 4
HEADERS = 64
INHERITED = Assumption.INHERITED_DESCRIPTOR
RAW = (Need.CAP_NET_RAW,)


# bind, listen, accept


@FAMILY.variant(Technique.BASELINE)
def accept(k: Kernel) -> None:
    """The calls that the author of the policy has in mind."""
    to = loopback.inet(k, PORT)
    sock = _listening(k, to)
    _visit(k, to)
    _read(k, k.accept(sock, NULL, NULL).decisive())


@FAMILY.variant(Technique.NEWER_SYSCALL)
def accept4(k: Kernel) -> None:
    """Lists that name accept alone forget the form with flags, which libraries use."""
    to = loopback.inet(k, PORT)
    sock = _listening(k, to)
    _visit(k, to)
    _read(k, k.accept4(sock, NULL, NULL, SOCK_CLOEXEC).decisive())


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def listen_without_bind(k: Kernel) -> None:
    """Listen picks a port for a socket that was never bound: rules on bind do not apply."""
    sock = _tcp(k)
    k.listen(sock, 1)
    _visit(k, _own_address(k, sock))
    _read(k, k.accept(sock, NULL, NULL).decisive())


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def bind_port_0(k: Kernel) -> None:
    """Port 0 in the address means any free port: rules on port numbers do not see which."""
    sock = _listening(k, loopback.inet(k, 0, loopback.ANY))
    _visit(k, _own_address(k, sock))
    _read(k, k.accept(sock, NULL, NULL).decisive())


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def bind_unspecified_family(k: Kernel) -> None:
    """Bind takes AF_UNSPEC for AF_INET where the address is 0.0.0.0."""
    sock = _listening(k, loopback.inet(k, PORT, loopback.ANY, AF_UNSPEC))
    _visit(k, loopback.inet(k, PORT))
    _read(k, k.accept(sock, NULL, NULL).decisive())


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def accept_ipv6(k: Kernel) -> None:
    """An IPv6 socket takes IPv4 connections as well: no AF_INET socket is ever asked for."""
    sock, at = k.socket(AF_INET6, SOCK_STREAM, 0), loopback.inet6(k, PORT, loopback.ANY6)
    k.bind(sock, at, at.size)
    k.listen(sock, 1)
    _visit(k, loopback.inet(k, PORT))
    _read(k, k.accept(sock, NULL, NULL).decisive())


@FAMILY.variant(Technique.NEWER_SYSCALL)
def accept_mptcp(k: Kernel) -> None:
    """A multipath socket takes plain connections; Landlock's rule on TCP ports is not for it."""
    sock, to = k.socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP), loopback.inet(k, PORT)
    k.bind(sock, to, to.size)
    k.listen(sock, 1)
    _visit(k, to)
    _read(k, k.accept(sock, NULL, NULL).decisive())


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def reuseport_more_specific(k: Kernel) -> None:
    """Another server's port is shared, and the narrower address gets all of its visitors."""
    victims = _shared(k.victim, loopback.inet(k, PORT, loopback.ANY))
    k.victim.listen(victims, 8)
    to = loopback.inet(k, PORT)
    sock = _shared(k, to)
    k.listen(sock, 8)
    _visit(k, to)
    _read(k, k.accept(sock, NULL, NULL).decisive())


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_accept(k: Kernel) -> None:
    """A ring accepts, since 5.5: no accept call is ever made."""
    to = loopback.inet(k, PORT)
    sock, ring = _listening(k, to), k.ring()
    _visit(k, to)
    _read(k, ring.submit("ACCEPT", fd=sock).decisive())


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_everything(k: Kernel) -> None:
    """Since 6.11 a ring binds and listens too: not one socket call is left for a filter."""
    to, ring = loopback.inet(k, PORT), k.ring()
    sock = ring.submit("SOCKET", fd=AF_INET, off=SOCK_STREAM)
    ring.submit("BIND", fd=sock, addr=to, off=to.size)
    ring.submit("LISTEN", fd=sock, length=1)
    _visit(k, to)
    connection = ring.submit("ACCEPT", fd=sock).decisive()
    k.ring().submit("READ", fd=connection, addr=_secret(k), length=SIZE)


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_listen_without_bind(k: Kernel) -> None:
    """The ring's LISTEN picks a port as well: neither bind nor listen is called."""
    sock = _tcp(k)
    k.ring().submit("LISTEN", fd=sock, length=1)
    _visit(k, _own_address(k, sock))
    _read(k, k.accept(sock, NULL, NULL).decisive())


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_bind_recv(k: Kernel) -> None:
    """A ring binds a datagram socket and receives from it."""
    to, sock, ring = loopback.inet(k, PORT), _udp(k), k.ring()
    ring.submit("BIND", fd=sock, addr=to, off=to.size)
    _visit(k, to, SOCK_DGRAM)
    ring.submit("RECV", fd=sock, addr=_secret(k), length=SIZE).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_everything(k: Kernel) -> None:
    """A ring from before the filter binds, listens and accepts: there is only io_uring_enter."""
    to, ring = loopback.inet(k, PORT), k.setup.ring().by(k)
    sock = ring.submit("SOCKET", fd=AF_INET, off=SOCK_STREAM)
    ring.submit("BIND", fd=sock, addr=to, off=to.size)
    ring.submit("LISTEN", fd=sock, length=1)
    _visit(k, to)
    _read(k, ring.submit("ACCEPT", fd=sock).decisive())


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_everything(k: Kernel) -> None:
    """Polled rings from before the filter do all of it without any call."""
    to = loopback.inet(k, PORT)
    rings = [k.setup.ring(sqpoll=True) for _ in range(2)]
    for ring in rings:
        ring.nop()
    first, second = (ring.by(k).stores_only() for ring in rings)
    sock = first.submit("SOCKET", fd=AF_INET, off=SOCK_STREAM)
    first.submit("BIND", fd=sock, addr=to, off=to.size)
    first.submit("LISTEN", fd=sock, length=1)
    _visit(k, to)
    connection = second.submit("ACCEPT", fd=sock).decisive()
    second.submit("READ", fd=connection, addr=_secret(k), length=SIZE)
    second.submit("CLOSE", fd=sock)  # the rings' threads hold it a little longer than we live


# The 32-bit table, where arguments change shape


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_accept_i386(k: Kernel) -> None:
    """One 32-bit number stands for all of the socket calls, with the arguments in memory."""
    to = loopback.inet(k, PORT)
    sock = loopback.socketcall_socket(k, AF_INET, SOCK_STREAM)
    loopback.socketcall(k, SYS_BIND, sock, to, to.size)
    loopback.socketcall(k, SYS_LISTEN, sock, 1)
    _visit(k, to)
    _read(k, loopback.socketcall(k, SYS_ACCEPT, sock, NULL, NULL).decisive())


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_recv_i386(k: Kernel) -> None:
    """Recv has no number of its own on x86-64; in the 32-bit multiplexer it still does."""
    to = loopback.inet(k, PORT)
    sock = loopback.socketcall_socket(k, AF_INET, SOCK_DGRAM)
    loopback.socketcall(k, SYS_BIND, sock, to, to.size)
    _visit(k, to, SOCK_DGRAM)
    loopback.socketcall(k, SYS_RECV, sock, _secret(k), SIZE, 0).decisive()


# Datagrams, which need neither listen nor accept


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def recvfrom(k: Kernel) -> None:
    """A bound datagram socket receives: nobody listens, and nothing is accepted."""
    to, sock = loopback.inet(k, PORT), _udp(k)
    k.bind(sock, to, to.size)
    _visit(k, to, SOCK_DGRAM)
    k.recvfrom(sock, _secret(k), SIZE, 0, NULL, NULL).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def recvmsg(k: Kernel) -> None:
    """The receiving call with its arguments behind a pointer."""
    to, sock = loopback.inet(k, PORT), _udp(k)
    k.bind(sock, to, to.size)
    _visit(k, to, SOCK_DGRAM)
    k.recvmsg(sock, loopback.message(k, _secret(k)), 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def read_datagram(k: Kernel) -> None:
    """A datagram socket is a file that can be read: no receiving call is needed."""
    to, sock = loopback.inet(k, PORT), _udp(k)
    k.bind(sock, to, to.size)
    _visit(k, to, SOCK_DGRAM)
    k.read(sock, _secret(k), SIZE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def recvfrom_bound_by_sending(k: Kernel) -> None:
    """Whoever has sent a datagram has a port, where others can send: bind is not needed."""
    sock, anywhere = _udp(k), loopback.inet(k, OTHER_PORT)
    k.sendto(sock, anywhere, 0, 0, anywhere, anywhere.size)
    _visit(k, _own_address(k, sock), SOCK_DGRAM)
    k.recvfrom(sock, _secret(k), SIZE, 0, NULL, NULL).decisive()


# All that passes by


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=RAW)
def raw_socket(k: Kernel) -> None:
    """A raw socket gets a copy of every datagram of its protocol, without bind."""
    sock = k.socket(AF_INET, SOCK_RAW, IPPROTO_UDP)
    _visit(k, loopback.inet(k, PORT), SOCK_DGRAM)
    k.recvfrom(sock, _secret(k, HEADERS), HEADERS + SIZE, 0, NULL, NULL).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=RAW)
def packet_socket(k: Kernel) -> None:
    """A packet socket sees what comes in and goes out of every interface, and needs no port."""
    sock = k.socket(AF_PACKET, SOCK_DGRAM, EVERY_PROTOCOL)
    _visit(k, loopback.inet(k, PORT), SOCK_DGRAM)
    k.recvfrom(sock, _secret(k, HEADERS), HEADERS + SIZE, 0, NULL, NULL).decisive()


@FAMILY.variant(Technique.MEMORY_ALIAS, needs=RAW, references=("man 7 packet",))
def packet_ring(k: Kernel) -> None:
    """The kernel puts packets into shared memory: after mmap nothing is called to receive them."""
    sock = k.socket(AF_PACKET, SOCK_DGRAM, EVERY_PROTOCOL)
    ring = k.struct("IIII", PAGE, 1, PAGE // FRAMES, FRAMES, name="req")
    k.setsockopt(sock, SOL_PACKET, PACKET_RX_RING, ring, ring.size)
    memory = k.mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, sock, 0)
    _visit(k, loopback.inet(k, PORT), SOCK_DGRAM)
    k.copy(k.buffer(PAGE, name="packets"), memory, PAGE).decisive()


# What is there already


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def accept_inherited_listener(k: Kernel) -> None:
    """Socket activation: the listener comes from outside, and accept is all that is needed."""
    to = loopback.inet(k, PORT)
    sock = _listening(k.setup, to)
    _visit(k, to)
    _read(k, k.accept(sock, NULL, NULL).decisive())


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def listen_inherited_bound_socket(k: Kernel) -> None:
    """A socket that was bound before the filter only has to be made to listen."""
    to, sock = loopback.inet(k, PORT), _tcp(k.setup)
    k.setup.bind(sock, to, to.size)
    k.listen(sock, 1)
    _visit(k, to)
    _read(k, k.accept(sock, NULL, NULL).decisive())


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def listen_inherited_connection(k: Kernel) -> None:
    """A connection from before the filter is dissolved, and its socket listens instead."""
    there = loopback.inet(k, OTHER_PORT)
    k.victim.listen(loopback.bound(k.victim, SOCK_STREAM, there), 1)
    sock, nowhere = _tcp(k.setup), loopback.inet(k, family=AF_UNSPEC)
    k.setup.connect(sock, there, there.size)
    k.connect(sock, nowhere, nowhere.size)
    k.listen(sock, 1)
    _visit(k, _own_address(k, sock))
    _read(k, k.accept(sock, NULL, NULL).decisive())


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def recvfrom_inherited_socket(k: Kernel) -> None:
    """A datagram socket that was bound before the filter receives as before."""
    to, sock = loopback.inet(k, PORT), _udp(k.setup)
    k.setup.bind(sock, to, to.size)
    _visit(k, to, SOCK_DGRAM)
    k.recvfrom(sock, _secret(k), SIZE, 0, NULL, NULL).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def accept_stolen_listener(k: Kernel) -> None:
    """A neighbour's listener is fetched by pidfd_getfd, with all who come to it."""
    to = loopback.inet(k, PORT)
    k.victim.dup2(_listening(k.victim, to), deputy.STOLEN_FD)
    pidfd = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    sock = k.pidfd_getfd(pidfd, deputy.STOLEN_FD, 0)
    _visit(k, to)
    _read(k, k.accept(sock, NULL, NULL).decisive())


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    to, buffer = loopback.inet(k, PORT), _secret(k)
    ready, done = k.buffer(8, name="ready"), k.buffer(8, name="told")
    _visitor(k, to, SOCK_STREAM, ready, done)
    with deputy.sibling_thread(k) as thread:
        sock = _listening(thread, to)
        thread.store(ready, 0, 4, 1)
        thread.wait(done, bound_us=loopback.LONG_US)
        thread.read(thread.accept(sock, NULL, NULL), buffer, SIZE)


# Controls that must not learn anything


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def accept_without_listen(k: Kernel) -> None:
    """A socket that is bound and does not listen takes no connection."""
    to, sock = loopback.inet(k, PORT), _tcp(k)
    k.bind(sock, to, to.size)
    _visit(k, to)
    k.accept(sock, NULL, NULL).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def recvfrom_connected_elsewhere(k: Kernel) -> None:
    """A datagram socket that is connected to another peer does not get the visitor's."""
    to, sock = loopback.inet(k, PORT), _udp(k)
    other = loopback.inet(k, OTHER_PORT)
    k.bind(sock, to, to.size)
    k.connect(sock, other, other.size)
    _visit(k, to, SOCK_DGRAM)
    k.recvfrom(sock, _secret(k), SIZE, MSG_DONTWAIT, NULL, NULL).decisive().may_fail()


def _tcp(k: Kernel) -> Result:
    return k.socket(AF_INET, SOCK_STREAM, 0)


def _udp(k: Kernel) -> Result:
    return k.socket(AF_INET, SOCK_DGRAM, 0)


def _listening(k: Kernel, at: Buffer) -> Result:
    sock = _tcp(k)
    k.bind(sock, at, at.size)
    k.listen(sock, 1)
    return sock


def _shared(k: Kernel, at: Buffer) -> Result:
    """A socket at a port that others of the same user may have as well."""
    sock = _tcp(k)
    k.setsockopt(sock, SOL_SOCKET, SO_REUSEPORT, k.data(struct.pack("<I", 1), name="on"), 4)
    k.bind(sock, at, at.size)
    return sock


def _own_address(k: Kernel, sock: Result) -> Buffer:
    """Where a socket is, for the visitor to read when it is told to come."""
    address = k.buffer(loopback.ADDRESS_SIZE, name="address")
    k.getsockname(sock, address, k.struct("I", address.size, name="addrlen"))
    return address


def _secret(k: Kernel, before: int = 0) -> Buffer:
    return k.buffer(before + SIZE, name="secret")


def _read(k: Kernel, connection: Result) -> None:
    k.read(connection, _secret(k), SIZE)


def _visit(k: Kernel, at: Buffer, type_: int = SOCK_STREAM) -> None:
    """Lets the visitor come, and waits until it has told what it knows."""
    ready, done = k.buffer(8, name="ready"), k.buffer(8, name="told")
    _visitor(k, at, type_, ready, done)
    k.store(ready, 0, 4, 1)
    k.wait(done, bound_us=loopback.LONG_US)


def _visitor(k: Kernel, at: Buffer, type_: int, ready: Buffer, done: Buffer) -> None:
    with loopback.visitor(k, ready=ready, done=done) as v:
        sock = v.socket(AF_INET, type_, 0)
        v.connect(sock, at, loopback.ADDRESS_SIZE).may_fail()
        v.sendto(sock, v.env(Environment.SECRET), SIZE, MSG_NOSIGNAL, NULL, 0).may_fail()
        v.close(sock)
