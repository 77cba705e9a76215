"""A live process as a candidate: what the kernel says of it, and the filters that it is under.

Written ``pid:N`` wherever a candidate is named.  Filters are read by the native runner
(PTRACE_SECCOMP_GET_FILTER), which stops the process for as long as that takes; the kernel lets it
go when the runner ends, however it ends.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from evaluator.errors import EnvironmentLackError
from evaluator.sandbox import read_back, runner_path
from mitigations import raw
from mitigations.candidate import (
    Attachment,
    Candidate,
    Finding,
    Layer,
    NoNewPrivsLayer,
    OwnPosture,
    ProfileError,
)
from mitigations.capabilities import CAPABILITIES

_WRITTEN = re.compile(r"pid:(\d{1,9})", re.ASCII)
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD of linux/sched.h, in field 9 of /proc/PID/stat
_OFF, _STRICT = "0", "1"
_LARGEST_ID = 65535  # so many the sandbox maps
_SOMEBODY = 1000
_UNCONFINED = ("", "unconfined")
_THREAD = "unfiltered-thread"
_MOST_THREADS = 64
"""Of so many the filters are read; of others they are counted."""


class Reach(Struct, frozen=True):
    """What all threads of a process have or may regain: they share their memory."""

    uid: int
    """0 if any has it as its real, effective or saved one; else the effective one."""
    capabilities: frozenset[str]
    """Permitted ones; for uid 0 what execve gives back as well."""


class Process(Struct, frozen=True):
    """What /proc says of a process, and its filters, oldest first."""

    pid: int
    name: str
    status: Mapping[str, str]
    """The lines of /proc/PID/status by name (proc_pid_status(5))."""
    label: str
    """What /proc/PID/attr/current says: the label of a security module; empty if none says any."""
    uid: int
    """The effective one, as its own user namespace counts."""
    filters: tuple[bytes, ...]
    within_reach: Reach
    others: Sequence[str] = ()
    """Threads that are under other filters, in words."""
    has_weaker_thread: bool = False
    """Whether one of them is not under all filters of the first."""


class _Others(Struct):
    """The threads beside the first."""

    statuses: list[Mapping[str, str]]
    differ: list[str]
    is_weaker: bool = False


def pid_of(written: str) -> int | None:
    """The process that ``pid:N`` names; None for anything else."""
    match = _WRITTEN.fullmatch(written)
    return int(match[1]) if match else None


def read(pid: int) -> Process:
    """All that can be seen of a process.

    ProfileError if there is nothing to evaluate; EnvironmentLackError if we may not look.
    """
    status = _status(pid)
    _refuse(pid, status)
    if os.geteuid() != 0:
        raise EnvironmentLackError(
            f"pid {pid}: reading the filters of a process needs root (CAP_SYS_ADMIN in the "
            "initial user namespace): use sudo"
        )
    filters = _filters(pid, status)
    again = _status(pid)
    if again.get("Seccomp_filters", str(len(filters))) != str(len(filters)):
        what = f"it is under {again['Seccomp_filters']} filters, {len(filters)} were read"
        raise ProfileError(f"{what}: it loads some just now, try again", code="changing-process")
    others = _others(pid, filters)
    return Process(
        pid,
        again.get("Name", ""),
        again,
        _label(pid),
        _inner_id(pid, int(again["Uid"].split()[1])),
        filters,
        _reach(pid, [again, *others.statuses]),
        tuple(others.differ),
        others.is_weaker,
    )


def candidate(process: Process) -> Candidate:
    """Its filters and no_new_privs as layers; its user and its capabilities are in both arms."""
    layers: list[Layer] = []
    if process.status.get("NoNewPrivs") == "1":
        layers.append(NoNewPrivsLayer())
    layers += (raw.parse_program(program) for program in process.filters)
    held = process.within_reach.capabilities
    uid = process.within_reach.uid
    uid = uid if uid <= _LARGEST_ID else _SOMEBODY
    return Candidate(
        name=f"pid:{process.pid}",
        source=f"pid:{process.pid}",
        layers=tuple(layers),
        attachment=Attachment.RUNTIME,
        meaning="process",
        posture=OwnPosture(f"pid-{process.pid}", uid, uid, held),
        warnings=tuple(_findings(process)),
        notes=(_described(process),),
        assumes=frozenset({_THREAD}) if process.has_weaker_thread else frozenset(),
    )


def _status(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise ProfileError("there is no such process", code="no-process") from None
    except OSError as error:
        raise EnvironmentLackError(f"pid {pid}: {error.strerror}") from None
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _refuse(pid: int, status: Mapping[str, str]) -> None:
    """What has no filter that could be read; each in one line."""
    if pid == os.getpid():
        raise ProfileError("that is sidestep itself, which cannot stop itself", code="own-process")
    if status.get("Tgid") != str(pid):
        main = status.get("Tgid", "?")
        raise ProfileError(f"a thread of process {main}: name that", code="thread")
    if status.get("State", "").startswith(("Z", "X")):
        raise ProfileError("it has ended and waits for its parent (zombie)", code="ended-process")
    if _is_kernel_thread(pid):
        raise ProfileError("a kernel thread: no filter is for it", code="kernel-thread")
    mode = status.get("Seccomp", _OFF)
    if mode == _OFF:
        what = "it is under no seccomp filter (Seccomp: 0): nothing is there to evaluate"
        raise ProfileError(what, code="no-filter")
    if mode == _STRICT:
        what = "strict mode (Seccomp: 1): read, write, _exit and sigreturn alone, and no filter"
        raise ProfileError(what, code="strict-mode")


def _is_kernel_thread(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False  # it ended just now, which reading it will say
    return bool(int(fields[6]) & _KERNEL_THREAD)


def _filters(pid: int, status: Mapping[str, str]) -> tuple[bytes, ...]:
    try:
        return tuple(read_back(runner_path(), pid))
    except subprocess.TimeoutExpired:
        state = status.get("State", "?")
        raise EnvironmentLackError(f"pid {pid}: it does not stop (state {state})") from None
    except OSError as error:
        if error.errno == errno.ESRCH:
            raise ProfileError("it ended just now", code="ended-process") from None
        raise EnvironmentLackError(f"pid {pid}: {_why(pid, error)}") from None


def _why(pid: int, error: OSError) -> str:
    """Why the kernel shows no filters."""
    tracer = _status(pid).get("TracerPid", "0")
    own = Path("/proc/self/status").read_text()
    if tracer != "0":
        return f"process {tracer} traces it already, and only one can"
    if "\nSeccomp:\t0" not in own:
        return "sidestep is under a filter itself, and so is shown none"
    return f"the kernel refuses to show its filters: {error.strerror}"


def _label(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/attr/current").read_text(errors="replace")
    except OSError:
        return ""
    return text.strip("\0\n")


def _inner_id(pid: int, outer: int) -> int:
    """A user id as the process's own user namespace counts (user_namespaces(7))."""
    try:
        lines = Path(f"/proc/{pid}/uid_map").read_text().splitlines()
    except OSError:
        return outer
    for inside, outside, length in (map(int, line.split()) for line in lines):
        if outside <= outer < outside + length:
            return inside + outer - outside
    return outer


