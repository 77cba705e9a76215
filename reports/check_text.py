"""What a person needs to act on one item of a check, as lines; every format says the same."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from reports.check_schema import CheckDocument, Item, Place, Waived, Way
from reports.text import abbreviate, counted

PASSES = frozenset({"pass", "waived", "warn"})
"""Statuses that let a gate pass; whatever is none of them, and not ``fail``, is an error."""
LONG = 400
"""A line is cut in the middle beyond so many characters; calls and routes are shorter."""
_PROGRAM = 40
"""So many operations of a program are shown."""


def is_error(document: CheckDocument, item: Item) -> bool:
    """Whether nothing can be said about the expectation: the harness failed, or nothing ran."""
    return not (item.status in PASSES or item.status == "fail" or is_not_run(document, item))


def is_not_run(document: CheckDocument, item: Item) -> bool:
    """Whether the user asked for predictions, and this cannot be predicted."""
    return document.simulated and item.status == "listed"


def needs_attention(document: CheckDocument) -> list[Item]:
    """What is not as expected: errors first, then failures, then warnings."""
    ranked = [
        ([item for item in document.items if is_error(document, item)]),
        ([item for item in document.items if item.status == "fail"]),
        ([item for item in document.items if item.status == "warn"]),
    ]
    return [item for group in ranked for item in group]


def expectation(item: Item) -> str:
    """The item's id without its profile: ``create-directory``, ``nginx[restricted]``."""
    return item.id.removeprefix(f"{item.profile}::") or item.subject


def said(item: Item) -> str:
    """One line: the expectation, and what became of it."""
    return abbreviate(f"{expectation(item)}: {item.message or item.says}", LONG)


def place(document: CheckDocument, item: Item, way: Way | None = None) -> Place:
    """Where to look: the rule, else what the item names, else the profile as a whole."""
    found = (way.place if way else None) or item.place
    return found or Place(posixpath.join(posixpath.dirname(document.expectations), item.profile))


def position(where: Place) -> str:
    """``profile.json:3:5 (syscalls[0])``."""
    numbers = [str(one) for one in (where.line, where.column) if one is not None]
    path = f" ({abbreviate(where.path)})" if where.path else ""
    return ":".join([where.file, *numbers]) + path


def accepted(waived: Waived) -> str:
    """Why a way through is accepted, by whom, and how long."""
    return f"accepted by {waived.owner} until {waived.expires}: {waived.reason}"


def way_facts(way: Way) -> tuple[tuple[str, str], ...]:
    """What is said of a way through, by name; empty where nothing is known."""
    return (
        ("route", way.route),
        ("call", way.call),
        ("cause", way.cause),
        ("at", position(way.place) if way.place else ""),
        ("fix", way.fix),
    )


def way_lines(way: Way) -> Iterator[str]:
    """A way through: the route, the call, the cause, the fix, the program."""
    yield f"way through: {way.variant} ({way.technique})"
    named = (*way_facts(way), ("waiver", accepted(way.waived) if way.waived else ""))
    yield from (f"  {name}: {abbreviate(text, LONG)}" for name, text in named if text)
    if way.program:
        yield "  program:"
        shown = way.program[:_PROGRAM]
        yield from (f"    {n}  {abbreviate(text, LONG)}" for n, text in enumerate(shown, 1))
        if len(way.program) > _PROGRAM:
            yield f"    and {counted(len(way.program) - _PROGRAM, 'operation')} more"


def item_lines(item: Item, ways: Sequence[Way] | None = None) -> Iterator[str]:
    """Everything below the message: what to do, how it was tested, what got through."""
    told = {f"fix: {way.fix}" for way in item.ways}
    yield from (abbreviate(line, LONG) for line in item.detail if line not in told)
    tested = [
        f"{name} {value}"
        for name, value in (("posture", item.posture), ("runtime model", item.runtime_model))
        if value
    ]
    if tested:
        yield ", ".join(tested)
    if item.reruns:
        yield f"looked at again {counted(item.reruns, 'time')}"
    for way in item.ways if ways is None else ways:
        yield ""
        yield from way_lines(way)


def tally(document: CheckDocument) -> str:
    """``14 expectations: 2 fail, 1 accepted``: the whole check in one line, of our own words."""
    total = len(document.items)
    errors = sum(is_error(document, item) for item in document.items)
    not_run = sum(is_not_run(document, item) for item in document.items)
    count = dict.fromkeys(("fail", "warn", "waived"), 0)
    for item in document.items:
        if item.status in count:
            count[item.status] += 1
    parts = [
        f"{count['fail']} fail" if count["fail"] else "",
        f"{counted(errors, 'error')}" if errors else "",
        f"{counted(count['warn'], 'warning')}" if count["warn"] else "",
        f"{count['waived']} accepted" if count["waived"] else "",
        f"{not_run} not run" if not_run else "",
    ]
    found = ", ".join(part for part in parts if part)
    of = counted(total, "expectation")
    if not total:
        return "nothing was expected"
    return f"{of}: {found}" if found else f"{of}: all hold"


def utc(text: str) -> str:
    """An ISO 8601 time as RFC 3339 in UTC; empty if it is none."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return ""
    if when.tzinfo is None:
        return ""
    try:
        return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        return ""
