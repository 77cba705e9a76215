"""What families about namespaces, mounts, chroots and identities share.

A witness of theirs mostly looks at the subject in procfs, and at its child, which has what a clone
gave it.  Where a family accepts one of several signs, the witness notes each as a word that is zero
if the sign is there, and goes on if one is.
"""

from __future__ import annotations

from attacks import witness
from attacks.consts import (
    AF_UNIX,
    AT_FDCWD,
    NULL,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    SIGCHLD,
    SOCK_STREAM,
)
from attacks.consts_namespaces import SCM_RIGHTS, SOL_SOCKET, STATX_BASIC_STATS
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Arg, Buffer, Result
from attacks.witness import Text

_ALIVE_US = 200_000
_GUARD = 16
_STATUS = 4096
_ABSENT = 1 << 63
_LINK = 256
_STATX_SIZE, _STATX_INO, _STATX_DEV = 256, 32, 136
_MSGHDR = "QIIQQQQII"
_SCM_DATA = 16


# What attacks do


def clone_args(k: Kernel, flags: int, size: int = 88) -> Buffer:
    """``struct clone_args``; the exit signal is SIGCHLD."""
    rest = (size - 40) // 8
    return k.struct("Q" * (size // 8), flags, 0, 0, 0, SIGCHLD, *[0] * rest, name="clone_args")


def lives_on(k: Kernel, created: Result) -> Result:
    """The new process does nothing until it has been seen."""
    with k.child(created):
        k.wait(k.buffer(4, name="never"), bound_us=_ALIVE_US)
    return created


def message(k: Kernel, control: Buffer) -> Buffer:
    """``struct msghdr`` for one byte and this ancillary data."""
    iov = k.struct("QQ", k.buffer(8, name="byte"), 1, name="iov")
    return k.struct(_MSGHDR, NULL, 0, 0, iov, 1, control, control.size, 0, 0, name="msghdr")


def queued(k: Kernel, fd: Result) -> Result:
    """Before the filter a descriptor is sent to a socket pair and closed; returns the other end."""
    pair = k.setup.buffer(8, name="pair")
    k.setup.socketpair(AF_UNIX, SOCK_STREAM, 0, pair)
    control = k.setup.struct("QIIIxxxx", 20, SOL_SOCKET, SCM_RIGHTS, fd, name="control")
    k.setup.sendmsg(k.setup.load(pair, 0, 4), message(k.setup, control), 0)
    k.setup.close(fd)
    return k.setup.load(pair, 4, 4)


def received(k: Kernel, socket: Result) -> Result:
    """The descriptor that waits in a socket."""
    control = k.buffer(24, name="control")
    k.recvmsg(socket, message(k, control), 0)
    return k.load(control, _SCM_DATA, 4)


def neighbours(k: Kernel, name: str) -> Buffer:
    """``/proc/VICTIM/name``."""
    return path_of(k, k.env(Environment.VICTIM_PID), name)


def path_of(k: Kernel, pid: Arg, name: str) -> Buffer:
    """``/proc/PID/name``."""
    path = k.data(b"/proc/".ljust(64, b"\0"), name="path")
    k.print_number(path.at(len("/proc/")), pid, k.text(f"PID/{name}").at(len("PID")))
    return path


def read_secret(k: Kernel, file: Result) -> Result:
    """Reads what the judge looks for into the program's memory."""
    return k.read(file, k.buffer(64, name="secret"), 64)


# What witnesses do


def one_is_zero(w: Kernel, *signs: Arg) -> None:
    """Goes on only if one of these words is zero."""
    noted = w.buffer(len(signs), name="signs")
    for index, sign in enumerate(signs):
        w.store(noted, index, 1, sign)
    w.expect(w.find(noted, len(signs), b"\0"), _ABSENT, 0)


def child_path(w: Kernel, name: str) -> Buffer:
    """``/proc/CHILD/name`` of the subject's only child, or a path that leads nowhere."""
    path, start = w.buffer(96, name="child"), len("/proc/")
    w.copy(path, w.data(b"/proc/".ljust(96, b"\0"), name="blank"), 96)
    tasks = w.openat(AT_FDCWD, w.proc_pid(witness.subject(w), "/task"), O_PATH | O_DIRECTORY)
    listed = w.buffer(32, name="listed")
    w.print_number(listed, witness.subject(w), w.text("/children"))
    file = w.openat(tasks, listed, O_RDONLY)
    length = w.read(file, path.at(start), 40)
    w.close(file)
    w.close(tasks)
    suffix = f"/{name}"
    w.copy(w.add(path.at(start - 1), length), w.text(suffix), len(suffix) + 1)
    return path


def child_link(w: Kernel, name: str, otherwise: Text) -> Text:
    """Where ``/proc/CHILD/name`` leads; without a child what ``otherwise`` says."""
    buffer = w.buffer(_LINK, name="text")
    w.copy(buffer, otherwise.buffer, _LINK)
    length = w.readlinkat(AT_FDCWD, child_path(w, name), buffer, _LINK).may_fail()
    return Text(buffer, length)


def link_changes_here_or_in_a_child(w: Kernel, name: str) -> None:
    """The whole of a witness: ``/proc/PID/name`` of the subject or its child leads elsewhere."""
    before = witness.link(w.setup, witness.subject(w), name)
    now = witness.link(w, witness.subject(w), name)
    child = child_link(w, name, before)
    one_is_zero(w, *(w.compare(before.buffer, one.buffer, _LINK) for one in (now, child)))


def status(w: Kernel, path: Buffer) -> Buffer:
    """A status file of procfs, or zeros; the text is between guards of zeros."""
    size = _STATUS + 2 * _GUARD
    buffer = w.buffer(size, name="status")
    w.copy(buffer, w.buffer(size, name="zeros"), size)
    file = w.openat(AT_FDCWD, path, O_RDONLY).may_fail()
    w.read(file, buffer.at(_GUARD), _STATUS).may_fail()
    w.close(file).may_fail()
    return buffer


def field(w: Kernel, text: Buffer, name: str, size: int) -> Result:
    """The address of a status field's value; zeros are there if there is no status."""
    label = f"{name}:\t".encode()
    at = w.find(text.at(_GUARD), _STATUS - size, label)
    return w.add(w.add(text.at(_GUARD), at), len(label))


def subject_status(w: Kernel) -> Buffer:
    return status(w, w.proc_pid(witness.subject(w), "/status"))


def child_status(w: Kernel) -> Buffer:
    return status(w, child_path(w, "status"))


def inode(w: Kernel, path: Buffer) -> Buffer:
    """Inode number and device of what a path leads to."""
    there, both = w.buffer(_STATX_SIZE, name="statx"), w.buffer(16, name="inode")
    w.statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, there)
    w.copy(both, there.at(_STATX_INO), 8)
    w.copy(both.at(8), there.at(_STATX_DEV), 8)
    return both
