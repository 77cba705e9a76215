"""Profiles made up for the search: each stops an effect in all ways but one kind."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path

ALLOW, EPERM = 0x7FFF0000, 0x50001
IO_URING = ("io_uring_setup", "io_uring_enter", "io_uring_register")
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_NR, _MODE_HIGH = 0, 16 + 8 + 4


def denies(
    path: Path, *names: str, action: str = "SCMP_ACT_ERRNO", arches: Sequence[str] = ("X86_64",)
) -> Path:
    """These calls by name, and nothing else; what comes through another table is killed."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [f"SCMP_ARCH_{one}" for one in arches],
        "syscalls": [{"names": list(names), "action": action}],
    }
    if action != "SCMP_ACT_ERRNO":
        rings = {"names": list(IO_URING), "action": "SCMP_ACT_ERRNO"}
        profile["syscalls"] = [*profile["syscalls"], rings]  # type: ignore[misc]
    path.write_text(json.dumps(profile))
    return path


def denies_numbers(path: Path, *numbers: int) -> Path:
    """These numbers, without a look at the table that they are of."""
    count = len(numbers)
    tests = [(_EQUAL, count - i, 0, number) for i, number in enumerate(numbers)]
    return _raw(path, [(_LOAD, 0, 0, _NR), *tests, (_RETURN, 0, 0, ALLOW), (_RETURN, 0, 0, EPERM)])


def lets_pass_with_mark(path: Path, mark: int, *others: int) -> Path:
    """Denies chmod (90), unless the upper half of the mode is ``mark``, and other numbers."""
    count = len(others)
    tests = [(_EQUAL, count - i + 3, 0, number) for i, number in enumerate(others)]
    return _raw(
        path,
        [
            (_LOAD, 0, 0, _NR),
            *tests,
            (_EQUAL, 0, 2, 90),
            (_LOAD, 0, 0, _MODE_HIGH),
            (_EQUAL, 0, 1, mark),
            (_RETURN, 0, 0, ALLOW),
            (_RETURN, 0, 0, EPERM),
        ],
    )


def _raw(path: Path, rows: Sequence[tuple[int, int, int, int]]) -> Path:
    path.write_bytes(b"".join(struct.pack("<HBBI", *row) for row in rows))
    return path
