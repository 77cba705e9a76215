"""A verdict ``held`` after a search: it carries what failed to break it, or is held no longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec.structs import replace

from attacks.family import FamilyInstance, Variant
from evaluator.assemble import assemble
from evaluator.cause import Causes, Through
from evaluator.foreign import variant_of
from evaluator.plan import Plan, Progress
from evaluator.records import CandidateResult, CandidateRun, Cause, SearchRecord
from evaluator.search_records import NOT_LED, Find, Limits, Searched
from evaluator.search_run import search, trials
from evaluator.verdict import HOLDING
from mitigations.bpf import Filter
from mitigations.candidate import Candidate

OnProgress = Callable[[Progress], None]
_TENTHS = 10


def deepen(
    results: list[CandidateResult],
    runs: Iterable[CandidateRun],
    plan: Plan,
    seconds: float,
    on_progress: OnProgress,
) -> None:
    """Searches so many seconds in what is held under each candidate, and judges it anew.

    ``results`` is changed one by one: who interrupts keeps what there was.
    """
    places = {one.name: place for place, one in enumerate(results)}
    for run in runs:
        place = places[run.candidate.name]
        results[place] = _deepened(results[place], run, plan, seconds, on_progress)


def _deepened(
    result: CandidateResult, run: CandidateRun, plan: Plan, seconds: float, on_progress: OnProgress
) -> CandidateResult:
    held = {one.family for one in result.families if one.verdict in HOLDING}
    families = [one for one in plan.families if one.label in held]
    if not families or not result.enforced:
        return result
    stance = run.candidate.posture or run.posture
    begun = time.monotonic()

    def on_step(label: str, _built: int, _run: int) -> None:
        spent = min(seconds, time.monotonic() - begun)
        name = f"{result.name}: searching {label}"
        on_progress(Progress(name, int(spent * _TENTHS), int(seconds * _TENTHS)))

    limits = Limits(seconds=seconds)
    searched = list(
        search(run.candidate, families, limits, stance=stance, jobs=plan.jobs, on_step=on_step)
    )
    found = [
        (family, [_variant(find, family) for find in one.finds])
        for family, one in zip(families, searched, strict=True)
    ]
    variants = [variant for _, some in found for variant in some]
    deeper = replace(
        run,
        trials=(*run.trials, *trials(run.candidate, variants, plan, stance=stance)),
        searched={one.family: _record(one) for one in searched},
        causes=(*run.causes, (run.candidate.profile, tuple(_causes(run.candidate, found)))),
    )
    deepened = assemble(deeper, plan)
    if run.candidate.beside_filters:
        deepened = replace(deepened, notes=(*deepened.notes, NOT_LED))
    return deepened


def _causes(
    candidate: Candidate, found: Iterable[tuple[FamilyInstance, Sequence[Variant]]]
) -> Iterator[Cause]:
    """What lets through what was found."""
    filters = [Filter.decode(layer.program) for layer in candidate.seccomp]
    causes = Causes(candidate, filters, 0)
    for family, variants in found:
        yield from causes.of(map(Through, variants), family.variants)


def _variant(find: Find, family: FamilyInstance) -> Variant:
    name = find.id.partition("/")[2]
    why = "Found by search: " + "; ".join(step.why.rstrip(".") for step in find.steps)
    return replace(
        variant_of(find.program, family, f"{name}~found"),
        technique=find.technique,
        why=f"{why}.",
        parent=f"{family.label}/{name.partition('~')[0]}",
    )


def _record(one: Searched) -> SearchRecord:
    return SearchRecord(
        seconds=one.seconds,
        built=one.built,
        run=one.run,
        routes=one.routes,
        ended=one.ended.value,
        found=tuple(f"{find.id}~found" for find in one.finds),
    )
