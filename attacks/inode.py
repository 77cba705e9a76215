"""What witnesses read of an inode: ``struct stat`` of x86-64, and what must be so in it."""

from __future__ import annotations

from attacks import witness
from attacks.consts import AT_FDCWD, AT_SYMLINK_NOFOLLOW
from attacks.consts_files import S_IFMT
from attacks.kernel import Kernel
from attacks.recorder import Arg, Buffer

MODE, UID, GID, MTIME = (24, 4), (28, 4), (32, 4), (88, 8)
"""Offset and width."""

_SIZE = 144
_IDENTITY_SIZE = 16  # st_dev and st_ino
_WORD = (1 << 64) - 1


def shown(w: Kernel, path: Buffer) -> Buffer:
    """What a path shows now, a symbolic link itself; stops where there is nothing."""
    status = w.buffer(_SIZE, name="stat")
    w.newfstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW)
    return status


def shown_if_any(w: Kernel, path: Buffer) -> Buffer:
    """The same; all zeros where there is nothing."""
    status = w.buffer(_SIZE, name="stat")
    w.copy(status, w.buffer(_SIZE, name="zeros"), _SIZE)
    w.newfstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW).may_fail()
    return status


def has(w: Kernel, status: Buffer, field: tuple[int, int], value: int, mask: int = _WORD) -> None:
    """Goes on only if a field has this value, in the bits of ``mask``."""
    offset, width = field
    w.expect(w.load(status, offset, width), mask, value)


def is_of_type(w: Kernel, status: Buffer, kind: int) -> None:
    """Goes on only if it is a file of this ``S_IF...`` type."""
    has(w, status, MODE, kind, S_IFMT)


def same(w: Kernel, a: Arg, b: Arg) -> None:
    """Goes on only if two are one inode."""
    witness.same(w, a, b, _IDENTITY_SIZE)


def different(w: Kernel, a: Arg, b: Arg) -> None:
    """Goes on only if two are not one inode."""
    w.expect(w.compare(a, b, _IDENTITY_SIZE), 1, 0)
