"""What is predicted is what happens: every trial of the library, under many different profiles.

``BLOCKED`` is never followed by a bypass, and ``BYPASSED`` always is; ``DEPENDS`` promises nothing,
and stands only where a program itself does not say what becomes of it.  That goes for the
prediction with the control's arguments, which a trial carries, and for the one without any run.

Here 16 random profiles are run.  All 200, by hand (a second or two for each on two idle cores):

    SIDESTEP_RANDOM_PROFILES=200 .venv/bin/pytest tests/live/test_prediction.py
"""

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
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
RANDOM = int(os.environ.get("SIDESTEP_RANDOM_PROFILES", "16"))
JOBS = len(os.sched_getaffinity(0))
MOST_OPEN = 8
ROUNDS = 3


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
    candidates = tuple(one for one in load(SOURCES[source](tmp_path)) if isinstance(one, Candidate))
    assert len(candidates) > 5, "libseccomp refuses few of them"
    # What rules make is tried where somebody meant to stop something.
    rewrites = Rewrites.NONE if source == "random" else Rewrites.SAMPLED
    plan = Plan(
        candidates=candidates,
        families=all_families(),
        workloads=(),
        jobs=JOBS,
        rewrites=rewrites,
        suite=frozenset(library.suite().variants),
        with_steps=False,
    )
    wrong: list[str] = []
    for candidate, result in zip(candidates, campaign.evaluate(plan, lambda _: None), strict=True):
        assert result.enforced
        found = disagreements(candidate, result)
        wrong += persistent(found, candidate, plan).values()
    assert "\n".join(wrong) == ""


def persistent(found: Mapping[str, str], candidate: Candidate, plan: Plan) -> Mapping[str, str]:
    """Those that are there whenever nothing else is run: a busy machine is late."""
    for _ in range(ROUNDS):
        concerned = {one.partition("~")[0].rpartition("/")[0] for one in found}
        if not concerned:
            break
        some = tuple(one for one in plan.families if one.label in concerned)
        alone = replace(plan, candidates=(candidate,), families=some, jobs=1)
        (result,) = campaign.evaluate(alone, lambda _: None)
        again = disagreements(candidate, result)
        found = {identity: text for identity, text in found.items() if identity in again}
    return found


@functools.cache
def all_families() -> tuple[FamilyInstance, ...]:
    return families([], library.SUITE)


@functools.cache
def recorded() -> dict[str, Variant]:
    return {one.id: one for family in all_families() for one in family.variants}


def disagreements(candidate: Candidate, result: CandidateResult) -> dict[str, str]:
    """The trials that were foretold otherwise, with or without the control."""
    filters = tuple(Filter.decode(layer.program) for layer in candidate.seccomp)
    found: dict[str, str] = {}
    for trial in result.trials:
        said = [trial.predicted]
        if trial.variant in recorded():
            said.append(without_run(recorded()[trial.variant], filters))
        if not all(agrees(one, trial) for one in said):
            happened = f"{trial.outcome} {trial.stopped_at} {trial.reason}"
            found[trial.variant] = f"{result.name}: {trial.variant} {said}, but {happened}"
    return found


def without_run(variant: Variant, filters: Sequence[Filter]) -> str:
    return of_variant(variant, foretold(variant.program, filters, None, 0), filters)


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
    assert {without_run(one, allowing) for one in recorded().values()} == {"BYPASSED"}


def test_next_to_nothing_is_open_under_the_bundled_profiles() -> None:
    """What a shell, a loader and a supervisor do, and a death that may be the effect."""
    for path in sorted(BUNDLED.glob("*.json")):
        (candidate,) = load(path)
        assert isinstance(candidate, Candidate)
        filters = tuple(Filter.decode(layer.program) for layer in candidate.seccomp)
        said = [without_run(one, filters) for one in recorded().values()]
        assert said.count(DEPENDS) <= MOST_OPEN, path.name
