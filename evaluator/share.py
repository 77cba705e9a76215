"""What one process does for a campaign: candidates under its share of the families.

The control of a posture is run once and serves all candidates (unless the fast path is off). One
that served several is run again at the end, and if it then differs the run ends as a harness
failure, because everything compared with it is in doubt.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

from msgspec.structs import replace

from attacks.effects import Grade
from attacks.family import Assumption, FamilyInstance, Variant
from attacks.program import EXECS, Syscall
from evaluator import attribution, diagnosis, enforcement, outcome, starts
from evaluator.assemble import counts, judged
from evaluator.cause import Causes, Through
from evaluator.enforcement import Applied
from evaluator.errors import HarnessError
from evaluator.findings import Shown
from evaluator.needs import Needs
from evaluator.outcome import Pair, Terms
from evaluator.plan import Plan, Rewrites
from evaluator.pool import Arm, Asking, Pool, alone, overlapped
from evaluator.posture import Posture, posture
from evaluator.predict import Foretold, decisive_calls, foretold
from evaluator.records import CandidateRun, Cause, Enforcement, Starts, TrialRecord, WorkloadRecord
from evaluator.sampling import Sampler
from evaluator.sentinel import sentinel
from evaluator.trial import grade, program_spec, rescue_program
from evaluator.verdict import Outcome
from evaluator.wire import ConfigSpec, ProgramSpec, RecordState, Result, RunFlag
from evaluator.workload_run import Ran
from mitigations.bpf import Filter
from mitigations.candidate import Candidate
from mitigations.rules import Profile

_AT_A_TIME = 3
"""Groups: the runners are at work for one while another is prepared, and a third judged."""
_CONTROL_ROUNDS = 3
_LEAST_WAIT_US = 250_000
_HOPELESS_US = 30_000
_LATENCIES = 50
_PATIENCE = 8
_RESCUE = "~rescue"
_QUICK_US = 300_000
_GLANCE_US = 20_000
_NUMBER_SIZE = 2
_DONE_BEFORE = "with the earlier steps done before the filter"


def arm_of(
    variant: Variant,
    spec: ProgramSpec,
    config: ConfigSpec,
    victim: ConfigSpec,
    timeout_us: int = 1_000_000,
    flags: RunFlag = RunFlag.NONE,
) -> Arm:
    """One arm of a variant; what must not run for real is under a sentinel in both arms."""
    if variant.guarded:
        config = replace(config, filters=(sentinel(), *config.filters))
    return Arm(spec, config, victim, timeout_us, flags)


class Groups:
    """Groups of families.  Each is taken by one of the processes that share them, for good."""

    def __init__(self, groups: Sequence[Sequence[FamilyInstance]]) -> None:
        self._groups = groups
        self._mine: list[Sequence[FamilyInstance]] = []
        # A pipe holds the numbers of those that nobody has taken; a read takes one.
        self._free, full = os.pipe()
        for number in range(len(groups)):
            os.write(full, number.to_bytes(_NUMBER_SIZE))
        os.close(full)

    def __iter__(self) -> Iterator[Sequence[FamilyInstance]]:
        """Those that were taken here before, and then more, as long as there are some."""
        yield from tuple(self._mine)
        while number := os.read(self._free, _NUMBER_SIZE):
            self._mine.append(self._groups[int.from_bytes(number)])
            yield self._mine[-1]

    @property
    def total(self) -> int:
        """How many there are, whoever takes them."""
        return len(self._groups)

    def close(self) -> None:
        """Takes no more."""
        os.close(self._free)


class Share:
    """Evaluates candidates under a share of the families.

    It keeps what serves the next one: programs, controls, probes.
    """

    def __init__(
        self,
        plan: Plan,
        pool: Pool,
        groups: Groups,
        on_step: Callable[[str, int, int], None],
        *,
        honest: bool,
        here: Share | None = None,
    ) -> None:
        """``on_step`` hears the candidate's name, how many trials were done, and how many came up.

        ``honest``: whether honest programs are looked at as well.  ``here``: where ``pool`` is on
        another kernel, a share on this machine's, to ask whether that is why a control fails.
        """
        self._plan = plan
        self._pool = pool
        self._groups = groups
        self._on_step = on_step
        self._honest = honest
        self._here = here
        self._by_id: dict[str, Variant] = {}
        self._timeout_us = int(plan.timeout_s * 1e6)
        self._specs: dict[str, ProgramSpec] = {}
        self._controls: dict[Posture, dict[str, Result | str]] = {}
        self._honest_controls: dict[Posture, dict[str, tuple[Ran, ...]]] = {}
        self._honest_specs: dict[str, ProgramSpec] = {}
        self._uses: Counter[Posture] = Counter()
        self._needs: dict[Posture, Needs] = {}
        self._sampler = Sampler(plan.suite)
        self._flags = RunFlag.NONE if plan.fast_path else RunFlag.SLOW
        self._sources: dict[str, list[Candidate]] = {}
        for one in plan.candidates:
            if isinstance(one, Candidate):
                self._sources.setdefault(one.digest, []).append(one)

    # ------------------------------------------------------------------ one candidate

    def trials(
        self, variants: Sequence[Variant], candidate: Candidate, applied: Applied
    ) -> list[TrialRecord]:
        """These variants in both arms, under a candidate as it stands in the sandbox."""
        insn = self._pool.first.hello.syscall_insn
        terms = applied.terms(insn, with_steps=self._plan.with_steps)
        return alone(self._trials(variants, candidate, applied, terms))

    def run(self, candidate: Candidate) -> CandidateRun:
        """One candidate; a runner that is lost over it twice costs this candidate and no other."""
        stance = posture(candidate.posture or self._plan.posture)
        self._uses[stance.nameless] += 1
        try:
            return self._run(candidate, stance)
        except HarnessError:
            self._pool.renew()
        try:
            return self._run(candidate, stance)
        except HarnessError as error:
            self._pool.renew()
            return self._lost(candidate, stance, str(error))

    def _lost(self, candidate: Candidate, stance: Posture, why: str) -> CandidateRun:
        filters = tuple(Filter.decode(layer.program) for layer in candidate.seccomp)
        terms = Terms(filters, "", no_new_privs=False, syscall_insn=0)
        return CandidateRun(
            candidate=candidate,
            posture=stance.name,
            enforcement=Enforcement(enforced=False, reason=why),
            starts=Starts(),
            trials=tuple(
                outcome.classify(Pair(variant, why, ()), terms, None)
                for family in self._taken()
                for variant in family.variants
            ),
            workloads=(),
            duration_s=0.0,
        )

    def _run(self, candidate: Candidate, stance: Posture) -> CandidateRun:
        begin = time.monotonic()
        applied = enforcement.apply(self._pool, candidate, stance)
        if not self._plan.fast_path:
            self._controls.pop(stance.nameless, None)
            self._honest_controls.pop(stance.nameless, None)
        insn = self._pool.first.hello.syscall_insn
        terms = applied.terms(insn, with_steps=self._plan.with_steps)
        asking = (
            self._placed(place, self._group(group, candidate, applied, terms))
            for place, group in enumerate(self._groups)
        )
        # Nobody takes so many at once that another process goes without.
        at_a_time = max(1, min(_AT_A_TIME, self._groups.total // self._plan.jobs))
        groups = sorted(overlapped(asking, at_a_time), key=itemgetter(0))
        trials = tuple(trial for _, group in groups for trial in group)
        why = self._plan.with_reasons
        started, works = Starts(), tuple[WorkloadRecord, ...]()
        if self._honest:
            started, works = starts.honest_programs(
                self._pool,
                candidate,
                applied,
                self._plan.workloads,
                lambda done, more: self._on_step(candidate.name, done, more),
                self._honest_controls.setdefault(stance.nameless, {}),
                self._honest_specs,
                with_blame=why,
            )
        return CandidateRun(
            candidate=candidate,
            posture=stance.name,
            enforcement=applied.enforcement,
            starts=started,
            trials=trials,
            workloads=works,
            duration_s=time.monotonic() - begin,
            notes=applied.notes,
            causes=self._causes(candidate, stance, terms, trials) if why else (),
            shown=tuple(self._shown(candidate, terms, trials)) if why else (),
        )

    def _alike(self, candidate: Candidate) -> list[Candidate]:
        """The candidates of which this run tells: equal filters, whatever they were made of."""
        others = self._sources.get(candidate.digest, [])
        return [candidate, *(one for one in others if one is not candidate)]

    def _causes(
        self,
        candidate: Candidate,
        stance: Posture,
        terms: Terms,
        trials: Sequence[TrialRecord],
    ) -> tuple[tuple[Profile | None, tuple[Cause, ...]], ...]:
        """What lets through whatever got through and counts, by the source of the filters."""
        if not (candidate.seccomp or candidate.seccomp_only):
            return ()  # there is no filter that could be blamed
        known = self._controls.get(stance.nameless, {})
        through: dict[str, list[Through]] = {}
        for trial in sorted(trials, key=lambda one: one.length):
            if trial.outcome is Outcome.BYPASSED and counts(trial, self._plan, candidate):
                control = known.get(trial.variant)
                seen = control if isinstance(control, Result) else None
                through.setdefault(trial.family, []).append(
                    Through(self._by_id[trial.variant], seen)
                )
        # Not only what this process has taken: what is beside a variant hangs on no schedule.
        beside = {
            one.label: self._recorded(one) for one in self._plan.families if one.label in through
        }
        by_source: dict[Profile | None, tuple[Cause, ...]] = {}
        for one in self._alike(candidate) if through else ():
            if one.profile not in by_source:
                causes = Causes(one, terms.filters, terms.syscall_insn)
                found = [causes.of(some, beside[label]) for label, some in through.items()]
                by_source[one.profile] = tuple(cause for some in found for cause in some)
        return tuple(by_source.items())

    def _recorded(self, family: FamilyInstance) -> list[Variant]:
        """All that is recorded of a family, whoever has taken it."""
        missing = (one.rpartition("/")[2] for one in family.ids if one not in self._by_id)
        others = family.only({f"{family.family.name}/{name}" for name in missing})
        self._by_id.update((one.id, one) for one in others.variants)
        return [self._by_id[identity] for identity in family.ids]

    def _shown(
        self, candidate: Candidate, terms: Terms, trials: Sequence[TrialRecord]
    ) -> Iterator[tuple[str, str]]:
        """Witnesses of findings, each with a variant whose trial did what it says."""
        warnings = [warning for one in self._alike(candidate) for warning in one.warnings]
        shown = Shown(terms.filters, {one.witness for one in warnings})
        for trial in trials:
            at = trial.stopped_at
            if trial.outcome is Outcome.BYPASSED or (at is not None and at.decisive):
                for witness in shown.by(self._by_id[trial.variant], at.answer if at else None):
                    yield witness, trial.variant

    def _placed(
        self, place: int, work: Asking[list[TrialRecord]]
    ) -> Asking[tuple[int, list[TrialRecord]]]:
        """With its place: whoever is done first, the results have an order."""
        return place, (yield from work)

    def _group(
        self,
        group: Sequence[FamilyInstance],
        candidate: Candidate,
        applied: Applied,
        terms: Terms,
    ) -> Asking[list[TrialRecord]]:
        """A group of families: what is recorded, and what rewrites make of it."""
        variants = [variant for family in group for variant in family.variants]
        if self._plan.rewrites is Rewrites.ALL:
            variants += self._more(
                candidate, [one for family in group for one in self._sampler.rewrite(family)]
            )
        trials = yield from self._trials(variants, candidate, applied, terms)
        chosen = [
            variant
            for family in self._targeted(group, trials, terms)
            for variant in self._sampler.choose(family, terms)
        ]
        if chosen:
            more = self._more(candidate, chosen)
            trials += yield from self._trials(more, candidate, applied, terms)
        if self._plan.with_reasons:
            trials = yield from self._rescues(trials, applied, terms)
        if not applied.alone:
            return trials
        inside = [one for one in trials if counts(one, self._plan, candidate)]
        asks = self._asks(applied)
        held = yield from attribution.held_alone(inside, self._by_id, applied, asks)
        return [
            replace(one, reachable_elsewhere=False) if one.family in held else one for one in trials
        ]

    def _more(self, candidate: Candidate, variants: list[Variant]) -> list[Variant]:
        """What rewrites made, and nobody has counted yet."""
        self._on_step(candidate.name, 0, len(variants) * self._plan.repeats)
        return variants

    def _targeted(
        self, group: Sequence[FamilyInstance], trials: Sequence[TrialRecord], terms: Terms
    ) -> list[FamilyInstance]:
        """The families that somebody meant to stop, if they are to be rewritten at all.

        And those that nobody may have meant, but that would be said to be held.
        """
        if self._plan.rewrites is not Rewrites.SAMPLED or terms.layers_missing:
            return []
        if terms.seccomp_only and not terms.filters:
            return []
        only = terms.seccomp_only
        said = [(one, judged(one, trials, self._plan, seccomp_only=only)) for one in group]
        return [one for one, what in said if what.worth_rewriting]

    def _taken(self) -> list[FamilyInstance]:
        return [family for group in self._groups for family in group]

    def _trials(
        self, variants: Sequence[Variant], candidate: Candidate, applied: Applied, terms: Terms
    ) -> Asking[list[TrialRecord]]:
        self._by_id.update((one.id, one) for one in variants)
        needs = self._needs_of(applied.stance)
        pairs = yield from self._pairs(variants, candidate, applied, terms)
        records = [outcome.classify(pair, terms, needs.unmet(pair.variant)) for pair in pairs]
        # A harness fault is tried once more; an effect that did not come may only have been late.
        again = [
            i
            for i, one in enumerate(records)
            if one.outcome in (Outcome.HARNESS_ERROR, Outcome.INEFFECTIVE)
        ]
        if again:
            doubtful = [pairs[i].variant for i in again]
            retried = yield from self._pairs(doubtful, candidate, applied, terms, patient=True)
            for i, pair in zip(again, retried, strict=True):
                second = outcome.classify(pair, terms, needs.unmet(pair.variant))
                if second.outcome is not Outcome.HARNESS_ERROR:
                    records[i], pairs[i] = second, pair
        if applied.alone:
            yield from attribution.attribute(pairs, records, applied, self._asks(applied))
        yield from self._diagnose(records, applied)
        return records

    def _diagnose(self, records: list[TrialRecord], applied: Applied) -> Asking[None]:
        """An effect that did not come for calls that are not in our trace: whose they are."""
        config = diagnosis.trapping(applied.config)
        for _ in range(_CONTROL_ROUNDS):
            open_ = [
                i
                for i, one in enumerate(records)
                if one.outcome is Outcome.INEFFECTIVE and _execs(self._by_id[one.variant])
            ]
            if config is None or not open_:
                return
            yield from self._diagnose_these(open_, records, applied, config)

    def _diagnose_these(
        self, open_: Sequence[int], records: list[TrialRecord], applied: Applied, config: ConfigSpec
    ) -> Asking[None]:
        arms = [
            replace(
                self._arm(
                    self._by_id[records[i].variant], config, applied.victim, self._timeout_us
                ),
                flags=RunFlag.DIAGNOSE,
            )
            for i in open_
        ]
        results = yield from self._asked(arms)
        for i, result in zip(open_, results, strict=True):
            variant = self._by_id[records[i].variant]
            if isinstance(result, str) or _effect(variant, result):
                continue
            culprit = diagnosis.culprit(result.denied)
            if culprit is None:
                continue
            stopped = diagnosis.stopped_at(culprit, decisive_calls(variant.program))
            said = f"the program that it execs was denied {diagnosis.in_words(result.denied)}"
            records[i] = replace(
                records[i],
                outcome=Outcome.BLOCKED,
                stopped_at=stopped,
                aftermath=diagnosis.left_behind(culprit, applied.filters, applied.logging),
                prerequisite_only=not stopped.decisive,
                reason=said,
            )

    def _pairs(
        self,
        variants: Sequence[Variant],
        candidate: Candidate,
        applied: Applied,
        terms: Terms,
        *,
        patient: bool = False,
    ) -> Asking[list[Pair]]:
        """Runs the mitigated arm wherever the control says that there is something to compare."""
        controls = yield from self._control(applied.stance, variants)
        wanted = [] if terms.layers_missing else [v for v in variants if _worked(v, controls[v.id])]
        said = {v.id: _foretold(v, controls[v.id], terms) for v in wanted}
        arms: list[Arm] = []
        for v in wanted:
            bound = self._bound(controls[v.id], said[v.id].said, patient=patient)
            arms += [self._arm(v, applied.config, applied.victim, bound)] * self._plan.repeats
        # What is run once more was counted before.
        counts = 0 if patient else 1
        results = yield from self._asked(
            arms, lambda n: self._on_step(candidate.name, n * counts, 0)
        )
        skipped = (len(variants) - len(wanted)) * self._plan.repeats
        self._on_step(candidate.name, skipped * counts, 0)
        found: dict[str, list[Result | str]] = {}
        for index, result in enumerate(results):
            found.setdefault(wanted[index // self._plan.repeats].id, []).append(result)
        return [
            Pair(v, controls[v.id], tuple(found.get(v.id, []) or ["not run"]), said.get(v.id))
            for v in variants
        ]

    def _bound(self, control: Result | str, said: str, *, patient: bool) -> int:
        """How long to wait for the effect: far longer than the control took.

        Less where the filters deny what it takes: then only a surprise could still come.
        """
        assert isinstance(control, Result)
        if said == "BLOCKED":
            return min(self._timeout_us, max(_HOPELESS_US, _PATIENCE * control.latency_us))
        wait = max(_LEAST_WAIT_US, _LATENCIES * control.latency_us)
        return min(self._timeout_us, wait * (_PATIENCE if patient else 1))

    # ------------------------------------------------------------------ controls

    def _needs_of(self, stance: Posture) -> Needs:
        key = stance.nameless
        if key not in self._needs:
            self._needs[key] = Needs(self._pool, enforcement.control_of(self._pool, stance))
        return self._needs[key]

    def _control(
        self, stance: Posture, variants: Sequence[Variant], rounds: int = _CONTROL_ROUNDS
    ) -> Asking[dict[str, Result | str]]:
        """The control arm of each variant in a posture; what fails without a cause is retried."""
        known = self._controls.setdefault(stance.nameless, {})
        needs = self._needs_of(stance)
        open_ = [v for v in variants if v.id not in known or _unexplained(v, known[v.id], needs)]
        for attempt in range(rounds):
            if not open_:
                break
            results = yield from self._run_control(stance, open_, patient=attempt == 1)
            known.update(zip((v.id for v in open_), results, strict=True))
            open_ = [
                v
                for v in open_
                if _unexplained(v, known[v.id], needs)
                or _worth_another_try(v, known[v.id], needs, attempt)
            ]
        if self._here is not None:
            failed = {v.id: why for v in open_ if (why := outcome.how_it_failed(v, known[v.id]))}
            for one in self._here.working(stance, [v for v in open_ if v.id in failed]):
                needs.only_here[one.id] = (
                    f"virtual machine: {failed[one.id]}; on this machine's own kernel it works"
                )
        return known

    def working(self, stance: Posture, variants: Sequence[Variant]) -> list[Variant]:
        """Those whose control reaches the effect; of negative controls those that can be run."""
        known = alone(self._control(stance, variants))
        return [
            one
            for one in variants
            if _worked(one, known[one.id]) or (one.negative and isinstance(known[one.id], Result))
        ]

    def _run_control(
        self, stance: Posture, variants: Sequence[Variant], *, patient: bool = True
    ) -> Asking[list[Result | str]]:
        config = enforcement.control_of(self._pool, stance)
        quick_us = self._timeout_us if patient else min(self._timeout_us, _QUICK_US)
        needs = self._needs_of(stance)
        arms: list[Arm] = []
        # What a rule made needs what its calls show, and that was probed: no use in trying.
        hopeless = [bool(one.parent and needs.unmet(one)) for one in variants]
        for variant, skipped in zip(variants, hopeless, strict=True):
            if skipped:
                continue
            wait = quick_us if _may_not_work(variant) else self._timeout_us
            arm = self._arm(variant, config, config, wait)
            if needs.unmet(variant):  # it will not work, and nobody waits for that
                arm = replace(arm, flags=arm.flags | RunFlag.GLANCE, timeout_us=_GLANCE_US)
            arms.append(arm)
        results = iter((yield from self._asked(arms)))
        return ["not tried" if skipped else next(results) for skipped in hopeless]

    def check_controls(self) -> None:
        """Runs every shared control again; ``HarnessError`` if one differs from what was used."""
        for stance, known in self._controls.items():
            if self._uses[stance] < 2:
                continue  # one candidate, and its control was its own
            working = [
                variant
                for family in self._taken()
                for variant in family.variants
                if variant.id in known and _worked(variant, known[variant.id])
            ]
            results = alone(self._run_control(stance, working))
            for variant, second in zip(working, results, strict=True):
                if _effect(variant, second) is _effect(variant, known[variant.id]):
                    continue
                again = alone(self._run_control(stance, [variant] * _CONTROL_ROUNDS))
                if all(
                    _effect(variant, one) is not _effect(variant, known[variant.id])
                    for one in again
                ):
                    raise HarnessError(
                        f"the control arm of {variant.id} changed during the run: "
                        "results are in doubt"
                    )

    def _asked(
        self, arms: Sequence[Arm], done: Callable[[int], None] = lambda _: None
    ) -> Asking[list[Result | str]]:
        return (yield self._pool.start(arms, done))

    def _asks(self, applied: Applied) -> attribution.Ask:
        """Runs variants under other configurations than the candidate's."""

        def ask(
            variants: Sequence[Variant], configs: Sequence[ConfigSpec]
        ) -> Asking[list[Result | str]]:
            arms = [
                self._arm(variant, config, applied.victim, self._timeout_us)
                for variant, config in zip(variants, configs, strict=True)
            ]
            return (yield from self._asked(arms))

        return ask

    def _arm(
        self, variant: Variant, config: ConfigSpec, victim: ConfigSpec, timeout_us: int
    ) -> Arm:
        if variant.id not in self._specs:
            self._specs[variant.id] = program_spec(variant)
        glance = variant.negative or variant.id.endswith(_RESCUE)
        flags = self._flags | (RunFlag.GLANCE if glance else RunFlag.NONE)
        return arm_of(variant, self._specs[variant.id], config, victim, timeout_us, flags)

    # ------------------------------------------------------------------ beside the trials

    def _rescues(
        self, trials: Sequence[TrialRecord], applied: Applied, terms: Terms
    ) -> Asking[list[TrialRecord]]:
        """For each block of a mere prerequisite: what if the earlier steps were done before."""
        rescues: dict[str, Variant] = {}
        for trial in trials:
            if (
                trial.outcome is Outcome.BLOCKED
                and trial.prerequisite_only
                and trial.assumption is Assumption.NONE
                and not trial.derived_from  # what it was made of answers for it
            ):
                program = rescue_program(self._by_id[trial.variant].program)
                if program is not None:
                    rescues[trial.variant] = replace(
                        self._by_id[trial.variant], id=trial.variant + _RESCUE, program=program
                    )
        # One round: earlier steps done before may leave nothing that works, and that says nothing.
        controls = yield from self._control(applied.stance, tuple(rescues.values()), rounds=1)
        working = [v for v in rescues.values() if _worked(v, controls[v.id])]
        wait = min(self._timeout_us, _LEAST_WAIT_US)
        results = yield from self._asked(
            [self._arm(v, applied.config, applied.victim, wait) for v in working]
        )
        said: dict[str, str | None] = {}
        for variant, result in zip(working, results, strict=True):
            one = outcome.classify(Pair(variant, controls[variant.id], (result,)), terms, None)
            said[variant.id.removesuffix(_RESCUE)] = _rescue_text(one)
        return [replace(t, reason=said.get(t.variant) or t.reason) for t in trials]


