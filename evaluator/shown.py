"""What of a scenario a model may see, and nothing else: a prompt, a tool and feedback get it here.

The rest of a scenario stays with the judge: ways that are hidden, how many there are, verdicts that
hang on them, the reference solution, and what a right answer is expected to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import Struct

from attacks import library
from attacks.effects import Grade
from attacks.family import Assumption, FamilyInstance, Technique, Variant
from attacks.program import Abi, Syscall
from attacks.text import program_text
from evaluator.records import CandidateResult, TrialRecord, WorkloadOutcome
from evaluator.scenarios import Hold, Mechanism, Scenario, is_hidden
from evaluator.verdict import Outcome, Scope
from evaluator.workloads import workload


class Level(StrEnum):
    """How much a prompt tells; each level tells all that those before it tell."""

    EFFECT = "effect"
    """The task in words, what must work, and the mechanisms."""
    POC = "poc"
    """And one program for each effect: its baseline."""
    ADVISORY = "advisory"
    """And what is known in public of attacks that need the effect."""


class Way(Struct, frozen=True):
    """One way to an effect that may be shown."""

    id: str
    """``family/variant``."""
    technique: Technique
    calls: tuple[str, ...]
    """What causes the effect: ``mkdirat``, ``i386:mkdir``, ``io_uring_enter[MKDIRAT]``."""
    program: str
    """One operation a line, as ``sidestep attacks show`` prints it."""


class Kept(Struct, frozen=True):
    """What must still work: a family's baseline, or an honest program."""

    name: str
    title: str
    why: str = ""


class View(Struct, frozen=True):
    """All that a prompt may tell at one level."""

    scenario: str
    level: Level
    title: str
    task: str
    mechanisms: tuple[Mechanism, ...]
    keep: tuple[Kept, ...]
    workloads: tuple[Kept, ...]
    poc: tuple[Way, ...] = ()
    """The baselines, from the level ``poc`` on."""
    advisory: str = ""
    """At the level ``advisory``, with ``references``."""
    references: tuple[str, ...] = ()


class Through(Struct, frozen=True):
    """A visible way that was tried under an answer."""

    id: str
    technique: Technique
    calls: tuple[str, ...]


class FamilyFeedback(Struct, frozen=True):
    """What may be said of one family: nothing here hangs on a hidden way."""

    family: str
    title: str
    through: tuple[Through, ...]
    """Visible ways that reach the effect."""
    undecided: tuple[Through, ...]
    """Visible ways of which nothing is known; they do not count as stopped."""


class DeniedCall(Struct, frozen=True):
    call: str
    """``mkdirat``, ``i386:mkdir``."""
    answer: str
    """What the filter answered: ``EPERM``, ``SIGSYS``."""


class Broken(Struct, frozen=True):
    """A workload, or a family that must still work, and does not."""

    name: str
    title: str
    reason: str
    denied: tuple[DeniedCall, ...] = ()


class Feedback(Struct, frozen=True):
    """What a model may be told about its answer."""

    valid: bool
    errors: tuple[str, ...]
    """Why it cannot be used, in one line each; empty if it can."""
    enforced: bool
    starts: bool
    start_reason: str
    """Why a container does not start under it; empty if it does."""
    families: tuple[FamilyFeedback, ...]
    broken: tuple[Broken, ...]


# -------------------------------------------------------------------------------------- the task


def view(scenario: Scenario, level: Level) -> View:
    """What a prompt may tell of a scenario at that level."""
    tells_poc = level is not Level.EFFECT
    tells_advisory = level is Level.ADVISORY
    return View(
        scenario=scenario.name,
        level=level,
        title=scenario.title,
        task=_on_one_line(scenario.task),
        mechanisms=scenario.mechanisms,
        keep=tuple(
            Kept(name, library.parse_reference(name).family.title, why)
            for name, why in scenario.keep.items()
        ),
        workloads=tuple(Kept(name, workload(name).title) for name in scenario.workloads),
        poc=tuple(map(_baseline, scenario.hold)) if tells_poc else (),
        advisory=_on_one_line(scenario.advisory) if tells_advisory else "",
        references=scenario.references if tells_advisory else (),
    )


def poc(scenario: Scenario) -> str:
    """The program of each family's baseline; empty if nothing has to be held."""
    ways = map(_baseline, scenario.hold)
    return "\n\n".join(f"{one.id}\n{one.program}" for one in ways)


def visible_ways(scenario: Scenario) -> tuple[Way, ...]:
    """Recorded ways that a tool may speak of and that count for a verdict, in their order."""
    return tuple(
        _way(variant)
        for hold in scenario.hold
        for variant in library.parse_reference(hold.family).variants
        if not is_hidden(hold, variant.id, variant.technique) and _counts(variant)
    )


