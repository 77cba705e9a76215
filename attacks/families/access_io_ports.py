"""Get at the machine's I/O ports.  The call never runs: a sentinel stops what is allowed."""

from attacks.consts import Named
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel

IOPRIO_WHO_PROCESS = Named(1, "IOPRIO_WHO_PROCESS")
ALL_PORTS = 3
CMOS, CMOS_PORTS = Named(0x70, "0x70"), 2

FAMILY = Family(
    "access-io-ports",
    title="Access I/O ports",
    effect=lambda _: Effect(EffectKind.REACHED),
    has_target=False,
    reachability=True,
    group="kernel surface",
    unrecorded={
        "pread64 and pwrite64 of /dev/port": "no sandbox has the device",
    },
)


@FAMILY.variant(Technique.BASELINE, references=("man 2 iopl",))
def iopl(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.iopl(ALL_PORTS).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, references=("man 2 ioperm",))
def ioperm(k: Kernel) -> None:
    """Opens a range of ports instead of all of them, by a call of its own."""
    k.ioperm(CMOS, CMOS_PORTS, 1).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def iopl_i386(k: Kernel) -> None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    k.i386.iopl(ALL_PORTS).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def ioperm_i386(k: Kernel) -> None:
    """The call for a range of ports in the 32-bit table."""
    k.i386.ioperm(CMOS, CMOS_PORTS, 1).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def ioprio_get(k: Kernel) -> None:
    """Begins with the same two letters and is about the order of disk requests."""
    k.raw("ioprio_get", IOPRIO_WHO_PROCESS, 0).decisive()
