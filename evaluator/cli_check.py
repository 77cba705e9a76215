"""The command ``sidestep check``: a profile library against its ``sidestep.toml``."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from click.core import ParameterSource
from msgspec import Struct

from evaluator import completion as offer
from evaluator.errors import InputError, border
from evaluator.options import debug_option, jobs_option, json_option, own_version, split
from evaluator.terminal import complain, page, progress_bar, say

if TYPE_CHECKING:
    from evaluator.expectations import Library
    from evaluator.library_check import Checked
    from reports.check_schema import CheckDocument
    from reports.errors import ReportError

RENDERERS = {
    "junit": ("reports.junit", "junit"),
    "sarif": ("reports.sarif", "sarif"),
    "markdown": ("reports.check_markdown", "markdown"),
    "github": ("reports.annotations", "annotations"),
}
_STDOUT = "-"
FORMATS = ("table", "json", *RENDERERS)
SUFFIXES = {".json": "json", ".xml": "junit", ".sarif": "sarif", ".md": "markdown"}
"""What goes into a file of that name unless --format says."""


@click.command()
@click.argument("library", default=".", shell_complete=offer.files)
@click.option("--init", is_flag=True, help="Write a first sidestep.toml from what holds today.")
@click.option(
    "--workload",
    "workloads",
    metavar="WORKLOAD",
    multiple=True,
    callback=split,
    shell_complete=offer.listed(offer.workloads),
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
    shell_complete=offer.files,
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
    shell_complete=offer.files,
    help="Write check.json, check.xml (JUnit), check.sarif, check.md, results.parquet, "
    "summary.csv, run.json and report.html there; or one file, of what --format says; - is stdout.",
)
@debug_option
@click.pass_context
def check(context: click.Context, /, form: str, as_json: bool, **options: Any) -> None:
    """Test a library of profiles against what its sidestep.toml says must hold.

    LIBRARY is a directory with a sidestep.toml, or that file.

    Exit codes: 0 all that must hold holds; 1 something does not; 2 some input is wrong; 3 this
    machine cannot test it; 4 the harness failed.
    """
    if (
        as_json
        and form != "json"
        and context.get_parameter_source("form") is not (ParameterSource.DEFAULT)
    ):
        raise InputError(f"--json and --format {form}: give one of them")
    with border():
        given = as_json or context.get_parameter_source("form") is not ParameterSource.DEFAULT
        code = _check(_Asked(form="json" if as_json else form, is_given=given, **options))
    context.exit(code)


class _Asked(Struct, frozen=True, kw_only=True):
    """The options, still as the user wrote them."""

    library: str
    init: bool
    workloads: list[str]
    lists: bool
    profiles: tuple[str, ...]
    baseline: str | None
    simulate: bool
    jobs: int | None
    timeout: float
    cache: bool
    output: str | None
    form: str
    is_given: bool
    """Whether the form is."""


def _check(asked: _Asked) -> int:
    _refuse_senseless(asked)
    if asked.init:
        return _init(asked)
    from evaluator.expectations import file_of, read

    library = read(file_of(asked.library))
    if asked.lists:
        return _list(asked, library)
    writer = _writer(asked, library)
    checked = _checked(asked, library)
    lost = _write(checked, writer)
    _print(asked, checked, writer, lost)
    if lost is not None:
        raise InputError(str(lost)) from lost
    return checked.document.exit_code


def _refuse_senseless(asked: _Asked) -> None:
    if math.isnan(asked.timeout):
        raise InputError("--timeout: nan is no number of seconds")
    if asked.workloads and not asked.init:
        raise InputError("--workload: workloads stand in sidestep.toml; it goes with --init")
    for name, value in (
        ("--list", asked.lists),
        ("--profile", asked.profiles),
        ("--baseline", asked.baseline is not None),
        ("--simulate", asked.simulate),
        ("--output", asked.output is not None),
        ("--format", asked.form != "table"),
    ):
        if asked.init and value:
            raise InputError(f"--init and {name}: --init evaluates all profiles and writes a file")
    if asked.lists and asked.output is not None:
        raise InputError("--list runs nothing, so there is nothing for --output")
    if asked.lists and asked.form not in ("table", "json"):
        raise InputError(f"--list and --format {asked.form}: table or json")


def _list(asked: _Asked, library: Library) -> int:
    from evaluator.library_check import listing

    document = listing(asked.library, library, asked.profiles)
    if asked.form == "json":
        say(_rendered(document, "json"))
        return 0
    from evaluator.table_check import show_list

    with page() as console:
        show_list(console, document)
    return 0


def _checked(asked: _Asked, library: Library) -> Checked:
    from evaluator.audit_log import audit_log
    from evaluator.baseline import read
    from evaluator.check_store import Store, directory
    from evaluator.doctor import environment, probe, without_sandbox
    from evaluator.library_check import check
    from evaluator.library_run import Options
    from reports.schema import Tool

    base = read(asked.baseline) if asked.baseline is not None else None
    simulated = asked.simulate
    where = environment(without_sandbox(), "none") if simulated else environment(probe())
    store = Store(directory(), complain) if asked.cache and not simulated else None
    options = Options(jobs=asked.jobs, timeout_s=asked.timeout, simulate=simulated)
    tool = Tool("sidestep", own_version())
    where = msgspec.structs.replace(where, audit_log=audit_log())
    try:
        with progress_bar() as progress:
            return check(
                asked.library, library, asked.profiles, base, options, where, store, progress, tool
            )
    except KeyboardInterrupt:
        if store is not None and store.kept:
            complain(f"{store.kept} results are kept: the next check goes on from there")
        raise


# ----------------------------------------------------------------------------------------- output


class _Writer(Struct, frozen=True):
    """Where the document goes; ``form`` is empty for a directory."""

    path: Path
    form: str


def _writer(asked: _Asked, library: Library) -> _Writer | None:
    """Finds out before the run, not after it, that there is nowhere to write."""
    if asked.output is None:
        return None
    if asked.output == _STDOUT:
        if asked.form == "table":
            raise InputError("-o -: add --format json, junit, sarif, markdown or github")
        return None
    if not asked.output:
        raise InputError("--output: an empty path")
    try:
        return _place(asked, library)
    except OSError as error:
        raise InputError(f"{asked.output}: cannot write: {error.strerror}") from None


def _place(asked: _Asked, library: Library) -> _Writer:
    """``OSError`` where nobody may look."""
    from reports.files import check, check_file

    path = Path(asked.output or "")
    inputs = [library.file, *(one.path for one in library.profiles)]
    if path.is_file() and any(path.samefile(one) for one in inputs if one.is_file()):
        raise InputError(f"{path}: the output would overwrite an input")
    if path.is_dir() or str(asked.output).endswith("/") or not path.suffix:
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: not a directory")
        check(path)
        return _Writer(path, "")
    form = asked.form if asked.is_given else SUFFIXES.get(path.suffix)
    if form is None:
        raise InputError(f"{path}: say by --format what to write; or name a directory")
    check_file(path)
    return _Writer(path, form)


def _write(checked: Checked, writer: _Writer | None) -> ReportError | None:
    from reports.errors import ReportError
    from reports.files import write, write_bytes

    if writer is None:
        return None
    try:
        if writer.form:
            text = _rendered(checked.document, writer.form)
            write_bytes(writer.path, _encoded(text + "\n"))
            return None
        beside = {
            f"check{suffix}": _encoded(_rendered(checked.document, form) + "\n")
            for suffix, form in SUFFIXES.items()
        }
        write(msgspec.to_builtins(checked.results), writer.path, beside)
    except ReportError as error:
        return error
    return None


def _encoded(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


def _print(
    asked: _Asked, checked: Checked, writer: _Writer | None, lost: ReportError | None
) -> None:
    """The table, unless another form was asked for and has not gone to a file."""
    to_file = writer is not None and writer.form == asked.form
    if asked.form != "table" and not to_file:
        say(_rendered(checked.document, asked.form))
        return
    from evaluator.table_check import show

    with page() as console:
        show(console, checked.document)
        if writer is not None and lost is None:
            console.print(f"written to {writer.path}", markup=False, soft_wrap=True)


def _rendered(document: CheckDocument, form: str) -> str:
    if form == "json":
        return json.dumps(msgspec.to_builtins(document))
    if form == "table":
        from evaluator.table_check import plain_text

        return plain_text(document)
    module, function = RENDERERS[form]
    rendered: str = getattr(importlib.import_module(module), function)(document)
    return rendered.rstrip("\n")


def _init(asked: _Asked) -> int:
    from evaluator.expectations import file_of
    from evaluator.library_init import counted, evaluated, relative, text_of
    from evaluator.verdict import ExitCode
    from reports.files import check_file, write_bytes

    file = file_of(asked.library)
    try:
        if file.exists():
            raise InputError(f"{file}: is there already, and is not overwritten")
        if file.suffix != ".toml" or not file.parent.is_dir():
            raise InputError(f"{asked.library}: not a directory")
    except OSError as error:
        raise InputError(f"{file}: cannot write: {error.strerror}") from None
    references = relative(asked.workloads, file.parent)
    check_file(file)
    with progress_bar() as on_progress:
        found = evaluated(file.parent, asked.workloads, asked.jobs, asked.timeout, on_progress)
    for one in found:
        if one.error:
            complain(f"{file.parent / one.name}: {one.error}")
    if not any(one.held or one.works for one in found):
        raise InputError(f"{file}: not written: no profile holds anything, and no program works")
    write_bytes(file, text_of(found, references).encode())
    say(f"written to {file}: {counted(found)}")
    broke = sorted({family for one in found for family in one.harness_failed})
    if broke:
        complain(f"the harness failed in {', '.join(broke)}: not expected of any profile")
    return ExitCode.HARNESS_FAILED if broke else ExitCode.DONE
