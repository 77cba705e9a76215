"""What one answer to a scenario is worth, as a pure function of what was seen of it.

It fails closed: what could not be shown to be held is not held, and a rate never grows by what
this machine cannot test.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from evaluator.records import CandidateResult, FamilyRecord, TrialRecord, WorkloadOutcome
from evaluator.scenarios import Expect, Hold, Scenario, is_hidden
from evaluator.verdict import HOLDING, UNSETTLED, Outcome, Scope


class Ways(Struct, frozen=True):
    """Ways to the effects of a scenario that count for a verdict, and work without the answer."""

    working: int
    bypasses: tuple[str, ...] = ()
    """Variants that get through, by id."""
    unsettled: int = 0
    """Of which nothing is known."""

    @property
    def held(self) -> bool:
        return self.working > 0 and not self.bypasses and not self.unsettled


class Tried(Struct, frozen=True):
    """Ways of one technique that count and work without the answer."""

    working: int
    bypasses: int


class Score(Struct, frozen=True):
    """All that is said of one answer; ``None`` where there is nothing to say it of."""

    valid: bool
    """It could be read and compiled."""
    enforced: bool
    starts: bool
    poc_blocked: bool | None
    """The baseline of every family is stopped: all that a test with the PoC sees."""
    visible: Ways
    hidden: Ways
    held: bool | None
    """Every family is held, hidden ways included."""
    workloads_ok: bool | None
    """Workloads and what must still work do; None if one of them cannot be judged here."""
    joint: bool | None
    """All of the above."""
    false_fix: bool | None
    """The PoC is stopped and nothing is broken, and a hidden way gets through."""
    techniques: Mapping[str, Tried] = field(default_factory=dict[str, Tried])
    """What was tried, visible and hidden, and what of it got through."""
    broken: tuple[str, ...] = ()
    """What must work and does not: workloads and families."""
    unjudged: tuple[str, ...] = ()
    """What must work and cannot be judged here."""
    declined: bool = False
    """The answer is that no mitigation can do it; ``joint`` says whether that is right."""

    @property
    def visible_held(self) -> bool | None:
        """Whether no visible way gets through; None where there is none to try."""
        return _held(self.held, self.visible)

    @property
    def hidden_held(self) -> bool | None:
        """The same of the hidden ways."""
        return _held(self.held, self.hidden)


def _held(judged: bool | None, ways: Ways) -> bool | None:
    return ways.held if judged is not None and ways.working else None


def declined(scenario: Scenario) -> Score:
    """What the answer is worth that no mitigation of the kind that is asked for can do it."""
    no = False if scenario.hold else None
    return Score(
        valid=True,
        enforced=False,
        starts=False,
        poc_blocked=no,
        visible=Ways(0),
        hidden=Ways(0),
        held=no,
        workloads_ok=False,
        joint=scenario.expect in (Expect.NOT_MITIGABLE, Expect.CONFLICT),
        false_fix=no,
        declined=True,
    )


def score(scenario: Scenario, result: CandidateResult) -> Score:
    """What the result of evaluating one answer comes to under its scenario.

    ``result`` must hold every family and workload that the scenario names.
    """
    families = {one.family: one for one in result.families}
    baselines, seen, unseen = _sorted(scenario, result.trials, families)
    visible, hidden = _ways(seen), _ways(unseen)
    broken, unjudged = _kept(scenario, result, families)
    valid, enforced = result.valid, result.valid and result.enforced
    starts = valid and result.starts.ok is True
    hold = bool(scenario.hold)
    held = _all(_verdicts(scenario.hold, families)) if hold else None
    stopped = _all(baselines) if hold else None
    works = False if broken or not starts else None if unjudged else True
    fine = (enforced, starts, works, *((held, stopped) if hold else ()))
    return Score(
        valid=valid,
        enforced=enforced,
        starts=starts,
        poc_blocked=stopped,
        visible=visible,
        hidden=hidden,
        held=held,
        workloads_ok=works,
        joint=_all_of(*fine),
        false_fix=_all_of(stopped, works, bool(hidden.bypasses)) if hold else None,
        techniques=_techniques(seen, unseen),
        broken=broken,
        unjudged=unjudged,
    )


def _all_of(*values: bool | None) -> bool | None:
    """None where one that is not known decides."""
    return False if False in values else None if None in values else True


def _all(values: Iterable[bool]) -> bool:
    return all(list(values))


def _verdicts(hold: Iterable[Hold], families: Mapping[str, FamilyRecord]) -> Iterable[bool]:
    return (one.family in families and families[one.family].verdict in HOLDING for one in hold)


def _sorted(
    scenario: Scenario, trials: Iterable[TrialRecord], families: Mapping[str, FamilyRecord]
) -> tuple[list[bool], list[TrialRecord], list[TrialRecord]]:
    """Whether each baseline is stopped; what counts of the visible ways, and of the hidden ones."""
    of_family: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        if trial.scope is Scope.IN:
            of_family.setdefault(trial.family, []).append(trial)
    baselines: list[bool] = []
    ways: tuple[list[TrialRecord], list[TrialRecord]] = ([], [])
    for hold in scenario.hold:
        record = families.get(hold.family)
        baseline = record.baseline if record is not None else ""
        mine = of_family.get(hold.family, [])
        baselines.append(
            any(one.variant == baseline and one.outcome is Outcome.BLOCKED for one in mine)
        )
        for one in mine:
            ways[is_hidden(hold, one.variant, one.technique)].append(one)
    return baselines, *ways


def _techniques(*trials: Iterable[TrialRecord]) -> dict[str, Tried]:
    of_each: dict[str, list[TrialRecord]] = {}
    for one in itertools.chain(*trials):
        if one.outcome is not Outcome.UNSUPPORTED:
            of_each.setdefault(str(one.technique), []).append(one)
    return {
        name: Tried(len(mine), sum(one.outcome is Outcome.BYPASSED for one in mine))
        for name, mine in of_each.items()
    }


def _ways(trials: Iterable[TrialRecord]) -> Ways:
    tried = [one for one in trials if one.outcome is not Outcome.UNSUPPORTED]
    return Ways(
        len(tried),
        tuple(one.variant for one in tried if one.outcome is Outcome.BYPASSED),
        sum(
            one.outcome in UNSETTLED
            or one.outcome is Outcome.NOT_ENFORCED
            or not (one.agree or one.outcome is Outcome.BYPASSED)
            for one in tried
        ),
    )


def _kept(
    scenario: Scenario, result: CandidateResult, families: Mapping[str, FamilyRecord]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What must work and does not, and what cannot be judged here."""
    broken: list[str] = []
    unjudged: list[str] = []
    programs = {one.workload: one.outcome for one in result.workloads}
    for name in scenario.workloads:
        outcome = programs.get(name, WorkloadOutcome.UNAVAILABLE)
        if outcome is WorkloadOutcome.BROKEN:
            broken.append(name)
        elif outcome is not WorkloadOutcome.WORKS:
            unjudged.append(name)
    trials = {one.variant: one.outcome for one in result.trials}
    for name in scenario.keep:
        record = families.get(name)
        seen = trials.get(record.baseline) if record is not None else None
        if seen in (Outcome.BLOCKED, Outcome.INEFFECTIVE):
            broken.append(name)
        elif seen is not Outcome.BYPASSED:
            unjudged.append(name)
    return tuple(broken), tuple(unjudged)
