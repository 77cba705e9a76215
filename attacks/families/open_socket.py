"""Get a socket of a given family, type and protocol: what else can be reached follows from that.

The witness finds it among the subject's descriptors by the name of its protocol, which the kernel
gives as an attribute of every socket (``TCP``, ``UDPv6``, ``NETLINK``).
"""

from attacks import deputy, loopback, witness
from attacks.consts import (
    AF_UNIX,
    SOCK_DGRAM,
    SOCK_STREAM,
    SYS_SOCKET,
    Named,
)
from attacks.consts_network import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_VSOCK,
    AF_XDP,
    IOSQE_FIXED_FILE,
    IPPROTO_ICMP,
    IPPROTO_MPTCP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_PACKET,
    SOCK_RAW,
    SOCK_SEQPACKET,
)
from attacks.effects import Effect, EffectKind
from attacks.errors import AttackError
from attacks.family import Assumption, Family, Need, Parameters, Technique
from attacks.kernel import Kernel
from attacks.recorder import Result
from attacks.ring import Ring


def _effect(parameters: Parameters) -> Effect:
    _protocol_name(parameters)
    return Effect(EffectKind.WITNESSED)


def _needs(parameters: Parameters) -> tuple[Need, ...]:
    raw = parameters["type"] == SOCK_RAW and parameters["family"] in (AF_INET, AF_INET6)
    return (Need.CAP_NET_RAW,) if raw or parameters["family"] == AF_PACKET else ()


FAMILY = Family(
    "open-socket",
    title="Get a socket of a family, type and protocol",
    effect=_effect,
    parameters={"family": AF_INET, "type": SOCK_STREAM, "protocol": 0},
    constants={
        "family": (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK, AF_XDP),
        "type": (SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET),
    },
    needs=_needs,
    has_target=False,
    stays=True,
    group="network",
    unrecorded={
        "families that are modules (AF_ALG, AF_CAN, AF_TIPC, AF_BLUETOOTH, ...)": (
            "they are not built here, so what the witness would see is not known"
        ),
        "accept": "whoever can accept has a listening socket of that kind already",
    },
)
SYS_SOCKETPAIR = Named(8, "SYS_SOCKETPAIR")
NO_TYPE = Named(9, "9")
FIRST_FD, FDS = 3, 7
"""Where a subject's descriptors are: nobody opens more than a few."""
SLOT = 32
_FAMILIES = {int(n): n for n in (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET)}
_TYPES = {int(n): n for n in (SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET)}
_INTERNET: dict[tuple[int, int], str] = {
    (SOCK_STREAM, 0): "TCP",
    (SOCK_STREAM, IPPROTO_TCP): "TCP",
    (SOCK_STREAM, IPPROTO_MPTCP): "MPTCP",
    (SOCK_DGRAM, 0): "UDP",
    (SOCK_DGRAM, IPPROTO_UDP): "UDP",
    (SOCK_DGRAM, IPPROTO_UDPLITE): "UDP-Lite",
    (SOCK_DGRAM, IPPROTO_ICMP): "PING",
}
_OTHERS: dict[tuple[int, int], str] = {
    (AF_UNIX, SOCK_STREAM): "UNIX-STREAM",
    (AF_UNIX, SOCK_DGRAM): "UNIX",
    (AF_UNIX, SOCK_RAW): "UNIX",
    (AF_UNIX, SOCK_SEQPACKET): "UNIX",
    (AF_NETLINK, SOCK_DGRAM): "NETLINK",
    (AF_NETLINK, SOCK_RAW): "NETLINK",
    (AF_PACKET, SOCK_DGRAM): "PACKET",
    (AF_PACKET, SOCK_RAW): "PACKET",
    (AF_VSOCK, SOCK_STREAM): "AF_VSOCK",
    (AF_VSOCK, SOCK_SEQPACKET): "AF_VSOCK",
    (AF_XDP, SOCK_RAW): "XDP",
}


def _is_local(parameters: Parameters) -> bool:
    return parameters["family"] == AF_UNIX


def _is_not_local(parameters: Parameters) -> bool:
    return not _is_local(parameters)


def _is_packet(parameters: Parameters) -> bool:
    return parameters["family"] == AF_PACKET


@FAMILY.witness
def the_subject_has_it(w: Kernel) -> None:
    # One zero byte before the first name: a name is found with the zeros around it.
    names = w.buffer(1 + SLOT * FDS, name="names")
    w.copy(names, w.buffer(names.size, name="zeros"), names.size)
    attribute = w.text("system.sockprotoname")
    for number in range(FDS):
        path = w.proc_pid(witness.subject(w), f"/fd/{FIRST_FD + number}")
        w.getxattr(path, attribute, names.at(1 + SLOT * number), SLOT).may_fail()
    wanted = f"\0{_protocol_name(w.recording.parameters)}\0".encode()
    witness.has(w, witness.Text(names, w.add(names.size, 0)), wanted)


# The call


