"""What the outcomes of trials mean: scope, verdicts, scores and gates, as pure functions.

A verdict is about one family under one candidate.  It is a total function of the outcomes *in
scope* and of whether the family is targeted; ``decide`` holds its order and nothing else does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import IntEnum, StrEnum

from msgspec import Struct

from attacks.effects import Grade
from attacks.family import Assumption, Technique


class Outcome(StrEnum):
    """What one pair of arms, control and mitigated, showed."""

    BYPASSED = "BYPASSED"
    BLOCKED = "BLOCKED"
    INEFFECTIVE = "INEFFECTIVE"
    UNSUPPORTED = "UNSUPPORTED"
    NOT_ENFORCED = "NOT_ENFORCED"
    DISAGREEMENT = "DISAGREEMENT"
    HARNESS_ERROR = "HARNESS_ERROR"
    SIMULATED = "SIMULATED"
    """Nothing ran: there is a prediction and no evidence."""


class Verdict(StrEnum):
    """What the outcomes say about one family, worst news first."""

    LEAKY = "leaky"
    OPEN = "open"
    UNDECIDED = "undecided"
    NOT_ENFORCED = "not-enforced"
    HELD_HERE = "held here"
    HELD = "held"
    UNTESTED = "untested"


class Scope(StrEnum):
    """Why a trial does, or does not, take part in a verdict."""

    IN = "in"
    ASSUMPTION = "assumption"
    GRADE = "grade"
    BEYOND_SECCOMP = "beyond-seccomp"
    NEGATIVE_CONTROL = "negative-control"


class FailOn(StrEnum):
    """The gates that a user can ask for."""

    LEAKY = "leaky"
    UNDECIDED = "undecided"
    REACHABLE_ELSEWHERE = "reachable-elsewhere"
    BROKEN_WORKLOAD = "broken-workload"


class ExitCode(IntEnum):
    """How a run ends; the highest that applies wins."""

    DONE = 0
    """All was done, and every gate that was asked for passed."""
    GATE_FAILED = 1
    """A gate failed: something asked for does not hold, or a program is broken."""
    WRONG_INPUT = 2
    """Some input is wrong: one line says what, where and what to do."""
    LACKING = 3
    """This machine cannot do it; ``sidestep doctor`` says what is missing."""
    HARNESS_FAILED = 4
    """We broke, or simulator and kernel disagreed: believe nothing of it."""


UNSETTLED = frozenset(
    {Outcome.INEFFECTIVE, Outcome.HARNESS_ERROR, Outcome.DISAGREEMENT, Outcome.SIMULATED}
)
WORKS_IN_CONTROL = frozenset({Outcome.BYPASSED, Outcome.BLOCKED, Outcome.INEFFECTIVE})
HOLDING = frozenset({Verdict.HELD, Verdict.HELD_HERE})
SCORES: tuple[str, ...] = ("robustness", "routes", "utility")


class TrialFacts(Struct, frozen=True):
    """All that a verdict may know about one trial."""

    variant: str
    technique: Technique
    outcome: Outcome
    route: str
    assumption: Assumption = Assumption.NONE
    grade: Grade = Grade.EXACT
    native: bool = True
    """The decisive operation goes through the machine's own system call table."""
    beyond_seccomp: bool = False
    negative: bool = False
    derived: bool = False
    """A rewrite made it of another variant."""
    stable: bool = True
    """All repeats agreed."""
    prerequisite_only: bool = False
    reachable_elsewhere: bool = False
    """UNSUPPORTED here, and the filter would allow the decisive call on a kernel that has it."""
    length: int = 0
    """How many operations the program has."""

    @property
    def bypassed(self) -> bool:
        """One success is enough, whatever the other repeats said."""
        return self.outcome is Outcome.BYPASSED

    @property
    def blocked(self) -> bool:
        return self.outcome is Outcome.BLOCKED and self.stable

    @property
    def unsettled(self) -> bool:
        return self.outcome in UNSETTLED or not (self.stable or self.bypassed)


class Ratio(Struct, frozen=True):
    """So many of so many; never shown without both."""

    part: int
    whole: int

    @property
    def value(self) -> float | None:
        return self.part / self.whole if self.whole else None

    def __str__(self) -> str:
        return f"{self.part} of {self.whole}"


