"""The results document: its records, which are what a run saw and what that means.

The campaign hands over one ``CandidateRun`` of what it *saw* (trials, enforcement, starts,
workloads, findings) for each candidate and judges nothing; ``evaluator.assemble`` turns it into a
``CandidateResult`` of what that *means*.  ``document`` puts the results of a run together as plain
JSON values, in the order in which the fields stand here.  Field names are the keys of the
document, which are a contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field, to_builtins
from msgspec.structs import replace

from attacks.effects import Grade
from attacks.family import Assumption, Technique
from evaluator.verdict import Gate, Outcome, Scope, Verdict
from mitigations.candidate import Candidate, Finding
from mitigations.rules import Profile

SCHEMA = "sidestep.results/1"
PROFILE_TEXT_LIMIT = 64 * 1024


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
