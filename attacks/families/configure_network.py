"""Change how the network is set up: the loopback device gets another MTU.

Each trial has a network namespace of its own.
"""

import struct

from attacks import deputy, loopback
from attacks.consts import (
    AF_UNIX,
    AT_FDCWD,
    NULL,
    O_CREAT,
    O_RDWR,
    SOCK_DGRAM,
    Named,
)
from attacks.consts_network import (
    AF_INET,
    AF_NETLINK,
    NETLINK_KOBJECT_UEVENT,
    NETLINK_ROUTE,
    SIOCGIFMTU,
    SIOCSIFMTU,
    SOCK_RAW,
    SYS_SEND,
    SYS_SENDMSG,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "configure-network",
    title="Change the network configuration",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="network",
    attack_technique="T1562",
    unrecorded={
        "write to class/net/lo/mtu of a new sysfs": (
            "a user namespace gets one only where a whole sysfs is mounted already"
        ),
        "a neighbour's socket or code": "the neighbour is in another network namespace in a trial",
    },
)
MTU = 1400
LOOPBACK_INDEX = 1
MTU_OFFSET = 16
RTM_NEWLINK = Named(16, "RTM_NEWLINK")
NLM_F_REQUEST = Named(1, "NLM_F_REQUEST")
IFLA_MTU = Named(4, "IFLA_MTU")
ADMIN = (Need.CAP_NET_ADMIN,)
NETWORK = (Fresh.NET,)
INHERITED = Assumption.INHERITED_DESCRIPTOR
WORD = (1 << 64) - 1


@FAMILY.witness
def the_mtu_is_another(w: Kernel) -> None:
    sock = w.setup.socket(AF_INET, SOCK_DGRAM, 0)
    about = _interface(w, 0)
    w.ioctl(sock, SIOCGIFMTU, about)
    w.expect(w.load(about, MTU_OFFSET, 4), WORD, MTU)


# The ioctl


@FAMILY.variant(Technique.BASELINE, needs=ADMIN, fresh=NETWORK)
def ioctl(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.ioctl(k.socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFMTU, _interface(k)).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=NETWORK)
def ioctl_unix_socket(k: Kernel) -> None:
    """A local socket takes the ioctl too: denying the internet families does not help."""
    k.ioctl(k.socket(AF_UNIX, SOCK_DGRAM, 0), SIOCSIFMTU, _interface(k)).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=NETWORK)
def ioctl_uevent_socket(k: Kernel) -> None:
    """So does a netlink socket of a protocol that has nothing to do with networks."""
    sock = k.socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT)
    k.ioctl(sock, SIOCSIFMTU, _interface(k)).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=NETWORK)
def ioctl_socketpair(k: Kernel) -> None:
    """The socket may be one end of a pair, where the socket call is denied."""
    pair = k.buffer(8, name="pair")
    k.socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)
    k.ioctl(k.load(pair, 0, 4), SIOCSIFMTU, _interface(k)).decisive()


# Netlink: the request is data


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=NETWORK)
def netlink_sendto(k: Kernel) -> None:
    """What ip(8) does: the change is in a message, where no filter looks."""
    request = _request(k)
    k.sendto(_netlink(k), request, request.size, 0, NULL, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=NETWORK)
def netlink_type_datagram(k: Kernel) -> None:
    """For netlink SOCK_DGRAM and SOCK_RAW are the same; rules may name one of them."""
    request, sock = _request(k), k.socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE)
    k.sendto(sock, request, request.size, 0, NULL, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=NETWORK)
def netlink_write(k: Kernel) -> None:
    """A plain write to the socket sends the request."""
    request = _request(k)
    k.write(_netlink(k), request, request.size).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=NETWORK)
def netlink_writev(k: Kernel) -> None:
    """The gathering write sends the request."""
    k.writev(_netlink(k), loopback.iovec(k, _request(k)), 1).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=NETWORK)
def netlink_sendmsg(k: Kernel) -> None:
    """What the netlink libraries call: the request is two pointers away."""
    k.sendmsg(_netlink(k), loopback.message(k, _request(k)), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=ADMIN, fresh=NETWORK)
def netlink_io_submit(k: Kernel) -> None:
    """The older asynchronous interface writes to netlink sockets too."""
    loopback.asynchronous_write(k, _netlink(k), _request(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=NETWORK)
def netlink_splice(k: Kernel) -> None:
    """A request that is in a pipe moves into the socket without a write or send call on it."""
    request, sock = _request(k), _netlink(k)
    k.splice(loopback.piped(k, request), NULL, sock, NULL, request.size, 0).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=ADMIN, fresh=NETWORK)
def io_uring_netlink_write(k: Kernel) -> None:
    """A ring writes the request: no send call is made."""
    sock, request = _netlink(k), _request(k)
    k.ring().submit("WRITE", fd=sock, addr=request, length=request.size).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=ADMIN, fresh=NETWORK)
