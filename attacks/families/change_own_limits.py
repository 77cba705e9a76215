"""Change the limits of the process itself: how many files it may have open."""

from attacks import witness
from attacks.consts import NULL, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

RLIMIT_NOFILE = Named(7, "RLIMIT_NOFILE")
LIMIT = 64
TOO_MUCH = 99_999_999

FAMILY = Family(
    "change-own-limits",
    title="Change one's own limits",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    group="processes",
)


@FAMILY.witness
def the_subject_may_have_fewer_files(w: Kernel) -> None:
    limits = witness.about(w, witness.subject(w), "limits")
    witness.has(w, limits, f"Max open files            {LIMIT:<20} ".encode())


@FAMILY.variant(Technique.BASELINE)
def setrlimit(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.setrlimit(RLIMIT_NOFILE, _rlimit(k)).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def prlimit64_self(k: Kernel) -> None:
    """The newer call does it for pid 0, and is what setrlimit(3) calls."""
    k.prlimit64(0, RLIMIT_NOFILE, _rlimit(k), NULL).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def prlimit64_own_pid(k: Kernel) -> None:
    """The same with the pid as a number, where a rule may say 0."""
    k.prlimit64(k.getpid(), RLIMIT_NOFILE, _rlimit(k), NULL).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def setrlimit_i386(k: Kernel) -> None:
    """The 32-bit table has another number and a smaller structure."""
    limits = k.struct("II", LIMIT, LIMIT, name="rlimit32")
    k.i386.setrlimit(RLIMIT_NOFILE, limits).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def getrlimit(k: Kernel) -> None:
    """The call that only asks."""
    k.getrlimit(RLIMIT_NOFILE, k.buffer(16, name="rlimit")).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def prlimit64_above_hard_limit(k: Kernel) -> None:
    """Only the machine's own root may raise a hard limit, and then nothing else is done."""
    limits = k.struct("QQ", LIMIT, TOO_MUCH, name="rlimit")
    k.prlimit64(0, RLIMIT_NOFILE, limits, NULL).decisive().may_fail()


def _rlimit(k: Kernel) -> Buffer:
    return k.struct("QQ", LIMIT, LIMIT, name="rlimit")
