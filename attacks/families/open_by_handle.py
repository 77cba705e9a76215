"""Open by handle what no path leads to any more.

A witness mounts an empty file system over a directory, so that a file in it, which holds the
secret, can be read only through a handle.  The attack knows the handle as it would know a path: it
is a few bytes that the victim noted before.
"""

from attacks import deputy
from attacks.calls.operand import Fd
from attacks.consts import (
    AT_FDCWD,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_PATH,
    O_RDONLY,
    Named,
)
from attacks.effects import SECRET, Effect, EffectKind, Object, ObjectKind
from attacks.family import TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "open-by-handle",
    title="Open by handle what no path leads to",
    effect=lambda _: Effect(EffectKind.LEARNED),
    objects=(
        Object(ObjectKind.DIRECTORY, TARGET, 0o755),
        Object(ObjectKind.FILE, f"{TARGET}/s", 0o644, SECRET),
    ),
    attack_technique="T1006",
    group="file system",
    unrecorded={
        "open_by_handle_at of a file": (
            "needs CAP_DAC_READ_SEARCH in the initial user namespace; here it is a control"
        ),
        "open_by_handle_at of a handle made with AT_HANDLE_CONNECTABLE": "tmpfs has none",
        "name_to_handle_at alone": "gives a handle: see probe-existence for what it tells",
    },
)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)
AT_HANDLE_FID = Named(0x200, "AT_HANDLE_FID")
FLAGS = O_RDONLY | O_DIRECTORY
_LARGEST = 128
_EMPTY_MODE = "mode=0755"


@FAMILY.witness
def hides_the_directory(w: Kernel) -> None:
    name = w.text("tmpfs")
    w.setup.mount(name, w.path(), name, 0, w.text(_EMPTY_MODE))


@FAMILY.variant(Technique.BASELINE, needs=ADMIN, fresh=MOUNTS)
def open_by_handle_at(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _read(k, k.open_by_handle_at(_mount(k), _handle(k), FLAGS).decisive())


@FAMILY.variant(Technique.FD_RELATIVE, needs=ADMIN, fresh=MOUNTS)
def open_by_handle_at_cwd(k: Kernel) -> None:
    """The working directory says which mount is meant: no descriptor of it need be opened."""
    k.chdir(k.parent())
    _read(k, k.open_by_handle_at(AT_FDCWD, _handle(k), FLAGS).decisive())


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=MOUNTS)
def open_by_handle_at_path_fd(k: Kernel) -> None:
    """Opened with O_PATH there is nothing to read, and what is below can be opened from there."""
    _read(k, k.open_by_handle_at(_mount(k), _handle(k), O_PATH | O_DIRECTORY).decisive())


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=MOUNTS)
def open_by_handle_at_more_flags(k: Kernel) -> None:
    """A flag that changes nothing makes it another call for whoever compares the flags."""
    _read(k, k.open_by_handle_at(_mount(k), _handle(k), FLAGS | O_NOFOLLOW).decisive())


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=MOUNTS)
def open_fid_handle(k: Kernel) -> None:
    """A handle that was asked for as a mere identifier opens the directory as well."""
    _read(k, k.open_by_handle_at(_mount(k), _handle(k, AT_HANDLE_FID), FLAGS).decisive())


@FAMILY.variant(
    Technique.DEPUTY_PROCESS,
    assumption=Assumption.UNFILTERED_THREAD,
    needs=ADMIN,
    fresh=MOUNTS,
)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC shares what it opens."""
    handle, mount, text = _handle(k), _mount(k.setup), k.buffer(64, name="text")
    with deputy.sibling_thread(k) as thread:
        here = thread.open_by_handle_at(mount, handle, FLAGS)
        thread.read(thread.openat(here, k.text("s"), O_RDONLY), text, 64)


# Controls that must not get there


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    needs=ADMIN,
    fresh=MOUNTS,
    negative=True,
)
def open_file_handle(k: Kernel) -> None:
    """A file's own handle is refused without a capability that no sandbox has."""
    handle = _handle(k, name="/s")
    file = k.open_by_handle_at(_mount(k), handle, O_RDONLY).decisive()
    k.read(file, k.buffer(64, name="text"), 64)


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=MOUNTS, negative=True)
def handle_of_what_hides_it(k: Kernel) -> None:
    """A handle that is made now is one of the empty file system that lies above."""
    handle, mount_id = _blank_handle(k)
    k.name_to_handle_at(AT_FDCWD, k.path(), handle, mount_id, 0)
    mount = k.open(k.path(), FLAGS)
    here = k.open_by_handle_at(mount, handle, FLAGS).decisive()
    k.read(k.openat(here, k.text("s"), O_RDONLY), k.buffer(64, name="text"), 64)


def _mount(k: Kernel) -> Result:
    """Which mount a handle belongs to is told by any descriptor on it."""
    return k.open(k.parent(), FLAGS)


def _handle(k: Kernel, flags: int = 0, name: str = "") -> Buffer:
    """Noted by the victim, to whom the directory is not yet hidden."""
    handle, mount_id = _blank_handle(k.victim)
    path = k.text(f"{k.recording.effect.path}{name}")
    k.victim.name_to_handle_at(AT_FDCWD, path, handle, mount_id, flags)
    return handle


def _blank_handle(k: Kernel) -> tuple[Buffer, Buffer]:
    return k.struct("II" + "Q" * 16, _LARGEST, *(0,) * 17, name="handle"), k.buffer(8)


def _read(k: Kernel, directory: Fd) -> None:
    file = k.openat(directory, k.text("s"), O_RDONLY)
    k.read(file, k.buffer(64, name="text"), 64)
