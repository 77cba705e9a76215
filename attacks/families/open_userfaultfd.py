"""Open a userfaultfd: page faults of the subject are handled by a descriptor that it holds.

It lets a process stop the kernel in the middle of a copy, which many exploits want.
"""

from attacks import deputy, kernel_state, witness
from attacks.consts import O_CLOEXEC, O_NONBLOCK, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.program import Environment

FAMILY = Family(
    "open-userfaultfd",
    title="Open a userfaultfd",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    attack_technique="T1068",
    group="kernel surface",
    unrecorded={
        "userfaultfd(0), which also handles faults of the kernel": (
            "asks for CAP_SYS_PTRACE of the initial user namespace, or vm.unprivileged_userfaultfd"
        ),
        "open(/dev/userfaultfd), ioctl(USERFAULTFD_IOC_NEW)": (
            "the device belongs to root of the host and is not in the sandbox"
        ),
    },
)
UFFD_USER_MODE_ONLY = Named(1, "UFFD_USER_MODE_ONLY")
UNKNOWN_FLAG = 2


@FAMILY.witness
def a_userfaultfd(w: Kernel) -> None:
    kernel_state.holds(w, witness.subject(w), "[userfaultfd]")


@FAMILY.variant(Technique.BASELINE)
def userfaultfd(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.userfaultfd(UFFD_USER_MODE_ONLY).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def userfaultfd_flags(k: Kernel) -> None:
    """Two more flags change nothing but the value that a rule may compare with."""
    k.userfaultfd(UFFD_USER_MODE_ONLY | O_CLOEXEC | O_NONBLOCK).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def pidfd_getfd(k: Kernel) -> None:
    """A neighbour's descriptor is fetched, and with it the power over that neighbour's faults."""
    k.victim.dup2(k.victim.userfaultfd(UFFD_USER_MODE_ONLY), deputy.STOLEN_FD)
    pidfd = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    k.pidfd_getfd(pidfd, deputy.STOLEN_FD, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def userfaultfd_unknown_flag(k: Kernel) -> None:
    """A flag that no kernel knows is refused."""
    k.userfaultfd(UFFD_USER_MODE_ONLY | UNKNOWN_FLAG).decisive().may_fail()