class Judgement(Struct, frozen=True):
    """The verdict on one family, with its evidence."""

    verdict: Verdict
    targeted: bool
    working: int
    blocked: int
    bypasses: tuple[str, ...]
    """Variants in scope that get through, the shortest first."""
    beside: tuple[str, ...]
    """Variants out of scope that get through: shown, never counted."""
    undecided: tuple[str, ...]
    reachable_elsewhere: tuple[str, ...]
    untestable: int
    routes: Ratio
    """Blocked routes of working routes."""
    by_technique: Mapping[Technique, Ratio]
    """The same, technique by technique."""
    reason: str

    @property
    def worth_rewriting(self) -> bool:
        """Whether somebody meant to stop the effect, or it would be said to be held by chance."""
        return self.targeted or self.verdict in HOLDING


class Scores(Struct, frozen=True):
    """Both axes with their counts; ``None`` where there is nothing to divide."""

    robustness: float | None
    held: Ratio
    routes: float | None
    closed: Ratio
    """Blocked routes of working routes in targeted families."""
    utility: float | None
    workloads: Ratio
    counted: Mapping[str, str]
    """By the name of a score ``2 of 3``, or why it is ``None``."""


class Gate(Struct, frozen=True):
    """One condition on one candidate."""

    candidate: str
    gate: str
    ok: bool
    message: str


def scope(trial: TrialFacts, assume: Collection[Assumption], *, seccomp_only: bool) -> Scope:
    """Whether a trial takes part in a verdict; what a user can lift is asked last."""
    if trial.negative:
        return Scope.NEGATIVE_CONTROL
    if trial.grade is not Grade.EXACT:
        return Scope.GRADE
    if trial.beyond_seccomp and seccomp_only:
        return Scope.BEYOND_SECCOMP
    if trial.assumption is not Assumption.NONE and trial.assumption not in assume:
        return Scope.ASSUMPTION
    return Scope.IN


def is_targeted(in_scope: Iterable[TrialFacts], *, named: bool | None) -> bool:
    """Whether somebody meant to stop this family.

    ``named`` says whether the objective names it; it is ``None`` where there is no objective,
    and then a blocked baseline, or a blocked direct native sibling of it, gives the intention away.
    """
    if named is not None:
        return named
    return any(trial.blocked and _is_direct(trial) for trial in in_scope)


def _hides_intention(trial: TrialFacts) -> bool:
    """Whether only a run could tell that somebody meant to stop this."""
    return trial.outcome is Outcome.SIMULATED and _is_direct(trial)


def _is_direct(trial: TrialFacts) -> bool:
    if trial.derived:
        return False
    if trial.technique is Technique.BASELINE:
        return True
    return trial.technique is Technique.SIBLING_SYSCALL and trial.native


def decide(
    outcomes: Collection[Outcome],
    *,
    targeted: bool,
    unstable: bool = False,
    reachable_elsewhere: bool = False,
) -> Verdict:
    """The verdict for the outcomes in scope: the one place where the order is written down."""
    if Outcome.BYPASSED in outcomes:
        return Verdict.LEAKY if targeted and Outcome.BLOCKED in outcomes else Verdict.OPEN
    if unstable or UNSETTLED.intersection(outcomes):
        return Verdict.UNDECIDED
    if Outcome.NOT_ENFORCED in outcomes:
        return Verdict.NOT_ENFORCED
    if Outcome.BLOCKED in outcomes:
        return Verdict.HELD_HERE if reachable_elsewhere else Verdict.HELD
    return Verdict.UNTESTED


def judge(
    trials: Iterable[TrialFacts],
    *,
    assume: Collection[Assumption] = (),
    seccomp_only: bool = True,
    named: bool | None = None,
    search_s: float = 0.0,
) -> Judgement:
    """The verdict on one family from all of its trials under one candidate, in any order."""
    ordered = sorted(trials, key=lambda trial: (trial.length, trial.variant))
    scopes = [scope(trial, assume, seccomp_only=seccomp_only) for trial in ordered]
    inside = [trial for trial, where in zip(ordered, scopes, strict=True) if where is Scope.IN]
    beside = [
        trial.variant
        for trial, where in zip(ordered, scopes, strict=True)
        if trial.bypassed and where not in (Scope.IN, Scope.NEGATIVE_CONTROL)
    ]
    elsewhere = [
        trial.variant
        for trial in inside
        if trial.reachable_elsewhere and trial.outcome is Outcome.UNSUPPORTED
    ]
    targeted = is_targeted(inside, named=named)
    verdict = decide(
        {trial.outcome for trial in inside if trial.stable or trial.bypassed},
        targeted=targeted,
        unstable=any(trial.unsettled for trial in inside),
        reachable_elsewhere=bool(elsewhere),
    )
    if verdict is Verdict.OPEN and named is None and any(map(_hides_intention, inside)):
        verdict = Verdict.UNDECIDED
    return Judgement(
        verdict=verdict,
        targeted=targeted,
        working=sum(trial.outcome in WORKS_IN_CONTROL for trial in inside),
        blocked=sum(trial.blocked for trial in inside),
        bypasses=tuple(trial.variant for trial in inside if trial.bypassed),
        beside=tuple(beside),
        undecided=tuple(trial.variant for trial in inside if trial.unsettled),
        reachable_elsewhere=tuple(elsewhere),
        untestable=sum(trial.outcome is Outcome.UNSUPPORTED for trial in inside),
        routes=_ratio(_routes(inside)),
        by_technique=_routes_by_technique(inside),
        reason=_reason(verdict, inside, named=named, search_s=search_s),
    )


