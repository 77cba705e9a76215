"""From what was seen of a candidate to what it means: scope of each trial, families, scores, gates.

``assemble`` turns a ``CandidateRun`` into a ``CandidateResult``; ``failed`` does so for a candidate
that could not be loaded.  Nothing here runs anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import assert_never

from msgspec.structs import replace

from attacks.effects import Grade
from attacks.family import Assumption, FamilyInstance
from evaluator.plan import Plan
from evaluator.posture import posture
from evaluator.records import (
    PROFILE_TEXT_LIMIT,
    AftermathCount,
    CandidateResult,
    CandidateRun,
    Cause,
    FamilyRecord,
    GroundTruth,
    LayerRecord,
    Problem,
    RouteCount,
    SearchRecord,
    Starts,
    TrialRecord,
    WorkloadOutcome,
    WorkloadRecord,
)
from evaluator.verdict import (
    SCORES,
    ExitCode,
    FailOn,
    Gate,
    Judgement,
    Outcome,
    Ratio,
    Scope,
    TrialFacts,
    Verdict,
    exit_code,
    gate_fail_on,
    gate_families,
    gate_workloads,
    judge,
    scope,
    score,
)
from mitigations.candidate import (
    AppArmorLayer,
    Attachment,
    Candidate,
    CapabilitiesLayer,
    FailedCandidate,
    Finding,
    LandlockLayer,
    Layer,
    NoNewPrivsLayer,
    ReadOnlyRootLayer,
    SeccompLayer,
)
from mitigations.landlock_rights import denies
from mitigations.rules import Profile

_PREDICTED = "prediction only: nothing was run; every way is taken to work without the candidate"


def facts(trial: TrialRecord) -> TrialFacts:
    """What a verdict may know about a trial.

    Where the control reached less than the variant promises, the lesser grade counts.  A
    prediction stands for an outcome where nothing was run.
    """
    lesser = trial.control_effect is Grade.EQUIVALENT
    return TrialFacts(
        variant=trial.variant,
        technique=trial.technique,
        outcome=_outcome(trial),
        route=trial.route,
        assumption=trial.assumption,
        grade=Grade.EQUIVALENT if lesser else trial.grade,
        native=trial.native,
        beyond_seccomp=trial.beyond_seccomp,
        negative=trial.negative,
        derived=bool(trial.derived_from),
        stable=trial.agree,
        prerequisite_only=trial.prerequisite_only,
        reachable_elsewhere=trial.reachable_elsewhere,
        length=trial.length,
    )


def _outcome(trial: TrialRecord) -> Outcome:
    if trial.outcome is Outcome.SIMULATED and trial.predicted in ("BYPASSED", "BLOCKED"):
        return Outcome(trial.predicted)
    return trial.outcome


def counts(trial: TrialRecord, plan: Plan, candidate: Candidate) -> bool:
    """Whether a trial of a candidate takes part in the verdict."""
    assume = with_assumptions(plan, candidate).assume
    return scope(facts(trial), assume, seccomp_only=candidate.seccomp_only) is Scope.IN


def with_assumptions(plan: Plan, candidate: Candidate) -> Plan:
    """The plan with what an attacker has anyway, by the way the candidate is deployed."""
    brought = {Assumption(one) for one in candidate.assumes}
    return replace(plan, assume=plan.assume | brought) if brought - plan.assume else plan


class Assembling:
    """``assemble`` for a whole run: what one run says of several candidates is made once."""

    def __init__(self) -> None:
        self._made: dict[int, list[tuple[Profile | None, CandidateRun, CandidateResult]]] = {}

    def __call__(self, run: CandidateRun, plan: Plan) -> CandidateResult:
        candidate = run.candidate
        made = self._made.setdefault(id(run.trials), [])
        for profile, _, first in made:
            if profile == candidate.profile:
                return _likewise(first, run, plan)
        found = assemble(run, plan)
        made.append((candidate.profile, run, found))  # with the run, whose trials must stay
        return found


def _likewise(first: CandidateResult, run: CandidateRun, plan: Plan) -> CandidateResult:
    """The result of a candidate that consists of the same, and was seen in the same run."""
    candidate = run.candidate
    return replace(
        first,
        name=candidate.name,
        source=candidate.source,
        meaning=candidate.meaning,
        default_action=candidate.default_action,
        intent=candidate.intent,
        warnings=(*_confirmed(candidate.warnings, run, first.trials), *run.warnings),
        notes=_notes(run),
        profile_text=plan.sources.get(candidate.source, "")[:PROFILE_TEXT_LIMIT],
    )


def assemble(run: CandidateRun, plan: Plan) -> CandidateResult:
    """What a candidate's trials mean."""
    candidate = run.candidate
    plan = with_assumptions(plan, candidate)
    layers = tuple(_layer_record(one) for one in candidate.layers)
    seccomp_only = candidate.seccomp_only
    trials = tuple(
        replace(one, scope=scope(facts(one), plan.assume, seccomp_only=seccomp_only))
        for one in run.trials
    )
    of_family: dict[str, list[TrialRecord]] = {one.label: [] for one in plan.families}
    for trial in trials:
        of_family[trial.family].append(trial)
    verdicts = {
        one.label: judged(
            one,
            of_family[one.label],
            plan,
            seccomp_only=seccomp_only,
            search=run.searched.get(one.label),
        )
        for one in plan.families
    }
    causes = [one for made_of, some in run.causes if made_of == candidate.profile for one in some]
    families = tuple(
        _family_record(one, verdicts[one.label], run, causes, of_family[one.label])
        for one in plan.families
    )
    scores = score(
        verdicts.values(),
        workloads=_working(run.workloads),
        ran=bool(run.workloads),
        starts=run.starts.ok if candidate.attachment is Attachment.RUNTIME else None,
    )
    return CandidateResult(
        name=candidate.name,
        source=candidate.source,
        valid=True,
        errors=(),
        enforced=run.enforcement.enforced,
        starts=run.starts,
        posture=run.posture,
        runtime_model=candidate.runtime_model,
        attachment=str(candidate.attachment),
        meaning=candidate.meaning,
        default_action=candidate.default_action,
        intent=candidate.intent,
        digest=candidate.digest,
        instructions=sum(len(one.program) // 8 for one in candidate.seccomp),
        layers=layers,
        ground_truth=run.enforcement.ground_truth,
        warnings=(*_confirmed(candidate.warnings, run, trials), *run.warnings),
        notes=_notes(run),
        robustness=_rounded(scores.robustness),
        held=scores.held.part,
        targeted=scores.held.whole,
        routes=_rounded(scores.routes),
        routes_blocked=scores.closed.part,
        routes_working=scores.closed.whole,
        utility=_rounded(scores.utility),
        works=scores.workloads.part,
        works_in_control=scores.workloads.whole,
        counted=scores.counted,
        counts=_counts(trials),
        duration_s=round(run.duration_s, 6),
        families=families,
        workloads=run.workloads,
        trials=trials,
        profile_text=plan.sources.get(candidate.source, "")[:PROFILE_TEXT_LIMIT],
        simulated=run.simulated,
    )


def _notes(run: CandidateRun) -> tuple[str, ...]:
    reason = run.enforcement.reason
    notes = (*run.candidate.notes, *run.notes)
    if run.simulated:
        return (_PREDICTED, *notes)
    return (f"not in force: {reason}", *notes) if reason else notes


def _confirmed(
    warnings: Iterable[Finding], run: CandidateRun, trials: Iterable[TrialRecord]
) -> Iterable[Finding]:
    """The findings, each with the shortest variant that showed it."""
    lengths = {one.variant: one.length for one in trials}
    by_witness: dict[str, list[str]] = {}
    for witness, variant in run.shown:
        by_witness.setdefault(witness, []).append(variant)
    for one in warnings:
        found = by_witness.get(one.witness, [])
        shortest = min(found, key=lambda name: (lengths[name], name), default="")
        yield replace(one, confirmed_by=shortest) if shortest else one


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def judged(
    family: FamilyInstance,
    trials: Iterable[TrialRecord],
    plan: Plan,
    *,
    seccomp_only: bool,
    search: SearchRecord | None = None,
) -> Judgement:
    """The verdict on one family from the trials of it among ``trials``."""
    goal = plan.objective
    return judge(
        [facts(one) for one in trials if one.family == family.label],
        assume=plan.assume,
        seccomp_only=seccomp_only,
        named=None if goal is None else family.label in goal.families,
        search_s=search.seconds if search else 0.0,
    )


def failed(candidate: FailedCandidate, plan: Plan) -> CandidateResult:
    """The result of a candidate that could not be loaded."""
    error = candidate.error
    return CandidateResult(
        name=candidate.name,
        source=candidate.source,
        valid=False,
        errors=(Problem(error.message, error.where, error.code),),
        enforced=False,
        starts=Starts(),
        posture=posture(plan.posture).name,
        runtime_model="",
        attachment="",
        meaning="",
        default_action="",
        intent="",
        digest="",
        instructions=0,
        layers=(),
        ground_truth=GroundTruth(),
        warnings=(),
        notes=(),
        robustness=None,
        held=0,
        targeted=0,
        routes=None,
        routes_blocked=0,
        routes_working=0,
        utility=None,
        works=0,
        works_in_control=0,
        counted=dict.fromkeys(SCORES, "cannot be used"),
        counts={},
        duration_s=0.0,
        families=(),
        workloads=(),
        trials=(),
        profile_text=plan.sources.get(candidate.source, "")[:PROFILE_TEXT_LIMIT],
    )


def _layer_record(layer: Layer) -> LayerRecord:
    match layer:
        case SeccompLayer():
            return LayerRecord(layer.kind, len(layer.program) // 8, layer.flags)
        case CapabilitiesLayer():
            kept = ", ".join(sorted(layer.kept)) or "nothing"
            return LayerRecord(layer.kind, said=f"keeps {kept}")
        case LandlockLayer():
            rules = len(layer.path_rules) + len(layer.port_rules)
            denied = ", ".join(denies(layer)) or "nothing"
            return LayerRecord(layer.kind, said=f"denies {denied}; {rules} rules allow")
        case AppArmorLayer():
            return LayerRecord(layer.kind, said=f"profile {layer.profile}")
        case ReadOnlyRootLayer():
            writable = ", ".join(layer.writable)
            return LayerRecord(layer.kind, said=f"but {writable}" if writable else "")
        case NoNewPrivsLayer():
            return LayerRecord(layer.kind)
        case _:
            assert_never(layer)


def _family_record(
    family: FamilyInstance,
    judgement: Judgement,
    run: CandidateRun,
    causes: Iterable[Cause],
    trials: Sequence[TrialRecord],
) -> FamilyRecord:
    return FamilyRecord(
        family=family.label,
        title=family.family.title,
        attack_technique=family.family.attack_technique,
        baseline=family.baseline_id,
        verdict=judgement.verdict,
        targeted=judgement.targeted,
        working=judgement.working,
        blocked=judgement.blocked,
        bypassed=len(judgement.bypasses),
        bypasses=judgement.bypasses,
        beside=judgement.beside,
        reachable_elsewhere=judgement.reachable_elsewhere,
        undecided=judgement.undecided,
        untestable=judgement.untestable,
        techniques=tuple(judgement.by_technique),
        routes=_route_count(judgement.routes),
        by_technique={name: _route_count(one) for name, one in judgement.by_technique.items()},
        shortest_bypass=judgement.bypasses[0] if judgement.bypasses else None,
        summary=("Predicted: " if run.simulated else "") + summarise(family.label, judgement),
        reason=judgement.reason,
        search=run.searched.get(family.label),
        causes=_causes(judgement.bypasses, causes),
        aftermaths=aftermaths(trials),
        stopped_by=_stopped_by(trials),
    )


def _stopped_by(trials: Iterable[TrialRecord]) -> dict[str, int]:
    layers = (
        one.stopped_at.layer
        for one in trials
        if one.outcome is Outcome.BLOCKED
        and one.stopped_at is not None
        and one.scope is Scope.IN
        and one.agree
    )
    return dict(Counter(layers).most_common())


def aftermaths(trials: Iterable[TrialRecord]) -> tuple[AftermathCount, ...]:
    """What trials in scope left behind, the most frequent first."""
    found = Counter(
        (one.outcome, one.aftermath.survives, one.aftermath.audited, one.aftermath.said)
        for one in trials
        if one.aftermath is not None and one.scope is Scope.IN and one.agree
    )
    return tuple(
        AftermathCount(outcome, count, survives, audited, said)
        for (outcome, survives, audited, said), count in found.most_common()
    )


def _causes(bypasses: Sequence[str], causes: Iterable[Cause]) -> tuple[Cause, ...]:
    """Those of the bypasses, as they were found in one or several parts of the family."""
    place = {variant: n for n, variant in enumerate(bypasses)}
    merged: dict[Cause, list[str]] = {}
    for one in causes:
        if place.keys().isdisjoint(one.variants):  # most are of other families
            continue
        mine = [variant for variant in one.variants if variant in place]
        merged.setdefault(replace(one, variants=()), []).extend(mine)
    found = [
        replace(one, variants=tuple(sorted(variants, key=place.__getitem__)))
        for one, variants in merged.items()
    ]
    return tuple(sorted(found, key=lambda one: place[one.variants[0]]))


def _route_count(ratio: Ratio) -> RouteCount:
    return RouteCount(working=ratio.whole, blocked=ratio.part)


def summarise(family: str, judgement: Judgement) -> str:
    """One sentence on a family for a reader who has seen nothing else."""
    reason = judgement.reason
    match judgement.verdict:
        case Verdict.LEAKY:
            shortest = judgement.bypasses[0]
            return f"{family} leaks: {reason}; the shortest way through is {shortest}."
        case Verdict.OPEN:
            return f"{family} is open: {reason}."
        case Verdict.UNDECIDED:
            return f"{family} is undecided: {reason}."
        case Verdict.NOT_ENFORCED:
            return f"{family} says nothing about the candidate: {reason}."
        case Verdict.HELD:
            return f"{family} is held: {reason}."
        case Verdict.HELD_HERE:
            return f"{family} is held on this machine, not on every kernel: {reason}."
        case Verdict.UNTESTED:
            return f"{family} is untested: {reason}."


def _working(workloads: Iterable[WorkloadRecord]) -> Ratio:
    """Workloads that work, of those that work without the candidate."""
    fair = [one for one in workloads if one.works_in_control]
    return Ratio(sum(one.works for one in fair), len(fair))


def _counts(trials: Iterable[TrialRecord]) -> dict[Outcome, int]:
    counted = [one.outcome for one in trials if not one.negative]
    return {outcome: counted.count(outcome) for outcome in Outcome if outcome in counted}


def gates(
    results: Iterable[CandidateResult],
    *,
    families: Collection[str],
    workloads: Collection[str],
    fail_on: Collection[FailOn],
) -> tuple[Gate, ...]:
    """The gates of a run; ``families`` and ``workloads`` are those that somebody named."""
    found: list[Gate] = []
    for result in results:
        if not result.valid:
            continue
        verdicts = {one.family: one.verdict for one in result.families}
        works = {one.workload: one.works for one in result.workloads}
        found += gate_families(
            result.name, verdicts, families, waived={}, simulated=result.simulated
        )
        found += gate_workloads(result.name, works, workloads)
        found += gate_fail_on(result.name, verdicts, broken_workloads(result), fail_on)
    return tuple(found)


def broken_workloads(result: CandidateResult) -> list[str]:
    """What the candidate breaks: workloads, and the start itself."""
    bad = (WorkloadOutcome.BROKEN, WorkloadOutcome.UNSTABLE)  # what is not known fails, too
    broken = [one.workload for one in result.workloads if one.outcome in bad]
    if result.attachment == Attachment.RUNTIME and result.starts.ok is False:
        return ["start", *broken]
    return broken


def run_exit_code(results: Sequence[CandidateResult], gates: Iterable[Gate]) -> ExitCode:
    """The exit code of a run that came to its end."""
    return exit_code(
        gates,
        wrong_input=any(not one.valid for one in results),
        lacking=any(one.valid and not one.enforced and not one.simulated for one in results),
        harness_failed=any(_harness_failed(one) for one in results),
    )


def _harness_failed(result: CandidateResult) -> bool:
    broken = {Outcome.HARNESS_ERROR, Outcome.DISAGREEMENT}
    truth = result.ground_truth
    ours = sum(one.kind == "seccomp" for one in result.layers)
    # A filter that keeps the next one from being loaded is the candidate's fault, not ours.
    different = truth.read_back == "different" and truth.seccomp_filters == ours
    return different or not broken.isdisjoint(result.counts)
