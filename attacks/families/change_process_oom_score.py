"""Make another process the first to be killed when memory runs out."""

from attacks import neighbour, witness
from attacks.consts import AT_FDCWD, O_DIRECTORY, O_PATH, O_RDWR, O_WRONLY
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

FAMILY = Family(
    "change-process-oom-score",
    title="Change the out-of-memory score of another process",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="processes",
    attack_technique="T1489",
)
NAME = "oom_score_adj"
SCORE = b"900"
INHERITED = Assumption.INHERITED_DESCRIPTOR


@FAMILY.witness
def the_victim_has_another_score(w: Kernel) -> None:
    before = witness.about(w.setup, witness.victim(w), NAME)
    witness.differ(w, before, witness.about(w, witness.victim(w), NAME))


@FAMILY.variant(Technique.BASELINE)
def write(k: Kernel) -> None:
    """The file and the calls that the author of the policy has in mind."""
    k.write(k.open(neighbour.path(k, NAME), O_WRONLY), _score(k), len(SCORE)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def openat_pwrite(k: Kernel) -> None:
    """Siblings of the two calls do the same."""
    file = k.openat(AT_FDCWD, neighbour.path(k, NAME), O_RDWR)
    k.pwrite64(file, _score(k), len(SCORE), 0).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def write_old_file(k: Kernel) -> None:
    """The file of old, with another scale, is still there: a rule on the path misses it."""
    file = k.open(neighbour.path(k, "oom_adj"), O_WRONLY)
    k.write(file, k.data(b"15", name="score"), 2).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def write_task_file(k: Kernel) -> None:
    """Each thread's directory has the file again, under a path that ends the same way only."""
    file = k.open(neighbour.task_path(k, NAME), O_WRONLY)
    k.write(file, _score(k), len(SCORE)).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def write_dirfd(k: Kernel) -> None:
    """Opened relative to the victim's directory, the path names no process."""
    directory = k.open(neighbour.path(k, ""), O_PATH | O_DIRECTORY)
    file = k.openat(directory, k.text(NAME), O_WRONLY)
    k.write(file, _score(k), len(SCORE)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_write(k: Kernel) -> None:
    """One ring opens the file, another writes it: open and write are not called."""
    file = k.ring().openat(AT_FDCWD, neighbour.path(k, NAME), O_WRONLY, 0)
    k.ring().submit("WRITE", fd=file, addr=_score(k), length=len(SCORE)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def inherited_file(k: Kernel) -> None:
    """The file was opened before the filter, and writing it looks like writing any other."""
    file = k.setup.open(neighbour.path(k.setup, NAME), O_WRONLY)
    k.write(file, _score(k), len(SCORE)).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_write(k: Kernel) -> None:
    """With a ring and the file from before the filter, the attack makes no call at all."""
    file = k.setup.open(neighbour.path(k.setup, NAME), O_WRONLY)
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    submitter = ring.by(k).stores_only()
    submitter.submit("WRITE", fd=file, addr=_score(k), length=len(SCORE)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def write_own_file(k: Kernel) -> None:
    """The subject's own score is another one."""
    k.victim.getpid()
    file = k.open(k.proc(f"self/{NAME}"), O_WRONLY)
    k.write(file, _score(k), len(SCORE)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def splice(k: Kernel) -> None:
    """A pipe cannot be spliced into the file."""
    reader, writer = neighbour.pipe(k)
    k.write(writer, _score(k), len(SCORE))
    file = k.open(neighbour.path(k, NAME), O_WRONLY)
    k.splice(reader, 0, file, 0, len(SCORE), 0).decisive().may_fail()


def _score(k: Kernel) -> Buffer:
    return k.data(SCORE, name="score")
