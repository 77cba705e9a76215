"""Open a performance event: the subject holds a descriptor of one.

Events that count only what the process itself does in user space are open to everybody at the
usual level of ``kernel.perf_event_paranoid``.
"""

from attacks import deputy, kernel_state, witness
from attacks.consts import Named
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Buffer

FAMILY = Family(
    "open-perf-event",
    title="Open a performance event",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    attack_technique="T1082",
    group="kernel surface",
    unrecorded={
        "perf_event_open of an event that counts in the kernel": (
            "asks for CAP_PERFMON of the initial user namespace"
        ),
        "perf_event_open(PERF_TYPE_HARDWARE)": "virtual machines have no such counters",
    },
)
PERF_TYPE_SOFTWARE = Named(1, "PERF_TYPE_SOFTWARE")
PERF_TYPE_BREAKPOINT = Named(5, "PERF_TYPE_BREAKPOINT")
PERF_COUNT_SW_TASK_CLOCK = Named(1, "PERF_COUNT_SW_TASK_CLOCK")
PERF_COUNT_SW_DUMMY = Named(9, "PERF_COUNT_SW_DUMMY")
PERF_FLAG_FD_CLOEXEC = Named(8, "PERF_FLAG_FD_CLOEXEC")
HW_BREAKPOINT_RW = 3
EXCLUDE_KERNEL_AND_HV = 1 | 0x60
"""``disabled`` is the lowest bit."""
FIRST_SIZE, BREAKPOINT_SIZE, LARGE_SIZE = 64, 72, 4096
ANY_CPU = NO_GROUP = -1


@FAMILY.witness
def an_event(w: Kernel) -> None:
    kernel_state.holds(w, witness.subject(w), "[perf_event]")


@FAMILY.variant(Technique.BASELINE)
def perf_event_open(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.perf_event_open(_attributes(k), 0, ANY_CPU, NO_GROUP, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def perf_event_open_own_pid(k: Kernel) -> None:
    """Oneself under another number: a rule that looks for pid 0 misses it."""
    pid = k.getpid()
    k.perf_event_open(_attributes(k), pid, ANY_CPU, NO_GROUP, PERF_FLAG_FD_CLOEXEC).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def perf_event_open_breakpoint(k: Kernel) -> None:
    """A hardware breakpoint instead of a counter: the kind is behind the pointer."""
    word = k.buffer(8, name="word")
    attributes = k.struct(
        "IIQQQQQIIQQ",
        PERF_TYPE_BREAKPOINT,
        BREAKPOINT_SIZE,
        0,
        0,
        0,
        0,
        EXCLUDE_KERNEL_AND_HV,
        0,
        HW_BREAKPOINT_RW,
        word,
        4,
        name="attr",
    )
    k.perf_event_open(attributes, 0, ANY_CPU, NO_GROUP, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def perf_event_open_neighbour(k: Kernel) -> None:
    """Counts what another process of the same user does: the pid is a register like any other."""
    pid = k.env(Environment.VICTIM_PID)
    k.perf_event_open(_attributes(k), pid, ANY_CPU, NO_GROUP, 0).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def pidfd_getfd(k: Kernel) -> None:
    """A neighbour's event is fetched: no event is opened where the filter is."""
    event = k.victim.perf_event_open(_attributes(k.victim), 0, ANY_CPU, NO_GROUP, 0)
    k.victim.dup2(event, deputy.STOLEN_FD)
    pidfd = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    k.pidfd_getfd(pidfd, deputy.STOLEN_FD, 0).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def perf_event_open_any_size(k: Kernel) -> None:
    """A size from the future is accepted where what is beyond today's structure is zero."""
    attributes = _attributes(k, size=LARGE_SIZE)
    k.perf_event_open(attributes, 0, ANY_CPU, NO_GROUP, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def perf_event_open_nobody(k: Kernel) -> None:
    """Neither a process nor a processor is named: there is nothing to count."""
    k.perf_event_open(_attributes(k), -1, ANY_CPU, NO_GROUP, 0).decisive().may_fail()


def _attributes(k: Kernel, size: int = FIRST_SIZE) -> Buffer:
    fields = (PERF_TYPE_SOFTWARE, size, PERF_COUNT_SW_TASK_CLOCK, 0, 0, 0, EXCLUDE_KERNEL_AND_HV)
    attributes = k.struct("IIQQQQQ", *fields, name="attr")
    if size == FIRST_SIZE:
        return attributes
    larger = k.buffer(size, name="attr")
    k.copy(larger, attributes, attributes.size)
    return larger
