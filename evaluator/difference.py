"""What became worse or better from one evaluation to the next: documents in, differences out.

Everything is said from the point of view of the newer one.  What is better is by definition what
would be worse the other way round, so only *worse* is worked out.  It fails closed: what was held
and is not shown to be held now counts as opened, and says that nothing was seen to get through.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from attacks import library
from attacks.errors import AttackError
from evaluator.verdict import HOLDING, UNSETTLED, Outcome, Scope
from reports.schema import Candidate, Document, Family, Trial, Workload

NOT_RUN = "not run"
_WORKS = "works"
_IN_FORCE, _NOT_IN_FORCE, _UNUSABLE = "in force", "not in force", "cannot be used"
_START_PARTS = ("loads", "runtime", "static", "dynamic")
_UNKNOWABLE = UNSETTLED | {Outcome.NOT_ENFORCED}


class Kind(StrEnum):
    """What became of something, worst news first."""

    OPENED = "opened"
    """A family was held, or a variant was stopped, and that is no longer so."""
    BROKEN = "broken"
    """An honest program worked, and does not."""
    UNENFORCED = "newly unenforced"
    """The candidate was in force, and is not."""
    GONE = "gone"
    """The candidate is not there any more."""
    NEWLY_KNOWN = "newly known"
    """A variant gets through that nobody could have run before: the suite grew."""
    CHANGED = "changed"
    """Neither worse nor better."""
    NO_LONGER_KNOWN = "no longer known"
    ADDED = "added"
    ENFORCED = "enforced again"
    REPAIRED = "repaired"
    CLOSED = "closed"


WORSE = frozenset({Kind.OPENED, Kind.BROKEN, Kind.UNENFORCED, Kind.GONE})
_BETTER = {
    Kind.OPENED: Kind.CLOSED,
    Kind.BROKEN: Kind.REPAIRED,
    Kind.UNENFORCED: Kind.ENFORCED,
    Kind.GONE: Kind.ADDED,
    Kind.NEWLY_KNOWN: Kind.NO_LONGER_KNOWN,
    Kind.CHANGED: Kind.CHANGED,
}
_MIRROR = _BETTER | {better: worse for worse, better in _BETTER.items()}


class Way(StrEnum):
    """What a trial says about a variant."""

    THROUGH = "gets through"
    BLOCKED = "blocked"
    UNDECIDED = "undecided"
    UNTESTABLE = "not testable"
    ELSEWHERE = "not testable here, and allowed by the filters"
    NOT_RUN = NOT_RUN


class Change(Struct, frozen=True):
    """One thing that differs; ``before`` and ``after`` are verdicts, or states in a word or two."""

    kind: Kind
    subject: str
    """A family, a workload, a part of starting; empty for the candidate as a whole."""
    before: str
    after: str
    was: Way | None = None
    """Of the variants; ``None`` if it is not about variants."""
    now: Way | None = None
    variants: tuple[str, ...] = ()
    routes: int = 0
    """Distinct ones, on the side where the variants ran."""
    why: str = ""
    """Said of the worse side."""

    @property
    def shown(self) -> bool:
        """Whether something was seen to get through; else evidence is missing, and that counts."""
        return Way.THROUGH in (self.was, self.now)

    def mirrored(self) -> Change:
        return replace(
            self,
            kind=_MIRROR[self.kind],
            before=self.after,
            after=self.before,
            was=self.now,
            now=self.was,
        )


class Setting(Struct, frozen=True):
    """Something other than the candidate that differs, and that results may differ by."""

    name: str
    before: str
    after: str


class CallChange(Struct, frozen=True):
    """A call that the filters answer otherwise, on the ABIs where they do."""

    call: str
    abis: tuple[str, ...]
    before: str
    after: str
    conditions: tuple[str, ...]
    """All of them hold; none means whatever the arguments are."""


class CandidateDifference(Struct, frozen=True):
    """All that differs in one candidate; a name is empty where it is only on the other side."""

    before: str
    after: str
    same_filters: bool
    changes: tuple[Change, ...]
    settings: tuple[Setting, ...] = ()
    calls: tuple[CallChange, ...] = ()
    unfollowed: str = ""
    """Why the calls could not be compared; empty if they were, or if nobody asked."""


class Difference(Struct, frozen=True):
    """What differs, and in how many candidates it was looked for."""

    compared: int
    settings: tuple[Setting, ...] = ()
    candidates: tuple[CandidateDifference, ...] = ()
    """Those in which something differs."""

    @property
    def worse(self) -> bool:
        return any(change.kind in WORSE for one in self.candidates for change in one.changes)


Suites = Mapping[str, Collection[str]]
"""The variants, ``family/variant``, of the suites that are known here."""


def difference(base: Document, new: Document, suites: Suites) -> Difference:
    """What differs between two evaluations, candidate by candidate."""
    pairs = paired(base.candidates, new.candidates)
    found = [_compared(old, one, base, new, suites) for old, one in pairs]
    return Difference(
        compared=sum(None not in pair for pair in pairs),
        settings=tuple(_settings(_surroundings(base), _surroundings(new))),
        candidates=tuple(one for one in found if one.changes or one.settings),
    )


def suites_of(*documents: Document) -> dict[str, frozenset[str]]:
    """What the suites of these documents hold, where this version knows them."""
    found: dict[str, frozenset[str]] = {}
    for document in documents:
        try:
            found[document.suite] = frozenset(library.suite(document.suite).variants)
        except AttackError:
            continue  # a later version's: what its run held is all that is known
    return found


def paired(
    base: Iterable[Candidate], new: Iterable[Candidate]
) -> list[tuple[Candidate | None, Candidate | None]]:
    """The same candidates: by name, then by digest; one alone on each side is the same anyhow."""
    olds, news = list(base), list(new)
    if len(olds) == len(news) == 1:
        return [(olds[0], news[0])]
    by_name = {one.name: one for one in news}
    matched = {old.name: by_name[old.name] for old in olds if old.name in by_name}
    free = [one for one in news if one.name not in matched]
    for old in olds:
        twin = next((one for one in free if old.digest and one.digest == old.digest), None)
        if old.name not in matched and twin is not None:
            matched[old.name] = twin
            free.remove(twin)
    return [*((old, matched.get(old.name)) for old in olds), *((None, one) for one in free)]


def narrowed(many: Document, few: Document) -> Document:
    """Of many candidates those that have the name, or else the digest, of one of the others."""
    if len(many.candidates) == 1:
        return many
    found: list[Candidate] = []
    for wanted in few.candidates:
        named = [one for one in many.candidates if one.name == wanted.name]
        alike = [one for one in many.candidates if wanted.digest == one.digest != ""]
        found += [one for one in (named or alike)[:1] if one not in found]
    return replace(many, candidates=tuple(found))


def _compared(
    old: Candidate | None,
    new: Candidate | None,
    base: Document,
    newer: Document,
    suites: Suites,
) -> CandidateDifference:
    if old is None:
        assert new is not None
        added = Change(Kind.ADDED, "", NOT_RUN, _state(new))
        return CandidateDifference("", new.name, same_filters=False, changes=(added,))
    if new is None:
        gone = Change(Kind.GONE, "", _state(old), NOT_RUN)
        return CandidateDifference(old.name, "", same_filters=False, changes=(gone,))
    worse = list(_worse(old, new, suites.get(base.suite)))
    better = [one.mirrored() for one in _worse(new, old, suites.get(newer.suite))]
    said = {change.subject for change in (*worse, *better)}
    neither = [one for one in _otherwise(old, new) if one.subject not in said]
    return CandidateDifference(
        before=old.name,
        after=new.name,
        same_filters=old.digest == new.digest,
        changes=tuple(_ordered([*worse, *neither, *better])),
        settings=tuple(_settings(_setup(old), _setup(new))),
    )


def _ordered(changes: Iterable[Change]) -> list[Change]:
    order = list(Kind)
    return sorted(changes, key=lambda one: (order.index(one.kind), one.subject))


# ------------------------------------------------------------------------------------ worse


def _worse(old: Candidate, new: Candidate, suite: Collection[str] | None) -> Iterator[Change]:
    """All that is worse in the newer one; ``suite`` is what the older run could have run."""
    before, after = _state(old), _state(new)
    if _IN_FORCE == before != after:
        yield Change(Kind.UNENFORCED, "", before, after, why=_cause(new))
    if (before, after) != (_IN_FORCE, _IN_FORCE):
        return
    yield from _broken(_programs(old), _programs(new))
    families = {one.family: one for one in new.families}
    known = _Known(old, suite)
    for family in old.families:
        yield from _opened(family, families.get(family.family), known, new)
    missing = families.keys() - {one.family for one in old.families}
    for name in sorted(missing):
        yield from _newly_known(None, families[name], known, new)


def _state(candidate: Candidate) -> str:
    if not candidate.valid:
        return _UNUSABLE
    return _IN_FORCE if candidate.enforced is not False or candidate.simulated else _NOT_IN_FORCE


def _cause(candidate: Candidate) -> str:
    if candidate.errors:
        return candidate.errors[0].message
    return candidate.notes[0] if candidate.notes else ""


class _Known:
    """What an older run said of each variant, and which ones it could have run."""

    def __init__(self, candidate: Candidate, suite: Collection[str] | None) -> None:
        self._trials = {one.variant: one for one in candidate.trials}
        self._suite = suite

    def way(self, variant: str) -> Way:
        trial = self._trials.get(variant)
        return Way.NOT_RUN if trial is None else _way(trial)

    def knew(self, trial: Trial) -> bool:
        """Whether it was run, or was left out although the suite held it.

        Of a suite that is not known here, it held what rewrites make of the variants that it ran.
        """
        if trial.variant in self._trials:
            return True
        if self._suite is None:
            return trial.derived_from in self._trials
        return suite_name(trial.variant) in self._suite


def suite_name(variant: str) -> str:
    """``family/variant`` as a suite has it: without parameters and target."""
    family, _, name = variant.rpartition("/")
    return f"{family.partition('[')[0].partition('@')[0]}/{name}"


def _way(trial: Trial) -> Way:
    outcome = trial.outcome
    if outcome == Outcome.SIMULATED and trial.predicted in (Outcome.BYPASSED, Outcome.BLOCKED):
        outcome = trial.predicted
    if outcome == Outcome.BYPASSED:
        return Way.THROUGH
    if outcome in _UNKNOWABLE or not trial.agree:
        return Way.UNDECIDED
    if outcome == Outcome.BLOCKED:
        return Way.BLOCKED
    return Way.ELSEWHERE if trial.reachable_elsewhere else Way.UNTESTABLE


def _opened(
    old: Family, new: Family | None, known: _Known, candidate: Candidate
) -> Iterator[Change]:
    held = old.verdict in HOLDING
    if new is None:
        if held:
            yield Change(Kind.OPENED, old.family, old.verdict, NOT_RUN)
        return
    groups: dict[tuple[Way, Way], list[Trial]] = {}
    for trial in _in_scope(candidate, new.family):
        was, now = known.way(trial.variant), _way(trial)
        if known.knew(trial) and _is_worse(was, now, trial, known, held=held):
            groups.setdefault((was, now), []).append(trial)
    for (was, now), trials in sorted(groups.items()):
        yield _of_variants(Kind.OPENED, (old.verdict, new.verdict), (was, now), trials)
    fresh = list(_newly_known(old, new, known, candidate))
    yield from fresh
    if held and new.verdict not in HOLDING and not groups and not fresh:
        yield Change(Kind.OPENED, old.family, old.verdict, new.verdict, why=new.reason)


def _is_worse(was: Way, now: Way, trial: Trial, known: _Known, *, held: bool) -> bool:
    """``held``: the family was, so whatever gets through now was not known to."""
    match was, now:
        case ((Way.BLOCKED | Way.UNDECIDED), Way.THROUGH):
            return True
        case ((Way.UNTESTABLE | Way.ELSEWHERE), Way.THROUGH):
            return held
        case Way.NOT_RUN, Way.THROUGH:
            # Only a sample of what rewrites make is run: this one counts as what it is made of.
            return held or known.way(trial.derived_from) is not Way.THROUGH
        case Way.BLOCKED, (Way.UNDECIDED | Way.ELSEWHERE):
            return True
        case Way.UNTESTABLE, Way.ELSEWHERE:
            return held
        case _:
            return False


def _newly_known(
    old: Family | None, new: Family, known: _Known, candidate: Candidate
) -> Iterator[Change]:
    through = [
        one
        for one in _in_scope(candidate, new.family)
        if _way(one) is Way.THROUGH and not known.knew(one)
    ]
    if through:
        verdicts = (old.verdict if old else NOT_RUN, new.verdict)
        yield _of_variants(Kind.NEWLY_KNOWN, verdicts, (Way.NOT_RUN, Way.THROUGH), through)


def _in_scope(candidate: Candidate, family: str) -> list[Trial]:
    return [
        one
        for one in candidate.trials
        if _family(one) == family and one.scope == Scope.IN and not one.negative
    ]


def _family(trial: Trial) -> str:
    return trial.family or trial.variant.rpartition("/")[0]


def _of_variants(
    kind: Kind, verdicts: tuple[str, str], ways: tuple[Way, Way], trials: list[Trial]
) -> Change:
    return Change(
        kind,
        _family(trials[0]),
        *verdicts,
        *ways,
        variants=tuple(sorted(one.variant for one in trials)),
        routes=len({one.route or one.variant for one in trials}),
    )


def _programs(candidate: Candidate) -> dict[str, tuple[str, str]]:
    """State of each honest program and of each part of starting, and why it is not better."""
    found = {one.workload: (_outcome(one), one.reason or "") for one in candidate.workloads}
    if candidate.attachment != "self":
        for part in _START_PARTS:
            works: bool | None = getattr(candidate.starts, part)
            if works is not None:
                state = _WORKS if works else "broken"
                found[f"start ({part})"] = (state, "" if works else candidate.starts.reason)
    return found


def _outcome(one: Workload) -> str:
    if one.outcome:
        return one.outcome
    if one.works_in_control:
        return _WORKS if one.works else "broken"
    return "unavailable"


def _broken(
    old: Mapping[str, tuple[str, str]], new: Mapping[str, tuple[str, str]]
) -> Iterator[Change]:
    for name, (before, _) in old.items():
        after, why = new.get(name, (NOT_RUN, ""))
        if _WORKS == before != after:
            yield Change(Kind.BROKEN, name, before, after, why=why)


# --------------------------------------------------------------------- neither worse nor better


def _otherwise(old: Candidate, new: Candidate) -> Iterator[Change]:
    """Every state that differs: what is left when the better and the worse are taken away."""
    before, after = _state(old), _state(new)
    if before != after:
        yield Change(Kind.CHANGED, "", before, after)
    if (before, after) != (_IN_FORCE, _IN_FORCE):
        return
    families = {one.family: one.verdict for one in new.families}
    for family in old.families:
        verdict = families.get(family.family, family.verdict)
        if verdict != family.verdict:
            yield Change(Kind.CHANGED, family.family, family.verdict, verdict)
    programs = _programs(new)
    for name, (state, _) in _programs(old).items():
        then = programs.get(name, (state, ""))[0]
        if then != state:
            yield Change(Kind.CHANGED, name, state, then)


# ------------------------------------------------------------------------------------ settings


def _settings(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Setting]:
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name, "unknown"), new.get(name, "unknown")
        if before != after:
            yield Setting(name, before, after)


def _surroundings(document: Document) -> dict[str, str]:
    where = document.environment
    own = {
        "sidestep": document.tool.version or "unknown",
        "suite": document.suite,
        "objective": document.objective or "none",
        "assumptions": ", ".join(document.assume) or "none",
        "evidence": "predictions" if document.simulated else "trials",
        "kernel": where.kernel,
        "architecture": where.arch,
        "libseccomp": where.libseccomp,
        "isolation": where.isolation,
        "security modules": ", ".join(where.lsm) or "none",
        "user": where.user or "unknown",
        **{f"ambient {name}": str(value) for name, value in where.ambient.items()},
    }
    probes = {one.name: str(one.value) for one in where.probes}
    # A probe may have a name of ours, and takes nothing away by it.
    return own | {f"probe {one}" if one in own else one: said for one, said in probes.items()}


def _setup(candidate: Candidate) -> dict[str, str]:
    if not candidate.valid:
        return {}
    return {
        "runtime model": candidate.runtime_model or "none",
        "posture": candidate.posture or "unknown",
        "attachment": candidate.attachment or "unknown",
        "read as": candidate.meaning or "unknown",
    }
