"""``report.html``: one page that needs nothing but a browser, from the results document alone."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import jinja2
from markupsafe import Markup
from msgspec import Struct
from msgspec.structs import replace

from reports.answer import Standing, advice, headline, sentence, standing
from reports.document import findings
from reports.drawing import svg
from reports.plot import plot
from reports.program import Line, lines
from reports.rawdata import data_block
from reports.schema import Candidate, Cause, Document, Family, Finding, Trial
from reports.scores import Scores, scores
from reports.tables import family_names, left_behind
from reports.text import abbreviate, counted, plain, visible

TEMPLATES = Path(__file__).parent / "templates"

PROGRAMS_PER_FAMILY = 3
PROGRAMS_PER_PAGE = 240
LINES_PER_FAMILY = 40
LINES_PER_PAGE = 3_000
SOURCES_PER_PAGE = 1 << 19
SECTIONS_PER_PAGE = 500
"""What is written out is limited, so that 50 candidates by 1,000 variants stay under 5 MB; the data
table has every trial and the program of every bypass."""

ORDER = ("leaky", "not-enforced", "undecided", "held here", "held", "open", "untested")


class Share(Struct, frozen=True):
    """What one candidate may write out of the page's limits."""

    programs: int
    lines: int
    """For each list of a family; 0 if the page is so full that lists would be of no use."""
    source: int
    sections: int
    """So many families have a section of their own; the ways of all are in the matrix."""


class Blocked(Struct, frozen=True):
    """Variants that were stopped at the same call with the same answer and the same aftermath."""

    call: str
    abi: str
    answer: str
    decisive: bool
    layer: str
    left_behind: str
    variants: tuple[str, ...]


class Lines(Struct, frozen=True):
    """The first of some trials, and how many there are."""

    shown: tuple[Trial, ...]
    total: int

    @property
    def unlisted(self) -> int:
        return self.total - len(self.shown)


class Program(Struct, frozen=True):
    """A trial that is written out call by call."""

    trial: Trial
    lines: tuple[Line, ...]
    cause: Cause | None = None
    """What lets it through."""


class FamilyView(Struct, frozen=True):
    anchor: str
    family: Family
    programs: tuple[Program, ...]
    """Bypasses written out call by call."""
    causes: tuple[Cause, ...]
    """What lets the bypasses through, as far as they are listed."""
    uncaused: int
    """How many more causes there are."""
    others: Lines
    """Further bypasses in scope, one line each."""
    outside: Lines
    """Got through, but outside the scope of the verdict."""
    blocked: tuple[Blocked, ...]
    baseline: Program | None
    """The blocked baseline, written out for comparison."""
    left_behind: str
    unclear: Lines
    """Neither reached the effect nor were stopped."""


class Others(Struct, frozen=True):
    """Families without a section, with one verdict: their ways are in the matrix."""

    verdict: str
    targeted: bool
    families: tuple[Family, ...]


class CandidateView(Struct, frozen=True):
    anchor: str
    candidate: Candidate
    standing: Standing
    scores: Scores
    sentence: str
    advice: str
    families: tuple[FamilyView, ...]
    """Those that have a section, the worst first."""
    others: tuple[Others, ...]
    findings: tuple[Finding, ...]
    source: str
    source_cut: bool


class Cell(Struct, frozen=True):
    verdict: str
    anchor: str
    """Where it is written out; empty if it is not."""
    detail: str
    targeted: bool


class Row(Struct, frozen=True):
    family: str
    title: str
    cells: tuple[Cell | None, ...]

    @property
    def matters(self) -> bool:
        """Somebody is meant to stop it, or something other than nothing was found."""
        shown = [cell for cell in self.cells if cell is not None]
        return any(one.targeted or one.verdict not in ("open", "untested") for one in shown)


class Page(Struct, frozen=True):
    """What the template shows."""

    document: Document
    headline: str
    advice: tuple[CandidateView, ...]
    """Those about which there is something to do, worst first."""
    candidates: tuple[CandidateView, ...]
    ranked: tuple[CandidateView, ...]
    plot: Markup | None
    """The drawing; none where there is nothing to compare."""
    matrix: tuple[Row, ...]
    aside: tuple[Row, ...]
    """Rows of the matrix that nobody is meant to stop, folded."""
    effects: int
    trials: int
    variants: int
    untestable: tuple[tuple[str, int], ...]
    postures: tuple[str, ...]


def render(document: Document) -> str:
    """The page as text."""
    style, script = inline("report.css"), inline("report.js") + inline("unfold.js")
    return (
        template_environment()
        .get_template("report.html.j2")
        .render(
            page=build_page(document),
            counted=counted,
            style=style,
            script=script,
            data=Markup(data_block(document)),  # noqa: S704 - escaped for a script element
            policy=content_policy(style, script),
        )
    )


