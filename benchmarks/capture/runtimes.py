"""The container runtimes that are captured: which ones, their versions, starting and stopping."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from benchmarks.capture import newer_runc
from benchmarks.capture.private_space import CaptureError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("runc", "crun", "runc12")
_MODELS = {"runc": "runc-1.1", "crun": "crun", "runc12": "runc-1.2"}
_START_SECONDS = 10


class Runtime(Struct, frozen=True):
    """One runtime program; `name` prefixes file names, `model` is the model it is data for."""

    name: str
    model: str
    program: str
    version: str
    libseccomp: str

    def command(self, state: Path | str, *arguments: str) -> list[str]:
        return [self.program, "--root", str(state), *arguments]

    def shown(self, *arguments: str) -> str:
        """The command as it is written into the data: private paths become words."""
        return " ".join([Path(self.program).name, "--root", "STATE", *arguments])


def find(name: str, directory: Path) -> Runtime:
    program = str(newer_runc.fetch(directory / "newer")) if name == "runc12" else name
    try:
        text = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise CaptureError(f"{name} does not run: {error}") from error
    version = re.search(r"version (\S+)", text)
    library = re.search(r"libseccomp: (\S+)", text)
    if version is None:
        raise CaptureError(f"{name} --version has no version")
    return Runtime(
        name, _MODELS[name], program, version[1], library[1] if library else libseccomp_version()
    )


def libseccomp_version() -> str:
    """The version of the system's library, for the runtimes that do not tell."""

    class Version(ctypes.Structure):
        _fields_ = [(part, ctypes.c_uint) for part in ("major", "minor", "micro")]

    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_version.restype = ctypes.POINTER(Version)
    found = library.seccomp_version().contents
    return f"{found.major}.{found.minor}.{found.micro}"


@contextlib.contextmanager
def running(runtime: Runtime, state: Path, bundle: Path) -> Iterator[int]:
    """A detached container; yields the pid of its init once that has become the entry point."""
    name = bundle.name
    errors = bundle / "stderr"
    # No pipe: the container inherits the descriptor and a reader would wait until it is gone.
    with errors.open("w") as stderr:
        done = subprocess.run(
            runtime.command(state, "run", "--detach", "--bundle", str(bundle), name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            check=False,
        )
    try:
        if done.returncode != 0:
            raise CaptureError(f"{runtime.name} run {name}: {last_line(errors)}")
        yield _wait_for_entry_point(state, name)
    finally:
        remove(runtime, state, name)


def remove(runtime: Runtime, state: Path, name: str) -> None:
    pid = init_pid(state, name)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        # The container's init was handed to us, the first process of the namespace.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    subprocess.run(
        runtime.command(state, "delete", "--force", name),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


def last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def init_pid(state: Path, name: str) -> int | None:
    for file, key in (("state.json", "init_process_pid"), ("status", "pid")):
        path = state / name / file
        if path.exists():
            found = re.search(rf'"{key}"\s*:\s*(\d+)', path.read_text())
            return int(found[1]) if found else None
    return None


def _wait_for_entry_point(state: Path, name: str) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        pid = init_pid(state, name)
        with contextlib.suppress(OSError):
            if pid is not None and Path(f"/proc/{pid}/comm").read_text().strip() == "busybox":
                return pid
        time.sleep(0.005)
    raise CaptureError(f"{name}: the entry point did not start in {_START_SECONDS} s")
