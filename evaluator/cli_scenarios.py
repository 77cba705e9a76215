"""The commands ``sidestep scenarios``: what a model is asked for, and what an answer must reach."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from evaluator.errors import border
from evaluator.options import debug_option, format_option, jobs_option
from evaluator.terminal import page, progress_bar, say

if TYPE_CHECKING:
    from evaluator.scenario_check import Checked

_SPLITS = ("dev", "held-out")
_LEVELS = ("effect", "poc", "advisory")


@click.group()
def scenarios() -> None:
    """What a language model is asked to mitigate, and how its answer is judged."""


@scenarios.command("list")
@click.option("--split", type=click.Choice(_SPLITS), help="Only these.")
@format_option
@debug_option
def list_(split: str | None, form: str, as_json: bool) -> None:
    """All scenarios."""
    from evaluator.records import plain
    from evaluator.scenarios import scenarios as known
    from evaluator.table_scenarios import show_list

    found = [one for one in known() if split in (None, one.split)]
    if as_json or form == "json":
        say(json.dumps({"scenarios": plain(found)}))
        return
    with page() as console:
        show_list(console, found)


@scenarios.command()
@click.argument("name", metavar="SCENARIO")
@click.option(
    "--level",
    type=click.Choice(_LEVELS),
    help="Only what a model is told at this level of information.",
)
@format_option
@debug_option
def show(name: str, level: str | None, form: str, as_json: bool) -> None:
    """The task, what must hold and what must work, and which ways are hidden.

    With `--level`, what a model is told, and nothing that it is not.
    """
    from evaluator.records import plain
    from evaluator.scenarios import scenario
    from evaluator.shown import Level, view
    from evaluator.table_scenarios import show_one, show_view

    found = scenario(name)
    told = view(found, Level(level)) if level else None
    if as_json or form == "json":
        say(json.dumps(plain(told or found)))
        return
    with page() as console:
        if told:
            show_view(console, told)
        else:
            show_one(console, found)


@scenarios.command()
@click.argument("names", metavar="[SCENARIO]...", nargs=-1)
@jobs_option
@format_option
@debug_option
@click.pass_context
def check(
    context: click.Context, names: tuple[str, ...], jobs: int | None, form: str, as_json: bool
) -> None:
    """Whether scenarios tell good answers from bad ones.

    The reference solution must be perfect, a profile that denies only the PoC's calls must let a
    hidden way through, one that allows everything must hold nothing, and one that denies
    everything must break a workload. Exit code 1 if one of them does not.
    """
    from evaluator.records import plain

    with border():
        found = _checked(names, jobs)
    if as_json or form == "json":
        say(json.dumps({"checked": plain(found)}))
    else:
        from evaluator.table_scenarios import show_checked

        with page() as console:
            show_checked(console, found)
    context.exit(int(any(one.wrong for one in found)))


def _checked(names: tuple[str, ...], jobs: int | None) -> list[Checked]:
    import os

    from evaluator.scenario_check import check as checked
    from evaluator.scenarios import scenario
    from evaluator.scenarios import scenarios as known

    chosen = [scenario(name) for name in names] if names else list(known())
    with progress_bar() as on_progress:
        return checked(chosen, on_progress, jobs=jobs or len(os.sched_getaffinity(0)))
