"""Evaluates answers to scenarios: several scenarios at a time, equal filters once.

A scenario has a family or two, which is too little to share out among processes.  So each process
takes some answers to one scenario, and evaluates them by a campaign of its own.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from msgspec import Struct
from msgspec.structs import replace

from attacks.effects import Grade
from attacks.family import Assumption, FamilyInstance
from evaluator import campaign
from evaluator.assemble import assemble
from evaluator.errors import HarnessError
from evaluator.plan import Plan, Progress, Rewrites
from evaluator.private import private_ways
from evaluator.records import CandidateResult, CandidateRun
from evaluator.request import families
from evaluator.scenarios import Scenario, is_chained
from evaluator.scoring import Score, score
from evaluator.workloads import DEFAULTS, chosen
from mitigations.candidate import Candidate

_LOTS = 4
"""For each process: enough of them that none has to wait long for the others at the end."""
_EACH = 2
"""Processes for each job: an evaluation speaks with a runner, and waits for it half of the time."""
_LEAST_LOT = 8
"""Answers: for each lot the controls are run anew, and the families rewritten."""


class Asked(Struct, frozen=True):
    """Answers to one scenario."""

    scenario: Scenario
    candidates: tuple[Candidate, ...]


def scores(
    asked: Sequence[Asked],
    on_progress: Callable[[Progress], None],
    *,
    jobs: int = 1,
    private: str = "",
) -> list[list[Score]]:
    """The score of each candidate, in their order.

    Candidates of one scenario that come to equal filters in the same posture share one evaluation.
    ``private`` is the seed of a private suite, or empty.
    """
    keys = [_keys(one) for one in asked]
    distinct = [_first_ones(one, mine) for one, mine in zip(asked, keys, strict=True)]
    found = _of_distinct(distinct, on_progress, jobs, private)
    known = [
        dict(zip(dict.fromkeys(mine), scored, strict=True))
        for mine, scored in zip(keys, found, strict=True)
    ]
    return [[of_key[key] for key in mine] for mine, of_key in zip(keys, known, strict=True)]


def results(
    asked: Asked, on_progress: Callable[[Progress], None], *, jobs: int = 1, private: str = ""
) -> Iterator[CandidateResult]:
    """All that was seen of each candidate: what a score and what feedback is made of."""
    return campaign.evaluate(_plan(asked, jobs, private), on_progress, _without_what_fails)


def _without_what_fails(run: CandidateRun, plan: Plan) -> CandidateResult:
    """Nobody has tried a private way before: one that does not work without the answer is none."""
    trials = (one for one in run.trials if one.control_effect or not is_chained(one.variant))
    return assemble(replace(run, trials=tuple(trials)), plan)


def _plan(asked: Asked, jobs: int, private: str) -> Plan:
    return Plan(
        candidates=asked.candidates,
        families=tuple(_families(asked, private)),
        workloads=chosen([*DEFAULTS, *asked.scenario.workloads]),
        rewrites=Rewrites.SAMPLED,
        jobs=jobs,
        with_steps=False,
        with_reasons=False,
    )


def _families(asked: Asked, private: str) -> Iterator[FamilyInstance]:
    """Those of the scenario, with no way that could not decide anything.

    Of a family that must still work only the baseline is looked at.
    """
    held = {one.family for one in asked.scenario.hold}
    brought = {one for candidate in asked.candidates for one in candidate.assumes}
    assumed = {Assumption.NONE, *map(Assumption, brought)}
    for one in families(asked.scenario.families):
        if one.label not in held:
            yield one.only({f"{one.family.name}/{one.baseline.name}"})
            continue
        counting = {
            f"{one.family.name}/{way.name}"
            for way in one.recipes
            if way.assumption in assumed and way.grade is Grade.EXACT and not way.negative
        }
        made = private_ways(one.label, private) if private else ()
        yield replace(one.only(counting), made=made)


def _keys(asked: Asked) -> list[object]:
    plan = _plan(asked, 1, "")
    return [campaign.key_of(one, plan, place) for place, one in enumerate(asked.candidates)]


def _first_ones(asked: Asked, keys: Sequence[object]) -> Asked:
    """The first candidate of each key."""
    found: dict[object, Candidate] = {}
    for key, one in zip(keys, asked.candidates, strict=True):
        found.setdefault(key, one)
    return Asked(asked.scenario, tuple(found.values()))


def _of_distinct(
    asked: Sequence[Asked], on_progress: Callable[[Progress], None], jobs: int, private: str
) -> list[list[Score]]:
    total = sum(len(one.candidates) for one in asked)
    size = max(_LEAST_LOT, total // (_LOTS * jobs))
    lots = [lot for one in asked for lot in _in_lots(one, size)]
    found: list[list[Score]] = [[] for _ in lots]
    done = 0
    for place, scored in _judged(lots, jobs, private):
        found[place] = scored
        done += len(scored)
        on_progress(Progress(lots[place].scenario.name, done, total))
    in_order = iter(found)
    return [[one for _ in _in_lots(each, size) for one in next(in_order)] for each in asked]


def _in_lots(asked: Asked, size: int) -> list[Asked]:
    everything = asked.candidates
    return [
        Asked(asked.scenario, everything[at : at + size]) for at in range(0, len(everything), size)
    ]


def _judged(lots: Sequence[Asked], jobs: int, private: str) -> Iterator[tuple[int, list[Score]]]:
    """The scores of each lot with its place, as they come."""
    processes = min(_EACH * jobs, len(lots)) if jobs > 1 else 1
    if processes <= 1:
        for place, lot in enumerate(lots):
            yield place, _scores_of(lot, private)
        return
    # Forked: they start with all that is imported here.
    context = multiprocessing.get_context("fork")
    todo = iter(range(len(lots)))
    workers: dict[Connection, BaseProcess] = {}
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, lots, private))
            process.start()
            theirs.close()  # so that we see it closed if the process is lost
            workers[ours] = process
            ours.send(next(todo))
        while workers:
            for one in wait(list(workers)):
                assert isinstance(one, Connection)
                following = next(todo, None)
                found = _exchanged(one, following)
                if following is None:
                    workers.pop(one).join()
                yield found
    finally:
        for left in workers.values():
            left.terminate()
            left.join()


def _exchanged(worker: Connection, following: int | None) -> tuple[int, list[Score]]:
    """What a process has found, after it was told what to do next."""
    try:
        place, found = worker.recv()
        worker.send(following)
    except (EOFError, OSError):
        raise HarnessError("a process that evaluates answers was lost") from None
    if isinstance(found, Exception):
        raise found
    return place, found


def _work(to_main: Connection, lots: Sequence[Asked], private: str) -> None:
    """What a process does: one lot after another, until there is none."""
    campaign.begin_worker()
    place: int | None
    while (place := to_main.recv()) is not None:
        try:
            to_main.send((place, _scores_of(lots[place], private)))
        except Exception as error:
            to_main.send((place, error))


def _scores_of(lot: Asked, private: str) -> list[Score]:
    found = results(lot, lambda _: None, private=private)
    return [score(lot.scenario, one) for one in found]
