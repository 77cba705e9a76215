"""Put input into a terminal, as if somebody had typed it.

The victim has a terminal, on a file system of terminals in namespaces of its own.  The attack takes
it for its own session, or has it from before the filter: as that of its session, or the other side
of it.  The witness reads what was typed.
"""

from attacks import deputy, neighbour, witness
from attacks.consts import (
    AT_FDCWD,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    NULL,
    O_NOCTTY,
    O_NONBLOCK,
    O_RDWR,
    Named,
)
from attacks.deputy import STOLEN_FD
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "inject-terminal-input",
    title="Put input into a terminal",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.DIRECTORY, "pts", 0o755),),
    has_target=False,
    stays=True,
    group="terminal",
    attack_technique="T1674",
    unrecorded={
        "ioctl TIOCSTI without a controlling terminal": (
            "needs CAP_SYS_ADMIN in the initial user namespace; here it is a control"
        ),
        "ioctl TIOCSETD, then TIOCSTI": "the same TIOCSTI; the first call changes nothing",
        "ioctl TIOCSTI on the terminal's master": "the master is nobody's controlling terminal",
        "ioctl TIOCLINUX, which pastes a selection": "the sandbox has no virtual console",
        "ioctl TIOCCONS": "needs CAP_SYS_ADMIN in the initial user namespace",
    },
)
TIOCSCTTY = Named(0x540E, "TIOCSCTTY")
TIOCSTI = Named(0x5412, "TIOCSTI")
TIOCSPTLCK = Named(0x40045431, "TIOCSPTLCK")
TIOCGPTPEER = Named(0x5441, "TIOCGPTPEER")
INHERITED = Assumption.INHERITED_DESCRIPTOR
LEGACY = (Need.TIOCSTI,)
SLAVE_FD = STOLEN_FD + 1
TYPED = b"\n"
"""The shortest line."""


@FAMILY.witness
def somebody_typed(w: Kernel) -> None:
    path = w.setup.proc_pid(witness.victim(w), f"/fd/{SLAVE_FD}")
    terminal = w.setup.openat(AT_FDCWD, path, O_RDWR | O_NOCTTY | O_NONBLOCK)
    witness.becomes_readable(w, terminal, TYPED)


@FAMILY.variant(Technique.BASELINE, needs=LEGACY, references=("man 2 TIOCSTI",))
def tiocsti(k: Kernel) -> None:
    """The call that the author of the policy has in mind, on a terminal without a session."""
    _terminal(k)
    k.setsid()
    terminal = k.open(neighbour.path(k, f"fd/{SLAVE_FD}"), O_RDWR | O_NONBLOCK)
    k.ioctl(terminal, TIOCSTI, _typed(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED, needs=LEGACY)
def tiocsti_inherited(k: Kernel) -> None:
    """The terminal of the session was there before the filter: only an ioctl is left to see."""
    k.ioctl(_controlling(k), TIOCSTI, _typed(k)).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, assumption=INHERITED, needs=LEGACY)
def tiocsti_dev_tty(k: Kernel) -> None:
    """A device stands for the controlling terminal, though no descriptor of it was inherited."""
    k.setup.close(_controlling(k))
    terminal = k.open(k.text("/dev/tty"), O_RDWR | O_NONBLOCK)
    k.ioctl(terminal, TIOCSTI, _typed(k)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, assumption=INHERITED, needs=LEGACY)
def tiocsti_proc_fd(k: Kernel) -> None:
    """A descriptor that was inherited is opened again: rules on its number do not match."""
    path = k.proc_fd(_controlling(k))
    k.ioctl(k.open(path, O_RDWR | O_NONBLOCK), TIOCSTI, _typed(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED, needs=LEGACY)
def tiocsti_peer(k: Kernel) -> None:
    """The terminal's other side gives out a descriptor of it, and nothing is opened."""
    k.setup.close(_controlling(k))
    master = _fetched(k, STOLEN_FD)
    terminal = k.ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK)
    k.ioctl(terminal, TIOCSTI, _typed(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def master_write(k: Kernel) -> None:
    """Who has the other side of a terminal types by writing: there is no ioctl to look at."""
    k.write(_master(k), _typed(k), len(TYPED)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, assumption=INHERITED)
def master_splice(k: Kernel) -> None:
    """What is in a pipe is moved to the other side: it is neither written there nor an ioctl."""
    pipe = k.buffer(8, name="pipe")
    k.setup.pipe2(pipe, 0)
    k.setup.write(k.setup.load(pipe, 4, 4), _typed(k), len(TYPED))
    k.splice(k.load(pipe, 0, 4), NULL, _master(k), NULL, len(TYPED), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, assumption=INHERITED)
def io_uring_master_write(k: Kernel) -> None:
    """A ring writes to the other side: neither write nor ioctl is called."""
    master = _master(k)
    k.ring().submit("WRITE", fd=master, addr=_typed(k), length=len(TYPED)).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD, needs=LEGACY)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC is of the same session."""
    terminal = _controlling(k)
    typed = _typed(k)
    with deputy.sibling_thread(k) as thread:
        thread.ioctl(terminal, TIOCSTI, typed)


# Controls that must not type


@FAMILY.variant(Technique.MULTIPLEXER, assumption=INHERITED, negative=True)
def tiocsti_not_controlling(k: Kernel) -> None:
    """A terminal that does not control the caller's session takes nothing from it."""
    k.ioctl(_from_victim(k, SLAVE_FD), TIOCSTI, _typed(k)).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, assumption=INHERITED, negative=True)
def terminal_write(k: Kernel) -> None:
    """What is written to the terminal itself is shown, and nobody has typed it."""
    k.write(_from_victim(k, SLAVE_FD), _typed(k), len(TYPED)).decisive()


def _typed(k: Kernel) -> Buffer:
    return k.data(TYPED, name="typed")


def _terminal(k: Kernel) -> None:
    """Both sides of a terminal, as descriptors of the victim."""
    v = k.victim
    v.unshare(CLONE_NEWUSER | CLONE_NEWNS)
    v.mount(v.text("devpts"), v.text("pts"), v.text("devpts"), 0, v.text("ptmxmode=0666"))
    master = v.open(v.text("pts/ptmx"), O_RDWR | O_NOCTTY)
    v.ioctl(master, TIOCSPTLCK, v.struct("I", 0, name="unlocked"))
    v.dup2(v.ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY), SLAVE_FD)
    v.dup2(master, STOLEN_FD)


def _from_victim(k: Kernel, number: int) -> Result:
    """One side of the terminal, fetched before the filter."""
    _terminal(k)
    return _fetched(k, number)


def _fetched(k: Kernel, number: int) -> Result:
    with neighbour.before_the_filter(k) as before:
        pidfd = before.pidfd_open(neighbour.pid(k), 0)
        return before.pidfd_getfd(pidfd, number, 0)


def _master(k: Kernel) -> Result:
    return _from_victim(k, STOLEN_FD)


def _controlling(k: Kernel) -> Result:
    """The terminal, which controls the session that the subject is born into."""
    terminal = _from_victim(k, SLAVE_FD)
    k.setup.setsid()
    k.setup.ioctl(terminal, TIOCSCTTY, 0)
    return terminal