def _others(pid: int, filters: tuple[bytes, ...]) -> _Others:
    found = _Others([], [])
    tasks = sorted(int(one.name) for one in Path(f"/proc/{pid}/task").glob("*"))
    for place, task in enumerate(one for one in tasks if one != pid):
        try:
            status = _status(task)
            count = int(status.get("Seccomp_filters", len(filters)))
            # One under fewer filters differs however they look; nothing need stop it for that.
            if place < _MOST_THREADS and count >= len(filters):
                theirs = _filters(task, status)
            else:
                theirs = filters[:count] + (b"",) * (count - len(filters))
        except ProfileError:
            continue  # ended since
        found.statuses.append(status)
        if theirs != filters:
            which = "" if len(theirs) != len(filters) else ", which are not the same"
            found.differ.append(f"thread {task} is under {len(theirs)}{which}")
            found.is_weaker |= theirs[: len(filters)] != filters
    return found


def _reach(pid: int, statuses: Sequence[Mapping[str, str]]) -> Reach:
    uids: list[int] = []
    held: frozenset[str] = frozenset()
    for one in statuses:
        ids = [_inner_id(pid, int(word)) for word in one["Uid"].split()[:3]]
        uids.append(0 if 0 in ids else ids[1])
        held |= _capabilities(one.get("CapPrm", "0"))
        if 0 in ids and one.get("NoNewPrivs") != "1":
            held |= _capabilities(one.get("CapBnd", "0"))
    return Reach(0 if 0 in uids else uids[0], held)


def _capabilities(mask: str) -> frozenset[str]:
    bits = int(mask, 16)
    return frozenset(name for number, name in enumerate(CAPABILITIES) if bits >> number & 1)


def _findings(process: Process) -> list[Finding]:
    found: list[Finding] = []
    if process.label not in _UNCONFINED:
        message = f"it is confined as {process.label!r} too (attr/current): not part of this"
        found.append(Finding("label-not-evaluated", message))
    reach = process.within_reach
    effective = _capabilities(process.status.get("CapEff", "0"))
    if (reach.uid, reach.capabilities) != (process.uid, effective):
        message = (
            f"evaluated with what its threads have or may regain: uid {reach.uid} and "
            f"{len(reach.capabilities)} capabilities (effective now: uid {process.uid}, "
            f"{len(effective)})"
        )
        found.append(Finding("may-regain", message))
    if process.others:
        more = f" and {len(process.others) - 1} more" if len(process.others) > 1 else ""
        message = (
            f"not all threads are under the same filters: the first is under "
            f"{len(process.filters)}, {process.others[0]}{more}"
        )
        message += f": {_THREAD} counts" if process.has_weaker_thread else ""
        found.append(Finding("threads-differ", message))
    return found


def _described(process: Process) -> str:
    status = process.status
    count = len(process.filters)
    said = [
        f"Process: {process.name}, Seccomp {status.get('Seccomp')}",
        f"{count} filter{'s' if count > 1 else ''}",
        f"NoNewPrivs {status.get('NoNewPrivs', '?')}",
        *(f"{name} {status[name]}" for name in ("CapEff", "CapPrm", "CapBnd") if name in status),
        f"label {process.label or 'none'}",
        "a Landlock domain cannot be read",
    ]
    return ", ".join(said)
