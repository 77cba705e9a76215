"""A check of a library: what is run for it, what is known already, and what is run again.

Profiles with equal settings are evaluated in one campaign.  What fails is looked at again before it
fails a gate, and what does not repeat is undecided.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from attacks import library as variants
from attacks.errors import AttackError
from attacks.family import FamilyInstance
from evaluator import check_store
from evaluator.check_items import Unit, units
from evaluator.errors import EnvironmentLackError
from evaluator.expectations import Expected
from evaluator.objectives import Objective
from evaluator.plan import Plan, Progress, Rewrites
from evaluator.posture import posture
from evaluator.records import CandidateResult, Environment, plain
from evaluator.request import text_of
from evaluator.verdict import Outcome, Verdict
from evaluator.workloads import Workload, builtin
from mitigations.candidate import Candidate, FailedCandidate, ProfileError
from reports.schema import Candidate as Result

RERUNS = 2
"""How often a failing verdict is looked at again."""
OnProgress = Callable[[Progress], None]
Counterparts = Callable[[Sequence[tuple[Unit, str]]], Sequence[Result | None]]
"""Says of units and their digests what each was in a baseline."""


class Options(Struct, frozen=True, kw_only=True):
    """How a check is run."""

    jobs: int | None = None
    timeout_s: float = 5.0
    simulate: bool = False


class Job(Struct):
    """One unit and all that is run for it; ``result`` once it is known."""

    unit: Unit
    candidate: Candidate | FailedCandidate
    families: tuple[FamilyInstance, ...]
    named: frozenset[str]
    """Families that somebody means to stop."""
    workloads: tuple[Workload, ...]
    base: Result | None = None
    """The same in the baseline."""
    key: str = ""
    """Of its cache entry; empty if there is none."""
    result: Result | None = None
    cached: bool = False
    confirmed: dict[str, int] = field(default_factory=dict[str, int])
    """By class and subject: how often a failure was seen again."""

    @property
    def kept_workloads(self) -> tuple[Workload, ...]:
        """Those that ship with the tool: nobody knows which programs another one runs."""
        return tuple(one for one in self.workloads if one in builtin())

    @property
    def own_workloads(self) -> tuple[Workload, ...]:
        """The others, whose results are never kept."""
        return tuple(one for one in self.workloads if one not in builtin())

    @property
    def seen(self) -> Result:
        """The result, which is known by now."""
        assert self.result is not None
        return self.result


def jobs_of(profiles: Sequence[Expected], counterparts: Counterparts) -> list[Job]:
    """What is to be run for these profiles; what a baseline ran is run as well."""
    suite = variants.suite().variants.keys()
    every = units(profiles)
    loaded = list(zip(every, load_units(every), strict=True))
    bases = counterparts([(unit, _digest(one)) for unit, one in loaded])
    pairs = zip(loaded, bases, strict=True)
    return [_job(unit, candidate, base, suite) for (unit, candidate), base in pairs]


def _digest(candidate: Candidate | FailedCandidate) -> str:
    return candidate.digest if isinstance(candidate, Candidate) else ""


def _job(
    unit: Unit,
    candidate: Candidate | FailedCandidate,
    base: Result | None,
    suite: Iterable[str],
) -> Job:
    promise = unit.expected.promise
    families = {one.label: one for one in promise.families}
    named = set(families)
    workloads = {one.name: one for one in promise.workloads}
    for one in base.families if base else ():
        instance = _instance(one.family)
        if instance is not None:
            families.setdefault(instance.label, instance)
            named.update([instance.label] if one.targeted else [])
    shipped = {one.name: one for one in builtin()}
    for record in base.workloads if base else ():
        if record.workload in shipped:
            workloads.setdefault(record.workload, shipped[record.workload])
    held = frozenset(suite)
    of_suite = [each.only(held) for each in families.values()]
    return Job(
        unit=unit,
        candidate=candidate,
        families=tuple(each for each in of_suite if each.size),
        named=frozenset(named),
        workloads=tuple(workloads.values()),
        base=base,
    )


def _instance(label: str) -> FamilyInstance | None:
    """A family that a baseline names; None if this version has none of that name."""
    try:
        return variants.parse_reference(label)
    except AttackError:
        return None


def load_units(wanted: Iterable[Unit]) -> list[Candidate | FailedCandidate]:
    """The candidates of units, each under the unit's name and posture."""
    files = _Files()
    return [_named(unit, files.candidate(unit)) for unit in wanted]


