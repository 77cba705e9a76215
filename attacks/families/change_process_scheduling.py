"""Change the scheduling policy of another process."""

from attacks import neighbour
from attacks.consts import Named
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

SCHED_BATCH = Named(3, "SCHED_BATCH")
SCHED_IDLE = Named(5, "SCHED_IDLE")
SCHED_RESET_ON_FORK = Named(0x40000000, "SCHED_RESET_ON_FORK")
SYS_SCHED_SETSCHEDULER = Named(144, "SYS_sched_setscheduler")
ERROR_OR_ODD = 1 << 63 | 1

FAMILY = Family(
    "change-process-scheduling",
    title="Change the scheduling policy of another process",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="processes",
    unrecorded={
        "sched_setscheduler(PID, SCHED_FIFO)": ("needs CAP_SYS_NICE in the initial user namespace"),
    },
)


@FAMILY.witness
def the_victim_has_another_policy(w: Kernel) -> None:
    """SCHED_OTHER is 0; those that a process may be given here are odd."""
    with neighbour.asked_inside(w) as inside:
        policy = inside.raw("sched_getscheduler", neighbour.pid(w))
    w.expect(policy, ERROR_OR_ODD, 1)


@FAMILY.variant(Technique.BASELINE)
def sched_setscheduler(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.sched_setscheduler(neighbour.pid(k), SCHED_IDLE, _parameters(k)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def sched_setscheduler_reset_on_fork(k: Kernel) -> None:
    """A flag bit in the policy: a rule that compares the whole argument misses it."""
    policy = SCHED_BATCH | SCHED_RESET_ON_FORK
    k.sched_setscheduler(neighbour.pid(k), policy, _parameters(k)).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def sched_setattr(k: Kernel) -> None:
    """The newer call has the policy in memory, where no filter can look."""
    attributes = k.struct("IIQIIQQQ", 48, SCHED_IDLE, 0, 0, 0, 0, 0, 0, name="sched_attr")
    k.sched_setattr(neighbour.pid(k), attributes, 0).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_sched_setscheduler(k: Kernel) -> None:
    """The victim is made to do it to itself, by code written to it through a file."""
    call = SYS_SCHED_SETSCHEDULER
    neighbour.made_to_call(k, call, 0, SCHED_BATCH, _parameters(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def sched_setparam(k: Kernel) -> None:
    """Changes the parameters of the policy, and keeps the policy."""
    k.raw("sched_setparam", neighbour.pid(k), _parameters(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def sched_setscheduler_own(k: Kernel) -> None:
    """Pid 0 is the caller alone."""
    k.victim.getpid()
    k.sched_setscheduler(0, SCHED_BATCH, _parameters(k)).decisive()


def _parameters(k: Kernel) -> Buffer:
    return k.struct("I", 0, name="sched_param")
