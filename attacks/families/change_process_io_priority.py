"""Lower the priority with which another process reads and writes disks."""

from attacks import neighbour
from attacks.consts import Named
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel

IOPRIO_WHO_PROCESS = Named(1, "IOPRIO_WHO_PROCESS")
IOPRIO_WHO_PGRP = Named(2, "IOPRIO_WHO_PGRP")
IOPRIO_WHO_USER = Named(3, "IOPRIO_WHO_USER")
IDLE = Named(3 << 13, "IOPRIO_CLASS_IDLE<<13")
SYS_IOPRIO_SET = Named(251, "SYS_ioprio_set")
CLASS_OR_ERROR = 1 << 63 | 7 << 13

FAMILY = Family(
    "change-process-io-priority",
    title="Lower the disk priority of another process",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="processes",
)


@FAMILY.witness
def the_victim_waits_for_idle_disks(w: Kernel) -> None:
    with neighbour.asked_inside(w) as inside:
        priority = inside.raw("ioprio_get", IOPRIO_WHO_PROCESS, neighbour.pid(w))
    w.expect(priority, CLASS_OR_ERROR, IDLE)


@FAMILY.variant(Technique.BASELINE)
def ioprio_set(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.ioprio_set(IOPRIO_WHO_PROCESS, neighbour.pid(k), IDLE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def ioprio_set_group(k: Kernel) -> None:
    """Another kind of whom: the group that the victim leads."""
    k.victim.setpgid(0, 0)
    k.ioprio_set(IOPRIO_WHO_PGRP, neighbour.pid(k), IDLE).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=(Need.CAP_SYS_NICE,))
def ioprio_set_user(k: Kernel) -> None:
    """Every process of the user, named by 0: no rule on a pid can match.

    It ends at the first process that has more rights than the caller.
    """
    k.victim.getpid()
    k.ioprio_set(IOPRIO_WHO_USER, 0, IDLE).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_ioprio_set(k: Kernel) -> None:
    """The victim is made to do it to itself, by code written to it through a file."""
    neighbour.made_to_call(k, SYS_IOPRIO_SET, IOPRIO_WHO_PROCESS, 0, IDLE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def ioprio_set_own(k: Kernel) -> None:
    """Pid 0 is the caller alone."""
    k.victim.getpid()
    k.ioprio_set(IOPRIO_WHO_PROCESS, 0, IDLE).decisive()
