"""The results document: its records, and how the raw half becomes the whole.

The boundary with the campaign: for each candidate the campaign hands over one ``CandidateRun`` of
what it *saw* (trials, enforcement, starts, workloads, findings) and judges nothing.  ``assemble``
turns it into a ``CandidateResult`` of what that *means* (scope of each trial, families, verdicts,
scores, counts); ``failed`` does so for a candidate that could not be loaded.  ``document`` puts
the results of a run together as plain JSON values, in the order in which the fields stand here.
Field names are the keys of the document, which are a contract.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, assert_never

from msgspec import Struct, field, to_builtins
from msgspec.structs import replace

from attacks.effects import Grade
from attacks.family import Assumption, FamilyInstance, Technique
from evaluator.plan import Plan
from evaluator.posture import posture
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

SCHEMA = "sidestep.results/1"
PROFILE_TEXT_LIMIT = 64 * 1024
_PREDICTED = "prediction only: nothing was run; every way is taken to work without the candidate"


class StoppedAt(Struct, frozen=True):
    """The call that the candidate stopped, with the answer that it gave."""

    call: str
    abi: str
    answer: str
    """``EPERM``, ``0 (faked)``, ``SIGSYS (killed)``, ``SIGSYS (trapped)``, ``ENOSYS (no tracer)``.
    """
    decisive: bool
    layer: str = "seccomp"
    """The kind of the layer that stopped it."""


class Aftermath(Struct, frozen=True):
    """What an answer of the filters leaves behind: facts about the filters, not the machine."""

    survives: bool | None
    """Whether the process that made the call lives on; ``None`` if that is up to its program."""
    audited: bool | None
    """Whether the kernel is to write an audit record; ``None`` if nobody knows which filter spoke.
    """
    said: str
    """Both in words."""
    why: str
    """The action, and what follows from it."""


class StepRecord(Struct, frozen=True):
    """One operation in both arms; ``None`` where an arm did not reach it."""

    slot: int
    section: str
    text: str
    abi: str
    decisive: bool
    control: str | None
    mitigated: str | None
    filter: str | None
    """``None`` where it is no call, or was not judged."""


class TrialRecord(Struct, frozen=True):
    """One variant under one candidate; ``scope`` is filled in by ``assemble``."""

    variant: str
    family: str
    """The instance as the user wrote it: ``change-mode[bits=04000]``."""
    title: str
    """The decisive operation as text."""
    technique: Technique
    assumption: Assumption
    grade: Grade
    """What the variant promises; ``control_effect`` is what it reached."""
    outcome: Outcome
    control_effect: Grade | None
    mitigated_effect: Grade | None
    predicted: str | None
    """An outcome, ``DEPENDS``, or ``None`` for layers that cannot be simulated."""
    route: str
    stopped_at: StoppedAt | None = None
    aftermath: Aftermath | None = None
    """Of the call that was stopped, or of a decisive one that passed by LOG."""
    prerequisite_only: bool = False
    reason: str | None = None
    """Why it is neither BYPASSED nor BLOCKED: the probed cause."""
    agree: bool = True
    """All repeats had the same outcome."""
    repeats: int = 1
    latency_us: int = 0
    native: bool = True
    """The decisive operation goes through the machine's own system call table."""
    negative: bool = False
    derived_from: str = ""
    """The variant that a rewrite made this one of."""
    beyond_seccomp: bool = False
    reachable_elsewhere: bool = False
    """UNSUPPORTED here, and the filter would allow the decisive call on a kernel that has it."""
    scope: Scope = Scope.IN
    why: str = ""
    references: tuple[str, ...] = ()
    length: int = 0
    """The number of operations."""
    steps: tuple[StepRecord, ...] = ()
    """All of them, if the plan wanted that."""


class GroundTruth(Struct, frozen=True):
    """What the kernel says of the subject, as a difference to the control."""

    seccomp_mode: int | None = None
    seccomp_filters: int | None = None
    no_new_privs: bool | None = None
    read_back: str | None = None
    """``identical``, ``different``, or why it could not be read."""
    capabilities: Mapping[str, str] = field(default_factory=dict[str, str])
    """The sets of /proc/PID/status that differ from the control's: ``CapBnd`` and so on."""
    apparmor: str = ""
    landlock_abi: int | None = None
    """None where the candidate has no ruleset, as for the next one."""
    landlock_rulesets: int | None = None
    """Those in force beyond the control's, counted by how many more the kernel takes."""


class Enforcement(Struct, frozen=True):
    """Whether every layer is in force; ``reason`` says which one is not, and why."""

    enforced: bool
    ground_truth: GroundTruth = GroundTruth()
    reason: str = ""


class Starts(Struct, frozen=True):
    """Four parts of starting under the candidate; ``None`` where it was not tried."""

    loads: bool | None = None
    runtime: bool | None = None
    static: bool | None = None
    dynamic: bool | None = None
    reason: str = ""
    """The first call that stops it."""

    @property
    def ok(self) -> bool | None:
        """False if nothing can run: not even one of the two kinds of entry point."""
        if self.loads is False or self.runtime is False:
            return False
        entries = [entry for entry in (self.static, self.dynamic) if entry is not None]
        if entries:
            return any(entries)
        return self.loads


