"""``sidestep doctor``: what this machine can enforce and test, and why not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from evaluator import completion as offer
from evaluator.errors import InputError, border
from evaluator.options import debug_option, format_option, posture_option, reading_options
from evaluator.terminal import page, say

if TYPE_CHECKING:
    from mitigations.load import Meaning


@click.command()
@click.option(
    "--self-filter",
    metavar="CANDIDATE",
    shell_complete=offer.files,
    help="Can a program that filters itself, as Elasticsearch does, start under this profile? "
    "Exit with 1 if not.",
)
@reading_options
@posture_option
@format_option
@debug_option
@click.pass_context
def doctor(
    context: click.Context,
    self_filter: str | None,
    meaning: Meaning,
    runtime_model: str,
    posture: str,
    form: str,
    as_json: bool,
) -> None:
    """What this machine can enforce and test, and why not.

    With --self-filter: the start-up check of a program that puts a filter on itself, step by step,
    under a candidate and without it; what stops it, what is not the cause, and what repairs it.
    """
    prints_json = as_json or form == "json"
    if self_filter is not None:
        context.exit(_self_filter(self_filter, meaning, runtime_model, posture, prints_json))
    for name in ("meaning", "runtime_model", "posture"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = {"meaning": "--from"}.get(name, f"--{name.replace('_', '-')}")
            raise InputError(f"{option} says something about a candidate: add --self-filter")
    from evaluator.doctor import probe, runtime_probes, vm_probe
    from evaluator.records import plain
    from evaluator.table import show_probes

    probes = [*probe(), *runtime_probes(), vm_probe()]
    if prints_json:
        say(json.dumps({"probes": plain(probes)}))
        return
    with page() as console:
        show_probes(console, probes)


def _self_filter(
    path: str, meaning: Meaning, runtime_model: str, stance: str, prints_json: bool
) -> int:
    from evaluator.pool import Pool
    from evaluator.posture import posture
    from evaluator.records import plain
    from evaluator.request import candidate_of, filters_alone
    from evaluator.self_filter_doctor import examine
    from evaluator.table_self_filter import show

    with border():
        candidate = candidate_of(path, meaning=meaning, runtime_model=runtime_model, stance=stance)
        filters_alone(candidate, "--self-filter")
    with Pool(1) as pool:
        found = examine(pool, candidate, posture(candidate.posture or stance))
    if prints_json:
        say(json.dumps({"self_filter": plain(found)}))
    else:
        with page() as console:
            show(console, found)
    return 0 if found.works else 1
