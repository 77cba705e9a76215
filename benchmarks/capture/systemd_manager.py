"""Runs the real systemd as the first process of namespaces of its own; reads its services back.

Nothing of the machine's is changed: /etc, /usr, /var and /proc/sys are read-only there, /run and
the temporary directories fresh, and the only cgroup hierarchy is the second version's below a group
of our own, which is removed.
systemd needs no bus and no journal for this; each service is found by the name of its cgroup.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from benchmarks.capture.private_space import CaptureError
from benchmarks.capture.readback import read_filters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MANAGER = Path("/lib/systemd/systemd")
_GROUP = "sidestep-systemd"
_PATIENCE_S = 30.0
_QUIET_S = 2.0
"""So long after the last sign of a service, those that are missing have failed."""
_NEEDED = ("unshare", "mount", "umount", "cc")
_STATUS = (
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
)
# A program that needs no call but pause, which systemd's own lists always hold.
_PROGRAM = """
void _start(void)
{
	for (;;) {
		long result = 34;
		__asm__ volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
	}
}
"""
# $1: the directory with program and units; $2: the name of our cgroup.
_INSIDE = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/cgroup
cp -R "$1/units/." /run/systemd/system
cp "$1/pause" /run/pause
mount -t cgroup2 none /run/cgroup
group="/run/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/$2"
mkdir -p "$group"
echo 0 > "$group/cgroup.procs"
exec unshare --cgroup sh -c '
    set -e
    umount /run/cgroup
    umount -R /sys/fs/cgroup
    mount -t proc proc /proc
    mount --bind /proc/sys /proc/sys
    mount -o remount,ro,bind /proc/sys
    mount -t cgroup2 none /sys/fs/cgroup
    for each in /etc /usr /var; do
        mount --bind "$each" "$each"
        mount -o remount,ro,bind "$each"
    done
    for each in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "$each"; done
    exec env -i container=sidestep PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        "$0" --system --unit=capture.target --log-target=null --show-status=0' "$3"
"""
_CLEANED = r"""
mount --make-rprivate /
mount -t tmpfs tmpfs /run && mkdir /run/cgroup && mount -t cgroup2 none /run/cgroup || exit 1
group="/run/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/$1"
[ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} +
"""


class Service(Struct, frozen=True):
    """What the kernel says of a service's process after its execve."""

    filters: tuple[bytes, ...]
    """Oldest first; arrays of struct sock_filter."""
    status: dict[str, str]
    """Lines of /proc/PID/status by name, ``Uid`` the real one alone."""


def why_not() -> str:
    """What is missing here; empty if the real systemd can be run."""
    if os.geteuid() != 0:
        return "running systemd in namespaces of its own needs root"
    if not MANAGER.exists():
        return f"{MANAGER} is not installed"
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def version() -> str:
    """As the package says it: ``systemd 252 (252.38-1~deb12u1)``."""
    done = subprocess.run([MANAGER, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def capture(units: Mapping[str, Sequence[str]]) -> dict[str, Service]:
    """Starts a service of each list of lines for [Service], and reads it back.

    ``units`` is by file name below a directory of units: drop-ins are ``X.service.d/NAME.conf``.
    A service that systemd gives up on is not in the answer. CaptureError if systemd itself fails.
    """
    services = [name for name in units if "/" not in name and name.endswith(".service")]
    with tempfile.TemporaryDirectory(prefix="sidestep-systemd-") as directory:
        _prepare(Path(directory), units, services)
        with _running(Path(directory)) as manager:
            return _found(manager, services)


def _prepare(directory: Path, units: Mapping[str, Sequence[str]], services: Sequence[str]) -> None:
    source = directory / "pause.c"
    source.write_text(_PROGRAM)
    subprocess.run(
        ["cc", "-Os", "-nostdlib", "-static", "-o", directory / "pause", source], check=True
    )
    folder = directory / "units"
    for name, lines in units.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(lines)
        if name in services:
            text = f"[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/run/pause\n{text}"
        file.write_text(f"{text}\n", errors="surrogateescape")
    wants = "\n".join(f"Wants={name}" for name in services)
    (folder / "capture.target").write_text(f"[Unit]\nDefaultDependencies=no\n{wants}\n")
    directory.chmod(0o755)


@contextmanager
def _running(directory: Path) -> Iterator[int]:
    group = f"{_GROUP}-{os.getpid()}"
    spaces = ["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net"]
    outer = subprocess.Popen(
        ["unshare", *spaces, "sh", "-c", _INSIDE, "inside", directory, group, MANAGER],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield _manager(outer)
    finally:
        for child in _children(outer.pid):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)  # with it goes its whole pid namespace
        outer.kill()
        _wait(outer)
        _remove_group(group)


def _wait(outer: subprocess.Popen[bytes]) -> None:
    try:
        outer.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise CaptureError("what was started for systemd does not end") from None


def _remove_group(group: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", _CLEANED, "clean", group],
            capture_output=True,
            check=False,
        )
        if not done.returncode:
            return
        time.sleep(0.05)  # a group stays busy for a moment after its last process
    raise CaptureError(f"the cgroup {group} could not be removed")


def _manager(outer: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if outer.poll() is not None:
            assert outer.stderr is not None
            said = outer.stderr.read().decode(errors="replace").strip() or "it ended"
            raise CaptureError(f"systemd could not be started: {said.splitlines()[-1]}")
        for child in _children(outer.pid):
            if _name(child) == "systemd":
                return child
        time.sleep(0.01)
    raise CaptureError("systemd did not start in time")


def _found(manager: int, services: Sequence[str]) -> dict[str, Service]:
    """All services; what has not shown itself when nothing changed for a while has failed."""
    found: dict[str, Service] = {}
    quiet_since = time.monotonic()
    deadline = quiet_since + _PATIENCE_S
    while len(found) < len(services) and time.monotonic() < min(deadline, quiet_since + _QUIET_S):
        for pid in _children(manager):
            # A process that is about to end may not be traced, or is gone.
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if _name(pid) != "pause":
                    quiet_since = time.monotonic()
                    continue
                unit = _unit(pid)
                if unit in services and unit not in found:
                    found[unit] = Service(tuple(read_filters(pid)), _status(pid))
                    quiet_since = time.monotonic()
        time.sleep(0.02)
    return found


def _unit(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next((line.rpartition("/")[2] for line in lines if line.startswith("0::")), "")


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {"Uid": fields["Uid"].split()[0], **{name: fields[name] for name in _STATUS}}


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
