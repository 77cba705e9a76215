"""Change on which processors another process may run; it has confined itself to the first."""

from attacks import neighbour, witness
from attacks.consts import Named
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

SYS_SCHED_SETAFFINITY = Named(203, "SYS_sched_setaffinity")
MASK_SIZE = 8
LONG_MASK_SIZE = 1024
ALL = (1 << 64) - 1

FAMILY = Family(
    "change-process-affinity",
    title="Change on which processors another process runs",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="processes",
    unrecorded={"move it to another cpuset": "needs a delegated tree of control groups"},
)


@FAMILY.witness
def the_victim_is_not_on_the_first_alone(w: Kernel) -> None:
    status = witness.about(w, witness.victim(w), "status")
    witness.has(w, status, b"Cpus_allowed_list:\t")
    witness.lacks(w, status, b"Cpus_allowed_list:\t0\n")


@FAMILY.variant(Technique.BASELINE)
def sched_setaffinity(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _confine(k)
    k.sched_setaffinity(neighbour.pid(k), MASK_SIZE, _everywhere(k)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def sched_setaffinity_long_mask(k: Kernel) -> None:
    """The mask may be longer than the kernel's own, so a rule on its size does not help."""
    _confine(k)
    mask = k.data(b"\xff" * LONG_MASK_SIZE, name="mask")
    k.sched_setaffinity(neighbour.pid(k), LONG_MASK_SIZE, mask).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_sched_setaffinity(k: Kernel) -> None:
    """The victim is made to do it to itself, by code written to it through a file."""
    _confine(k)
    call = SYS_SCHED_SETAFFINITY
    neighbour.made_to_call(k, call, 0, MASK_SIZE, _everywhere(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def sched_setaffinity_own(k: Kernel) -> None:
    """Pid 0 is the caller alone."""
    _confine(k)
    k.sched_setaffinity(0, MASK_SIZE, _everywhere(k)).decisive()


def _confine(k: Kernel) -> None:
    k.victim.sched_setaffinity(0, MASK_SIZE, k.struct("Q", 1, name="first"))


def _everywhere(k: Kernel) -> Buffer:
    return k.struct("Q", ALL, name="all")
