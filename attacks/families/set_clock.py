"""Set the machine's clock, or how fast it runs.

The call never runs: a sentinel stops what the candidate allows.  A clock that only the members of
a time namespace see is another effect: see offset-clock.
"""

from attacks.consts import NULL, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

CLOCK_REALTIME = Named(0, "CLOCK_REALTIME")
ADJ_FREQUENCY = Named(0x0002, "ADJ_FREQUENCY")
ADJ_SETOFFSET = Named(0x0100, "ADJ_SETOFFSET")
TIMEX_SIZE, TIMEX_SIZE_I386 = 208, 128
THEN = 1_800_000_000

FAMILY = Family(
    "set-clock",
    title="Set the clock",
    effect=lambda _: Effect(EffectKind.REACHED),
    has_target=False,
    reachability=True,
    group="kernel surface",
    unrecorded={
        "ioctl RTC_SET_TIME of /dev/rtc0": "no sandbox has the device",
        "clock_settime of the clock of /dev/ptp0": "no sandbox has the device",
    },
)


@FAMILY.variant(Technique.BASELINE, references=("man 2 clock_settime",))
def clock_settime(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    time = k.struct("QQ", THEN, 0, name="timespec")
    k.clock_settime(CLOCK_REALTIME, time).decisive().may_fail()


@FAMILY.variant(Technique.LEGACY_SYSCALL, references=("man 2 settimeofday",))
def settimeofday(k: Kernel) -> None:
    """The older call for the same, in microseconds."""
    k.settimeofday(k.struct("QQ", THEN, 0, name="timeval"), NULL).decisive().may_fail()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def settimeofday_timezone(k: Kernel) -> None:
    """Without a time: the first time after boot, a time zone alone shifts the clock by it."""
    k.settimeofday(NULL, k.struct("II", 60, 0, name="timezone")).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, references=("man 2 adjtimex",))
def adjtimex(k: Kernel) -> None:
    """Adds to the clock; what a call without modes only reads hangs on memory no filter sees."""
    k.adjtimex(_timex(k, ADJ_SETOFFSET, TIMEX_SIZE)).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, references=("man 2 clock_adjtime",))
def clock_adjtime(k: Kernel) -> None:
    """Adjtimex with a clock to choose, under another number."""
    timex = _timex(k, ADJ_FREQUENCY, TIMEX_SIZE)
    k.clock_adjtime(CLOCK_REALTIME, timex).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def stime_i386(k: Kernel) -> None:
    """A call from before the others that only the 32-bit table still has."""
    k.i386.raw("stime", k.struct("I", THEN, name="time")).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def settimeofday_i386(k: Kernel) -> None:
    """The older call in the 32-bit table, with a structure of half the size."""
    k.i386.settimeofday(k.struct("II", THEN, 0, name="timeval"), NULL).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def clock_settime_i386(k: Kernel) -> None:
    """In the 32-bit table the call is there twice; this is the one with 32-bit seconds."""
    time = k.struct("II", THEN, 0, name="timespec")
    k.i386.clock_settime(CLOCK_REALTIME, time).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def clock_settime64_i386(k: Kernel) -> None:
    """The one for times after 2038, whose name older lists and libraries do not know."""
    time = k.struct("QQ", THEN, 0, name="timespec64")
    k.i386.raw("clock_settime64", CLOCK_REALTIME, time).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def adjtimex_i386(k: Kernel) -> None:
    """Adjusting in the 32-bit table, with a structure of another layout."""
    k.i386.adjtimex(_timex(k, ADJ_SETOFFSET, TIMEX_SIZE_I386)).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def clock_adjtime_i386(k: Kernel) -> None:
    """Adjusting with a clock to choose, in the 32-bit table."""
    timex = _timex(k, ADJ_FREQUENCY, TIMEX_SIZE_I386)
    k.i386.clock_adjtime(CLOCK_REALTIME, timex).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def clock_adjtime64_i386(k: Kernel) -> None:
    """The same for times after 2038: a third number for adjusting in that table."""
    timex = _timex(k, ADJ_FREQUENCY, TIMEX_SIZE)
    k.i386.raw("clock_adjtime64", CLOCK_REALTIME, timex).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def clock_gettime(k: Kernel) -> None:
    """Reads the clock, with the arguments of the call that sets it."""
    k.clock_gettime(CLOCK_REALTIME, k.buffer(16, name="timespec")).decisive()


def _timex(k: Kernel, modes: int, size: int) -> Buffer:
    """All structures begin with what is to be changed."""
    timex = k.buffer(size, name="timex")
    k.store(timex, 0, 4, modes)
    return timex
