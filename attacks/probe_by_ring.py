"""Asking whether a name exists with the help of a ring: recipes of probe-existence."""

from __future__ import annotations

from collections.abc import Callable

from attacks import dice
from attacks.consts import (
    AT_FDCWD,
    ENOENT,
    O_PATH,
)
from attacks.consts_namespaces import STATX_BASIC_STATS
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Recorder, Result
from attacks.ring import Ring

NAMES = dice.QUESTIONS
_RING_ENTRIES = 4


def path_of(k: Recorder, number: int, last: int, *, whole: bool = True, ending: str = "") -> Buffer:
    parent = f"{k.recording.effect.parent}/" if whole else ""
    return k.text(f"{parent}{number}.{last}{ending}")


def seen_at(k: Kernel) -> Buffer:
    return k.buffer(256, name="seen")


def io_uring_statx(k: Kernel) -> None:
    """A ring looks: there is no stat call at all."""
    seen = seen_at(k)
    _ask_rings(k, lambda ring, path: _submit_statx(ring, path, seen))


def io_uring_openat_path_fd(k: Kernel) -> None:
    """A ring opens with O_PATH, and its answer says whether there was something to open."""
    _ask_rings(
        k,
        lambda ring, path: ring.submit(
            "OPENAT", fd=AT_FDCWD, addr=path, op_flags=O_PATH, may_fail=True
        ),
    )


def io_uring_getxattr(k: Kernel) -> None:
    """A ring asks for an attribute that no file has."""
    name, seen = k.text("user.a"), seen_at(k)
    _ask_rings(
        k,
        lambda ring, path: ring.submit(
            "GETXATTR", addr=name, off=seen, length=10, addr3=path, may_fail=True
        ),
    )


def io_uring_personality_statx(k: Kernel) -> None:
    """Rings from before the filter look with the credentials of then."""
    seen = seen_at(k)
    rings = [ring.registered_personality().by(k) for ring in _rings(k.setup)]
    _ask_rings(k, lambda ring, path: _submit_statx(ring, path, seen), rings)


def _ask_rings(
    k: Kernel, call: Callable[[Ring, Buffer], Result], rings: list[Ring] | None = None
) -> None:
    rings = rings or _rings(k)
    found = [call(rings[number // _RING_ENTRIES], path_of(k, number, 0)) for number in range(NAMES)]
    found[-1].decisive()
    dice.note(k, found, -ENOENT)


def _submit_statx(ring: Ring, path: Buffer, seen: Buffer) -> Result:
    return ring.submit(
        "STATX", fd=AT_FDCWD, addr=path, off=seen, length=STATX_BASIC_STATS, may_fail=True
    )


def _rings(k: Kernel) -> list[Ring]:
    return [k.ring() for _ in range(NAMES // _RING_ENTRIES)]
