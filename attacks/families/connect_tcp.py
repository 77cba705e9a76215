"""Open an outbound TCP connection: somebody who listens outside the mitigation gets one.

Where the connection is from before the filter, the effect is that something new comes through it.
"""

import struct

from attacks import connect_by_ring as by_ring
from attacks import deputy, loopback
from attacks.connect_by_ring import letter, tcp
from attacks.consts import (
    AF_UNIX,
    AT_FDCWD,
    NULL,
    O_RDONLY,
    SOCK_STREAM,
    Named,
)
from attacks.consts_network import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    IPPROTO_MPTCP,
    IPPROTO_TCP,
    MSG_FASTOPEN,
    MSG_NOSIGNAL,
    MSG_OOB,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOL_TCP,
    SYS_CONNECT,
    SYS_SEND,
    SYS_SENDMSG,
    SYS_SENDTO,
    TCP_FASTOPEN_CONNECT,
    TCP_FASTOPEN_NO_COOKIE,
)
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "connect-tcp",
    title="Open an outbound TCP connection",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="network",
    attack_technique="T1071",
    unrecorded={
        "connect on an AF_SMC socket": "AF_SMC is not built into this kernel; it needs a module",
        "connect with TCP_REPAIR": "the socket says connected, but nothing is sent to the peer",
    },
)
SYS_CONNECT_NUMBER = Named(42, "SYS_connect")
INHERITED = Assumption.INHERITED_DESCRIPTOR
ELSEWHERE = 0x7F0A0B0C
LETTER = Object(ObjectKind.FILE, "f0", 0o644, b"X")


@FAMILY.witness
def a_connection_comes_in(w: Kernel) -> None:
    listener = loopback.listener(w.setup)
    w.accept4(listener, NULL, NULL, SOCK_NONBLOCK)


# connect


@FAMILY.variant(Technique.BASELINE)
def connect(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _connect(k, tcp(k), loopback.inet(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def connect_type_flags_protocol(k: Kernel) -> None:
    """Flag bits in the type, and a protocol that is not 0, defeat rules that compare them."""
    sock = k.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP)
    _connect(k, sock, loopback.inet(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def connect_nonblocking(k: Kernel) -> None:
    """The call fails with EINPROGRESS, and the connection is made all the same."""
    sock = k.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)
    _connect(k, sock, loopback.inet(k)).decisive().may_fail()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def connect_any_address(k: Kernel) -> None:
    """The address 0.0.0.0 means this host too, for whoever compares with 127.0.0.1."""
    _connect(k, tcp(k), loopback.inet(k, host=loopback.ANY)).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def connect_other_loopback(k: Kernel) -> None:
    """All of 127.0.0.0/8 is this host: there are sixteen million names for it."""
    _connect(k, tcp(k), loopback.inet(k, host=ELSEWHERE)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def connect_ipv6(k: Kernel) -> None:
    """Filters on the socket's family often name AF_INET alone."""
    _connect(k, _tcp6(k), loopback.inet6(k)).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def connect_ipv6_any_address(k: Kernel) -> None:
    """The address :: means this host too."""
    _connect(k, _tcp6(k), loopback.inet6(k, host=loopback.ANY6)).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def connect_ipv6_mapped(k: Kernel) -> None:
    """An IPv6 socket makes an IPv4 connection: no AF_INET socket is ever asked for."""
    _connect(k, _tcp6(k), loopback.inet6(k, host=loopback.mapped())).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, references=("man 2 socket",))
def connect_mptcp(k: Kernel) -> None:
    """Multipath TCP is another protocol of the same socket family, and falls back to plain TCP."""
    sock = k.socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP)
    _connect(k, sock, loopback.inet(k)).decisive()


# Fast open: the call that sends connects


@FAMILY.variant(Technique.NEWER_SYSCALL, references=("man 7 tcp",))
def sendto_fastopen(k: Kernel) -> None:
    """With MSG_FASTOPEN sendto connects, and the connect call is never made."""
    to = loopback.inet(k)
    k.sendto(tcp(k), letter(k), 1, MSG_FASTOPEN, to, to.size).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def sendto_fastopen_more_flags(k: Kernel) -> None:
    """Beside another flag MSG_FASTOPEN is not found by a rule that compares the whole word."""
    to = loopback.inet(k)
    k.sendto(tcp(k), letter(k), 1, MSG_FASTOPEN | MSG_NOSIGNAL, to, to.size).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def sendto_fastopen_ipv6(k: Kernel) -> None:
    """Fast open on a socket of the family that filters forget."""
    to = loopback.inet6(k)
    k.sendto(_tcp6(k), letter(k), 1, MSG_FASTOPEN, to, to.size).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def sendto_fastopen_mptcp(k: Kernel) -> None:
    """Fast open on a multipath socket: neither the protocol nor the call is what rules name."""
    to = loopback.inet(k)
    sock = k.socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP)
    k.sendto(sock, letter(k), 1, MSG_FASTOPEN, to, to.size).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def sendmsg_fastopen(k: Kernel) -> None:
    """In sendmsg the destination is behind a pointer, and the flag in another argument."""
    message = loopback.message(k, letter(k), loopback.inet(k))
    k.sendmsg(tcp(k), message, MSG_FASTOPEN).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def sendmmsg_fastopen(k: Kernel) -> None:
    """The flag is the fourth argument of sendmmsg, and lists forget that call."""
    messages = loopback.message_vector(k, letter(k), loopback.inet(k))
    k.sendmmsg(tcp(k), messages, 1, MSG_FASTOPEN).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def setsockopt_fastopen_connect(k: Kernel) -> None:
    """An option of the socket asks for a fast open, so that no send flag shows it."""
    sock = tcp(k)
    _switch_on(k, sock, TCP_FASTOPEN_CONNECT)
    _connect(k, sock, loopback.inet(k)).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def setsockopt_fastopen_write(k: Kernel) -> None:
    """With two options connect sends nothing: the write that follows makes the connection."""
    sock = tcp(k)
    _switch_on(k, sock, TCP_FASTOPEN_CONNECT)
    _switch_on(k, sock, TCP_FASTOPEN_NO_COOKIE)
    _connect(k, sock, loopback.inet(k))
    k.write(sock, letter(k), 1).decisive()


# io_uring


for _recipe in (
    by_ring.io_uring_connect,
    by_ring.io_uring_socket_connect,
    by_ring.io_uring_registered_socket_chain,
    by_ring.io_uring_sendmsg_fastopen,
    by_ring.io_uring_send_fastopen,
    by_ring.io_uring_send_zc_fastopen,
):
    FAMILY.variant(Technique.ASYNC_KERNEL)(_recipe)

FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))(by_ring.io_uring_sqpoll_connect)
FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))(
    by_ring.io_uring_setup_only_connect
)

