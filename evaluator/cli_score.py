"""The command ``sidestep score``: what stored answers to scenarios are worth."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evaluator import completion as offer
from evaluator.errors import InputError, border
from evaluator.options import debug_option, is_directory, jobs_option, json_option, own_version
from evaluator.terminal import complain, page, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluator.leaderboard import Leaderboard
    from evaluator.plan import Progress
    from evaluator.score_run import Answer, Scored

_FORMS = ("table", "html", "csv", "json")
_FILES = {".html": "leaderboard.html", ".csv": "leaderboard.csv", ".json": "scores.json"}
"""What ``-o`` writes into a directory, by the suffix that asks for one of them alone."""
_SEED = "--private-suite"
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
    _SEED,
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
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    shell_complete=offer.files,
    help="Write leaderboard.html, leaderboard.csv, scores.json there; or one file.",
)
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
    output: str | None,
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
    if seed is not None and not seed.isprintable():
        raise InputError("--private-suite: the seed is no text that can be printed")
    if seed == "":
        raise InputError("--private-suite: an empty seed; write any text that only you know")
    form = "json" if as_json else form
    if form == "html" and sys.stdout.isatty():
        raise InputError("the page is for a browser: add -o leaderboard.html, or a redirection")
    target = None if output is None else _target(output, samples)
    started = time.time()
    with border():
        answers, found, private = _scored(Path(samples), objective, families, jobs, seed or "")
    from evaluator.leaderboard import leaderboard

    board = leaderboard(found, private)
    needed = target is not None or form in ("html", "json")
    document = _document(board, answers, found, started) if needed else {}
    lost = None if target is None else _written(target, document, board)
    if form == "table":
        from evaluator.table_score import show

        with page() as console:
            show(console, board, found)
            if target is not None and not lost:
                console.print(f"\nwritten to {output}", markup=False, soft_wrap=True)
    else:
        say(_text(f".{form}", document, board).rstrip("\n"))
    if lost:
        raise InputError(lost)


def _scored(
    path: Path, objective: str | None, families: Sequence[str], jobs: int | None, seed: str
) -> tuple[Sequence[Answer], Sequence[Scored], str]:
    """The answers, their scores, and the digest of the private suite; empty if there is none."""
    from evaluator.private import digest
    from evaluator.score_run import answers_of, answers_of_files, judged

    if objective is None and not families:
        answers = answers_of(path)
    else:
        answers = answers_of_files(path, objective, families)
    asked = {one.scenario.name: one.scenario for one in answers}
    seen: Progress | None = None
    with progress_bar() as shown:

        def on_progress(now: Progress) -> None:
            nonlocal seen
            seen = now
            shown(now)

        count = jobs or len(os.sched_getaffinity(0))
        try:
            found = judged(answers, on_progress, jobs=count, private=seed)
        except KeyboardInterrupt:
            of = f"{seen.done} of {seen.total} evaluations" if seen else "no evaluation"
            complain(f"{of} done, and none is kept: score again, or a file with fewer answers")
            raise
    return answers, found, digest(asked.values(), seed) if seed else ""


def _document(
    board: Leaderboard, answers: Sequence[Answer], found: Sequence[Scored], started: float
) -> dict[str, Any]:
    from datetime import UTC, datetime

    from evaluator.doctor import environment, probe
    from evaluator.leaderboard_document import Origin, document
    from evaluator.records import Tool

    origin = Origin(
        tool=Tool("sidestep", own_version()),
        environment=environment(probe()),
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        duration_s=round(time.time() - started, 6),
        arguments=_without_seed(sys.argv[1:]),
    )
    return document(board, answers, found, origin)


def _without_seed(arguments: Sequence[str]) -> tuple[str, ...]:
    """Whoever reads the scores must not be able to make the private suite."""
    found: list[str] = []
    for one in arguments:
        if found and found[-1] == _SEED:
            found.append("...")
        else:
            found.append(f"{_SEED}=..." if one.startswith(f"{_SEED}=") else one)
    return tuple(found)


def _target(output: str, samples: str) -> tuple[Path, dict[str, str]]:
    """The directory, and the suffix of each file to be written there; it can be written."""
    from reports.files import check_names

    path, given = Path(output), Path(samples)
    if not output:
        raise InputError("--output: an empty path")
    if is_directory(output, _FILES):
        directory, files = path, {name: suffix for suffix, name in _FILES.items()}
    else:
        directory, files = path.parent, {path.name: path.suffix}
    for name in files:
        if given.is_file() and (directory / name).is_file() and given.samefile(directory / name):
            raise InputError(f"{directory / name}: the output would overwrite the input")
    if given.is_dir() and given.resolve() in (directory.resolve(), *directory.resolve().parents):
        raise InputError(f"{directory}: the next run would take the output for an answer")
    with border():
        check_names(directory, files)
    return directory, files


def _written(
    target: tuple[Path, dict[str, str]], document: dict[str, Any], board: Leaderboard
) -> str:
    """Writes all files or none; why it could not, in one line."""
    from reports.errors import ReportError
    from reports.files import write_texts

    directory, files = target
    try:
        texts = {name: _text(suffix, document, board) for name, suffix in files.items()}
        write_texts(texts, directory)
    except ReportError as error:
        return str(error)
    return ""


def _text(suffix: str, document: dict[str, Any], board: Leaderboard) -> str:
    if suffix == ".html":
        from reports.leaderboard import render_leaderboard
        from reports.leaderboard_document import parse_leaderboard

        return render_leaderboard(parse_leaderboard(document))
    if suffix == ".csv":
        return _csv(board)
    return json.dumps(document) + "\n"


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
