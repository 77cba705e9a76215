"""Lower the priority of another process: raise its nice value."""

from attacks import neighbour
from attacks.consts import Named
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.neighbour import PRIO_PGRP, PRIO_PROCESS, PRIO_USER
from attacks.recorder import Buffer

NICE = 19
"""The most there is, so that it is more than before wherever we were started with ``nice``."""
SCHED_OTHER = Named(0, "SCHED_OTHER")
SCHED_BATCH = Named(3, "SCHED_BATCH")
SYS_SETPRIORITY = Named(141, "SYS_setpriority")
ALL_BITS = (1 << 64) - 1
KERNEL_ZERO = 20
"""The raw call answers 20 less the nice value, so that it is never negative."""

FAMILY = Family(
    "change-process-priority",
    title="Lower the priority of another process",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="processes",
    attack_technique="T1489",
    unrecorded={
        "write to /proc/PID/autogroup": (
            "weighs a whole session, and the kernel takes ten such writes a second from everybody"
        ),
        "nice, by the 32-bit table": "lowers the caller's own priority",
        "migrate_pages": "moves memory between nodes, of which there is one",
        "process_madvise(MADV_COLD)": "needs CAP_SYS_NICE in the initial user namespace",
    },
)


@FAMILY.witness
def the_victim_is_nicer(w: Kernel) -> None:
    with neighbour.asked_inside(w) as inside:
        priority = inside.raw("getpriority", PRIO_PROCESS, neighbour.pid(w))
    w.expect(priority, ALL_BITS, KERNEL_ZERO - NICE)


@FAMILY.variant(Technique.BASELINE)
def setpriority(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.setpriority(PRIO_PROCESS, neighbour.pid(k), NICE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def setpriority_group(k: Kernel) -> None:
    """Another kind of whom: the group that the victim leads."""
    k.victim.setpgid(0, 0)
    k.setpriority(PRIO_PGRP, neighbour.pid(k), NICE).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def setpriority_user(k: Kernel) -> None:
    """Every process of the user, named by 0: no rule on a pid can match."""
    k.victim.getpid()
    k.setpriority(PRIO_USER, 0, NICE).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def sched_setattr(k: Kernel) -> None:
    """The nice value is in memory, and the call sounds like one for real-time programs."""
    k.sched_setattr(neighbour.pid(k), _attributes(k, SCHED_OTHER), 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def sched_setattr_batch(k: Kernel) -> None:
    """Changes the policy on the way; that is in memory as well."""
    k.sched_setattr(neighbour.pid(k), _attributes(k, SCHED_BATCH), 0).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_setpriority(k: Kernel) -> None:
    """The victim is made to be nice by itself, by code written to it through a file."""
    neighbour.made_to_call(k, SYS_SETPRIORITY, PRIO_PROCESS, 0, NICE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def nice_own(k: Kernel) -> None:
    """Setpriority for pid 0, as nice(3) does it, is about the caller alone."""
    k.victim.getpid()
    k.setpriority(PRIO_PROCESS, 0, NICE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def sched_setparam(k: Kernel) -> None:
    """The priority that this call sets is for real-time policies; a nice value it is not."""
    k.raw("sched_setparam", neighbour.pid(k), k.struct("I", NICE)).decisive().may_fail()


def _attributes(k: Kernel, policy: int) -> Buffer:
    """``struct sched_attr`` in its first version."""
    return k.struct("IIQIIQQQ", 48, policy, 0, NICE, 0, 0, 0, 0, name="sched_attr")
