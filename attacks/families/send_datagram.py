"""Send data out by datagrams: UDP, raw IP, frames.  Somebody outside the mitigation gets them."""

import struct

from attacks import datagram_by_packet as by_packet
from attacks import deputy, loopback, witness
from attacks.consts import (
    AT_FDCWD,
    NULL,
    O_RDONLY,
    SOCK_DGRAM,
    Named,
)
from attacks.consts_network import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    ICMP_FILTER,
    IOSQE_FIXED_FILE,
    IOSQE_IO_LINK,
    IPPROTO_ICMP,
    IPPROTO_UDPLITE,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOL_RAW,
    SYS_CONNECT,
    SYS_SEND,
    SYS_SENDMMSG,
    SYS_SENDMSG,
    SYS_SENDTO,
)
from attacks.datagram_by_packet import TEXT, send_to
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "send-datagram",
    title="Send data out by datagrams",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="network",
    attack_technique="T1048",
    unrecorded={
        "a packet written to /dev/net/tun": "the sandbox has no such device",
        "sendto on a ping socket as the network namespace comes": (
            "ping_group_range is empty there; recorded with a range that was set before"
        ),
    },
)
SYS_SENDTO_NUMBER = Named(44, "SYS_sendto")
INHERITED = Assumption.INHERITED_DESCRIPTOR
RAW = (Need.CAP_NET_RAW,)

FILE = Object(ObjectKind.FILE, "f0", 0o644, TEXT)
SIZE = len(TEXT)
SLOT = 128
"""Room for what one of the witness's sockets receives, headers included."""
ONLY_ECHO = ~(1 << 8) & 0xFFFFFFFF


@FAMILY.witness
def the_text_arrives(w: Kernel) -> None:
    s = w.setup
    kind = SOCK_DGRAM | SOCK_NONBLOCK
    udp = loopback.bound(s, kind, loopback.inet6(s, host=loopback.ANY6))
    lite = loopback.bound(s, kind, loopback.inet6(s, host=loopback.ANY6), IPPROTO_UDPLITE)
    # Only requests: an error that comes back to the sender quotes what was sent.
    echo = s.socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMP)
    s.setsockopt(echo, SOL_RAW, ICMP_FILTER, s.data(struct.pack("<I", ONLY_ECHO)), 4)
    got = w.buffer(3 * SLOT, name="got")
    for number, sock in enumerate((udp, lite, echo)):
        w.read(sock, got.at(number * SLOT), SLOT).may_fail()
    witness.has(w, witness.Text(got, w.add(got.size, 0)), TEXT)


# Calls that name the destination


