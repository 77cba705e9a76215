"""What a witness reads in procfs about a process that took hold of something in the kernel."""

from __future__ import annotations

from attacks import witness
from attacks.consts import AT_FDCWD
from attacks.kernel import Kernel
from attacks.recorder import Arg, Buffer

_DESCRIPTORS = 16
"""How many descriptors are looked at; a recorded program opens fewer."""
_LINK_SIZE = 64
_ABSENT = 1 << 63


def holds(w: Kernel, pid: Arg, kind: str) -> None:
    """Goes on only if a descriptor of the process leads to ``anon_inode:kind``.

    The links of the first descriptors are read beside each other, so that one search answers.
    """
    links = w.buffer(_DESCRIPTORS * _LINK_SIZE, name="links")
    w.copy(links, w.buffer(links.size, name="zeros"), links.size)
    for number in range(_DESCRIPTORS):
        path = w.proc_pid(pid, f"/fd/{number}")
        place = links.at(number * _LINK_SIZE)
        w.readlinkat(AT_FDCWD, path, place, _LINK_SIZE).may_fail()
    w.expect(w.find(links, links.size, f"anon_inode:{kind}".encode()), _ABSENT, 0)


def status_changes(w: Kernel, name: str, value_size: int) -> None:
    """The whole of a witness that asks whether a line of ``/proc/PID/status`` is another.

    ``value_size`` is how many letters of the value are compared, the end of the line among them.
    """
    before = _status(w.setup, name, value_size)
    after = _status(w, name, value_size)
    w.expect(w.compare(before, after, after.size), 1, 0)


def _status(w: Kernel, name: str, value_size: int) -> Buffer:
    text = witness.about(w, witness.subject(w), "status")
    key = f"\n{name}:\t".encode()
    at = w.find(text.buffer, text.length, key)
    w.expect(at, _ABSENT, 0)
    line = w.buffer(len(key) + value_size, name="line")
    w.copy(line, w.add(text.buffer, at), line.size)
    return line
