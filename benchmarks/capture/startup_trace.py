"""Reads strace logs and merges what a runtime calls between loading a filter and execve.

The logs hold raw argument words, because those are what a filter sees. Words that cannot mean
anything to a filter on another machine are hidden: addresses, descriptors, ids and sizes.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from benchmarks.capture.private_space import CaptureError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Args = tuple[int | None, ...]

_WORDS = 6
_LINE = re.compile(r"\[\s*(\d+)\] (\w+)\((.*?)\)\s+= (\S+)")
_UNFINISHED = re.compile(r"\[\s*(\d+)\] (\w+)\(([^)]*?)\s*(?:<unfinished|\) += \?)")
_AT_FDCWD = (0xFFFFFF9C, 0xFFFF_FFFF_FFFF_FF9C)  # as an int and as a long
# More values than this in one word are a walk over all signals or capabilities, not a choice.
_SWEEP = 4

# v: a value that a filter may test, d: a directory descriptor (only AT_FDCWD is kept),
# -: hidden.  Further words do not belong to the call.
_WORD_KINDS = {
    "arch_prctl": "v-",
    "brk": "-",
    "capget": "--",
    "capset": "--",
    "chdir": "-",
    "clone": "v----",
    "clone3": "--",
    "close": "-",
    "close_range": "--v",
    "connect": "---",
    "dup": "-",
    "dup2": "--",
    "dup3": "--v",
    "epoll_create1": "v",
    "epoll_ctl": "-v--",
    "epoll_pwait": "-----v",
    "eventfd2": "vv",
    "execve": "---",
    "execveat": "d---v",
    "exit": "v",
    "exit_group": "v",
    "faccessat": "d-v",
    "faccessat2": "d-vv",
    "fchdir": "-",
    "fchown": "---",
    "fcntl": "-vv",
    "fstat": "--",
    "fstatfs": "--",
    "fsync": "-",
    "futex": "-v----",
    "getcwd": "--",
    "getdents64": "---",
    "getegid": "",
    "geteuid": "",
    "getgid": "",
    "getpid": "",
    "getppid": "",
    "getrandom": "--v",
    "gettid": "",
    "getuid": "",
    "ioctl": "-v-",
    "kill": "-v",
    "lseek": "-vv",
    "madvise": "--v",
    "mmap": "--vv--",
    "mprotect": "--v",
    "munmap": "--",
    "nanosleep": "--",
    "newfstatat": "d--v",
    "openat": "d-vv",
    "openat2": "d---",
    "pipe2": "-v",
    "ppoll": "-----",
    "poll": "---",
    "prctl": "vvvvv",
    "pread64": "----",
    "prlimit64": "-v--",
    "pselect6": "------",
    "read": "---",
    "readlink": "---",
    "readlinkat": "d---",
    "recvfrom": "---v--",
    "recvmsg": "--v",
    "restart_syscall": "",
    "rseq": "--v-",
    "rt_sigaction": "v--v",
    "rt_sigprocmask": "v--v",
    "rt_sigreturn": "",
    "sched_getaffinity": "---",
    "sched_yield": "",
    "seccomp": "vv-",
    "select": "-----",
    "sendmsg": "--v",
    "sendto": "---v--",
    "set_robust_list": "-v",
    "set_tid_address": "-",
    "setgid": "-",
    "setgroups": "--",
    "setresgid": "---",
    "setresuid": "---",
    "setsid": "",
    "setuid": "-",
    "sigaltstack": "--",
    "socket": "vvv",
    "statfs": "--",
    "statx": "d-vv-",
    "tgkill": "--v",
    "timer_create": "---",
    "timer_delete": "-",
    "timer_settime": "-v--",
    "umask": "-",
    "write": "---",
}


class Call(Struct, frozen=True):
    """A system call with the words that are stable; None is unknown."""

    name: str
    number: int
    args: Args


class Run(Struct, frozen=True):
    """One container start: whose, and the calls in order."""

    user: int
    load: Call
    calls: tuple[Call, ...]


class Entry(Struct, frozen=True):
    """A call in the merged record, and in how many starts of which users it was seen."""

    call: Call
    seen: int
    users: frozenset[int]


def read_run(logs: Path, prefix: str, user: int) -> Run:
    """Find the thread that loads a filter and executes a program afterwards."""
    found = [
        run
        for path in sorted(logs.glob(f"{prefix}.*"))
        if (run := _window(path.read_text().splitlines(), user)) is not None
    ]
    if len(found) != 1:
        raise CaptureError(f"{prefix}: {len(found)} threads loaded a filter and executed a program")
    return found[0]


def merge(runs: list[Run]) -> tuple[list[Entry], list[Entry]]:
    """What every start called, and what only some did, each in order of first appearance."""
    sweeps = _sweeps({call for run in runs for call in run.calls})
    reduced = [
        (run.user, list(dict.fromkeys(sweeps.get(call, call) for call in run.calls)))
        for run in runs
    ]
    reduced = _join_unstable(reduced)
    always: list[Entry] = []
    sometimes: list[Entry] = []
    for call in dict.fromkeys(call for _, calls in reduced for call in calls):
        users = [user for user, calls in reduced if call in calls]
        entry = Entry(call, len(users), frozenset(users))
        (always if len(users) == len(runs) else sometimes).append(entry)
    return always, sometimes


def as_json(call: Call) -> dict[str, Any]:
    return {"name": call.name, "nr": call.number, "args": list(call.args)}


def _window(lines: list[str], user: int) -> Run | None:
    load: Call | None = None
    calls: list[Call] = []
    for call, result in _calls(lines):
        if load is None:
            load = _stable(call) if _loads_filter(call, result) else None
            continue
        calls.append(_stable(call))
        if call.name == "execve" and result == "0":
            return Run(user, load, tuple(calls))
    return None


def _calls(lines: list[str]) -> Iterator[tuple[Call, str]]:
    for line in lines:
        match = _LINE.match(line) or _UNFINISHED.match(line)
        if match is None:
            continue
        words = [int(word, 0) for word in re.findall(r"0x[0-9a-f]+|\d+", match[3])]
        result = match[4] if match.re is _LINE else "?"
        yield Call(match[2], int(match[1]), tuple(words)), result


def _loads_filter(call: Call, result: str) -> bool:
    # With a null program both calls only ask what the kernel knows, and fail.
    if result.startswith(("-", "?")):
        return False
    return (
        call.args[:2] == (22, 2)
        if call.name == "prctl"
        else (call.name == "seccomp" and call.args[:1] == (1,))
    )


def _stable(call: Call) -> Call:
    kinds = _WORD_KINDS.get(call.name)
    if kinds is None:
        raise CaptureError(f"{call.name}, called after the load, needs a line in _WORD_KINDS")
    words = [
        None if word is None else _visible(kind, word)
        for kind, word in zip(kinds, call.args, strict=False)
    ]
    return Call(call.name, call.number, tuple(words + [None] * (_WORDS - len(words))))


def _visible(kind: str, word: int) -> int | None:
    match kind:
        case "v":
            # Between 4 GiB and the kernel's half: an address after all.
            return None if 1 << 32 <= word < 1 << 63 else word
        case "d":
            return word if word in _AT_FDCWD else None
        case _:
            return None


def _sweeps(calls: set[Call]) -> dict[Call, Call]:
    """Map each member of a walk over one word to the call with that word unknown."""
    result: dict[Call, Call] = {}
    for position in range(_WORDS):
        open_word = {call: _hide(call, {position}) for call in calls}
        sizes = Counter(open_word.values())
        result |= {call: wide for call, wide in open_word.items() if sizes[wide] > _SWEEP}
    return result


def _join_unstable(reduced: list[tuple[int, list[Call]]]) -> list[tuple[int, list[Call]]]:
    """Where every start makes a call but never with the same words, hide the words that differ."""
    stable = set.intersection(*(set(calls) for _, calls in reduced))
    names = set.intersection(*({call.name for call in calls} for _, calls in reduced))
    wide: dict[Call, Call] = {}
    for name in names - {call.name for call in stable}:
        group = {call for _, calls in reduced for call in calls if call.name == name}
        differing = {p for p in range(_WORDS) if len({call.args[p] for call in group}) > 1}
        wide |= {call: _hide(call, differing) for call in group}
    return [
        (user, list(dict.fromkeys(wide.get(call, call) for call in calls)))
        for user, calls in reduced
    ]


def _hide(call: Call, positions: set[int]) -> Call:
    args = tuple(None if p in positions else word for p, word in enumerate(call.args))
    return Call(call.name, call.number, args)
