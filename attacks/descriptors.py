"""What a process has open, as its links in procfs say it: ``pipe:[17]``, ``/memfd:x (deleted)``."""

from __future__ import annotations

from collections.abc import Sequence

from attacks import witness
from attacks.consts import AT_FDCWD
from attacks.kernel import Kernel
from attacks.recorder import Buffer

FIRST, BEYOND = 3, 12
"""Which descriptors are looked at: a program gets the lowest that are free."""
_WIDTH = 128


def links(w: Kernel) -> Buffer:
    """Where the subject's descriptors lead, with zeros between them."""
    size = (BEYOND - FIRST) * _WIDTH
    buffer = w.buffer(size, name="links")
    w.copy(buffer, w.buffer(size, name="zeros"), size)
    for fd in range(FIRST, BEYOND):
        path = w.proc_pid(witness.subject(w), f"/fd/{fd}")
        room = buffer.at((fd - FIRST) * _WIDTH)
        w.readlinkat(AT_FDCWD, path, room, _WIDTH - 1).may_fail()
    return buffer


def one_of(w: Kernel, wanted: Sequence[bytes]) -> None:
    """Goes on only if a descriptor leads to something with one of these texts in its name.

    What is not found is at -1, whose bytes all are 255; of what is found the upper bytes are 0.
    """
    buffer, places = links(w), w.buffer(8 * len(wanted), name="places")
    for index, text in enumerate(wanted):
        w.store(places, 8 * index, 8, w.find(buffer, buffer.size, text))
    found = w.find(places, places.size, b"\0")
    w.expect(found, 1 << 63, 0)
