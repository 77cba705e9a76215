"""What a judge would have seen, written by hand."""

import errno
from collections.abc import Sequence
from typing import Any

from evaluator.wire import Facts, Mode, Name, Record, RecordState, Result, Seen, Step, Truth

DIR, FILE, LINK = 0o40755, 0o100644, 0o120777
WATERMARK = 100
OLD, NEW = 50, 150
DT_DIR, DT_REG, DT_LNK = 4, 8, 10
ABSENT = Seen(errno.ENOENT, 0, 0, 0, 0, 0, 0, 0, 0)
MAX = 1 << 64


def seen(mode: int, ino: int = NEW, *, nlink: int = 1, dev: int = 1) -> Seen:
    return Seen(0, mode, ino, dev, nlink, 0, 0, 0, 0)


def facts(
    path: Seen = ABSENT,
    *,
    by_fd: Seen | None = None,
    followed: Seen | None = None,
    held: Seen = ABSENT,
    names: Sequence[Name] = (),
) -> Facts:
    """By default the descriptor of the parent and a followed path show what the path shows."""
    return Facts(
        path,
        path if by_fd is None else by_fd,
        path if followed is None else followed,
        held,
        WATERMARK,
        len(names),
        tuple(names),
    )


NOTHING = facts()
MADE = facts(seen(DIR))
"""A new directory at the target."""


def returned(result: int = 0, *args: int) -> Record:
    """A call that came back; a negative result is an errno."""
    return Record(RecordState.DONE, result % MAX, (*args, *[0] * (6 - len(args))))


def started(*args: int) -> Record:
    """A call that did not come back."""
    return Record(RecordState.STARTED, 0, (*args, *[0] * (6 - len(args))))


NOT_REACHED = Record(RecordState.NOT_REACHED, 0, (0,) * 6)


def arm(*records: Record, after: Facts = NOTHING, filters: int = 0, **changes: Any) -> Result:
    """One arm that ran; ``filters`` seccomp filters were in force."""
    fields: dict[str, Any] = {
        "tag": 0,
        "ok": True,
        "step": Step.NONE,
        "error": 0,
        "mode": Mode.GATE,
        "wait_status": 0,
        "timed_out": False,
        "latency_us": 10,
        "saw_process": False,
        "saw_exec": False,
        "saw_mapped": False,
        "saw_code": False,
        "learned": False,
        "witness_before": False,
        "witness_after": False,
        "truth": Truth(2 if filters else 0, filters, 0, True, 0, 0, 0),
        "before": NOTHING,
        "after": after,
        "records": records,
        "collected": b"",
    }
    return Result(**{**fields, **changes})
