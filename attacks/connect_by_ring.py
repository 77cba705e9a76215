"""Opening a TCP connection with the help of a ring: recipes of the family connect-tcp."""

from __future__ import annotations

from attacks import loopback
from attacks.consts import (
    SOCK_STREAM,
)
from attacks.consts_network import (
    AF_INET,
    IOSQE_FIXED_FILE,
    IOSQE_IO_LINK,
    MSG_FASTOPEN,
)
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result


def tcp(k: Kernel) -> Result:
    return k.socket(AF_INET, SOCK_STREAM, 0)


def letter(k: Kernel) -> Buffer:
    return k.data(b"X", name="letter")


def io_uring_connect(k: Kernel) -> None:
    """A ring connects: no connect call is ever made."""
    sock, to = tcp(k), loopback.inet(k)
    k.ring().submit("CONNECT", fd=sock, addr=to, off=to.size).decisive()


def io_uring_socket_connect(k: Kernel) -> None:
    """The ring makes the socket as well: a filter sees neither its family nor its type."""
    ring, to = k.ring(), loopback.inet(k)
    sock = ring.submit("SOCKET", fd=AF_INET, off=SOCK_STREAM)
    ring.submit("CONNECT", fd=sock, addr=to, off=to.size).decisive()


def io_uring_registered_socket_chain(k: Kernel) -> None:
    """One call makes a socket that never gets a descriptor, connects it and sends."""
    ring, to = k.ring(), loopback.inet(k)
    ring.register_files(1)
    linked = IOSQE_IO_LINK | IOSQE_FIXED_FILE
    ring.wait_for_next("SOCKET", fd=AF_INET, off=SOCK_STREAM, file_index=1, flags=IOSQE_IO_LINK)
    ring.wait_for_next("CONNECT", fd=0, addr=to, off=to.size, flags=linked)
    ring.submit("SEND", fd=0, addr=letter(k), length=1, flags=IOSQE_FIXED_FILE).decisive()


def io_uring_sendmsg_fastopen(k: Kernel) -> None:
    """A ring's SENDMSG takes the fast open flag; it says EINPROGRESS and connects."""
    message = loopback.message(k, letter(k), loopback.inet(k))
    sock = tcp(k)
    k.ring().submit(
        "SENDMSG", fd=sock, addr=message, length=1, op_flags=MSG_FASTOPEN, may_fail=True
    ).decisive()


def io_uring_send_fastopen(k: Kernel) -> None:
    """Since 6.0 a ring's SEND takes an address: one entry is a whole connection."""
    _ring_send(k, "SEND")


def io_uring_send_zc_fastopen(k: Kernel) -> None:
    """The form of SEND without a copy has an operation number of its own."""
    _ring_send(k, "SEND_ZC")


def io_uring_sqpoll_connect(k: Kernel) -> None:
    """A kernel thread takes the entry from memory and connects."""
    sock, to = tcp(k), loopback.inet(k)
    k.ring(sqpoll=True).submit("CONNECT", fd=sock, addr=to, off=to.size).decisive()


def io_uring_setup_only_connect(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    to = loopback.inet(k)
    k.woken_ring().submit("CONNECT", fd=tcp(k), addr=to, off=to.size).decisive()


def io_uring_inherited_socket_connect(k: Kernel) -> None:
    """A ring from before the filter makes and connects a socket: there is only io_uring_enter."""
    ring, to = k.setup.ring().by(k), loopback.inet(k)
    sock = ring.submit("SOCKET", fd=AF_INET, off=SOCK_STREAM)
    ring.submit("CONNECT", fd=sock, addr=to, off=to.size).decisive()


def io_uring_personality_connect(k: Kernel) -> None:
    """The entry runs with credentials from before a restriction; Landlock lies in those."""
    ring, to = k.setup.ring().registered_personality().by(k), loopback.inet(k)
    ring.submit("CONNECT", fd=tcp(k), addr=to, off=to.size).decisive()


def io_uring_inherited_sqpoll_socket_connect(k: Kernel) -> None:
    """A polled ring from before the filter makes and connects a socket without any call."""
    ring, to = k.setup.ring(sqpoll=True), loopback.inet(k)
    ring.nop()
    storing = ring.by(k).stores_only()
    sock = storing.submit("SOCKET", fd=AF_INET, off=SOCK_STREAM)
    storing.submit("CONNECT", fd=sock, addr=to, off=to.size).decisive()


def _ring_send(k: Kernel, name: str) -> None:
    """One entry of the ring that connects and sends; the length of the address shares a field."""
    sock, to = tcp(k), loopback.inet(k)
    k.ring().submit(
        name,
        fd=sock,
        addr=letter(k),
        length=1,
        off=to,
        file_index=to.size,
        op_flags=MSG_FASTOPEN,
        may_fail=True,
    ).decisive()
