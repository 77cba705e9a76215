"""The command ``sidestep check``: a profile library against its ``sidestep.toml``."""

from __future__ import annotations

import json
from typing import Any

import click
from click.core import ParameterSource

from evaluator.errors import InputError, border
from evaluator.options import debug_option, jobs_option, json_option, split
from evaluator.terminal import say

FORMATS = ("table", "json", "junit", "sarif", "markdown", "github")


@click.command()
@click.argument("library", default=".")
@click.option("--init", is_flag=True, help="Write a first sidestep.toml from what holds today.")
@click.option(
    "--workload",
    "workloads",
    metavar="WORKLOAD",
    multiple=True,
    callback=split,
    help="With --init: run this honest program as well; repeatable.",
)
@click.option("--list", "lists", is_flag=True, help="List the items and run nothing.")
@click.option(
    "--profile",
    "profiles",
    metavar="NAME",
    multiple=True,
    help="Only this profile, by its path below the library; repeatable.",
)
@click.option(
    "--baseline",
    metavar="RESULTS",
    help="Fail on what is worse than in these results of `evaluate -o` or `check -o`.",
)
@click.option(
    "--simulate",
    is_flag=True,
    help="Predict and run nothing: for places where nothing can run. A prediction is no evidence.",
)
@jobs_option
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0.01, 3600),
    default=5.0,
    show_default=True,
    help="For one arm of one trial.",
)
@click.option("--cache/--no-cache", default=True, help="Whether to use results of earlier runs.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="What to print, or to write to the file of -o.",
)
@json_option
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Write check.json, results.parquet, summary.csv, run.json and report.html there; or one "
    "file, of what --format says.",
)
@debug_option
@click.pass_context
def check(context: click.Context, /, form: str, as_json: bool, **options: Any) -> None:
    """Test a library of profiles against what its sidestep.toml says must hold.

    LIBRARY is a directory with a sidestep.toml, or that file.

    Exit codes: 0 all that must hold holds; 1 something does not; 2 some input is wrong; 3 this
    machine cannot test it; 4 the harness failed.
    """
    if as_json and form != "json" and context.get_parameter_source("form") is not (
        ParameterSource.DEFAULT
    ):
        raise InputError(f"--json and --format {form}: give one of them")
    with border():
        code = _check("json" if as_json else form, **options)
    context.exit(code)


def _check(form: str, library: str, lists: bool, profiles: tuple[str, ...], **options: Any) -> int:
    from msgspec import to_builtins

    from evaluator.expectations import file_of, read
    from evaluator.library_run import listing

    found = read(file_of(library))
    document = listing(library, found, profiles)
    if form == "json":
        say(json.dumps(to_builtins(document)))
    return 0
