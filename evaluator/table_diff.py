"""Differences between evaluations, on a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from evaluator.difference import (
    WORSE,
    CallChange,
    CandidateDifference,
    Change,
    Difference,
    Kind,
    Setting,
    Way,
)
from evaluator.terminal import printable

_NAMED = 4
"""So many variants are named in a line."""
_CALLS = 12
_LONG = 40
_STYLES = {Kind.NEWLY_KNOWN: "yellow", Kind.CHANGED: "dim", Kind.NO_LONGER_KNOWN: "dim"}
_SETTINGS = "not equal on both sides, so differences may come of it:"


def show(console: Console, found: Difference, base: str, new: str) -> None:
    """Only what differs, under one line that says the most important."""
    console.print(Text(_headline(found, base, new), "bold red" if found.worse else "bold"))
    if found.settings:
        console.print(Text(_SETTINGS, "dim"))
        for setting in found.settings:
            _line(console, _setting(setting), 2, "dim")
    for candidate in found.candidates:
        console.print()
        console.print(Text(_name(candidate), "bold"))
        for text, depth, style in _lines(candidate):
            _line(console, text, depth, style)


def markdown(found: Difference, base: str, new: str) -> str:
    """The same as lists, for a comment on a change."""
    lines = [f"**{_plain(_headline(found, base, new))}**"]
    if found.settings:
        lines += ["", _SETTINGS.capitalize(), ""]
        lines += [f"- {_plain(_setting(setting))}" for setting in found.settings]
    for candidate in found.candidates:
        lines += ["", f"### {_plain(_name(candidate))}", ""]
        lines += [f"{' ' * (depth - 2)}- {_plain(text)}" for text, depth, _ in _lines(candidate)]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that is no markup, whoever wrote it."""
    escaped = (f"\\{one}" if one in "\\`*_[]<>#|~" else one for one in printable(text))
    return "".join(escaped).replace("-\\>", "->")


def _line(console: Console, text: str, depth: int, style: str) -> None:
    console.print(
        Padding(Text(printable(text), style, overflow="fold"), (0, 0, 0, depth), expand=False)
    )


def _headline(found: Difference, base: str, new: str) -> str:
    kinds = [change.kind for one in found.candidates for change in one.changes]
    said = ", ".join(f"{kinds.count(kind)} {kind}" for kind in Kind if kind in kinds)
    many = "1 candidate" if found.compared == 1 else f"{found.compared} candidates"
    return f"{base} -> {new}: {said or 'nothing differs'} ({many} compared)"


def _name(one: CandidateDifference) -> str:
    if not (one.before and one.after):
        return one.before or one.after
    renamed = one.after if one.before == one.after else f"{one.before} -> {one.after}"
    return f"{renamed} ({'the same' if one.same_filters else 'other'} filters)"


def _lines(one: CandidateDifference) -> Iterator[tuple[str, int, str]]:
    """Text, indentation and style."""
    for setting in one.settings:
        yield f"other setting: {_setting(setting)}", 2, "dim"
    for change in one.changes:
        yield _change(change), 2, _style(change.kind)
        if change.variants:
            yield _variants(change), 4, ""
        if change.why:
            yield change.why, 4, "dim"
    for call in one.calls[:_CALLS]:
        yield _call(call), 2, ""
    if len(one.calls) > _CALLS:
        yield f"and {len(one.calls) - _CALLS} more calls (--json has all)", 2, "dim"
    if one.unfollowed:
        yield f"calls not compared one by one: {one.unfollowed}", 2, "yellow"


def _style(kind: Kind) -> str:
    return "bold red" if kind in WORSE else _STYLES.get(kind, "green")


def _change(one: Change) -> str:
    subject = f"{one.kind}: {one.subject}: " if one.subject else f"{one.kind}: "
    verdicts = one.before if one.before == one.after else f"{one.before} -> {one.after}"
    return f"{subject}{verdicts}{_reservation(one)}"


def _reservation(one: Change) -> str:
    """What is held against a candidate without having been seen says so."""
    if one.kind is Kind.OPENED and one.now is not Way.THROUGH and not _leaks(one.after):
        return " (nothing was seen to get through: it is not shown to be held)"
    return ""


def _leaks(verdict: str) -> bool:
    return verdict in ("leaky", "open")


def _variants(one: Change) -> str:
    count = len(one.variants)
    many = f"{count} variant{'s' * (count > 1)} on {one.routes} route{'s' * (one.routes > 1)}"
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    return f"{one.was} -> {one.now}: {many}: {', '.join(one.variants[:_NAMED])}{more}"


def _setting(one: Setting) -> str:
    return f"{one.name}: {one.before} -> {one.after}"


def _call(one: CallChange) -> str:
    where = f" if {_shortened(one.conditions)}" if one.conditions else ""
    return f"answer: {one.call} ({', '.join(one.abis)}): {one.before} -> {one.after}{where}"


def _shortened(conditions: Sequence[str]) -> str:
    text = " and ".join(conditions)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."
