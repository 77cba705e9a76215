"""Evaluates stored answers to scenarios, and the answers that need no model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

from msgspec import Struct

from evaluator.judging import Asked, scores
from evaluator.plan import Progress
from evaluator.samples import KNOWN, Sample, Status
from evaluator.scenario_check import Known, candidate, known_answers, runtime_default
from evaluator.scenarios import Mechanism, Scenario, scenario
from evaluator.scoring import Score
from mitigations.candidate import Candidate, FailedCandidate, ProfileError


class Scored(Struct, frozen=True):
    """A sample and what it is worth; ``score`` is None if there is no answer to judge."""

    scenario: str
    model: str
    strategy: str
    level: str
    sample: int
    status: Status
    why: str = ""
    """Why the answer cannot be used, in one line."""
    score: Score | None = None
    cost: float | None = None
    """In US dollars; None where nobody knows it."""
    cluster: str = ""
    """That of the scenario."""
    holds: bool = True
    """Whether something has to be held."""

    @property
    def arm(self) -> tuple[str, str, str]:
        return self.model, self.strategy, self.level


class Answer(Struct, frozen=True):
    """A sample with the scenario that it answers, and the candidate that it is."""

    scenario: Scenario
    sample: Sample
    candidate: Candidate | str
    """Or why it is none; empty if there was no answer."""


def scored(
    samples: Sequence[Sample],
    on_progress: Callable[[Progress], None],
    *,
    jobs: int = 1,
    private: str = "",
) -> list[Scored]:
    """All samples in their order, then the known answers of every scenario among them.

    ``private`` is the seed of a private suite, or empty.
    """
    loaded = cache(_loaded)  # what is written alike is one candidate
    answers = [
        Answer(scenario(one.scenario), one, loaded(one.status, one.mitigation or ""))
        for one in samples
    ]
    return judged(answers, on_progress, jobs=jobs, private=private)


def scored_files(
    asked: Scenario,
    candidates: Sequence[Candidate | FailedCandidate],
    on_progress: Callable[[Progress], None],
    *,
    jobs: int = 1,
    private: str = "",
) -> list[Scored]:
    """Candidates from anywhere as answers to one scenario, each with a row of its own."""
    answers = [
        Answer(
            asked,
            Sample(scenario=asked.name, model=one.name, strategy="file", level=""),
            str(one.error) if isinstance(one, FailedCandidate) else one,
        )
        for one in candidates
    ]
    return judged(answers, on_progress, jobs=jobs, private=private)


def judged(
    answers: Sequence[Answer],
    on_progress: Callable[[Progress], None],
    *,
    jobs: int = 1,
    private: str = "",
) -> list[Scored]:
    """The answers in their order, then the known ones of every scenario among them."""
    scenarios = {one.scenario.name: one.scenario for one in answers}
    everything = [*answers, *(known for one in scenarios.values() for known in _known(one))]
    of_scenario: dict[str, list[Candidate]] = {name: [] for name in scenarios}
    for one in everything:
        if isinstance(one.candidate, Candidate):
            of_scenario[one.scenario.name].append(one.candidate)
    asked = [Asked(one, tuple(of_scenario[name])) for name, one in scenarios.items()]
    found = scores(asked, on_progress, jobs=jobs, private=private)
    next_of = {one.scenario.name: iter(mine) for one, mine in zip(asked, found, strict=True)}
    return [_scored(one, next_of) for one in everything]


def _scored(one: Answer, next_of: dict[str, Iterator[Score]]) -> Scored:
    sample, usable = one.sample, isinstance(one.candidate, Candidate)
    return Scored(
        sample.scenario,
        sample.model,
        sample.strategy,
        sample.level,
        sample.sample,
        Status.INVALID if sample.status is Status.OK and not usable else sample.status,
        one.candidate if isinstance(one.candidate, str) else "",
        next(next_of[one.scenario.name]) if usable else None,
        sample.usage.cost,
        one.scenario.cluster,
        bool(one.scenario.hold),
    )


def _known(asked: Scenario) -> Iterable[Answer]:
    texts = known_answers(asked)
    if Mechanism.SECCOMP in asked.mechanisms:
        texts[Known.RUNTIME_DEFAULT] = runtime_default()
    for name, text in texts.items():
        sample = Sample(scenario=asked.name, model=name, strategy=KNOWN, level="")
        yield Answer(asked, sample, candidate(text))


def _loaded(status: Status, text: str) -> Candidate | str:
    """The candidate that an answer is, or why it is none."""
    if status is not Status.OK:
        return ""
    try:
        return candidate(text)
    except ProfileError as error:
        return str(error)
