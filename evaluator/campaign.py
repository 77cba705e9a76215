"""A campaign: every candidate against every variant, in two arms, and what became of it.

The families are shared out among worker processes, each with native runners of its own.  Who
takes a group of families first has it for all candidates, so that controls and recorded programs
are used again.  What the workers saw of a candidate is put together here.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import NoReturn

from msgspec import Struct, msgpack
from msgspec.structs import replace

from attacks.family import FamilyInstance
from evaluator.assemble import assemble, failed
from evaluator.errors import HarnessError
from evaluator.garbage import collect_rarely
from evaluator.plan import Plan, Progress, Rewrites, sameness
from evaluator.pool import Pool
from evaluator.records import CandidateResult, CandidateRun, TrialRecord
from evaluator.share import Groups, Share
from mitigations.candidate import Candidate, FailedCandidate

_GROUPS = 8
"""For each worker: enough of them that none has to wait long for the others at the end."""
_LEAST_GROUP = 24
_ENDING_S = 2.0
_TELL_S = 0.1
_RUNNERS = 2
"""For each worker, on its core: while one waits for the kernel the other one runs."""
_MORE_RUNNERS = 4
"""The same where all is run that rewrites make: a hundred programs wait 30 ms each for an RCU."""
_TRIALS = msgpack.Decoder(tuple[TrialRecord, ...])


def evaluate(
    plan: Plan,
    on_progress: Callable[[Progress], None],
    finish: Callable[[CandidateRun, Plan], CandidateResult] = assemble,
) -> Iterator[CandidateResult]:
    """The candidates' results in their order; ``finish`` makes them of what was seen."""
    keys = [key_of(one, plan, place) for place, one in enumerate(plan.candidates)]
    todo = {key: one for key, one in zip(keys, plan.candidates, strict=True) if key is not None}
    distinct = [one for one in todo.values() if isinstance(one, Candidate)]
    size = sum(family.size for family in plan.families)
    count = _Count(len(distinct) * size * plan.repeats, on_progress)
    runs: dict[object, CandidateRun] = {}
    with closing(_runs(plan, distinct, count)) as fresh:
        for key, candidate in zip(keys, plan.candidates, strict=True):
            if isinstance(candidate, FailedCandidate):
                yield failed(candidate, plan)
                continue
            if key not in runs:
                runs[key] = next(fresh)
            yield finish(replace(runs[key], candidate=candidate), plan)
        next(fresh, None)  # the controls are looked at once more


def key_of(candidate: Candidate | FailedCandidate, plan: Plan, place: int) -> object:
    """Equal for candidates of which one run tells about all; None if there is nothing to run."""
    if isinstance(candidate, FailedCandidate):
        return None
    if not plan.fast_path:
        return place
    return sameness(candidate, plan)


def _runs(plan: Plan, todo: Sequence[Candidate], count: _Count) -> Generator[CandidateRun]:
    """What was seen of each candidate; at the end the controls are checked."""
    groups = _grouped(plan)
    # Without families there are still honest programs to run.
    jobs = min(plan.jobs, max(1, len(groups))) if todo else 0
    if jobs > 1:
        yield from _Workers(plan, todo, groups, jobs).runs(count)
    elif jobs:
        with closing(Groups(groups)) as all_of_them, Pool(_runners(plan)) as pool:
            share = Share(plan, pool, all_of_them, count.add, honest=True)
            for candidate in todo:
                yield _put_together([share.run(candidate)], plan)
            share.check_controls()


def _runners(plan: Plan) -> int:
    return _MORE_RUNNERS if plan.rewrites is Rewrites.ALL else _RUNNERS