class WorkloadOutcome(StrEnum):
    """What both arms of an honest program say together."""

    WORKS = "works"
    BROKEN = "broken"
    """It works without the candidate, and not with it: tried twice."""
    UNAVAILABLE = "unavailable"
    """It does not run here at all; the reason names what is not installed."""
    UNSTABLE = "unstable"
    """Equal runs ended differently, so nothing is known."""


class WorkloadRecord(Struct, frozen=True):
    """An honest program under a candidate."""

    workload: str
    title: str
    works: bool
    """Under the candidate."""
    works_in_control: bool
    """Without the candidate; False as well where equal runs ended differently."""
    reason: str | None = None
    output: str = ""
    outcome: WorkloadOutcome = WorkloadOutcome.UNAVAILABLE
    denied: tuple[StoppedAt, ...] = ()
    """Where it is broken: what it was denied, each call once, in order."""
    needs: tuple[StoppedAt, ...] = ()
    """Proved: with these calls allowed it works, and without any of them it does not."""


class SearchRecord(Struct, frozen=True):
    """A search for a way that nobody recorded, in one family that was held until then."""

    seconds: float
    built: int
    """Programs."""
    run: int
    """Those of them that were run."""
    routes: int
    """Distinct ones."""
    ended: str
    found: tuple[str, ...]
    """Variants among the trials."""


class CauseKind(StrEnum):
    """What lets a variant through."""

    DEFAULT_ALLOWS = "default-allows"
    RULE_ALLOWS = "rule-allows"
    FILTER_ALLOWS = "filter-allows"
    ARCHITECTURE_NOT_JUDGED = "architecture-not-judged"
    CONDITION_MISSES = "condition-misses"
    UPPER_HALF = "upper-half"
    NAME_UNKNOWN = "name-unknown-to-libseccomp"
    MULTIPLEXER = "multiplexer"
    NO_CALL = "no-call"
    ASKS_SUPERVISOR = "asks-supervisor"
    DEATH_IS_EFFECT = "death-is-effect"
    NEVER_FILTERED = "never-filtered"
    NO_FILTER = "no-filter"


class Cause(Struct, frozen=True):
    """What lets some variants of a family through, and the one line that closes them."""

    variants: tuple[str, ...]
    """The shortest first."""
    kind: CauseKind
    call: str
    """``x86_64:mkdirat``: the decisive call, or the one before it that would have to be denied."""
    where: str
    """JSON path of the rule that lets it through, or of the list in which one is missing."""
    said: str
    """One sentence without a full stop."""
    fix: str
    """Proved: with this change the filters deny each of the variants.  Empty if none is known."""
    breaks: str = ""
    """What ordinary programs do that the fix denies as well."""


class CandidateRun(Struct, frozen=True):
    """What the campaign saw of one candidate."""

    candidate: Candidate
    posture: str
    enforcement: Enforcement
    starts: Starts
    trials: tuple[TrialRecord, ...]
    workloads: tuple[WorkloadRecord, ...]
    duration_s: float
    warnings: tuple[Finding, ...] = ()
    """Findings of the run, beside those that the candidate was loaded with."""
    notes: tuple[str, ...] = ()
    simulated: bool = False
    """Nothing was run: all that is known are predictions."""
    searched: Mapping[str, SearchRecord] = field(default_factory=dict[str, SearchRecord])
    """By family."""
    causes: tuple[tuple[Profile | None, tuple[Cause, ...]], ...] = ()
    """By the source: equal filters may be made of several."""
    shown: tuple[tuple[str, str], ...] = ()
    """Witnesses of findings, each with a variant whose trial showed it."""


class RouteCount(Struct, frozen=True):
    working: int
    blocked: int


class AftermathCount(Struct, frozen=True):
    """So many trials of one outcome that left the same behind."""

    outcome: Outcome
    trials: int
    survives: bool | None
    audited: bool | None
    said: str


class FamilyRecord(Struct, frozen=True):
    """One family under one candidate; all counts are of trials in scope."""

    family: str
    title: str
    attack_technique: str
    baseline: str
    verdict: Verdict
    targeted: bool
    working: int
    """Variants that work in the control arm."""
    blocked: int
    bypassed: int
    bypasses: tuple[str, ...]
    """The shortest first."""
    beside: tuple[str, ...]
    """Out of scope and through all the same."""
    reachable_elsewhere: tuple[str, ...]
    undecided: tuple[str, ...]
    untestable: int
    techniques: tuple[Technique, ...]
    routes: RouteCount
    by_technique: Mapping[Technique, RouteCount]
    """Routes, technique by technique: what the score is the mean of."""
    shortest_bypass: str | None
    summary: str
    reason: str
    search: SearchRecord | None = None
    """None if nobody searched."""
    causes: tuple[Cause, ...] = ()
    """What lets the bypasses through, that of the shortest first."""
    aftermaths: tuple[AftermathCount, ...] = ()
    """What blocks leave behind, and bypasses that are logged; the most frequent first."""
    stopped_by: Mapping[str, int] = field(default_factory=dict[str, int])
    """Blocked trials in scope by the kind of layer that stopped each."""


