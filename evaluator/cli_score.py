"""The command ``sidestep score``: what stored answers to scenarios are worth."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evaluator.errors import InputError, border
from evaluator.options import debug_option, jobs_option, json_option
from evaluator.terminal import page, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluator.leaderboard import Leaderboard
    from evaluator.score_run import Scored

SCHEMA = "sidestep.scores/1"
_FORMS = ("table", "json", "csv")


@click.command()
@click.argument("samples", metavar="SAMPLES", required=False)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a line and exit.")
@jobs_option
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMS),
    default=_FORMS[0],
    show_default=True,
    help="What to print.",
)
@json_option
@debug_option
def score(samples: str | None, schema: bool, jobs: int | None, form: str, as_json: bool) -> None:
    """Evaluate what models answered to scenarios, and compare the models.

    SAMPLES is a file of JSON lines (`--schema` says what a line holds), or a directory
    MODEL/SCENARIO/SAMPLE.json. Answers that need no model (the reference solution, a profile that
    denies only the PoC's calls, allow-all, deny-all) are rows of every table.
    """
    if schema:
        from evaluator.samples import schema as of_a_line

        say(of_a_line())
        return
    if samples is None:
        raise InputError("name a file of JSON lines, or a directory MODEL/SCENARIO/SAMPLE.json")
    with border():
        found = _scored(samples, jobs)
    from evaluator.leaderboard import leaderboard

    board = leaderboard(found)
    if as_json or form == "json":
        from evaluator.records import plain

        say(json.dumps({"schema": SCHEMA, **plain(board), "samples": plain(found)}))
    elif form == "csv":
        say(_csv(board).rstrip("\n"))
    else:
        from evaluator.table_score import show

        with page() as console:
            show(console, board, found)


def _scored(samples: str, jobs: int | None) -> Sequence[Scored]:
    from evaluator.samples import read_samples
    from evaluator.score_run import scored

    read = read_samples(Path(samples))
    with progress_bar() as on_progress:
        return scored(read, on_progress, jobs=jobs or len(os.sched_getaffinity(0)))


def _csv(board: Leaderboard) -> str:
    from evaluator.leaderboard import METRICS
    from reports.files import cell

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [f"{metric}_{of}" for metric in METRICS for of in ("answered", "asked")]
    writer.writerow(["model", "strategy", "level", "samples", *heads])
    for row in board.rows:
        values = [of[metric].mean for metric in METRICS for of in (row.rates, row.asked)]
        names = (row.model, row.strategy, row.level)
        writer.writerow([cell(value) for value in (*names, row.samples, *values)])
    return text.getvalue()
