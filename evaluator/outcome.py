"""From what two arms showed to an outcome, with the evidence for it.

The order of the questions matters, and each answer needs its own evidence: did the control reach
the effect; is every layer in force; did the mitigated arm reach the effect; do the simulator and
the kernel agree; which call was stopped.  Whatever is left is not a block.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from attacks.effects import Grade
from attacks.family import Technique, Variant
from attacks.program import Abi, Entry, Operation, Program, Syscall, is_decisive
from attacks.text import context_of, program_text, render
from evaluator import aftermath, predict
from evaluator.confinement import Absent
from evaluator.outline import Call, known_args, outline
from evaluator.records import Aftermath, StepRecord, StoppedAt, TrialRecord
from evaluator.refusals import difference
from evaluator.sentinel import SENTINEL_ERRNO
from evaluator.trial import already, grade, strange
from evaluator.verdict import Outcome
from evaluator.wire import Record, RecordState, Result
from mitigations.bpf import Decision, Filter
from mitigations.classic import Action


class Pair(Struct, frozen=True):
    """Both arms of one variant; an arm is a message where the harness failed."""

    variant: Variant
    control: Result | str
    mitigated: tuple[Result | str, ...]
    """One for each repeat."""
    foretold: predict.Foretold | None = None
    """What the filters say of the control's arguments, where somebody has asked already."""


class Terms(Struct, frozen=True):
    """What is the same for all trials of a candidate."""

    filters: tuple[Filter, ...]
    layers_missing: str
    """Why the candidate is not in force as a whole; empty if it is."""
    no_new_privs: bool
    """Whether the mitigated arm must have it."""
    syscall_insn: int
    with_steps: bool = True
    """Whether somebody will look at what each operation did."""
    logging: frozenset[int] = frozenset()
    """Positions of the filters that are loaded with SECCOMP_FILTER_FLAG_LOG."""
    others: tuple[str, ...] = ()
    """Kinds of the layers in force that are no filters; empty for a candidate of filters alone."""
    capabilities: int | None = None
    """What the subject may be left with at most, where a layer takes some away."""
    absent: tuple[Absent, ...] = ()
    """Parts of the candidate that are not in force here."""

    @property
    def seccomp_only(self) -> bool:
        """Whether the filters explain all that may be stopped."""
        return not self.others and not self.absent


def classify(pair: Pair, terms: Terms, unmet: str | None) -> TrialRecord:
    """The record of one variant; ``unmet`` is the probed need that is lacking here."""
    variant = pair.variant
    # A sentinel answers before the kernel would say that it has no such call.
    if unmet and (variant.guarded or isinstance(pair.control, str)):
        nothing = Pair(variant, unmet, ())
        return _record(nothing, terms, Outcome.UNSUPPORTED, reason=unmet)
    premise = isinstance(pair.control, str) and pair.control.startswith(
        ("setup ", "witness EINVAL")
    )
    if premise and (variant.parent or variant.foreign):
        whose = "rewrite" if variant.parent else "program"
        broken = f"{whose}: what comes before the attack does not work ({pair.control})"
        return _record(pair, terms, Outcome.UNSUPPORTED, reason=broken)
    if isinstance(pair.control, str):
        return _record(pair, terms, Outcome.HARNESS_ERROR, reason=f"control arm: {pair.control}")
    achieved = grade(variant, pair.control)
    if variant.negative:
        return _negative(pair, terms, achieved)
    not_ready = already(variant, pair.control) or strange(variant, pair.control.before)
    if not_ready and variant.parent and variant.program.setup:
        broken = f"rewrite: with the earlier steps done before, {not_ready}"
        return _record(pair, terms, Outcome.UNSUPPORTED, reason=broken)
    if not_ready:
        return _record(pair, terms, Outcome.HARNESS_ERROR, reason=f"control arm: {not_ready}")
    if achieved is None:
        cause = unmet or lacking(variant, pair.control) or _no_equivalent(variant, pair.control)
        outcome = Outcome.UNSUPPORTED if cause else Outcome.HARNESS_ERROR
        return _record(pair, terms, outcome, reason=cause or _why_no_effect(variant, pair.control))
    outcomes = [_one(variant, achieved, arm, pair.control, terms) for arm in pair.mitigated]
    chosen = _choose(outcomes)
    one = outcomes[chosen]
    return _record(
        pair,
        terms,
        one.outcome,
        reason=one.reason,
        stopped=one.stopped,
        left_behind=one.left_behind,
        shown=chosen,
        agree=len({each.outcome for each in outcomes}) == 1,
    )


