"""What a model is given to attack a candidate with, what came of it, and what was not answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from attacks.program import Program
from mitigations.generate.reply import Status, Usage

SCHEMA = "sidestep.model-search/1"
CENSORED = frozenset({Status.REFUSED, Status.TRUNCATED, Status.API_ERROR})
"""What says nothing about the candidate, and nothing of what the model could have found."""


class Budget(Struct, frozen=True):
    """How far a model goes in one family; what it may cost is up to whoever asks."""

    programs: int = 20
    """So many are read at most, those included that are none."""
    requests: int = 10


class Attempt(Struct, frozen=True):
    """One request, and what the model answered."""

    status: Status
    why: str = ""
    programs: int = 0
    """So many it proposed."""
    explanation: str = ""
    """In the model's words, which nobody believes."""
    request: str = ""
    """Its digest: the file of the store."""


class Proposal(Struct, frozen=True):
    """One program that a model proposed."""

    attempt: int
    """The place of the answer that it was in."""
    digest: str
    """Empty if it is no program that may be run."""
    outcome: str
    """Of its trial; ``invalid`` if it was not run, ``repeated`` if it was run before."""
    effect: bool
    """Both arms had the effect itself, as the judge saw."""
    said: str
    """What the model was told of it."""


class Replayed(Struct, frozen=True):
    """What came of a find under another candidate."""

    candidate: str
    source: str
    outcome: str
    effect: bool
    """Both arms had the effect itself."""
    baseline: str
    """What became of the baseline there: what does not stop that either was not aimed at this."""
    reason: str = ""


class ModelFind(Struct, frozen=True, kw_only=True):
    """A program that gets past the candidate: confirmed, shortened, and more than another find."""

    id: str
    known: str
    """The shortest variant of the library that needs no call that this does not need: it gets
    through wherever this does.  Empty if there is none."""
    calls: tuple[str, ...]
    """What a filter could stop: ``ABI:CALL[REGION]``, the region being a place in this filter."""
    operations: int
    digest: str
    confirmed: int
    """Runs in a row, both arms anew each time, that all had the effect."""
    attempt: int
    """The place of the answer that it was in."""
    text: tuple[str, ...]
    """The program, a line for each operation."""
    program: Program
    replayed: tuple[Replayed, ...] = ()

    @property
    def is_new(self) -> bool:
        return not self.known


class AttackVerdict(StrEnum):
    """What a model's attempts say about a family."""

    FOUND = "found"
    HELD = "held"
    """All requests were answered, programs were run, and none got through."""
    CENSORED = "censored"
    """Nothing was found, and some requests had no answer: that is no word for the candidate."""
    OPEN = "open"
    """The filters do not even stop the baseline: nobody was asked."""
    UNDECIDED = "undecided"
    """Nothing was found, and some run proves nothing."""
    UNTESTED = "untested"
    """No program of the model was run that works here without the candidate."""


NO_WORD = frozenset({AttackVerdict.CENSORED, AttackVerdict.UNTESTED})
"""After these nothing is known that was not known before."""


class Attacked(Struct, frozen=True, kw_only=True):
    """One family: what a model found, or what was spent on finding nothing."""

    family: str
    title: str
    baseline: str
    """What became of it: an outcome."""
    verdict: AttackVerdict
    finds: tuple[ModelFind, ...]
    attempts: tuple[Attempt, ...]
    proposals: tuple[Proposal, ...]
    routes: int
    """Distinct sets of calls among the programs that were run, as these filters see them."""
    unsettled: tuple[str, ...]
    """Programs whose runs prove nothing, each with the reason."""
    disagreements: int
    usage: Usage
    answered_by: str
    """The model as the provider named it; empty if there was no answer."""
    ended: str
    seconds: float
    statuses: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many requests came to what."""

    @property
    def evidence(self) -> str:
        """What was spent, in words; what was not answered is part of it."""
        ran = sum(one.outcome not in _NOT_RUN for one in self.proposals)
        invalid = sum(one.status is Status.INVALID for one in self.attempts)
        spent = (
            f"{_counted(len(self.attempts), 'request')}, "
            f"{f'{invalid} of them answered with no program, ' if invalid else ''}"
            f"{_counted(len(self.proposals), 'program')} proposed, {ran} run, "
            f"{_counted(self.routes, 'distinct route')}"
        )
        if self.verdict is AttackVerdict.OPEN:
            return "the filters do not stop the baseline: it is open, and nobody was asked"
        if self.finds:
            return f"{_counted(len(self.finds), 'way')} found: {spent}"
        if self.verdict in NO_WORD:
            return f"that says nothing about the candidate: {spent}"
        return f"nothing found: {spent}"

    @property
    def censored(self) -> str:
        """In words what was not answered; empty if everything was."""
        count = Counter(one.status for one in self.attempts if one.status in CENSORED)
        if not count:
            return ""
        parts = ", ".join(f"{number} {status.value}" for status, number in sorted(count.items()))
        whole = _counted(len(self.attempts), "request")
        return f"{parts} of {whole}: nobody knows what the model would have found"


_NOT_RUN = ("invalid", "repeated")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
