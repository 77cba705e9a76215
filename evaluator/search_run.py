"""A search at work: which families, for how long each, and both arms of each program.

``search`` is for any command that wants to know how much it takes to break what is held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial

from msgspec.structs import replace

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
from evaluator.search import Runner, Search
from evaluator.search_records import Limits, Searched, Tried
from evaluator.share import Groups, Share
from evaluator.verdict import Outcome
from mitigations.bpf import Filter
from mitigations.candidate import Candidate, OwnPosture

Memory = dict[str, Tried]
"""What came of programs, by family and digest: these are not run again."""
OnStep = Callable[[str, int, int], None]
"""Hears of a family how many programs were built for it, and how many were run."""
_TIMEOUT_S = 1.0
_QUICKLY_S = 0.2


def search(
    candidate: Candidate,
    families: Sequence[FamilyInstance],
    limits: Limits,
    *,
    stance: str | OwnPosture = "container",
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
    known = {} if memory is None else memory
    begun = time.monotonic()
    with Pool(jobs) as pool, closing(Groups([])) as nothing:
        applied = enforcement.apply(pool, candidate, posture(plan.posture))
        if not applied.enforcement.enforced:
            raise EnvironmentLackError(f"{candidate.name}: {applied.enforcement.reason}")
        terms = applied.terms(pool.first.hello.syscall_insn, with_steps=False)
        for place, instance in enumerate(families):
            label = instance.label
            arms, quick = (
                _Arms(_share(one, pool, nothing), pool, candidate, applied)
                for one in (plan, replace(plan, timeout_s=_QUICKLY_S))
            )
            one = Search(
                instance,
                terms,
                _part_of(limits, begun, len(families) - place),
                arms.runner(known, label),
                quick.runner(known, f"{label} quickly"),
                partial(on_step, label),
            )
            try:
                one.go()
            except KeyboardInterrupt:
                yield one.result()
                raise
            yield one.result()


def trials(
    candidate: Candidate, variants: Sequence[Variant], plan: Plan, *, stance: str | OwnPosture
) -> list[TrialRecord]:
    """These variants under a candidate, as a campaign of this plan would record them."""
    if not variants:
        return []
    with Pool(plan.jobs) as pool, closing(Groups([])) as nothing:
        applied = enforcement.apply(pool, candidate, posture(stance))
        return _share(plan, pool, nothing).trials(variants, candidate, applied)


def _share(plan: Plan, pool: Pool, nothing: Groups) -> Share:
    return Share(plan, pool, nothing, lambda _name, _done, _more: None, honest=False)


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

    def __init__(self, share: Share, pool: Pool, candidate: Candidate, applied: Applied) -> None:
        self._share = share
        self._pool = pool
        self._candidate = candidate
        self._applied = applied

    def runner(self, memory: Memory, label: str) -> Runner:
        """Runs programs of one family; ``label`` keeps apart what is remembered of each."""

        def run(variants: Sequence[Variant]) -> list[Tried]:
            keys = [f"{label} {one.program.digest()}" for one in variants]
            new = {key: one for key, one in zip(keys, variants, strict=True) if key not in memory}
            fresh = dict(zip(new, map(_tried, self._trials(list(new.values()))), strict=True))
            found = [fresh.get(key) or memory[key] for key in keys]
            # A fault of ours is no news about the program.
            memory.update((k, v) for k, v in fresh.items() if v.outcome != Outcome.HARNESS_ERROR)
            return found

        return run

    def _trials(self, variants: Sequence[Variant]) -> list[TrialRecord]:
        if not variants:
            return []
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
