"""Pods of a CRI runtime: what ``runtimes.Container`` is to runc and crun.

One pod is one candidate (or, without a filter, its control), of two containers.  In the one the
runtime executes the performer, under all that was asked for; in the other, Unconfined, the judge.
They share what the containers of a pod share, network, IPC and host name, and a scratch directory;
they speak through FIFOs.  Ids are the machine's own: a pod has no user namespace here.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from evaluator import containerd, cri
from evaluator.errors import EnvironmentLackError, HarnessError
from evaluator.image import write_image
from evaluator.posture import CAPABILITY_NUMBERS, CONTAINER
from evaluator.runtimes import (
    FOR_OTHERS,
    CannotPerformError,
    RefusedError,
    Runtime,
    cgroups,
    kept_in_scratch,
    own_directory,
    remove_cgroups,
    wordless,
)
from evaluator.runtimes import find as find_runtime
from evaluator.sandbox import Connected, explain_step, runner_path
from evaluator.wire import ConfigSpec, ParkedStatus, Step
from mitigations.candidate import SecurityProfile

NAME = "cri"
_PIPES = {"judge": ("in", "out"), "performer": ("said", "told")}
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
# In namespaces of its own, where what containerd and its shims leave in /run goes with the last of
# them; it ends with us, however we end.
_SPACE = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"),
    *("--mount-proc", "sh", "-c", 'mount -n -t tmpfs tmpfs /run && exec "$0" "$@"'),
)
_GONE_S = 15.0
_ANSWER_S = 5.0
_UNCONFINED = SecurityProfile("Unconfined")
_WHY_NOT_ALONE = "each program would need a pod of its own"


class Engine:
    """A CRI runtime that pods can be started with: see ``started`` and ``connected``."""

    name = NAME
    stands_alone = False

    def __init__(self, client: cri.Client, runtime: Runtime, directory: Path, cgroup: str) -> None:
        """``runtime``: what it starts containers with; ``cgroup``: theirs, or empty for its own."""
        self.client = client
        self.directory = directory
        self.cgroup = cgroup
        self.image = _image(directory)
        self.model = runtime.model
        self.version = f"{client.version()}, {runtime.name} {runtime.version}"
        self.numbers = itertools.count()

    def start(
        self,
        config: ConfigSpec,
        seccomp: Mapping[str, Any] | SecurityProfile | None = None,
        *,
        alone: bool = False,
    ) -> Pod:
        """Raises as ``runtimes.Container`` does; ``alone`` is nothing that a pod can be."""
        assert not alone
        return Pod(self, config, seccomp)


@contextlib.contextmanager
def started() -> Generator[Engine]:
    """A containerd of our own, gone at the end with all that it started.

    ``EnvironmentLackError`` says what is missing.
    """
    runtime = _needed("containerd", "ctr")
    with _directory() as directory:
        archive = _archive(directory)
        containerd.write_network(directory, directory / "root" / "runner")
        with containerd.running(directory, archive, _image(directory), _SPACE) as client:
            yield Engine(client, runtime, directory, f"/{directory.name}")


@contextlib.contextmanager
def connected(endpoint: str) -> Generator[Engine]:
    """The containerd behind a socket; our pods and our image are gone at the end.

    ``EnvironmentLackError`` says what is missing.
    """
    socket = Path(endpoint.removeprefix("unix://"))
    runtime = _needed("ctr")
    if not socket.is_socket():
        raise EnvironmentLackError(f"{endpoint}: no socket of a CRI runtime")
    client = cri.Client(socket)
    try:
        try:
            version = client.version(timeout_s=_ANSWER_S)
        except cri.CallError as error:
            raise EnvironmentLackError(f"{endpoint}: no CRI runtime answers: {error}") from None
        if not version.startswith("containerd "):
            said = f"{endpoint}: {version}: the image can only be given to containerd"
            raise EnvironmentLackError(said)
        with _directory() as directory:
            containerd.import_image(socket, _archive(directory))
            try:
                yield Engine(client, runtime, directory, "")
            finally:
                containerd.remove_image(socket, _image(directory))
    finally:
        client.close()


def _needed(*programs: str) -> Runtime:
    """runc, if it and the programs are there."""
    for program in programs:
        if shutil.which(program) is None:
            raise EnvironmentLackError(f"{program} is not installed: apt-get install containerd")
    return find_runtime("runc")


@contextlib.contextmanager
def _directory() -> Generator[Path]:
    directory = own_directory()
    try:
        directory.chmod(0o711)
        yield directory
    finally:
        _remove(directory)


def _archive(directory: Path) -> Path:
    with kept_in_scratch():
        root = _root(directory / "root")
        return write_image(directory / "image.tar", root, _image(directory), ["/runner", "pause"])


def _image(directory: Path) -> str:
    return f"sidestep.invalid/runner:{directory.name}"


def _root(root: Path) -> Path:
    """The root file system of both containers: the runner, and places to mount at."""
    root.mkdir()
    for name in ("proc", "dev", "sys", "etc", "work", "pipes"):
        (root / name).mkdir()
    (root / "tmp").symlink_to("work")
    for name in _SYSTEM:
        there = Path("/", name)
        if there.is_symlink():
            (root / name).symlink_to(there.readlink())
        elif there.is_dir():
            (root / name).mkdir()
    shutil.copy(runner_path(), root / "runner")
    (root / "runner").chmod(0o755)
    return root


def _remove(directory: Path) -> None:
    """What is left of an engine: its files and cgroups, once nobody uses them any more."""
    deadline = time.monotonic() + _GONE_S
    while time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        remove_cgroups(directory.name)
        if not directory.exists() and not cgroups(directory.name):
            return
        time.sleep(0.02)


class Pod:
    """A pod with a performer in it and the judge beside.  Use as a context manager.

    ``RefusedError`` if the runtime does not start it; ``CannotPerformError`` if it starts, and
    nothing can be tried in it.
    """

    alone = False

    def __init__(
        self,
        engine: Engine,
        config: ConfigSpec,
        seccomp: Mapping[str, Any] | SecurityProfile | None,
    ) -> None:
        self._engine = engine
        self._client = engine.client
        self._sandbox_id = ""
        self._judge_id = self._performer_id = ""
        self._seen_ended = False
        self._sandbox: Connected | None = None
        _refuse_strangers(config)
        _answers(engine.client)
        name = f"pod-{next(engine.numbers)}"
        self.bundle = engine.directory / name
        try:
            with kept_in_scratch():
                self._make_directories()
                asked = self._asked(seccomp)
            self._config = cri.sandbox_config(
                engine.cgroup, self.bundle / "logs", name, cri.POD_NETWORK
            )
            self._sandbox_id = self._client.run_sandbox(self._config)
            self._sandbox = self._judge()
            self._performer_id = self._perform(config, asked)
            self.pid = _pid_of(self._performer_id)
            self.status = self._greeted()
        except BaseException:
            self.close()
            raise

    @property
    def sandbox(self) -> Connected:
        """The judge."""
        assert self._sandbox is not None
        return self._sandbox

    def wait_status(self) -> int:
        """Nobody is alone in a pod."""
        raise HarnessError("a pod does not say how a program ended")

    def __enter__(self) -> Pod:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the pod; nothing of it stays."""
        if self._sandbox is not None:
            self._sandbox.close()
        if self._sandbox_id:
            with contextlib.suppress(cri.CallError):  # with the engine it goes in any case
                self._client.remove_sandbox(self._sandbox_id)
        shutil.rmtree(self.bundle, ignore_errors=True)

    def _make_directories(self) -> None:
        for name in ("work", "logs", *_PIPES):
            (self.bundle / name).mkdir(parents=True)
        for directory, pipes in _PIPES.items():
            for pipe in pipes:
                path = self.bundle / directory / pipe
                os.mkfifo(path)
                path.chmod(0o666)  # the performer may be anybody

    def _asked(self, seccomp: Mapping[str, Any] | SecurityProfile | None) -> bytes:
        """The CRI's SecurityProfile, explicit as the kubelet sends it."""
        if isinstance(seccomp, Mapping):
            path = self.bundle / "profile.json"
            path.write_text(json.dumps(seccomp))
            seccomp = SecurityProfile("Localhost", str(path))
        asked = seccomp or _UNCONFINED
        return cri.security_profile(cri.TYPES[asked.type], asked.localhost_ref)

    def _judge(self) -> Connected:
        told, said = (
            os.open(self.bundle / "judge" / pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            for pipe in _PIPES["judge"]
        )
        try:
            command = [
                *("/runner", "ambient", "/work", "/pipes/judge/in", "/pipes/judge/out"),
                *("/pipes/performer/said", "/pipes/performer/told"),
            ]
            profile = cri.security_profile(cri.TYPES["Unconfined"])
            config = cri.container_config(
                self._engine.image,
                command,
                profile,
                name="judge",
                mounts=self._mounts("judge", "performer"),
                network=cri.POD_NETWORK,
            )
            self._judge_id = self._client.create(self._sandbox_id, config, self._config)
            self._client.start(self._judge_id)
        except BaseException:
            os.close(told)
            os.close(said)
            raise
        return Connected(told, said, self._trouble)

    def _perform(self, config: ConfigSpec, profile: bytes) -> str:
        left = config.capabilities_left
        capabilities = [
            name.removeprefix("CAP_")
            for name, number in CAPABILITY_NUMBERS.items()
            if left >> number & 1
        ]
        pipes = ["/pipes/performer/told", "/pipes/performer/said"]
        container = cri.container_config(
            self._engine.image,
            ["/runner", "perform", *pipes],
            profile,
            capabilities,
            "performer",
            standing=cri.Standing(config.uid, config.gid, config.no_new_privs, config.apparmor),
            mounts=self._mounts("performer"),
            directory="/work",
            network=cri.POD_NETWORK,
        )
        try:
            container_id = self._client.create(self._sandbox_id, container, self._config)
            self._client.start(container_id)
        except cri.CallError as error:
            raise RefusedError(f"{NAME} does not start the container: {error}") from None
        return container_id

    def _mounts(self, *pipes: str) -> list[tuple[str, str, bool]]:
        system = [
            (f"/{name}", f"/{name}", True)
            for name in _SYSTEM
            if Path("/", name).is_dir() and not Path("/", name).is_symlink()
        ]
        own = [(f"/pipes/{name}", str(self.bundle / name), False) for name in pipes]
        return [*system, *own, ("/work", str(self.bundle / "work"), False)]

    def _trouble(self) -> str:
        """Which of the two containers has ended, if one has."""
        for container_id, who in ((self._judge_id, "judge"), (self._performer_id, "performer")):
            if container_id:
                state, code = self._client.status(container_id)
                if state == cri.EXITED and self._seen_ended:
                    return f"the {who} ended with exit code {code}"
                if state == cri.EXITED:
                    self._seen_ended = True  # the judge may be about to say why
        return ""

    def _greeted(self) -> ParkedStatus:
        """The performer's first words."""
        try:
            status = self.sandbox.park(0)
        except HarnessError:
            state, code = self._client.status(self._performer_id)
            if state != cri.EXITED:
                raise
            said = f"{NAME}: {wordless(code, 'openat')}"
            raise CannotPerformError(said, Step.PERFORMER) from None
        if status.step is not Step.NONE:
            why = explain_step(status.step, status.error)
            alone = status.step in FOR_OTHERS
            said = f"{NAME}: {why}" + (f": {_WHY_NOT_ALONE}" if alone else "")
            raise CannotPerformError(said, status.step)
        return status


def _answers(client: cri.Client) -> None:
    """``HarnessError`` soon, where a pod would be waited for in vain."""
    try:
        client.version(timeout_s=_ANSWER_S)
    except cri.CallError as error:
        raise HarnessError(f"containerd does not answer any more: {error}") from None


def _refuse_strangers(config: ConfigSpec) -> None:
    """Root of a pod is root of the machine: no more capabilities than pods have by default."""
    for name, number in CAPABILITY_NUMBERS.items():
        if config.capabilities_left >> number & 1 and name not in CONTAINER:
            said = f"{NAME}: {name} would be the machine's own, as a pod has no user namespace here"
            raise CannotPerformError(said, Step.PERFORMER)


def _pid_of(container_id: str) -> int | None:
    """The container's first process in our own /proc, whatever pid namespace its runtime is in."""
    pids: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if container_id in (process / "cgroup").read_text():
                pids.append(int(process.name))
    return min(pids, default=None)