def foresee(variant: Variant, terms: Terms, unmet: str = "") -> TrialRecord:
    """The record of a variant that nobody runs: what the filters say of it, and no evidence.

    ``unmet`` is what its posture is known to lack: it would not work without the filters, either.
    """
    nothing = Pair(variant, "nothing was run", ())
    if unmet:
        return _record(nothing, terms, Outcome.UNSUPPORTED, reason=unmet)
    found = _record(nothing, terms, Outcome.SIMULATED, reason=None)
    said = found.predicted or "nothing: layers other than seccomp are not simulated"
    return replace(found, reason=f"predicted {said}")


_ANYTHING = (None,) * 6
_SET_UP = re.compile("(setup|witness|fixture) E[A-Z0-9]+")  # Result.trouble
_NEVER_CAME = "every call that matters was allowed, but the effect did not come"
_OPEN_FOR_WRITING = "read only EBUSY"
_NOT_READ_ONLY = "a file was open for writing before the root could be made read-only (EBUSY)"
_STRONGEST = (
    Outcome.NOT_ENFORCED,
    Outcome.BYPASSED,
    Outcome.DISAGREEMENT,
    Outcome.HARNESS_ERROR,
    Outcome.INEFFECTIVE,
    Outcome.BLOCKED,
)


class _Single(NamedTuple):
    """What one run of the mitigated arm showed."""

    outcome: Outcome
    reason: str | None = None
    stopped: StoppedAt | None = None
    left_behind: Aftermath | None = None


def _choose(outcomes: Sequence[_Single]) -> int:
    """One success is a bypass; a block needs every repeat."""
    ranks = [_STRONGEST.index(one.outcome) for one in outcomes]
    return ranks.index(min(ranks))


def _one(
    variant: Variant, achieved: Grade, arm: Result | str, control: Result, terms: Terms
) -> _Single:
    if terms.layers_missing:
        return _Single(Outcome.NOT_ENFORCED, terms.layers_missing)
    if arm == _OPEN_FOR_WRITING:
        return _Single(Outcome.NOT_ENFORCED, _NOT_READ_ONLY)
    if isinstance(arm, str):
        return _Single(Outcome.HARNESS_ERROR, arm)
    missing = _missing(arm, control, terms)
    if missing:
        return _Single(Outcome.NOT_ENFORCED, missing)
    not_ready = already(variant, arm) or strange(variant, arm.before)
    if not_ready:
        return _Single(Outcome.HARNESS_ERROR, not_ready)
    reached = grade(variant, arm)
    calls = predict.judged(variant.program, arm, terms.filters, terms.syscall_insn)
    outranked = _outranked(calls, arm) if variant.guarded else None
    if outranked:
        hidden = "the sentinel hides this answer: it is the simulator's"
        return _blocked(outranked, predict.answer(outranked.decision), hidden, terms)
    if reached is Grade.EXACT or reached is achieved:
        missing = _absent(variant, terms)
        if missing:
            return _Single(Outcome.NOT_ENFORCED, f"it gets through without it: {missing}")
        return _Single(Outcome.BYPASSED, left_behind=_logged(calls, terms))
    for one in calls:
        found = predict.contradiction(one, arm.records[one.slot], arm)
        if found:
            return _Single(Outcome.DISAGREEMENT, found)
    decisive = predict.decisive_calls(variant.program)
    passed = False
    other = difference(variant.program, control, arm) if terms.others else None
    for one in calls:
        if other is not None and other.slot < one.slot:
            break
        said = predict.stopped(one, arm.records[one.slot], arm)
        if said is not None and not (passed and _goes_on(one, arm)):
            why = f"the decisive call passed; {one.op.name}, which has to follow it, did not"
            return _blocked(one, said, why if passed else None, terms, decisive)
        passed = passed or _passed(one, arm)
    if other is not None:
        # Whose answer that is must be tried: whoever runs the trials does so.
        return _Single(Outcome.INEFFECTIVE, f"{other.call} answered {other.answer}")
    late = " in time" if arm.timed_out else ""
    return _Single(Outcome.INEFFECTIVE, f"{_NEVER_CAME}{late}")


