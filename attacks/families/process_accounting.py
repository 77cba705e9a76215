"""Switch process accounting on or off.  The call never runs: a sentinel stops it."""

from attacks.consts import NULL, O_APPEND, O_WRONLY
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel

FAMILY = Family(
    "process-accounting",
    title="Switch process accounting",
    effect=lambda _: Effect(EffectKind.REACHED),
    objects=(Object(ObjectKind.FILE, "pacct", 0o600),),
    has_target=False,
    reachability=True,
    group="kernel surface",
)


@FAMILY.variant(Technique.BASELINE, references=("man 2 acct",))
def acct(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.acct(k.relative("pacct")).decisive().may_fail()


@FAMILY.variant(Technique.MULTIPLEXER)
def acct_off(k: Kernel) -> None:
    """Without a file it ends the accounting, which takes away a record of what is done."""
    k.acct(NULL).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def acct_i386(k: Kernel) -> None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    k.i386.acct(k.relative("pacct")).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def append_to_file(k: Kernel) -> None:
    """The file of records is opened for appending; nobody is told to write records there."""
    k.open(k.relative("pacct"), O_WRONLY | O_APPEND).decisive()
