"""Predictions alone: what the filters would do with every variant, without running one.

For places where nothing can run (a locked-down runner, a hook before a commit).  There is no
control, so nothing here is evidence: it takes for granted that every way works, on a kernel that
has all it needs, unless the posture is defined without a capability for it.  Results say so, trial
by trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from attacks.family import FamilyInstance, Variant
from evaluator import outcome, starts
from evaluator.assemble import Assembling, failed, judged
from evaluator.outcome import Terms
from evaluator.plan import Plan, Progress, Rewrites, sameness
from evaluator.posture import CAPABILITY_NUMBERS, Posture, posture
from evaluator.records import CandidateResult, CandidateRun, Enforcement, TrialRecord
from evaluator.sampling import Sampler
from mitigations.bpf import Filter
from mitigations.candidate import Candidate, FailedCandidate

_WHY = "simulated: nothing was run"


def simulate(plan: Plan, on_progress: Callable[[Progress], None]) -> Iterator[CandidateResult]:
    """The candidates' predicted results, one by one, in their order."""
    sampler = Sampler(plan.suite)
    assembled = Assembling()
    runs: dict[object, CandidateRun] = {}
    for done, candidate in enumerate(plan.candidates):
        on_progress(Progress(candidate.name, done, len(plan.candidates)))
        if isinstance(candidate, FailedCandidate):
            yield failed(candidate, plan)
            continue
        key = sameness(candidate, plan)
        if key not in runs:
            runs[key] = _run(candidate, plan, sampler)
        yield assembled(_as_seen(runs[key], candidate, plan), plan)


def _as_seen(run: CandidateRun, candidate: Candidate, plan: Plan) -> CandidateRun:
    """A run of an equal candidate as this one's."""
    stance = posture(candidate.posture or plan.posture)
    return replace(run, candidate=candidate, posture=stance.name)


def _run(candidate: Candidate, plan: Plan, sampler: Sampler) -> CandidateRun:
    begin = time.monotonic()
    filters = tuple(Filter.decode(layer.program) for layer in candidate.seccomp)
    terms = Terms(
        filters,
        "",
        no_new_privs=False,
        syscall_insn=0,
        with_steps=plan.with_steps,
        others=() if candidate.seccomp_only else tuple(one.kind for one in candidate.layers),
    )
    trials: list[TrialRecord] = []
    stance = posture(candidate.posture or plan.posture)
    for family in plan.families:
        found = [_foreseen(one, terms, stance) for one in family.variants]
        more = _rewritten(family, found, plan, sampler, terms)
        trials += [*found, *(_foreseen(one, terms, stance) for one in more)]
    return CandidateRun(
        candidate=candidate,
        posture=stance.name,
        enforcement=Enforcement(enforced=False, reason=_WHY),
        starts=starts.foreseen(candidate, filters, stance),
        trials=tuple(trials),
        workloads=(),
        duration_s=time.monotonic() - begin,
        simulated=True,
    )


def _foreseen(variant: Variant, terms: Terms, stance: Posture) -> TrialRecord:
    """What the posture lacks by its definition needs no probe."""
    lacking = [
        need.value
        for need in sorted(variant.needs)
        if need.value in CAPABILITY_NUMBERS and need.value not in stance.capabilities
    ]
    unmet = "; ".join(f"capability: this posture does not have {one}" for one in lacking)
    return outcome.foresee(variant, terms, unmet)


def _rewritten(
    family: FamilyInstance,
    trials: list[TrialRecord],
    plan: Plan,
    sampler: Sampler,
    terms: Terms,
) -> list[Variant]:
    """What rewrites make of a family: all of it, or what a run would choose."""
    if plan.rewrites is Rewrites.ALL:
        return list(sampler.rewrite(family))
    said = judged(family, trials, plan, seccomp_only=terms.seccomp_only)
    return sampler.choose(family, terms) if said.worth_rewriting and terms.filters else []
