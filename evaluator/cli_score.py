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
@click.option(
    "--objective",
    metavar="NAME",
    help="SAMPLES is a directory of any profiles, each judged by this objective: a name of "
    "`sidestep objectives list`.",
)
@click.option(
    "--family",
    "families",
    metavar="FAMILY",
    multiple=True,
    help="The same with a family that must be held; repeatable.",
)
@click.option(
    "--private-suite",
    "seed",
    metavar="SEED",
    help="Also run hidden ways that this seed makes, by chains of rewrites.",
)
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
def score(
    samples: str | None,
    objective: str | None,
    families: tuple[str, ...],
    seed: str | None,
    schema: bool,
    jobs: int | None,
    form: str,
    as_json: bool,
) -> None:
    """Evaluate what models answered to scenarios, and compare the models.

    SAMPLES is a file of JSON lines (`--schema` says what a line holds), or a directory
    MODEL/SCENARIO/SAMPLE.json. Answers that need no model (the reference solution, a profile that
    denies only the PoC's calls, allow-all, deny-all, a container runtime's default) are rows of
    every table. With `--objective` or `--family`, SAMPLES is a directory of profiles from anywhere.
    """
    if schema:
        from evaluator.samples import schema as of_a_line

        say(of_a_line())
        return
    if samples is None:
        raise InputError("name a file of JSON lines, or a directory MODEL/SCENARIO/SAMPLE.json")
    if seed == "":
        raise InputError("--private-suite: an empty seed; write any text that only you know")
    with border():
        found, private = _scored(Path(samples), objective, families, jobs, seed or "")
    from evaluator.leaderboard import leaderboard

    board = leaderboard(found, private)
    if as_json or form == "json":
        from evaluator.records import plain

        say(json.dumps({"schema": SCHEMA, **plain(board), "samples": plain(found)}))
    elif form == "csv":
        say(_csv(board).rstrip("\n"))
    else:
        from evaluator.table_score import show

        with page() as console:
            show(console, board, found)


def _scored(
    path: Path, objective: str | None, families: Sequence[str], jobs: int | None, seed: str
) -> tuple[Sequence[Scored], str]:
    """The scores, and the digest of the private suite; empty if there is none."""
    from evaluator.private import digest
    from evaluator.score_run import answers_of, answers_of_files, judged

    if objective is None and not families:
        answers = answers_of(path)
    else:
        answers = answers_of_files(path, objective, families)
    asked = {one.scenario.name: one.scenario for one in answers}
    with progress_bar() as on_progress:
        count = jobs or len(os.sched_getaffinity(0))
        found = judged(answers, on_progress, jobs=count, private=seed)
    return found, digest(asked.values(), seed) if seed else ""


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
