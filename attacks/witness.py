"""What witnesses share: reading about a process in procfs, and saying what must be so.

A witness runs in the subjects' mount, network, IPC, UTS and cgroup namespaces with the judge's ids
and capabilities, in a pid namespace that subjects cannot see.  Its paths are those of the subject;
its procfs is the subjects', so ``SUBJECT_PID`` and ``VICTIM_PID`` name processes there.  Its
program comes to its end only if every call worked and everything expected was so.
"""

from __future__ import annotations

from msgspec import Struct

from attacks.calls.operand import Fd
from attacks.consts import AT_FDCWD, ENOENT, O_NONBLOCK, O_RDONLY
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Arg, Buffer, Result

_ABSENT = 1 << 63
_PAGE = 4096
_WORD = (1 << 64) - 1


class Text(Struct, frozen=True):
    """What was read, with zeros behind it, and how long it is."""

    buffer: Buffer
    length: Result


def subject(w: Kernel) -> Arg:
    """The subject's pid."""
    return w.env(Environment.SUBJECT_PID)


def victim(w: Kernel) -> Arg:
    """The victim's pid."""
    return w.env(Environment.VICTIM_PID)


def content(w: Kernel, path: Buffer, size: int = _PAGE) -> Text:
    """The beginning of a file."""
    buffer = _blank(w, size)
    file = w.openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK)
    length = w.read(file, buffer, size)
    w.close(file)
    return Text(buffer, length)


def about(w: Kernel, pid: Arg, name: str, size: int = _PAGE) -> Text:
    """The contents of ``/proc/PID/name``."""
    return content(w, w.proc_pid(pid, f"/{name}"), size)


def link(w: Kernel, pid: Arg, name: str) -> Text:
    """Where ``/proc/PID/name`` leads: ``ns/user``, ``root``, ``fd/3``."""
    buffer = _blank(w, 256)
    length = w.readlinkat(AT_FDCWD, w.proc_pid(pid, f"/{name}"), buffer, 256)
    return Text(buffer, length)


def has(w: Kernel, text: Text, wanted: bytes) -> None:
    """Goes on only if ``wanted`` is in the text."""
    w.expect(w.find(text.buffer, text.length, wanted), _ABSENT, 0)


def lacks(w: Kernel, text: Text, unwanted: bytes) -> None:
    """Goes on only if ``unwanted`` is not in the text."""
    w.expect(w.find(text.buffer, text.length, unwanted), _ABSENT, _ABSENT)


def differ(w: Kernel, a: Text, b: Text) -> None:
    """Goes on only if two texts, read with one size, are not the same."""
    w.expect(w.compare(a.buffer, b.buffer, a.buffer.size), 1, 0)


def same(w: Kernel, a: Arg, b: Arg, size: int) -> None:
    """Goes on only if ``size`` bytes are the same."""
    w.expect(w.compare(a, b, size), 1, 1)


def link_changes(w: Kernel, pid: Arg, name: str) -> None:
    """The whole of a witness that asks whether ``/proc/PID/name`` leads elsewhere than before."""
    differ(w, link(w.setup, pid, name), link(w, pid, name))


def gone(w: Kernel, pid: Arg) -> None:
    """Goes on only if there is no such process, or only what is left of it to be waited for."""
    cwd = w.readlinkat(AT_FDCWD, w.proc_pid(pid, "/cwd"), w.buffer(256), 256).may_fail()
    w.expect(cwd, _WORD, -ENOENT & _WORD)


def becomes_readable(w: Kernel, fd: Fd, wanted: bytes) -> None:
    """Goes on only if ``wanted`` can be read from a descriptor, which must not block."""
    buffer = w.buffer(max(len(wanted), 64), name="got")
    w.read(fd, buffer, buffer.size)
    same(w, buffer, w.data(wanted, name="wanted"), len(wanted))


def _blank(w: Kernel, size: int) -> Buffer:
    """Memory that is zero whenever this point of the program is reached."""
    buffer = w.buffer(size, name="text")
    w.copy(buffer, w.buffer(size, name="zeros"), size)
    return buffer
