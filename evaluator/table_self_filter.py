"""The start-up check of a program that filters itself, on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evaluator.self_filter import Part, StepRecord, Verdict
from evaluator.self_filter_doctor import SelfFilter
from evaluator.terminal import printable

_STYLES = {
    Verdict.ACCEPTED: "green",
    Verdict.FALLS_BACK: "yellow",
    Verdict.FAILED: "bold red",
    Verdict.NOT_NEEDED: "dim",
    Verdict.NOT_REACHED: "dim",
}
_INDENT = 2


def show(console: Console, found: SelfFilter) -> None:
    """What it comes to stands first; then each step, each suspect, and what repairs it."""
    head = Text("a program that filters itself ").append(
        "works" if found.works else "is broken", "bold green" if found.works else "bold red"
    )
    console.print(head.append(f" under {printable(found.candidate)}"))
    under = ", ".join(one for one in (f"posture {found.posture}", found.runtime_model) if one)
    console.print(Padding(Text(under, "dim"), (0, 0, 0, _INDENT)))
    for line in _why(found):
        console.print(Padding(Text(printable(line)), (0, 0, 0, _INDENT)))
    console.print()
    console.print(_steps(console, found.check.steps))
    console.print()
    console.print(_suspects(console, found))
    _show_repairs(console, found)


def _why(found: SelfFilter) -> list[str]:
    lines = [found.check.reason, found.answered_by] if not found.works else [_by(found.check.by)]
    return [line for line in (*lines, *found.notes) if line]


def _by(call: str) -> str:
    if call == "seccomp":
        return "its filter was installed by seccomp(2), and is on all its threads"
    return "its filter was installed by prctl(2): only on the thread that asked for it"


def _table(console: Console) -> Table:
    style = box.ASCII2 if console.options.ascii_only else box.SIMPLE_HEAD
    return Table(box=style, pad_edge=True, show_edge=False, header_style="bold")


def _steps(console: Console, records: tuple[StepRecord, ...]) -> Table:
    table = _table(console)
    table.add_column("", justify="right")
    table.add_column("step", overflow="fold")
    table.add_column("answer", overflow="fold")
    table.add_column("accepted", overflow="fold")
    for one in records:
        style = _STYLES[one.verdict]
        said = one.answer if one.verdict is Verdict.ACCEPTED else _verdict(one)
        own = " (its filter is asked)" if one.part is Part.WITNESS else ""
        call = Text(f"{one.call}{own}", "dim" if not one.answer else "")
        table.add_row(str(one.number), call, Text(said, style), " or ".join(one.accepted))
    return table


def _verdict(one: StepRecord) -> str:
    return f"{one.answer}: {one.verdict.value}" if one.answer else one.verdict.value


def _suspects(console: Console, found: SelfFilter) -> Table:
    table = _table(console)
    table.add_column("suspect", overflow="fold")
    table.add_column("cause?")
    table.add_column("evidence", overflow="fold")
    for one in found.suspects:
        mark = Text("yes", "bold red") if one.cause else Text("no", "green")
        table.add_row(one.name, mark, printable(one.evidence))
    return table


def _show_repairs(console: Console, found: SelfFilter) -> None:
    if found.works:
        return
    if not found.repairs:
        console.print("\nno change to the profile is known that repairs it")
    for number, one in enumerate(found.repairs):
        head = "what repairs it" if not number else "or, if seccomp(2) is to stay denied"
        console.print(Text(f"\n{head}", "green").append(f" ({one.means}):", "default"))
        for line in one.lines:
            console.print(Padding(Text(printable(line)), (0, 0, 0, _INDENT)))
        console.print(Padding(Text("run again with it: works", "dim"), (0, 0, 0, _INDENT)))
