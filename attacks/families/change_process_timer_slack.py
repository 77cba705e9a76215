"""Let the timers of another process come late."""

from attacks import neighbour, witness
from attacks.consts import AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY, O_RDWR, O_WRONLY
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

FAMILY = Family(
    "change-process-timer-slack",
    title="Let the timers of another process come late",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="processes",
)
NAME = "timerslack_ns"
NICE = (Need.CAP_SYS_NICE,)
SLACK = b"99999"


@FAMILY.witness
def the_victim_dumps_slack(w: Kernel) -> None:
    setting = witness.about(w, witness.victim(w), NAME)
    witness.has(w, setting, SLACK)


@FAMILY.variant(Technique.BASELINE, needs=NICE)
def write(k: Kernel) -> None:
    """The file and the calls that the author of the policy has in mind."""
    file = k.open(neighbour.path(k, NAME), O_WRONLY)
    k.write(file, _slack(k), len(SLACK)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=NICE)
def openat_writev(k: Kernel) -> None:
    """Siblings of the two calls do the same."""
    file = k.openat(AT_FDCWD, neighbour.path(k, NAME), O_RDWR)
    k.writev(file, neighbour.iovec(k, _slack(k), len(SLACK)), 1).decisive()


@FAMILY.variant(Technique.FD_RELATIVE, needs=NICE)
def write_dirfd(k: Kernel) -> None:
    """Opened relative to the victim's directory, the path names no process."""
    directory = k.open(neighbour.path(k, ""), O_PATH | O_DIRECTORY)
    file = k.openat(directory, k.text(NAME), O_WRONLY)
    k.write(file, _slack(k), len(SLACK)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=NICE)
def io_uring_write(k: Kernel) -> None:
    """One ring opens the file, another writes it: open and write are not called."""
    file = k.ring().openat(AT_FDCWD, neighbour.path(k, NAME), O_WRONLY, 0)
    k.ring().submit("WRITE", fd=file, addr=_slack(k), length=len(SLACK)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, needs=NICE)
def inherited_file(k: Kernel) -> None:
    """The file was opened before the filter, and writing it looks like writing any other."""
    file = k.setup.open(neighbour.path(k.setup, NAME), O_WRONLY)
    k.write(file, _slack(k), len(SLACK)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def write_own_file(k: Kernel) -> None:
    """The subject's own setting is another one."""
    k.victim.getpid()
    file = k.open(k.proc(f"self/{NAME}"), O_WRONLY)
    k.write(file, _slack(k), len(SLACK)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def write_read_only(k: Kernel) -> None:
    """Opened for reading, the file does not take the write."""
    file = k.open(neighbour.path(k, NAME), O_RDONLY)
    k.write(file, _slack(k), len(SLACK)).decisive().may_fail()


def _slack(k: Kernel) -> Buffer:
    return k.data(SLACK, name="slack")
