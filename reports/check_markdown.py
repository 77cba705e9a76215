"""A check as Markdown, for the summary of a job: what needs attention, then one table."""

from __future__ import annotations

from collections.abc import Iterator

from reports.check_schema import CheckDocument, Item, Way
from reports.check_text import (
    accepted,
    expectation,
    is_error,
    is_not_run,
    needs_attention,
    place,
    position,
    tally,
    way_facts,
)
from reports.text import abbreviate, code_span

_ITEMS = 25
_WAYS = 3
_LONG = 200
_COLUMNS = ("hold", "accepted", "not run", "warn", "fail", "error")


def markdown(document: CheckDocument) -> str:
    """Short: at most 25 items with three ways each; the other formats have all."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: CheckDocument) -> Iterator[str]:
    label = "sidestep, prediction only" if document.simulated else "sidestep"
    yield f"## {label}: {tally(document)}"
    yield ""
    yield _tested(document)
    if document.changes:
        yield ""
        yield "Not as in the baseline, so differences may come of it:"
        yield ""
        for change in document.changes:
            name, before, after = map(_code, (change.name, change.before, change.after))
            yield f"- {name}: {before} before, {after} now"
    found = needs_attention(document)
    for item in found[:_ITEMS]:
        yield ""
        yield from _item(document, item)
    if len(found) > _ITEMS:
        yield ""
        yield f"and {len(found) - _ITEMS} more that need attention."
    yield from _accepted(document)
    yield ""
    yield from _table(document)
    if document.unexpected:
        named = ", ".join(map(_code, document.unexpected[:_ITEMS]))
        more = f" and {left} more" if (left := len(document.unexpected) - _ITEMS) > 0 else ""
        yield ""
        yield f"Nothing is expected of {named}{more}."


def _tested(document: CheckDocument) -> str:
    environment = document.environment
    named = [
        f"Suite {_code(document.suite)}",
        f"Linux {_code(environment.kernel)}",
        f"libseccomp {_code(environment.libseccomp)}",
        f"expectations {_code(document.expectations)}",
    ]
    if document.baseline is not None:
        named.append(f"compared with {_code(document.baseline)}")
    return ", ".join(named) + "."


def _item(document: CheckDocument, item: Item) -> Iterator[str]:
    status = "error" if is_error(document, item) else item.status
    yield f"### {status}: {_code(item.profile)} {_code(expectation(item))}"
    yield ""
    yield f"- {_code(item.message or item.says)}"
    yield f"- at {_code(position(place(document, item)))}"
    told = {f"fix: {way.fix}" for way in item.ways}
    others = [line for line in item.detail if line.strip() and line not in told]
    yield from (f"- {_code(line)}" for line in others)
    ways = [way for way in item.ways if way.waived is None]
    for way in ways[:_WAYS]:
        yield from _way(way)
    if len(ways) > _WAYS:
        yield f"- and {len(ways) - _WAYS} more"


def _way(way: Way) -> Iterator[str]:
    yield f"- way through: {_code(way.variant)} {_code(way.technique)}"
    named = way_facts(way)
    yield from (f"  - {name}: {_code(text)}" for name, text in named if text.strip())


def _accepted(document: CheckDocument) -> Iterator[str]:
    lines = [
        f"- {_code(item.profile)} {_code(way.route)}: {_code(accepted(way.waived))}"
        for item in document.items
        for way in item.ways
        if way.waived
    ]
    if lines:
        yield ""
        yield "### Accepted"
        yield ""
        yield from lines[:_ITEMS]
        if len(lines) > _ITEMS:
            yield f"- and {len(lines) - _ITEMS} more"


def _table(document: CheckDocument) -> Iterator[str]:
    counts: dict[str, dict[str, int]] = {}
    for item in document.items:
        row = counts.setdefault(item.profile, dict.fromkeys(_COLUMNS, 0))
        row[_column(document, item)] += 1
    yield f"| profile | {' | '.join(_COLUMNS)} |"
    yield f"|---|{'--:|' * len(_COLUMNS)}"
    for profile, row in counts.items():
        yield f"| {_code(profile)} | {' | '.join(str(row[name]) for name in _COLUMNS)} |"


def _column(document: CheckDocument, item: Item) -> str:
    if is_error(document, item):
        return "error"
    if is_not_run(document, item):
        return "not run"
    return {"pass": "hold", "waived": "accepted"}.get(item.status, item.status)


def _code(text: str) -> str:
    return code_span(abbreviate(text, _LONG))
