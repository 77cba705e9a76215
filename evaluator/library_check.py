"""``sidestep check`` from its options to its document."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from attacks import library as variants
from evaluator import check_store, library_run
from evaluator.baseline import Baseline
from evaluator.check_decision import (
    Terms,
    baseline_items,
    items_of,
    repeatable,
    settled,
    waiver_items,
)
from evaluator.check_items import check_ids, listed, mark_of, selected, shown
from evaluator.difference import Setting
from evaluator.errors import InputError
from evaluator.expectations import Expected, Library
from evaluator.library_files import profiles_below
from evaluator.library_run import Doubt, Job, OnProgress, Options
from evaluator.records import Environment, plain
from evaluator.verdict import ExitCode
from mitigations.candidate import Candidate, ProfileError
from mitigations.profile_text import position
from mitigations.strict_json import read_limited
from reports.check_schema import SCHEMA, Change, CheckDocument, Item, Place
from reports.schema import SCHEMA as RESULTS
from reports.schema import Candidate as Result
from reports.schema import Cause, Document, Gate, Tool
from reports.schema import Environment as Machine

_DEFAULTS = ("defaultAction", "linux.seccomp.defaultAction", "seccomp.defaultAction")


class Checked(Struct, frozen=True):
    """What was found: the items, and the results that they are about."""

    document: CheckDocument
    results: Document


def listing(given: str, library: Library, names: Collection[str]) -> CheckDocument:
    """The items of a library, and nothing known of them."""
    profiles = selected(library, names)
    return CheckDocument(
        schema=SCHEMA,
        library=given,
        expectations=shown(library.file),
        suite=library.suite,
        environment=Machine(platform.release(), platform.machine(), "", "none"),
        items=listed(library, profiles),
        unexpected=_unexpected(library),
    )


def check(
    given: str,
    library: Library,
    names: Collection[str],
    base: Baseline | None,
    options: Options,
    where: Environment,
    store: check_store.Store | None,
    on_progress: OnProgress,
    tool: Tool,
) -> Checked:
    """Runs what must be run, and decides."""
    started = time.time()
    profiles = selected(library, names)
    unexpected = _unexpected(library)
    others: list[Expected] = []
    if base is not None and not names:
        others = base.unexpected(_others(library, unexpected, base), library.root)
    jobs = library_run.jobs_of([*profiles, *others], _counterparts(base))
    promised = {one.profile for one in profiles}
    jobs = [one for one in jobs if one.base or one.unit.expected.profile in promised]
    if base is not None and not any(one.base for one in jobs):
        raise InputError(f"{base.path}: no profile of this library is in it")
    library_run.run(jobs, options, store, where, on_progress)
    now = _document(jobs, options, where, tool, started)
    check_ = _Check(library, [*profiles, *others], jobs, base, now, options)
    items = check_.decided(store, on_progress)
    if base is not None:
        used = [one.base for one in jobs if one.base]
        ran = [one.profile for one in (*profiles, *others)]
        items += base.left(used, ran, gone=not names)
    check_ids(items)
    code = exit_code(items)
    document = CheckDocument(
        schema=SCHEMA,
        library=given,
        expectations=shown(library.file),
        suite=library.suite,
        environment=now.environment,
        items=tuple(items),
        unexpected=unexpected,
        changes=check_.changes(),
        baseline=base.path if base else None,
        tool=tool,
        started=now.started,
        duration_s=round(time.time() - started, 6),
        exit_code=code,
        simulated=options.simulate,
        evaluated=sum(not one.cached and _ran(one) for one in jobs),
        cached=sum(one.cached for one in jobs),
    )
    gates = tuple(
        Gate(f"{one.profile}{mark_of(one)}", f"{one.kind} {one.subject}", _is_ok(one), one.message)
        for one in items
    )
    results = replace(now, gates=gates, exit_code=code, duration_s=document.duration_s)
    return Checked(document, results)


def exit_code(items: Iterable[Item]) -> int:
    """The highest that applies."""
    statuses = {one.status for one in items}
    if "error" in statuses:
        return ExitCode.HARNESS_FAILED
    return ExitCode.GATE_FAILED if "fail" in statuses else ExitCode.DONE


def _is_ok(item: Item) -> bool:
    return item.status not in ("fail", "error")


def _ran(job: Job) -> bool:
    return isinstance(job.candidate, Candidate) and not job.seen.simulated


def _counterparts(base: Baseline | None) -> library_run.Counterparts:
    return base.counterparts if base is not None else lambda units: [None] * len(units)


def _unexpected(library: Library) -> tuple[str, ...]:
    known = {one.file for one in library.profiles}
    return tuple(one for one in profiles_below(library.root) if one not in known)


def _others(library: Library, unexpected: Iterable[str], base: Baseline) -> list[str]:
    """Files of which nothing is expected, those included that are no profiles any more."""
    known = {one.profile for one in library.profiles}
    named = {one.name.partition("[")[0] for one in base.document.candidates}
    there = {one for one in named - known if one and (library.root / one).is_file()}
    return sorted({*unexpected, *there})


def _document(
    jobs: Sequence[Job], options: Options, where: Environment, tool: Tool, started: float
) -> Document:
    """The results as ``evaluate`` would have them."""
    assume = {one for job in jobs for one in job.unit.expected.promise.assume}
    began = datetime.datetime.fromtimestamp(started, datetime.UTC)
    return Document(
        schema=RESULTS,
        environment=msgspec.convert(plain(where), Machine),
        suite=variants.SUITE,
        candidates=tuple(one.seen for one in jobs),
        assume=tuple(sorted(assume)),
        tool=tool,
        started=began.isoformat(timespec="seconds"),
        simulated=options.simulate,
    )


# ---------------------------------------------------------------------------------- the decision


class _Check:
    """Decides on all jobs, as often as they were run."""

    def __init__(
        self,
        library: Library,
        profiles: Sequence[Expected],
        jobs: Sequence[Job],
        base: Baseline | None,
        now: Document,
        options: Options,
    ) -> None:
        self._library = library
        self._profiles = profiles
        self._jobs = jobs
        self._base = base
        self._now = now
        self._options = options
        held = frozenset(variants.suite(library.suite).variants)
        self._suite = None if library.suite == variants.SUITE else held
        self._today = datetime.date.today()  # noqa: DTZ011  (a waiver's date is the reader's own)
        self._settings: dict[Setting, None] = {}

    def decided(self, store: check_store.Store | None, on_progress: OnProgress) -> list[Item]:
        """The items; what is about to fail was run again first."""
        first = self._items({})
        if self._options.simulate:
            return [item for item, _ in first]
        doubtful = [(item, jobs) for item, jobs in first if _is_doubtful(item, jobs)]
        doubts = _doubts(doubtful)
        again = (
            library_run.run_again(
                [(job, doubts[job.unit.name]) for job in self._jobs if job.unit.name in doubts],
                self._options,
                on_progress,
            )
            if doubts
            else []
        )
        later = [{item.id: item for item, _ in self._items(results)} for results in again]
        found: list[Item] = []
        for item, jobs in first:
            name = _confirmation(item)
            if _is_doubtful(item, jobs):
                end = settled(item, [run.get(item.id) for run in later])
                repeated = end.says == item.says and end.status == item.status
                for job in jobs:
                    job.confirmed[name] = library_run.RERUNS if repeated else 0
                found.append(end)
            elif repeatable(item):
                found.append(replace(item, reruns=min(job.confirmed[name] for job in jobs)))
            else:
                found.append(item)
        if store is not None:
            library_run.keep(store, [job for job in self._jobs if job.unit.name in doubts])
        return found

    def changes(self) -> tuple[Change, ...]:
        """What is not as it was in the baseline."""
        return tuple(Change(one.name, one.before, one.after) for one in self._settings)

    def _items(self, results: Mapping[str, Result]) -> list[tuple[Item, tuple[Job, ...]]]:
        """All items with the jobs that they are about; ``results`` stand for those of the jobs."""
        by_profile: dict[str, list[Job]] = {one.profile: [] for one in self._profiles}
        for job in self._jobs:
            by_profile[job.unit.expected.profile].append(job)
        found: list[tuple[Item, tuple[Job, ...]]] = []
        for one in self._profiles:
            jobs = by_profile[one.profile]
            terms = self._terms(one)
            seen = [(job.unit, results.get(job.unit.name, job.seen)) for job in jobs]
            for job, (_, result) in zip(jobs, seen, strict=True):
                found += [(item, (job,)) for item in self._of_unit(job, result, terms)]
            waivers = waiver_items(self._library, one, seen, terms)
            found += [(item, tuple(jobs)) for item in waivers]
        return found

    def _of_unit(self, job: Job, result: Result, terms: Terms) -> list[Item]:
        promise = job.unit.expected.promise
        items = items_of(job.unit, result, terms)
        if not promise.families and not promise.workloads:
            items = [one for one in items if one.status == "error"]  # nobody expects anything
        if items:
            items[0] = replace(items[0], duration_s=result.duration_s)
        if self._base is not None and job.base is not None:
            found, settings = self._base.compared(job.base, result, self._now)
            self._settings.update(dict.fromkeys(settings))
            known = {one.id for one in items}
            more = baseline_items(job.unit, found, result, terms) if found else []
            items += [one for one in more if one.id not in known]
        return items

    def _terms(self, one: Expected) -> Terms:
        return Terms(self._today, locator(one.path), self._suite, self._options.simulate)


def _is_doubtful(item: Item, jobs: Sequence[Job]) -> bool:
    """Whether it must be seen again before it fails a gate."""
    name = _confirmation(item)
    return repeatable(item) and not all(job.confirmed.get(name) for job in jobs)


def _confirmation(item: Item) -> str:
    return f"{item.says} {item.subject}"


def _doubts(items: Iterable[tuple[Item, Sequence[Job]]]) -> dict[str, Doubt]:
    """What to run again, by the unit's name."""
    found: dict[str, Doubt] = {}
    for item, jobs in items:
        for job in jobs:
            old = found.get(job.unit.name, Doubt())
            labels = {one.label for one in job.families}
            families = {item.subject} & labels
            if item.kind == "waiver":
                mine = {one for one in labels if item.subject.startswith(f"{one} ")}
                families = mine or {one.label for one in job.unit.expected.promise.families}
            workloads = {item.subject} & {one.name for one in job.workloads}
            found[job.unit.name] = Doubt(old.families | families, old.workloads | workloads)
    return found


# ----------------------------------------------------------------------------------------- places


def locator(path: Path) -> Callable[[Cause | None], Place]:
    """Says where in a profile's file something is let through."""
    file = shown(path)

    @cache
    def text() -> str:
        try:
            return read_limited(path).decode()
        except (ProfileError, UnicodeDecodeError):
            return ""

    @cache
    def at(where: str) -> tuple[int, int] | None:
        try:
            return position(text(), where) if text() else None
        except (ValueError, IndexError, RecursionError):
            return None  # no JSON: a raw program

    def locate(cause: Cause | None) -> Place:
        wanted = [] if cause is None or cause.kind == "default-allows" else [cause.where]
        for where in (*filter(None, wanted), *_DEFAULTS):
            found = at(where)
            if found is not None:
                return Place(file, *found, where)
        return Place(file)

    return locate
