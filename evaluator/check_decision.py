"""From results and promises to items: pure, and it fails closed.

A family passes as ``held``, or if all that gets through in it is accepted; a workload passes if it
works.  Everything else fails, unless it could not be tested and the file allows that by name.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from evaluator import routes
from evaluator.check_items import PROFILE, Unit, waiver_item
from evaluator.difference import CandidateDifference, Change, Kind, suite_name
from evaluator.expectations import Expected, Library, Waiver
from evaluator.verdict import HOLDING, UNSETTLED, Outcome, Scope, Verdict, decide
from reports.check_schema import Item, Place, Waived, Way
from reports.schema import Candidate, Cause, Family, Trial, Workload

Locate = Callable[[Cause | None], Place]
"""Where in the profile's file something is let through."""

_BROKE = frozenset({Outcome.HARNESS_ERROR, Outcome.DISAGREEMENT})
_THROUGH = frozenset({Verdict.LEAKY, Verdict.OPEN})
_NEWLY = {
    Kind.OPENED: "newly-opened",
    Kind.BROKEN: "newly-broken",
    Kind.UNENFORCED: "newly-unenforced",
    Kind.NEWLY_KNOWN: "newly-known",
}
REPEATABLE = frozenset(
    {
        "leaky",
        "open",
        "undecided",
        "broken",
        "unstable",
        "unavailable",
        "unneeded",
        *_NEWLY.values(),
    }
)
"""Classes that fail a gate only if they are seen again."""
_SHOWN = 6
"""So many fixes are lines of an item."""


class Terms(Struct, frozen=True):
    """What is the same for all items of a unit."""

    today: datetime.date
    locate: Locate
    suite: frozenset[str] | None = None
    """The variants whose ways decide, ``family/variant``; None for all that were run."""
    simulated: bool = False


# ------------------------------------------------------------------------------------ one unit


def items_of(unit: Unit, candidate: Candidate, terms: Terms) -> list[Item]:
    """Every item of a unit but those about waivers and a baseline."""
    promise = unit.expected.promise
    found = [_profile_item(unit, candidate)]
    usable = candidate.valid
    for family in promise.families:
        if usable:
            found += _family_items(unit, family.label, candidate, terms)
        else:
            found.append(_not_judged(unit, family.label, "family"))
    for workload in promise.workloads:
        if usable:
            found.append(_workload_item(unit, workload.name, candidate, terms))
        else:
            found.append(_not_judged(unit, workload.name, "workload"))
    named = {one.label for one in promise.families}
    others = [one.family for one in candidate.families if one.family not in named]
    # What was only run to compare it with a baseline must not have failed us, either.
    found += [item for one in others if (item := _harness_item(unit, one, candidate))]
    return found


def _not_judged(unit: Unit, subject: str, kind: str) -> Item:
    return unit.item(subject, kind, "fail", "invalid", "not judged: the profile cannot be used")


def _profile_item(unit: Unit, candidate: Candidate) -> Item:
    item = unit.item(PROFILE, "profile", "pass", "works", "in force")
    if not candidate.valid:
        fault = candidate.errors[0] if candidate.errors else None
        said = f"{fault.where}: {fault.message}" if fault and fault.where else ""
        message = said or (fault.message if fault else "it cannot be used")
        return replace(item, status="fail", says="invalid", message=message)
    truth = candidate.ground_truth
    ours = sum(one.kind == "seccomp" for one in candidate.layers)
    if truth.read_back == "different" and truth.seccomp_filters == ours:
        message = "the kernel holds another filter than the one that was loaded"
        return replace(item, status="error", says="harness", message=message)
    if candidate.simulated:
        return replace(item, message="read; nothing was run")
    if candidate.enforced is False:
        why = next(iter(candidate.notes), "a layer is not in force")
        return replace(item, status="fail", says="not-enforced", message=why)
    started = candidate.starts
    parts = (started.loads, started.runtime, started.static, started.dynamic)
    if False in parts and candidate.attachment != "self":
        message = f"in force, and does not start: {started.reason or 'no reason is known'}"
        return replace(item, status="warn", says="not-starting", message=message)
    return item


# -------------------------------------------------------------------------------------- families


def _family_items(unit: Unit, label: str, candidate: Candidate, terms: Terms) -> Iterator[Item]:
    broken = _harness_item(unit, label, candidate)
    if broken is not None:
        yield broken
        return
    record = next((one for one in candidate.families if one.family == label), None)
    if record is None:
        yield unit.item(label, "family", "fail", "untested", "it was not run")
        return
    trials = in_scope(candidate, label)
    judged = [one for one in trials if is_judged(one, terms)]
    ways = _ways(judged, record, unit.expected, terms)
    item = replace(unit.item(label, "family", "pass", "held", record.reason), ways=ways)
    yield _with_verdict(item, _verdict(record, judged, ways, terms), record, unit)
    known_since = [one for one in trials if is_through(one) and not is_judged(one, terms)]
    if known_since:
        yield _newly_known(unit, label, known_since, record, terms)


