"""``leaderboard.html``: which models solve what, from the document of ``sidestep score`` alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from markupsafe import Markup
from msgspec import Struct

from reports.drawing import svg
from reports.html import content_policy, inline, template_environment
from reports.leaderboard_document import SURE
from reports.leaderboard_failures import LISTED_ON_PAGE, Failures, failures, status_word
from reports.leaderboard_schema import (
    KNOWN,
    RUNTIME_DEFAULT,
    STATUSES,
    Asked,
    Bypassed,
    Comparison,
    Leaderboard,
    Rate,
    Row,
    Sample,
)
from reports.plot import Mark, Words, draw
from reports.text import abbreviate, counted, one_line

SHOWN_METRICS = ("joint", "false_fix", "held", "poc_blocked", "workloads_ok", "valid")
NAMED = 2
"""So many rows are named in a sentence; more are counted."""
LONGEST_NAME = 48
PAIRS = 120
"""So many comparisons are shown, those of the best rows first."""
FEW_CLUSTERS = 20
"""With fewer, intervals from cluster-robust errors are known to come out too narrow."""
HOPELESS = ("not-mitigable", "conflict")
"""What a scenario expects that no profile solves."""
ARM = " / "
"""Between the parts of a row's name in a comparison."""


class Span(Struct, frozen=True):
    """A rate as text, and as a drawing between ``least`` and 1."""

    said: str
    """The interval; a dash where there is none."""
    mean: str
    note: str = ""
    """Why there is no interval."""
    low: float | None = None
    high: float | None = None
    at: float | None = None
    """The mean; ends and mean in percent of the drawing's width."""


class Line(Struct, frozen=True):
    """A row of the table."""

    row: Row
    name: str
    known: bool
    asked: Mapping[str, Span]
    answered: Mapping[str, Span]
    gap: Span
    visible: Span
    hidden: Span
    asked_how: str
    """Of strategy and level what the name has not."""
    missing: str
    """What became of requests without an answer that can be judged."""
    tries: tuple[str, ...]
    """pass@k and pass^k for each of ``Board.tries``; a dash where k is too large."""


class Pair(Struct, frozen=True):
    """A comparison."""

    first: str
    second: str
    span: Span
    p: str
    detectable: str
    blind: float | None
    """Half the width, in percent of the drawing, of differences that would not have shown."""
    says: str
    decided: bool
    scenarios: int


class Solved(StrEnum):
    ALL = "all"
    SOME = "some"
    NONE = "none"
    UNASKED = "unasked"
    """Nothing was asked, or the provider broke each time."""


class Cell(Struct, frozen=True):
    """A scenario and a row."""

    solved: Solved
    said: str
    false_fixes: int = 0
    notes: tuple[str, ...] = ()


class Task(Struct, frozen=True):
    """A row of the matrix."""

    asked: Asked
    cells: tuple[Cell, ...]


WORDS = Words(
    "Rows by what they hold and what they leave working",
    "What is held grows to the right and what works upwards, so that the best place is the upper "
    "right corner. The table holds the same numbers.",
    "held, hidden ways included",
    "workloads that work",
    ("held", "work"),
)


class Technique(Struct, frozen=True):
    """How many answers of each row it got around."""

    name: str
    cells: tuple[tuple[str, str], ...]
    """``3 of 50``, and by how many ways."""


class Board(Struct, frozen=True):
    """What the template shows."""

    document: Leaderboard
    headline: str
    contrast: str
    """What a test with the PoC alone would have said; empty if no answer shows it."""
    lines: tuple[Line, ...]
    models: tuple[Line, ...]
    known: tuple[Line, ...]
    """Answers that need no model."""
    tries: tuple[str, ...]
    pairs: tuple[Pair, ...]
    more_pairs: int
    """How many more comparisons there are."""
    columns: tuple[Line, ...]
    """Of the tables by scenario and by technique.

    What a runtime ships by default is not among them: a hole in it is for its maintainers first.
    """
    tasks: tuple[Task, ...]
    techniques: tuple[Technique, ...]
    failures: tuple[Failures, ...]
    plot: Markup | None
    """The drawing; none where there is nothing to compare."""
    clusters: int
    few_clusters: bool
    hides: bool
    """Whether some way was hidden from models."""
    hopeless: int
    """For how many scenarios no profile is a solution, by what they say of themselves."""
    dev: int
    """How many scenarios are of the split that prompts are written with."""
    priced: bool


