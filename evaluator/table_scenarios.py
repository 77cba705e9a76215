"""Scenarios on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from evaluator.scenario_check import Checked
from evaluator.scenarios import Scenario
from evaluator.shown import View
from evaluator.table import plain_table

_YES = {True: "yes", False: "no", None: "-"}


def show_list(console: Console, scenarios: Sequence[Scenario]) -> None:
    table = plain_table(console)
    table.add_column("scenario", overflow="fold")
    table.add_column("split", no_wrap=True)
    table.add_column("tier", justify="right")
    table.add_column("what is asked for", overflow="fold")
    for one in scenarios:
        table.add_row(one.name, one.split, str(one.tier), Text(one.title))
    console.print(table)
    console.print(f"{len(scenarios)} scenarios")


def show_one(console: Console, one: Scenario) -> None:
    console.print(Text(one.name, "bold").append(f": {one.title}", "not bold"))
    console.print(Text(" ".join(one.task.split())))
    if one.advisory:
        console.print(Text(f"advisory: {' '.join(one.advisory.split())}"))
    console.print(
        Text(f"{one.expect}, cluster {one.cluster}, tier {one.tier}, split {one.split}", "dim")
    )
    for hold in one.hold:
        console.print(Text(f"must hold: {hold.family} (hidden: {', '.join(hold.hidden)})"))
    for family, why in one.keep.items():
        console.print(Text(f"must still work: {family} ({why})"))
    console.print(Text(f"must run: {', '.join(one.workloads) or 'nothing'}"))
    if one.reference is not None:
        console.print(Text("reference solution:", "dim"))
        console.print(Text(one.reference.strip()), soft_wrap=True)


def show_view(console: Console, told: View) -> None:
    """What a model is told of a scenario."""
    console.print(Text(told.scenario, "bold").append(f": {told.title}", "not bold"))
    console.print(Text(told.task))
    if told.advisory:
        console.print(Text(f"advisory: {told.advisory}"))
    for reference in told.references:
        console.print(Text(f"see {reference}"))
    console.print(Text(f"mechanisms: {', '.join(told.mechanisms)}"))
    for one in told.keep:
        console.print(Text(f"must still work: {one.title} ({one.why})"))
    for one in told.workloads:
        console.print(Text(f"must run: {one.name} ({one.title})"))
    for way in told.poc:
        console.print(Text(f"PoC {way.id}:", "dim"))
        console.print(Text(way.program), soft_wrap=True)


def show_checked(console: Console, checked: Sequence[Checked]) -> None:
    """A line for each known answer of a scenario that is wrong, and the counts."""
    for one in checked:
        if not one.wrong:
            continue
        console.print(Text(one.scenario.name, "bold red"))
        for wrong in one.wrong:
            console.print(Text(f"  {wrong}"))
        table = plain_table(console)
        for head in ("answer", "joint", "PoC", "held", "works", "hidden ways through"):
            table.add_column(head)
        for name, score in one.scores.items():
            flags = (score.joint, score.poc_blocked, score.held, score.workloads_ok)
            through = f"{len(score.hidden.bypasses)} of {score.hidden.working}"
            table.add_row(name, *(_YES[flag] for flag in flags), through)
        console.print(table)
    invalid = sum(bool(one.wrong) for one in checked)
    console.print(f"{len(checked) - invalid} of {len(checked)} scenarios are valid here")