def template_environment() -> jinja2.Environment:
    """Every text is escaped, and what would hide or reorder text is shown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalize,
    )
    environment.filters.update(source=source_text, plain=plain, short=abbreviate)
    return environment


def content_policy(style: str, script: str | None = None) -> str:
    """Nothing but this very style and script may act, and nothing may be fetched."""
    allowed = "" if script is None else f"script-src {_hash(script)}; "
    return (
        f"default-src 'none'; style-src {_hash(style)}; {allowed}"
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def build_page(document: Document) -> Page:
    """Everything that the template needs, so that it has no logic of its own."""
    share = _share(document)
    views = [
        replace(_candidate(f"c{n}", candidate, share), advice=advice(candidate, document))
        for n, candidate in enumerate(document.candidates)
    ]
    order = list(Standing)
    ranked = tuple(sorted(views, key=lambda view: order.index(view.standing)))
    trials = [trial for candidate in document.candidates for trial in candidate.trials]
    compared = plot([view.candidate for view in ranked])
    rows = _matrix(document, share)
    main = [row for row in rows if row.matters] or rows
    return Page(
        document=document,
        headline=headline(document),
        advice=tuple(view for view in ranked if view.advice),
        candidates=tuple(views),
        ranked=ranked,
        plot=svg(compared) if compared is not None else None,
        matrix=tuple(main),
        aside=tuple(row for row in rows if not row.matters) if main is not rows else (),
        effects=len(rows),
        trials=len(trials),
        variants=len({trial.variant for trial in trials}),
        untestable=tuple(_untestable(trials)),
        postures=tuple(sorted({c.posture for c in document.candidates if c.posture})),
    )


def source_text(text: str) -> Markup:
    """Text for an element's content: quotes need no escape there, and profiles are full of them."""
    shown = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(shown)  # noqa: S704 - escaped in the line above


def _finalize(value: object) -> object:
    if value is None:
        raise jinja2.UndefinedError("the template shows a value that is not there")
    return visible(value) if type(value) is str else value


