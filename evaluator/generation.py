"""Asks models for answers to scenarios: what is asked, what is told meanwhile, what came of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from attacks.library import SUITE
from evaluator import campaign, prompts
from evaluator.plan import Plan, Rewrites
from evaluator.samples import Sample
from evaluator.scenario_check import candidate
from evaluator.scenarios import CANARY, Scenario
from evaluator.shown import Level, feedback, view, visible_families
from evaluator.workloads import DEFAULTS, chosen
from mitigations.candidate import ProfileError
from mitigations.generate import batches
from mitigations.generate.client import Asker, NotAskedError
from mitigations.generate.conversation import Judge, Outcome, Said, Strategy, Task, converse
from mitigations.generate.prices import Prices
from mitigations.generate.reply import Status
from mitigations.generate.store import Asked

_MANIFEST = "sidestep.generation/1"


class _Manifest(Struct):
    format: str
    runs: list[dict[str, Any]]


class Wanted(Struct, frozen=True, kw_only=True):
    """What to generate: every model and scenario, at the levels that tell more than others do."""

    models: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    levels: tuple[Level, ...] = (Level.EFFECT,)
    samples: int = 5
    strategy: Strategy = Strategy.SINGLE
    rounds: int = 3
    effort: str | None = None
    max_tokens: int = 16_000

    def items(self) -> list[Item]:
        """In the order of the lines that come of them."""
        return [
            Item(one, level, number, _task(self, model, one, level))
            for model in self.models
            for level in self.levels
            for one in self.scenarios
            if prompts.tells_more(one, level)
            for number in range(self.samples)
        ]

    def without_more(self) -> list[str]:
        """For each level of which that is true: of how many scenarios it tells no more."""
        counts = {
            level: sum(not prompts.tells_more(one, level) for one in self.scenarios)
            for level in self.levels
        }
        return [
            f"level {level}: tells nothing more of {count} of {len(self.scenarios)} scenarios, "
            "which are not asked at it"
            for level, count in counts.items()
            if count
        ]


class Item(Struct, frozen=True):
    """One sample to ask for."""

    scenario: Scenario
    level: Level
    number: int
    task: Task


class Generated(Struct, frozen=True):
    """What came of it so far."""

    samples: tuple[Sample, ...]
    """In the order of the items; those that were not asked are missing."""
    not_asked: tuple[str, ...]
    """For each of these the reason."""
    total: int


class State(Struct, frozen=True):
    """How far a run is, for whoever watches it."""

    done: int
    total: int
    tokens: int
    spent: float | None
    """US dollars of this run; None where a price is not known."""


def _task(wanted: Wanted, model: str, scenario: Scenario, level: Level) -> Task:
    asked = prompts.prompt(view(scenario, level))
    return Task(
        model=model,
        system=asked.system,
        prompt=asked.user,
        strategy=wanted.strategy,
        rounds=wanted.rounds,
        max_tokens=wanted.max_tokens,
        effort=wanted.effort,
        judged_as=f"{prompts.VERSION}:{scenario.name}",
    )


async def generate(
    wanted: Wanted,
    asker: Asker,
    on_state: Callable[[State], None],
    *,
    jobs: int,
) -> Generated:
    """All samples, as far as they may be asked for; ``ProfileError`` where nothing can be."""
    items = wanted.items()
    run = _Run(asker, on_state, len(items), jobs)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run.one(item)) for item in items]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None  # they all say the same of the store, or of the key
    results = [task.result() for task in tasks]
    return Generated(
        tuple(one for one in results if isinstance(one, Sample)),
        tuple(one for one in results if isinstance(one, str)),
        len(items),
    )


async def send_batches(
    wanted: Wanted, asker: Asker, on_counts: Callable[[batches.Counts], None]
) -> None:
    """Puts the answers into the store by Message Batches, which hold one request a sample."""
    asked = [Asked(item.task.opening(), item.number) for item in wanted.items()]
    await batches.ask_all(asker, asked, on_counts)


def manifest(
    path: Path, done: Generated, wanted: Wanted, prices: Prices, version: str
) -> dict[str, Any]:
    """What somebody needs who wants to ask the same again, as JSON: one entry for each run.

    A run that asked the same as an earlier one takes its place in the file that is there.
    """
    asked = {
        "sidestep": version,
        "prompts": prompts.VERSION,
        "suite": SUITE,
        "models": list(wanted.models),
        "scenarios": [one.name for one in wanted.scenarios],
        "levels": list(wanted.levels),
        "samples": wanted.samples,
        "strategy": str(wanted.strategy),
        "rounds": wanted.rounds,
        "effort": wanted.effort,
        "max_tokens": wanted.max_tokens,
    }
    run = {
        "asked": asked,
        "answered_by": sorted({one.answered_by for one in done.samples if one.answered_by}),
        "statuses": Counter(str(one.status) for one in done.samples),
        "not_asked": len(done.not_asked),
        "prices": prices.date,
    }
    earlier = [one for one in _runs(path) if one.get("asked") != asked]
    return {"format": _MANIFEST, "canary": CANARY, "runs": [*earlier, run]}


def _runs(path: Path) -> list[dict[str, Any]]:
    """Those of a manifest; none where there is none that could be read."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Manifest)
    except (OSError, msgspec.DecodeError):
        return []
    return found.runs if found.format == _MANIFEST else []