def _routes(inside: Iterable[TrialFacts]) -> dict[str, bool]:
    """Each working route, and whether it is blocked: whether all its working variants are."""
    routes: dict[str, bool] = {}
    for trial in inside:
        if trial.outcome in WORKS_IN_CONTROL:
            routes[trial.route] = routes.get(trial.route, True) and trial.blocked
    return routes


def _ratio(routes: Mapping[str, bool]) -> Ratio:
    return Ratio(sum(routes.values()), len(routes))


def _routes_by_technique(inside: Sequence[TrialFacts]) -> dict[Technique, Ratio]:
    """Two variants on one route are one way, within a technique as within the family."""
    routes = _routes(inside)
    ways: dict[Technique, dict[str, bool]] = {}
    for trial in inside:
        if trial.outcome in WORKS_IN_CONTROL:
            ways.setdefault(trial.technique, {})[trial.route] = routes[trial.route]
    return {technique: _ratio(ways[technique]) for technique in Technique if technique in ways}


def _reason(
    verdict: Verdict, inside: Sequence[TrialFacts], *, named: bool | None, search_s: float
) -> str:
    """Why this verdict, in one sentence without a full stop."""
    routes = _ratio(_routes(inside))
    through = routes.whole - routes.part
    match verdict:
        case Verdict.LEAKY:
            return f"{routes.part} of {_count(routes.whole, 'route')} stopped, {through} open"
        case Verdict.OPEN:
            return _open_reason(routes, named=named)
        case Verdict.UNDECIDED:
            return _undecided_reason(inside)
        case Verdict.NOT_ENFORCED:
            return "a layer of the candidate is not in force here"
        case Verdict.HELD | Verdict.HELD_HERE:
            return _evidence(inside, search_s)
        case Verdict.UNTESTED:
            count = len(inside)
            return f"none of {_count(count, 'way')} can be tried here" if count else "no way to try"


def _open_reason(routes: Ratio, *, named: bool | None) -> str:
    if named:
        return f"the objective names it and none of {_count(routes.whole, 'route')} is stopped"
    incidental = f"; {routes.part} of {_count(routes.whole, 'route')} stopped incidentally"
    why = (
        "neither the baseline nor a direct sibling is stopped"
        if named is None
        else "the objective does not name it"
    )
    return why + (incidental if routes.part else "")


def _undecided_reason(inside: Sequence[TrialFacts]) -> str:
    counts: dict[str, int] = {}
    for trial in inside:
        if trial.unsettled:
            word = trial.outcome if trial.outcome in UNSETTLED else "unstable"
            word = "known only in a run" if word is Outcome.SIMULATED else word
            counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))


def _evidence(inside: Sequence[TrialFacts], search_s: float) -> str:
    blocked = [trial for trial in inside if trial.blocked]
    routes = len({trial.route for trial in blocked})
    techniques = len({trial.technique for trial in blocked})
    parts = [f"{_count(routes, 'route')}, {_count(techniques, 'technique')} stopped"]
    prerequisite = sum(trial.prerequisite_only for trial in blocked)
    if prerequisite:
        parts.append(f"{prerequisite} of them only before the decisive call")
    untestable = sum(trial.outcome is Outcome.UNSUPPORTED for trial in inside)
    parts.append(f"{untestable} not testable here")
    elsewhere = sum(trial.reachable_elsewhere for trial in inside)
    if elsewhere:
        parts.append(f"{elsewhere} of these allowed elsewhere")
    parts.append(f"{round(search_s, 1):g} s of search")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def score(
    judgements: Collection[Judgement],
    *,
    workloads: Ratio,
    ran: bool = True,
    starts: bool | None = None,
) -> Scores:
    """The scores of a candidate; ``starts`` is False if its runtime cannot start anything.

    ``ran`` is whether any workload was run, be it one that does not work without the candidate.
    """
    targeted = [judgement for judgement in judgements if judgement.targeted]
    held = Ratio(sum(one.verdict in HOLDING for one in targeted), len(targeted))
    closed = Ratio(
        sum(one.routes.part for one in targeted), sum(one.routes.whole for one in targeted)
    )
    if starts is False:
        counted = dict.fromkeys(SCORES, "does not start")
        return Scores(None, held, None, closed, None, workloads, counted)
    return Scores(
        robustness=held.value,
        held=held,
        routes=_mean([mean for one in targeted if (mean := _technique_mean(one)) is not None]),
        closed=closed,
        utility=workloads.value,
        workloads=workloads,
        counted=_counted(held, closed, workloads, ran=ran),
    )