def _named(unit: Unit, found: Candidate | FailedCandidate) -> Candidate | FailedCandidate:
    if isinstance(found, FailedCandidate):
        return replace(found, name=unit.name)
    return replace(found, name=unit.name, posture=found.posture or unit.posture)


class _Files:
    """What is in the files of a library; a manifest is read once for all of its candidates."""

    def __init__(self) -> None:
        self._known: dict[object, list[Candidate | FailedCandidate]] = {}

    def candidate(self, unit: Unit) -> Candidate | FailedCandidate:
        """That of a unit, under its own name."""
        expected = unit.expected
        path = expected.path
        try:
            found = self._of_file(unit)
        except ProfileError as error:
            return FailedCandidate(unit.name, str(path), error)
        except OSError as error:  # a name that no file can have
            why = ProfileError(error.strerror or str(error), code="unreadable")
            return FailedCandidate(unit.name, str(path), why)
        if expected.member:
            found = [one for one in found if one.name == expected.member]
        if len(found) == 1:
            return found[0]
        why = ProfileError(f"{len(found)} candidates are called like that: one is expected")
        return FailedCandidate(unit.name, str(path), why)

    def _of_file(self, unit: Unit) -> list[Candidate | FailedCandidate]:
        from evaluator.installed_systemd import facts
        from mitigations.libseccomp import LibseccompMissing
        from mitigations.load import load

        path, promise = unit.expected.path, unit.expected.promise
        key = (path, promise.meaning, promise.node, unit.model, unit.posture)
        if key not in self._known:
            try:
                self._known[key] = load(
                    path,
                    meaning=promise.meaning,
                    runtime=unit.model,
                    capabilities=posture(unit.posture).capabilities,
                    setup=promise.node,
                    known_to_systemd=facts,
                )
            except LibseccompMissing as error:
                raise EnvironmentLackError(str(error)) from error
        return self._known[key]


# ------------------------------------------------------------------------------------- first runs


def run(
    jobs: Sequence[Job],
    options: Options,
    store: check_store.Store | None,
    where: Environment,
    on_progress: OnProgress,
) -> None:
    """Finds the result of every job: in the store, or by a campaign."""
    around = check_store.surroundings(where) if store else ""
    for job in jobs:
        if store and isinstance(job.candidate, Candidate):
            kept = replace(_plan([job], options), workloads=job.kept_workloads)
            job.key = check_store.key(job.candidate, kept, variants.SUITE, around)
            entry = store.get(job.key)
            if entry is not None:
                job.result = _renamed(entry.result, job)
                job.confirmed = dict(entry.reruns)
                job.cached = True
    _run_own_workloads(
        [one for one in jobs if one.cached and one.own_workloads], options, on_progress
    )
    for group in _alike([one for one in jobs if one.result is None]):
        found = _campaign(_plan(group, options), options, on_progress)
        for job, result in zip(group, found, strict=True):
            job.result = result
            if store:
                _put(store, job)


def _run_own_workloads(jobs: Sequence[Job], options: Options, on_progress: OnProgress) -> None:
    """Adds to stored results what is never stored."""
    whole = {job.unit.name: job for job in jobs}
    names = {job.unit.name: frozenset(one.name for one in job.own_workloads) for job in jobs}
    for group in _alike([_narrowed(one, Doubt(workloads=names[one.unit.name])) for one in jobs]):
        found = _campaign(_plan(group, options), options, on_progress)
        for narrow, result in zip(group, found, strict=True):
            job = whole[narrow.unit.name]
            both = replace(job.seen, workloads=(*job.seen.workloads, *result.workloads))
            job.result = merged(both, result)


def _put(store: check_store.Store, job: Job) -> bool:
    """Keeps what of a job may be kept; whether anything was."""
    own = {one.name for one in job.own_workloads}
    confirmed = {
        name: count for name, count in job.confirmed.items() if name.partition(" ")[2] not in own
    }
    kept = tuple(one for one in job.seen.workloads if one.workload not in own)
    result = replace(job.seen, workloads=kept)
    if not job.key or not all(confirmed.values()) or not _is_settled(result, job):
        return False
    store.put(job.key, result, confirmed)
    return True


def _alike(jobs: Iterable[Job]) -> list[list[Job]]:
    """Those that one campaign can do."""
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        groups.setdefault(_settings(job), []).append(job)
    return list(groups.values())


def _settings(job: Job) -> object:
    promise = job.unit.expected.promise
    return (
        tuple(one.label for one in job.families),
        job.named,
        msgspec.json.encode(job.workloads),
        promise.assume,
        promise.exhaustive,
    )


