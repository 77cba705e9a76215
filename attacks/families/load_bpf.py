"""Load a BPF program, or anything else that bpf(2) does.

Inside a user namespace the kernel refuses nearly all of it, so the call never runs: a sentinel
stops what the candidate allows.
"""

from attacks.consts import AF_UNIX, SOCK_DGRAM, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

FAMILY = Family(
    "load-bpf",
    title="Load a BPF program",
    effect=lambda _: Effect(EffectKind.REACHED),
    has_target=False,
    reachability=True,
    attack_technique="T1205.002",
    group="kernel surface",
)
BPF_MAP_CREATE = Named(0, "BPF_MAP_CREATE")
BPF_PROG_LOAD = Named(5, "BPF_PROG_LOAD")
BPF_BTF_LOAD = Named(18, "BPF_BTF_LOAD")
BPF_TOKEN_CREATE = Named(36, "BPF_TOKEN_CREATE")
BPF_PROG_TYPE_SOCKET_FILTER = Named(1, "BPF_PROG_TYPE_SOCKET_FILTER")
BPF_MAP_TYPE_ARRAY = Named(2, "BPF_MAP_TYPE_ARRAY")
RETURN_ZERO = b"\xb7\0\0\0\0\0\0\0" + b"\x95\0\0\0\0\0\0\0"
ATTR_SIZE = 128
SOL_SOCKET = Named(1, "SOL_SOCKET")
SO_ATTACH_FILTER = Named(26, "SO_ATTACH_FILTER")


@FAMILY.variant(Technique.BASELINE)
def prog_load(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.bpf(BPF_PROG_LOAD, _program(k), ATTR_SIZE).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def map_create(k: Kernel) -> None:
    """Memory in the kernel instead of a program: a rule on the one command misses the other."""
    attr = k.struct("IIII", BPF_MAP_TYPE_ARRAY, 4, 4, 1, name="attr")
    k.bpf(BPF_MAP_CREATE, attr, attr.size).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def btf_load(k: Kernel) -> None:
    """Type information has a parser in the kernel too, behind a command of its own."""
    attr = k.buffer(32, name="attr")
    k.bpf(BPF_BTF_LOAD, attr, attr.size).decisive().may_fail()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def token_create(k: Kernel) -> None:
    """With a token (6.9) a user namespace may load programs: lists of commands are older."""
    attr = k.struct("II", 0, 0, name="attr")
    k.bpf(BPF_TOKEN_CREATE, attr, attr.size).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def attach_classic_filter(k: Kernel) -> None:
    """A classic program for a socket is loaded without bpf(2), and is another family."""
    socket = k.socket(AF_UNIX, SOCK_DGRAM, 0)
    program = k.struct("HHIQ", 1, 0, 0, k.data(b"\x06" + bytes(7), name="filter"), name="fprog")
    k.setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, program, 16).decisive()


def _program(k: Kernel) -> Buffer:
    instructions = k.data(RETURN_ZERO, name="instructions")
    licence = k.text("GPL")
    head = k.struct("IIQQ", BPF_PROG_TYPE_SOCKET_FILTER, 2, instructions, licence, name="head")
    attr = k.buffer(ATTR_SIZE, name="attr")
    k.copy(attr, head, head.size)
    return attr
