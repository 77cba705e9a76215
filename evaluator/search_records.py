"""What a search is given, what it finds, and what it says where it finds nothing."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from attacks.family import Technique
from attacks.program import Program

SCHEMA = "sidestep.search/1"
NOT_LED = "a search is led by what the filters tell apart, not by what the other layers do"


class Limits(Struct, frozen=True):
    """How far a search goes; whatever is reached first ends it."""

    seconds: float | None = 20.0
    """For all families together; None for as long as it takes."""
    programs: int | None = None
    """So many are built at most, for each family."""
    seed: int = 0
    """Decides between programs that promise as much."""
    baseline_only: bool = False
    """Start from the baseline alone, as if nothing else were recorded."""


class Tried(Struct, frozen=True):
    """What came of a program that was run."""

    outcome: str
    exact: bool
    """Both arms reached the effect itself."""
    stopped: str = ""
    """The call that the filters stopped, ``i386:open``."""
    reason: str = ""

    @property
    def untestable(self) -> bool:
        """This machine lacks what it needs; a program that is no way to the effect is not that."""
        whose_fault = self.reason.startswith(("rewrite:", "program:"))
        return self.outcome == "UNSUPPORTED" and not whose_fault


class Step(Struct, frozen=True):
    """One move on the way to a find."""

    move: str
    technique: Technique
    why: str


class Find(Struct, frozen=True):
    """A program that reaches the effect under the candidate, shortened."""

    id: str
    """The variant that it began with and the moves: ``create-directory/mkdir~i386``."""
    technique: Technique
    """Of the last move."""
    steps: tuple[Step, ...]
    known: str
    """The shortest variant of the library that has the same route; empty if it has none."""
    route: str
    operations: int
    digest: str
    text: tuple[str, ...]
    """The program, a line for each operation."""
    program: Program


class SearchVerdict(StrEnum):
    """What a search says about a family."""

    FOUND = "found"
    HELD = "held"
    OPEN = "open"
    """The filters do not even stop the baseline."""
    UNDECIDED = "undecided"
    UNTESTED = "untested"


class Ended(StrEnum):
    """Why a search came to its end."""

    EXHAUSTED = "nothing was left to try"
    ENOUGH = "enough was found"
    SECONDS = "its time was up"
    PROGRAMS = "its number of programs was reached"
    INTERRUPTED = "interrupted"
    NO_NEED = "nobody need search"
    NOT_BEGUN = "not begun"


class Searched(Struct, frozen=True):
    """One family: what was found, or what was spent on finding nothing."""

    family: str
    title: str
    baseline: str
    """What became of it: an outcome."""
    verdict: SearchVerdict
    finds: tuple[Find, ...]
    """The shortest of each technique, and of those that the library lacks; the shortest first."""
    ways: int
    """How many routes are open, those of the finds included."""
    built: int
    run: int
    routes: int
    """Distinct ones, by what these filters can tell apart."""
    untestable: int
    """Routes that the filters may let through, and that this machine lacks something for."""
    unsettled: tuple[str, ...]
    """Programs whose runs prove nothing, each with the reason."""
    disagreements: int
    seconds: float
    ended: Ended

    @property
    def evidence(self) -> str:
        """What was spent, in words."""
        spent = (
            f"{self.built} programs built, {self.run} run, {self.routes} distinct routes, "
            f"{self.seconds:.1f} s"
        )
        if self.verdict is SearchVerdict.OPEN:
            return "the filters do not stop the baseline: it is open without search"
        if self.finds:
            noun = "route" if self.ways == 1 else "routes"
            return f"{self.ways} {noun} found: {spent}"
        return f"nothing found: {spent}"
