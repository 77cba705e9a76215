"""A search at work: which families, for how long each, and both arms of every program in the sandbox.

``search`` is for any command that wants to know how much it takes to break what is held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from attacks.effects import Grade
from attacks.family import FamilyInstance, Technique, Variant
from attacks.program import Abi, Syscall, is_decisive
from evaluator import enforcement
from evaluator.enforcement import Applied
from evaluator.errors import EnvironmentLackError, HarnessError
from evaluator.plan import Plan
from evaluator.pool import Pool
from evaluator.posture import posture
from evaluator.predict import predicted
from evaluator.records import TrialRecord
from evaluator.search import Search
from evaluator.search_records import Limits, Searched, Tried
from evaluator.share import Groups, Share
from evaluator.verdict import Outcome
from mitigations.bpf import Filter
from mitigations.candidate import Candidate

Memory = dict[str, Tried]
"""What came of programs, by digest: these are not run again."""
OnStep = Callable[[str, int, int], None]
"""Hears of a family how many programs were built for it, and how many were run."""
_TIMEOUT_S = 1.0


def search(
    candidate: Candidate,
    families: Sequence[FamilyInstance],
    limits: Limits,
    *,
    stance: str = "container",
    jobs: int = 2,
    memory: Memory | None = None,
    on_step: OnStep = lambda _family, _built, _run: None,
) -> Iterator[Searched]:
    """What a search finds in each family, one by one, within the limits for all of them.

    What a family does not need of its share of the time is left to those after it.  ``memory`` is
    used and added to.  If somebody interrupts, what there is of that family comes before the
    interruption goes on.
    """
    plan = Plan(
        candidates=(candidate,),
        families=tuple(families),
        workloads=(),
        posture=candidate.posture or stance,
        timeout_s=_TIMEOUT_S,
        with_steps=False,
    )
    begun = time.monotonic()
    with Pool(jobs) as pool, closing(Groups([])) as nothing:
        applied = enforcement.apply(pool, candidate, posture(plan.posture))
        if not applied.enforcement.enforced:
            raise EnvironmentLackError(f"{candidate.name}: {applied.enforcement.reason}")
        terms = applied.terms(pool.first.hello.syscall_insn, with_steps=False)
        for place, instance in enumerate(families):
            share = Share(plan, pool, nothing, lambda _name, _done, _more: None, honest=False)
            arms = _Arms(share, pool, candidate, applied, {} if memory is None else memory)
            one = Search(
                instance,
                terms,
                _part_of(limits, begun, len(families) - place),
                arms.run,
                lambda built, run, label=instance.label: on_step(label, built, run),
            )
            try:
                one.go()
            except KeyboardInterrupt:
                yield one.result()
                raise
            yield one.result()


def targeted(candidate: Candidate, families: Sequence[FamilyInstance]) -> list[FamilyInstance]:
    """The families that somebody meant to stop, as far as that can be told without a run.

    That is by the baseline, or a direct sibling of it in the machine's own table.
    """
    filters = tuple(Filter.decode(layer.program) for layer in candidate.seccomp)
    return [
        one
        for one in families
        if any(_is_denied(v, filters) for v in one.variants if _is_direct(v))
    ]


def _is_direct(variant: Variant) -> bool:
    if variant.negative or variant.grade is not Grade.EXACT:
        return False
    if variant.technique is Technique.BASELINE:
        return True
    native = any(
        isinstance(op, Syscall) and is_decisive(op) and op.abi is Abi.X86_64
        for _, op in variant.program.flatten()
    )
    return variant.technique is Technique.SIBLING_SYSCALL and native


def _is_denied(variant: Variant, filters: Sequence[Filter]) -> bool:
    return predicted(variant.program, filters, None, 0) == "BLOCKED"


def _part_of(limits: Limits, begun: float, families_left: int) -> Limits:
    """The limits of one family: its part of the time that is left."""
    if limits.seconds is None:
        return limits
    left = max(0.0, limits.seconds - (time.monotonic() - begun))
    return Limits(left / families_left, limits.programs, limits.seed, limits.baseline_only)


class _Arms:
    """Runs programs in both arms, unless it is remembered what came of them."""

    def __init__(
        self, share: Share, pool: Pool, candidate: Candidate, applied: Applied, memory: Memory
    ) -> None:
        self._share = share
        self._pool = pool
        self._candidate = candidate
        self._applied = applied
        self._memory = memory

    def run(self, variants: Sequence[Variant]) -> list[Tried]:
        digests = [one.program.digest() for one in variants]
        new = [i for i, digest in enumerate(digests) if digest not in self._memory]
        found = [self._memory.get(digest) for digest in digests]
        if new:
            for i, trial in zip(new, self._trials([variants[i] for i in new]), strict=True):
                found[i] = self._memory[digests[i]] = _tried(trial)
        return [one for one in found if one is not None]

    def _trials(self, variants: Sequence[Variant]) -> list[TrialRecord]:
        try:
            return self._share.trials(variants, self._candidate, self._applied)
        except HarnessError:
            self._pool.renew()
        return self._share.trials(variants, self._candidate, self._applied)


def _tried(trial: TrialRecord) -> Tried:
    exact = trial.control_effect is Grade.EXACT and trial.mitigated_effect is Grade.EXACT
    stopped = trial.stopped_at
    return Tried(
        outcome=trial.outcome.value,
        exact=exact and trial.outcome is Outcome.BYPASSED,
        stopped=f"{stopped.abi}:{stopped.call}" if stopped else "",
        reason=trial.reason or "",
    )
