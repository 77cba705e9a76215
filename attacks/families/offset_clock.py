"""Shift the clocks that one's own children see, in a time namespace.

The witness compares the offsets of the time namespace that the subject's children are born into.
"""

from attacks import witness
from attacks.consts import AT_FDCWD, CLONE_NEWUSER, O_DIRECTORY, O_PATH, O_RDONLY, O_WRONLY
from attacks.consts_namespaces import CLONE_NEWTIME
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "offset-clock",
    title="Shift the clocks of one's children",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    group="namespaces and mounts",
    unrecorded={
        "clone3 with CLONE_NEWTIME": "a time namespace can be shifted only while nobody is in it",
        "setns into a time namespace": "another has shifted it before",
        "write to a descriptor from before the filter": (
            "a child of who unshared is in the namespace, and then nobody can shift it"
        ),
    },
)
TIME = (Need.TIME_NAMESPACE,)
ADMIN = (Need.TIME_NAMESPACE, Need.CAP_SYS_ADMIN)
OFFSET = b"monotonic 86400 0\n"
_SHOWN = b"86400"


@FAMILY.witness
def the_offset_is_there(w: Kernel) -> None:
    witness.has(w, witness.about(w, witness.subject(w), "timens_offsets"), _SHOWN)


@FAMILY.variant(Technique.BASELINE, needs=ADMIN, references=("man 7 time_namespaces",))
def unshare(k: Kernel) -> None:
    """The calls that the author of the policy has in mind."""
    k.unshare(CLONE_NEWTIME)
    k.write(_file(k), _offset(k), len(OFFSET)).decisive()


@FAMILY.variant(Technique.NAMESPACE, needs=TIME)
def unshare_user(k: Kernel) -> None:
    """In a user namespace of its own nobody needs a capability for it, and the flags differ."""
    k.unshare(CLONE_NEWUSER | CLONE_NEWTIME)
    k.write(_file(k), _offset(k), len(OFFSET)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=ADMIN)
def io_uring_write(k: Kernel) -> None:
    """A ring opens and writes: of the usual calls only unshare is made."""
    k.unshare(CLONE_NEWTIME)
    ring = k.ring()
    file = ring.openat(AT_FDCWD, k.proc("self/timens_offsets"), O_WRONLY, 0)
    ring.submit("WRITE", fd=file, addr=_offset(k), length=len(OFFSET)).decisive()


@FAMILY.variant(Technique.FD_RELATIVE, needs=ADMIN)
def openat_dirfd(k: Kernel) -> None:
    """The directory is opened first: no path that is opened for writing begins with /proc."""
    k.unshare(CLONE_NEWTIME)
    here = k.open(k.proc("self"), O_PATH | O_DIRECTORY)
    file = k.openat(here, k.text("timens_offsets"), O_WRONLY)
    k.write(file, _offset(k), len(OFFSET)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, negative=True)
def write_read_only(k: Kernel) -> None:
    """What was opened for reading cannot be written to."""
    k.unshare(CLONE_NEWTIME)
    file = k.open(k.proc("self/timens_offsets"), O_RDONLY)
    k.write(file, _offset(k), len(OFFSET)).decisive().may_fail()


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def write_without_namespace(k: Kernel) -> None:
    """The clocks of the machine's own time namespace cannot be shifted."""
    k.write(_file(k), _offset(k), len(OFFSET)).decisive().may_fail()


def _file(k: Kernel) -> Result:
    return k.open(k.proc("self/timens_offsets"), O_WRONLY)


def _offset(k: Kernel) -> Buffer:
    return k.data(OFFSET, name="offset")
