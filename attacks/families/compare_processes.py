"""Compare what processes hold: find out which descriptors of another process are one open file.

The victim opens a file twice, so that no path tells the two apart, and throws dice for each of
eight descriptors which of the two it shall be: see ``attacks/dice.py``.
"""

from attacks import deputy, dice, witness
from attacks.consts import AT_FDCWD, O_RDONLY, Named
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.program import Env, Environment
from attacks.recorder import Result

FAMILY = Family(
    "compare-processes",
    title="Compare what another process holds",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, "f0"),),
    has_target=False,
    stays=True,
    attack_technique="T1057",
    group="file system",
    unrecorded={
        "kcmp(KCMP_VM) and the other types": "give one answer for every victim: nothing is learnt",
    },
)
KCMP_FILE = Named(0, "KCMP_FILE")
KCMP_VM = Named(1, "KCMP_VM")
SHARED, OTHER, FIRST = 40, 41, 50
"""The victim's numbers: of the two open files, and of the first descriptor that is one of them."""
_TRUTH = 16
"""Where in its private memory the victim notes which is which."""
_POSITION = len("pos:\t")


@FAMILY.witness
def the_answers_are_right(w: Kernel) -> None:
    size = dice.QUESTIONS
    noted, truth = w.buffer(size, name="noted"), w.buffer(size, name="truth")
    memory = w.openat(AT_FDCWD, w.proc_pid(witness.subject(w), "/mem"), O_RDONLY)
    w.pread64(memory, noted, size, w.env(Environment.SECRET))
    memory = w.openat(AT_FDCWD, w.proc_pid(witness.victim(w), "/mem"), O_RDONLY)
    w.pread64(memory, truth, size, w.add(w.env(Environment.SECRET), _TRUTH))
    witness.same(w, noted, truth, size)


@FAMILY.variant(Technique.BASELINE)
def kcmp_file(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _prepare(k)
    _ask(k, KCMP_FILE)


@FAMILY.variant(Technique.DESCRIPTOR_REUSE)
def kcmp_fetched(k: Kernel) -> None:
    """Fetched descriptors are compared in the caller itself: rules on foreign pids miss it."""
    _prepare(k)
    own, pidfd = k.getpid(), k.pidfd_open(_victim(k), 0)
    other = k.pidfd_getfd(pidfd, OTHER, 0)
    fetched = [k.pidfd_getfd(pidfd, FIRST + number, 0) for number in range(dice.QUESTIONS)]
    found = [k.kcmp(own, own, KCMP_FILE, other, one) for one in fetched]
    found[-1].decisive()
    dice.note(k, found, 0)


@FAMILY.variant(Technique.PROC_INTERFACE)
def seek_and_fdinfo(k: Kernel) -> None:
    """One open file has one position: it is moved through one number, and seen at the others."""
    _prepare(k)
    fetched = k.pidfd_getfd(k.pidfd_open(_victim(k), 0), OTHER, 0)
    k.lseek(fetched, 5, 0)
    seen = [k.buffer(8, name="seen") for _ in range(dice.QUESTIONS)]
    reads: list[Result] = []
    for number, text in enumerate(seen):
        info = k.open(k.proc_pid(_victim(k), f"/fdinfo/{FIRST + number}"), O_RDONLY)
        reads.append(k.read(info, text, 8))
    reads[-1].decisive()
    dice.note(k, [k.load(text, _POSITION, 1) for text in seen], ord("5"))


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    _prepare(k)
    with deputy.sibling_thread(k) as thread:
        found = [
            thread.kcmp(_victim(k), _victim(k), KCMP_FILE, OTHER, FIRST + number)
            for number in range(dice.QUESTIONS)
        ]
        dice.note(thread, found, 0)


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def kcmp_vm(k: Kernel) -> None:
    """A process has the same memory as itself: this answer tells nothing of descriptors."""
    _prepare(k)
    _ask(k, KCMP_VM)


def _prepare(k: Kernel) -> None:
    v, own = k.victim, k.env(Environment.SECRET)
    for number in (SHARED, OTHER):
        v.dup2(v.open(k.text("f0"), O_RDONLY), number)
    truth = dice.throw(v, v.add(own, _TRUTH))
    v.copy(v.add(own, _TRUTH), truth, dice.QUESTIONS)
    for number in range(dice.QUESTIONS):
        v.dup2(v.add(v.load(truth, number, 1), SHARED), FIRST + number)


def _ask(k: Kernel, kind: int) -> None:
    found = [
        k.kcmp(_victim(k), _victim(k), kind, OTHER, FIRST + number)
        for number in range(dice.QUESTIONS)
    ]
    found[-1].decisive()
    dice.note(k, found, 0)


def _victim(k: Kernel) -> Env:
    return k.env(Environment.VICTIM_PID)
