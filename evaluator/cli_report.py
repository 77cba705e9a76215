"""The command ``sidestep report``: stored results in another form, or several as a history."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evaluator import completion as offer
from evaluator.errors import InputError, border
from evaluator.options import debug_option, is_directory, json_option
from evaluator.terminal import page, say

if TYPE_CHECKING:
    from rich.console import Console

    from reports.schema import Document

FORMATS = ("table", "html", "markdown", "csv", "json")
_NAMES = {"html": "report.html", "markdown": "report.md", "csv": "summary.csv", "json": "run.json"}
"""What a file of a format is called in a directory that is there already."""
_STDOUT = "-"


@click.command()
@click.argument("results", nargs=-1, required=True, shell_complete=offer.files)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="What to make of it; without -o it is printed.  [default: table]",
)
@json_option
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    shell_complete=offer.files,
    help="Write there: all four files into a directory, one file by its suffix or --format, "
    "`-` for stdout; of several RESULTS an index and a page for each.",
)
@debug_option
def report(results: tuple[str, ...], form: str | None, output: str | None, as_json: bool) -> None:
    """Render stored results again, or several as a history.

    RESULTS is a results directory, run.json or results.parquet, or the scores.json of
    `sidestep score`, of which a leaderboard is made. Several are written as index.html,
    which shows in order of time how each verdict moved, with a page for every run beside it.

    Exit codes: 0 done; 2 some input is wrong, or nothing can be written: older files then stay.
    """
    if as_json and form not in (None, "json"):
        raise InputError(f"--json and --format {form}: give one of them")
    if output == "":
        raise InputError("--output: an empty path")
    chosen = "json" if as_json else form
    with border():
        first, *more = results
        scores = None if more else _scores(first)
        if scores is not None:
            _leaderboard(first, scores, chosen, output)
        elif more:
            _history(results, chosen, output)
        else:
            _one(first, chosen, output)


def _one(path: str, form: str | None, output: str | None) -> None:
    from reports.document import load_document
    from reports.files import BY_SUFFIX, check, check_names, write, write_texts

    if output is None or output == _STDOUT:
        _refuse_to_print(form, output)
        _print(path, load_document(Path(path)), form or "table")
        return
    target = _target(output, form)
    _refuse_input(target, path)
    if form in (None, "table"):
        is_directory(output, BY_SUFFIX)
        check(output)
        raw = load_document(Path(path))
        with page() as console:
            _show(console, path, raw)
            write(raw, output)  # only what can be shown replaces older files
    else:
        check_names(target.parent, (target.name,))
        text = _text(load_document(Path(path)), form)
        write_texts({target.name: text}, target.parent)
    say(f"written to {target}")


def _scores(path: str) -> dict[str, Any] | None:
    from reports.leaderboard_document import load_scores

    return load_scores(Path(path))


def _leaderboard(path: str, raw: dict[str, Any], form: str | None, output: str | None) -> None:
    """The page of a saved score result, and the result itself."""
    from reports.files import check_names, write_texts

    if form not in (None, "html", "json"):
        raise InputError(f"--format {form}: of scores only html and json can be made")
    if output is None or output == _STDOUT:
        if form is None:
            raise InputError(f"{path}: scores: add -o leaderboard.html, or --format html or json")
        _refuse_to_print(form, output)
        say(_leaderboard_text(raw, form).removesuffix("\n"))
        return
    target, names = Path(output), {".html": "leaderboard.html", ".json": "scores.json"}
    if form is not None and (target.is_dir() or output.endswith("/")):
        places = {names[f".{form}"]: form}
    elif form is not None:
        places = {target.name: form}
    elif is_directory(output, names):
        places = {name: suffix[1:] for suffix, name in names.items()}
    else:
        places = {target.name: target.suffix[1:]}
    directory = target if target.name not in places or target.is_dir() else target.parent
    for name in places:
        _refuse_input(directory / name, path)
    check_names(directory, places)
    write_texts({name: _leaderboard_text(raw, of) for name, of in places.items()}, directory)
    say(f"written to {target}")


def _leaderboard_text(raw: dict[str, Any], form: str) -> str:
    from reports.leaderboard import render_leaderboard
    from reports.leaderboard_document import parse_leaderboard

    return json.dumps(raw) + "\n" if form == "json" else render_leaderboard(parse_leaderboard(raw))


def _refuse_to_print(form: str | None, output: str | None) -> None:
    if output == _STDOUT and form in (None, "table"):
        raise InputError("-o -: add --format html, markdown, csv or json")
    if output is None and form == "html" and sys.stdout.isatty():
        raise InputError("the page is for a browser: add -o report.html, or -o - to print it")


def _target(output: str, form: str | None) -> Path:
    """The file for a named format; else what the name says."""
    path = Path(output)
    if form in _NAMES and (path.is_dir() or output.endswith("/")):
        return path / _NAMES[form]
    return path


def _refuse_input(target: Path, path: str) -> None:
    """A file that would be replaced by another form of itself; a directory may get all again."""
    try:
        same = target.is_file() and Path(path).is_file() and target.samefile(path)
    except OSError as error:
        raise InputError(f"{target}: cannot write: {error.strerror}") from None
    if same:
        raise InputError(f"{target}: the output would overwrite an input")


def _text(raw: dict[str, Any], form: str | None) -> str:
    if form == "json":
        return json.dumps(raw) + "\n"
    from reports.document import parse_document

    document = parse_document(raw)
    if form == "html":
        from reports.html import render

        return render(document)
    if form == "markdown":
        from reports.markdown import markdown

        return markdown(document)
    from reports.files import csv_text

    return csv_text(document)


def _print(path: str, raw: dict[str, Any], form: str) -> None:
    if form != "table":
        say(_text(raw, form).removesuffix("\n"))
        return
    with page() as console:
        _show(console, path, raw)


def _show(console: Console, path: str, raw: dict[str, Any]) -> None:
    from evaluator.table import show
    from reports.document import complete

    try:
        show(console, complete(raw))
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: not written by this version: {error}") from None


def _history(paths: Sequence[str], form: str | None, output: str | None) -> None:
    from reports.files import check_names, write_texts
    from reports.history import render_history
    from reports.text import counted

    if form not in (None, "html"):
        raise InputError(f"--format {form}: of several results only html can be made")
    if output in (None, _STDOUT):
        raise InputError("several results make several pages: add -o DIRECTORY")
    directory = Path(output or "")
    check_names(directory, ("index.html",))
    written = write_texts(render_history(_documents(paths)), directory)
    index = next(one for one in written if one.name == "index.html")
    say(f"written to {index} ({counted(len(written) - 1, 'run')})")


def _documents(paths: Sequence[str]) -> list[Document]:
    from reports.document import load_document, parse_document

    return [parse_document(load_document(Path(path))) for path in paths]
