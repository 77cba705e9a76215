"""The library's own controls: what works on this machine, what does not, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from attacks.family import FamilyInstance
from evaluator import campaign
from evaluator.mechanisms import count
from evaluator.plan import Plan, Progress
from evaluator.records import FamilyCheck, TrialRecord
from evaluator.verdict import Outcome
from mitigations.candidate import Attachment, Candidate

POSTURES = ("container", "root")
"""A variant that works in neither does not work here."""
_FAULTS = (Outcome.HARNESS_ERROR, Outcome.DISAGREEMENT, Outcome.INEFFECTIVE)


def check(
    families: Sequence[FamilyInstance], jobs: int, on_progress: Callable[[Progress], None]
) -> list[FamilyCheck]:
    """Runs every control in each posture, without any mitigation."""
    nothing = Candidate(
        name="unconfined",
        source="",
        layers=(),
        attachment=Attachment.RUNTIME,
        meaning="",
    )
    found: dict[str, list[TrialRecord]] = {}
    for posture in POSTURES:
        plan = Plan(
            candidates=(nothing,),
            families=tuple(families),
            workloads=(),
            posture=posture,
            jobs=jobs,
        )
        for result in campaign.evaluate(plan, on_progress):
            for trial in result.trials:
                found.setdefault(trial.variant, []).append(trial)
    return [_family(instance, found) for instance in families]


def _family(instance: FamilyInstance, found: dict[str, list[TrialRecord]]) -> FamilyCheck:
    counts: Counter[str] = Counter()
    unsupported: dict[str, str] = {}
    derived_unsupported: dict[str, str] = {}
    faults: dict[str, str] = {}
    for variant in instance.variants:
        trials = found[variant.id]
        fault = next((one for one in trials if one.outcome in _FAULTS), None)
        if fault is not None:
            faults[variant.id] = f"{fault.outcome.value}: {fault.reason}"
        if variant.negative:
            counts["negative"] += 1
            continue
        kind = "derived" if variant.parent else "variants"
        counts[kind] += 1
        if any(one.control_effect is not None for one in trials):
            counts[f"{kind} work"] += 1
        elif fault is None:
            reasons = derived_unsupported if variant.parent else unsupported
            reasons[variant.id] = trials[-1].reason or ""
    return FamilyCheck(
        family=instance.label,
        title=instance.family.title,
        group=instance.family.group,
        variants=counts["variants"],
        works=counts["variants work"],
        derived=counts["derived"],
        derived_works=counts["derived work"],
        negative=counts["negative"],
        mechanisms=count(instance.variants),
        unsupported=unsupported,
        derived_unsupported=derived_unsupported,
        faults=faults,
    )
