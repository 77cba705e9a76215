"""A model attacks a candidate: it proposes programs, sees what came of them, and tries again.

The judge decides what got through.  What is told of a program is kept in the store beside the
answers: the same conversation goes on where it was left, and nothing is asked twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

from msgspec import Struct

from attacks.effects import EffectKind
from attacks.family import FamilyInstance
from attacks.jsonform import ProgramError
from attacks.program import Program
from attacks.text import program_text
from evaluator import attack_prompt, foreign
from evaluator.attack_bench import Bench, has_effect
from evaluator.attack_finds import (
    CONFIRMATIONS,
    calls_of,
    library_calls,
    out_of_scope,
    settled,
    unlabelled,
)
from evaluator.attack_prompt import PER_ANSWER, Shown, Target
from evaluator.attack_records import (
    CENSORED,
    Attacked,
    AttackVerdict,
    Attempt,
    Budget,
    ModelFind,
    Proposal,
)
from evaluator.errors import InputError
from evaluator.records import TrialRecord
from evaluator.verdict import UNSETTLED, Outcome
from mitigations.candidate import ProfileError
from mitigations.generate.client import NotAskedError
from mitigations.generate.reply import Reply, Status, Usage
from mitigations.generate.request import Request

_LONGEST_SAID = 600
_LONGEST_EXPLANATION = 2_000
_GIST = 160
_NEWLINE = "\n"


class Asks(Protocol):
    """Who gives the reply to a request: ``Asker``, or a script."""

    async def ask(self, request: Request, sample: int) -> Reply:
        """Raises ``NotAskedError`` if it must not be asked."""
        ...


class Remembers(Protocol):
    """What keeps what was told of a program: ``Store``."""

    def said(self, key: str, kind: type[str]) -> str | None: ...

    def say(self, key: str, what: str) -> None: ...


class Model(Struct, frozen=True, kw_only=True):
    """Who is asked, and how."""

    name: str
    max_tokens: int = 16_000
    effort: str | None = None


class Attack:
    """One family under attack; ``go`` does it, and ``result`` tells at any time how far it is."""

    def __init__(
        self,
        target: Target,
        model: Model,
        budget: Budget,
        bench: Bench,
        asks: Asks,
        memory: Remembers,
        *,
        on_find: Callable[[ModelFind], None] = lambda _: None,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        """``bench`` is the target's; whoever shares it takes turns by ``go``'s lock."""
        self._target = target
        self._family = target.family
        self._model = model
        self.budget = budget
        self._bench = bench
        self._asks = asks
        self._memory = memory
        self._on_find = on_find
        self._on_step = on_step
        self._begun = time.monotonic()
        self._seconds: float | None = None
        self._baseline = ""
        self._ended = "not begun"
        self._attempts: list[Attempt] = []
        self._proposals: list[Proposal] = []
        self._shown: list[Shown] = []
        self._digests: dict[str, int] = {}
        self._routes: set[frozenset[str]] = set()
        self._unsettled: list[str] = []
        self._disagreements = 0
        self._finds: list[ModelFind] = []
        self._usage = Usage(cost=0.0)
        self._answered_by = ""

    async def go(self, running: asyncio.Lock) -> None:
        """Asks and runs until a limit is reached; ``running`` is held while programs run.

        Raises what ``Asker.ask`` raises, except ``NotAskedError``, and what the harness raises.
        """
        try:
            async with running:
                through = await asyncio.to_thread(self._baseline_passes)
            self._ended = "interrupted"
            self._ended = "nobody need be asked" if through else await self._converse(running)
        finally:
            self._seconds = time.monotonic() - self._begun

    # ------------------------------------------------------------------------------ asking

    async def _converse(self, running: asyncio.Lock) -> str:
        """Why it ended."""
        while self._programs_left:
            if len(self._attempts) >= self.budget.requests:
                return f"its {self.budget.requests} requests were made"
            request = self._request()
            try:
                reply = await self._asks.ask(request, len(self._attempts))
            except NotAskedError as error:
                return str(error)
            if reply.status is not Status.API_ERROR:
                self._usage = self._usage.plus(reply.usage)
            self._answered_by = reply.model or self._answered_by
            programs = self._read(request, reply)
            if programs is None:
                if reply.status is Status.API_ERROR:  # the same will be asked again next time
                    return f"the API gave no answer: {reply.why}"
            elif not programs:
                return "the model had nothing more to propose"
            for text in (programs or ())[:PER_ANSWER][: self._programs_left]:
                async with running:
                    await asyncio.to_thread(self._try, text)
                self._on_step()
            self._on_step()
        return f"its {self.budget.programs} programs were proposed"

    @property
    def _programs_left(self) -> int:
        return self.budget.programs - len(self._proposals)

    def _request(self) -> Request:
        return attack_prompt.request(
            self._target,
            self._shown,
            model=self._model.name,
            programs_left=self._programs_left,
            max_tokens=self._model.max_tokens,
            effort=self._model.effort,
        )

    def _read(self, request: Request, reply: Reply) -> Sequence[str] | None:
        """The programs of an answer, as text; None if there was no answer that can be read."""
        status, why = reply.status, reply.why
        explanation, programs = "", None
        if status is Status.OK:
            try:
                answer = attack_prompt.read_answer(reply.text)
            except ProfileError as error:
                status, why = Status.INVALID, _line(f"the answer is invalid: {error}")
                self._show("", f"An answer could not be read: {why}", "an answer that was invalid")
            else:
                explanation, programs = answer.explanation[:_LONGEST_EXPLANATION], answer.programs
        self._attempts.append(
            Attempt(status, why, len(programs or ()), explanation, request.digest())
        )
        return programs

    def _show(self, program: str, said: str, gist: str) -> None:
        self._shown.append(Shown(program, said, gist))

    # ------------------------------------------------------------------------------ running

    def _baseline_passes(self) -> bool:
        (trial,) = self._bench.variants([self._family.baseline])
        self._baseline = trial.outcome.value
        return has_effect(trial)

    def _try(self, text: str) -> None:
        """One program as the model wrote it: read, run, and looked at if it got through."""
        try:
            program = unlabelled(foreign.read(text))
            refused = out_of_scope(program, self._family)
        except ProgramError as error:
            refused, program = str(error), None
        if program is None or refused:
            self._propose("", "invalid", said=f"Not run: {_line(refused)}", program=text)
            return
        digest = program.digest()
        before = self._digests.setdefault(digest, len(self._proposals) + 1)
        if before <= len(self._proposals):
            self._propose(digest, "repeated", said="Not run: it was tried before.", program=text)
            return
        (trial,) = self._bench.programs([program], self._family)
        self._routes.add(calls_of(program, self._bench.terms))
        effect = has_effect(trial)
        self._propose(digest, trial.outcome.value, self._told(trial, digest, effect), text, effect)
        if trial.outcome in UNSETTLED:
            self._disagreements += trial.outcome is Outcome.DISAGREEMENT
            self._doubt(digest, f"{trial.outcome.value} ({trial.reason})")
        if effect:
            self._settle(program)

    def _propose(
        self, digest: str, outcome: str, said: str, program: str, effect: bool = False
    ) -> None:
        place = len(self._attempts) - 1
        self._proposals.append(Proposal(place, digest, outcome, effect, said))
        self._show(program, said, f"{said.partition(_NEWLINE)[0]} {program[:_GIST]}")

    def _told(self, trial: TrialRecord, digest: str, effect: bool) -> str:
        """What is said of a trial: what was said before, where the same was asked before."""
        about = (
            attack_prompt.VERSION,
            "black box" if self._target.black_box else "white box",
            self._target.candidate.digest,
            self._family.label,
            digest,
        )
        key = hashlib.sha256("\n".join(about).encode()).hexdigest()
        kept = self._memory.said(key, str)
        if kept is not None:
            return kept
        said = attack_prompt.observation(trial, effect=effect, black_box=self._target.black_box)
        self._memory.say(key, said)
        return said

    def _doubt(self, digest: str, why: str) -> None:
        self._unsettled.append(f"{self._family.label}/model-{digest}: {why}")

    # ------------------------------------------------------------------------------ finds

    def _settle(self, program: Program) -> None:
        """A program that got through once: a find if it always does, and adds something."""
        if self._adds_nothing(program):
            return
        if not all(self._works([program] * CONFIRMATIONS)):
            self._doubt(program.digest(), f"it got through, but not {CONFIRMATIONS} times in a row")
            return
        short = settled(program, lambda programs: self._works(programs, quickly=True))
        if not all(self._works([short] * CONFIRMATIONS)):
            short = program
        if self._adds_nothing(short):
            return
        find = self._find(short)
        self._finds = [one for one in self._finds if not set(find.calls) <= set(one.calls)]
        self._finds.append(find)
        self._on_find(find)

    def _adds_nothing(self, program: Program) -> bool:
        """Whether a find gets through wherever this does: it needs no call that this does not."""
        calls = calls_of(program, self._bench.terms)
        return any(calls.issuperset(one.calls) for one in self._finds)

    def _works(self, programs: Sequence[Program], *, quickly: bool = False) -> list[bool]:
        return list(map(has_effect, self._bench.programs(programs, self._family, quickly=quickly)))

    def _find(self, program: Program) -> ModelFind:
        calls = calls_of(program, self._bench.terms)
        digest = program.digest()
        return ModelFind(
            id=f"{self._family.label}/model-{digest}",
            known=next((name for name, its in self._library if its <= calls), ""),
            calls=tuple(sorted(calls)),
            operations=len(program.flatten()),
            digest=digest,
            confirmed=CONFIRMATIONS,
            attempt=len(self._attempts) - 1,
            text=tuple(str(line) for line in program_text(program)),
            program=program,
        )

    @cached_property
    def _library(self) -> list[tuple[str, frozenset[str]]]:
        return library_calls(self._family, self._bench.terms)

    # ------------------------------------------------------------------------------ the result

    def result(self) -> Attacked:
        """What was found until now, or what was spent on finding nothing."""
        begun = time.monotonic() - self._begun
        return Attacked(
            family=self._family.label,
            title=self._family.family.title,
            baseline=self._baseline,
            verdict=self._verdict(),
            finds=tuple(sorted(self._finds, key=lambda one: (one.operations, one.id))),
            attempts=tuple(self._attempts),
            proposals=tuple(self._proposals),
            routes=len(self._routes),
            unsettled=tuple(self._unsettled),
            disagreements=self._disagreements,
            usage=self._usage,
            answered_by=self._answered_by,
            ended=self._ended,
            seconds=round(begun if self._seconds is None else self._seconds, 3),
            statuses=dict(Counter(one.status.value for one in self._attempts)),
        )

    def _verdict(self) -> AttackVerdict:
        if self._finds:
            return AttackVerdict.FOUND
        if self._ended == "nobody need be asked":
            return AttackVerdict.OPEN
        if self._unsettled:
            return AttackVerdict.UNDECIDED
        if any(one.status in CENSORED for one in self._attempts):
            return AttackVerdict.CENSORED
        stopped = any(one.outcome == Outcome.BLOCKED for one in self._proposals)
        return AttackVerdict.HELD if stopped else AttackVerdict.UNTESTED


def check_family(family: FamilyInstance) -> None:
    """Raises ``InputError`` where no observer could tell whether a program has the effect."""
    if family.effect.kind is EffectKind.REACHED:
        raise InputError(
            f"{family.label}: its call is never run, so nobody could see whether a model's "
            "program has the effect; search without --model"
        )


def _line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_SAID]