for _recipe in (
    by_ring.io_uring_inherited_socket_connect,
    by_ring.io_uring_personality_connect,
):
    FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)(_recipe)

FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)(by_ring.io_uring_inherited_sqpoll_socket_connect)


# The 32-bit table, where arguments change shape


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_connect_i386(k: Kernel) -> None:
    """One 32-bit number stands for all of the socket calls, with the arguments in memory."""
    sock, to = loopback.socketcall_socket(k, AF_INET, SOCK_STREAM), loopback.inet(k)
    loopback.socketcall(k, SYS_CONNECT, sock, to, to.size).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_sendto_fastopen_i386(k: Kernel) -> None:
    """The fast open flag itself is in memory: no filter can tell this sendto from another."""
    sock, to = loopback.socketcall_socket(k, AF_INET, SOCK_STREAM), loopback.inet(k)
    args = (sock, letter(k), 1, MSG_FASTOPEN, to, to.size)
    loopback.socketcall(k, SYS_SENDTO, *args).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_sendmsg_fastopen_i386(k: Kernel) -> None:
    """Here the flag is in memory, and the destination two pointers away."""
    sock = loopback.socketcall_socket(k, AF_INET, SOCK_STREAM)
    message = loopback.message32(k, letter(k), loopback.inet(k))
    loopback.socketcall(k, SYS_SENDMSG, sock, message, MSG_FASTOPEN).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def sendmsg_fastopen_i386(k: Kernel) -> None:
    """Fast open by the 32-bit sendmsg, which has structures of its own."""
    message = loopback.message32(k, letter(k), loopback.inet(k))
    k.i386.sendmsg(tcp(k), message, MSG_FASTOPEN).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def sendmmsg_fastopen_i386(k: Kernel) -> None:
    """Fast open by the 32-bit sendmmsg."""
    messages = loopback.message32(k, letter(k), loopback.inet(k))
    k.i386.sendmmsg(tcp(k), messages, 1, MSG_FASTOPEN).decisive()