def io_uring_netlink_socket_send(k: Kernel) -> None:
    """The ring makes the netlink socket as well: a filter does not see its family."""
    ring, request = k.ring(), _request(k)
    sock = ring.submit("SOCKET", fd=AF_NETLINK, off=SOCK_RAW, length=NETLINK_ROUTE)
    ring.submit("SEND", fd=sock, addr=request, length=request.size).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_RING,
    needs=ADMIN,
    fresh=NETWORK,
)
def io_uring_inherited_netlink_socket_send(k: Kernel) -> None:
    """A ring from before the filter makes the socket and sends: there is only io_uring_enter."""
    ring, request = k.setup.ring().by(k), _request(k)
    sock = ring.submit("SOCKET", fd=AF_NETLINK, off=SOCK_RAW, length=NETLINK_ROUTE)
    ring.submit("SEND", fd=sock, addr=request, length=request.size).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_RING,
    needs=(*ADMIN, Need.SQPOLL),
    fresh=NETWORK,
)
def io_uring_inherited_sqpoll_netlink_socket_send(k: Kernel) -> None:
    """A polled ring from before the filter makes the socket and sends without any call."""
    ring, request = k.setup.ring(sqpoll=True), _request(k)
    ring.nop()
    storing = ring.by(k).stores_only()
    sock = storing.submit("SOCKET", fd=AF_NETLINK, off=SOCK_RAW, length=NETLINK_ROUTE)
    storing.submit("SEND", fd=sock, addr=request, length=request.size).decisive()


# The 32-bit table, where arguments change shape


@FAMILY.variant(Technique.MULTIPLEXER, needs=ADMIN, fresh=NETWORK)
def socketcall_netlink_send_i386(k: Kernel) -> None:
    """One 32-bit number stands for all of the socket calls: the family is in memory."""
    sock, request = loopback.socketcall_socket(k, AF_NETLINK, SOCK_RAW), _request(k)
    loopback.socketcall(k, SYS_SEND, sock, request, request.size, 0).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, needs=ADMIN, fresh=NETWORK)
def socketcall_netlink_sendmsg_i386(k: Kernel) -> None:
    """The multiplexer leads to sendmsg with 32-bit structures."""
    sock = loopback.socketcall_socket(k, AF_NETLINK, SOCK_RAW)
    kernel = k.data(struct.pack("<HHII", AF_NETLINK, 0, 0, 0), name="address")
    message = loopback.message32(k, _request(k), kernel)
    loopback.socketcall(k, SYS_SENDMSG, sock, message, 0).decisive()


# What is there already


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED, needs=ADMIN, fresh=NETWORK)
def ioctl_inherited_socket(k: Kernel) -> None:
    """Any socket from before the filter will do, whatever it was for."""
    sock = k.setup.socket(AF_INET, SOCK_DGRAM, 0)
    k.ioctl(sock, SIOCSIFMTU, _interface(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED, needs=ADMIN, fresh=NETWORK)
def netlink_write_inherited_socket(k: Kernel) -> None:
    """With a netlink socket from before the filter, write is the only call."""
    request = _request(k)
    k.write(_netlink(k.setup), request, request.size).decisive()


# Somebody else


@FAMILY.variant(
    Technique.DEPUTY_PROCESS,
    assumption=Assumption.UNFILTERED_THREAD,
    needs=ADMIN,
    fresh=NETWORK,
)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    about = _interface(k)
    with deputy.sibling_thread(k) as thread:
        thread.ioctl(thread.socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFMTU, about)


# Controls that must not change it


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True, needs=ADMIN, fresh=NETWORK)
def ioctl_regular_file(k: Kernel) -> None:
    """The request is only for sockets: a file refuses it."""
    file = k.openat(AT_FDCWD, k.relative("f0"), O_CREAT | O_RDWR, 0o644)
    k.ioctl(file, SIOCSIFMTU, _interface(k)).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True, needs=ADMIN, fresh=NETWORK)
def uevent_sendto(k: Kernel) -> None:
    """The same message on a netlink socket of another protocol finds nobody."""
    request = _request(k)
    sock = k.socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT)
    k.sendto(sock, request, request.size, 0, NULL, 0).decisive().may_fail()


def _interface(k: Kernel, mtu: int = MTU) -> Buffer:
    """A ``struct ifreq``."""
    return k.data(b"lo".ljust(16, b"\0") + struct.pack("<i20x", mtu), name="ifreq")


def _netlink(k: Kernel) -> Result:
    return k.socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)


def _request(k: Kernel) -> Buffer:
    """A routing message that sets one attribute of the loopback device."""
    link = struct.pack("<BxHiII", 0, 0, LOOPBACK_INDEX, 0, 0)
    attribute = struct.pack("<HHI", 8, IFLA_MTU, MTU)
    size = 16 + len(link) + len(attribute)
    head = struct.pack("<IHHII", size, RTM_NEWLINK, NLM_F_REQUEST, 1, 0)
    return k.data(head + link + attribute, name="request")
