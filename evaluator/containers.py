"""Containers in place of runners: what ``Pool`` is to native trials.

Each configuration is one container, started when it is first asked for and again when it is lost.
The layers of a configuration are the runtime's to put on, so a filter must be one that it was told
a profile for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from evaluator.enforcement import LABEL
from evaluator.errors import HarnessError
from evaluator.pods import Engine, Pod
from evaluator.pool import Arm, Batch, Pool
from evaluator.runtimes import FOR_OTHERS, CannotPerformError, Container, RefusedError, Runtime
from evaluator.sandbox import (
    NOT_LOADED,
    Sandbox,
    explain_step,
    filters_here,
    no_apparmor,
    read_here,
    runner_path,
)
from evaluator.wire import (
    ConfigSpec,
    Filter,
    ParkedStatus,
    ProgramSpec,
    Request,
    Result,
    Step,
    Truth,
)
from mitigations.candidate import AppArmorLayer, SecurityProfile

_ATTEMPTS = 2
_LOST = (Step.PERFORMER, Step.LEFT_OVER, Step.NEEDS_KILL)
_LOADED = "/sys/kernel/security/apparmor/profiles"
_AT_A_TIME = 4
_KEPT = 4
"""Containers at a time: a control, a candidate, and what it is without some of its layers."""


class _Stage(Struct):
    """A container, and what its judge has been told."""

    container: Container | Pod
    truth: Truth
    programs: dict[int, tuple[int, ProgramSpec]] = field(
        default_factory=dict[int, tuple[int, ProgramSpec]]
    )


class _Front:
    """What ``Pool.first`` is: a subject is parked in a container, and looked at from outside."""

    def __init__(self, containers: Containers, judge: Sandbox) -> None:
        self._containers = containers
        self.hello = judge.hello
        self.id_map = judge.id_map
        self._pid: int | None = None

    def park(self, number: int) -> ParkedStatus:
        """A performer waits under what its subjects are under."""
        self._pid = None
        config = self._containers.config_of(number)
        try:
            container = self._containers.container(config)
        except RefusedError as error:
            return ParkedStatus(Step.LOAD, 0, 0, "", said=str(error))
        self._pid = container.pid
        text = container.status.text or _status_from_outside(container.pid)
        return replace(container.status, text=text + _label_from_outside(container.pid))

    def release(self) -> None:
        """It stays parked until it has something to do."""

    def host_pid(self, judge_view: int) -> int | None:
        del judge_view
        return self._pid

    def filters_of(self, judge_view: int) -> list[bytes] | str:
        del judge_view
        return filters_here(runner_path(), self._pid)

    def read(self, path: str) -> str | None:
        return read_here(path)

    def has(self, path: str) -> bool:
        return Path(path).exists()

    def load_apparmor(self, layer: AppArmorLayer) -> str:
        return why_not_labelled(layer, self.read)


class Containers(Pool):
    """Containers of one runtime, in the place of runners.  Use as a context manager."""

    def __init__(self, runtime: Runtime | Engine) -> None:
        self.runtime = runtime
        self._path = runner_path()
        self._profiles: dict[tuple[Filter, ...], Mapping[str, Any] | SecurityProfile] = {}
        self._stages: dict[ConfigSpec, _Stage] = {}
        self._numbers: list[ConfigSpec] = []
        self.alone: set[ConfigSpec] = set()
        """Those under which a container serves for one program only."""
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=runtime.name)
        with Sandbox() as judge:  # its facts are those of all judges
            self._front = _Front(self, judge)

    def told(
        self, filters: tuple[Filter, ...], profile: Mapping[str, Any] | SecurityProfile
    ) -> None:
        """What the runtime has to be given so that it loads these filters."""
        self._profiles[filters] = profile

    def close(self) -> None:
        self._closed = True
        self._thread.shutdown(wait=True, cancel_futures=True)
        for config in list(self._stages):
            self._drop(config)

    @property
    def size(self) -> int:
        return 1

    @property
    def first(self) -> _Front:  # type: ignore[override]
        return self._front

    def renew(self) -> None:
        for config in list(self._stages):
            self._drop(config)

    def config_number(self, spec: ConfigSpec) -> int:
        if spec not in self._numbers:
            self._numbers.append(spec)
        return self._numbers.index(spec)

    def config_of(self, number: int) -> ConfigSpec:
        return self._numbers[number]

    def start(self, arms: Sequence[Arm], done: Callable[[int], None] = lambda _: None) -> Batch:
        if self._closed:
            raise HarnessError("the containers are closed")
        batch = Batch(arms, 1, done)
        self._thread.submit(self._all, batch).add_done_callback(
            lambda ended: batch.close(None if ended.cancelled() else ended.exception())
        )
        return batch

    def container(self, config: ConfigSpec) -> Container | Pod:
        """The container of a configuration; raises as ``Container`` does."""
        return self._stage(config).container

    def _all(self, batch: Batch) -> None:
        places: dict[ConfigSpec, list[int]] = {}
        for index, arm in enumerate(batch.arms):
            places.setdefault(arm.config, []).append(index)
        for config, indices in places.items():
            # A container of its own takes a runtime tens of milliseconds, mostly of waiting.
            with ThreadPoolExecutor(_AT_A_TIME if self._is_alone(config) else 1) as threads:
                found = threads.map(self._one, (batch.arms[index] for index in indices))
                for index, result in zip(indices, found, strict=True):
                    batch.answer(index, result)

    def _is_alone(self, config: ConfigSpec) -> bool:
        try:
            return self._stage(config).container.alone
        except (RefusedError, HarnessError):
            return False  # each arm will say why

    def _one(self, arm: Arm) -> Result | str:
        """One arm; a message where its container was lost, or the trial could not be set up."""
        said = "the containers are closed"
        lost = False
        for _ in range(0 if self._closed else _ATTEMPTS):
            # With a container of its own goes all that a program leaves.
            alone = arm.config in self.alone or (lost and self.runtime.stands_alone)
            try:
                result = self._alone(arm) if alone else self._together(arm)
            except RefusedError as error:
                return str(error)
            except CannotPerformError as error:
                return str(error)
            except HarnessError as error:
                said = str(error)
                continue
            if result.ok:
                return result
            said = result.trouble
            if result.step is Step.NEEDS_KILL:
                said = explain_step(result.step, result.error)
            if result.step not in _LOST:
                return said
            lost = True
        return f"{self.runtime.name}: {said}"

    def _together(self, arm: Arm) -> Result:
        """In the container that serves for all arms of a configuration, and is given up if lost."""
        try:
            stage = self._stage(arm.config)
            result = _run(stage, arm)
        except HarnessError:
            self._drop(arm.config)
            raise
        if result.step in _LOST:
            self._drop(arm.config)
        return result

    def _alone(self, arm: Arm) -> Result:
        """In a container of its own; how the program ended, only the runtime can tell."""
        profile = self._profile(arm.config)
        with self.runtime.start(arm.config, profile, alone=True) as container:
            container.sandbox.define_config(0, arm.config)
            result = _run(_Stage(container, _truth(container)), arm)
            if not result.ok or result.timed_out:
                return result
            return replace(result, wait_status=container.wait_status())

    def _stage(self, config: ConfigSpec) -> _Stage:
        known = self._stages.pop(config, None)
        if known is None:
            while len(self._stages) >= _KEPT:
                self._drop(next(iter(self._stages)))
            known = self._started(config)
        self._stages[config] = known  # the longest unused comes first
        return known

    def _started(self, config: ConfigSpec) -> _Stage:
        container = self._container(config)
        container.sandbox.define_config(0, config)
        return _Stage(container, _truth(container))

    def _profile(self, config: ConfigSpec) -> Mapping[str, Any] | SecurityProfile | None:
        if not config.filters and not config.rulesets:
            return None
        profile = self._profiles.get(config.filters)
        if profile is None or config.rulesets:
            raise RefusedError(f"{self.runtime.name}: takes no such layer from us")
        return profile

    def _container(self, config: ConfigSpec) -> Container | Pod:
        profile = self._profile(config)
        if config not in self.alone:
            try:
                return self.runtime.start(config, profile)
            except CannotPerformError as error:
                if error.step not in FOR_OTHERS or not self.runtime.stands_alone:
                    raise
                self.alone.add(config)
        return self.runtime.start(config, profile, alone=True)

    def _drop(self, config: ConfigSpec) -> None:
        stage = self._stages.pop(config, None)
        if stage is not None:
            stage.container.close()


def _run(stage: _Stage, arm: Arm) -> Result:
    judge = stage.container.sandbox
    number = _tell(stage, judge, arm.program)
    judge.ask([Request(number, number, 0, 0, arm.timeout_us, arm.flags)])
    result = judge.next_result(arm.timeout_us)
    if result.tag != number:
        raise HarnessError("the runner answered something that it was not asked")
    return result if result.truth.known else replace(result, truth=stage.truth)


def _tell(stage: _Stage, judge: Sandbox, spec: ProgramSpec) -> int:
    """The number under which a judge knows a program, which is told it if need be."""
    known = stage.programs.get(id(spec))
    if known is not None:
        return known[0]
    witness = _tell(stage, judge, spec.witness) if spec.witness else None
    number = len(stage.programs)
    judge.define_program(number, spec, witness)
    stage.programs[id(spec)] = (number, spec)
    return number


def _status_from_outside(pid: int | None) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def why_not_labelled(layer: AppArmorLayer, read: Callable[[str], str | None]) -> str:
    """Why a runtime is not asked for an AppArmor profile; empty if it is: somebody has loaded it.

    ``read``: the files of the machine that runs containers, None for what is not there.
    """
    refused = no_apparmor(read)
    if refused or layer.text:  # another one may be loaded under its name
        return refused or NOT_LOADED
    if f"{layer.profile} (enforce)" in (read(_LOADED) or "").splitlines():
        return ""
    return f"not among the enforced ones of {_LOADED}, and none is loaded from here"


def _label_from_outside(pid: int | None) -> str:
    """The line that a native runner adds to a status, where the kernel runs AppArmor."""
    label = read_here(f"/proc/{pid}/attr/apparmor/current")
    return f"{LABEL}:\t{label}" if label else ""


def _truth(container: Container | Pod) -> Truth:
    """The performer's status, for results whose runner could not read it itself."""
    text = container.status.text or _status_from_outside(container.pid)
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    if "Seccomp" not in fields:
        return Truth(0, 0, 0, known=False, effective=0, permitted=0, bounding=0)
    return Truth(
        int(fields["Seccomp"]),
        int(fields.get("Seccomp_filters", "0")),
        int(fields["NoNewPrivs"]),
        known=True,
        effective=int(fields["CapEff"], 16),
        permitted=int(fields["CapPrm"], 16),
        bounding=int(fields["CapBnd"], 16),
    )
