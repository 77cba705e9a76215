"""Become the debugger of another process of the same user."""

from attacks import neighbour, witness
from attacks.consts import NULL, PTRACE_ATTACH, PTRACE_SEIZE, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel

PTRACE_O_TRACECLONE = Named(8, "PTRACE_O_TRACECLONE")
PTRACE_O_TRACEFORK = Named(2, "PTRACE_O_TRACEFORK")
GARBAGE = 0xDEADBEEF << 32

FAMILY = Family(
    "trace-process",
    title="Debug another process",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    group="processes",
    attack_technique="T1055.008",
    unrecorded={
        "ptrace(PTRACE_TRACEME) in a child": "the child is traced, and not a process of others",
        "read /proc/PID/syscall": "looks at the victim without becoming its debugger",
        "perf_event_open on the victim": "counts what the victim does, and does not debug it",
        "kcmp": "compares kernel objects of two processes, and does not debug them",
    },
)


@FAMILY.witness
def the_victim_has_a_tracer(w: Kernel) -> None:
    status = witness.about(w, witness.victim(w), "status")
    witness.has(w, status, b"TracerPid:\t")
    witness.lacks(w, status, b"TracerPid:\t0\n")


@FAMILY.variant(Technique.BASELINE)
def ptrace_attach(k: Kernel) -> None:
    """The call and the request that the author of the policy has in mind."""
    k.ptrace(PTRACE_ATTACH, neighbour.pid(k), NULL, NULL).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def ptrace_seize(k: Kernel) -> None:
    """The newer request does not stop the victim, and rules that list PTRACE_ATTACH miss it."""
    k.ptrace(PTRACE_SEIZE, neighbour.pid(k), NULL, NULL).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def ptrace_seize_with_children(k: Kernel) -> None:
    """With options in its last argument, which rules for a plain request want to be 0."""
    options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK
    k.ptrace(PTRACE_SEIZE, neighbour.pid(k), NULL, options).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def ptrace_attach_i386(k: Kernel) -> None:
    """The 32-bit table has another number for it, and debugs 64-bit processes as well."""
    k.i386.ptrace(PTRACE_ATTACH, neighbour.pid(k), NULL, NULL).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def ptrace_seize_i386(k: Kernel) -> None:
    """Another number and another request than the ones that a rule was written for."""
    k.i386.ptrace(PTRACE_SEIZE, neighbour.pid(k), NULL, NULL).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def ptrace_attach_unused_arguments(k: Kernel) -> None:
    """PTRACE_ATTACH ignores its last two arguments, whatever a rule expects them to be."""
    k.ptrace(PTRACE_ATTACH, neighbour.pid(k), GARBAGE, GARBAGE).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, negative=True)
def ptrace_attach_wide_request(k: Kernel) -> None:
    """All 64 bits of the request count, unlike those of most arguments."""
    k.ptrace(k.wide(PTRACE_ATTACH), neighbour.pid(k), NULL, NULL).decisive().may_fail()
