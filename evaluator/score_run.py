"""Evaluates stored answers to scenarios, and the answers that need no model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from msgspec import Struct

from evaluator.errors import InputError
from evaluator.judging import Asked, scores
from evaluator.objectives import objective
from evaluator.plan import Progress
from evaluator.request import all_of, with_distinct_names
from evaluator.samples import KNOWN, Sample, read_samples
from evaluator.scenario_check import Known, candidate, known_answers, runtime_default
from evaluator.scenarios import Mechanism, Scenario, made_of, scenario
from evaluator.scoring import Score, declined
from mitigations.candidate import Candidate, FailedCandidate, ProfileError
from mitigations.generate.reply import Status


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
    hides: bool = True
    """Whether some of the ways are hidden."""

    @property
    def arm(self) -> tuple[str, str, str]:
        return self.model, self.strategy, self.level


class Answer(Struct, frozen=True):
    """A sample with the scenario that it answers, and the candidate that it is."""

    scenario: Scenario
    sample: Sample
    candidate: Candidate | str
    """Or why it is none; empty if there was no answer."""


def answers_of(path: Path) -> list[Answer]:
    """The samples of a file of lines, or of a tree, each with what it comes to."""
    return answers(read_samples(path))


def answers(samples: Sequence[Sample]) -> list[Answer]:
    """Samples, each with its scenario and with the candidate that it is."""
    loaded = cache(_loaded)  # what is written alike is one candidate
    return [
        Answer(
            scenario(one.scenario), one, one.why if _is_none(one) else loaded(one.mitigation or "")
        )
        for one in samples
    ]


def answers_of_files(path: Path, goal: str | None, families: Sequence[str]) -> list[Answer]:
    """Profiles of a directory, or of a file, as answers to one objective; each is its own model."""
    asked = made_of(objective(goal) if goal is not None else None, families)
    if path.suffix == ".jsonl":
        raise InputError(f"{path}: its lines name their scenarios: no --objective and no --family")
    candidates = with_distinct_names(list(all_of([str(path)])))
    if not any(isinstance(one, Candidate) for one in candidates):
        why = next((f": {one.error}" for one in candidates if isinstance(one, FailedCandidate)), "")
        raise InputError(f"{path}: no profile that can be used{why}")
    return [
        Answer(
            asked,
            Sample(scenario=asked.name, model=one.name, strategy="file", level=""),
            str(one.error) if isinstance(one, FailedCandidate) else one,
        )
        for one in candidates
    ]


def judged(
    answers: Sequence[Answer],
    on_progress: Callable[[Progress], None],
    *,
    jobs: int = 1,
    private: str = "",
) -> list[Scored]:
    """The answers in their order, then the known ones of every scenario among them.

    ``private`` is the seed of a private suite, or empty.
    """
    scenarios = {one.scenario.name: one.scenario for one in answers}
    everything = [*answers, *(known for one in scenarios.values() for known in _known(one))]
    of_scenario: dict[str, list[Candidate]] = {name: [] for name in scenarios}
    for one in everything:
        if isinstance(one.candidate, Candidate):
            of_scenario[one.scenario.name].append(one.candidate)
    asked = [Asked(one, tuple(of_scenario[name])) for name, one in scenarios.items()]
    found = scores(asked, on_progress, jobs=jobs, private=private)
    next_of = {one.scenario.name: iter(mine) for one, mine in zip(asked, found, strict=True)}
    return [_scored(one, next_of, bool(private)) for one in everything]


def _scored(one: Answer, next_of: dict[str, Iterator[Score]], private: bool) -> Scored:
    asked, sample = one.scenario, one.sample
    if isinstance(one.candidate, Candidate):
        score: Score | None = next(next_of[asked.name])
    else:
        right = sample.declined and sample.status is Status.OK
        score = declined(asked) if right else None
    return Scored(
        sample.scenario,
        sample.model,
        sample.strategy,
        sample.level,
        sample.sample,
        Status.INVALID if sample.status is Status.OK and score is None else sample.status,
        one.candidate if isinstance(one.candidate, str) else "",
        score,
        sample.usage.cost,
        asked.cluster,
        bool(asked.hold),
        any(hold.hidden for hold in asked.hold) or (private and bool(asked.hold)),
    )


def _known(asked: Scenario) -> Iterable[Answer]:
    texts = known_answers(asked)
    if Mechanism.SECCOMP in asked.mechanisms:
        texts[Known.RUNTIME_DEFAULT] = runtime_default()
    for name, text in texts.items():
        sample = Sample(scenario=asked.name, model=name, strategy=KNOWN, level="")
        yield Answer(asked, sample, candidate(text))


def _is_none(sample: Sample) -> bool:
    return sample.status is not Status.OK or sample.declined


def _loaded(text: str) -> Candidate | str:
    """The candidate that an answer is, or why it is none."""
    try:
        return candidate(text)
    except ProfileError as error:
        return str(error)