def _absent(variant: Variant, terms: Terms) -> str:
    """What of the candidate is not in force and might have stopped this; empty if nothing is."""
    reasons = (one.reason for one in terms.absent if one.concerns(variant.family))
    return "; ".join(dict.fromkeys(reasons))


def _missing(arm: Result, control: Result, terms: Terms) -> str | None:
    """The layer that this very subject was not under, by its /proc/PID/status."""
    if not arm.truth.known or not control.truth.known:
        return "the subject's /proc/PID/status could not be read"
    wanted = control.truth.filters + len(terms.filters)
    if arm.truth.filters != wanted:
        return f"{arm.truth.filters} seccomp filters are in force, not {wanted}"
    if terms.filters and arm.truth.seccomp != 2:
        return f"/proc/PID/status says Seccomp: {arm.truth.seccomp}"
    if terms.no_new_privs and not arm.truth.no_new_privs:
        return "no_new_privs is not set"
    sets = (arm.truth.effective, arm.truth.permitted, arm.truth.bounding)
    if terms.capabilities is not None and any(one & ~terms.capabilities for one in sets):
        return f"capabilities are {', '.join(f'{one:016x}' for one in sets)}"
    return None


def _blocked(
    one: predict.Judged,
    said: str,
    why: str | None,
    terms: Terms,
    decisive: Collection[tuple[Abi, str]] = (),
) -> _Single:
    """By the denied call; one of the name of the decisive one is no mere step towards it."""
    same = one.op.decisive or (one.op.abi, one.op.name) in decisive
    stopped = StoppedAt(one.op.name, one.op.abi.value, said, same)
    killed = said.startswith("SIGSYS")
    left = aftermath.of_decision(one.decision, terms.logging, len(terms.filters), killed=killed)
    return _Single(Outcome.BLOCKED, why, stopped, left)


def _logged(calls: Sequence[predict.Judged], terms: Terms) -> Aftermath | None:
    """What is left of a bypass whose decisive call is logged."""
    for one in calls:
        if one.op.decisive and one.decision.action is Action.LOG:
            return aftermath.of_decision(
                one.decision, terms.logging, len(terms.filters), killed=False
            )
    return None


def _outranked(calls: Sequence[predict.Judged], arm: Result) -> predict.Judged | None:
    """The decisive call, if the filters deny it by an answer that the sentinel's hides."""
    for one in calls:
        hidden = arm.records[one.slot].error == SENTINEL_ERRNO
        if one.op.decisive and hidden and not one.decision.depends and not one.decision.allows:
            return one
    return None


def _passed(one: predict.Judged, arm: Result) -> bool:
    record = arm.records[one.slot]
    return one.op.decisive and record.state is RecordState.DONE and not record.error


def _goes_on(one: predict.Judged, arm: Result) -> bool:
    """Whether a denied call hinders nothing that comes after it: one that kills does."""
    return one.op.may_fail and arm.records[one.slot].state is RecordState.DONE


def lacking(variant: Variant, control: Result) -> str | None:
    """What the control's own trace shows to be missing here: a call or an entry instruction."""
    for slot, op in enumerate(op for _, op in variant.program.flatten()):
        if not isinstance(op, Syscall):
            continue
        record = control.records[slot]
        if record.state is RecordState.DONE and record.error == 38:
            return f"kernel: {_called(op)} answers ENOSYS without the candidate"
        died = record.state is RecordState.STARTED and control.signal in (4, 7, 11)
        if died and op.entry in (Entry.SYSENTER, Entry.FAR_INT80):
            return (
                f"architecture: {op.entry.value} from 64-bit code ends in signal "
                f"{control.signal} on this machine"
            )
    return None


