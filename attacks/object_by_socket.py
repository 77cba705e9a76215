"""Making a node by binding a local socket: recipes of the family create-filesystem-object."""

from __future__ import annotations

import struct

from attacks.consts import (
    AF_UNIX,
    SOCK_DGRAM,
    SOCK_STREAM,
    SYS_BIND,
    SYS_SOCKET,
)
from attacks.kernel import Kernel
from attacks.recorder import Buffer


def bind_unix_stream(k: Kernel) -> None:
    """Binding a local socket makes a node: a network call creates a file system object."""
    fd = k.socket(AF_UNIX, SOCK_STREAM, 0)
    address = _address(k)
    k.bind(fd, address, address.size).decisive()


def bind_unix_datagram(k: Kernel) -> None:
    """The other type of local socket."""
    fd = k.socket(AF_UNIX, SOCK_DGRAM, 0)
    address = _address(k)
    k.bind(fd, address, address.size).decisive()


def bind_socketpair(k: Kernel) -> None:
    """The socket comes from socketpair: rules on socket never see it."""
    pair = k.buffer(8, name="sv")
    k.socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)
    address = _address(k)
    k.bind(k.load(pair, 0, 4), address, address.size).decisive()


def bind_inherited_socket(k: Kernel) -> None:
    """The socket was made before the filter: only bind is left to stop."""
    fd = k.setup.socket(AF_UNIX, SOCK_STREAM, 0)
    address = _address(k)
    k.bind(fd, address, address.size).decisive()


def io_uring_bind(k: Kernel) -> None:
    """A ring binds the socket (6.11): no bind call is made."""
    fd = k.socket(AF_UNIX, SOCK_STREAM, 0)
    address = _address(k)
    k.ring().bind(fd, address, address.size).decisive()


def bind_i386_socketcall(k: Kernel) -> None:
    """One call for all socket calls, its arguments behind a pointer where no filter can look."""
    fd = k.i386.socketcall(SYS_SOCKET, k.struct("III", AF_UNIX, SOCK_STREAM, 0, name="args"))
    address = _address(k)
    arguments = k.struct("III", fd, address, address.size, name="args")
    k.i386.socketcall(SYS_BIND, arguments).decisive()


def bind_i386(k: Kernel) -> None:
    """The 32-bit table has a bind of its own since 4.3."""
    fd = k.i386.socket(AF_UNIX, SOCK_STREAM, 0)
    address = _address(k)
    k.i386.bind(fd, address, address.size).decisive()


def _address(k: Kernel) -> Buffer:
    """The target as a ``sockaddr_un``."""
    path = k.recording.effect.path.encode() + b"\0"
    return k.data(struct.pack("<H", AF_UNIX) + path, name="address")
