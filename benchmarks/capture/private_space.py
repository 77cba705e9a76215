"""Runs a capture in its own mount and process namespaces and checks that it leaves nothing behind.

The program starts itself again under unshare(1). Inside, /run and the work directory are fresh
tmpfs mounts, so that state directories which runtimes hard-code vanish with the namespace, and
every process dies with the namespace's first one. Only cgroups outlive a namespace: all of them
are made below one that has the name of the work directory, and it is removed at the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from evaluator.errors import SidestepError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PREFIX = "sidestep-capture"
REPOSITORY = Path(__file__).resolve().parents[2]
_INSIDE = "SIDESTEP_CAPTURE_DIRECTORY"
_UNIFIED = "/sys/fs/cgroup/unified"
_INTERRUPTED = 130
_PR_SET_CHILD_SUBREAPER = 36
_CANNOT = 3


class CaptureError(Exception):
    """A capture that cannot go on; the message is one line for the user."""


def cgroup() -> str:
    """The cgroup that all of this capture belong to; no other has that name."""
    return f"/{Path(os.environ[_INSIDE]).name}"


def run(module: str, work: Callable[[Path], int | None]) -> int:
    """Call `work` with a private directory; the exit code is its own, or says what went wrong."""
    inside = os.environ.get(_INSIDE)
    if inside is None:
        return _outside(module)
    try:
        _refuse_chroot()
        _make_private(Path(inside))
        return work(Path(inside)) or 0
    except (CaptureError, SidestepError, OSError, subprocess.SubprocessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _outside(module: str) -> int:
    if os.geteuid() != 0:
        print("error: containers are started as root: use sudo", file=sys.stderr)
        return _CANNOT
    # Until here nothing has to be cleaned up, and a program may let Ctrl-C end it at once.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _sweep()
    directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{os.getpid()}-"))
    # Orphans come to us: the namespace's first process ends only after all others there.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # As Ctrl-C, so that a terminated capture cleans up too; run() kills unshare, and with it all.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = subprocess.run(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                sys.executable,
                "-m",
                module,
                *sys.argv[1:],
            ],
            env={**os.environ, _INSIDE: str(directory)},
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches us alone
            check=False,
        ).returncode
    except KeyboardInterrupt:
        code = _INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _wait_for_all()
        directory.rmdir()
        _remove_cgroups(directory.name)
    left = sorted(set(_traces(directory.name)))
    for trace in left:
        print(f"error: left behind: {trace}", file=sys.stderr)
    if code == _INTERRUPTED and not left:
        print("error: interrupted; what was started is gone", file=sys.stderr)
    return 1 if left else code


def _make_private(directory: Path) -> None:
    # Called through libc: mount(8) would write to /run of the machine before it is hidden.
    libc = ctypes.CDLL(None, use_errno=True)
    for target in (Path("/run"), directory):
        if libc.mount(b"tmpfs", bytes(target), b"tmpfs", 0, b"mode=755") != 0:
            raise CaptureError(f"mount tmpfs on {target}: {os.strerror(ctypes.get_errno())}")
    # crun refuses to start where cgroup v1 and v2 are mixed; without this mount it is v1 alone.
    libc.umount2(_UNIFIED.encode(), 0)


def _refuse_chroot() -> None:
    """In a chroot, a program that joins a container's mount namespace ends up outside of both.

    pivot_root(2) moves the root of the namespace only where it is ours as well.
    """
    root = Path("/").stat()
    joined = ["nsenter", "--mount=/proc/self/ns/mnt", "stat", "--format=%d %i", "/"]
    done = subprocess.run(joined, capture_output=True, text=True, check=True)
    if done.stdout.split() != [str(root.st_dev), str(root.st_ino)]:
        raise CaptureError("in a chroot, a container's programs would run outside of it")


def _wait_for_all() -> None:
    # A runtime that still runs would make the directory again, on the machine's own /tmp.
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _sweep() -> None:
    """Removes what captures left that were killed before they could do it themselves."""
    directories = Path(tempfile.gettempdir()).glob(f"{_PREFIX}-*-*")
    for name in {one.name for one in [*directories, *_cgroups(f"{_PREFIX}-*-*")]}:
        pid = name.removeprefix(_PREFIX).split("-")[1]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            _remove_cgroups(name)
            with contextlib.suppress(OSError):
                Path(tempfile.gettempdir(), name).rmdir()


def _remove_cgroups(name: str) -> None:
    deadline = time.monotonic() + 15  # on a busy machine what was killed takes its time
    while tops := list(_cgroups(name)):
        for top in tops:
            # A group stays busy for a moment after its last process was killed.
            for group in [*sorted(top.rglob("*/"), reverse=True), top]:
                with contextlib.suppress(OSError):
                    group.rmdir()
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _cgroups(name: str) -> list[Path]:
    top = Path("/sys/fs/cgroup")
    return [*top.glob(name), *top.glob(f"*/{name}")]


def _traces(name: str) -> Iterator[str]:
    """What a capture could have left, told from what other engines of the machine do meanwhile.

    /run and the work directory were its own, and are gone with its namespaces.
    """
    yield from (f"cgroup {path}" for path in _cgroups(name))
    yield from _marked("mount", Path("/proc/mounts"), name)
    yield from _marked("socket", Path("/proc/net/unix"), name)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(name in word for word in words):
                yield f"process {process.name}: {' '.join(words)}"


def _marked(kind: str, listing: Path, name: str) -> Iterator[str]:
    lines = listing.read_text().splitlines()
    yield from (f"{kind} {line}" for line in lines if name in line)
