"""Hang up the terminal of everybody on it.  The call never runs: a sentinel stops it."""

from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel

FAMILY = Family(
    "hang-up-terminal",
    title="Hang up the terminal",
    effect=lambda _: Effect(EffectKind.REACHED),
    has_target=False,
    reachability=True,
    group="terminal",
    unrecorded={
        "ioctl TIOCVHANGUP": "needs CAP_SYS_ADMIN of the machine, which no sandbox has",
        "close of a pty's last master": "a sentinel cannot tell it from any other close",
    },
)


@FAMILY.variant(Technique.BASELINE, references=("man 2 vhangup",))
def vhangup(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.vhangup().decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def vhangup_i386(k: Kernel) -> None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    k.i386.vhangup().decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def setsid(k: Kernel) -> None:
    """Leaves the terminal to the others and hangs nothing up."""
    k.setsid().decisive()