# A socket that is there already


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def connect_inherited_socket(k: Kernel) -> None:
    """Where socket is denied and connect forgotten, a socket from before the filter will do."""
    _connect(k, tcp(k.setup), loopback.inet(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def sendto_fastopen_inherited_socket(k: Kernel) -> None:
    """With a socket from before the filter sendto is the only call that is needed."""
    to = loopback.inet(k)
    k.sendto(tcp(k.setup), letter(k), 1, MSG_FASTOPEN, to, to.size).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def reconnect_inherited_connection(k: Kernel) -> None:
    """A connection to somebody else is dissolved with AF_UNSPEC, and its socket used anew."""
    sock = loopback.inherited_connection(k)
    nowhere = loopback.inet(k, family=AF_UNSPEC)
    _connect(k, sock, nowhere)
    _connect(k, sock, loopback.inet(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def write_inherited_connection(k: Kernel) -> None:
    """For what is connected already, the plainest of calls goes out to the network."""
    sock = loopback.inherited_connection(k)
    k.write(sock, letter(k), 1).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def sendto_inherited_connection(k: Kernel) -> None:
    """Without a destination sendto uses the connection from before the filter."""
    sock = loopback.inherited_connection(k)
    k.sendto(sock, letter(k), 1, 0, NULL, 0).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, assumption=INHERITED)
def socketcall_send_inherited_connection_i386(k: Kernel) -> None:
    """Send has no number of its own on x86-64; in the 32-bit multiplexer it still does."""
    sock = loopback.inherited_connection(k)
    loopback.socketcall(k, SYS_SEND, sock, letter(k), 1, 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def splice_inherited_connection(k: Kernel) -> None:
    """What is in a pipe moves into the connection without a write or send call."""
    sock = loopback.inherited_connection(k)
    k.splice(loopback.piped(k, letter(k)), NULL, sock, NULL, 1, 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED, objects=(LETTER,))
def sendfile_inherited_connection(k: Kernel) -> None:
    """A file goes out without being read, written or sent by those names."""
    sock = loopback.inherited_connection(k)
    k.sendfile(sock, k.openat(AT_FDCWD, k.relative("f0"), O_RDONLY), NULL, 1).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, assumption=INHERITED)
def io_submit_inherited_connection(k: Kernel) -> None:
    """The older asynchronous interface writes to sockets too."""
    sock = loopback.inherited_connection(k)
    loopback.asynchronous_write(k, sock, letter(k)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, assumption=INHERITED)
def io_uring_write_inherited_connection(k: Kernel) -> None:
    """A ring writes to the connection from before the filter."""
    sock = loopback.inherited_connection(k)
    k.ring().submit("WRITE", fd=sock, addr=letter(k), length=1).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, assumption=INHERITED)
def io_uring_send_zc_inherited_connection(k: Kernel) -> None:
    """A ring sends without a copy on the connection from before the filter."""
    sock = loopback.inherited_connection(k)
    k.ring().submit("SEND_ZC", fd=sock, addr=letter(k), length=1).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def send_urgent_inherited_connection(k: Kernel) -> None:
    """Urgent data goes beside the stream; monitors of the stream may not see it."""
    sock = loopback.inherited_connection(k, urgent=True)
    k.sendto(sock, letter(k), 1, MSG_OOB, NULL, 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def write_received_connection(k: Kernel) -> None:
    """A connected socket waits in a message: before recvmsg no descriptor shows it."""
    sock = loopback.inherited_connection(k)
    pair = loopback.queued_descriptor(k.setup, sock)
    k.setup.close(sock)
    k.write(loopback.received_descriptor(k, pair), letter(k), 1).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def connect_stolen_socket(k: Kernel) -> None:
    """A neighbour's socket is fetched by pidfd_getfd, so socket need not be allowed."""
    sock = loopback.stolen_socket(k, AF_INET, SOCK_STREAM)
    _connect(k, sock, loopback.inet(k)).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_proc_mem_connect(k: Kernel) -> None:
    """A neighbour's code is overwritten through a file, so that it connects a socket it has."""
    k.victim.dup2(tcp(k.victim), deputy.STOLEN_FD)
    to = loopback.inet(k)
    loopback.planted_code(k, SYS_CONNECT_NUMBER, deputy.STOLEN_FD, to, to.size).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def io_uring_stolen_connect(k: Kernel) -> None:
    """A neighbour's ring is fetched by pidfd_getfd, so io_uring_setup need not be allowed."""
    ring, to = deputy.stolen_ring(k), loopback.inet(k)
    sock = ring.submit("SOCKET", fd=AF_INET, off=SOCK_STREAM)
    ring.submit("CONNECT", fd=sock, addr=to, off=to.size).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    to = loopback.inet(k)
    with deputy.sibling_thread(k) as thread:
        _connect(thread, tcp(thread), to)


# Controls that must not connect


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def sendto_without_fastopen(k: Kernel) -> None:
    """Without the flag a destination does not make sendto connect: it is EPIPE."""
    to = loopback.inet(k)
    k.sendto(tcp(k), letter(k), 1, MSG_NOSIGNAL, to, to.size).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def connect_unix_family(k: Kernel) -> None:
    """A TCP socket refuses an address of another family."""
    sock, to = tcp(k), loopback.inet(k, family=AF_UNIX)
    _connect(k, sock, to).decisive().may_fail()


def _tcp6(k: Kernel) -> Result:
    return k.socket(AF_INET6, SOCK_STREAM, 0)


def _connect(k: Kernel, sock: Result, to: Buffer) -> Result:
    return k.connect(sock, to, to.size)


def _switch_on(k: Kernel, sock: Result, option: int) -> None:
    k.setsockopt(sock, SOL_TCP, option, k.data(struct.pack("<I", 1), name="on"), 4)
