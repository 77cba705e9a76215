"""Get an ioctl command past the filter.  It never runs: the descriptor is -1, over a sentinel."""

from attacks.consts import NULL, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel

NOBODY = Named(-1, "-1")
TIOCSTI = 0x5412

FAMILY = Family(
    "call-ioctl",
    title="Call ioctl with a command",
    effect=lambda _: Effect(EffectKind.REACHED),
    parameters={"cmd": TIOCSTI},
    has_target=False,
    reachability=True,
    group="kernel surface",
    unrecorded={
        "io_uring URING_CMD": "drivers take commands of their own by it, not those of ioctl",
    },
)


def _cmd(k: Kernel) -> int:
    number = k.param("cmd")
    return Named(number, f"{number:#x}")


@FAMILY.variant(Technique.BASELINE, references=("man 2 ioctl",))
def ioctl(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.ioctl(NOBODY, _cmd(k), NULL).decisive().may_fail()


@FAMILY.variant(Technique.WIDE_ARGUMENT, references=("CVE-2019-10063",))
def ioctl_wide_command(k: Kernel) -> None:
    """The kernel takes 32 bits of the command; a filter that compares 64 sees another one."""
    k.ioctl(NOBODY, k.wide(_cmd(k)), NULL).decisive().may_fail()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def ioctl_wide_descriptor(k: Kernel) -> None:
    """The same garbage above the descriptor, for rules that say which one the command is for."""
    k.ioctl(k.wide(NOBODY), _cmd(k), NULL).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def ioctl_i386(k: Kernel) -> None:
    """The 32-bit table has another number for ioctl, and the same commands for most drivers."""
    k.i386.ioctl(NOBODY, _cmd(k), NULL).decisive().may_fail()


@FAMILY.variant(Technique.X32_ABI)
def ioctl_x32(k: Kernel) -> None:
    """x32 has an ioctl of its own, number 514, which few lists name."""
    k.x32.ioctl(NOBODY, _cmd(k), NULL).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def fcntl(k: Kernel) -> None:
    """It has commands as well, of its own: none of ioctl's."""
    k.fcntl(NOBODY, _cmd(k), NULL).decisive().may_fail()