def _no_equivalent(variant: Variant, control: Result) -> str | None:
    """A program that does not reach the effect is none of the ways to it here.

    Only of what we recorded do we know that it is one.
    """
    if not variant.parent and not variant.foreign:
        return None
    what = f"rewrite: {variant.id.rpartition('~')[2]}" if variant.parent else "program: it"
    return f"{what} does not lead to the effect ({_how_it_ended(variant, control)})"


def _called(op: Syscall) -> str:
    return op.name if op.abi is Abi.X86_64 else f"{op.abi.value}:{op.name}"


def _why_no_effect(variant: Variant, control: Result) -> str:
    return f"no effect in the control arm: {_how_it_ended(variant, control)}"


def how_it_failed(variant: Variant, control: Result | str) -> str:
    """What a control without the effect ended with; empty if it was late, or a runner was lost."""
    if isinstance(control, str):
        return control if _SET_UP.fullmatch(control) else ""
    return "" if control.timed_out else _how_it_ended(variant, control)


def _how_it_ended(variant: Variant, control: Result) -> str:
    for slot, op in enumerate(op for _, op in variant.program.flatten()):
        record = control.records[slot]
        if isinstance(op, Syscall) and record.error and not op.may_fail:
            return f"{_called(op)} answered {predict.errno_name(record.error)}"
        if record.state is RecordState.STARTED and control.timed_out:
            return f"operation {slot} did not return in time"
        if record.state is RecordState.STARTED:
            return f"it died in operation {slot} (status {control.wait_status:#x})"
        if record.state in (RecordState.MISMATCH, RecordState.TIMEOUT):
            return f"operation {slot} ended in {record.state.name.lower()}"
    return f"it ended with status {control.wait_status:#x}"


def _negative(pair: Pair, terms: Terms, achieved: Grade | None) -> TrialRecord:
    if achieved is None:
        return _record(
            pair, terms, Outcome.UNSUPPORTED, reason="negative control: no effect, as it must be"
        )
    return _record(
        pair, terms, Outcome.HARNESS_ERROR, reason="negative control: it reached the effect"
    )


# ------------------------------------------------------------------------------------- records


def _record(
    pair: Pair,
    terms: Terms,
    outcome: Outcome,
    *,
    reason: str | None,
    stopped: StoppedAt | None = None,
    left_behind: Aftermath | None = None,
    shown: int = 0,
    agree: bool = True,
) -> TrialRecord:
    variant = pair.variant
    control = None if isinstance(pair.control, str) else pair.control
    arm = pair.mitigated[shown] if shown < len(pair.mitigated) else None
    mitigated = arm if isinstance(arm, Result) else None
    flat = variant.program.flatten()
    decisive = next((op for _, op in flat if is_decisive(op)), None)
    runs = [one for one in pair.mitigated if isinstance(one, Result)]
    shown_steps = steps(variant.program, control, mitigated, terms) if terms.with_steps else ()
    return TrialRecord(
        variant=variant.id,
        family=variant.family,
        title=_title(variant.program, decisive),
        technique=variant.technique,
        assumption=variant.assumption,
        grade=variant.grade,
        outcome=outcome,
        control_effect=grade(variant, control) if control else None,
        mitigated_effect=grade(variant, mitigated) if mitigated else None,
        predicted=_predicted(pair, control, terms),
        route=route(variant.program, control, terms),
        stopped_at=stopped,
        aftermath=left_behind,
        prerequisite_only=stopped is not None and not stopped.decisive,
        reason=reason,
        agree=agree,
        repeats=max(1, len(pair.mitigated)),
        latency_us=runs[0].latency_us if runs else 0,
        native=isinstance(decisive, Syscall)
        and decisive.abi is Abi.X86_64
        and variant.technique is not Technique.X32_ABI,
        negative=variant.negative,
        derived_from=variant.parent,
        beyond_seccomp=variant.beyond_seccomp,
        reachable_elsewhere=outcome is Outcome.UNSUPPORTED
        and not variant.negative
        and _reachable(variant.program, terms),
        why=variant.why,
        references=variant.references,
        length=len(flat),
        steps=shown_steps,
    )


def _predicted(pair: Pair, control: Result | None, terms: Terms) -> str | None:
    variant, filters = pair.variant, terms.filters
    found = pair.foretold or predict.foretold(variant.program, filters, control, terms.syscall_insn)
    said = predict.of_variant(variant, found, filters)
    # What the filters let pass another layer may stop, and nobody simulates that.
    return said if terms.seccomp_only or said == "BLOCKED" else None