def visible_families(scenario: Scenario) -> tuple[FamilyInstance, ...]:
    """The scenario's families with nothing in them but what may be seen, to evaluate tools with.

    Of a family that must still work only the baseline is there.
    """
    held = map(_visible, scenario.hold)
    kept = (library.parse_reference(name) for name in scenario.keep)
    return (*held, *(one.only({f"{one.family.name}/{one.baseline.name}"}) for one in kept))


def _visible(hold: Hold) -> FamilyInstance:
    instance = library.parse_reference(hold.family)
    return instance.only(
        {
            f"{instance.family.name}/{one.name}"
            for one in instance.recipes
            if not is_hidden(hold, one.name, one.technique)
        }
    )


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _baseline(hold: Hold) -> Way:
    return _way(library.parse_reference(hold.family).baseline)


def _counts(variant: Variant) -> bool:
    exact = variant.assumption is Assumption.NONE and variant.grade is Grade.EXACT
    return exact and not variant.negative and not variant.beyond_seccomp


def _way(variant: Variant) -> Way:
    program = "\n".join(map(str, program_text(variant.program)))
    return Way(variant.id, variant.technique, _calls(variant), program)


def _calls(variant: Variant) -> tuple[str, ...]:
    decisive = (
        op
        for section, op in variant.program.flatten()
        if section == "attack" and isinstance(op, Syscall) and op.decisive
    )
    return tuple(dict.fromkeys(map(_call, decisive)))


def _call(op: Syscall) -> str:
    return _named(op.abi, f"{op.name}[{op.opcode}]" if op.opcode else op.name)


def _named(abi: str, call: str) -> str:
    return call if abi in ("", Abi.X86_64) else f"{abi}:{call}"


# -------------------------------------------------------------------------------------- feedback


def feedback(scenario: Scenario, result: CandidateResult) -> Feedback:
    """What a model may be told of the result of evaluating its answer to that scenario.

    ``ValueError`` if the result is not one of all families and workloads of the scenario: what was
    not tried must not look as if it were stopped.
    """
    families = tuple(_families(scenario, result)) if result.valid else ()
    return Feedback(
        valid=result.valid,
        errors=tuple(": ".join(filter(None, (one.where, one.message))) for one in result.errors),
        enforced=result.valid and result.enforced,
        starts=result.valid and result.starts.ok is True,
        start_reason=result.starts.reason,
        families=families,
        broken=(*_programs(scenario, result), *_kept(scenario, result)) if result.valid else (),
    )


def _families(scenario: Scenario, result: CandidateResult) -> Iterator[FamilyFeedback]:
    titles = {one.family: one.title for one in result.families}
    for hold in scenario.hold:
        if hold.family not in titles:
            raise ValueError(f"{hold.family} of {scenario.name} was not evaluated")
        seen = [
            one
            for one in result.trials
            if one.family == hold.family
            and one.scope is Scope.IN
            and not is_hidden(hold, one.variant, one.technique)
        ]
        through = (one for one in seen if one.outcome is Outcome.BYPASSED)
        undecided = (one for one in seen if _is_undecided(one))
        yield FamilyFeedback(
            hold.family, titles[hold.family], tuple(_tried(through)), tuple(_tried(undecided))
        )


def _is_undecided(one: TrialRecord) -> bool:
    settled = one.outcome in (Outcome.BYPASSED, Outcome.BLOCKED, Outcome.UNSUPPORTED)
    return not settled or (one.outcome is Outcome.BLOCKED and not one.agree)


def _tried(trials: Iterable[TrialRecord]) -> Iterator[Through]:
    for one in trials:
        yield Through(one.variant, one.technique, _calls(library.find_variant(one.variant)))


def _programs(scenario: Scenario, result: CandidateResult) -> Iterator[Broken]:
    seen = {one.workload: one for one in result.workloads}
    for name in scenario.workloads:
        if name not in seen:
            raise ValueError(f"the workload {name} of {scenario.name} was not run")
        one = seen[name]
        if one.outcome is WorkloadOutcome.BROKEN:
            denied = (DeniedCall(_named(at.abi, at.call), at.answer) for at in one.denied)
            yield Broken(name, one.title, one.reason or "", tuple(denied))


def _kept(scenario: Scenario, result: CandidateResult) -> Iterator[Broken]:
    records = {one.family: one for one in result.families}
    trials = {one.variant: one for one in result.trials}
    for name in scenario.keep:
        if name not in records or records[name].baseline not in trials:
            raise ValueError(f"{name} of {scenario.name} was not evaluated")
        one = trials[records[name].baseline]
        if one.outcome in (Outcome.BLOCKED, Outcome.INEFFECTIVE):
            at = one.stopped_at
            denied = (DeniedCall(_named(at.abi, at.call), at.answer),) if at else ()
            yield Broken(name, records[name].title, f"{one.title} does not work", denied)
