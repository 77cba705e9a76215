"""The command ``sidestep search``: looks for bypasses beyond the recorded library."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from msgspec import Struct

from evaluator import completion as offer
from evaluator.cli_search_model import ModelSearch, search_by_model
from evaluator.errors import HarnessError, InputError, border, code_of
from evaluator.options import (
    debug_option,
    format_option,
    jobs_option,
    posture_option,
    reading_options,
    unusual,
)
from evaluator.options_model import ModelRequest, model_options
from evaluator.terminal import complain, page, progress_bar, say

if TYPE_CHECKING:
    from attacks.family import FamilyInstance
    from evaluator.search_records import Find, Limits, Searched
    from evaluator.search_store import Store
    from mitigations.candidate import Candidate
    from mitigations.load import Meaning

_SECONDS = 20.0
_FOUND = 1
_SAVE_S = 2.0
_RULES_ONLY = ("budget", "seed", "baseline_only", "resume")
"""Options that say nothing to a model."""
_MODEL_ONLY = (
    "run_untrusted",
    "requests",
    "black_box",
    "against",
    "show_prompt",
    *ModelRequest.__struct_fields__,
)


class _Request(Struct, frozen=True, kw_only=True):
    """The options, still as the user wrote them."""

    candidate: str
    families: tuple[str, ...]
    meaning: Meaning
    runtime_model: str
    posture: str
    budget: float | None
    most_programs: int | None
    seed: int
    baseline_only: bool
    output: str | None
    resume: bool
    jobs: int | None
    form: str
    as_json: bool

    @property
    def reading(self) -> list[str]:
        """The options that a replay needs as well, as far as they are not what is usual."""
        return unusual(self.meaning, self.runtime_model, self.posture)


@click.command()
@click.argument("candidate", shell_complete=offer.files)
@click.argument("families", metavar="[FAMILY]...", nargs=-1, shell_complete=offer.families)
@reading_options
@posture_option
@click.option(
    "--budget",
    metavar="SECONDS",
    type=click.FloatRange(0.01, 1_000_000),
    help=f"For all families together; by default {_SECONDS:g}, or no end where programs are "
    "counted.",
)
@click.option(
    "--most-programs",
    metavar="N",
    type=click.IntRange(1, 10_000_000),
    help="Build no more than so many for each family: the same ones in every run. With --model "
    "read no more than so many, by default 20.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Decides between programs that promise as much.",
)
@click.option(
    "--baseline-only",
    is_flag=True,
    help="Begin with the baseline alone, as if no other way were recorded.",
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    shell_complete=offer.files,
    help="Keep each find there as a program for attacks run, and what was tried.",
)
@click.option("--resume", is_flag=True, help="Go on with the search in DIR: nothing is run twice.")
@click.option("--model", metavar="ID", help="Let this model propose programs, not the rules.")
@click.option(
    "--run-untrusted",
    is_flag=True,
    help="Run what the model writes, in the sandbox; without it nothing is asked.",
)
@click.option(
    "--requests",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="To the model, for each family.",
)
@click.option("--black-box", is_flag=True, help="Do not show the profile to the model.")
@click.option(
    "--against",
    metavar="PATH",
    multiple=True,
    shell_complete=offer.files,
    help="Try what the model found under these profiles as well: a file, a directory; repeat.",
)
@click.option("--show-prompt", is_flag=True, help="Print what the model is told, and ask nothing.")
@model_options
@jobs_option
@format_option
@debug_option
@click.pass_context
def search(context: click.Context, /, **options: Any) -> None:
    """Look for ways to an effect that get past a candidate, beyond the recorded library.

    Programs are composed by rules, guided by what the filters let through; what looks open is run
    with and without the candidate. Without FAMILY: all effects that the candidate is aimed at.
    FAMILY takes a target and parameters: create-file@/data, change-mode[bits=04000].

    With --model a language model proposes the programs and sees what came of each; the judge alone
    decides what got through. The key comes from the environment, ANTHROPIC_API_KEY. Answers are
    kept in DIR/replies: the same command again asks only for what is missing.

    Exit codes: 0 nothing was found, 1 something was; with --model 3 if nothing was found and
    the model refused, or gave no program that could tell anything.
    """
    asked = {name: options.pop(name) for name in _MODEL_ONLY}
    model = options.pop("model")
    _check_kind(context, model)
    with border():
        if model is None:
            code = _search(_Request(**options))
        else:
            code = search_by_model(_by_model(model, asked, options))
    context.exit(code)


def _check_kind(context: click.Context, model: str | None) -> None:
    """Refuses an option that the chosen kind of search would not heed."""
    others = _RULES_ONLY if model is not None else _MODEL_ONLY
    for name in others:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = f"--{name.replace('_', '-')}"
            needs = "not with --model" if model is not None else "only with --model"
            raise InputError(f"{option}: {needs}")


def _by_model(model: str, asked: dict[str, Any], options: dict[str, Any]) -> ModelSearch:
    api = ModelRequest(**{name: asked.pop(name) for name in ModelRequest.__struct_fields__})
    kept = {name: value for name, value in options.items() if name not in _RULES_ONLY}
    return ModelSearch(model=model, api=api, **asked, **kept)


def _search(request: _Request) -> int:
    from evaluator.request import candidate_of, kinds_beside
    from evaluator.search_records import NOT_LED
    from evaluator.search_store import Store, basis

    limits = _limits(request)
    if request.resume and request.output is None:
        raise InputError("--resume: say with -o which directory holds the search")
    if request.output == "":
        raise InputError("--output: an empty path")
    candidate = candidate_of(
        request.candidate,
        meaning=request.meaning,
        runtime_model=request.runtime_model,
        stance=request.posture,
    )
    if candidate.beside_filters:
        complain(f"{candidate.source}: {NOT_LED} ({kinds_beside(candidate)})")
    families = _families(request, candidate)
    store = None
    if request.output is not None:
        of = basis(candidate, request.posture, limits)
        store = Store(Path(request.output), of, resume=request.resume)
    found, stopped = _found(request, candidate, families, limits, store)
    _show(request, _document(request, candidate, families, limits, found, store))
    if stopped is not None:
        return stopped
    if any(one.disagreements for one in found):
        return HarnessError.exit_code
    return _FOUND if any(one.finds for one in found) else 0


def _limits(request: _Request) -> Limits:
    from evaluator.search_records import Limits

    if request.budget is not None and math.isnan(request.budget):
        raise InputError("--budget: nan is no number of seconds")
    seconds = request.budget
    if seconds is None and request.most_programs is None:
        seconds = _SECONDS
    return Limits(seconds, request.most_programs, request.seed, request.baseline_only)


def _families(request: _Request, candidate: Candidate) -> Sequence[FamilyInstance]:
    from evaluator.request import families
    from evaluator.search_run import targeted

    named = families(request.families)
    return named if request.families else targeted(candidate, named)


def _found(
    request: _Request,
    candidate: Candidate,
    families: Sequence[FamilyInstance],
    limits: Limits,
    store: Store | None,
) -> tuple[list[Searched], int | None]:
    """What was found, and the exit code if the search ended early; what was found is kept."""
    found: list[Searched] = []
    try:
        for one in _searches(request, candidate, families, limits, store):
            found.append(one)
            if store is not None:
                for find in one.finds:
                    store.keep(find)
    except KeyboardInterrupt as error:
        complain(f"interrupted: {len(found)} of {len(families)} families were begun")
        return found, code_of(error)
    except HarnessError as error:
        complain(str(error))
        return found, error.exit_code
    finally:
        if store is not None:
            store.save()
    return found, None


def _searches(
    request: _Request,
    candidate: Candidate,
    families: Sequence[FamilyInstance],
    limits: Limits,
    store: Store | None,
) -> Iterator[Searched]:
    from evaluator.plan import Progress
    from evaluator.search_run import search as run_search

    begun = saved = time.monotonic()
    places = {one.label: place for place, one in enumerate(families)}
    each = limits.programs or 0
    total = math.ceil(limits.seconds or each * len(families))
    with progress_bar() as on_progress:

        def on_step(family: str, built: int, run: int) -> None:
            nonlocal saved
            now = time.monotonic()
            done = int(now - begun) if limits.seconds else places[family] * each + built
            on_progress(Progress(f"{family}: {built} built, {run} run", min(done, total), total))
            if store is not None and now - saved > _SAVE_S:
                saved = now
                store.save()

        yield from run_search(
            candidate,
            families,
            limits,
            stance=request.posture,
            jobs=request.jobs or len(os.sched_getaffinity(0)),
            memory=None if store is None else store.tried,
            on_step=on_step,
        )


def _document(
    request: _Request,
    candidate: Candidate,
    families: Sequence[FamilyInstance],
    limits: Limits,
    found: Sequence[Searched],
    store: Store | None,
) -> dict[str, Any]:
    from evaluator.records import plain
    from evaluator.search import is_replayable
    from evaluator.search_records import SCHEMA
    from evaluator.search_store import basis

    def find_document(one: Find, family: str) -> dict[str, Any]:
        from attacks.jsonform import document
        from evaluator.search_store import replay_command

        file = None if store is None else store.file_of(one)
        again = None
        if file is not None and is_replayable(one.program):
            again = replay_command(file, family, request.candidate, request.reading)
        return {
            **plain(one),
            "program": document(one.program),
            "file": None if file is None else str(file),
            "replay": again,
        }

    return {
        "schema": SCHEMA,
        "candidate": {
            "name": candidate.name,
            "source": candidate.source,
            "runtime_model": candidate.runtime_model,
        },
        "basis": basis(candidate, request.posture, limits),
        "not_led_by": list(dict.fromkeys(one.kind for one in candidate.beside_filters)),
        "budget": {"seconds": limits.seconds, "programs": limits.programs},
        "named": bool(request.families),
        "not_begun": [one.label for one in families[len(found) :]],
        "families": [
            {
                **plain(one),
                "evidence": one.evidence,
                "finds": [find_document(find, one.family) for find in one.finds],
            }
            for one in found
        ],
    }


def _show(request: _Request, document: dict[str, Any]) -> None:
    if request.as_json or request.form == "json":
        say(json.dumps(document))
        return
    from evaluator.table_search import show_search

    with page() as console:
        show_search(console, document)
