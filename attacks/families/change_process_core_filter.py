"""Change which memory of another process goes into a core file."""

from attacks import neighbour, witness
from attacks.consts import AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY, O_RDWR, O_WRONLY
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

FAMILY = Family(
    "change-process-core-filter",
    title="Change what another process puts into a core file",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="processes",
)
NAME = "coredump_filter"
EVERYTHING = b"0x7f"


@FAMILY.witness
def the_victim_dumps_everything(w: Kernel) -> None:
    setting = witness.about(w, witness.victim(w), NAME)
    witness.has(w, setting, b"0000007f")


@FAMILY.variant(Technique.BASELINE)
def write(k: Kernel) -> None:
    """The file and the calls that the author of the policy has in mind."""
    file = k.open(neighbour.path(k, NAME), O_WRONLY)
    k.write(file, _everything(k), len(EVERYTHING)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def openat_pwrite(k: Kernel) -> None:
    """Siblings of the two calls do the same."""
    file = k.openat(AT_FDCWD, neighbour.path(k, NAME), O_RDWR)
    k.pwrite64(file, _everything(k), len(EVERYTHING), 0).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def write_dirfd(k: Kernel) -> None:
    """Opened relative to the victim's directory, the path names no process."""
    directory = k.open(neighbour.path(k, ""), O_PATH | O_DIRECTORY)
    file = k.openat(directory, k.text(NAME), O_WRONLY)
    k.write(file, _everything(k), len(EVERYTHING)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_write(k: Kernel) -> None:
    """One ring opens the file, another writes it: open and write are not called."""
    file = k.ring().openat(AT_FDCWD, neighbour.path(k, NAME), O_WRONLY, 0)
    k.ring().submit("WRITE", fd=file, addr=_everything(k), length=len(EVERYTHING)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_file(k: Kernel) -> None:
    """The file was opened before the filter, and writing it looks like writing any other."""
    file = k.setup.open(neighbour.path(k.setup, NAME), O_WRONLY)
    k.write(file, _everything(k), len(EVERYTHING)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def write_own_file(k: Kernel) -> None:
    """The subject's own setting is another one."""
    k.victim.getpid()
    file = k.open(k.proc(f"self/{NAME}"), O_WRONLY)
    k.write(file, _everything(k), len(EVERYTHING)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def write_read_only(k: Kernel) -> None:
    """Opened for reading, the file does not take the write."""
    file = k.open(neighbour.path(k, NAME), O_RDONLY)
    k.write(file, _everything(k), len(EVERYTHING)).decisive().may_fail()


def _everything(k: Kernel) -> Buffer:
    return k.data(EVERYTHING, name="filter")