@FAMILY.variant(Technique.BASELINE)
def socket(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.socket(*_wanted(k)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def socket_type_flags(k: Kernel) -> None:
    """Flag bits in the type defeat a rule that compares it with a number."""
    domain, type_, protocol = _wanted(k)
    k.socket(domain, Named(type_, "type") | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, when=_is_local)
def socketpair(k: Kernel) -> None:
    """A pair is two sockets: whoever denies socket alone has not denied them."""
    k.socketpair(*_wanted(k), k.buffer(8, name="pair")).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL, needs=(Need.CAP_NET_RAW,), when=_is_packet)
def socket_type_packet(k: Kernel) -> None:
    """AF_INET with the ancient type SOCK_PACKET is a packet socket: the family says otherwise."""
    k.socket(AF_INET, SOCK_PACKET, k.param("protocol")).decisive()


# The 32-bit multiplexer


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_socket_i386(k: Kernel) -> None:
    """Family, type and protocol are in memory: a filter sees that some socket is asked for."""
    loopback.socketcall(k, SYS_SOCKET, *_wanted(k)).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, when=_is_local)
def socketcall_socketpair_i386(k: Kernel) -> None:
    """The multiplexer makes pairs as well."""
    pair = k.buffer(8, name="pair")
    loopback.socketcall(k, SYS_SOCKETPAIR, *_wanted(k), pair).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_socket(k: Kernel) -> None:
    """A ring makes the socket, since 5.19; its family is where no filter can look."""
    _ring_socket(k, k.ring()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_socket_installed(k: Kernel) -> None:
    """The socket is made without a descriptor, and gets one later (6.8)."""
    ring = k.ring()
    ring.register_files(1)
    domain, type_, protocol = _wanted(k)
    ring.submit("SOCKET", fd=domain, off=type_, length=protocol, file_index=1)
    ring.submit("FIXED_FD_INSTALL", fd=0, flags=IOSQE_FIXED_FILE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.NO_MMAP,))
def io_uring_no_mmap_socket(k: Kernel) -> None:
    """The ring lies in memory of the program: rules on mmap of a descriptor never see it."""
    _ring_socket(k, k.ring(mapped=False)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_sqpoll_socket(k: Kernel) -> None:
    """A kernel thread takes the entry from memory and makes the socket."""
    _ring_socket(k, k.ring(sqpoll=True)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))
def io_uring_setup_only_socket(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    _ring_socket(k, k.woken_ring()).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def io_uring_i386_socket(k: Kernel) -> None:
    """The ring's calls have entries in the 32-bit table too."""
    _ring_socket(k, k.i386.ring()).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_socket(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    _ring_socket(k, k.setup.ring().by(k)).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_socket(k: Kernel) -> None:
    """A polled ring from before the filter makes the socket without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    _ring_socket(k, ring.by(k).stores_only()).decisive()


# Somebody else's


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, when=_is_not_local
)
def recvmsg_waiting_socket(k: Kernel) -> None:
    """It waits in a message of a local socket from before the filter, and recvmsg brings it."""
    sock = k.setup.socket(*_wanted(k))
    pair = loopback.queued_descriptor(k.setup, sock)
    k.setup.close(sock)
    loopback.received_descriptor(k, pair).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def pidfd_getfd_socket(k: Kernel) -> None:
    """A neighbour's socket is fetched: no call that makes one is needed."""
    domain, type_, protocol = _wanted(k)
    loopback.stolen_socket(k, domain, type_, protocol).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def io_uring_stolen_socket(k: Kernel) -> None:
    """A neighbour's ring is fetched by pidfd_getfd, so io_uring_setup need not be allowed."""
    _ring_socket(k, deputy.stolen_ring(k)).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before the filter shares its descriptors with those who are filtered."""
    wanted = _wanted(k)
    with deputy.sibling_thread(k) as thread:
        thread.socket(*wanted)


# Controls that must not get one


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def socket_no_such_type(k: Kernel) -> None:
    """The family is there, but it has no such type: a filter on the family sees no difference."""
    domain, _, protocol = _wanted(k)
    k.socket(domain, NO_TYPE, protocol).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True, when=_is_not_local)
def socketpair_of_another_family(k: Kernel) -> None:
    """Pairs are only made of local sockets."""
    k.socketpair(*_wanted(k), k.buffer(8, name="pair")).decisive().may_fail()


def _wanted(k: Kernel) -> tuple[int, int, int]:
    domain, type_ = k.param("family"), k.param("type")
    return _FAMILIES.get(domain, domain), _TYPES.get(type_, type_), k.param("protocol")


def _ring_socket(k: Kernel, ring: Ring) -> Result:
    domain, type_, protocol = _wanted(k)
    return ring.submit("SOCKET", fd=domain, off=type_, length=protocol)


def _protocol_name(parameters: Parameters) -> str:
    """What the kernel calls the protocol of such a socket."""
    domain, type_, protocol = (parameters[name] for name in ("family", "type", "protocol"))
    if domain in (AF_INET, AF_INET6):
        name = "RAW" if type_ == SOCK_RAW else _INTERNET.get((type_, protocol))
        if name and domain == AF_INET6:
            name = f"{name.upper().replace('-', '')}v6"
    else:
        name = _OTHERS.get((domain, type_))
    if name is None:
        raise AttackError(
            f"open-socket: family={domain},type={type_},protocol={protocol} is not known here"
        )
    return name
