"""``index.html`` over several runs: in order of time, and how each verdict moved."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct

from reports.answer import Standing, headline, listed, standing
from reports.html import content_policy, inline, render, template_environment
from reports.schema import Candidate, Document
from reports.scores import Scores, scores
from reports.text import abbreviate, counted

GOOD = ("held", "held here", "works", "in force")
WHOLE = "the candidate"
UNUSABLE = (Standing.INVALID, Standing.DOES_NOT_START, Standing.NOT_ENFORCED)
NAMED = 2
"""So many moves are named in the headline; more are counted."""
MOST_CELLS = 6_000
"""A table of everything beyond so many cells is left to the pages of the runs."""
_ENVIRONMENT = ("suite", "kernel", "libseccomp", "objective")


class Move(StrEnum):
    """What became of something since the run before."""

    WORSE = "worse"
    BETTER = "better"
    OTHER = "changed"


class Cell(Struct, frozen=True):
    """A verdict in one run; empty if it was not run."""

    verdict: str
    move: Move | None = None


class Track(Struct, frozen=True):
    """One effect or workload of one candidate through all runs."""

    candidate: str
    subject: str
    cells: tuple[Cell, ...]

    @property
    def moved(self) -> bool:
        return any(cell.move is not None for cell in self.cells)


class Scored(Struct, frozen=True):
    """A candidate's scores and standing in each run; none where it was not there."""

    candidate: str
    runs: tuple[tuple[str, Scores] | None, ...]


class RunView(Struct, frozen=True):
    document: Document
    page: str
    """Name of the file beside the index."""
    headline: str
    differs: tuple[str, ...]
    """What else is not as in the run before, so that verdicts may differ by it."""
    worse: int
    better: int


class History(Struct, frozen=True):
    headline: str
    runs: tuple[RunView, ...]
    scored: tuple[Scored, ...]
    moved: tuple[Track, ...]
    steady: tuple[Track, ...]
    """Empty if there are too many to show."""
    steady_count: int


def render_history(documents: Iterable[Document]) -> dict[str, str]:
    """The index and a page for each run, by file name.  One run that is given twice counts once."""
    history = build_history(documents)
    style = inline("report.css")
    index = (
        template_environment()
        .get_template("history.html.j2")
        .render(history=history, counted=counted, style=style, policy=content_policy(style))
    )
    return {"index.html": index} | {one.page: render(one.document) for one in history.runs}


def build_history(documents: Iterable[Document]) -> History:
    """Everything that the template shows."""
    unique: list[Document] = []
    for document in documents:
        if document not in unique:
            unique.append(document)
    ordered = sorted(unique, key=lambda one: one.started)
    tracks = _tracks(ordered)
    moved = tuple(one for one in tracks if one.moved)
    steady = tuple(one for one in tracks if not one.moved)
    runs = tuple(_run(ordered, n, moved) for n in range(len(ordered)))
    return History(
        headline=_headline(runs, moved),
        runs=runs,
        scored=_scored(ordered),
        moved=moved,
        steady=steady if len(steady) * len(runs) <= MOST_CELLS else (),
        steady_count=len(steady),
    )


def _run(ordered: Sequence[Document], n: int, moved: Sequence[Track]) -> RunView:
    document = ordered[n]
    moves = [track.cells[n].move for track in moved]
    return RunView(
        document,
        _page_name(document),
        headline(document),
        _differs(ordered[n - 1], document) if n else (),
        moves.count(Move.WORSE),
        moves.count(Move.BETTER),
    )


def _page_name(document: Document) -> str:
    """Stable for one run, so that links to it stay good when runs are added."""
    when = re.sub(r"[^0-9TZ]", "", document.started[:19]) or "run"
    names = "\0".join(f"{one.name}\0{one.digest}" for one in document.candidates)
    told = f"{document.started}\0{document.duration_s}\0{document.arguments}\0{names}"
    digest = hashlib.sha256(told.encode(errors="replace")).hexdigest()[:8]
    return f"{when}-{digest}.html"


def _differs(before: Document, after: Document) -> tuple[str, ...]:
    def settings(one: Document) -> tuple[str | None, ...]:
        where = one.environment
        return one.suite, where.kernel, where.libseccomp, one.objective

    return tuple(
        f"{name}: {old or 'none'} before, {new or 'none'} now"
        for name, old, new in zip(_ENVIRONMENT, settings(before), settings(after), strict=True)
        if old != new
    )


def _tracks(ordered: Sequence[Document]) -> list[Track]:
    verdicts: dict[tuple[str, str], list[str]] = {}
    for n, document in enumerate(ordered):
        for candidate in document.candidates:
            for subject, verdict in _verdicts(candidate):
                cells = verdicts.setdefault((candidate.name, subject), [""] * len(ordered))
                cells[n] = verdict
    return [Track(name, subject, _cells(of)) for (name, subject), of in verdicts.items()]


def _verdicts(candidate: Candidate) -> Iterable[tuple[str, str]]:
    whole = standing(candidate)
    yield WHOLE, whole.value if whole in UNUSABLE else "in force"
    for family in candidate.families:
        yield family.family, family.verdict
    for work in candidate.workloads:
        said = "unavailable" if not work.works_in_control else "works" if work.works else "broken"
        yield f"workload {work.workload}", said


def _cells(verdicts: Sequence[str]) -> tuple[Cell, ...]:
    """A move is told against the last run in which it was there."""
    found: list[Cell] = []
    last = ""
    for verdict in verdicts:
        moved = bool(last and verdict and verdict != last)
        found.append(Cell(verdict, _move(last, verdict) if moved else None))
        last = verdict or last
    return tuple(found)


def _move(before: str, after: str) -> Move:
    """It fails closed: what was held and is not shown to be held any more is worse."""
    if before in GOOD and after not in GOOD:
        return Move.WORSE
    if after in GOOD and before not in GOOD:
        return Move.BETTER
    return Move.OTHER


def _scored(ordered: Sequence[Document]) -> tuple[Scored, ...]:
    found: dict[str, list[tuple[str, Scores] | None]] = {}
    for n, document in enumerate(ordered):
        for one in document.candidates:
            runs = found.setdefault(one.name, [None] * len(ordered))
            runs[n] = standing(one).value, scores(one)
    return tuple(Scored(name, tuple(runs)) for name, runs in found.items())


def _headline(runs: Sequence[RunView], moved: Sequence[Track]) -> str:
    if len(runs) == 1:
        return "One run, and nothing to compare it with"
    last = len(runs) - 1
    said: list[str] = []
    for move, word in ((Move.WORSE, "became worse"), (Move.BETTER, "became better")):
        of = [one for one in moved if one.cells[last].move is move]
        names = [f"{abbreviate(one.subject)} of {abbreviate(one.candidate, 40)}" for one in of]
        if names:
            named = listed(names) if len(names) <= NAMED else counted(len(names), "verdict")
            said.append(f"{named} {word}")
    moves = ", ".join(said) or "no verdict became worse or better"
    return f"In the latest of {counted(len(runs), 'run')}, {moves}"
