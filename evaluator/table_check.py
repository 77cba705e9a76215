"""What of a check needs attention, on a terminal."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evaluator.check_items import mark_of
from evaluator.terminal import WIDEST, printable
from reports.check_schema import CheckDocument, Item, Way

_STYLES = {"fail": "bold red", "error": "bold magenta", "warn": "yellow"}
_WORDS = {"fail": "FAIL", "error": "ERROR", "warn": "warn"}
_WAYS = 1
_DETAILS = 3
_STATUS = 6
"""The width of the first word."""
_NAMED = 3


def show_list(console: Console, document: CheckDocument) -> None:
    """The ids of all items."""
    for item in document.items:
        console.print(Text(printable(item.id)))


def show(console: Console, document: CheckDocument) -> None:
    """Items that fail or warn, profile by profile, and one closing line."""
    if document.simulated:
        console.print(Text("predictions: nothing was run", "yellow"))
    for profile, group in groupby(_attention(document.items), key=lambda one: one.profile):
        console.print(Text(printable(profile), "bold"))
        alike: dict[object, list[Item]] = {}
        for item in group:
            alike.setdefault(_alike(item), []).append(item)
        for items in alike.values():
            _show_alike(console, items)
        console.print()
    if document.changes:
        console.print(Text("not as it was in the baseline, so results may differ by it:", "yellow"))
        for one in document.changes:
            _line(console, f"{one.name}: {one.before} -> {one.after}", 2, "yellow")
        console.print()
    if document.unexpected:
        _line(console, _unexpected(document.unexpected), 0, "dim")
    style = "bold green" if document.exit_code == 0 else "bold red"
    _line(console, closing(document), 0, style)


def plain_text(document: CheckDocument) -> str:
    """The same for a file."""
    console = Console(file=io.StringIO(), width=WIDEST, color_system=None, highlight=False)
    with console.capture() as captured:
        show(console, document)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def closing(document: CheckDocument) -> str:
    """One line with all counts."""
    counts = Counter(one.status for one in document.items)
    words = {
        "pass": f"{counts['pass']} pass",
        "fail": f"{counts['fail']} FAILED",
        "error": _count(counts["error"], "harness error"),
        "waived": f"{counts['waived']} accepted",
        "warn": _count(counts["warn"], "warning"),
        "listed": f"{counts['listed']} not run",
    }
    said = ", ".join(word for key, word in words.items() if counts[key])
    profiles = len({one.profile for one in document.items})
    how = f"{document.evaluated} evaluated, {document.cached} from the cache"
    ran = "predicted" if document.simulated else how
    return (
        f"{_count(profiles, 'profile')}: {said or 'nothing to check'}; {ran}, "
        f"{document.duration_s:.1f} s, suite {document.suite}"
    )


def _attention(items: Sequence[Item]) -> Iterator[Item]:
    """What fails or warns; what was not judged for an invalid profile is said by that."""
    for item in items:
        if item.status in _WORDS and not (item.says == "invalid" and item.kind != "profile"):
            yield item


def _show_alike(console: Console, items: Sequence[Item]) -> None:
    """One failure, which may be the same in several postures and models."""
    item = items[0]
    marks = "".join(f" {mark}" for one in items if (mark := mark_of(one)))
    says = f" {item.says}" if item.kind == "baseline" else ""
    kind = " waiver" if item.kind == "waiver" else ""
    text = Text()
    text.append(f"{_WORDS[item.status]:<5} ", _STYLES[item.status])
    text.append(printable(item.subject), "bold")
    text.append(printable(f"{marks}{kind}{says}: {item.message}"))
    if item.reruns and item.says != "undecided":
        text.append(f" (in {item.reruns + 1} runs)", "dim")
    console.print(Padding(_hanging(text), (0, 0, 0, 2)))
    ways = [one for one in item.ways if one.waived is None]
    for way in ways[:_WAYS]:
        _line(console, _way(way, len(ways) - _WAYS), 8)
    fixes = [line for line in item.detail if line.startswith("fix: ")]
    others = [line for line in item.detail if line not in fixes]
    more = f" (and {len(fixes) - 1} more)" if len(fixes) > 1 else ""
    for line in (*(f"{one}{more}" for one in fixes[:1]), *others[:_DETAILS]):
        _line(console, line, 8, "dim")
    if item.kind == "waiver" and item.place and item.place.line:
        _line(console, f"{item.place.file}:{item.place.line}", 8, "dim")


def _hanging(text: Text) -> Table:
    """Text whose further lines begin behind its first word."""
    table = Table.grid(padding=0)
    table.add_column(width=_STATUS)
    table.add_column()
    table.add_row(text[:_STATUS], text[_STATUS:])
    return table


def _way(way: Way, more: int) -> str:
    place = ""
    if way.place is not None and way.place.line is not None:
        place = f", {way.place.file}:{way.place.line}"
    others = f" (and {_count(more, 'route')} more)" if more > 0 else ""
    return f"{way.route} by {way.variant}{place}{others}"


def _alike(item: Item) -> object:
    ways = tuple((one.route, one.variant, one.waived) for one in item.ways)
    return item.kind, item.subject, item.status, item.says, item.message, item.detail, ways


def _unexpected(names: Sequence[str]) -> str:
    have = "has" if len(names) == 1 else "have"
    more = ", ..." if len(names) > _NAMED else ""
    return (
        f"{_count(len(names), 'profile')} {have} no expectation: {', '.join(names[:_NAMED])}{more}"
    )


def _line(console: Console, text: str, depth: int, style: str = "") -> None:
    console.print(Padding(Text(printable(text), style), (0, 0, 0, depth)))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
