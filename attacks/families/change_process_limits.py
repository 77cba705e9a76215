"""Change the resource limits of another process: how many files it may have open."""

from attacks import neighbour, witness
from attacks.consts import NULL, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

RLIMIT_NOFILE = Named(7, "RLIMIT_NOFILE")
SYS_SETRLIMIT = Named(160, "SYS_setrlimit")
LIMIT = 64
TOO_MUCH = 99_999_999
LONG_US = 300_000

FAMILY = Family(
    "change-process-limits",
    title="Change the limits of another process",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="processes",
    attack_technique="T1499.004",
)


@FAMILY.witness
def the_victim_may_have_fewer_files(w: Kernel) -> None:
    limits = witness.about(w, witness.victim(w), "limits")
    witness.has(w, limits, f"Max open files            {LIMIT:<20} ".encode())


@FAMILY.variant(Technique.BASELINE)
def prlimit64(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.prlimit64(neighbour.pid(k), RLIMIT_NOFILE, _rlimit(k), NULL).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def prlimit64_thread(k: Kernel) -> None:
    """The number of any thread stands for the process, so a rule on its pid does not match."""
    thread = k.victim.thread()
    with k.victim.child(thread):
        k.victim.raw("poll", NULL, 0, LONG_US // 1000)
    k.prlimit64(thread, RLIMIT_NOFILE, _rlimit(k), NULL).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def prlimit64_exchange(k: Kernel) -> None:
    """The old limits are asked for too, as prlimit(1) does: both pointers are set."""
    old = k.buffer(16, name="old")
    k.prlimit64(neighbour.pid(k), RLIMIT_NOFILE, _rlimit(k), old).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_setrlimit(k: Kernel) -> None:
    """The victim is made to limit itself, by code written to it through a file."""
    neighbour.made_to_call(k, SYS_SETRLIMIT, RLIMIT_NOFILE, _rlimit(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def prlimit64_only_asked(k: Kernel) -> None:
    """Without new limits the call only tells the old ones."""
    k.prlimit64(neighbour.pid(k), RLIMIT_NOFILE, NULL, k.buffer(16, name="old")).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def setrlimit_own(k: Kernel) -> None:
    """The older call has no pid, and limits the caller alone."""
    k.victim.getpid()
    k.setrlimit(RLIMIT_NOFILE, _rlimit(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def prlimit64_above_hard_limit(k: Kernel) -> None:
    """Only the machine's own root may raise a hard limit, and then nothing else is done."""
    limits = k.struct("QQ", LIMIT, TOO_MUCH, name="rlimit")
    k.prlimit64(neighbour.pid(k), RLIMIT_NOFILE, limits, NULL).decisive().may_fail()


def _rlimit(k: Kernel) -> Buffer:
    return k.struct("QQ", LIMIT, LIMIT, name="rlimit")
