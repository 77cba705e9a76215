"""The commands ``sidestep objectives``: what can be asked of a mitigation by name."""

from __future__ import annotations

import json

import click

from evaluator import completion as offer
from evaluator.options import debug_option, format_option
from evaluator.terminal import page, say


@click.group()
def objectives() -> None:
    """Named sets of families that must hold and workloads that must run."""


@objectives.command("list")
@format_option
@debug_option
def list_(form: str, as_json: bool) -> None:
    """All objectives that `--objective` takes."""
    from evaluator.objectives import OBJECTIVES
    from evaluator.records import plain
    from evaluator.table_objectives import show_list

    if as_json or form == "json":
        say(json.dumps({"objectives": plain(OBJECTIVES)}))
        return
    with page() as console:
        show_list(console, OBJECTIVES)


@objectives.command()
@click.argument("name", metavar="OBJECTIVE", shell_complete=offer.objectives)
@format_option
@debug_option
def show(name: str, form: str, as_json: bool) -> None:
    """The families of an objective, each with the reason why it is named, and its workloads."""
    from evaluator.objectives import objective
    from evaluator.records import plain
    from evaluator.table_objectives import show_one

    found = objective(name)
    if as_json or form == "json":
        say(json.dumps(plain(found)))
        return
    with page() as console:
        show_one(console, found)
