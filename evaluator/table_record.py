"""A recording on a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from evaluator.kept_arguments import value_text
from evaluator.recording import Recording, Use, title
from evaluator.records import WorkloadRecord
from evaluator.terminal import printable
from evaluator.verified_recording import Verified

_MOST_VALUES = 8


def show(console: Console, found: Recording, parts: Sequence[Recording] = ()) -> None:
    """Calls by ABI, first those without arguments that were kept; then what is remarkable.

    ``parts`` are the workloads of which ``found`` is the sum; of several, each has its own line.
    """
    if len(parts) > 1:
        for one in parts:
            _show_part(console, one)
    else:
        console.print(Text(_head(found), "bold"))
    for abi in found.abis:
        uses = [use for use in found.uses if use.abi == abi]
        calls = _by_call(uses)
        console.print(Text(f"\n{abi}: {_count(len(calls), 'system call')}", "bold"))
        plain = [call for call, own in calls.items() if not any(_lines(call, own))]
        console.print(_indented(", ".join(plain)))
        for call, own in calls.items():
            for line in _lines(call, own):
                console.print(_indented(line))
    for note in found.notes:
        show_note(console, note)
    if len(parts) > 1:
        return
    _show_order(console, found)
    for end, count in _counted(found.ends):
        times = f" ({count} runs)" if found.runs > 1 else ""
        console.print(Text(f"\nthe command {end}{times}"))


def show_note(console: Console, note: str) -> None:
    console.print(Text("note: ", "yellow").append(printable(note), "default"))


def _head(found: Recording) -> str:
    runs = _count(found.runs, "run")
    if found.workload:
        return f"{found.workload}: {runs}"
    return f"{printable(shlex.join(found.command))}: {runs}" if found.command else runs


def _show_part(console: Console, found: Recording) -> None:
    calls = len({title(use) for use in found.uses})
    console.print(Text(f"{_head(found)}, {_count(calls, 'system call')}", "bold"))
    rare = _rare(found)
    if rare:
        console.print(_indented(f"not in every run: {rare}"))


def _rare(found: Recording) -> str:
    names = dict.fromkeys(title(use) for use in found.only_once())
    return ", ".join(f"{name} ({found.appearances[name]} of {found.runs})" for name in names)


def _show_order(console: Console, found: Recording) -> None:
    rare = _rare(found)
    if rare:
        console.print(Text("\nNot in every run:", "bold"))
        console.print(_indented(rare))
    after = {title(use) for use in found.uses if not use.before_own_filter}
    before = dict.fromkeys(title(use) for use in found.uses if use.before_own_filter)
    only = [name for name in before if name not in after]
    if before:
        console.print(Text("\nOnly before a filter of its own was in force:", "bold"))
        console.print(_indented(", ".join(only) or "none"))


def _by_call(uses: Iterable[Use]) -> dict[str, list[Use]]:
    found: dict[str, list[Use]] = {}
    for use in uses:
        found.setdefault(use.call, []).append(use)
    return found


def _lines(call: str, uses: Sequence[Use]) -> Iterator[str]:
    """A line for each argument that was kept."""
    for index in range(6):
        values = {use.args[index] for use in uses}
        if values == {None}:
            continue
        known = sorted(value for value in values if value is not None)
        texts = [value_text(call, index, value) for value in known[:_MOST_VALUES]]
        more = [f"{len(known) - _MOST_VALUES} more"] if len(known) > _MOST_VALUES else []
        unknown = ["others"] if None in values else []
        yield f"{call}: argument {index}: {', '.join([*texts, *more, *unknown])}"


def _counted(texts: Sequence[str]) -> list[tuple[str, int]]:
    return [(text, texts.count(text)) for text in dict.fromkeys(texts)]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _indented(text: str) -> Padding:
    return Padding(Text(text), (0, 0, 0, 2))


def show_verified(console: Console, found: Verified) -> None:
    if found.works:
        said = "as without it" if found.end == found.expected else "where recording was cut off"
        console.print(Text(f"verified: it {found.end} under the profile, {said}", "green"))
        return
    console.print(
        Text(f"not verified: it {found.end} under the profile, and {found.expected} without", "red")
    )
    if found.denied:
        console.print(_indented(f"denied: {', '.join(found.denied)}"))


def show_workloads(console: Console, found: Sequence[WorkloadRecord]) -> None:
    """Which of them work under the profile, and what is known of the others."""
    working = [one.workload for one in found if one.works]
    if working:
        verb = "works" if len(working) == 1 else "work"
        console.print(Text(f"verified: {', '.join(working)} {verb} under the profile", "green"))
    for one in found:
        if not one.works:
            said = f"not verified: {one.workload}: {printable(one.reason or one.outcome)}"
            console.print(Text(said, "red"))