def _grouped(plan: Plan) -> list[list[FamilyInstance]]:
    """The families in groups of about the same number of variants.

    A family may be taken apart, but not if it is rewritten where somebody meant to stop the
    effect: that is seen in the family as a whole.
    """
    least = max(_LEAST_GROUP, sum(one.size for one in plan.families) // (_GROUPS * plan.jobs))
    groups: list[list[FamilyInstance]] = []
    size = least
    for family in plan.families:
        whole = plan.rewrites is Rewrites.SAMPLED
        for piece in [family] if whole else family.pieces(least):
            if size >= least:
                groups.append([])
                size = 0
            groups[-1].append(piece)
            size += piece.size
    return groups


def _put_together(runs: Sequence[CandidateRun], plan: Plan) -> CandidateRun:
    """What all workers saw of one candidate; the first one has looked at the honest programs."""
    ids = (identity for family in plan.families for identity in family.ids)
    place = {identity: n for n, identity in enumerate(ids)}

    def order(trial: TrialRecord) -> tuple[int, str]:
        """Rewritten variants come behind what they were made of."""
        known = trial.variant if trial.variant in place else trial.variant.partition("~")[0]
        return place[known], trial.variant

    return replace(
        next((run for run in runs if not run.enforcement.enforced), runs[0]),
        starts=runs[0].starts,
        workloads=runs[0].workloads,
        trials=tuple(sorted((trial for run in runs for trial in run.trials), key=order)),
        duration_s=max(run.duration_s for run in runs),
        causes=tuple(one for run in runs for one in run.causes),
        shown=tuple(one for run in runs for one in run.shown),
    )


class _Count(Struct):
    """Trials done, of how many."""

    total: int
    on_progress: Callable[[Progress], None]
    done: int = 0

    def add(self, name: str, done: int, more: int) -> None:
        """``done`` more trials are done, and ``more`` than was known are to be."""
        self.total += more
        self.done = min(self.total, self.done + done)
        self.on_progress(Progress(name, self.done, self.total))


class _Workers:
    """Processes that evaluate a share of the families each."""

    def __init__(
        self,
        plan: Plan,
        todo: Sequence[Candidate],
        groups: Sequence[Sequence[FamilyInstance]],
        jobs: int,
    ) -> None:
        # Forked: they start with all that is imported here.
        context = multiprocessing.get_context("fork")
        share_out = Groups(groups)
        self._plan = plan
        self._todo = todo
        self._ends: list[Connection] = []
        self._processes: list[ForkProcess] = []
        try:
            for index in range(jobs):
                ours, theirs = context.Pipe(duplex=False)
                self._ends.append(ours)
                process = context.Process(
                    target=_work, args=(plan, todo, share_out, index, theirs), daemon=True
                )
                process.start()
                self._processes.append(process)
                theirs.close()
        except BaseException:
            self._end()
            raise
        finally:
            share_out.close()

    def runs(self, count: _Count) -> Generator[CandidateRun]:
        """What was seen of each candidate, in their order."""
        found: list[dict[int, CandidateRun]] = [{} for _ in self._todo]
        try:
            for shares in found:
                while len(shares) < len(self._processes):
                    self._listen(found, count)
                yield _put_together([shares[index] for index in sorted(shares)], self._plan)
                shares.clear()
            while self._ends:  # they look at their controls once more
                self._listen(found, count)
        finally:
            self._end()

    def _listen(self, found: list[dict[int, CandidateRun]], count: _Count) -> None:
        for end in wait(self._ends):
            assert isinstance(end, Connection)
            try:
                message = end.recv()
            except EOFError:
                raise HarnessError("a worker process was lost") from None
            match message:
                case (str(name), int(done), int(more)):
                    count.add(name, done, more)
                case (int(place), int(index), CandidateRun() as run, bytes(trials)):
                    found[place][index] = replace(run, trials=_TRIALS.decode(trials))
                case Exception() as error:
                    raise error
                case _:
                    self._ends.remove(end)
                    end.close()

    def _end(self) -> None:
        """Ends what is still at work, and with it all that it started."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(_ENDING_S)
            if process.exitcode is None:
                process.kill()
                process.join()
        for end in self._ends:
            end.close()
        self._ends.clear()


def _work(
    plan: Plan, todo: Sequence[Candidate], groups: Groups, index: int, to_main: Connection
) -> None:
    """What a worker does: its share of every candidate."""
    begin_worker()
    cores = sorted(os.sched_getaffinity(0))
    core = cores[index % len(cores)]
    try:
        with Pool(_runners(plan), core) as pool:
            share = Share(plan, pool, groups, _Teller(to_main), honest=index == 0)
            for place, candidate in enumerate(todo):
                run = share.run(candidate)
                trials = msgpack.encode(run.trials)  # ten times as quick as pickle
                to_main.send((place, index, replace(run, trials=()), trials))
            share.check_controls()
        to_main.send(None)
    except BrokenPipeError:
        return
    except Exception as error:
        error.add_note(traceback.format_exc())
        to_main.send(error)


def begin_worker() -> None:
    """What every process does first that was forked to evaluate."""
    # Ctrl-C reaches the whole group of processes; the first of them says when to end.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    gc.freeze()  # what the first process has made stays, and its memory shared
    collect_rarely()


def _leave(number: int, frame: object) -> NoReturn:
    """At once: the runners go with us, as they see their pipes closed."""
    os._exit(128 + number)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class _Teller:
    """Sends how far a worker is, now and then."""

    def __init__(self, to_main: Connection) -> None:
        self._to_main = to_main
        self._done = self._more = 0
        self._told_at = 0.0

    def __call__(self, name: str, done: int, more: int) -> None:
        self._done += done
        self._more += more
        if time.monotonic() - self._told_at > _TELL_S:
            self._told_at = time.monotonic()
            self._to_main.send((name, self._done, self._more))
            self._done = self._more = 0