def inline(name: str) -> Markup:
    """A file of ours, as it goes into an element."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _share(document: Document) -> Share:
    candidates = max(1, len(document.candidates))
    families = sum(len(candidate.families) for candidate in document.candidates)
    limit = min(LINES_PER_FAMILY, LINES_PER_PAGE // max(1, families))
    return Share(
        programs=max(4, PROGRAMS_PER_PAGE // candidates),
        lines=limit if limit > 2 else 0,
        source=max(2048, SOURCES_PER_PAGE // candidates),
        sections=families if limit > 2 else max(4, SECTIONS_PER_PAGE // candidates),
    )


def _candidate(anchor: str, candidate: Candidate, share: Share) -> CandidateView:
    found: list[FamilyView] = []
    sections = _with_section(candidate, share)
    trials: dict[str, list[Trial]] = {}
    for trial in candidate.trials:
        trials.setdefault(trial.family or trial.variant.split("/")[0], []).append(trial)
    left = share.programs
    written = sum(_is_written_out(family) for family in candidate.families)
    each = min(PROGRAMS_PER_FAMILY, max(1, left // max(1, written)))
    for number, family in enumerate(candidate.families):
        if number not in sections:
            continue
        mine = trials.get(family.family, [])
        programs = min(each, left) if _is_written_out(family) else 0
        view = _family(f"{anchor}-f{number}", family, mine, programs, share.lines)
        left -= len(view.programs)
        found.append(view)
    found.sort(key=lambda view: _order(view.family))
    return CandidateView(
        anchor=anchor,
        candidate=candidate,
        standing=standing(candidate),
        scores=scores(candidate),
        sentence=sentence(candidate),
        advice="",
        families=tuple(found),
        others=_others(f for n, f in enumerate(candidate.families) if n not in sections),
        findings=tuple(findings(candidate)),
        source=candidate.profile_text[: share.source],
        source_cut=len(candidate.profile_text) > share.source,
    )


def _is_written_out(family: Family) -> bool:
    """Whether its ways through are shown call by call: somebody meant to stop them."""
    return family.verdict == "leaky" or (family.verdict == "open" and family.targeted)


def _with_section(candidate: Candidate, share: Share) -> set[int]:
    """Positions of the families that have a section: what matters, the worst first."""
    families = candidate.families
    matter = [
        n
        for n, family in enumerate(families)
        if family.targeted or family.verdict in ("leaky", "undecided", "not-enforced")
    ]
    return set(sorted(matter, key=lambda n: _order(families[n]))[: share.sections])


def _others(families: Iterable[Family]) -> tuple[Others, ...]:
    ranked = sorted(families, key=_order)
    groups = groupby(ranked, key=lambda family: (family.verdict, family.targeted))
    return tuple(Others(verdict, targeted, tuple(of)) for (verdict, targeted), of in groups)


def _order(family: Family) -> tuple[bool, int]:
    known = family.verdict in ORDER
    return not family.targeted, ORDER.index(family.verdict) if known else len(ORDER)


def _family(
    anchor: str, family: Family, trials: list[Trial], programs_left: int, limit: int
) -> FamilyView:
    through = [trial for trial in trials if _is_through(trial)]
    counted_in = set(family.bypasses)
    inside = [trial for trial in through if trial.variant in counted_in]
    outside = [trial for trial in through if trial.variant not in counted_in]
    programs = _representatives(family, inside)[:programs_left]
    written = {trial.variant for trial in programs}
    others = [trial for trial in inside if trial.variant not in written]
    stopped = (t for t in trials if t.variant == family.baseline and t.outcome == "BLOCKED")
    baseline = next(stopped, None)
    causes = {variant: cause for cause in family.causes for variant in cause.variants}
    unclear = [t for t in trials if _is_unclear(t) and t.scope != "negative-control"]
    return FamilyView(
        anchor=anchor,
        family=family,
        programs=tuple(
            Program(trial, lines(trial.steps), causes.get(trial.variant)) for trial in programs
        ),
        causes=family.causes[:limit] if programs else (),
        uncaused=max(0, len(family.causes) - limit),
        others=Lines(tuple(others[:limit]), len(others)),
        outside=Lines(tuple(outside[:limit]), len(outside)),
        blocked=tuple(_blocked(trials)) if limit else (),
        baseline=Program(baseline, lines(baseline.steps)) if baseline and programs else None,
        left_behind=left_behind(family),
        unclear=Lines(tuple(unclear[: max(limit, 3)]), len(unclear)),
    )


def _is_through(trial: Trial) -> bool:
    """It reached the effect, or would have where nothing was run."""
    return "BYPASSED" in (trial.outcome, trial.predicted if trial.outcome == "SIMULATED" else "")


def _is_unclear(trial: Trial) -> bool:
    said = trial.predicted if trial.outcome == "SIMULATED" else trial.outcome
    return said not in ("BYPASSED", "BLOCKED", "UNSUPPORTED")


def _representatives(family: Family, bypasses: list[Trial]) -> list[Trial]:
    """The shortest bypass first, then the shortest of every other technique."""
    ranked = sorted(
        bypasses, key=lambda trial: (trial.variant != family.shortest_bypass, len(trial.steps))
    )
    by_technique: dict[str, Trial] = {}
    for trial in ranked:
        by_technique.setdefault(trial.technique, trial)
    return list(by_technique.values())


def _blocked(trials: Iterable[Trial]) -> list[Blocked]:
    groups: dict[tuple[str, str, str, bool, str, str], list[str]] = {}
    for trial in trials:
        at = trial.stopped_at
        if trial.outcome == "BLOCKED" and at is not None:
            said = trial.aftermath.said.removeprefix("blocked ") if trial.aftermath else ""
            key = (at.call, at.abi, at.answer, at.decisive, at.layer, said)
            groups.setdefault(key, []).append(trial.variant.split("/", 1)[-1])
    return [Blocked(*key, variants=tuple(variants)) for key, variants in groups.items()]


def _untestable(trials: Iterable[Trial]) -> list[tuple[str, int]]:
    """Why variants could not run on this machine, and how many."""
    reasons = {
        trial.variant: trial.reason or "no reason was recorded"
        for trial in trials
        if trial.outcome == "UNSUPPORTED" and trial.scope != "negative-control"
    }
    return Counter(reasons.values()).most_common()


def _matrix(document: Document, share: Share) -> list[Row]:
    cells: dict[str, list[Cell | None]] = {}
    titles: dict[str, str] = {}
    for name in family_names(document):
        cells[name] = [None] * len(document.candidates)
    for number, candidate in enumerate(document.candidates):
        sections = _with_section(candidate, share)
        for position, family in enumerate(candidate.families):
            titles[family.family] = family.title
            anchor = f"c{number}-f{position}" if position in sections else ""
            cells[family.family][number] = Cell(
                family.verdict, anchor, _detail(family), family.targeted
            )
    return [Row(name, titles[name], tuple(line)) for name, line in cells.items()]


def _detail(family: Family) -> str:
    if family.bypassed:
        return f"{family.bypassed} of {family.working} get through"
    if family.blocked:
        return f"{family.blocked} of {family.working} stopped"
    return f"{family.untestable} not testable" if family.untestable else "no trial decides"
