"""From a hardening to what is said of it."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Sequence

from attacks.program import Abi
from evaluator.cause import Causes, Through
from evaluator.drafts import Draft
from evaluator.elements import Element
from evaluator.harden import Cut, Hardening, is_held, lost
from evaluator.harden_records import Chosen, Conflict, Hardened, Held, Refused, Works
from evaluator.layers import could_hold
from evaluator.records import CandidateResult, FamilyRecord, WorkloadRecord
from mitigations.bpf import Filter
from mitigations.candidate import Attachment

_MOST_CONFLICTS = 3
"""Ways shown for one family: the shortest ones."""


def hardened(one: Hardening, objective: str | None) -> Hardened:
    """What is known, whether it came to its end or not."""
    before, after = one.before, one.after
    assert before is not None
    candidate = one.original.candidate
    families = tuple(_families(one, before, after))
    workloads = tuple(_workloads(one, before, after))
    holds = (
        after is not None
        and not one.ended
        and all(is_held(record) for record in after.families)
        and all(work.after for work in workloads if work.chosen)
        and not lost(before.starts, after.starts)
    )
    return Hardened(
        candidate=candidate.name,
        source=candidate.source,
        posture=before.posture,
        runtime_model=candidate.runtime_model,
        objective=objective,
        holds=holds,
        confirmed=after is not None,
        ended=one.ended,
        rounds=one.rounds,
        seconds=round(time.monotonic() - one.begun, 3),
        changes=tuple(_changes(one)),
        families=families,
        workloads=workloads,
        conflicts=tuple(
            conflict for name in sorted(one.given_up) for conflict in _conflicts(one, name)
        ),
        notes=tuple(_notes(one)),
        diff=_diff(one.original, one.draft),
        profile=one.draft.text,
    )


def _notes(one: Hardening) -> Iterator[str]:
    if one.original.candidate.attachment is Attachment.SELF:
        yield "a program puts it on itself: no workload is started under it, and none was run"
    elif not one.terms.chosen:
        yield "no workload had to work: nobody knows what the changes break"
    if one.original.has_source:
        return
    yield "it is a filter in bytes: nothing is taken out of it, and another one is put beside it"
    for broken in one.unhelped:
        calls = ", ".join(map(str, broken.denied))
        yield f"{broken.workload} would need a filter that allows {calls or 'more'}"


def _changes(one: Hardening) -> Iterator[Chosen]:
    for repaired in one.repaired:
        change = repaired.repair.change
        yield Chosen(change.line, repaired.repair.call, repairs=repaired.workloads)
    for element in one.elements:
        closes = [name for name, keys in one.routes.items() if element.key in keys]
        closing = element.closing
        yield Chosen(closing.change.line, _call(element), tuple(closes), breaks=closing.breaks)


def _call(element: Element) -> str:
    return f"{element.step.abi.value}:{element.step.name}"


def _families(
    one: Hardening, before: CandidateResult, after: CandidateResult | None
) -> Iterator[Held]:
    then = {record.family: record for record in after.families} if after else {}
    for record in before.families:
        now: FamilyRecord | None = then.get(record.family)
        yield Held(
            family=record.family,
            title=record.title,
            before=record.verdict.value,
            bypassed_before=record.bypassed,
            after=now.verdict.value if now else "",
            bypassed=now.bypassed if now else 0,
            reason=now.reason if now else "not run",
        )


def _workloads(
    one: Hardening, before: CandidateResult, after: CandidateResult | None
) -> Iterator[Works]:
    must = {work.name for work in one.terms.chosen}
    then = {record.workload: record for record in after.workloads} if after else {}
    for record in before.workloads:
        now: WorkloadRecord | None = then.get(record.workload)
        yield Works(
            workload=record.workload,
            title=record.title,
            chosen=record.workload in must,
            in_control=record.works_in_control,
            before=record.works,
            reason_before=record.reason or "",
            after=now is not None and now.works,
            reason=(now.reason or "") if now else "not run",
        )


def _diff(old: Draft, new: Draft) -> str:
    name = f"{old.candidate.source}{': its profile' * old.is_part}"
    return "".join(
        difflib.unified_diff(
            old.text.splitlines(keepends=True),
            new.text.splitlines(keepends=True),
            name,
            f"{name} (hardened)",
        )
    )


# ------------------------------------------------------------------------------- what cannot be


def _conflicts(one: Hardening, family: str) -> Iterator[Conflict]:
    """The ways that no choice closes; all cuts, if it is only together that they cannot."""
    layers = could_hold(family.partition("[")[0].partition("@")[0])
    found: dict[object, Conflict] = {}
    mine = [(name, keys) for name, keys in one.routes.items() if one.family_of(name) == family]
    # First what nothing stops, then what goes through the machine's own table.
    for name, keys in sorted(mine, key=lambda pair: (bool(pair[1]), _foreign(one, pair[1]))):
        refused = [cut for key in sorted(keys) if (cut := _alone(one, key))]
        if len(refused) == len(keys):
            said = _said(one, name) if not keys else _needed(refused)
            shown = tuple(_refused(one, cut) for cut in refused)
            found.setdefault((said, shown), Conflict(family, name, said, shown, layers))
    if found:
        yield from list(found.values())[:_MOST_CONFLICTS]
        return
    wanted = frozenset[str]().union(*(keys for _, keys in mine))
    cuts = [cut for cut in one.cuts if cut.elements <= wanted]
    said = "; ".join(dict.fromkeys(_needed([cut]) for cut in cuts if len(cut.elements) > 1))
    shown = tuple(_refused(one, cut) for cut in cuts)
    yield Conflict(family, "", f"not all of its ways together: {said}", shown, layers)


def _foreign(one: Hardening, keys: frozenset[str]) -> bool:
    return any(one.element(key).step.abi is not Abi.X86_64 for key in keys)


def _alone(one: Hardening, key: str) -> Cut | None:
    """The cut that forbids a change, whatever else is chosen."""
    return next((cut for cut in one.cuts if cut.elements == frozenset([key])), None)


def _needed(cuts: Sequence[Cut]) -> str:
    calls: dict[str, dict[str, None]] = {}
    for cut in cuts:
        calls.setdefault(cut.workload, {}).update(dict.fromkeys(map(str, cut.needs)))
    needs = [f"{one} needs {' or '.join(some) or 'it'}" for one, some in calls.items() if one]
    return "; ".join(dict.fromkeys([*needs, *(cut.said for cut in cuts if cut.said)]))


def _refused(one: Hardening, cut: Cut) -> Refused:
    lines = sorted(one.element(key).line for key in cut.elements)
    needs = [f"{call} ({call.answer})" for call in cut.needs]
    return Refused(tuple(lines), cut.workload, tuple(needs), cut.said)


def _said(one: Hardening, name: str) -> str:
    """Why no single change stops a way."""
    candidate = one.base.candidate
    filters = tuple(Filter.decode(layer.program) for layer in candidate.seccomp)
    variant = one.variant(name)
    (cause,) = Causes(candidate, filters, 0).of([Through(variant)], [variant])
    return cause.said
