"""A verdict ``held`` after a search: it carries what failed to break it, or is held no longer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from msgspec.structs import replace

from attacks.family import FamilyInstance, Variant
from evaluator.foreign import variant_of
from evaluator.plan import Plan
from evaluator.records import CandidateResult, CandidateRun, SearchRecord, TrialRecord, assemble
from evaluator.search_records import Find, Limits, Searched
from evaluator.search_run import search, trials
from evaluator.verdict import HOLDING

Finish = Callable[[CandidateRun, Plan], CandidateResult]


def after_search(seconds: float) -> Finish:
    """What ``assemble`` does, after a search of so many seconds in all families that are held."""
    return partial(_assemble, limits=Limits(seconds=seconds))


def _assemble(run: CandidateRun, plan: Plan, limits: Limits) -> CandidateResult:
    result = assemble(run, plan)
    held = {one.family for one in result.families if one.verdict in HOLDING}
    families = [one for one in plan.families if one.label in held]
    if not families or not result.enforced:
        return result
    searched = list(search(run.candidate, families, limits, stance=run.posture, jobs=plan.jobs))
    more = [
        trial
        for family, one in zip(families, searched, strict=True)
        for trial in _trials(run, plan, family, one.finds)
    ]
    evidence = {one.family: _record(one) for one in searched}
    return assemble(replace(run, trials=(*run.trials, *more), searched=evidence), plan)


def _trials(
    run: CandidateRun, plan: Plan, family: FamilyInstance, finds: Sequence[Find]
) -> list[TrialRecord]:
    """What was found, run once more as a trial of this candidate."""
    variants = [_variant(one, family) for one in finds]
    return trials(run.candidate, variants, plan, stance=run.posture)


def _variant(find: Find, family: FamilyInstance) -> Variant:
    name = find.id.partition("/")[2]
    why = "Found by search: " + "; ".join(step.why.rstrip(".") for step in find.steps)
    return replace(
        variant_of(find.program, family, f"{name}~found"),
        technique=find.technique,
        why=f"{why}.",
        parent=f"{family.label}/{name.partition('~')[0]}",
    )


def _record(one: Searched) -> SearchRecord:
    return SearchRecord(
        seconds=one.seconds,
        built=one.built,
        run=one.run,
        routes=one.routes,
        ended=one.ended.value,
        found=tuple(f"{find.id}~found" for find in one.finds),
    )
