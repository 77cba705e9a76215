"""The command ``sidestep attacks attainable``: what each kind of layer makes of a family."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from evaluator import completion as offer
from evaluator.errors import border
from evaluator.options import debug_option, format_option, jobs_option
from evaluator.terminal import page, progress_bar, say

if TYPE_CHECKING:
    from evaluator.attainable import Row


@click.command()
@click.argument("families", metavar="[FAMILY]...", nargs=-1, shell_complete=offer.families)
@jobs_option
@format_option
@debug_option
def attainable(families: tuple[str, ...], jobs: int | None, form: str, as_json: bool) -> None:
    """Measure whether anything holds a family while an ordinary shell works.

    seccomp: a profile that allows everything is hardened with the family as the objective.
    Capabilities: the ways that work are run again without any. What cannot be measured yet is said
    to be not tested. Without FAMILY: all of them, which takes minutes.
    """
    from attacks import library
    from evaluator.attainable import rows
    from evaluator.request import families as families_named

    with border():
        named = families_named(families, library.SUITE)
        with progress_bar() as on_progress:
            found = list(rows(named, jobs or len(os.sched_getaffinity(0)), on_progress))
    if as_json or form == "json":
        say(json.dumps({"families": [_plain(one) for one in found]}))
        return
    from evaluator.table_harden import show_attainable

    with page() as console:
        show_attainable(console, found)


def _plain(one: Row) -> dict[str, object]:
    from evaluator.records import plain

    found: dict[str, object] = plain(one)
    return {**found, "attainable": one.attainable}
