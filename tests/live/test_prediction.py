"""What is predicted is what happens: every trial of the library, under many different profiles.

``BLOCKED`` is never followed by a bypass, and ``BYPASSED`` always is; ``DEPENDS`` promises nothing,
and stands only where a program itself does not say what becomes of it.  That goes for the
prediction with the control's arguments, which a trial carries, and for the one without any run.

Here 30 random profiles are run.  All 200, by hand (a second or two for each on two cores):

    SIDESTEP_RANDOM_PROFILES=200 .venv/bin/pytest tests/live/test_prediction.py
"""

import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from random_profiles import profiles

from attacks import library
from attacks.family import FamilyInstance, Variant
from evaluator import campaign
from evaluator.plan import Plan, Rewrites
from evaluator.predict import DEPENDS, foretold, of_variant
from evaluator.records import CandidateResult, TrialRecord
from evaluator.request import families
from evaluator.verdict import Outcome
from mitigations.bpf import Filter
from mitigations.candidate import Candidate
from mitigations.load import load

from engine import ALLOW, answers_all

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "mitigations" / "library"
BESIDE = ROOT.parent / "shared" / "profiles"
"""Profiles of other people, which are not part of the project: tested where they are there."""
RANDOM = int(os.environ.get("SIDESTEP_RANDOM_PROFILES", "30"))
JOBS = len(os.sched_getaffinity(0))


def random_profiles(folder: Path) -> Path:
    for number, profile in enumerate(profiles(RANDOM)):
        (folder / f"random-{number:03}.json").write_text(json.dumps(profile))
    return folder


SOURCES: dict[str, Callable[[Path], Path]] = {
    "bundled": lambda _: BUNDLED,
    **({"beside": lambda _: BESIDE} if BESIDE.is_dir() else {}),
    "random": random_profiles,
}


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_the_prediction_is_what_happens(source: str, tmp_path: Path) -> None:
    found = load(SOURCES[source](tmp_path))
    candidates = tuple(one for one in found if isinstance(one, Candidate))
    assert source == "beside" or len(candidates) == len(found)
    plan = Plan(
        candidates=candidates,
        families=all_families(),
        workloads=(),
        jobs=JOBS,
        # What rules make is tried where a profile has names that a person chose.
        rewrites=Rewrites.NONE if source == "random" else Rewrites.SAMPLED,
        suite=frozenset(library.suite().variants),
        with_steps=False,
    )
    wrong: list[str] = []
    for candidate, result in zip(candidates, campaign.evaluate(plan, lambda _: None), strict=True):
        assert result.enforced
        wrong += disagreements(candidate, result)
    assert "\n".join(wrong) == ""


@functools.cache
def all_families() -> tuple[FamilyInstance, ...]:
    return families([], library.SUITE)


@functools.cache
def recorded() -> dict[str, Variant]:
    return {one.id: one for family in all_families() for one in family.variants}


def disagreements(candidate: Candidate, result: CandidateResult) -> Iterator[str]:
    """The trials that were foretold otherwise, with or without the control."""
    filters = tuple(Filter.decode(layer.program) for layer in candidate.seccomp)
    for trial in result.trials:
        said = [trial.predicted]
        if trial.variant in recorded():
            variant = recorded()[trial.variant]
            said.append(of_variant(variant, foretold(variant.program, filters, None, 0), filters))
        if not all(agrees(one, trial) for one in said):
            stopped = trial.stopped_at
            yield f"{result.name}: {trial.variant} {said} {trial.outcome} {stopped} {trial.reason}"


def agrees(said: str | None, trial: TrialRecord) -> bool:
    match trial.outcome:
        case Outcome.UNSUPPORTED:
            return True
        case Outcome.HARNESS_ERROR | Outcome.DISAGREEMENT | Outcome.NOT_ENFORCED:
            return False
        case Outcome.BYPASSED:
            return said in ("BYPASSED", DEPENDS)
        case _:
            return said in ("BLOCKED", DEPENDS)


def test_nothing_is_open_where_nothing_is_denied() -> None:
    allowing = [Filter.decode(answers_all(ALLOW))]
    said = {
        of_variant(one, foretold(one.program, allowing, None, 0), allowing)
        for one in recorded().values()
    }
    assert said == {"BYPASSED"}