def _harness_item(unit: Unit, label: str, candidate: Candidate) -> Item | None:
    broken = [one for one in candidate.trials if family_of(one) == label and one.outcome in _BROKE]
    if not broken:
        return None
    first = broken[0]
    item = unit.item(label, "family", "error", "harness", f"{first.outcome}: {first.variant}")
    lines = tuple(f"{one.variant}: {one.reason or one.outcome}" for one in broken[:_SHOWN])
    return replace(item, detail=lines)


def _verdict(record: Family, judged: Sequence[Trial], ways: Sequence[Way], terms: Terms) -> Verdict:
    """That of the results; or that of what is left without accepted ways and newer variants."""
    waived = {way.route for way in ways if way.waived is not None}
    if not waived and terms.suite is None:
        return Verdict(record.verdict)
    left = [one for one in judged if not (is_through(one) and _route(one) in waived)]
    return decide(
        {_outcome(one) for one in left if one.agree or is_through(one)},
        targeted=record.verdict != Verdict.OPEN,
        unstable=any(not one.agree and not is_through(one) for one in left),
        reachable_elsewhere=any(
            one.reachable_elsewhere and one.outcome == Outcome.UNSUPPORTED for one in left
        ),
    )


def _with_verdict(item: Item, verdict: Verdict, record: Family, unit: Unit) -> Item:
    allowed = unit.expected.promise.untested.get(item.subject)
    waived = sum(way.waived is not None for way in item.ways)
    if verdict in HOLDING or (verdict is Verdict.UNTESTED and waived):
        if waived:
            message = f"{_count(waived, 'route')} through, all accepted"
            return replace(item, status="waived", says=record.verdict, message=message)
        return replace(item, message=f"{verdict}: {record.reason}")
    if verdict in _THROUGH:
        routes_open = len(item.ways) - waived
        through = "get" if routes_open != 1 else "gets"
        message = f"must be held and is {verdict}: {_count(routes_open, 'route')} {through} through"
        fixes = tuple(dict.fromkeys(f"fix: {one.fix}" for one in item.ways if _open_fix(one)))
        return replace(
            item, status="fail", says=str(verdict), message=message, detail=_first(fixes)
        )
    if allowed is not None:
        return replace(
            item, status="waived", says=str(verdict), message=f"{verdict}, allowed: {allowed}"
        )
    message = f"must be held and is {verdict}: {record.reason}"
    advice = "what cannot be tested here is allowed by name: [[profile.allow-untested]]"
    detail = (advice,) if verdict is Verdict.UNTESTED else ()
    return replace(item, status="fail", says=str(verdict), message=message, detail=detail)


def _open_fix(way: Way) -> bool:
    return bool(way.fix) and way.waived is None


def _first(lines: Sequence[str]) -> tuple[str, ...]:
    if len(lines) <= _SHOWN:
        return tuple(lines)
    return (*lines[:_SHOWN], f"and {len(lines) - _SHOWN} more fixes")


def _newly_known(
    unit: Unit, label: str, trials: Sequence[Trial], record: Family, terms: Terms
) -> Item:
    message = f"{_count(len(trials), 'way')} through that the suite does not hold"
    item = unit.item(label, "baseline", "warn", "newly-known", message)
    advice = "it fails as soon as `suite` in sidestep.toml is raised"
    return replace(item, ways=_ways(trials, record, unit.expected, terms), detail=(advice,))


def _ways(
    trials: Iterable[Trial], record: Family, expected: Expected, terms: Terms
) -> tuple[Way, ...]:
    """The routes through, the shortest first, each by its shortest variant.

    A route is accepted only if every variant on it is; else the shortest that is not shows it.
    """
    by_route: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda one: (one.length, one.variant)):
        if is_through(trial):
            by_route.setdefault(_route(trial), []).append(trial)
    return tuple(_of_route(one, record, expected, terms) for one in by_route.values())


def _of_route(trials: Sequence[Trial], record: Family, expected: Expected, terms: Terms) -> Way:
    """One route, of all that gets through on it."""
    waivers = [_waiver_of(one, expected, terms) for one in trials]
    if None in waivers:
        return _way(trials[waivers.index(None)], None, record, terms)
    return _way(trials[0], waivers[0], record, terms)


def _waiver_of(trial: Trial, expected: Expected, terms: Terms) -> Waiver | None:
    """What accepts a way today."""
    valid = (one for one in expected.waivers if is_valid(one, terms.today))
    return next((one for one in valid if covers(one, trial)), None)


