"""What of a check needs attention, on a terminal."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from evaluator.terminal import WIDEST, printable
from reports.check_schema import CheckDocument, Item, Way

_STYLES = {"fail": "bold red", "error": "bold magenta", "warn": "yellow"}
_WORDS = {"fail": "FAIL", "error": "ERROR", "warn": "warn"}
_WAYS = 4
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
        for item in group:
            _show_item(console, item)
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
        "pass": "pass",
        "fail": "FAILED",
        "error": "harness errors",
        "waived": "accepted",
        "warn": "warnings",
        "listed": "not run",
    }
    said = ", ".join(f"{counts[key]} {word}" for key, word in words.items() if counts[key])
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


def _show_item(console: Console, item: Item) -> None:
    mark = f" [{item.posture},{item.runtime_model}]" if item.id.endswith("]") else ""
    says = f" {item.says}" if item.kind == "baseline" else ""
    kind = " waiver" if item.kind == "waiver" else ""
    text = Text("  ")
    text.append(f"{_WORDS[item.status]:<5} ", _STYLES[item.status])
    text.append(printable(f"{item.subject}{mark}"), "bold")
    text.append(printable(f"{kind}{says}: {item.message}"))
    again = f" (seen in {item.reruns + 1} runs)" if item.reruns and item.says != "undecided" else ""
    text.append(again, "dim")
    console.print(text)
    open_ways = [one for one in item.ways if one.waived is None]
    for way in open_ways[:_WAYS]:
        _line(console, _way(way), 8)
    if len(open_ways) > _WAYS:
        _line(console, f"and {len(open_ways) - _WAYS} more routes", 8)
    for line in item.detail:
        _line(console, line, 8, "dim")
    if item.kind == "waiver" and item.place and item.place.line:
        _line(console, f"{item.place.file}:{item.place.line}", 8, "dim")


def _way(way: Way) -> str:
    place = ""
    if way.place is not None and way.place.line is not None:
        place = f" ({way.place.file}:{way.place.line})"
    return f"{way.route} by {way.variant}{place}"


def _unexpected(names: Sequence[str]) -> str:
    have = "has" if len(names) == 1 else "have"
    more = ", ..." if len(names) > _NAMED else ""
    return f"{_count(len(names), 'profile')} {have} no expectation: {', '.join(names[:_NAMED])}{more}"


def _line(console: Console, text: str, depth: int, style: str = "") -> None:
    console.print(Padding(Text(printable(text), style), (0, 0, 0, depth)))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
