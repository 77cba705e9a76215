"""A run as Markdown, for a comment on a change: the answer first, details folded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reports.answer import Standing, advice, headline, sentence, standing
from reports.program import Line, lines
from reports.schema import Candidate, Cause, Document, Family, Trial, Workload
from reports.scores import Score, scores
from reports.text import abbreviate, code_span, counted, one_line

LONGEST = 60_000
"""Characters; GitHub takes 65,536 in a comment."""
_CANDIDATES, _FAMILIES, _OPERATIONS, _LONG = 20, 6, 24, 300
_NAME = 60
_MARKUP = re.compile(r"[\\`*_\[\]<>|~&$]")
# What platforms turn into links and messages to people, whatever is escaped.
_LINKED = re.compile(r"\S*(?:@\w|#\d|://|www\.|GH-\d|\b[0-9a-f]{7,40}\b)\S*", re.IGNORECASE)
_LEADING = re.compile(r"^(\s*)([-+#>=]|\d+[.)])")


def markdown(document: Document) -> str:
    """At most 60,000 characters; what was left out is counted, and ``run.json`` has it."""
    parts = [
        "\n".join(_head(document)),
        *("\n".join(_candidate(one)) for one in _with_details(document)),
    ]
    foot = "\n".join(_foot(document))
    kept = parts[:1]
    for part in parts[1:]:
        if sum(map(len, kept)) + len(part) + len(foot) > LONGEST:
            break
        kept.append(part)
    left = len(parts) - len(kept)
    if left:
        kept.append(f"The details of {counted(left, 'candidate')} are in the report alone.")
    return "\n\n".join([*kept, foot]) + "\n"


def prose(text: str) -> str:
    """Words from a document as Markdown that is no markup, no link and no mention of anybody."""
    shown = one_line(abbreviate(text, _LONG))
    found: list[str] = []
    last = 0
    for match in _LINKED.finditer(shown):
        found += [_escaped(shown[last : match.start()]), code_span(match[0])]
        last = match.end()
    return _LEADING.sub(r"\1\\\2", "".join([*found, _escaped(shown[last:])]))


def _escaped(text: str) -> str:
    return _MARKUP.sub(lambda match: f"\\{match[0]}", text)


def _code(text: str, limit: int = _LONG) -> str:
    return code_span(abbreviate(text, limit))


def _head(document: Document) -> Iterator[str]:
    yield f"## sidestep: {prose(headline(document))}"
    yield ""
    if document.simulated:
        yield "**Nothing was run: these are predictions, and no evidence.**"
        yield ""
    yield "| candidate | standing | robustness | utility | leaks |"
    yield "|---|---|---|---|---|"
    ranked = _ranked(document)
    for one in ranked[:_CANDIDATES]:
        found = scores(one)
        leaks = ", ".join(_code(f.family) for f in _leaks(one)[:_FAMILIES]) or "\u2013"
        more = len(_leaks(one)) - _FAMILIES
        cells = (
            _code(one.name, _NAME),
            standing(one).value,
            _score(found.robustness),
            _score(found.utility),
            f"{leaks} and {more} more" if more > 0 else leaks,
        )
        yield f"| {' | '.join(cells)} |"
    if len(ranked) > _CANDIDATES:
        yield f"\n{counted(len(ranked) - _CANDIDATES, 'further candidate')} in the report."
    told = [(one, said) for one in ranked if (said := advice(one, document))]
    if told:
        yield ""
        yield "**What to do**"
        yield ""
        for one, said in told[:_FAMILIES]:
            yield f"- {_code(one.name, _NAME)}: {prose(said)}"
        if len(told) > _FAMILIES:
            yield f"- and {len(told) - _FAMILIES} more, each with its candidate"
    failed = [gate for gate in document.gates if not gate.ok]
    if failed:
        yield ""
        yield "**Gates that failed**"
        yield ""
        for gate in failed[:_CANDIDATES]:
            yield f"- {_code(gate.candidate, _NAME)}, {prose(gate.gate)}: {prose(gate.message)}"
        if len(failed) > _CANDIDATES:
            yield f"- and {len(failed) - _CANDIDATES} more"


def _ranked(document: Document) -> list[Candidate]:
    order = list(Standing)
    return sorted(document.candidates, key=lambda one: order.index(standing(one)))


def _with_details(document: Document) -> list[Candidate]:
    """Those about which there is more to say than their line in the table."""
    return [
        one
        for one in _ranked(document)[:_CANDIDATES]
        if _leaks(one) or _broken(one) or not one.valid or one.warnings
    ]


def _leaks(candidate: Candidate) -> list[Family]:
    """Effects that it is meant to stop and that are still reached."""
    return [one for one in candidate.families if one.targeted and one.verdict in ("leaky", "open")]


def _broken(candidate: Candidate) -> list[Workload]:
    return [one for one in candidate.workloads if one.works_in_control and not one.works]


def _candidate(candidate: Candidate) -> Iterator[str]:
    title = f"{_html(abbreviate(candidate.name, _NAME))}: {standing(candidate).value}"
    yield f"<details><summary>{title}</summary>"
    yield ""
    yield f"{_code(candidate.name, _NAME)} {prose(sentence(candidate))}"
    trials = {trial.variant: trial for trial in candidate.trials}
    leaks = _leaks(candidate)
    for family in leaks[:_FAMILIES]:
        yield ""
        yield from _family(family, trials.get(family.shortest_bypass or ""), candidate)
    if len(leaks) > _FAMILIES:
        yield f"\nand {counted(len(leaks) - _FAMILIES, 'more effect')}."
    broken = _broken(candidate)
    if broken:
        yield ""
        yield "**What breaks**"
        yield ""
        for work in broken:
            needs = ", ".join(_code(call.call) for call in work.needs)
            proved = f" Proved to be needed: {needs}." if needs else ""
            yield f"- {_code(work.workload)}: {prose(work.reason or 'it does not work')}.{proved}"
    remarks = [(one.message, one.where) for one in candidate.errors]
    remarks += [(one.message, one.where) for one in candidate.warnings]
    if remarks:
        yield ""
        yield "**Remarks on the source**"
        yield ""
        for message, where in remarks[:_CANDIDATES]:
            yield f"- {prose(message)}{f' ({_code(where)})' if where else ''}"
        if len(remarks) > _CANDIDATES:
            yield f"- and {len(remarks) - _CANDIDATES} more"
    yield ""
    yield "</details>"


def _family(family: Family, shortest: Trial | None, candidate: Candidate) -> Iterator[str]:
    ways = f"{family.bypassed} of {counted(family.working, 'way')} get through"
    yield f"**{family.verdict}: {_code(family.family)}**, {ways}."
    if shortest is None:
        return
    yield ""
    yield f"The shortest is {_code(shortest.variant)} ({prose(shortest.technique)})."
    yield from _reasons(family, shortest)
    found = lines(shortest.steps)
    if found:
        yield ""
        yield from _program(found, ran=not candidate.simulated)
    for link in shortest.references[:3]:
        yield f"\nSee {_code(link)}"


def _reasons(family: Family, shortest: Trial) -> Iterator[str]:
    cause: Cause | None = next(
        (one for one in family.causes if shortest.variant in one.variants), None
    )
    if cause is None:
        if shortest.why:
            yield f"{prose(shortest.why)}"
        return
    where = f" ({_code(cause.where)})" if cause.where else ""
    yield f"What lets it through: {prose(cause.said)}{where}."
    if cause.fix:
        breaks = f" ({prose(cause.breaks)})" if cause.breaks else ""
        yield f"What would close it: {_code(cause.fix, 1000)}{breaks}."


def _program(found: Sequence[Line], *, ran: bool) -> Iterator[str]:
    """Call by call with the results of both arms, and what the filter decided."""
    calls = [one for one in found if not one.is_memory]
    shown = ["# without it, with it: what the filter says" if ran else "# what the filter says"]
    for line in calls[:_OPERATIONS]:
        arms = f"{_result(line.control)}, {_result(line.mitigated)}: " if ran else ""
        mark = "   <- decisive" if line.decisive else ""
        said = f"{' '.join(line.texts)}   # {arms}{line.filter or 'not asked'}{mark}"
        shown.append(one_line(abbreviate(said, _LONG)))
    if len(calls) > _OPERATIONS:
        shown.append(f"# and {len(calls) - _OPERATIONS} more")
    fence = "`" * max(3, 1 + max(len(run) for run in re.findall("`*", "".join(shown))))
    yield from (f"{fence}text", *shown, fence)


def _result(result: str | None) -> str:
    return "not reached" if result is None else result


def _foot(document: Document) -> Iterator[str]:
    environment = document.environment
    parts = [
        f"suite {_code(document.suite)}",
        f"Linux {_code(environment.kernel)} {_code(environment.arch)}",
        f"libseccomp {_code(environment.libseccomp)}",
        f"{_code(document.tool.name)} {_code(document.tool.version)}".rstrip(),
    ]
    if document.objective:
        parts.append(f"objective {_code(document.objective)}")
    if document.started:
        parts.append(_code(document.started))
    yield f"{', '.join(parts)}. Held means: against this suite, on this kernel; it is no proof."


def _score(one: Score) -> str:
    return f"{one.shown} ({prose(one.counts)})"


def _html(text: str) -> str:
    """Text in an HTML element inside Markdown: as character references, so that it is neither."""
    return "".join(
        one if one.isascii() and (one.isalnum() or one in " -.,/") else f"&#{ord(one)};"
        for one in one_line(text)
    )