def _plan(jobs: Sequence[Job], options: Options) -> Plan:
    """One plan for jobs of equal settings."""
    first = jobs[0]
    promise = first.unit.expected.promise
    candidates = tuple(one.candidate for one in jobs)
    return Plan(
        candidates=candidates,
        families=first.families,
        workloads=() if options.simulate else first.workloads,
        objective=Objective("expectations", "", dict.fromkeys(sorted(first.named), ""), ()),
        assume=promise.assume,
        jobs=options.jobs or len(os.sched_getaffinity(0)),
        timeout_s=options.timeout_s,
        rewrites=Rewrites.ALL if promise.exhaustive else Rewrites.SAMPLED,
        suite=frozenset(variants.suite().variants),
        sources={one.source: text_of(one.source) for one in candidates},
    )


def _campaign(plan: Plan, options: Options, on_progress: OnProgress) -> Iterator[Result]:
    """The results, each as soon as it is there."""
    from evaluator.findings import with_findings

    found = [with_findings(one) if isinstance(one, Candidate) else one for one in plan.candidates]
    plan = replace(plan, candidates=tuple(found))
    if options.simulate:
        from evaluator.simulate import simulate

        yield from map(_typed, simulate(plan, on_progress))
        return
    from evaluator.campaign import evaluate

    yield from map(_typed, evaluate(plan, on_progress))


def _typed(result: CandidateResult) -> Result:
    return msgspec.convert(plain(result), Result)


def _renamed(result: Result, job: Job) -> Result:
    """A stored result under the name of this job: equal profiles may be called otherwise."""
    return replace(
        result,
        name=job.candidate.name,
        source=job.candidate.source,
        profile_text=text_of(job.candidate.source),
    )


def _is_settled(result: Result, job: Job) -> bool:
    """Whether a result says enough to be believed later."""
    broke = {Outcome.HARNESS_ERROR, Outcome.DISAGREEMENT}
    # That a program is not installed is part of the key; no other reason why one did not run is.
    missing = {one.name for one in job.kept_workloads if one.missing()}
    return (
        result.valid
        and bool(result.enforced)
        and broke.isdisjoint(result.counts)
        and all(one.verdict != Verdict.UNDECIDED for one in result.families)
        and all(
            one.outcome in ("works", "broken") or one.workload in missing
            for one in result.workloads
        )
    )


# --------------------------------------------------------------------------------------- again


class Doubt(Struct, frozen=True):
    """What of a job is to be run again."""

    families: frozenset[str] = frozenset()
    workloads: frozenset[str] = frozenset()


def run_again(
    jobs: Sequence[tuple[Job, Doubt]], options: Options, on_progress: OnProgress
) -> list[Mapping[str, Result]]:
    """For each further run: what all of it says, by the unit's name; controls are run anew."""
    narrowed = [_narrowed(job, doubt) for job, doubt in jobs]
    whole = {job.unit.name: job.seen for job, _ in jobs}
    runs: list[Mapping[str, Result]] = []
    for _ in range(RERUNS):
        seen: dict[str, Result] = {}
        for group in _alike(narrowed):
            found = _campaign(_plan(group, options), options, on_progress)
            for job, result in zip(group, found, strict=True):
                seen[job.unit.name] = merged(whole[job.unit.name], result)
        runs.append(seen)
    return runs


def keep(store: check_store.Store, jobs: Iterable[Job]) -> None:
    """Keeps that these failed again; what did not repeat is forgotten."""
    for job in jobs:
        if not _put(store, job) and job.key:
            store.drop(job.key)


def _narrowed(job: Job, doubt: Doubt) -> Job:
    return Job(
        unit=job.unit,
        candidate=job.candidate,
        families=tuple(one for one in job.families if one.label in doubt.families),
        named=job.named,
        workloads=tuple(one for one in job.workloads if one.name in doubt.workloads),
    )


def merged(whole: Result, again: Result) -> Result:
    """A result with what a later run of a part of it says instead."""
    families = {one.family: one for one in again.families}
    workloads = {one.workload: one for one in again.workloads}
    return replace(
        whole,
        enforced=again.enforced,
        notes=again.notes,
        starts=again.starts,
        ground_truth=again.ground_truth,
        families=tuple(families.get(one.family, one) for one in whole.families),
        workloads=tuple(workloads.get(one.workload, one) for one in whole.workloads),
        trials=(
            *(one for one in whole.trials if one.family not in families),
            *again.trials,
        ),
    )
