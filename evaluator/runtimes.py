"""Containers of runc and crun: the bundle, the start, the end.

One container is one candidate (or, without a filter, its control).  The program that the runtime
executes is the native runner as a performer; the judge is a runner of ours outside, in a sandbox of
its own, and the container joins that sandbox's user, network, IPC and UTS namespaces.  So the
runtime puts on the filter, the capabilities, the user and no_new_privs, and everything else is as
in a native trial.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from msgspec import Struct

from evaluator.errors import EnvironmentLackError, HarnessError
from evaluator.posture import CAPABILITY_NUMBERS
from evaluator.sandbox import ROOT_IDS, Sandbox, Stage, explain_step, runner_path
from evaluator.wire import ConfigSpec, ParkedStatus, Step, signal_name
from mitigations.candidate import SecurityProfile

RUNTIMES = ("runc", "crun")
SCRATCH = Path("/dev/shm")  # noqa: S108 - a tmpfs, where inode numbers tell what is new
_FIRST_ID = 100001  # id 0 of the subjects of a sandbox that root starts (sandbox.py, ROOT_MAP)
_START_S = 10.0
_END_S = 3.0
_UNIFIED = Path("/sys/fs/cgroup/unified")
_TMPFS = "tmpfs"
_MEMORY_SIZE = 0x55000
_RUNTIMES_OWN = 1  # where it fails itself; a runner ends with 2, 3, or by a signal
_SIGNALLED = 128  # a runtime's exit code for a program that died of signal N is 128 + N
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc")
# As the runner's gates set them (gate.h), but for CPU time: a performer lives on.
_LIMITS = {
    "RLIMIT_CORE": 1,
    "RLIMIT_FSIZE": 32 << 20,
    "RLIMIT_DATA": 512 << 20,
    "RLIMIT_NPROC": 256,
    "RLIMIT_NOFILE": 256,
}
FOR_OTHERS = (Step.NEEDS_CLONE, Step.NEEDS_WAIT, Step.NEEDS_TIMER)
"""What a performer needs that starts others: without it, each program has its own container."""
_NAMESPACES = {"user": "user", "network": "net", "ipc": "ipc", "uts": "uts"}


class Runtime(Struct, frozen=True):
    """An OCI runtime of this machine."""

    stands_alone: ClassVar[bool] = True
    """Whether a container can serve for one program alone."""

    name: str
    path: str
    version: str

    @property
    def model(self) -> str:
        """Which of ``mitigations.runtimes.MODELS`` predicts its filters."""
        if self.name == "crun":
            return "crun"
        numbers = [int(one) for one in re.findall(r"\d+", self.version)[:2]]
        return "runc-1.1" if numbers < [1, 2] else "runc-1.2"

    def start(
        self,
        config: ConfigSpec,
        seccomp: Mapping[str, Any] | SecurityProfile | None = None,
        *,
        alone: bool = False,
    ) -> Container:
        """Raises as ``Container`` does."""
        assert not isinstance(seccomp, SecurityProfile)
        return Container(self, config, seccomp, alone=alone)

    @property
    def command(self) -> list[str]:
        """What its command line begins with.

        crun refuses a hybrid of both cgroup versions.  In a mount namespace of its own it does not
        see the second one, and without limits to set it needs neither.
        """
        if self.name != "crun":
            return [self.path]
        own = [self.path, "--cgroup-manager=disabled"]
        if not _UNIFIED.is_dir():
            return own
        script = f'umount {_UNIFIED} && exec "$0" "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, *own]


class RefusedError(Exception):
    """The runtime did not start the container: what it said, in one line."""


class CannotPerformError(HarnessError):
    """The container started, and the performer in it lacks something, as one line says."""

    def __init__(self, said: str, step: Step) -> None:
        super().__init__(said)
        self.step = step


def find(name: str) -> Runtime:
    """The runtime of that name; ``EnvironmentLackError`` says what it lacks here."""
    path = shutil.which(name)
    if path is None:
        raise EnvironmentLackError(f"{name} is not installed: apt-get install {name}")
    if os.geteuid() != 0:
        raise EnvironmentLackError(f"{name}: containers are started as root: use sudo")
    if not _is_tmpfs(SCRATCH):
        raise EnvironmentLackError(f"{name}: {SCRATCH} is no tmpfs, and trials need one")
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentLackError(f"{name} does not answer: {error}") from None
    match = re.search(rf"{name} version (\S+)", done.stdout)
    if done.returncode or match is None:
        raise EnvironmentLackError(f"{name} --version: {last_line(done.stderr) or 'no answer'}")
    return Runtime(name, path, match[1])


def _is_tmpfs(directory: Path) -> bool:
    lines = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    kinds = [fields[2] for fields in lines if fields[1] == str(directory)]
    return bool(kinds) and kinds[-1] == _TMPFS


def spec(
    config: ConfigSpec, seccomp: Mapping[str, Any] | None, init: int, scratch: Path
) -> dict[str, Any]:
    """The ``config.json`` of a bundle (OCI runtime specification).

    ``seccomp``: what the runtime makes the filters of ``config`` from; ``init``: a process in the
    namespaces to join; ``scratch``: what is /work inside.
    """
    capabilities = [
        name
        for name, number in CAPABILITY_NUMBERS.items()
        if config.capabilities_left >> number & 1
    ]
    ids = [{"containerID": 0, "hostID": _FIRST_ID, "size": ROOT_IDS}]
    joined = [
        {"type": kind, "path": f"/proc/{init}/ns/{name}"} for kind, name in _NAMESPACES.items()
    ]
    read_only = ["bind", "ro", "nosuid", "nodev"]
    system = [
        {"destination": f"/{name}", "type": "bind", "source": f"/{name}", "options": read_only}
        for name in _SYSTEM
        if Path("/", name).is_dir() and not Path("/", name).is_symlink()
    ]
    linux: dict[str, Any] = {
        "namespaces": [*joined, {"type": "pid"}, {"type": "mount"}],
        "uidMappings": ids,
        "gidMappings": ids,
    }
    if seccomp is not None:
        linux["seccomp"] = seccomp
    label = {"apparmorProfile": config.apparmor} if config.apparmor else {}
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": config.uid, "gid": config.gid, "umask": 0o022},
            "args": ["/runner", "perform"],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/work",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": config.no_new_privs,
            **label,
            "rlimits": [
                {"type": name, "hard": most, "soft": most} for name, most in _LIMITS.items()
            ],
        },
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [
            *system,
            {
                "destination": "/proc",
                "type": "proc",
                "source": "proc",
                "options": ["nosuid", "nodev", "noexec"],
            },
            {
                "destination": "/dev",
                "type": _TMPFS,
                "source": _TMPFS,
                "options": ["nosuid", "mode=755", "size=64k"],
            },
            {"destination": "/work", "type": "bind", "source": str(scratch), "options": ["bind"]},
        ],
        "linux": linux,
    }


class Container:
    """A container with a performer in it, and the judge outside.  Use as a context manager.

    ``RefusedError`` if the runtime does not start it; ``CannotPerformError`` if it starts, and
    nothing can be tried in it.
    """

    def __init__(
        self,
        runtime: Runtime,
        config: ConfigSpec,
        seccomp: Mapping[str, Any] | None = None,
        *,
        alone: bool = False,
    ) -> None:
        """``alone``: the performer is the subject itself, of one trial, and forks nobody."""
        self.alone = alone
        self._runtime = runtime
        self._sandbox: Sandbox | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # Not in the bundle: that its place is full must be said as well.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the container
        self.bundle = own_directory()
        self._name = self.bundle.name
        try:
            said, answers = os.pipe()
            orders, told = os.pipe()
            try:
                with kept_in_scratch():
                    scratch = self._make_bundle()
                    memory = os.open(self._memory(), os.O_RDWR | os.O_CLOEXEC) if alone else None
                self._sandbox = Sandbox(stage=Stage(scratch, said, told, memory))
                told_to = spec(config, seccomp, self._sandbox.init_pid(), scratch)
                told_to["process"]["args"] += ["alone"] * alone
                with kept_in_scratch():
                    (self.bundle / "config.json").write_text(json.dumps(told_to))
                self._process = self._start(orders, answers)
            finally:
                os.close(answers)
                os.close(orders)
            self.status = self._greeted()
        except BaseException:
            self.close()
            raise

    @property
    def sandbox(self) -> Sandbox:
        """The judge."""
        assert self._sandbox is not None
        return self._sandbox

    @property
    def pid(self) -> int | None:
        """The performer's, in our own /proc; None if the runtime has not said."""
        try:
            return int((self.bundle / "pid").read_text())
        except (OSError, ValueError):
            return None

    def wait_status(self) -> int:
        """Of the program, once it has ended; ``HarnessError`` if it does not."""
        assert self._process is not None
        if not _ended(self._process, _END_S):
            raise HarnessError(f"{self._runtime.name} does not say how the program ended")
        code = self._process.returncode
        return code - _SIGNALLED if code > _SIGNALLED else code << 8

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the container and its judge; nothing of them stays."""
        if self._sandbox is not None:
            self._sandbox.close()  # the performer sees its pipe closed
        if self._process is not None and not _ended(self._process, _END_S):
            self._control("kill", self._name, "KILL")
            if not _ended(self._process, _END_S):
                self._process.kill()
                self._process.wait()
        if (self.bundle / "state" / self._name).exists():
            self._control("delete", "--force", self._name)
        shutil.rmtree(self.bundle, ignore_errors=True)
        self._errors.close()

    def _make_bundle(self) -> Path:
        """The root file system and the working directory of the trials, which is the answer."""
        self.bundle.chmod(0o711)
        root = self.bundle / "rootfs"
        scratch = self.bundle / "work"
        for directory in (root, scratch, *(root / name for name in ("proc", "dev", "work"))):
            directory.mkdir()
        os.chown(scratch, _FIRST_ID, _FIRST_ID)
        (root / "tmp").symlink_to("work")
        for name in _SYSTEM:
            there = Path("/", name)
            if there.is_symlink():
                (root / name).symlink_to(there.readlink())
            elif there.is_dir():
                (root / name).mkdir()
        shutil.copy(runner_path(), root / "runner")
        (root / "runner").chmod(0o755)
        return scratch

    def _memory(self) -> Path:
        """What a performer that is alone lives in, as large as the runner shares (shared.h)."""
        path = self.bundle / "memory"
        if not path.exists():
            path.write_bytes(b"")
            os.truncate(path, _MEMORY_SIZE)
        return path

    def _start(self, orders: int, answers: int) -> subprocess.Popen[bytes]:
        run = ["run", "--bundle", str(self.bundle), "--pid-file", str(self.bundle / "pid")]
        command = [*self._runtime.command, *self._state(), *run]
        if self.alone:
            opening = ["sh", "-c", 'exec "$@" 3<>"$0"', str(self._memory())]
            command = [*opening, *command, "--preserve-fds", "1"]
        return subprocess.Popen(
            [*command, self._name],
            stdin=orders,
            stdout=answers,
            stderr=self._errors,
            start_new_session=True,
        )

    def _greeted(self) -> ParkedStatus:
        """The performer's first words."""
        assert self._process is not None
        status = self.sandbox.park(0)
        if status.step is Step.NONE:
            deadline = (
                time.monotonic() + _END_S
            )  # crun writes the pid when the program runs already
            while self.pid is None and time.monotonic() < deadline:
                time.sleep(0.001)
            return status
        _ended(self._process, 1.0)
        code = self._process.poll()
        self._errors.seek(0)
        said = last_line(self._errors.read().decode(errors="replace"))
        if said and self.pid is None:
            raise RefusedError(f"{self._runtime.name} does not start the container: {said}")
        why = explain_step(status.step, status.error)
        if status.step is Step.PERFORMER and code == _RUNTIMES_OWN:
            raise HarnessError(
                f"{self._runtime.name} ended with exit code {code}: {said or 'no message'}"
            )
        if status.step is Step.PERFORMER and code:
            why = wordless(code)
        raise CannotPerformError(f"{self._runtime.name}: {why}", status.step)

    def _state(self) -> Sequence[str]:
        return ("--root", str(self.bundle / "state"))

    def _control(self, *what: str) -> None:
        try:
            subprocess.run(
                [*self._runtime.command, *self._state(), *what],
                capture_output=True,
                timeout=_START_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return  # what is left is told by the state that is left


@contextlib.contextmanager
def kept_in_scratch() -> Generator[None]:
    """Files of containers are written: ``EnvironmentLackError`` where there is no room for them."""
    try:
        yield
    except OSError as error:
        said = f"{SCRATCH}: {error.strerror}: what containers are made of is written there"
        raise EnvironmentLackError(said) from None


def own_directory() -> Path:
    """A new one below ``SCRATCH``, which ``sweep`` knows to be ours."""
    with kept_in_scratch():
        return Path(tempfile.mkdtemp(prefix=f"sidestep-{os.getpid()}-", dir=SCRATCH))


def wordless(code: int, *more: str) -> str:
    """Why a performer ended before its first word; ``more``: calls that are needed in a pod."""
    ended = signal_name(code - _SIGNALLED) if code > _SIGNALLED else f"exit code {code}"
    calls = ", ".join((*more, "dup2", "fcntl", "close"))
    return (
        f"ended before the runner's first word ({ended}): the confinement denies it {calls} or "
        "rt_sigaction, or the runtime one of its last steps"
    )


def sweep() -> None:
    """Removes what processes left that were killed before they could do it themselves."""
    for left in [*SCRATCH.glob("sidestep-*-*"), *cgroups("sidestep-*-*")]:
        pid = left.name.split("-")[1]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            shutil.rmtree(SCRATCH / left.name, ignore_errors=True)
            remove_cgroups(left.name)


def cgroups(pattern: str) -> list[Path]:
    """Those of that name below the first level of each hierarchy."""
    top = Path("/sys/fs/cgroup")
    return [*top.glob(pattern), *top.glob(f"*/{pattern}")]


def remove_cgroups(name: str) -> None:
    """With all below them, as far as nobody is in one."""
    for top in cgroups(name):
        for group in sorted(top.rglob("*/"), reverse=True):
            with contextlib.suppress(OSError):
                group.rmdir()
        with contextlib.suppress(OSError):
            top.rmdir()


def _ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def last_line(text: str) -> str:
    """What a runtime said last, without what a log line has around it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    logged = re.search(r'msg="((?:[^"\\]|\\.)*)"', lines[-1])
    return logged[1].replace('\\"', '"') if logged else lines[-1]