def render_leaderboard(document: Leaderboard) -> str:
    """The page as text."""
    style = inline("report.css") + inline("leaderboard.css")
    script = inline("unfold.js")
    return (
        template_environment()
        .get_template("leaderboard.html.j2")
        .render(
            board=build_board(document),
            counted=counted,
            metrics=SHOWN_METRICS,
            style=style,
            script=script,
            policy=content_policy(style, script),
        )
    )


def build_board(document: Leaderboard) -> Board:
    """Everything that the template needs, so that it has no logic of its own."""
    names = _names(document.rows)
    ks = sorted({k for row in document.rows for k in row.pass_at})
    rows = sorted(document.rows, key=lambda row: row.strategy == KNOWN)  # stable
    lines = tuple(_line(row, names, ks, document.rows) for row in rows)
    samples: dict[tuple[str, str, str], list[Sample]] = {_arm(row): [] for row in rows}
    for one in document.samples:
        samples[one.arm].append(one)
    models = tuple(line for line in lines if not line.known)
    columns = tuple(
        line for line in lines if not (line.known and line.row.model == RUNTIME_DEFAULT)
    )
    clusters = {one.cluster for one in document.scenarios}
    return Board(
        document=document,
        headline=_headline(document, models, names),
        contrast=_contrast(models, samples),
        lines=lines,
        models=models,
        known=tuple(line for line in lines if line.known),
        tries=tuple(head for k in ks for head in _heads(k)),
        pairs=tuple(_pair(one, names) for one in document.comparisons[:PAIRS]),
        more_pairs=max(0, len(document.comparisons) - PAIRS),
        columns=columns,
        tasks=tuple(
            Task(one, tuple(_cell(one, samples[_arm(line.row)]) for line in columns))
            for one in sorted(document.scenarios, key=lambda one: (one.cluster, one.name))
        ),
        techniques=tuple(_techniques([line.row for line in columns])),
        failures=tuple(
            failures(line.name, samples[_arm(line.row)], LISTED_ON_PAGE // len(models))
            for line in models
        ),
        plot=_plot(lines),
        clusters=len(clusters),
        few_clusters=len(clusters) < FEW_CLUSTERS,
        hides=any(one.hides for one in document.samples),
        hopeless=sum(one.expect in HOPELESS for one in document.scenarios),
        dev=sum(one.split == "dev" for one in document.scenarios),
        priced=any(row.cost_per_solved is not None for row in rows),
    )


def _arm(row: Row) -> tuple[str, str, str]:
    return row.model, row.strategy, row.level


def _names(rows: Sequence[Row]) -> dict[str, str]:
    """By the name that comparisons use: the model, with strategy and level where rows differ in it.

    Two that would be called the same have their number with it.
    """
    found: dict[str, str] = {}
    taken: Counter[str] = Counter()
    for row in rows:
        parts = (row.model, *(part for part, differs in _ways_to_ask(row, rows) if differs))
        short = ", ".join(abbreviate(one_line(part), LONGEST_NAME) for part in parts)
        taken[short] += 1
        again = f" ({taken[short]})" if taken[short] > 1 else ""
        found[_full(row)] = short + again
    return found


def _ways_to_ask(row: Row, rows: Iterable[Row]) -> Iterable[tuple[str, bool]]:
    """Strategy and level of a row, each with whether the rows of models differ in it."""
    asked = [one for one in rows if one.strategy != KNOWN]
    if row.strategy != KNOWN:
        for part, all_of in (
            (row.strategy, {one.strategy for one in asked}),
            (row.level, {one.level for one in asked}),
        ):
            if part:
                yield part, len(all_of) > 1


def _full(row: Row) -> str:
    return ARM.join(filter(None, _arm(row)))


def _line(row: Row, names: Mapping[str, str], ks: Sequence[int], rows: Sequence[Row]) -> Line:
    def tried(of: Mapping[int, float], k: int) -> str:
        # Rounded first: the same chance, summed up in another order, is to look the same.
        return f"{round(of[k], 9):.2f}" if k in of else "\u2013"

    missing = {status: row.statuses.get(status, 0) for status in STATUSES if status != "ok"}
    return Line(
        row=row,
        name=names[_full(row)],
        known=row.strategy == KNOWN,
        asked={metric: span(row.asked[metric]) for metric in SHOWN_METRICS},
        answered={metric: span(row.rates[metric]) for metric in SHOWN_METRICS},
        gap=span(row.gap, -1.0),
        visible=span(row.asked["visible_held"]),
        hidden=span(row.asked["hidden_held"]),
        asked_how=", ".join(
            abbreviate(one_line(part), 24)
            for part, differs in _ways_to_ask(row, rows)
            if not differs
        ),
        missing=", ".join(f"{n} {status_word(status)}" for status, n in missing.items() if n),
        tries=tuple(
            tried(of, k)
            for k in ks
            for of, _ in zip((row.pass_at, row.pass_all), _heads(k), strict=False)
        ),
    )


def _heads(k: int) -> tuple[str, ...]:
    """For one answer both chances are the same."""
    return (f"pass@{k}", f"pass^{k}") if k > 1 else (f"pass@{k}",)


def span(rate: Rate, least: float = 0.0) -> Span:
    """A rate, drawn from ``least`` (0, or -1 for a difference) to 1."""
    sign = "+" if least < 0 else ""

    def place(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - least) / (1 - least))), 2)

    def figure(value: float) -> str:
        # Rounded first: the same mean, summed up in another order, is to look the same.
        return f"{round(value, 9) + 0.0:{sign}.2f}".replace("-", "\u2212")

    if rate.mean is None:
        return Span("\u2013", "\u2013", "nothing to average")
    mean = figure(rate.mean)
    if rate.low is None or rate.high is None:
        return Span("no interval", mean, "fewer than two clusters", at=place(rate.mean))
    said = f"{figure(rate.low)} to {figure(rate.high)}"
    return Span(said, mean, "", place(rate.low), place(rate.high), place(rate.mean))


