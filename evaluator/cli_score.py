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
_FACTS = (
    *("model", "strategy", "level", "samples", "suite", "private_suite"),
    *("joint_low", "joint_high", "gap", "gap_low", "gap_high"),
    *("k", "pass_at_k", "pass_all_k", "cost_per_solved"),
)


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
    from attacks.family import Technique
    from evaluator.leaderboard import METRICS
    from reports.files import cell

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rates = [f"{metric}_{of}" for metric in METRICS for of in ("answered", "asked")]
    techniques = [f"bypassed_by_{one}" for one in Technique]
    writer.writerow([*_FACTS, *rates, *techniques])
    for row in board.rows:
        k = max(row.pass_at, default=None)
        facts = (
            *(row.model, row.strategy, row.level, row.samples),
            *(board.suite, board.private_suite),
            *(row.asked["joint"].low, row.asked["joint"].high),
            *(row.gap.mean, row.gap.low, row.gap.high),
            *(k, row.pass_at.get(k or 0), row.pass_all.get(k or 0), row.cost_per_solved),
        )
        means = (of[metric].mean for metric in METRICS for of in (row.rates, row.asked))
        tried = {one.technique: one.bypassed / one.answers for one in row.techniques}
        shares = (tried.get(one) for one in Technique)
        writer.writerow([cell(value) for value in (*facts, *means, *shares)])
    return text.getvalue()
