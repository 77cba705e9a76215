"""What one candidate let through, under others: who else is bypassed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from msgspec.structs import replace

from attacks.family import FamilyInstance
from evaluator.attack_bench import Bench, has_effect
from evaluator.attack_records import ModelFind, Replayed
from evaluator.errors import HarnessError
from evaluator.plan import Progress
from evaluator.pool import Pool
from evaluator.records import TrialRecord
from evaluator.share import Groups
from evaluator.verdict import Outcome
from mitigations.candidate import Candidate, FailedCandidate

_Of = tuple[str, object]


def replayed(
    finds: Sequence[tuple[FamilyInstance, ModelFind]],
    others: Sequence[Candidate | FailedCandidate],
    *,
    stance: str,
    jobs: int,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> list[ModelFind]:
    """The finds with what came of each under every other candidate; what cannot be used says so.

    Equal layers in one posture are run once.
    """
    if not finds or not others:
        return [find for _, find in finds]
    rows: list[list[Replayed]] = [[] for _ in finds]
    done: dict[_Of, list[Replayed]] = {}
    with Pool(jobs) as pool, closing(Groups([])) as nothing:
        for count, other in enumerate(others):
            on_progress(Progress(f"replaying under {other.name}", count, len(others)))
            for row, one in zip(
                rows, _under(other, finds, pool, nothing, stance, done), strict=True
            ):
                row.append(replace(one, candidate=other.name, source=other.source))
    return [replace(find, replayed=tuple(row)) for (_, find), row in zip(finds, rows, strict=True)]


def _under(
    other: Candidate | FailedCandidate,
    finds: Sequence[tuple[FamilyInstance, ModelFind]],
    pool: Pool,
    nothing: Groups,
    stance: str,
    done: dict[_Of, list[Replayed]],
) -> list[Replayed]:
    if isinstance(other, FailedCandidate):
        return [_nothing("invalid", str(other.error))] * len(finds)
    key = (other.digest, other.posture)
    if key not in done:
        try:
            done[key] = _run(other, finds, pool, nothing, stance)
        except HarnessError as error:
            pool.renew()
            return [_nothing(Outcome.HARNESS_ERROR.value, str(error))] * len(finds)
    return done[key]


def _run(
    other: Candidate,
    finds: Sequence[tuple[FamilyInstance, ModelFind]],
    pool: Pool,
    nothing: Groups,
    stance: str,
) -> list[Replayed]:
    families = {family.label: family for family, _ in finds}
    bench = Bench(pool, nothing, other, tuple(families.values()), stance)
    first = {
        label: bench.variants([family.baseline])[0].outcome for label, family in families.items()
    }
    return [
        _one(bench.programs([find.program], family)[0], first[family.label])
        for family, find in finds
    ]


def _one(trial: TrialRecord, baseline: Outcome) -> Replayed:
    return Replayed(
        candidate="",
        source="",
        outcome=trial.outcome.value,
        effect=has_effect(trial),
        baseline=baseline.value,
        reason=trial.reason or "",
    )


def _nothing(outcome: str, reason: str) -> Replayed:
    return Replayed("", "", outcome, effect=False, baseline="", reason=reason)
