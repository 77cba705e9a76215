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
    others: Sequence[str]
    """Threads that are under another number of filters, in words."""


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
    return Process(
        pid,
        again.get("Name", ""),
        again,
        _label(pid),
        _inner_id(pid, int(again["Uid"].split()[1])),
        filters,
        tuple(_others(pid, len(filters))),
    )


def candidate(process: Process) -> Candidate:
    """Its filters and no_new_privs as layers; its user and its capabilities are in both arms."""
    layers: list[Layer] = []
    if process.status.get("NoNewPrivs") == "1":
        layers.append(NoNewPrivsLayer())
    layers += (raw.parse_program(program) for program in process.filters)
    held = _capabilities(process.status.get("CapEff", "0"))
    uid = process.uid if process.uid <= _LARGEST_ID else _SOMEBODY
    return Candidate(
        name=f"pid:{process.pid}",
        source=f"pid:{process.pid}",
        layers=tuple(layers),
        attachment=Attachment.RUNTIME,
        meaning="process",
        posture=OwnPosture(f"pid-{process.pid}", uid, uid, held),
        warnings=tuple(_findings(process)),
        notes=(_described(process),),
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


def _others(pid: int, count: int) -> list[str]:
    found: list[str] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            fields = _status(int(task.name))
        except ProfileError:
            continue  # ended since
        theirs = fields.get("Seccomp_filters")
        if theirs is not None and theirs != str(count):
            found.append(f"thread {task.name} is under {theirs}")
    return found


def _capabilities(mask: str) -> frozenset[str]:
    bits = int(mask, 16)
    return frozenset(name for number, name in enumerate(CAPABILITIES) if bits >> number & 1)


def _findings(process: Process) -> list[Finding]:
    found: list[Finding] = []
    if process.label not in _UNCONFINED:
        message = f"it is confined as {process.label!r} too (attr/current): not part of this"
        found.append(Finding("label-not-evaluated", message))
    if process.others:
        more = f" and {len(process.others) - 1} more" if len(process.others) > 1 else ""
        message = (
            f"not all threads are under the same filters: the first is under "
            f"{len(process.filters)}, {process.others[0]}{more}"
        )
        found.append(Finding("threads-differ", message))
    return found


def _described(process: Process) -> str:
    status = process.status
    count = len(process.filters)
    said = [
        f"Process: {process.name}, Seccomp {status.get('Seccomp')}",
        f"{count} filter{'s' if count > 1 else ''}",
        f"NoNewPrivs {status.get('NoNewPrivs', '?')}",
        *(f"{name} {status[name]}" for name in ("CapEff", "CapBnd") if name in status),
        f"label {process.label or 'none'}",
        "a Landlock domain cannot be read",
    ]
    return ", ".join(said)
