"""What the families of the host's two names share: struct utsname, and the new name."""

from __future__ import annotations

from attacks import witness
from attacks.consts import Named
from attacks.kernel import Kernel
from attacks.recorder import Buffer

CLONE_NEWUTS = Named(0x4000000, "CLONE_NEWUTS")
NEW_NAME = b"sidestepped"
HOST_AT, DOMAIN_AT = 65, 325
"""Where the two names are in struct utsname."""
_SIZE = 390


def new_name(k: Kernel) -> Buffer:
    return k.text(NEW_NAME.decode())


def shows_new_name(w: Kernel, at: int) -> None:
    """The whole of a witness that asks whether the subject's uname has the new name."""
    names = w.buffer(_SIZE, name="utsname")
    w.uname(names)
    witness.same(w, names.at(at), w.data(NEW_NAME + b"\0", name="wanted"), len(NEW_NAME) + 1)
