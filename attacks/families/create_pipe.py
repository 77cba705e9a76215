"""Create a pipe, to pass bytes to a child or to somebody else.

What carries bytes or counts without being a pipe is equivalent.
"""

from attacks import descriptors, witness
from attacks.consts import AF_UNIX, O_CLOEXEC, O_NONBLOCK, SOCK_DGRAM, SOCK_STREAM, Named
from attacks.effects import Effect, EffectKind, Grade
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

O_DIRECT = Named(0o40000, "O_DIRECT")
EFD_SEMAPHORE = Named(1, "EFD_SEMAPHORE")
SYS_SOCKETPAIR = Named(8, "SYS_SOCKETPAIR")
SOCK_CLOEXEC = Named(0o2000000, "SOCK_CLOEXEC")
CHANNELS = (b"pipe:[", b"socket:[", b"anon_inode:[eventfd]")

FAMILY = Family(
    "create-pipe",
    title="Create a pipe",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    attack_technique="T1559",
    group="processes",
    unrecorded={
        "mknod with S_IFIFO": "a pipe with a name, see create-filesystem-object",
    },
)


@FAMILY.witness
def a_channel_is_open(w: Kernel) -> None:
    descriptors.one_of(w, witness.subject(w), CHANNELS)


@FAMILY.variant(Technique.BASELINE, references=("man 2 pipe",))
def pipe(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.pipe(_two(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def pipe2(k: Kernel) -> None:
    """The same with flags, which is what C libraries call."""
    k.pipe2(_two(k), 0).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def pipe2_packets(k: Kernel) -> None:
    """With O_DIRECT a pipe keeps messages apart; a rule on the usual flags does not match."""
    k.pipe2(_two(k), O_DIRECT | O_CLOEXEC | O_NONBLOCK).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_pipe(k: Kernel) -> None:
    """Since 6.16 a ring makes pipes: neither call is made."""
    k.ring().submit("PIPE", addr=_two(k)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_sqpoll_pipe(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    k.ring(sqpoll=True).submit("PIPE", addr=_two(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_pipe(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    k.setup.ring().by(k).submit("PIPE", addr=_two(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, grade=Grade.EQUIVALENT)
def socketpair(k: Kernel) -> None:
    """Two connected sockets carry bytes both ways."""
    k.socketpair(AF_UNIX, SOCK_STREAM, 0, _two(k)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, grade=Grade.EQUIVALENT)
def socketpair_datagrams(k: Kernel) -> None:
    """Another type, with a flag in the same argument: comparing it with one value misses."""
    k.socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, _two(k)).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, grade=Grade.EQUIVALENT)
def socketcall_socketpair_i386(k: Kernel) -> None:
    """The multiplexer of the 32-bit table has all arguments behind a pointer."""
    arguments = k.struct("IIII", AF_UNIX, SOCK_STREAM, 0, _two(k), name="args")
    k.i386.raw("socketcall", SYS_SOCKETPAIR, arguments).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, grade=Grade.EQUIVALENT)
def eventfd2(k: Kernel) -> None:
    """A counter passes eight bytes at a time from writer to reader."""
    k.eventfd2(0, 0).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL, grade=Grade.EQUIVALENT)
def eventfd(k: Kernel) -> None:
    """The older call for a counter, without flags."""
    k.eventfd(0).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, grade=Grade.EQUIVALENT)
def eventfd2_semaphore(k: Kernel) -> None:
    """The counter as a semaphore: another value of the flags."""
    k.eventfd2(0, EFD_SEMAPHORE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def pipe2_unknown_flag(k: Kernel) -> None:
    """A flag that pipes do not have is refused."""
    k.pipe2(_two(k), 1).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def epoll_create1(k: Kernel) -> None:
    """A descriptor to wait with, through which nothing can be passed."""
    k.epoll_create1(0).decisive()


def _two(k: Kernel) -> Buffer:
    return k.buffer(8, name="two")