class _Run:
    """What the samples of one run share."""

    def __init__(
        self, asker: Asker, on_state: Callable[[State], None], total: int, jobs: int
    ) -> None:
        self._asker = asker
        self._on_state = on_state
        self._total = total
        self._jobs = jobs
        self._done = 0
        self._tokens = 0
        self._evaluating = asyncio.Lock()

    async def one(self, item: Item) -> Sample | str:
        try:
            outcome = await converse(self._asker, item.task, item.number, self._judge(item))
        except NotAskedError as error:
            return str(error)
        self._done += 1
        self._tokens += outcome.usage.input_tokens + outcome.usage.output_tokens
        spent = self._asker.spent
        self._on_state(State(self._done, self._total, self._tokens, spent))
        return _sample(item, outcome)

    def _judge(self, item: Item) -> Judge:
        async def judge(profile: str) -> Said:
            async with self._evaluating:  # it takes all processors
                return await asyncio.to_thread(said, item.scenario, profile, self._jobs)

        return judge


def _sample(item: Item, outcome: Outcome) -> Sample:
    answer = outcome.answer if outcome.status is Status.OK else None
    effort = item.task.effort
    return Sample(
        scenario=item.scenario.name,
        model=item.task.model if effort is None else f"{item.task.model} ({effort} effort)",
        sample=item.number,
        strategy=item.task.strategy,
        level=item.level,
        status=outcome.status,
        mitigation=answer.profile if answer is not None else None,
        declined=answer is not None and answer.profile is None,
        usage=outcome.usage,
        why=outcome.why,
        answered_by=outcome.answered_by,
        stop_reason=outcome.stop_reason,
        prompt=prompts.VERSION,
        requests=outcome.requests,
    )


def said(scenario: Scenario, profile: str, jobs: int) -> Said:
    """What may be said of a profile, from an evaluation in which nothing hidden is run."""
    try:
        found = candidate(profile)
    except ProfileError as error:
        return Said(f"The profile cannot be used: {error}", content=False)
    plan = Plan(
        candidates=(found,),
        families=visible_families(scenario),
        workloads=chosen([*DEFAULTS, *scenario.workloads]),
        rewrites=Rewrites.NONE,  # they make hidden ways of visible ones
        jobs=jobs,
        with_steps=False,
    )
    (result,) = campaign.evaluate(plan, lambda _: None)
    shown = feedback(scenario, result)
    return Said(prompts.told(shown), prompts.is_content(shown))
