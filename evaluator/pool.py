"""Warm runners, and arms spread over them.

A runner that dies or hangs costs the arm it was busy with; it is replaced, and the others go on.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec import Struct, field

from evaluator.errors import HarnessError
from evaluator.sandbox import Sandbox, runner_path
from evaluator.wire import ConfigSpec, ProgramSpec, Request, Result, RunFlag

_CHUNK = 48
_TAGS = 1 << 31
_FROM_THE_FRONT = 2
"""Runners that take the oldest batch; all others take the newest."""
# What a runner has room for; far more than the arms that it is asked for at one time.
_PROGRAMS = 8192
_CONFIGS = 256
T = TypeVar("T")


class Arm(Struct, frozen=True):
    """One arm of one trial; ``victim`` is the configuration of a process beside the subject."""

    program: ProgramSpec
    config: ConfigSpec
    victim: ConfigSpec
    timeout_us: int
    flags: RunFlag = RunFlag.NONE


class _Told(Struct):
    """What a runner has been told, by the number it knows it under; the longest unused gives way.

    What it was just asked for was used a moment ago: a number never changes its meaning under a
    request that is still waiting.
    """

    room: int
    _numbers: dict[object, tuple[int, object]] = field(default_factory=dict[object, Any])

    def number(self, key: object, spec: object) -> tuple[int, bool]:
        """The number, and whether the runner must be told what it means; keeps ``spec`` alive."""
        known = self._numbers.pop(key, None)
        number = known[0] if known else self._free()
        self._numbers[key] = (number, spec)
        return number, known is None

    def _free(self) -> int:
        if len(self._numbers) < self.room:
            return len(self._numbers)
        return self._numbers.pop(next(iter(self._numbers)))[0]


class _Worker(Struct):
    """One runner, the thread that speaks with it, and what it has been told."""

    sandbox: Sandbox
    core: int
    thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="runner")
    )
    programs: _Told = field(default_factory=lambda: _Told(_PROGRAMS))
    configs: _Told = field(default_factory=lambda: _Told(_CONFIGS))


class Batch:
    """Arms that were given to the runners together."""

    def __init__(
        self, arms: Sequence[Arm], chunk: int, done: Callable[[int], None], tag: int = 0
    ) -> None:
        """``tag``: of the first arm; the others have the following ones."""
        self.arms = arms
        self.chunk = chunk
        self.tag = tag
        self.left = deque(range(len(arms)))
        self.end: Future[None] = Future()
        self._done = done
        self._found: list[Result | str] = ["not run"] * len(arms)
        self._lock = threading.Lock()
        self._unanswered = len(arms)
        if not arms:
            self.close()

    def answer(self, index: int, result: Result | str) -> None:
        """What an arm came to, or a message where the runner was lost on that very arm."""
        self._found[index] = result
        self._done(1)
        with self._lock:
            self._unanswered -= 1
            is_last = not self._unanswered
        if is_last:
            self.close()

    def close(self, error: BaseException | None = None) -> None:
        """Nobody is at work for it any more, whatever is still not run."""
        with self._lock:
            if self.end.done():
                return
            if error is None:
                self.end.set_result(None)
            else:
                self.end.set_exception(error)

    def results(self) -> list[Result | str]:
        """Waits for all of them."""
        self.end.result()
        return self._found


class Pool:
    """``jobs`` runners.  Use as a context manager."""

    def __init__(self, jobs: int, core: int | None = None) -> None:
        """``core``: the processor of the first one; by default each has one of its own."""
        self._path = runner_path()
        self._lock = threading.Lock()
        self._closed = False
        self._open: list[Batch] = []
        self._tag = 0
        self._workers: list[_Worker] = []
        try:
            cores = sorted(os.sched_getaffinity(0))
            for index in range(max(1, jobs)):
                its = cores[index % len(cores)] if core is None else core
                self._workers.append(_Worker(self.started(its), its))
        except BaseException:
            self.close()
            raise

    def started(self, core: int) -> Sandbox:
        """A runner, to be on a processor."""
        return Sandbox(self._path, core)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every runner, and with it all that it started."""
        with self._lock:
            self._closed = True
        for worker in self._workers:
            worker.sandbox.close()
            worker.thread.shutdown(wait=False, cancel_futures=True)

    @property
    def size(self) -> int:
        """How many runners there are."""
        return len(self._workers)

    @property
    def runner(self) -> Path:
        """The program that the runners are."""
        return self._path

    @property
    def first(self) -> Sandbox:
        return self._workers[0].sandbox

    def renew(self) -> None:
        """A new first runner, after it was lost between trials."""
        self._replace(self._workers[0])

    def config_number(self, spec: ConfigSpec) -> int:
        """The number under which the first runner knows a configuration; it is told if need be."""
        return self._tell_config(self._workers[0], spec)

    def run(self, arms: Sequence[Arm]) -> list[Result | str]:
        """All arms, in order; a message stands where the runner was lost on that very arm."""
        return self.start(arms).results()

    def start(self, arms: Sequence[Arm], done: Callable[[int], None] = lambda _: None) -> Batch:
        """Has the arms run, after those of earlier batches, while the caller goes on.

        ``done`` hears of each arm that is done, on another thread.
        """
        if self._closed:
            raise HarnessError("the runners are closed")
        # Few at a time where there are few: nobody should be left with a heap at the end.
        chunk = min(_CHUNK, 1 + len(arms) // (8 * len(self._workers)))
        with self._lock:
            batch = Batch(arms, chunk, done, self._tag)
            self._tag = (self._tag + len(arms)) % _TAGS
            self._open.append(batch)
        for one in self._workers:
            one.thread.submit(self._work, one)
        return batch

    def _work(self, worker: _Worker) -> None:
        """Keeps one chunk with the runner while the one before is decoded."""
        asked: deque[tuple[Batch, int]] = deque()
        try:
            while not self._closed:
                try:
                    self._ask(worker, asked)
                    if not asked:
                        return
                    batch, index = asked[0]
                    result = self._next(worker, batch, index)
                    asked.popleft()
                    batch.answer(index, result if result.ok else result.trouble)
                except HarnessError as error:
                    batch, index = asked.popleft()
                    with self._lock:
                        for other, again in asked:
                            other.left.append(again)
                    asked.clear()
                    if not self._closed:
                        self._replace(worker)
                    batch.answer(index, str(error))  # last: who waits for it may end us
            self._give_up(None)
        except BaseException as error:
            self._give_up(error)

    def _give_up(self, error: BaseException | None) -> None:
        with self._lock:
            abandoned, self._open = self._open, []
        for batch in abandoned:
            batch.close(error)

    def _next(self, worker: _Worker, batch: Batch, index: int) -> Result:
        arm = batch.arms[index]
        result = worker.sandbox.next_result(arm.timeout_us)
        complete = len(result.records) == len(arm.program.program.flatten()) or not result.ok
        if result.tag != batch.tag + index or not complete:
            raise HarnessError("the runner answered something that it was not asked")
        return result

    def _ask(self, worker: _Worker, asked: deque[tuple[Batch, int]]) -> None:
        """Gives the runner more to do if it has little left."""
        with self._lock:
            self._open = [one for one in self._open if not one.end.done()]
            # Some begin at the other end: arms that wait for the kernel come in groups, and
            # should not stop all runners of a processor at a time.
            turned = worker in self._workers[_FROM_THE_FRONT:]
            ready = (one for one in (self._open[::-1] if turned else self._open) if one.left)
            batch = next(ready, None)
            if batch is None or len(asked) > batch.chunk:
                return
            taken = [batch.left.popleft() for _ in range(min(batch.chunk, len(batch.left)))]
        asked.extend((batch, index) for index in taken)  # first, so that none is lost
        requests = [self._request(worker, batch.tag + index, batch.arms[index]) for index in taken]
        worker.sandbox.ask(requests)

    def lost(self, sandbox: Sandbox) -> None:
        """Ends a runner that cannot be used any more; another one takes its place."""
        sandbox.close()

    def _replace(self, worker: _Worker) -> None:
        self.lost(worker.sandbox)
        fresh = self.started(worker.core)
        with self._lock:
            worker.sandbox = fresh
            is_late = self._closed
        worker.programs = _Told(_PROGRAMS)
        worker.configs = _Told(_CONFIGS)
        if is_late:
            fresh.close()

    def _request(self, worker: _Worker, tag: int, arm: Arm) -> Request:
        return Request(
            tag=tag,
            program=self._tell_program(worker, arm.program),
            config=self._tell_config(worker, arm.config),
            victim_config=self._tell_config(worker, arm.victim),
            timeout_us=arm.timeout_us,
            flags=arm.flags,
        )

    def _tell_program(self, worker: _Worker, spec: ProgramSpec) -> int:
        witness = self._tell_program(worker, spec.witness) if spec.witness else None
        number, new = worker.programs.number((id(spec), witness), spec)
        if new:
            worker.sandbox.define_program(number, spec, witness)
        return number

    def _tell_config(self, worker: _Worker, spec: ConfigSpec) -> int:
        # Equal configurations are one, so that a gate serves them all.
        number, new = worker.configs.number(spec, spec)
        if new:
            worker.sandbox.define_config(number, spec)
        return number


Asking = Generator[Batch, list[Result | str], T]
"""Work that needs batches: it yields each one, and is sent its results."""


def overlapped(works: Iterable[Asking[T]], at_a_time: int) -> Iterator[T]:
    """What each comes to, as it ends.  While runners are at work for one, another one thinks.

    Whoever's batch is done goes on: one that takes long holds nobody up.
    """
    waiting: list[tuple[Asking[T], Batch]] = []
    fresh = iter(works)
    while True:
        new = next(fresh, None) if len(waiting) < at_a_time else None
        if new is None and not waiting:
            return
        try:
            if new is not None:
                waiting.append((new, next(new)))
                continue
            old, batch = waiting.pop(_done(waiting))
            waiting.append((old, old.send(batch.results())))
        except StopIteration as end:
            yield end.value


def _done(waiting: Sequence[tuple[Asking[T], Batch]]) -> int:
    """The place of the first one whose batch is done; waits for one."""
    ends = [batch.end for _, batch in waiting]
    wait(ends, return_when=FIRST_COMPLETED)
    return next(place for place, end in enumerate(ends) if end.done())


def alone(work: Asking[T]) -> T:
    """What one comes to, with nothing beside it."""
    return next(overlapped([work], 1))
