"""Which layer keeps an effect away, where it is no filter and nobody can simulate it.

Each kind of layer is put on alone, on top of the control, and the variant is run again: what the
kernel refuses then, that layer refuses.  If no kind does so by itself, nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from attacks.family import Variant
from attacks.program import Abi, Syscall, is_decisive
from evaluator.enforcement import Applied
from evaluator.outcome import Pair
from evaluator.pool import Asking
from evaluator.records import StoppedAt, TrialRecord
from evaluator.refusals import Difference, difference
from evaluator.trial import grade
from evaluator.verdict import Outcome
from evaluator.wire import ConfigSpec, Result

_SILENT_RUNS = 3
_OPEN = (Outcome.BYPASSED, Outcome.INEFFECTIVE, Outcome.NOT_ENFORCED, Outcome.HARNESS_ERROR)
"""With one of these among its trials a family is not held."""

Ask = Callable[[Sequence[Variant], Sequence[ConfigSpec]], Asking[list[Result | str]]]
"""Runs each variant under the configuration that stands in the same place."""


def attribute(
    pairs: Sequence[Pair], records: list[TrialRecord], applied: Applied, ask: Ask
) -> Asking[None]:
    """Turns INEFFECTIVE into BLOCKED, in ``records``, wherever a layer that did it is found."""
    for kind, config in applied.alone.items():
        yield from _of_refusals(kind, config, pairs, records, ask)
    for kind, config in applied.alone.items():
        yield from _of_absence(kind, (config, applied.control), pairs, records, ask)


def _of_refusals(
    kind: str, config: ConfigSpec, pairs: Sequence[Pair], records: list[TrialRecord], ask: Ask
) -> Asking[None]:
    """An effect that did not come as the program ended by a refusal, or its cause was refused."""
    open_ = [
        (i, found)
        for i, one in enumerate(records)
        if one.outcome is Outcome.INEFFECTIVE and (found := _refused(pairs[i])) is not None
    ]
    variants = [pairs[i].variant for i, _ in open_]
    results = yield from ask(variants, [config] * len(variants))
    for (i, found), result in zip(open_, results, strict=True):
        variant, control = pairs[i].variant, pairs[i].control
        if isinstance(result, str) or isinstance(control, str) or grade(variant, result):
            continue
        alone = difference(variant.program, control, result)
        if alone is not None and alone.ends and (alone == found or alone.not_permitted):
            records[i] = _stopped_by(records[i], alone, kind, variant)


def _of_absence(
    kind: str,
    configs: Sequence[ConfigSpec],
    pairs: Sequence[Pair],
    records: list[TrialRecord],
    ask: Ask,
) -> Asking[None]:
    """An effect that did not come though nothing that it needs was refused: a silent signal.

    That is believed only if it is the same time and again under the layer, and never without it.
    """
    open_ = [i for i, one in enumerate(records) if one.outcome is Outcome.INEFFECTIVE]
    runs = [one for one in configs for _ in range(_SILENT_RUNS)]
    variants = [pairs[i].variant for i in open_ for _ in runs]
    results = yield from ask(variants, runs * len(open_))
    for place, i in enumerate(open_):
        its = results[place * len(runs) : (place + 1) * len(runs)]
        variant, under = pairs[i].variant, its[:_SILENT_RUNS]
        if not (_never(variant, under) and _always(variant, its[_SILENT_RUNS:])):
            continue
        found = _difference_of_all(pairs[i], under)
        records[i] = (
            _without_effect(records[i], variant, kind)
            if found is None
            else _stopped_by(records[i], found, kind, variant)
        )


def _refused(pair: Pair) -> Difference | None:
    """What the first repeat of a pair was refused, if each was refused something."""
    control = pair.control
    if isinstance(control, str):
        return None
    found = [
        None if isinstance(arm, str) else difference(pair.variant.program, control, arm)
        for arm in pair.mitigated
    ]
    return found[0] if None not in found else None


def _never(variant: Variant, results: Sequence[Result | str]) -> bool:
    return all(isinstance(one, Result) and grade(variant, one) is None for one in results)


def _always(variant: Variant, results: Sequence[Result | str]) -> bool:
    return all(isinstance(one, Result) and grade(variant, one) is not None for one in results)


def _difference_of_all(pair: Pair, results: Sequence[Result | str]) -> Difference | None:
    """What was refused in every run; None if that is nothing, or not always the same."""
    found = _refused(replace(pair, mitigated=tuple(results)))
    again = _refused(replace(pair, mitigated=tuple(reversed(results))))
    return found if found == again else None


def beside_the_effect(family: str, found: Difference) -> str:
    """Why a refusal stops what a way does on its way, and not the effect; empty if it does stop it.

    ``family`` is its label, with the opcode that it asks for.
    The ways that are recorded of a family are one example each, and a layer that judges objects may
    refuse the example alone.
    """
    name = family.partition("[")[0].partition("@")[0]
    if name == "use-io-uring" and found.call not in _OF_RINGS and found.call not in family:
        return f"{found.call} answered {found.answer}, and the ring worked"
    if name in _BETWEEN_DIRECTORIES and found.answer == "EXDEV":
        return f"{found.call} answered EXDEV, which is about two directories and not about one"
    return ""


# The name of io_uring_enter stands for what the kernel's own thread takes as well.
_OF_RINGS = ("io_uring_setup", "io_uring_enter", "io_uring_register", "io_uring", "mmap")
_BETWEEN_DIRECTORIES = ("rename-file", "create-hard-link")
"""LANDLOCK_ACCESS_FS_REFER says nothing of these within one directory (landlock(7))."""


def _stopped_by(record: TrialRecord, found: Difference, layer: str, of: Variant) -> TrialRecord:
    beside = beside_the_effect(of.family, found)
    if beside:
        return replace(record, reason=beside)
    return replace(
        record,
        outcome=Outcome.BLOCKED,
        stopped_at=StoppedAt(found.call, found.abi.value, found.answer, found.decisive, layer),
        prerequisite_only=not found.decisive,
        reason=None,
    )


def _without_effect(record: TrialRecord, variant: Variant, layer: str) -> TrialRecord:
    flat = [op for section, op in variant.program.flatten() if section == "attack"]
    decisive = next(op for op in flat if is_decisive(op))
    call, abi = (
        (decisive.name, decisive.abi) if isinstance(decisive, Syscall) else ("a store", Abi.X86_64)
    )
    return replace(
        record,
        outcome=Outcome.BLOCKED,
        stopped_at=StoppedAt(call, abi.value, "no effect", decisive=True, layer=layer),
        reason=f"no refusal explains it; in {_SILENT_RUNS} runs under this layer alone no effect "
        f"came, and in {_SILENT_RUNS} without it it did",
    )


def held_alone(
    inside: Sequence[TrialRecord],
    by_id: Mapping[str, Variant],
    applied: Applied,
    ask: Ask,
) -> Asking[set[str]]:
    """The families that a layer holds by itself, of those where another kernel is in doubt.

    A filter lets pass what it does not name, on a kernel that has it.  A layer that judges the
    object stops it whatever the call: one that alone stops all that works here leaves nothing to
    guess.  What the filters stopped before it could is run again under it.  ``inside`` are the
    trials in scope.
    """
    doubted = {one.family for one in inside if one.reachable_elsewhere}
    doubted -= {one.family for one in inside if one.outcome in _OPEN}
    held: set[str] = set()
    for kind, config in applied.alone.items():
        for family in sorted(doubted - held):
            blocked = [
                one for one in inside if one.family == family and one.outcome is Outcome.BLOCKED
            ]
            others = [by_id[one.variant] for one in blocked if _layer(one) != kind]
            if len(others) == len(blocked):
                continue
            results = yield from ask(others, [config] * len(others))
            if all(_never(one, [result]) for one, result in zip(others, results, strict=True)):
                held.add(family)
    return held


def _layer(trial: TrialRecord) -> str:
    return trial.stopped_at.layer if trial.stopped_at else ""
