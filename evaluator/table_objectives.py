"""Objectives on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from evaluator.objectives import Objective
from evaluator.table import plain_table


def show_list(console: Console, objectives: Iterable[Objective]) -> None:
    table = plain_table(console)
    table.add_column("objective", no_wrap=True)
    table.add_column("families", justify="right")
    table.add_column("what it asks for", overflow="fold")
    for one in objectives:
        table.add_row(one.name, str(len(one.families)), Text(one.title))
    console.print(table)


def show_one(console: Console, one: Objective) -> None:
    console.print(Text(one.name, "bold").append(f": {one.title}", "not bold"))
    table = plain_table(console)
    table.add_column("family", no_wrap=True)
    table.add_column("why", overflow="fold")
    for family, why in one.families.items():
        table.add_row(family, Text(why))
    console.print(table)
    console.print(Text(f"must work: {', '.join(one.workloads) or 'nothing'}"))