def _title(program: Program, decisive: Operation | None) -> str:
    """The decisive operation as text, or the last one where there is none."""
    flat = program.flatten()
    shown = decisive or (flat[-1][1] if flat else None)
    return render(shown, context_of(program, results=False)) if shown else ""


def route(program: Program, control: Result | None, terms: Terms) -> str:
    """What these filters can tell apart: ABI, decisive call, its arguments' region, other denials.

    Two variants with equal routes are one way to these filters.
    """
    denied: list[str] = []
    plan = outline(program)
    decisive = "memory" if plan.by_store else "none"
    for call in plan.calls:
        op = call.op
        decision = _on_controls(call, control, terms)
        if op.decisive:
            region = ",".join(f"{pc}{'+' if taken else '-'}" for pc, taken in decision.region)
            decisive = f"{op.abi.value}:{op.opcode or op.name}" + (f"[{region}]" if region else "")
        elif not decision.allows:
            name = f"{op.abi.value}:{op.name}"
            denied += [] if name in denied else [name]
    return " ".join([decisive, *(f"after {name}" for name in denied)])


def _on_controls(call: Call, control: Result | None, terms: Terms) -> Decision:
    """The decision on the control's arguments; on any arguments if it did not make the call."""
    record = control.records[call.slot] if control else None
    if record is None or record.state is RecordState.NOT_REACHED:
        return predict.decide_call(call, _ANYTHING, terms.filters, terms.syscall_insn)
    return predict.decide_ran(call, record, terms.filters, terms.syscall_insn)


def _reachable(program: Program, terms: Terms) -> bool:
    """Whether the filters would let the decisive call pass where a kernel has it."""
    return predict.predicted(program, terms.filters, None, terms.syscall_insn) == "BYPASSED"


def steps(
    program: Program, control: Result | None, mitigated: Result | None, terms: Terms
) -> tuple[StepRecord, ...]:
    """The program operation by operation, with what each arm got."""
    layout = program.layout()
    nothing = (None,) * len(program.flatten())
    lefts = control.records[:] if control else nothing
    rights = mitigated.records[:] if mitigated else nothing
    return tuple(
        StepRecord(
            slot=line.slot,
            section=section,
            text=line.text,
            abi=op.abi.value if isinstance(op, Syscall) else "",
            decisive=line.decisive,
            control=_shown(op, left, control),
            mitigated=_shown(op, right, mitigated),
            filter=_answer(op, left, right, layout, terms) if section == "attack" else None,
        )
        for line, (section, op), left, right in zip(
            program_text(program), program.flatten(), lefts, rights, strict=True
        )
    )


def _answer(
    op: Operation,
    left: Record | None,
    right: Record | None,
    layout: Sequence[int],
    terms: Terms,
) -> str | None:
    """What the filters say of a call on the arguments that ran, under them if it came there.

    Where nothing ran, on those that are known without that.
    """
    if not isinstance(op, Syscall):
        return None
    if left is right is None:
        return predict.decide(op, known_args(op, layout), terms.filters).text
    for ran in (right, left):
        if ran is not None and ran.state is not RecordState.NOT_REACHED:
            return predict.decide(op, ran.args, terms.filters, terms.syscall_insn).text
    return None


def _shown(op: Operation, record: Record | None, result: Result | None) -> str | None:
    if record is None or result is None or record.state is RecordState.NOT_REACHED:
        return None
    if record.state is RecordState.STARTED:
        return _unfinished(op, result)
    if record.state is not RecordState.DONE:
        return record.state.name.lower()
    if isinstance(op, Syscall) and record.error:
        return f"-1 {predict.errno_name(record.error)}"
    return str(record.result) if record.result < 1 << 20 else hex(record.result)


def _unfinished(op: Operation, result: Result) -> str:
    if result.signal == predict.SIGSYS:
        return "killed by SIGSYS"
    if isinstance(op, Syscall) and op.name in ("execve", "execveat", "exit", "exit_group"):
        return "does not return"
    return f"killed by signal {result.signal}" if result.signal else "did not return"
