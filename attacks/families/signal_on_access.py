"""Be signalled when somebody uses a file: watches that need no call for watches.

The witness makes a file in the target's directory and opens the target for writing; the subject,
which is stopped meanwhile, must then have a signal waiting.
"""

from attacks import witness
from attacks.consts import (
    AT_FDCWD,
    O_CREAT,
    O_DIRECTORY,
    O_NONBLOCK,
    O_RDONLY,
    O_WRONLY,
    Named,
)
from attacks.consts_watches import (
    DN_CREATE,
    DN_MULTISHOT,
    F_NOTIFY,
    F_RDLCK,
    F_SETFL,
    F_SETLEASE,
    F_SETOWN,
    F_WRLCK,
    IN_CREATE,
    O_ASYNC,
)
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import TARGET, Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Result

FAMILY = Family(
    "signal-on-access",
    title="Be signalled when somebody uses a file",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, TARGET),),
    stays=True,
    attack_technique="T1083",
    group="file system",
)
FIOASYNC = Named(0x5452, "FIOASYNC")


@FAMILY.witness
def a_signal_waits(w: Kernel) -> None:
    new = w.text(f"{w.recording.effect.parent}/new")
    w.close(w.openat(AT_FDCWD, new, O_CREAT | O_WRONLY, 0o600))
    w.unlinkat(AT_FDCWD, new, 0)
    # A lease keeps whoever does not want to wait for it from opening the file.
    w.openat(AT_FDCWD, w.path(), O_WRONLY | O_NONBLOCK).may_fail()
    # SIGIO is the 29th signal.
    witness.has(w, witness.about(w, witness.subject(w), "status"), b"ShdPnd:\t0000000010000000")


@FAMILY.variant(Technique.BASELINE)
def dnotify(k: Kernel) -> None:
    """The oldest watch is an operation of fcntl, which no list of watching calls contains."""
    k.fcntl(_directory(k), F_NOTIFY, DN_CREATE | DN_MULTISHOT).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def dnotify_other_bits(k: Kernel) -> None:
    """The mask may hold bits that mean nothing, so a rule on the usual masks misses."""
    k.fcntl(_directory(k), F_NOTIFY, DN_CREATE | 0x00FFFF00).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def dnotify_inherited_fd(k: Kernel) -> None:
    """The directory was opened before the filter: no rule on its path is asked again."""
    here = k.setup.open(k.parent(), O_RDONLY | O_DIRECTORY)
    k.fcntl(here, F_NOTIFY, DN_CREATE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def dnotify_fcntl64_i386(k: Kernel) -> None:
    """The 32-bit table has two fcntl calls, and a list may contain one of them."""
    k.i386.raw("fcntl64", _directory(k), F_NOTIFY, DN_CREATE).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def read_lease(k: Kernel) -> None:
    """A lease for reading is broken by whoever opens the file to write, and the holder is told."""
    k.fcntl(k.open(k.path(), O_RDONLY), F_SETLEASE, F_RDLCK).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def write_lease(k: Kernel) -> None:
    """A lease for writing is broken by anyone who opens the file at all."""
    k.fcntl(k.open(k.path(), O_WRONLY), F_SETLEASE, F_WRLCK).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def inotify_o_async(k: Kernel) -> None:
    """A watch need never be read: the descriptor can be told to send a signal."""
    watch = _watch(k)
    k.fcntl(watch, F_SETFL, O_ASYNC).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def inotify_fioasync(k: Kernel) -> None:
    """An ioctl of all descriptors does what F_SETFL does."""
    watch = _watch(k)
    k.ioctl(watch, FIOASYNC, k.struct("I", 1, name="on")).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True)
def dnotify_other_directory(k: Kernel) -> None:
    """A directory above is not told of what happens below: the signal must not come."""
    above = k.open(k.text(f"{k.recording.effect.parent}/.."), O_RDONLY | O_DIRECTORY)
    k.fcntl(above, F_NOTIFY, DN_CREATE).decisive()


def _directory(k: Kernel) -> Result:
    return k.open(k.parent(), O_RDONLY | O_DIRECTORY)


def _watch(k: Kernel) -> Result:
    watch = k.inotify_init1(0)
    k.inotify_add_watch(watch, k.parent(), IN_CREATE)
    k.fcntl(watch, F_SETOWN, k.getpid())
    return watch