def _pair(one: Comparison, names: Mapping[str, str]) -> Pair:
    first, second = (
        names.get(name, abbreviate(one_line(name))) for name in (one.first, one.second)
    )
    difference = one.difference
    if difference.low is None or difference.high is None:
        says = "nothing can be said: fewer than two clusters"
    elif one.winner:
        says = f"{first if one.winner == one.first else second} is better"
    elif difference.low <= 0 <= difference.high:
        says = "no winner: the interval holds 0"
    else:
        says = f"no winner: p is not below {SURE}"
    return Pair(
        first=first,
        second=second,
        span=span(difference, -1.0),
        p=_p(one.adjusted),
        detectable="\u2013" if one.detectable is None else f"{one.detectable:.2f}",
        blind=None if one.detectable is None else round(50 * min(1.0, one.detectable), 2),
        says=says,
        decided=bool(one.winner),
        scenarios=one.scenarios,
    )


def _p(value: float | None) -> str:
    least = 0.001
    return "\u2013" if value is None else f"< {least}" if value < least else f"{value:.3f}"


def _headline(document: Leaderboard, models: Sequence[Line], names: Mapping[str, str]) -> str:
    """The answer in one plain sentence with its interval."""
    if not models:
        return "No model was scored: every row is an answer that needs no model"
    best = models[0]
    rate = best.row.asked["joint"]
    if rate.mean is None:
        return f"Nothing can be said of {best.name}: none of its answers could be judged"
    if not rate.mean and len(models) > 1:
        several = len({line.row.model for line in models}) < len(models)
        return f"None of {len(models)} models{' and ways to ask' * several} solves a scenario"
    solves = f"solves {_percent(rate)} of {counted(rate.scenarios, 'scenario')}"
    if len(models) == 1:
        return f"{best.name} {solves}"
    mine = _full(best.row)
    beaten = {
        pair.second if pair.first == mine else pair.first
        for pair in document.comparisons
        if pair.winner == mine
    }
    level = [line for line in models[1:] if _full(line.row) not in beaten]
    if level:
        named = ", ".join(line.name for line in level[:NAMED])
        more = f" and {len(level) - NAMED} more" if len(level) > NAMED else ""
        over = f"is better than {counted(len(beaten), 'other')} and" if beaten else "and is"
        is_not = f"{over} not shown to be better than {named}{more}"
        return f"No winner: {best.name} {solves}, {is_not}"
    others = (
        names[_full(models[1].row)] if len(models) == 2 else f"each of {len(models) - 1} others"
    )
    return f"{best.name} {solves}, more than {others}"


