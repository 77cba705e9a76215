"""Attach a classic BPF program to a socket: the kernel then runs it for every packet.

The program here drops everything.  A datagram that is dropped is no longer charged to its sender,
which an onlooker sees at a socket of its own.
"""

from attacks.consts import AF_UNIX, SOCK_DGRAM, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Arg, Buffer, Result
from attacks.ring import Ring

FAMILY = Family(
    "attach-socket-filter",
    title="Attach a BPF program to a socket",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    attack_technique="T1205.002",
    group="kernel surface",
    unrecorded={
        "setsockopt(SO_ATTACH_BPF)": "its program is from bpf(2), which the sandbox may not call",
        "setsockopt(SO_ATTACH_REUSEPORT_CBPF)": (
            "the program chooses among sockets and drops nothing: it shows to nobody outside"
        ),
        "setsockopt(PACKET_FANOUT_DATA)": (
            "the program chooses among sockets and drops nothing: it shows to nobody outside"
        ),
        "ioctl(TUNATTACHFILTER)": "the device /dev/net/tun is not in the sandbox",
    },
)
SOCK_NONBLOCK = Named(0o4000, "SOCK_NONBLOCK")
SOL_SOCKET = Named(1, "SOL_SOCKET")
SO_ATTACH_FILTER = Named(26, "SO_ATTACH_FILTER")
SO_LOCK_FILTER = Named(44, "SO_LOCK_FILTER")
SETSOCKOPT = Named(14, "SYS_SETSOCKOPT")
SIOCOUTQ = Named(0x5411, "SIOCOUTQ")
SOCKET_URING_OP_SETSOCKOPT = Named(3, "SOCKET_URING_OP_SETSOCKOPT")
NAME = b"\0sidestep-filter"
DROP = b"\x06\0\0\0\0\0\0\0"
"""One instruction: return 0, which is how much of the packet to keep."""
FPROG_SIZE, FPROG32_SIZE = 16, 8
ALL_BITS = 0xFFFFFFFF


@FAMILY.witness
def datagrams_are_dropped(w: Kernel) -> None:
    sender = w.socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0)
    address = _address(w)
    w.connect(sender, address, address.size)
    w.write(sender, w.text("hello"), 5)
    queued = w.buffer(4, name="queued")
    w.ioctl(sender, SIOCOUTQ, queued)
    w.expect(w.load(queued, 0, 4), ALL_BITS, 0)


@FAMILY.variant(Technique.BASELINE)
def setsockopt(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    socket = _socket(k)
    k.setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, _program(k), FPROG_SIZE).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def setsockopt_inherited(k: Kernel) -> None:
    """The socket is older than the filter: rules on socket and bind never see it."""
    socket = k.setup.socket(AF_UNIX, SOCK_DGRAM, 0)
    address = _address(k)
    k.setup.bind(socket, address, address.size)
    k.setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, _program(k), FPROG_SIZE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_setsockopt(k: Kernel) -> None:
    """A ring sets socket options since 6.7: setsockopt is never called."""
    socket = _socket(k)
    _by_ring(k.ring(), socket, _program(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_setsockopt(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    socket = _socket(k)
    _by_ring(k.setup.ring().by(k), socket, _program(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def setsockopt_i386(k: Kernel) -> None:
    """The 32-bit call takes a program of its own layout, and has another number."""
    socket = _socket(k)
    program = _program32(k)
    k.i386.setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, program, FPROG32_SIZE).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def socketcall_setsockopt_i386(k: Kernel) -> None:
    """One call of the 32-bit table does everything with sockets, its arguments in memory."""
    arguments = (_socket(k), SOL_SOCKET, SO_ATTACH_FILTER, _program32(k), FPROG32_SIZE)
    k.i386.socketcall(SETSOCKOPT, k.struct("IIIII", *arguments, name="arguments")).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def setsockopt_lock_filter(k: Kernel) -> None:
    """Another option about filters, which attaches none: the datagrams stay."""
    socket = _socket(k)
    k.setsockopt(socket, SOL_SOCKET, SO_LOCK_FILTER, k.struct("I", 1), 4).decisive()


def _address(k: Kernel) -> Buffer:
    return k.data(AF_UNIX.to_bytes(2, "little") + NAME, name="address")


def _socket(k: Kernel) -> Result:
    """A socket under a name that everybody in its network namespace can send to."""
    socket = k.socket(AF_UNIX, SOCK_DGRAM, 0)
    address = _address(k)
    k.bind(socket, address, address.size)
    return socket


def _program(k: Kernel) -> Buffer:
    return k.struct("HHIQ", 1, 0, 0, k.data(DROP, name="filter"), name="fprog")


def _program32(k: Kernel) -> Buffer:
    return k.struct("HHI", 1, 0, k.data(DROP, name="filter"), name="fprog")


def _by_ring(ring: Ring, socket: Arg, program: Buffer) -> Result:
    """``level`` and ``optname`` share the place of an address, ``optval`` is behind."""
    option = SO_ATTACH_FILTER << 32 | SOL_SOCKET
    command = SOCKET_URING_OP_SETSOCKOPT
    return ring.submit(
        "URING_CMD", fd=socket, off=command, addr=option, file_index=FPROG_SIZE, addr3=program
    )