def _execs(variant: Variant) -> bool:
    """Whether the attack hands over to a program whose calls are not recorded."""
    return any(
        isinstance(op, Syscall) and op.name in EXECS
        for section, op in variant.program.flatten()
        if section == "attack"
    )


def _foretold(variant: Variant, control: Result | str, terms: Terms) -> Foretold:
    assert isinstance(control, Result)
    return foretold(variant.program, terms.filters, control, terms.syscall_insn)


def _effect(variant: Variant, result: Result | str) -> Grade | None:
    return grade(variant, result) if isinstance(result, Result) else None


def _worked(variant: Variant, result: Result | str) -> bool:
    return not variant.negative and _effect(variant, result) is not None


def _unexplained(variant: Variant, result: Result | str, needs: Needs) -> bool:
    if isinstance(result, str):
        return needs.unmet(variant) is None
    no_news = variant.negative or _may_not_work(variant)
    if no_news or _effect(variant, result) is not None:
        return False
    return needs.unmet(variant) is None and outcome.lacking(variant, result) is None


def _worth_another_try(variant: Variant, result: Result | str, needs: Needs, attempt: int) -> bool:
    """Whether what may not work was waited for too shortly, or met somebody else's lock.

    Where nothing was refused it may have been cut short more than once: a busy kernel ends a ring's
    read early.
    """
    if isinstance(result, str) or not _may_not_work(variant) or _effect(variant, result):
        return False
    if result.timed_out:
        return not attempt
    chance = bool(variant.parent) and not variant.id.endswith(_RESCUE)
    if attempt:
        chance = chance and all(
            one.state is RecordState.DONE and not one.error for one in result.records
        )
    return chance and needs.unmet(variant) is None and outcome.lacking(variant, result) is None


def _may_not_work(variant: Variant) -> bool:
    """What nobody has tried before: that it does not reach the effect is no news."""
    return bool(variant.parent) or variant.foreign or variant.id.endswith(_RESCUE)


def _rescue_text(one: TrialRecord) -> str | None:
    match one.outcome:
        case Outcome.BYPASSED:
            return f"only a prerequisite was denied; {_DONE_BEFORE}, it gets through"
        case Outcome.BLOCKED if one.stopped_at is not None:
            stopped = one.stopped_at
            return f"{_DONE_BEFORE}, {stopped.call} is denied as well ({stopped.answer})"
        case _:
            return None
