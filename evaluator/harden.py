"""The cheapest changes to a candidate that hold an objective and break no workload.

A loop of choosing and running.  What got through is a clause: one of the changes that stop it has
to be chosen.  What a choice broke is a clause as well: not these changes again.  A solver chooses
the cheapest set, the file that comes of it is run, and what is learned there is added, until
nothing gets through and everything works.  A family can be given up, at a price that is paid only
if no choice holds it: that is the proof that these changes cannot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property

from msgspec import Struct
from msgspec.structs import replace

from attacks.family import FamilyInstance, Variant
from evaluator import campaign
from evaluator.cause import Causes
from evaluator.derived import rewritten
from evaluator.drafts import Draft
from evaluator.elements import Element, Elements
from evaluator.errors import InputError
from evaluator.hitting import Clause, choose
from evaluator.objectives import Objective
from evaluator.plan import Plan, Progress, Rewrites
from evaluator.records import CandidateResult, FamilyRecord, Starts, WorkloadOutcome
from evaluator.repairs import Denied, Repair, denied_in, denied_to, repairs
from evaluator.verdict import HOLDING, Verdict
from evaluator.workloads import Workload
from mitigations.bpf import Filter

_GIVEN_UP = 10_000_000
"""More than any choice costs."""
_UNSTABLE = WorkloadOutcome.UNSTABLE
_NOT_WORKING = (WorkloadOutcome.BROKEN, _UNSTABLE)
_MANY = 12
"""Changes of a choice."""
_WRONGLY = "compiled-wrongly"
_START = "start"
"""What a container runtime and an entry point need: a workload that is always there."""


class Terms(Struct, frozen=True):
    """What is asked, and how it is run."""

    families: tuple[FamilyInstance, ...]
    chosen: tuple[Workload, ...]
    """These must work in the end."""
    shown: tuple[Workload, ...] = ()
    posture: str = "container"
    rewrites: Rewrites = Rewrites.SAMPLED
    jobs: int = 1
    rounds: int = 30
    suite: frozenset[str] | None = None
    on_progress: Callable[[Progress], None] = lambda _: None
    on_round: Callable[[str], None] = lambda _: None


class Broken(Struct, frozen=True):
    """What must work and does not, and the calls that it was denied."""

    workload: str
    denied: tuple[Denied, ...]
    proved: bool = False
    """It needs each of these, and no other."""


class Cut(Struct, frozen=True):
    """Changes that are not to be made together again."""

    elements: frozenset[str]
    workload: str = ""
    """The one that they broke."""
    needs: tuple[Denied, ...] = ()
    said: str = ""
    """What came of them, if they broke none."""


class Repaired(Struct, frozen=True):
    """A repair that stayed, and for whom."""

    repair: Repair
    workloads: tuple[str, ...]


class Hardening:
    """One candidate on its way; what is known so far can be read at any time."""

    def __init__(self, draft: Draft, terms: Terms) -> None:
        self.original = draft
        self.terms = terms
        self.begun = time.monotonic()
        self.before: CandidateResult | None = None
        self.base = draft
        """With the repairs that the workloads need; the changes are made to this one."""
        self.repaired: list[Repaired] = []
        self.draft = draft
        """The last choice, made into a file."""
        self.after: CandidateResult | None = None
        """What came of it; None if it was not run."""
        self.rounds = 0
        self.ended = ""
        self.routes: dict[str, frozenset[str]] = {}
        """By variant: the elements that stop it.  None of them is enough: a way seccomp keeps."""
        self.cuts: list[Cut] = []
        self.chosen: frozenset[str] = frozenset()
        self._probed: dict[tuple[str, str], Cut] = {}
        """What single changes broke, by element and workload."""
        self._asked_alone: set[str] = set()
        self.unhelped: tuple[Broken, ...] = ()
        """Workloads that no known repair helps."""

    # ------------------------------------------------------------------------------- what came

    @property
    def given_up(self) -> frozenset[str]:
        """Families that no choice holds."""
        return frozenset(one for one in self.chosen if one in self._families)

    @property
    def elements(self) -> list[Element]:
        """Those that were chosen."""
        known = self._elements.known
        return sorted((known[one] for one in self.chosen if one in known), key=lambda one: one.line)

    def element(self, key: str) -> Element:
        return self._elements.known[key]

    def variant(self, name: str) -> Variant:
        return self._variants[name]

    def family_of(self, variant: str) -> str:
        return variant.rpartition("/")[0]

    # ------------------------------------------------------------------------------- the loop

    def run(self) -> None:
        """Until it holds, or nothing more can be tried, or the rounds are used up."""
        self.before = self.after = self._measured(self.original)
        if self._broken(self.before):
            self._repair()
            self.unhelped = (*self.unhelped, *self._broken(self.after))
        while self.rounds < self.terms.rounds:
            assert self.after is not None
            if not self._learn(self.after):
                return
            if not self._choose():
                return
            self._run_draft()
        assert self.after is not None
        if self._learn(self.after):
            self.ended = f"{self.rounds} rounds were not enough: --rounds allows more"

    def _run_draft(self) -> None:
        self.after = None
        self.after = self._measured(self.draft)
        self.rounds += 1
        self.terms.on_round(self._told(self.after))

    def _choose(self) -> bool:
        """The cheapest choice, as a file; False if there is none."""
        while True:
            found = choose(self._costs(), self._clauses())
            if found is None:
                self.ended = "no choice of known changes keeps the workloads working"
                return False
            self.chosen = found
            try:
                self.draft = self.base.with_elements(self.elements)
            except InputError as error:
                self.cuts.append(Cut(self._own(found), said=str(error)))
                continue
            wrong = list(self._compiled_wrongly())
            if not wrong:
                return True
            self.cuts += wrong

    def _compiled_wrongly(self) -> Iterator[Cut]:
        """Rules that are right alone, and of which libseccomp makes something else together."""
        known = {one.where for one in self.base.candidate.warnings if one.code == _WRONGLY}
        for one in self.draft.candidate.warnings:
            call = one.witness.partition("(")[0].rpartition(":")[2]
            guilty = frozenset(two.key for two in self.elements if two.step.name == call)
            if one.code == _WRONGLY and one.where not in known and guilty:
                yield Cut(guilty, said=one.message)

    def _costs(self) -> dict[str, int]:
        costs = {key: one.cost for key, one in self._elements.known.items()}
        return costs | dict.fromkeys(self._families, _GIVEN_UP)

    def _clauses(self) -> list[Clause]:
        ways = [Clause(keys | {self.family_of(name)}) for name, keys in self.routes.items()]
        return ways + [Clause(unless=one.elements) for one in self.cuts]

    def _own(self, chosen: frozenset[str]) -> frozenset[str]:
        """Without the families that are given up."""
        return chosen.difference(self._families)

    def _told(self, result: CandidateResult) -> str:
        through = sum(len(one.bypasses) for one in self._asked(result))
        broken = [one.workload for one in self._broken(result)]
        said = f"round {self.rounds}: {len(self.elements)} changes, {through} ways through"
        said += f", broken: {', '.join(broken)}" if broken else ""
        given_up = ", ".join(sorted(self.given_up))
        return said + (f", given up: {given_up}" if given_up else "")

    # ------------------------------------------------------------------------------- learning

    def _learn(self, result: CandidateResult) -> bool:
        """Whether there was something to be learned from a run."""
        return any([self._learn_routes(result), self._learn_cuts(result)])

    def _learn_routes(self, result: CandidateResult) -> bool:
        learned = False
        for family in self._asked(result):
            for name in family.bypasses:
                learned = True
                if name in self.routes:
                    self._learn_wrong(name)
                else:
                    self.routes[name] = frozenset(one.key for one in self._against(name))
        return learned

    def _learn_wrong(self, name: str) -> None:
        """It was proved that one of these stops it alone; together with others it does not."""
        proved = self.routes[name] & self.chosen
        calls = {self.element(key).step.name for key in proved}
        guilty = frozenset(one.key for one in self.elements if one.step.name in calls)
        if guilty == proved:
            self.routes[name] -= proved
        else:
            self.cuts.append(Cut(guilty, said=f"together they do not stop {name}"))

    def _against(self, name: str) -> Iterator[Element]:
        family = self._families[self.family_of(name)]
        return self._elements.against(self._variants[name], family.variants)

    def _asked(self, result: CandidateResult) -> list[FamilyRecord]:
        """The families that are not given up."""
        return [one for one in result.families if one.family not in self.given_up]

    def _learn_cuts(self, result: CandidateResult) -> bool:
        broken = self._broken(result)
        for each in broken:
            blamed = self._blamed(each)
            self.cuts += [one for one in blamed if one not in self.cuts]
        return bool(broken)

    def _broken(self, result: CandidateResult) -> list[Broken]:
        """What must work and does not."""
        # What is changed later does not break what is broken for good.
        must = {one.name for one in self.terms.chosen} - {one.workload for one in self.unhelped}
        broken = [
            Broken(one.workload, denied_to(one), bool(one.needs))
            for one in result.workloads
            if one.workload in must and one.outcome in _NOT_WORKING
        ]
        assert self.before is not None
        if lost(self.before.starts, result.starts):
            broken.append(Broken(_START, denied_in(result.starts.reason)))
        return broken

    def _blamed(self, broken: Broken) -> list[Cut]:
        """Which of the chosen changes broke a workload: alone if one does, else together."""
        mine = self._own(self.chosen)
        workload, denied = broken.workload, broken.denied
        names = {one.call for one in denied}
        suspects = [one for one in self.elements if one.step.name in names]
        if len(suspects) == 1 and len(mine) == 1:
            return [Cut(mine, workload, denied)]
        calls = {one.step.name for one in suspects}
        self._probe([one for one in self._elements.known.values() if one.step.name in calls])
        if len(mine) > _MANY:  # as many rounds would cost more
            self._probe(self.elements)
        alone = [cut for (_, name), cut in self._probed.items() if name == workload]
        if any(cut.elements <= mine for cut in alone):
            return alone
        together = frozenset(one.key for one in suspects) or mine
        return [*alone, Cut(together, workload, denied)]

    def _probe(self, elements: Sequence[Element]) -> None:
        """Finds out what each change alone does to the workloads."""
        drafts: list[tuple[Element, Draft]] = []
        for one in elements:
            if one.key not in self._asked_alone:
                self._asked_alone.add(one.key)
                with suppress(InputError):  # what no runtime takes is found out when it is chosen
                    drafts.append((one, self.base.with_elements([one])))
        results = self._tried([draft for _, draft in drafts])
        for (one, _), result in zip(drafts, results, strict=True):
            for broken in self._broken(result):
                cut = Cut(frozenset([one.key]), broken.workload, broken.denied)
                self._probed[one.key, broken.workload] = cut

    # ------------------------------------------------------------------------------- repairing

    def _repair(self) -> None:
        """What the workloads need that do not work under the candidate as it is."""
        assert self.before is not None
        made = self._all_repairs(self.before) if self.original.has_source else []
        if not made:
            return
        self.repaired = [Repaired(one, tuple(self._whom(one))) for one in made]
        self.base = self.draft = self._repaired_by(made)
        self._run_draft()

    def _all_repairs(self, before: CandidateResult) -> list[Repair]:
        """Repairs of what is denied, until the workloads work or nothing more is known."""
        made: list[Repair] = []
        tried: set[str] = set()
        doubtful: set[str] = set()
        """Calls that somebody was denied who may not mind."""
        result = before
        while broken := self._broken(result):
            denied = [call for one in broken for call in one.denied]
            doubtful.update(str(call) for one in broken if not one.proved for call in one.denied)
            fresh = list(self._next_repairs(denied, tried))
            if not fresh:
                # Nothing is opened for who cannot be helped; the others may still be, without it.
                hopeless = [one for one in broken if not one.denied] or broken[:1]
                self.unhelped = (*self.unhelped, *hopeless)
                return self._all_repairs(before)
            tried.update(one.change.line for one in fresh)
            again = {one.call for one in fresh}
            made = [*(one for one in made if one.call not in again), *fresh]
            (result,) = self._tried([self._repaired_by(made)])
        return self._needed(made, doubtful)

    def _next_repairs(self, denied: Iterable[Denied], tried: set[str]) -> Iterator[Repair]:
        profile = self.original.candidate.profile
        assert profile is not None
        for one in dict.fromkeys(denied):
            ways = (way for way in repairs(profile, one) if way.change.line not in tried)
            yield from list(ways)[:1]

    def _repaired_by(self, made: Iterable[Repair]) -> Draft:
        return self.original.with_changes(one.change for one in made)

    def _needed(self, made: Sequence[Repair], doubtful: Collection[str]) -> list[Repair]:
        """All of those with which everything works, without those that nobody misses."""
        kept = list(made)
        for one in made:
            if one.call in doubtful and len(kept) > 1:
                fewer = [other for other in kept if other is not one]
                (without,) = self._tried([self._repaired_by(fewer)])
                if not self._broken(without):
                    kept = fewer
        return kept

    def _whom(self, repair: Repair) -> list[str]:
        """The workloads that were denied its call; all, if it was denied to none at first."""
        assert self.before is not None
        broken = self._broken(self.before)
        denied = [one.workload for one in broken if repair.call in map(str, one.denied)]
        return denied or [one.workload for one in broken]

    # ------------------------------------------------------------------------------- running

    def _measured(self, draft: Draft) -> CandidateResult:
        """A fresh run of the whole objective; what proves nothing is tried once more."""
        (result,) = self._campaign([draft], self.terms.families, self.terms.rewrites)
        undecided = any(one.verdict is Verdict.UNDECIDED for one in result.families)
        if undecided or any(one.outcome is _UNSTABLE for one in result.workloads):
            (result,) = self._campaign([draft], self.terms.families, self.terms.rewrites)
        return result

    def _tried(self, drafts: Sequence[Draft]) -> list[CandidateResult]:
        """The workloads alone: a campaign has a family, and that is one of a single program."""
        first = self.terms.families[0]
        least = first.only([first.baseline_id.replace(first.label, first.family.name)])
        return self._campaign(drafts, (least,), Rewrites.NONE) if drafts else []

    def _campaign(
        self, drafts: Sequence[Draft], families: tuple[FamilyInstance, ...], rewrites: Rewrites
    ) -> list[CandidateResult]:
        every = {one.name: one for one in (*self.terms.chosen, *self.terms.shown)}
        plan = Plan(
            candidates=tuple(one.candidate for one in drafts),
            families=families,
            workloads=tuple(every.values()),
            objective=Objective("harden", "", {one.label: "" for one in families}, ()),
            posture=self.terms.posture,
            jobs=self.terms.jobs,
            rewrites=rewrites,
            suite=self.terms.suite,
            with_steps=False,
        )
        return list(campaign.evaluate(plan, self.terms.on_progress))

    # ------------------------------------------------------------------------------- what is known

    @cached_property
    def _families(self) -> dict[str, FamilyInstance]:
        return {one.label: one for one in self.terms.families}

    @cached_property
    def _variants(self) -> dict[str, Variant]:
        """What is recorded and what rewrites make of it, by id."""
        every = (
            one for family in self.terms.families for one in (*family.variants, *rewritten(family))
        )
        return {one.id: one for one in every}

    @cached_property
    def _elements(self) -> Elements:
        candidate = self.base.candidate
        filters = tuple(Filter.decode(layer.program) for layer in candidate.seccomp)
        return Elements(Causes(candidate, filters, 0), candidate.profile)


def lost(before: Starts, after: Starts) -> bool:
    """Whether some part of starting does not work that did."""
    pairs = (
        (before.loads, after.loads),
        (before.runtime, after.runtime),
        (before.static, after.static),
        (before.dynamic, after.dynamic),
    )
    return any(then is True and now is False for then, now in pairs)


def is_held(record: FamilyRecord) -> bool:
    return record.verdict in HOLDING


def intended(draft: Draft, terms: Terms, *, named: bool, must: bool) -> Terms:
    """What was not named: the families that the candidate is aimed at, and what works under it.

    ``InputError`` if it is aimed at none.
    """
    plan = Plan(
        candidates=(draft.candidate,),
        families=terms.families,
        workloads=() if must else terms.shown,
        posture=terms.posture,
        jobs=terms.jobs,
        rewrites=terms.rewrites,
        suite=terms.suite,
        with_steps=False,
    )
    (result,) = campaign.evaluate(plan, terms.on_progress)
    aimed = {one.family for one in result.families if named or one.targeted}
    if not aimed:
        raise InputError(
            f"{draft.candidate.source}: it stops nothing that a family begins with: "
            "name an --objective or a --family"
        )
    working = {one.workload for one in result.workloads if one.works}
    return replace(
        terms,
        families=tuple(one for one in terms.families if one.label in aimed),
        chosen=terms.chosen if must else tuple(one for one in terms.shown if one.name in working),
    )
