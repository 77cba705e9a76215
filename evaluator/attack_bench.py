"""A candidate in the sandbox, for programs that come one after another: both arms of each."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager

from msgspec.structs import replace

from attacks.effects import Grade
from attacks.family import FamilyInstance, Variant
from attacks.program import Program
from evaluator import enforcement
from evaluator.enforcement import Applied
from evaluator.errors import EnvironmentLackError, HarnessError
from evaluator.foreign import variant_of
from evaluator.outcome import Terms
from evaluator.plan import Plan
from evaluator.pool import Pool
from evaluator.posture import posture
from evaluator.records import TrialRecord
from evaluator.share import Groups, Share
from evaluator.verdict import Outcome
from mitigations.candidate import Candidate, OwnPosture

_TIMEOUT_S = 1.0
_QUICKLY_S = 0.2


class Bench:
    """Runs programs of one family after another; ``terms`` say what stands in their way."""

    def __init__(
        self,
        pool: Pool,
        nothing: Groups,
        candidate: Candidate,
        families: Sequence[FamilyInstance],
        stance: str | OwnPosture,
    ) -> None:
        plan = Plan(
            candidates=(candidate,),
            families=tuple(families),
            workloads=(),
            posture=candidate.posture or stance,
            timeout_s=_TIMEOUT_S,
        )
        self._pool = pool
        self._nothing = nothing
        self._plan = plan
        self._candidate = candidate
        self._count = 0
        self.applied: Applied = enforcement.apply(pool, candidate, posture(plan.posture))
        insn = pool.first.hello.syscall_insn
        self.terms: Terms = self.applied.terms(insn, with_steps=True)

    def programs(
        self, programs: Sequence[Program], family: FamilyInstance, *, quickly: bool = False
    ) -> list[TrialRecord]:
        """A trial of each, both arms anew: no two trials share a control."""
        variants: list[Variant] = []
        for one in programs:
            self._count += 1
            variants.append(variant_of(one, family, f"model-{self._count}"))
        return self.variants(variants, quickly=quickly)

    def variants(self, variants: Sequence[Variant], *, quickly: bool = False) -> list[TrialRecord]:
        """A trial of each; ``quickly``: nobody waits long for what will mostly not work."""
        if not variants:
            return []
        try:
            return self._trials(variants, quickly)
        except HarnessError:
            self._pool.renew()
        return self._trials(variants, quickly)

    def _trials(self, variants: Sequence[Variant], quickly: bool) -> list[TrialRecord]:
        # A share of its own: what it keeps of programs that are run once would only grow.
        plan = replace(self._plan, timeout_s=_QUICKLY_S) if quickly else self._plan
        share = Share(
            plan, self._pool, self._nothing, lambda _name, _done, _more: None, honest=False
        )
        return share.trials(variants, self._candidate, self.applied)


@contextmanager
def bench(
    candidate: Candidate,
    families: Sequence[FamilyInstance],
    *,
    stance: str | OwnPosture,
    jobs: int,
) -> Generator[Bench]:
    """A bench whose candidate is in force; ``EnvironmentLackError`` if it is not."""
    with Pool(jobs) as pool, closing(Groups([])) as nothing:
        one = Bench(pool, nothing, candidate, families, stance)
        if not one.applied.enforcement.enforced:
            raise EnvironmentLackError(f"{candidate.name}: {one.applied.enforcement.reason}")
        yield one


def has_effect(trial: TrialRecord) -> bool:
    """Whether both arms had the effect itself, as the judge saw: nothing else is a bypass."""
    exact = trial.control_effect is Grade.EXACT and trial.mitigated_effect is Grade.EXACT
    return exact and trial.outcome is Outcome.BYPASSED
