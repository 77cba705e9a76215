"""The kernel sends the signal, to the owner of a descriptor: recipes of the family kill-process.

Datagrams where data is what happens: the end of a stream would be a signal too.
"""

from __future__ import annotations

from attacks import neighbour
from attacks.consts import (
    AF_UNIX,
    O_CREAT,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    SIGKILL,
    SOCK_DGRAM,
    SOCK_STREAM,
    Named,
)
from attacks.kernel import Kernel
from attacks.neighbour import F_SETOWN_EX
from attacks.recorder import Result

F_SETFL = Named(4, "F_SETFL")
F_SETOWN = Named(8, "F_SETOWN")
F_SETSIG = Named(10, "F_SETSIG")
F_OWNER_TID = 0
F_SETLEASE = Named(1024, "F_SETLEASE")
F_NOTIFY = Named(1026, "F_NOTIFY")
F_RDLCK = Named(0, "F_RDLCK")
DN_CREATE = Named(4, "DN_CREATE")
O_ASYNC = Named(0o20000, "O_ASYNC")
FIOSETOWN = Named(0x8901, "FIOSETOWN")
SIOCSPGRP = Named(0x8902, "SIOCSPGRP")
FIOASYNC = Named(0x5452, "FIOASYNC")


def socketpair(k: Kernel, kind: int = SOCK_STREAM) -> tuple[Result, Result]:
    pair = k.buffer(8, name="sockets")
    k.socketpair(AF_UNIX, kind, 0, pair)
    return k.load(pair, 0, 4), k.load(pair, 4, 4)


def fcntl_owner(k: Kernel) -> None:
    """The victim is made the owner of a socket, and SIGIO, when data arrives, ends it."""
    ours, other = socketpair(k, SOCK_DGRAM)
    k.fcntl(ours, F_SETOWN, neighbour.pid(k))
    k.fcntl(ours, F_SETFL, O_ASYNC | O_NONBLOCK)
    k.write(other, k.text("x"), 1).decisive()


def fcntl_owner_sigkill(k: Kernel) -> None:
    """F_SETSIG chooses the signal, so the kernel sends SIGKILL for the attacker."""
    ours, other = socketpair(k, SOCK_DGRAM)
    k.fcntl(ours, F_SETOWN, neighbour.pid(k))
    k.fcntl(ours, F_SETSIG, SIGKILL)
    k.fcntl(ours, F_SETFL, O_ASYNC)
    k.write(other, k.text("x"), 1).decisive()


def fcntl_owner_group(k: Kernel) -> None:
    """A negative owner is a group: the victim's pid is no argument of the call."""
    ours, other = socketpair(k, SOCK_DGRAM)
    k.fcntl(ours, F_SETOWN, neighbour.own_group(k))
    k.fcntl(ours, F_SETFL, O_ASYNC)
    k.write(other, k.text("x"), 1).decisive()


def fcntl_owner_ex(k: Kernel) -> None:
    """F_SETOWN_EX names the owner in memory, where no filter can look."""
    ours, other = socketpair(k, SOCK_DGRAM)
    k.fcntl(ours, F_SETOWN_EX, k.struct("II", F_OWNER_TID, neighbour.pid(k), name="f_owner_ex"))
    k.fcntl(ours, F_SETFL, O_ASYNC)
    k.write(other, k.text("x"), 1).decisive()


def fcntl_owner_pipe(k: Kernel) -> None:
    """A pipe has an owner too; its writer's end is an event, and so nothing need be written."""
    ends = k.buffer(8, name="pipe")
    k.pipe2(ends, 0)
    reader = k.load(ends, 0, 4)
    k.fcntl(reader, F_SETOWN, neighbour.pid(k))
    k.fcntl(reader, F_SETFL, O_ASYNC).decisive()


def fcntl64_owner_i386(k: Kernel) -> None:
    """The 32-bit table has two calls for fcntl, of which lists know one."""
    ours, other = socketpair(k, SOCK_DGRAM)
    k.i386.raw("fcntl64", ours, F_SETOWN, neighbour.pid(k))
    k.i386.raw("fcntl64", ours, F_SETFL, O_ASYNC)
    k.i386.write(other, k.text("x"), 1).decisive()


def ioctl_owner(k: Kernel) -> None:
    """FIOSETOWN and FIOASYNC do by ioctl, with the pid in memory, what fcntl does."""
    ours, other = socketpair(k, SOCK_DGRAM)
    k.ioctl(ours, FIOSETOWN, k.struct("I", neighbour.pid(k), name="owner"))
    k.ioctl(ours, FIOASYNC, k.struct("I", 1, name="on"))
    k.write(other, k.text("x"), 1).decisive()


def ioctl_socket_owner(k: Kernel) -> None:
    """SIOCSPGRP is a second number for the same request."""
    ours, other = socketpair(k, SOCK_DGRAM)
    k.ioctl(ours, SIOCSPGRP, k.struct("I", neighbour.pid(k), name="owner"))
    k.ioctl(ours, FIOASYNC, k.struct("I", 1, name="on"))
    k.write(other, k.text("x"), 1).decisive()


def io_uring_write_owner(k: Kernel) -> None:
    """The write that makes the kernel send the signal comes from a ring."""
    ours, other = socketpair(k, SOCK_DGRAM)
    k.fcntl(ours, F_SETOWN, neighbour.pid(k))
    k.fcntl(ours, F_SETFL, O_ASYNC)
    k.ring().submit("WRITE", fd=other, addr=k.text("x"), length=1).decisive()


def inherited_owned_socket(k: Kernel) -> None:
    """Owner and signal were set before the filter: one byte written is the whole attack."""
    ours, other = socketpair(k.setup, SOCK_DGRAM)
    with neighbour.before_the_filter(k) as before:
        before.fcntl(ours, F_SETOWN, neighbour.pid(k))
    k.setup.fcntl(ours, F_SETSIG, SIGKILL)
    k.setup.fcntl(ours, F_SETFL, O_ASYNC)
    k.write(other, k.text("x"), 1).decisive()


def end_of_stream(k: Kernel) -> None:
    """A stream that ends with its process is an event like data: no call sends anything."""
    ours, _ = socketpair(k)
    k.fcntl(ours, F_SETOWN, neighbour.pid(k))
    k.fcntl(ours, F_SETSIG, SIGKILL)
    k.fcntl(ours, F_SETFL, O_ASYNC).decisive()


def directory_notification(k: Kernel) -> None:
    """Dnotify signals the owner when a file is made in a directory; O_ASYNC is never set."""
    directory = k.open(k.text("watched"), O_RDONLY)
    k.fcntl(directory, F_SETOWN, neighbour.pid(k))
    k.fcntl(directory, F_SETSIG, SIGKILL)
    k.fcntl(directory, F_NOTIFY, DN_CREATE)
    k.open(k.text("watched/new"), O_CREAT | O_RDWR, 0o600).decisive()


def broken_lease(k: Kernel) -> None:
    """Opening a file signals the owner of a lease on it; O_ASYNC is never set."""
    file = k.open(k.text("leased"), O_RDONLY)
    k.fcntl(file, F_SETLEASE, F_RDLCK)
    k.fcntl(file, F_SETOWN, neighbour.pid(k))
    k.fcntl(file, F_SETSIG, SIGKILL)
    k.open(k.text("leased"), O_WRONLY | O_NONBLOCK).decisive().may_fail()