def _way(trial: Trial, waiver: Waiver | None, record: Family, terms: Terms) -> Way:
    cause = next((one for one in record.causes if trial.variant in one.variants), None)
    return Way(
        route=_route(trial),
        variant=trial.variant,
        technique=trial.technique,
        call=trial.title,
        program=tuple(
            one.text if one.section == "attack" else f"{one.section}: {one.text}"
            for one in trial.steps
        ),
        cause=cause.said if cause else "",
        fix=cause.fix if cause else "",
        place=terms.locate(cause),
        waived=None
        if waiver is None
        else Waived(waiver.reason, waiver.owner, waiver.expires.isoformat()),
    )


# ------------------------------------------------------------------------------------- workloads


def _workload_item(unit: Unit, name: str, candidate: Candidate, terms: Terms) -> Item:
    item = unit.item(name, "workload", "pass", "works", "works")
    record = next((one for one in candidate.workloads if one.workload == name), None)
    if terms.simulated:
        return replace(item, status="listed", says="", message="not run: a prediction runs nothing")
    says = "untested" if record is None else _state(record)
    why = (record.reason or "") if record else "it was not run"
    if record is None and candidate.attachment == "self":
        why = "a program attaches this filter to itself, so no workload starts under it"
        advice = "take workloads out of this entry, or allow it: [[profile.allow-untested]]"
        item = replace(item, detail=(advice,))
    allowed = unit.expected.promise.untested.get(name)
    if says == "works":
        return item
    if says in ("unavailable", "untested") and allowed is not None:
        return replace(item, status="waived", says=says, message=f"{says}, allowed: {allowed}")
    detail = item.detail
    if record and record.needs:
        calls = ", ".join(dict.fromkeys(one.call for one in record.needs))
        detail = (f"fix: allow {calls}",)
    elif record and record.denied:
        calls = ", ".join(dict.fromkeys(f"{one.call} ({one.answer})" for one in record.denied))
        detail = (f"denied: {calls}",)
    elif says == "unavailable":
        detail = ("what is not there is allowed by name: [[profile.allow-untested]]",)
    message = f"must work and is {says}: {why}".removesuffix(": ")
    return replace(item, status="fail", says=says, message=message, detail=detail)


def _state(record: Workload) -> str:
    if record.outcome:
        return record.outcome
    if not record.works_in_control:
        return "unavailable"
    return "works" if record.works else "broken"


# --------------------------------------------------------------------------------------- waivers


def waiver_items(
    library: Library,
    expected: Expected,
    results: Sequence[tuple[Unit, Candidate]],
    terms: Terms,
) -> Iterator[Item]:
    """What became of each waiver of a profile, over all its units."""
    labels = [one.label for one in expected.promise.families]
    judged = all(one.valid and (one.enforced or one.simulated) for _, one in results)
    trials = [
        trial
        for _, candidate in results
        for label in labels
        for trial in in_scope(candidate, label)
        if is_judged(trial, terms)
    ]
    for waiver in expected.waivers:
        mine = [one for one in trials if covers(waiver, one)]
        status, says, message = _fate(waiver, mine, terms, judged=judged)
        yield waiver_item(library, expected, waiver, status, says, message)


def _fate(
    waiver: Waiver, trials: Sequence[Trial], terms: Terms, *, judged: bool
) -> tuple[str, str, str]:
    """Status, class and message."""
    through = [one for one in trials if is_through(one)]
    expired = not is_valid(waiver, terms.today)
    since = f"expired on {waiver.expires}"
    if through and expired:
        return "fail", "expired", f"{since}, and {through[0].variant} still gets through"
    if through:
        until = f"until {waiver.expires}, by {waiver.owner}"
        return "pass", "waived", f"accepted {until}: {waiver.reason}"
    if not judged:
        return "fail", "invalid", "not judged: the profile is not in force"
    if any(_outcome(one) in UNSETTLED or not one.agree for one in trials):
        return "warn", "undecided", "nobody knows whether it is still needed"
    elsewhere = [one for one in trials if one.reachable_elsewhere]
    if elsewhere and not expired:
        return "warn", "untested", f"{elsewhere[0].variant} cannot be tried on this machine"
    also = f"{since}, and " if expired else ""
    message = f"{also}no longer needed: nothing gets through by it; remove it"
    return "warn" if terms.simulated else "fail", "unneeded", message


def covers(waiver: Waiver, trial: Trial) -> bool:
    """Whether a waiver is for a way, be it expired or not."""
    if waiver.family and waiver.family != family_of(trial):
        return False
    if waiver.technique:
        return waiver.technique == trial.technique
    return routes.accepts(waiver.route, _route(trial))


