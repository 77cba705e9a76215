"""The command ``sidestep harden``: the cheapest change that holds and breaks nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from evaluator import completion as offer
from evaluator.errors import HarnessError, InputError, border, code_of
from evaluator.options import (
    debug_option,
    format_option,
    jobs_option,
    posture_option,
    reading_options,
)
from evaluator.terminal import complain, page, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evaluator.drafts import Draft
    from evaluator.harden import Hardening, Terms
    from evaluator.harden_records import Hardened
    from evaluator.objectives import Objective
    from evaluator.plan import Progress
    from mitigations.load import Meaning

_COULD_NOT = 1
_ROUNDS = 30


class _Request(Struct, frozen=True, kw_only=True):
    """The options, still as the user wrote them."""

    candidate: str
    meaning: Meaning
    runtime_model: str
    posture: str
    objective: str | None
    families: tuple[str, ...]
    workloads: tuple[str, ...]
    exhaustive: bool
    rounds: int
    output: str | None
    jobs: int | None
    form: str
    as_json: bool

    @property
    def prints_json(self) -> bool:
        return self.as_json or self.form == "json"


@click.command()
@click.argument("candidate", shell_complete=offer.files)
@reading_options
@posture_option
@click.option(
    "--objective",
    metavar="NAME",
    shell_complete=offer.objectives,
    help="Families to hold, workloads that must work.",
)
@click.option(
    "--family",
    "families",
    metavar="FAMILY",
    multiple=True,
    shell_complete=offer.families,
    help="Hold this family, too; repeatable. Takes a target and parameters, as for evaluate.",
)
@click.option(
    "--workload",
    "workloads",
    metavar="NAME",
    multiple=True,
    shell_complete=offer.workloads,
    help="This must work in the end, whether it works now or not: a name of `sidestep workloads "
    "list`, a TOML file, or all; repeatable. Without any: those of the objective, or of the usual "
    "ones those that work under the candidate as it is.",
)
@click.option(
    "--exhaustive",
    is_flag=True,
    help="Run what every rewrite makes of every variant, in each round.",
)
@click.option(
    "--rounds",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=_ROUNDS,
    show_default=True,
    help="How many choices to run at most.",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    shell_complete=offer.files,
    help="Write the hardened profile there.",
)
@jobs_option
@format_option
@debug_option
@click.pass_context
def harden(context: click.Context, /, **options: Any) -> None:
    """Find the cheapest change to a profile that holds an objective and breaks no workload.

    What gets through is closed by changes that a solver chooses; the result is run, and what it
    lets through or breaks goes into the next choice, until everything holds and works. Where
    seccomp cannot do it, the conflict is shown, and the layers that could. Without an objective or
    a family: the effects that the candidate gives away to be aimed at.

    Exit codes: 0 it holds, 1 it could not be made to.
    """
    with border():
        code = _harden(_Request(**options))
    context.exit(code)


def _harden(request: _Request) -> int:
    from evaluator.drafts import draft_of
    from evaluator.harden import Hardening
    from evaluator.objectives import objective

    goal = objective(request.objective) if request.objective is not None else None
    _check_output(request)
    draft = draft_of(request.candidate, request.meaning, request.runtime_model, request.posture)
    if draft.is_part:
        for line in _told_of_part(draft):
            complain(f"{request.candidate}: {line}")
    with progress_bar() as on_progress:
        one = Hardening(draft, _terms(request, goal, draft, on_progress))
        stopped = _run(one)
    if one.before is None:
        return stopped or 0
    return _publish(request, one, stopped)


def _told_of_part(draft: Draft) -> Iterator[str]:
    """What is hardened of a candidate that is more than a profile."""
    yield "hardened is its seccomp profile, as sidestep export --to oci writes it"
    kept = ", ".join(dict.fromkeys(one.kind for one in draft.beside))
    if kept:
        yield f"in force all the while, and not changed: {kept}"
    if draft.leaves_out:
        yield f"left out, as nobody can put it on here: {', '.join(draft.leaves_out)}"


def _check_output(request: _Request) -> None:
    """Finds out before the run that there is nowhere to write."""
    if request.output is None:
        return
    if not request.output:
        raise InputError("--output: an empty path")
    path = Path(request.output)
    if path.is_dir() or request.output.endswith("/"):
        raise InputError(f"{path}: is a directory, and one profile is written")
    if not path.parent.is_dir():
        raise InputError(f"{path}: cannot write: no such directory as {path.parent}")
    if path.exists() and Path(request.candidate).exists() and path.samefile(request.candidate):
        raise InputError(f"{path}: the output would overwrite an input")


def _terms(
    request: _Request,
    goal: Objective | None,
    draft: Draft,
    on_progress: Callable[[Progress], None],
) -> Terms:
    from attacks import library
    from evaluator.harden import Terms, intended
    from evaluator.plan import Rewrites
    from evaluator.request import families
    from evaluator.workloads import DEFAULTS, chosen

    named = [*(goal.families if goal else ()), *request.families]
    must = [*(goal.workloads if goal else ()), *request.workloads]
    terms = Terms(
        families=families(named, library.SUITE),
        chosen=chosen(must),
        shown=chosen(DEFAULTS),
        posture=request.posture,
        rewrites=Rewrites.ALL if request.exhaustive else Rewrites.SAMPLED,
        jobs=request.jobs or len(os.sched_getaffinity(0)),
        rounds=request.rounds,
        suite=frozenset(library.suite().variants),
        on_progress=on_progress,
        on_round=complain,
    )
    if named and must:
        return terms
    return intended(draft, terms, named=bool(named), must=bool(must))


def _run(one: Hardening) -> int | None:
    """The exit code if it ended early; what was found is kept."""
    try:
        one.run()
    except KeyboardInterrupt as error:
        complain(f"interrupted after {one.rounds} rounds")
        one.ended = "it was interrupted"
        return code_of(error)
    except HarnessError as error:
        complain(str(error))
        one.ended = str(error)
        return error.exit_code
    return None


def _publish(request: _Request, one: Hardening, stopped: int | None) -> int:
    from evaluator.harden_report import hardened

    found = hardened(one, request.objective)
    written = None if found.ended else request.output
    if written is not None:
        try:
            Path(written).write_text(found.profile)
        except OSError as error:
            raise InputError(f"{written}: cannot write: {error.strerror}") from None
    elif request.output is not None:
        complain(f"{request.output}: not written, as it ended early")
    _show(request, found, written)
    if stopped is not None:
        return stopped
    return 0 if found.holds else _COULD_NOT


def _show(request: _Request, found: Hardened, written: str | None) -> None:
    from evaluator.harden_records import SCHEMA
    from evaluator.records import plain

    if request.prints_json:
        say(json.dumps({"schema": SCHEMA, **plain(found)}))
        return
    from evaluator.table_harden import show_hardened

    with page() as console:
        show_hardened(console, found, output=written)