def _counted(held: Ratio, closed: Ratio, workloads: Ratio, *, ran: bool) -> dict[str, str]:
    """The counts of each score, or why there is nothing to divide."""
    aimless = "nothing targeted"
    reasons = (
        (held, aimless),
        (closed, "no way works here" if held.whole else aimless),
        (workloads, "no workload works without it" if ran else "no workload was run"),
    )
    return {
        name: str(one) if one.whole else why
        for name, (one, why) in zip(SCORES, reasons, strict=True)
    }


def _technique_mean(judgement: Judgement) -> float | None:
    return _mean([ratio.part / ratio.whole for ratio in judgement.by_technique.values()])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def gate_families(
    candidate: str,
    verdicts: Mapping[str, Verdict],
    named: Iterable[str],
    waived: Mapping[str, str],
    *,
    simulated: bool = False,
) -> list[Gate]:
    """A named family passes only as held, unless waived with a reason; what did not run fails."""
    gates: list[Gate] = []
    for family in named:
        verdict = verdicts.get(family, Verdict.UNTESTED)
        if verdict in HOLDING:
            message = f"{verdict} (predicted)" if simulated else f"{verdict}"
            gates.append(Gate(candidate, f"family {family}", ok=True, message=message))
        elif family in waived:
            message = f"{verdict}, waived: {waived[family]}"
            gates.append(Gate(candidate, f"family {family}", ok=True, message=message))
        else:
            message = f"{family} must be held and is {verdict}"
            gates.append(Gate(candidate, f"family {family}", ok=False, message=message))
    return gates


def gate_workloads(candidate: str, works: Mapping[str, bool], named: Iterable[str]) -> list[Gate]:
    """A workload that an objective names passes only if it ran and works."""
    gates: list[Gate] = []
    for workload in named:
        ok = works.get(workload, False)
        message = (
            "works"
            if ok
            else f"workload {workload} " + ("does not work" if workload in works else "was not run")
        )
        gates.append(Gate(candidate, f"workload {workload}", ok=ok, message=message))
    return gates


def gate_fail_on(
    candidate: str,
    verdicts: Mapping[str, Verdict],
    broken_workloads: Sequence[str],
    fail_on: Collection[FailOn],
) -> list[Gate]:
    """One gate for each condition that the user named, in the order of ``FailOn``."""
    found = {
        FailOn.LEAKY: [name for name, one in verdicts.items() if one is Verdict.LEAKY],
        FailOn.UNDECIDED: [name for name, one in verdicts.items() if one is Verdict.UNDECIDED],
        FailOn.REACHABLE_ELSEWHERE: [
            name for name, one in verdicts.items() if one is Verdict.HELD_HERE
        ],
        FailOn.BROKEN_WORKLOAD: list(broken_workloads),
    }
    return [
        Gate(candidate, condition, ok=not names, message=_gate_message(condition, names))
        for condition, names in found.items()
        if condition in fail_on
    ]


def _gate_message(condition: FailOn, names: Sequence[str]) -> str:
    return f"{condition}: {', '.join(names)}" if names else f"nothing is {condition}"


def exit_code(
    gates: Iterable[Gate], *, wrong_input: bool, lacking: bool, harness_failed: bool
) -> ExitCode:
    """The highest code that applies."""
    if harness_failed:
        return ExitCode.HARNESS_FAILED
    if lacking:
        return ExitCode.LACKING
    if wrong_input:
        return ExitCode.WRONG_INPUT
    return ExitCode.DONE if all(gate.ok for gate in gates) else ExitCode.GATE_FAILED