@FAMILY.variant(Technique.BASELINE)
def sendto(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    send_to(k, _udp(k), _text(k), loopback.inet(k)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def sendto_more_flags(k: Kernel) -> None:
    """Flags that change nothing defeat a rule that compares the word with 0."""
    text, to = _text(k), loopback.inet(k)
    k.sendto(_udp(k), text, SIZE, MSG_NOSIGNAL | MSG_DONTWAIT, to, to.size).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def sendto_unspecified_family(k: Kernel) -> None:
    """The destination says AF_UNSPEC, and the kernel takes it for AF_INET."""
    send_to(k, _udp(k), _text(k), loopback.inet(k, family=AF_UNSPEC)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def sendto_ipv6(k: Kernel) -> None:
    """Filters on the socket's family often name AF_INET alone."""
    sock = k.socket(AF_INET6, SOCK_DGRAM, 0)
    send_to(k, sock, _text(k), loopback.inet6(k)).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def sendto_ipv6_mapped(k: Kernel) -> None:
    """An IPv6 socket sends an IPv4 packet: no AF_INET socket is ever asked for."""
    sock = k.socket(AF_INET6, SOCK_DGRAM, 0)
    send_to(k, sock, _text(k), loopback.inet6(k, host=loopback.mapped())).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def sendto_udplite(k: Kernel) -> None:
    """UDP-Lite is another protocol of the same family and type; firewalls rarely name it."""
    sock = k.socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE)
    send_to(k, sock, _text(k), loopback.inet(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def sendmsg(k: Kernel) -> None:
    """In sendmsg data and destination are behind a pointer."""
    message = loopback.message(k, _text(k), loopback.inet(k))
    k.sendmsg(_udp(k), message, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def sendmmsg(k: Kernel) -> None:
    """The call for many messages sends one; lists of the socket calls forget it."""
    messages = loopback.message_vector(k, _text(k), loopback.inet(k))
    k.sendmmsg(_udp(k), messages, 1, 0).decisive()


# A connected socket is a file


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def write(k: Kernel) -> None:
    """What is written to a connected socket is sent: no send call is needed."""
    k.write(_connected(k), _text(k), SIZE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def writev(k: Kernel) -> None:
    """The gathering form of write sends as well."""
    k.writev(_connected(k), loopback.iovec(k, _text(k)), 1).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def pwritev2(k: Kernel) -> None:
    """With the offset -1 pwritev2 takes files that have no position, and so sockets."""
    sock = _connected(k)
    k.pwritev2(sock, loopback.iovec(k, _text(k)), 1, -1, -1, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, objects=(FILE,))
def sendfile(k: Kernel) -> None:
    """A file goes out without being read, written or sent by those names."""
    file = k.openat(AT_FDCWD, k.relative("f0"), O_RDONLY)
    k.sendfile(_connected(k), file, NULL, SIZE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def splice(k: Kernel) -> None:
    """What is in a pipe moves into the socket without a write or send call on it."""
    sock = _connected(k)
    k.splice(loopback.piped(k, _text(k)), NULL, sock, NULL, SIZE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def vmsplice_splice(k: Kernel) -> None:
    """Memory goes into a pipe, and the pipe into the socket: nothing is ever written."""
    ends = k.buffer(8, name="pipe")
    sock = _connected(k)
    k.pipe2(ends, 0)
    k.vmsplice(k.load(ends, 4, 4), loopback.iovec(k, _text(k)), 1, 0)
    k.splice(k.load(ends, 0, 4), NULL, sock, NULL, SIZE, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_submit(k: Kernel) -> None:
    """The older asynchronous interface writes to sockets too."""
    loopback.asynchronous_write(k, _connected(k), _text(k)).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_send(k: Kernel) -> None:
    """Since 6.0 a ring's SEND takes an address: no send call is ever made."""
    _ring_send(k, "SEND")


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_send_zc(k: Kernel) -> None:
    """The form of SEND without a copy has an operation number of its own."""
    _ring_send(k, "SEND_ZC")


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_sendmsg(k: Kernel) -> None:
    """The ring's SENDMSG is as old as 5.3."""
    _ring_sendmsg(k, "SENDMSG")


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_sendmsg_zc(k: Kernel) -> None:
    """SENDMSG without a copy, since 6.1: a list of forbidden operations may be older."""
    _ring_sendmsg(k, "SENDMSG_ZC")


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_socket_connect_write(k: Kernel) -> None:
    """A ring makes the socket, connects it and writes: no call shows that there is a network."""
    ring, to = k.ring(), loopback.inet(k)
    sock = ring.submit("SOCKET", fd=AF_INET, off=SOCK_DGRAM)
    ring.submit("CONNECT", fd=sock, addr=to, off=to.size)
    ring.submit("WRITE", fd=sock, addr=_text(k), length=SIZE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_registered_socket_chain(k: Kernel) -> None:
    """One call makes a socket that never gets a descriptor and sends from it."""
    ring = k.ring()
    message = loopback.message(k, _text(k), loopback.inet(k))
    ring.register_files(1)
    ring.wait_for_next("SOCKET", fd=AF_INET, off=SOCK_DGRAM, file_index=1, flags=IOSQE_IO_LINK)
    ring.submit("SENDMSG", fd=0, addr=message, length=1, flags=IOSQE_FIXED_FILE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_sqpoll_sendmsg(k: Kernel) -> None:
    """A kernel thread takes the entry from memory and sends."""
    sock, message = _udp(k), loopback.message(k, _text(k), loopback.inet(k))
    k.ring(sqpoll=True).submit("SENDMSG", fd=sock, addr=message, length=1).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))
def io_uring_setup_only_sendmsg(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    sock, message = _udp(k), loopback.message(k, _text(k), loopback.inet(k))
    k.woken_ring().submit("SENDMSG", fd=sock, addr=message, length=1).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_socket_sendmsg(k: Kernel) -> None:
    """A ring from before the filter makes a socket and sends: there is only io_uring_enter."""
    ring, message = k.setup.ring().by(k), loopback.message(k, _text(k), loopback.inet(k))
    sock = ring.submit("SOCKET", fd=AF_INET, off=SOCK_DGRAM)
    ring.submit("SENDMSG", fd=sock, addr=message, length=1).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_socket_sendmsg(k: Kernel) -> None:
    """A polled ring from before the filter makes a socket and sends without any call."""
    ring, message = k.setup.ring(sqpoll=True), loopback.message(k, _text(k), loopback.inet(k))
    ring.nop()
    storing = ring.by(k).stores_only()
    sock = storing.submit("SOCKET", fd=AF_INET, off=SOCK_DGRAM)
    storing.submit("SENDMSG", fd=sock, addr=message, length=1).decisive()


# The 32-bit table, where arguments change shape


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_sendto_i386(k: Kernel) -> None:
    """One 32-bit number stands for all of the socket calls, with the arguments in memory."""
    sock, to = _udp32(k), loopback.inet(k)
    loopback.socketcall(k, SYS_SENDTO, sock, _text(k), SIZE, 0, to, to.size).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_send_i386(k: Kernel) -> None:
    """Send has no number of its own on x86-64; in the 32-bit multiplexer it still does."""
    sock, to = _udp32(k), loopback.inet(k)
    loopback.socketcall(k, SYS_CONNECT, sock, to, to.size)
    loopback.socketcall(k, SYS_SEND, sock, _text(k), SIZE, 0).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_sendmsg_i386(k: Kernel) -> None:
    """The multiplexer leads to sendmsg with a 32-bit structure."""
    message = loopback.message32(k, _text(k), loopback.inet(k))
    loopback.socketcall(k, SYS_SENDMSG, _udp32(k), message, 0).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_sendmmsg_i386(k: Kernel) -> None:
    """The multiplexer leads to sendmmsg too."""
    messages = loopback.message32(k, _text(k), loopback.inet(k))
    loopback.socketcall(k, SYS_SENDMMSG, _udp32(k), messages, 1, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def sendmsg_i386(k: Kernel) -> None:
    """The 32-bit sendmsg has structures and a number of its own."""
    message = loopback.message32(k, _text(k), loopback.inet(k))
    k.i386.sendmsg(_udp(k), message, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def sendmmsg_i386(k: Kernel) -> None:
    """The 32-bit sendmmsg is the oldest of the direct socket calls in that table."""
    messages = loopback.message32(k, _text(k), loopback.inet(k))
    k.i386.sendmmsg(_udp(k), messages, 1, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def writev_i386(k: Kernel) -> None:
    """The 32-bit writev, with a vector of its own shape, sends on a connected socket."""
    text, sock = _text(k), _connected(k)
    k.i386.writev(sock, k.struct("II", text, SIZE, name="iov"), 1).decisive()


# Packets that the program makes itself


for _recipe in (
    by_packet.raw_udp,
    by_packet.raw_ip_header,
    by_packet.raw_icmp,
):
    FAMILY.variant(Technique.SIBLING_SYSCALL, needs=RAW)(_recipe)

FAMILY.variant(
    Technique.SIBLING_SYSCALL,
    assumption=Assumption.TRUSTED_SETUP,
    needs=(Need.CAP_NET_ADMIN,),
    fresh=(Fresh.NET,),
)(by_packet.ping_socket)

for _recipe in (
    by_packet.packet_datagram,
    by_packet.packet_raw,
):
    FAMILY.variant(Technique.SIBLING_SYSCALL, needs=RAW)(_recipe)

FAMILY.variant(Technique.LEGACY_SYSCALL, needs=RAW, references=("man 7 packet",))(
    by_packet.packet_of_the_inet_family
)
FAMILY.variant(Technique.ASYNC_KERNEL, needs=RAW)(by_packet.io_uring_packet_datagram)


# A socket that is there already


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def sendto_inherited_socket(k: Kernel) -> None:
    """Where socket is denied, one from before the filter sends wherever it is told to."""
    send_to(k, _udp(k.setup), _text(k), loopback.inet(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def sendto_inherited_connected_socket(k: Kernel) -> None:
    """That a socket is connected to a harmless peer does not keep sendto from another."""
    sock = _connected(k.setup, loopback.INHERITED_PORT)
    send_to(k, sock, _text(k), loopback.inet(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def reconnect_inherited_socket_write(k: Kernel) -> None:
    """A datagram socket may be connected again and again: to somebody else, then write."""
    sock, to = _connected(k.setup, loopback.INHERITED_PORT), loopback.inet(k)
    k.connect(sock, to, to.size)
    k.write(sock, _text(k), SIZE).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def write_inherited_connected_socket(k: Kernel) -> None:
    """For what is connected already, the plainest of calls goes out to the network."""
    k.write(_connected(k.setup), _text(k), SIZE).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def sendto_received_socket(k: Kernel) -> None:
    """A socket waits in a message: before recvmsg no descriptor shows it."""
    sock = _udp(k.setup)
    pair = loopback.queued_descriptor(k.setup, sock)
    k.setup.close(sock)
    send_to(k, loopback.received_descriptor(k, pair), _text(k), loopback.inet(k)).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def sendto_stolen_socket(k: Kernel) -> None:
    """A neighbour's socket is fetched by pidfd_getfd, so socket need not be allowed."""
    sock = loopback.stolen_socket(k, AF_INET, SOCK_DGRAM)
    send_to(k, sock, _text(k), loopback.inet(k)).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_proc_mem_sendto(k: Kernel) -> None:
    """A neighbour's code is overwritten through a file, so that it sends from a socket it has."""
    k.victim.dup2(_udp(k.victim), deputy.STOLEN_FD)
    to = loopback.inet(k)
    args = (deputy.STOLEN_FD, _text(k), SIZE, 0, to, to.size)
    loopback.planted_code(k, SYS_SENDTO_NUMBER, *args).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    text, to = _text(k), loopback.inet(k)
    with deputy.sibling_thread(k) as thread:
        send_to(thread, _udp(thread), text, to)


# Controls that must not send


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def sendto_without_destination(k: Kernel) -> None:
    """A socket that is not connected sends nothing that has no destination."""
    k.sendto(_udp(k), _text(k), SIZE, 0, NULL, 0).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def write_disconnected(k: Kernel) -> None:
    """Connecting to AF_UNSPEC takes the destination away again."""
    sock, nowhere = _connected(k), loopback.inet(k, family=AF_UNSPEC)
    k.connect(sock, nowhere, nowhere.size)
    k.write(sock, _text(k), SIZE).decisive().may_fail()


def _udp(k: Kernel) -> Result:
    return k.socket(AF_INET, SOCK_DGRAM, 0)


def _udp32(k: Kernel) -> Result:
    return loopback.socketcall_socket(k, AF_INET, SOCK_DGRAM)


def _text(k: Kernel) -> Buffer:
    return k.data(TEXT, name="text")


def _connected(k: Kernel, port: int = loopback.PORT) -> Result:
    sock, to = _udp(k), loopback.inet(k, port)
    k.connect(sock, to, to.size)
    return sock


def _ring_send(k: Kernel, name: str) -> None:
    """One entry of the ring; the length of the address shares a field with something else."""
    sock, to = _udp(k), loopback.inet(k)
    k.ring().submit(
        name, fd=sock, addr=_text(k), length=SIZE, off=to, file_index=to.size
    ).decisive()


def _ring_sendmsg(k: Kernel, name: str) -> None:
    sock, message = _udp(k), loopback.message(k, _text(k), loopback.inet(k))
    k.ring().submit(name, fd=sock, addr=message, length=1).decisive()