class Problem(Struct, frozen=True):
    """Why a candidate is invalid: one line, and the JSON path or line that it is about."""

    message: str
    where: str
    code: str


class LayerRecord(Struct, frozen=True):
    kind: str
    instructions: int = 0
    flags: tuple[str, ...] = ()
    said: str = ""
    """What it denies or leaves, for a layer that is no filter."""


class CandidateResult(Struct, frozen=True):
    """One candidate, judged."""

    name: str
    source: str
    valid: bool
    errors: tuple[Problem, ...]
    enforced: bool
    starts: Starts
    posture: str
    runtime_model: str
    attachment: str
    meaning: str
    default_action: str
    intent: str
    digest: str
    instructions: int
    layers: tuple[LayerRecord, ...]
    ground_truth: GroundTruth
    warnings: tuple[Finding, ...]
    notes: tuple[str, ...]
    robustness: float | None
    held: int
    targeted: int
    routes: float | None
    routes_blocked: int
    routes_working: int
    """Those of targeted families; ``routes`` is a mean of means over them."""
    utility: float | None
    works: int
    works_in_control: int
    counted: Mapping[str, str]
    """By the name of a score ``2 of 3``, or why it is ``None``."""
    counts: Mapping[Outcome, int]
    """Trials by outcome, whatever their scope; negative controls are not among them."""
    duration_s: float
    families: tuple[FamilyRecord, ...]
    workloads: tuple[WorkloadRecord, ...]
    trials: tuple[TrialRecord, ...]
    profile_text: str
    simulated: bool = False
    """Nothing was run: verdicts and counts are of predictions, as if every way worked here."""


class Probe(Struct, frozen=True):
    """One question to this machine; ``meaning`` says what the answer costs or allows."""

    name: str
    value: str
    meaning: str
    ok: bool


class AuditLog(Struct, frozen=True):
    """Whether this machine writes the records that filters ask for."""

    kept: bool | None = None
    """False if the kernel has none, or it was switched off at boot; ``None`` if nobody knows."""
    actions_logged: tuple[str, ...] | None = None
    """/proc/sys/kernel/seccomp/actions_logged; ``None`` if it cannot be read."""
    said: str = ""
    """What is not recorded here, whatever a filter asks for; empty if nothing is known of that."""


class Environment(Struct, frozen=True):
    """Where a run took place; ``ambient`` is the confinement that was there before we came."""

    kernel: str
    arch: str
    libseccomp: str
    isolation: str
    lsm: tuple[str, ...]
    ambient: Mapping[str, str]
    user: str
    """``root`` or ``uid 1000``."""
    id_map: int
    """How many ids the sandbox maps."""
    probes: tuple[Probe, ...]
    audit_log: AuditLog = AuditLog()


class FamilyCheck(Struct, frozen=True):
    """One family: how many of its variants reach the effect, and what becomes of the others."""

    family: str
    title: str
    group: str
    variants: int
    """Without negative controls and what rewrites made."""
    works: int
    derived: int
    derived_works: int
    negative: int
    mechanisms: int
    unsupported: dict[str, str] = field(default_factory=dict[str, str])
    """By variant, the probed reason."""
    derived_unsupported: dict[str, str] = field(default_factory=dict[str, str])
    """The same of what rewrites made."""
    faults: dict[str, str] = field(default_factory=dict[str, str])


class Tool(Struct, frozen=True):
    name: str
    version: str


class Run(Struct, frozen=True):
    """The whole document but its first key."""

    tool: Tool
    started: str
    duration_s: float
    exit_code: int
    arguments: tuple[str, ...]
    environment: Environment
    suite: str
    objective: str | None
    assume: tuple[Assumption, ...]
    gates: tuple[Gate, ...]
    candidates: tuple[CandidateResult, ...]
    simulated: bool = False


def document(run: Run) -> dict[str, Any]:
    """The results document as ``json`` writes it, its keys in the order of the fields.

    Candidates that share their trials share them here as well.
    """
    shared: dict[tuple[int, int], tuple[Any, Any]] = {}
    found: list[dict[str, Any]] = []
    for one in run.candidates:
        key = id(one.trials), id(one.families)
        if key not in shared:
            shared[key] = plain(one.trials), plain(one.families)
        trials, families = shared[key]
        slim = plain(replace(one, trials=(), families=()))
        found.append({**slim, "families": families, "trials": trials})
    rest = plain(replace(run, candidates=()))
    return {"schema": SCHEMA, **rest, "candidates": found}


def plain(value: Any) -> Any:
    """Records, and what holds them, in types that ``json`` knows."""
    return to_builtins(value, str_keys=True)


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
