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
from evaluator.options import debug_option, jobs_option, json_option, own_version
from evaluator.terminal import page, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluator.leaderboard import Leaderboard
    from evaluator.samples import Sample
    from evaluator.score_run import Scored

_FORMS = ("table", "html", "csv", "json")
_FILES = {".html": "leaderboard.html", ".csv": "leaderboard.csv", ".json": "scores.json"}
"""What ``-o`` writes into a directory, by the suffix that asks for one of them alone."""


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
    schema: bool,
    jobs: int | None,
    form: str,
    as_json: bool,
    output: str | None,
) -> None:
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
    form = "json" if as_json else form
    if form == "html" and sys.stdout.isatty():
        raise InputError("the page is for a browser: add -o leaderboard.html, or a redirection")
    target = None if output is None else _target(output, samples)
    started = time.time()
    with border():
        read, found = _scored(samples, jobs)
    from evaluator.leaderboard import leaderboard

    board = leaderboard(found)
    document = _document(board, found, read, started) if form in ("html", "json") or target else {}
    lost = None if target is None else _written(target, document, board)
    if form == "table":
        from evaluator.table_score import show

        with page() as console:
            show(console, board, found)
            if target is not None and not lost:
                console.print(f"\nwritten to {output}", markup=False)
    else:
        say(_text(f".{form}", document, board).rstrip("\n"))
    if lost:
        raise InputError(lost)


def _scored(samples: str, jobs: int | None) -> tuple[Sequence[Sample], Sequence[Scored]]:
    """What was read, and what it is worth."""
    from evaluator.samples import read_samples
    from evaluator.score_run import scored

    read = read_samples(Path(samples))
    with progress_bar() as on_progress:
        return read, scored(read, on_progress, jobs=jobs or len(os.sched_getaffinity(0)))


def _document(
    board: Leaderboard, found: Sequence[Scored], read: Sequence[Sample], started: float
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
        arguments=tuple(sys.argv[1:]),
    )
    return document(board, found, read, origin)


def _target(output: str, samples: str) -> tuple[Path, dict[str, str]]:
    """The directory, and the suffix of each file to be written there; it can be written."""
    from reports.files import check_names

    path, given = Path(output), Path(samples)
    if not output:
        raise InputError("--output: an empty path")
    if path.suffix in _FILES and not path.is_dir() and not output.endswith("/"):
        directory, files = path.parent, {path.name: path.suffix}
    elif path.suffix and not path.exists() and not output.endswith("/"):
        known = ", ".join(_FILES)
        raise InputError(f"{path}: no form has this suffix: {known}; for a directory end it with /")
    else:
        directory, files = path, {name: suffix for suffix, name in _FILES.items()}
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
