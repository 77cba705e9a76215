"""The command ``sidestep diff``: two evaluations, and what became worse or better between them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from evaluator import completion as offer
from evaluator.errors import InputError, border
from evaluator.options import (
    POSTURES,
    debug_option,
    jobs_option,
    json_option,
    own_version,
    posture_option,
    reading_options,
)
from evaluator.terminal import page, progress_bar, say

if TYPE_CHECKING:
    from evaluator.difference import CallChange, Difference
    from evaluator.records import CandidateResult
    from evaluator.request import Request
    from reports.schema import Document

_REPEATABLE = ("family", "workload", "assume")
_OPTIONS = {"meaning": "--from", "exhaustive": "--exhaustive"}


@click.command()
@click.argument("base", shell_complete=offer.files)
@click.argument("new", shell_complete=offer.files)
@click.option(
    "--family",
    metavar="FAMILY",
    multiple=True,
    shell_complete=offer.families,
    help="Test only this; repeatable.",
)
@click.option(
    "--objective",
    metavar="NAME",
    shell_complete=offer.objectives,
    help="A name of `sidestep objectives list`.",
)
@click.option(
    "--workload",
    metavar="WORKLOAD",
    multiple=True,
    shell_complete=offer.workloads,
    help="Run this, too; repeatable.",
)
@click.option(
    "--assume",
    metavar="ASSUMPTION",
    multiple=True,
    shell_complete=offer.assumptions,
    help="As in `evaluate`; repeatable.",
)
@click.option("--exhaustive", is_flag=True, help="Run all that rewrites make of every variant.")
@posture_option
@reading_options
@jobs_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="What to print.",
)
@json_option
@debug_option
@click.pass_context
def diff(
    context: click.Context, /, base: str, new: str, form: str, as_json: bool, **_: Any
) -> None:
    """What opened, closed, broke or was repaired between two evaluations.

    BASE and NEW are stored results (a results directory, run.json, results.parquet) or profiles. A
    profile is evaluated now: with the options that the stored side was made with, and with those
    given here.

    Exit codes: 0 nothing is worse; 1 something opened, broke, is no longer in force or is gone; 2
    some input is wrong; 4 the harness failed. What was held and is not shown to be held now counts
    as opened.
    """
    if as_json and form != "json" and _given(context, "form"):
        raise InputError(f"--json and --format {form}: give one of them")
    with border():
        found, code = _diff(context, base, new)
    if as_json or form == "json":
        from evaluator.records import plain

        say(json.dumps({"diff": {"base": base, "new": new, "worse": found.worse, **plain(found)}}))
    elif form == "markdown":
        from evaluator.table_diff import markdown

        say(markdown(found, base, new))
    else:
        from evaluator.table_diff import show

        with page() as console:
            show(console, found, base, new)
    context.exit(code)


def _diff(context: click.Context, base: str, new: str) -> tuple[Difference, int]:

    from evaluator.difference import difference, narrowed, paired, suites_of

    stored = [_stored(one) for one in (base, new)]
    given = _arguments_given(context)
    if all(stored) and given:
        raise InputError(f"{given[0]}: nothing is evaluated, both sides are stored results")
    of_other = [_arguments(other) if other else [] for other in reversed(stored)]
    sides: list[Document] = []
    failed = False
    for path, document, arguments in zip((base, new), stored, of_other, strict=True):
        if document is not None:
            sides.append(document)
            continue
        fresh, broke = _evaluated(_request(context, path, [*arguments, *given]))
        failed |= broke
        sides.append(fresh)
    old, newer = sides
    if stored[0] is None and Path(base).is_file():
        newer = narrowed(newer, old)
    if stored[1] is None and Path(new).is_file():
        old = narrowed(old, newer)
    if not any(None not in pair for pair in paired(old.candidates, newer.candidates)):
        names = ", ".join(one.name for side in sides for one in side.candidates)
        raise InputError(f"{base} and {new}: no candidate is in both of them ({names or 'none'})")
    found = difference(old, newer, suites_of(old, newer))
    files = stored == [None, None] and Path(base).is_file() and Path(new).is_file()
    if files and len(old.candidates) == len(newer.candidates) == 1:
        found = _with_calls(found, old, newer, *_calls(context, base, new))
    return found, 4 if failed else int(found.worse)


def _with_calls(
    found: Difference, old: Document, new: Document, calls: tuple[CallChange, ...], unfollowed: str
) -> Difference:
    """The same with the calls of the one candidate, even if nothing else differs in it."""
    from msgspec.structs import replace

    from evaluator.difference import CandidateDifference

    if not calls and not unfollowed:
        return found
    (before,), (after,) = old.candidates, new.candidates
    quiet = CandidateDifference(before.name, after.name, same_filters=False, changes=())
    (one,) = found.candidates or (quiet,)
    return replace(found, candidates=(replace(one, calls=calls, unfollowed=unfollowed),))


def _stored(path: str) -> Document | None:
    """Stored results; ``None`` for a profile, or a directory of them."""
    from reports.document import load_document, parse_document, parse_json
    from reports.errors import ReportError

    place = Path(path)
    if place.is_dir():
        is_stored = any((place / name).is_file() for name in ("run.json", "results.parquet"))
    elif place.suffix == ".json" and place.is_file():
        try:
            text = place.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None  # whoever reads profiles says what is wrong
        try:
            is_stored = '"schema"' in text and _has_schema(parse_json(text))
        except ReportError as error:
            raise InputError(f"{place}: {error}") from None
    else:
        is_stored = place.suffix == ".parquet"
    return parse_document(load_document(place)) if is_stored else None


def _has_schema(raw: object) -> bool:
    return isinstance(raw, dict) and "schema" in raw


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _arguments_given(context: click.Context) -> list[str]:
    """The options of this command line that say how to evaluate."""
    found: list[str] = []
    for name in (*_REPEATABLE, "objective", "posture", "runtime_model", "meaning", "jobs"):
        if _given(context, name):
            value = context.params[name]
            option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
            for one in value if name in _REPEATABLE else (value,):
                found += [option, str(one)]
    return [*found, "--exhaustive"] if context.params["exhaustive"] else found


def _arguments(document: Document) -> list[str]:
    """The options that stored results were made with: as they were written, or by what they say."""
    if "evaluate" in document.arguments:
        return list(document.arguments[document.arguments.index("evaluate") + 1 :])
    found = [f"--assume={one}" for one in document.assume]
    if document.objective:
        found += ["--objective", document.objective]
    for candidate in document.candidates[:1]:
        model = candidate.runtime_model.partition("/")[0]
        # One of its own comes with the candidate.
        found += ["--posture", candidate.posture] if candidate.posture in POSTURES else []
        found += ["--runtime-model", model] if model else []
    return found


def _request(context: click.Context, path: str, arguments: Sequence[str]) -> Request:
    """The request of `evaluate` with these arguments, for this path and without output."""
    from msgspec.structs import replace

    from evaluator.request import Request

    root = context.find_root().command
    assert isinstance(root, click.Group)
    evaluate = root.commands["evaluate"]
    try:
        parsed = evaluate.make_context("evaluate", [*arguments, "--", path], parent=context)
    except click.UsageError as error:
        raise InputError(f"options of the stored results: {error.format_message()}") from None
    request = Request(**parsed.params)
    return replace(request, paths=(path,), output=None, form="table", as_json=False, search=0.0)


def _evaluated(request: Request) -> tuple[Document, bool]:
    """What an evaluation says now, and whether the harness failed in it."""
    from evaluator.assemble import run_exit_code
    from evaluator.doctor import environment, probe, without_sandbox
    from evaluator.records import Run, Tool, document, plain
    from evaluator.request import plan
    from evaluator.verdict import ExitCode
    from mitigations.candidate import FailedCandidate
    from reports.document import parse_document

    planned = plan(request)
    if all(isinstance(one, FailedCandidate) for one in planned.candidates):
        why = next(
            (str(one.error) for one in planned.candidates if isinstance(one, FailedCandidate)), ""
        )
        raise InputError(f"{request.paths[0]}: {why or 'holds no profile'}")
    simulated = request.simulate
    where = environment(without_sandbox(), "none") if simulated else environment(probe())
    started = time.time()
    results: list[CandidateResult] = []
    with progress_bar() as on_progress:
        if simulated:
            from evaluator.simulate import simulate

            results.extend(simulate(planned, on_progress))
        else:
            from evaluator.assemble import assemble
            from evaluator.campaign import evaluate

            results.extend(evaluate(planned, on_progress, assemble))
    code = run_exit_code(results, ())
    run = Run(
        tool=Tool("sidestep", own_version()),
        started="",
        duration_s=time.time() - started,
        exit_code=code,
        arguments=(),
        environment=where,
        suite=request.suite or _current_suite(),
        objective=request.objective,
        assume=tuple(sorted(planned.assume)),
        gates=(),
        candidates=tuple(results),
        simulated=simulated,
    )
    return parse_document(plain(document(run))), code == ExitCode.HARNESS_FAILED


def _current_suite() -> str:
    from attacks import library

    return library.SUITE


def _calls(context: click.Context, base: str, new: str) -> tuple[tuple[CallChange, ...], str]:
    """The calls that two profiles answer otherwise, or why that cannot be followed."""
    from evaluator.difference import CallChange
    from evaluator.request import candidate_of
    from mitigations.analysis import InexactError, difference
    from mitigations.bpf import Filter

    old, newer = (
        candidate_of(
            path,
            meaning=context.params["meaning"],
            runtime_model=context.params["runtime_model"],
            stance=context.params["posture"],
        )
        for path in (base, new)
    )
    before, after = (tuple(Filter.decode(s.program) for s in one.seccomp) for one in (old, newer))
    abis: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = {}
    try:
        for one in difference(before, after):
            key = (one.call, one.before, one.after, one.conditions)
            abis.setdefault(key, []).append(one.abi)
    except InexactError as error:
        return (), str(error)
    changed = (
        CallChange(call, tuple(dict.fromkeys(of)), was, now, conditions)
        for (call, was, now, conditions), of in abis.items()
    )
    return tuple(changed), ""
