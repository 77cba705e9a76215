"""Workloads on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from evaluator.records import WorkloadOutcome, WorkloadRecord
from evaluator.table import plain_table
from evaluator.terminal import printable
from evaluator.workloads import Workload

_STYLES = {
    WorkloadOutcome.WORKS: "green",
    WorkloadOutcome.BROKEN: "bold red",
    WorkloadOutcome.UNAVAILABLE: "dim",
    WorkloadOutcome.UNSTABLE: "yellow",
}


def show_list(console: Console, workloads: Iterable[Workload]) -> None:
    table = plain_table(console)
    table.add_column("workload", no_wrap=True)
    table.add_column("what it does", overflow="fold")
    for one in workloads:
        missing = one.missing()
        title = Text(one.title)
        if missing:
            title.append(f"\nnot installed: {', '.join(missing)}", "dim")
        table.add_row(one.name, title)
    console.print(table)


def show_one(console: Console, one: Workload) -> None:
    console.print(Text(one.name, "bold").append(f": {printable(one.title)}", "not bold"))
    lines = {"command": " ".join(one.command), "deadline": f"{one.deadline:g} s"}
    if one.needs:
        lines["needs"] = ", ".join(one.needs)
    if one.env:
        lines["env"] = " ".join(f"{name}={value}" for name, value in one.env.items())
    if one.stdout is not None:
        lines["prints"] = one.stdout or "nothing"
    if one.service is not None:
        lines["ready"] = one.service.ready
        lines["request"] = one.service.request
        if one.service.answer is not None:
            lines["answer"] = one.service.answer
        lines["stop"] = one.service.stop
    for name, text in (*lines.items(), *one.files.items()):
        _block(console, name, text)


def _block(console: Console, name: str, text: str) -> None:
    lines = text.strip("\n").splitlines() or [""]
    if len(lines) == 1:
        console.print(Text(f"  {printable(name)}: {printable(lines[0])}"))
        return
    console.print(Text(f"  {printable(name)}:"))
    for line in lines:
        console.print(Padding(Text(printable(line), "dim"), (0, 0, 0, 4), expand=False))


def show_records(console: Console, records: Iterable[WorkloadRecord]) -> None:
    table = plain_table(console)
    table.add_column("workload", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("why", overflow="fold")
    for one in records:
        outcome = Text(one.outcome.value, _STYLES[one.outcome])
        table.add_row(one.workload, outcome, Text(printable(one.reason or "")))
    console.print(table)
