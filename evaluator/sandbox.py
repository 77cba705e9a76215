"""Runner processes: start one, speak to it, and never wait for it without a bound.

One ``Sandbox`` is one native runner with its own namespaces and scratch.  It is started as root
(then it maps 65,537 unprivileged ids, so inner root is nobody outside) or as an ordinary user with
user namespaces (then it maps that user alone).
"""

from __future__ import annotations

import errno
import hashlib
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from evaluator import wire
from evaluator.errors import EnvironmentLackError, HarnessError, InputError
from mitigations import x86_64
from mitigations.candidate import AppArmorLayer

ROOT_IDS = 65536
"""As many ids as the sandbox has, if root starts it."""
ROOT_MAP = f"0 100000 {ROOT_IDS + 1}"
START_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 30.0
"""For a result, on top of the trial's own bound."""
_LOOK_MS = 200

# What runner.c puts into the sandbox (sandbox.h).
_MACHINES_OWN = frozenset({"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "proc"})
_SANDBOXS_OWN = frozenset({"/dev", "/tmp", "/work"})  # noqa: S108 - names in the sandbox
_DEVICES = frozenset({"null", "zero", "full", "random", "urandom", "tty"})

_HINTS = {
    wire.Step.CLONE_JUDGE: (
        "user namespaces are not available: kernel.unprivileged_userns_clone or "
        "user.max_user_namespaces may be 0; in Docker, add --security-opt seccomp=unconfined "
        "--security-opt apparmor=unconfined, or run as root on the host"
    ),
    wire.Step.UID_MAP: (
        "the kernel refused the id map: root of a container needs SETUID and SETGID for it; on "
        "Ubuntu 24.04 AppArmor restricts user namespaces: run as root (sudo), or allow it with "
        "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
    ),
    wire.Step.PRIVATE: (
        "the new user namespace has no power over mounts: on Ubuntu 24.04 AppArmor restricts "
        "user namespaces; run as root (sudo), or allow it with "
        "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
    ),
    wire.Step.PROC: (
        "a fresh /proc may not be mounted: in Docker, parts of /proc are masked; "
        "add --security-opt systempaths=unconfined, or in Kubernetes procMount: Unmasked"
    ),
}
_HINTS[wire.Step.GID_MAP] = _HINTS[wire.Step.SETGROUPS] = _HINTS[wire.Step.UID_MAP]
_HINTS[wire.Step.TMPFS] = _HINTS[wire.Step.BIND] = _HINTS[wire.Step.PRIVATE]
_HINTS[wire.Step.INIT_PROC] = _HINTS[wire.Step.PROC]


def runner_path() -> Path:
    """The native runner; ``EnvironmentLackError`` says how to get one."""
    here = Path(__file__).resolve().parent
    given = os.environ.get("SIDESTEP_RUNNER")
    path = Path(given) if given else here / "_bin" / "runner"
    if not path.is_file():
        raise EnvironmentLackError(
            f"no native runner at {path}: run `make native`, or reinstall the wheel"
        )
    identity = path.with_suffix(".id")
    sources = sorted((here / "native").glob("*.[ch]"))
    if not given and identity.is_file() and sources:
        digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[
            :16
        ]
        if identity.read_text().strip() != digest:
            raise EnvironmentLackError(
                "the native runner is older than its source: run `make native`"
            )
    return path


_LACKS = {
    wire.Step.NEEDS_READ: "read",
    wire.Step.NEEDS_MMAP: "mmap",
    wire.Step.NEEDS_CLONE: "clone",
    wire.Step.NEEDS_WAIT: "wait4",
    wire.Step.NEEDS_TIMER: "setitimer, rt_sigaction, rt_sigreturn, clock_gettime or getpid",
    wire.Step.NEEDS_KILL: "kill",
    wire.Step.ORACLE: "newfstatat or getdents64",
    wire.Step.FIXTURE: "mkdirat",
    wire.Step.NO_TMPFS: "",
    wire.Step.UNCONFINED: "",
    wire.Step.PERFORMER: "",
}


def _lacks(step: wire.Step, error: int) -> str:
    """Why the runner cannot work in somebody else's confinement."""
    name = errno.errorcode.get(error, str(error))
    if step is wire.Step.NO_TMPFS and error:
        return f"the directory to work in cannot be opened ({name}): name one of a tmpfs"
    if step is wire.Step.NO_TMPFS:
        return "there is no tmpfs to work in: name a directory of one (emptyDir medium: Memory)"
    if step is wire.Step.UNCONFINED:
        return "nothing confines this process (CAP_SYS_ADMIN in the first user namespace): refused"
    if step is wire.Step.PERFORMER:
        return f"the runner did not come up under the confinement ({name})"
    call = _LACKS[step]
    if not error:
        return f"the confinement kills the runner for {call}, which it needs"
    return f"the confinement denies {call}, which the runner needs ({name})"


def explain_step(step: wire.Step, error: int) -> str:
    """One line about a start-up step that failed, with what helps where we know it."""
    if step in _LACKS:
        return _lacks(step, error)
    name = errno.errorcode.get(error, str(error))
    hint = _HINTS.get(step)
    failed = step.name.lower().replace("_", " ")
    what = f"cannot build the sandbox: {failed} failed with {name} ({os.strerror(error)})"
    return f"{what}; {hint}" if hint else what


def check_target(path: str) -> None:
    """Whether trials can have the absolute path ``path`` for a directory of their own.

    ``InputError`` where the sandbox shows the machine's own files, read-only, or has its own.
    """
    top, _, below = path.removeprefix("/").partition("/")
    if not path.startswith("/"):
        return
    machines = top in _MACHINES_OWN or (top == "dev" and below in _DEVICES)
    if machines or path in _SANDBOXS_OWN:
        whose = "the machine's own, read-only" if machines else "the sandbox's"
        raise InputError(
            f"@{path}: no trial can have that directory for itself, it is {whose}; "
            "choose another, like /data"
        )


class Stage(NamedTuple):
    """Where a performer starts the subjects (perform.h), instead of a gate of the runner's."""

    scratch: Path
    """What it sees as /work: a directory of a tmpfs, not below /tmp."""
    said: int
    """The descriptor that its answers come from; it is closed here."""
    told: int
    """The one that it reads its orders from; it is closed here."""
    memory: int | None = None
    """Of the file that is its memory, where it is the subject of one trial; it is closed here."""


class Sandbox:
    """One runner.  Use as a context manager; ``HarnessError`` means that this one is lost."""

    def __init__(
        self,
        runner: Path | None = None,
        core: int | None = None,
        *,
        stage: Stage | None = None,
        ambient: str | None = None,
    ) -> None:
        """``core``: the processor that the runner stays on; by default any that we may use.

        ``ambient``: a directory of a tmpfs to work in; then there is no sandbox, and subjects are
        under what this very process is under.
        """
        self._path = runner or runner_path()
        # By descriptor: the mapped user need not be able to enter the directory it lies in.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        root = os.geteuid() == 0 and ambient is None
        id_map = ROOT_MAP if root else f"0 {os.geteuid()} 1"
        if core is None:
            core = min(os.sched_getaffinity(0))
        arguments = ["serve", id_map, "0" if root else "1", str(core)]
        if ambient is not None:
            arguments = ["ambient", ambient]
        pipes = [one for one in stage[1:] if one is not None] if stage else []
        if stage:
            arguments += [str(stage.scratch), *map(str, pipes)]
        try:
            process = subprocess.Popen(
                [str(self._path), *arguments],
                executable=f"/proc/self/fd/{descriptor}",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(descriptor, *pipes),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise EnvironmentLackError(
                f"cannot start the native runner {self._path}: {error.strerror}"
            ) from error
        finally:
            for one in (descriptor, *pipes):
                os.close(one)
        self._speak_with(process, ROOT_IDS if root else 1, START_TIMEOUT_S)

    def _speak_with(
        self, process: subprocess.Popen[bytes], id_map: int, start_timeout_s: float
    ) -> None:
        """Frames go to the process's stdin and come from its stdout; it is ended if none comes."""
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._in = process.stdin.fileno()
        self._out = process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._buffer = b""
        self._at = 0
        self.id_map = id_map
        try:
            self.hello = self._greet(start_timeout_s)
        except BaseException:
            self.close()
            raise

    def _greet(self, timeout_s: float) -> wire.Hello:
        kind, payload = self._receive(time.monotonic() + timeout_s)
        if kind is not wire.Frame.HELLO:
            raise HarnessError(f"the runner began with {kind.name}")
        hello = wire.decode_hello(payload)
        if hello.step is not wire.Step.NONE:
            raise EnvironmentLackError(explain_step(hello.step, hello.error))
        return hello

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The pid of the outer process."""
        return self._process.pid

    @property
    def output(self) -> int:
        """The descriptor that results arrive on, for a selector."""
        return self._out

    def close(self) -> None:
        """Ends the runner and, with its pid namespace, every process it ever made."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(timeout=CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def define_program(
        self, number: int, spec: wire.ProgramSpec, witness: int | None = None
    ) -> None:
        self.send(wire.encode_program(number, spec, x86_64.number, witness))

    def define_config(self, number: int, spec: wire.ConfigSpec) -> None:
        self.send(wire.encode_config(number, spec))

    def send(self, data: bytes) -> None:
        """Writes a frame; keeps reading meanwhile, so that neither side can wait for the other."""
        view = memoryview(data)
        deadline = time.monotonic() + START_TIMEOUT_S
        while view:
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                self._wait(deadline, writing=True)
                self._fill()
            except OSError as error:
                raise HarnessError(f"the runner is gone: {error.strerror}") from error

    def run(self, requests: Sequence[wire.Request]) -> Iterator[wire.Result]:
        """Runs the requests, yielding each result as it arrives.

        ``HarnessError`` if the runner dies or stays silent: what was not yielded did not happen.
        """
        self.ask(requests)
        for request in requests:
            yield self.next_result(request.timeout_us)

    def ask(self, requests: Sequence[wire.Request]) -> None:
        """Sends requests without waiting for their results."""
        self.send(wire.encode_run(requests))

    def next_result(self, timeout_us: int) -> wire.Result:
        """The next RESULT frame.  The runner answers in order, each within its own bound."""
        return wire.decode_result(self.next_payload(timeout_us))

    def next_payload(self, timeout_us: int) -> bytes:
        """The same, as it came."""
        kind, payload = self._receive(time.monotonic() + ANSWER_TIMEOUT_S + timeout_us / 1e6)
        if kind is not wire.Frame.RESULT:
            raise HarnessError(f"the runner answered {kind.name} where a result was due")
        return payload

    def park(self, config: int) -> wire.ParkedStatus:
        """Starts a subject under a configuration and parks it, until ``release``."""
        self.send(wire.frame(wire.Frame.PROBE, config.to_bytes(4, "little")))
        kind, payload = self._receive(time.monotonic() + START_TIMEOUT_S)
        if kind is not wire.Frame.STATUS:
            raise HarnessError(f"the runner answered {kind.name} where a status was due")
        return wire.decode_status(payload)

    def release(self) -> None:
        self.send(wire.frame(wire.Frame.RELEASE, b""))

    def host_pid(self, judge_view: int) -> int | None:
        """The pid, in our own /proc, of a child of the judge."""
        try:
            judge = _children(self.pid)[0]
            for child in reversed(_children(judge)):  # the newest is the likeliest
                status = Path(f"/proc/{child}/status").read_text()
                for line in status.splitlines():
                    if (
                        line.startswith("NSpid:")
                        and int(line.split()[-2 if len(line.split()) > 3 else -1]) == judge_view
                    ):
                        return child
        except (OSError, IndexError, ValueError):
            return None
        return None

    def filters_of(self, judge_view: int) -> list[bytes] | str:
        """All filters of a child of the judge, oldest first, or why they are not to be had."""
        if os.geteuid() != 0:
            return "not permitted: needs CAP_SYS_ADMIN in the initial user namespace"
        return filters_here(self._path, self.host_pid(judge_view))

    def read(self, path: str) -> str | None:
        """A file of /proc or /sys of the machine that subjects run on; None if there is none."""
        return read_here(path)

    def has(self, path: str) -> bool:
        """Whether the machine that subjects run on has a file."""
        return Path(path).exists()

    def load_apparmor(self, layer: AppArmorLayer) -> str:
        """Why subjects cannot be put under an AppArmor profile; empty if they can."""
        del layer
        return no_apparmor(self.read) or NOT_LOADED

    def init_pid(self) -> int:
        """In our own /proc: a process in the namespaces that subjects live in."""
        try:
            return _children(_children(self.pid)[0])[0]
        except (OSError, IndexError) as error:
            raise HarnessError(f"the runner's sandbox is gone: {error}") from error

    def _receive(self, deadline: float) -> tuple[wire.Frame, bytes]:
        begin = self._at + 8
        if len(self._buffer) < begin:
            self._have(8, deadline)
            begin = self._at + 8
        kind, length = wire.head(self._buffer, begin - 8)
        if len(self._buffer) < begin + length:
            self._have(8 + length, deadline)
            begin = self._at + 8
        self._at = begin + length
        return kind, self._buffer[begin : self._at]

    def _have(self, n: int, deadline: float) -> None:
        """Reads until ``n`` bytes are there, the ones not yet taken first."""
        while len(self._buffer) - self._at < n:
            if time.monotonic() > deadline:
                raise HarnessError("the runner does not answer")
            if not self._fill():
                self._wait(deadline, writing=False)

    def _fill(self) -> bool:
        """Reads what is there; False if that is nothing."""
        try:
            data = os.read(self._out, 1 << 18)
        except BlockingIOError:
            return False
        if not data:
            raise HarnessError("the runner died")
        self._buffer = self._buffer[self._at :] + data
        self._at = 0
        return True

    def _wait(self, deadline: float, *, writing: bool) -> None:
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        if writing:
            poll.register(self._in, select.POLLOUT)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise HarnessError("the runner does not answer")


NOT_LOADED = "a profile is not loaded into the kernel of this machine: use --runtime vm"


def no_apparmor(read: Callable[[str], str | None]) -> str:
    """Why no AppArmor profile can be in force where ``read`` reads; empty if one can."""
    if (read("/sys/module/apparmor/parameters/enabled") or "").startswith("Y"):
        return ""
    return "this kernel does not run AppArmor; --runtime vm has one that does"


def read_here(path: str) -> str | None:
    """A file of this machine, without the end of its last line; None if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def filters_here(runner: Path, pid: int | None) -> list[bytes] | str:
    """All filters of a process in our own /proc, oldest first, or why they are not to be had."""
    if pid is None:
        return "the subject was not found in /proc"
    try:
        return read_back(runner, pid)
    except OSError as error:
        why = "this process is under a filter itself" if is_filtered() else error.strerror
        return f"not permitted: {why}"


def is_filtered() -> bool:
    """Whether this very process is under seccomp (then the kernel shows it no filters)."""
    own = (read_here("/proc/self/status") or "").splitlines()
    return not any(line.split() == ["Seccomp:", "0"] for line in own)


class Connected(Sandbox):
    """A runner that somebody else has started, and that we only speak with."""

    def __init__(self, told: int, said: int, trouble: Callable[[], str]) -> None:  # pyright: ignore[reportMissingSuperCall] - nothing is started
        """``told``, ``said``: descriptors, not blocking, which are closed with this.

        ``trouble``: asked while the runner is silent; why there is nothing to wait for, or empty.
        """
        self._in = told
        self._out = said
        self._trouble = trouble
        self._buffer = b""
        self._at = 0
        self.id_map = ROOT_IDS
        try:
            self.hello = self._greet(START_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for descriptor in {self._in, self._out} - {-1}:
            os.close(descriptor)
        self._in = self._out = -1

    def _wait(self, deadline: float, *, writing: bool) -> None:
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        if writing:
            poll.register(self._in, select.POLLOUT)
        while not poll.poll(_LOOK_MS):
            if time.monotonic() > deadline:
                raise HarnessError("the runner does not answer")
            if trouble := self._trouble():
                raise HarnessError(trouble)


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def read_back(runner: Path, pid: int) -> list[bytes]:
    """All seccomp filters of a process, oldest first (PTRACE_SECCOMP_GET_FILTER, ptrace(2)).

    Needs CAP_SYS_ADMIN in the initial user namespace.  ``OSError`` if the kernel refuses.
    """
    done = subprocess.run(
        [str(runner), "readback", str(pid)], capture_output=True, timeout=10, check=False
    )
    return decode_filters(done.stdout)


def decode_filters(data: bytes) -> list[bytes]:
    """What ``runner readback`` prints; ``OSError`` if the kernel refused."""
    filters: list[bytes] = []
    while len(data) >= 4:
        n = int.from_bytes(data[:4], "little", signed=True)
        if n == -errno.EINVAL:
            return []  # the kernel's word for a process without filters
        if n < 0:
            raise OSError(-n, os.strerror(-n))
        filters.append(data[4 : 4 + n * 8])
        data = data[4 + n * 8 :]
    return filters