def _plot(lines: Iterable[Line]) -> Markup | None:
    """Means over all that was asked, the answers that need no model among them."""
    marks: list[Mark] = []
    outside: list[tuple[str, str, bool]] = []
    for line in lines:
        name = f"{line.name}, no model" if line.known else line.name
        held, works = line.row.asked["held"].mean, line.row.asked["workloads_ok"].mean
        if held is None or works is None:
            outside.append((name, "nothing to average", False))
        else:
            said = (line.asked["held"].mean, line.asked["workloads_ok"].mean)
            marks.append(Mark(name, held, works, said, said))
    drawn = draw(marks, outside, WORDS)
    return None if drawn is None else svg(drawn)


def _percent(rate: Rate) -> str:
    """``38 to 86 %``, or the mean with a word about the interval that is missing."""
    if rate.low is None or rate.high is None:
        return f"{rate.mean or 0:.0%} (no interval)".replace("%", " %")
    return f"{100 * rate.low:.0f} to {100 * rate.high:.0f} %"


def _contrast(
    models: Sequence[Line], samples: Mapping[tuple[str, str, str], Sequence[Sample]]
) -> str:
    """What of the answers that pass a test with the PoC alone a hidden way gets around."""
    scores = [
        one.score
        for line in models
        for one in samples[_arm(line.row)]
        if one.score is not None and one.score.poc_blocked and one.score.workloads_ok
    ]
    false = sum(score.false_fix is True for score in scores)
    if not scores:
        return ""
    return (
        f"Of the models' answers {len(scores)} stopped the PoC and broke nothing, which is all "
        f"that a test with the PoC sees; a hidden way got around {false} of them."
    )


def _cell(asked: Asked, samples: Iterable[Sample]) -> Cell:
    mine = [one for one in samples if one.scenario == asked.name]
    broke = sum(one.status == "api_error" for one in mine)
    tried = len(mine) - broke
    notes = [
        f"{n} {status_word(status)}"
        for status in STATUSES
        if status != "ok" and (n := sum(one.status == status for one in mine))
    ]
    unjudged = sum(one.score is not None and one.score.joint is None for one in mine)
    if unjudged:
        notes.append(f"{unjudged} not judged")
    if not tried:
        return Cell(Solved.UNASKED, "not asked", notes=tuple(notes))
    right = sum(one.score is not None and one.score.joint is True for one in mine)
    solved = Solved.ALL if right == tried else Solved.SOME if right else Solved.NONE
    false = sum(one.score is not None and one.score.false_fix is True for one in mine)
    return Cell(solved, f"{right} of {tried}", false, tuple(notes))


def _techniques(rows: Sequence[Row]) -> Iterable[Technique]:
    """Those that got around an answer, the one that did it most often first."""
    of_rows = [{one.technique: one for one in row.techniques} for row in rows]
    total: Counter[str] = Counter()
    for row in rows:
        total.update({one.technique: one.bypassed for one in row.techniques})
    for name, number in total.most_common():
        if number:
            yield Technique(name, tuple(_got_around(found.get(name)) for found in of_rows))


def _got_around(found: Bypassed | None) -> tuple[str, str]:
    if found is None:
        return "not tried", ""
    ways = counted(found.ways, "way") if found.ways else ""
    return f"{found.bypassed} of {found.answers}", ways
