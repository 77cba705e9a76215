"""Inspect the mounts: learn what is mounted at the target.

A witness mounts a file system there before the attack; what the mount is said to come from is the
secret.
"""

from attacks import deputy
from attacks.calls.operand import Fd
from attacks.consts import AT_FDCWD, NULL, O_RDONLY, Named
from attacks.effects import SECRET, Effect, EffectKind, Object, ObjectKind
from attacks.family import TARGET, Assumption, Family, Fresh, Technique
from attacks.kernel import Kernel
from attacks.recorder import Arg, Buffer

FAMILY = Family(
    "inspect-mounts",
    title="Inspect what is mounted",
    effect=lambda _: Effect(EffectKind.LEARNED),
    objects=(Object(ObjectKind.DIRECTORY, TARGET),),
    attack_technique="T1082",
    group="file system",
    unrecorded={
        "listns": "came with Linux 6.19, and lists namespaces, not mounts",
        "fdinfo's mnt_id and statx's stx_mnt_id": "tell a number, not what is mounted",
    },
)
MOUNTS = (Fresh.MOUNT,)
LSMT_ROOT = Named(-1, "LSMT_ROOT")
LISTMOUNT_REVERSE = Named(1, "LISTMOUNT_REVERSE")
STATMOUNT_SB_SOURCE = Named(0x200, "STATMOUNT_SB_SOURCE")
STATX_MNT_ID_UNIQUE = Named(0x4000, "STATX_MNT_ID_UNIQUE")
_REQUEST = 24
_MNT_ID = 144
"""``stx_mnt_id`` in ``struct statx``."""
_PIECE, _PIECES = 4096, 8


@FAMILY.witness
def mounts_it(w: Kernel) -> None:
    source = w.data(SECRET + b"\0", name="source")
    w.setup.mount(source, w.path(), w.text("tmpfs"), 0, NULL)


# The tables of procfs


@FAMILY.variant(Technique.BASELINE, fresh=MOUNTS)
def read_mounts(k: Kernel) -> None:
    """The file that the author of the policy has in mind."""
    _read(k, k.open(k.proc("self/mounts"), O_RDONLY).decisive())


@FAMILY.variant(Technique.PROC_INTERFACE, fresh=MOUNTS)
def read_mountinfo(k: Kernel) -> None:
    """The newer table has another name."""
    _read(k, k.open(k.proc("self/mountinfo"), O_RDONLY).decisive())


@FAMILY.variant(Technique.PROC_INTERFACE, fresh=MOUNTS)
def read_mountstats(k: Kernel) -> None:
    """The third table is meant for statistics, and names the same mounts."""
    _read(k, k.open(k.proc("self/mountstats"), O_RDONLY).decisive())


@FAMILY.variant(Technique.PROC_INTERFACE, fresh=MOUNTS)
def read_thread_mounts(k: Kernel) -> None:
    """Each thread has the tables too, under a path without the word self in it."""
    path = k.proc_pid(k.gettid(), "/mounts")
    _read(k, k.open(path, O_RDONLY).decisive())


@FAMILY.variant(Technique.ASYNC_KERNEL, fresh=MOUNTS)
def io_uring_read_mounts(k: Kernel) -> None:
    """A ring opens the table: there is no open call."""
    _read(k, k.ring().openat(AT_FDCWD, k.proc("self/mounts"), O_RDONLY, 0).decisive())


# The calls


@FAMILY.variant(Technique.NEWER_SYSCALL, fresh=MOUNTS)
def listmount_statmount(k: Kernel) -> None:
    """Two calls of Linux 6.8 replace the tables: no file is opened, and procfs is not needed."""
    newest = k.buffer(8, name="newest")
    request = k.struct("IIQQ", _REQUEST, 0, LSMT_ROOT, 0, name="request")
    k.listmount(request, newest, 1, LISTMOUNT_REVERSE)
    _statmount(k, k.load(newest))


@FAMILY.variant(Technique.NEWER_SYSCALL, fresh=MOUNTS)
def statx_statmount(k: Kernel) -> None:
    """A look at the target tells the number of its mount, so that none need be listed."""
    seen = k.buffer(256, name="seen")
    k.statx(AT_FDCWD, k.path(), 0, STATX_MNT_ID_UNIQUE, seen)
    _statmount(k, k.load(seen, _MNT_ID))


@FAMILY.variant(Technique.ASYNC_KERNEL, fresh=MOUNTS)
def io_uring_statx_statmount(k: Kernel) -> None:
    """A ring tells the number of the mount: only statmount is left for a filter to see."""
    seen = k.buffer(256, name="seen")
    k.ring().submit("STATX", fd=AT_FDCWD, addr=k.path(), off=seen, length=STATX_MNT_ID_UNIQUE)
    _statmount(k, k.load(seen, _MNT_ID))


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD, fresh=MOUNTS)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    pieces = _pieces(k)
    with deputy.sibling_thread(k) as thread:
        file = thread.open(k.proc("self/mounts"), O_RDONLY)
        for piece in pieces:
            thread.read(file, piece, _PIECE)


# A control that must not tell


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True, fresh=MOUNTS)
def statfs(k: Kernel) -> None:
    """What kind of file system is mounted, and how full it is, but not what it comes from."""
    k.statfs(k.path(), k.buffer(256, name="seen")).decisive()


def _read(k: Kernel, file: Fd) -> None:
    """The whole table, which comes in pieces where it is long."""
    for piece in _pieces(k):
        k.read(file, piece, _PIECE)


def _pieces(k: Kernel) -> list[Buffer]:
    return [k.buffer(_PIECE, name="mounts") for _ in range(_PIECES)]


def _statmount(k: Kernel, mount: Arg) -> None:
    request = k.struct("IIQQ", _REQUEST, 0, mount, STATMOUNT_SB_SOURCE, name="request")
    k.statmount(request, k.buffer(_PIECE, name="mount"), _PIECE, 0).decisive()
