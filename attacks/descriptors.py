"""What a witness can tell of the descriptors that a process holds.

Nobody knows the numbers beforehand, so it looks at all of the lowest ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from attacks.consts import AT_FDCWD, O_RDONLY
from attacks.kernel import Kernel
from attacks.recorder import Arg, Buffer

COUNT = 16
_SLICE = 256


def links(w: Kernel, pid: Arg) -> Buffer:
    """Where the descriptors of a process lead, each in a piece of its own."""
    found = _blank(w)
    for fd in range(COUNT):
        path = w.proc_pid(pid, f"/fd/{fd}")
        w.readlinkat(AT_FDCWD, path, found.at(fd * _SLICE), _SLICE).may_fail()
    return found


def one_of(w: Kernel, pid: Arg, wanted: Sequence[bytes]) -> None:
    """Goes on only if a descriptor leads to something with one of these texts in its name.

    What is not found is at -1, whose bytes all are 255; of what is found the upper bytes are 0.
    """
    found, places = links(w, pid), w.buffer(8 * len(wanted), name="places")
    for index, text in enumerate(wanted):
        w.store(places, 8 * index, 8, w.find(found, found.size, text))
    w.expect(w.find(places, places.size, b"\0"), 1 << 63, 0)


def details(w: Kernel, pid: Arg) -> Buffer:
    """What procfs says of the descriptors of a process (``fdinfo``), each in a piece of its own."""
    found = _blank(w)
    for fd in range(COUNT):
        file = w.openat(AT_FDCWD, w.proc_pid(pid, f"/fdinfo/{fd}"), O_RDONLY).may_fail()
        w.read(file, found.at(fd * _SLICE), _SLICE).may_fail()
        w.close(file).may_fail()
    return found


def _blank(w: Kernel) -> Buffer:
    """Memory that is zero whenever this point of the program is reached."""
    size = COUNT * _SLICE
    found = w.buffer(size, name="found")
    w.copy(found, w.buffer(size, name="zeros"), size)
    return found
