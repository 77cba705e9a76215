"""The cheapest changes to a candidate that hold an objective and break no workload.

A loop of choosing and running.  What got through is a clause: one of the changes that stop it has
to be chosen.  What a choice broke is a clause as well: not these changes again.  A solver chooses
the cheapest set, the file that comes of it is run, and what is learned there is added, until
nothing gets through and everything works.  A family can be given up, at a price that is paid only
if no choice holds it: that is the proof that these changes cannot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from evaluator.records import CandidateResult, FamilyRecord, Starts
from evaluator.repairs import Denied, Repair, denied_in, repairs
from evaluator.verdict import HOLDING
from evaluator.workloads import Workload
from mitigations.bpf import Filter

_GIVEN_UP = 10_000_000
"""More than any choice costs."""
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


class Cut(Struct, frozen=True):
    """Changes that broke a workload when they were made together."""

    elements: frozenset[str]
    workload: str
    needs: tuple[Denied, ...]


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
        self._probed: dict[tuple[str, str], Cut | None] = {}
        self._hopeless: frozenset[str] = frozenset()
        """Workloads that no known repair helps: what is changed later does not break them."""

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
            self._hopeless = frozenset(name for name, _ in self._broken(self.after))
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
                self.cuts.append(Cut(self._own(found), str(error), ()))
                continue
            return True

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
        broken = [one for one, _ in self._broken(result)]
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
                if name in self.routes:
                    # It was proved that one of these stops it; with the others it does not.
                    left = self.routes[name] - self._own(self.chosen)
                else:
                    left = frozenset(one.key for one in self._against(name))
                learned = learned or left != self.routes.get(name)
                self.routes[name] = left
        return learned

    def _against(self, name: str) -> Iterator[Element]:
        family = self._families[self.family_of(name)]
        return self._elements.against(self._variants[name], family.variants)

    def _asked(self, result: CandidateResult) -> list[FamilyRecord]:
        """The families that are not given up."""
        return [one for one in result.families if one.family not in self.given_up]

    def _learn_cuts(self, result: CandidateResult) -> bool:
        broken = self._broken(result)
        for name, reason in broken:
            self.cuts += self._blamed(name, denied_in(reason))
        return bool(broken)

    def _broken(self, result: CandidateResult) -> list[tuple[str, str]]:
        """What must work and does not, with the reason."""
        must = {one.name for one in self.terms.chosen}
        broken = [
            (one.workload, one.reason or "")
            for one in result.workloads
            if one.workload in must
            and one.works_in_control
            and not one.works
            and one.workload not in self._hopeless
        ]
        assert self.before is not None
        if lost(self.before.starts, result.starts):
            broken.append((_START, result.starts.reason))
        return broken

    def _blamed(self, workload: str, denied: Sequence[Denied]) -> list[Cut]:
        """Which of the chosen changes broke a workload: alone if one does, else together."""
        mine = self._own(self.chosen)
        names = {one.call for one in denied}
        suspects = [one for one in self.elements if one.step.name in names]
        if len(suspects) == 1 and len(mine) == 1:
            return [Cut(mine, workload, tuple(denied))]
        calls = {one.step.name for one in suspects}
        alike = [one for one in self._elements.known.values() if one.step.name in calls]
        alone = [cut for cut in self._probe(alike, workload) if cut]
        if any(cut.elements <= mine for cut in alone):
            return alone
        together = frozenset(one.key for one in suspects) or mine
        return [*alone, Cut(together, workload, tuple(denied))]

    def _probe(self, elements: Sequence[Element], workload: str) -> list[Cut | None]:
        """What each change alone does to a workload."""
        open_ = [one for one in elements if (one.key, workload) not in self._probed]
        drafts: list[tuple[Element, Draft]] = []
        for one in open_:
            try:
                drafts.append((one, self.base.with_elements([one])))
            except InputError:
                self._probed[one.key, workload] = None
        results = self._tried([draft for _, draft in drafts])
        for (one, _), result in zip(drafts, results, strict=True):
            reasons = dict(self._broken(result))
            cut = Cut(frozenset([one.key]), workload, denied_in(reasons.get(workload)))
            self._probed[one.key, workload] = cut if workload in reasons else None
        return [self._probed[one.key, workload] for one in open_]

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
        result = before
        while broken := self._broken(result):
            denied = [one for _, reason in broken for one in denied_in(reason)]
            fresh = list(self._next_repairs(denied, tried))
            if not fresh:
                break
            tried.update(one.change.line for one in fresh)
            again = {one.call for one in fresh}
            made = [*(one for one in made if one.call not in again), *fresh]
            (result,) = self._tried([self._repaired_by(made)])
        return self._needed(made, result)

    def _next_repairs(self, denied: Iterable[Denied], tried: set[str]) -> Iterator[Repair]:
        profile = self.original.candidate.profile
        assert profile is not None
        for one in dict.fromkeys(denied):
            ways = (way for way in repairs(profile, one) if way.change.line not in tried)
            yield from list(ways)[:1]

    def _repaired_by(self, made: Iterable[Repair]) -> Draft:
        return self.original.with_changes(one.change for one in made)

    def _needed(self, made: Sequence[Repair], result: CandidateResult) -> list[Repair]:
        """Without those that nobody misses: a program that is denied a call may not mind."""
        least = len(self._broken(result))
        kept = list(made)
        for one in made if len(made) > 1 else ():
            fewer = [other for other in kept if other is not one]
            (without,) = self._tried([self._repaired_by(fewer)])
            if len(self._broken(without)) <= least:
                kept = fewer
        return kept

    def _whom(self, repair: Repair) -> list[str]:
        """The workloads that were denied its call; all, if it was denied to none at first."""
        assert self.before is not None
        broken = self._broken(self.before)
        denied = [
            name
            for name, reason in broken
            if repair.call in (str(one) for one in denied_in(reason))
        ]
        return denied or [name for name, _ in broken]

    # ------------------------------------------------------------------------------- running

    def _measured(self, draft: Draft) -> CandidateResult:
        """A fresh run of the whole objective."""
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
