"""Evaluates stored answers to scenarios, and the answers that need no model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from evaluator.plan import Progress
from evaluator.samples import Sample
from evaluator.scenario_check import evaluated, known_answers
from evaluator.scenarios import Scenario, scenario
from evaluator.scoring import Score
from mitigations.candidate import Candidate, FailedCandidate, ProfileError
from mitigations.generate.reply import Status
from mitigations.load import load

KNOWN = "known"
"""The strategy of answers that need no model."""


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

    @property
    def arm(self) -> tuple[str, str, str]:
        return self.model, self.strategy, self.level


def scored(
    samples: Sequence[Sample], on_progress: Callable[[Progress], None], *, jobs: int = 1
) -> list[Scored]:
    """All samples in their order, then the known answers of every scenario among them."""
    by_scenario: dict[str, list[Sample]] = {}
    for one in samples:
        by_scenario.setdefault(one.scenario, []).append(one)
    found: dict[int, Scored] = {}
    for name, mine in by_scenario.items():
        asked = scenario(name)
        everything = [*mine, *_known(asked)]
        for one, result in zip(
            everything, _judged(asked, everything, on_progress, jobs), strict=True
        ):
            found[id(one)] = result
        by_scenario[name] = everything
    known = [one for mine in by_scenario.values() for one in mine if one.strategy == KNOWN]
    return [found[id(one)] for one in (*samples, *known)]


def _known(asked: Scenario) -> list[Sample]:
    return [
        Sample(scenario=asked.name, model=name, strategy=KNOWN, level="", mitigation=text)
        for name, text in known_answers(asked).items()
    ]


def _judged(
    asked: Scenario,
    samples: Sequence[Sample],
    on_progress: Callable[[Progress], None],
    jobs: int,
) -> list[Scored]:
    with tempfile.TemporaryDirectory(prefix="sidestep-answers-") as directory:
        loaded = [_loaded(Path(directory), n, one) for n, one in enumerate(samples)]
    usable = [one for one in loaded if isinstance(one, Candidate)]
    results = iter(evaluated(asked, usable, on_progress, jobs) if usable else [])
    return [
        _scored(one, candidate, next(results) if isinstance(candidate, Candidate) else None)
        for one, candidate in zip(samples, loaded, strict=True)
    ]


def _scored(one: Sample, found: Candidate | str, result: Score | None) -> Scored:
    invalid = one.status is Status.OK and isinstance(found, str)
    return Scored(
        one.scenario,
        one.model,
        one.strategy,
        one.level,
        one.sample,
        Status.INVALID if invalid else one.status,
        found if isinstance(found, str) else "",
        result,
        one.usage.cost,
    )


def _loaded(directory: Path, number: int, one: Sample) -> Candidate | str:
    """The candidate that an answer is, or why it is none."""
    if one.status is not Status.OK:
        return ""
    path = directory / f"{number}.json"
    path.write_bytes((one.mitigation or "").encode("utf-8", errors="surrogatepass"))
    try:
        (found,) = load(path, meaning="oci")
    except ProfileError as error:
        return str(error)
    if isinstance(found, FailedCandidate):
        return str(found.error)
    return found