def is_valid(waiver: Waiver, today: datetime.date) -> bool:
    """It counts on its last day, too."""
    return today <= waiver.expires


# -------------------------------------------------------------------------------------- baseline


def baseline_items(
    unit: Unit, found: CandidateDifference, candidate: Candidate, terms: Terms
) -> list[Item]:
    """What is worse than in a baseline, one item for each class and subject."""
    grouped: dict[tuple[Kind, str], list[Change]] = {}
    for one in found.changes:
        if one.kind in _NEWLY and not (terms.simulated and one.kind is Kind.BROKEN):
            grouped.setdefault((one.kind, one.subject), []).append(one)
    return [
        _baseline_item(unit, kind, subject, changes, candidate, terms)
        for (kind, subject), changes in grouped.items()
    ]


def _baseline_item(
    unit: Unit,
    kind: Kind,
    subject: str,
    changes: Sequence[Change],
    candidate: Candidate,
    terms: Terms,
) -> Item:
    first = changes[0]
    says = _NEWLY[kind]
    why = f": {first.why}" if first.why else ""
    message = f"was {first.before} in the baseline, is {first.after}{why}"
    item = unit.item(subject or PROFILE, "baseline", "fail", says, message)
    variants = {variant for one in changes for variant in one.variants}
    trials = [one for one in candidate.trials if one.variant in variants]
    record = next((one for one in candidate.families if one.family == subject), None)
    if record is not None:
        item = replace(item, ways=_ways(trials, record, unit.expected, terms))
    if kind is Kind.NEWLY_KNOWN:
        advice = "the suite of the baseline does not hold it: no profile became worse"
        return replace(item, status="warn", detail=(advice,))
    lines = tuple(f"{one.variant}: {_way_before(one.variant, changes)}" for one in trials[:_SHOWN])
    item = replace(item, detail=lines)
    shown = [one for one in changes if one.shown]
    if item.ways and len(shown) == len(changes) and all(one.waived for one in item.ways):
        return replace(item, status="waived", message=f"{message}; all that opened is accepted")
    allowed = unit.expected.promise.untested.get(subject)
    if allowed is not None and first.after in ("untested", "unavailable", "not-enforced"):
        return replace(item, status="waived", message=f"{message}, allowed: {allowed}")
    return item


def _way_before(variant: str, changes: Iterable[Change]) -> str:
    one = next(each for each in changes if variant in each.variants)
    return f"was {one.was}, now {one.now}"


# ---------------------------------------------------------------------------------- repeated runs


def repeatable(item: Item) -> bool:
    """Whether an item is looked at again before it fails a gate."""
    return item.says in REPEATABLE and item.status in ("fail", "warn") and item.kind != "profile"


def settled(first: Item, later: Sequence[Item | None]) -> Item:
    """An item after more runs: confirmed, or undecided if one of them says otherwise.

    ``None`` is a run in which there is no such item: of a baseline, nothing is worse.
    """
    said = [first.says, *(one.says if one else "no difference" for one in later)]
    statuses = {first.status, *(one.status if one else "pass" for one in later)}
    broken = next((one for one in later if one and one.status == "error"), None)
    if broken is not None:
        return replace(broken, reruns=len(later))
    if len(set(said)) == 1 and len(statuses) == 1:
        return replace(first, reruns=len(later))
    counts = ", ".join(f"{said.count(one)} {one}" for one in dict.fromkeys(said))
    message = f"UNDECIDED: equal runs differ: {counts} of {len(said)} runs"
    detail = (f"the first run said: {first.message}", *first.detail)
    return replace(
        first, status="fail", says="undecided", message=message, detail=detail, reruns=len(later)
    )


# ------------------------------------------------------------------------------------- of a trial


def family_of(trial: Trial) -> str:
    """The label of the family that a trial is of."""
    return trial.family or trial.variant.rpartition("/")[0]


def in_scope(candidate: Candidate, label: str) -> list[Trial]:
    """The trials that take part in the verdict on a family."""
    return [
        one
        for one in candidate.trials
        if family_of(one) == label and one.scope == Scope.IN and not one.negative
    ]


def is_through(trial: Trial) -> bool:
    """Whether it got through, or is predicted to."""
    return _outcome(trial) is Outcome.BYPASSED


def is_judged(trial: Trial, terms: Terms) -> bool:
    """Whether the suite holds it."""
    return terms.suite is None or suite_name(trial.variant) in terms.suite


def _outcome(trial: Trial) -> Outcome:
    if trial.outcome == Outcome.SIMULATED and trial.predicted in ("BYPASSED", "BLOCKED"):
        return Outcome(trial.predicted)
    return Outcome(trial.outcome)


def _route(trial: Trial) -> str:
    return trial.route or trial.variant


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
