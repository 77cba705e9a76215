"""The commands ``sidestep workloads``: the honest programs, alone and under a candidate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from evaluator import completion as offer
from evaluator.errors import border
from evaluator.options import debug_option, format_option, posture_option, reading_options
from evaluator.terminal import page, progress_bar, say

if TYPE_CHECKING:
    from evaluator.records import WorkloadRecord
    from evaluator.workloads import Workload
    from mitigations.candidate import Candidate
    from mitigations.load import Meaning


@click.group()
def workloads() -> None:
    """The honest programs that must keep working."""


@workloads.command("list")
@format_option
@debug_option
def list_(form: str, as_json: bool) -> None:
    """All workloads that ship with the tool, and whether they can run here."""
    from evaluator.records import plain
    from evaluator.table_workloads import show_list
    from evaluator.workloads import builtin

    with border():
        found = builtin()
    if as_json or form == "json":
        say(json.dumps({"workloads": plain(found)}))
        return
    with page() as console:
        show_list(console, found)


@workloads.command()
@click.argument("workload", shell_complete=offer.workloads)
@format_option
@debug_option
def show(workload: str, form: str, as_json: bool) -> None:
    """What a workload is: its command, its files, and how it is known to work.

    WORKLOAD is a name of `sidestep workloads list`, or a TOML file.
    """
    from evaluator import workloads as known
    from evaluator.records import plain
    from evaluator.table_workloads import show_one

    with border():
        found = known.workload(workload)
    if as_json or form == "json":
        say(json.dumps(plain(found)))
        return
    with page() as console:
        show_one(console, found)


@workloads.command()
@click.argument("names", metavar="[WORKLOAD]...", nargs=-1, shell_complete=offer.workloads)
@posture_option
@format_option
@debug_option
@click.pass_context
def check(
    context: click.Context, names: tuple[str, ...], posture: str, form: str, as_json: bool
) -> None:
    """Run workloads without any mitigation: all that ship with the tool, or those named.

    Exit code 1 if one that is installed does not work.
    """
    from evaluator.workloads import chosen

    with border():
        wanted = chosen(names or ["all"])
        records = _ran(wanted, None, posture)
    _show(records, as_json=as_json or form == "json")
    missing = {one.name for one in wanted if one.missing()}
    faulty = any(not one.works and one.workload not in missing for one in records)
    context.exit(1 if faulty else 0)


@workloads.command()
@click.argument(
    "names", metavar="WORKLOAD...", nargs=-1, required=True, shell_complete=offer.workloads
)
@click.option(
    "--under",
    metavar="CANDIDATE",
    required=True,
    shell_complete=offer.files,
    help="The profile that they must work under.",
)
@posture_option
@reading_options
@format_option
@debug_option
@click.pass_context
def run(
    context: click.Context,
    names: tuple[str, ...],
    under: str,
    posture: str,
    meaning: Meaning,
    runtime_model: str,
    form: str,
    as_json: bool,
) -> None:
    """Run workloads with and without a candidate, and name the calls that it must not deny them.

    WORKLOAD is a name, a TOML file, or `all`. Exit code 1 if one is broken or unstable.
    """
    from evaluator.records import WorkloadOutcome
    from evaluator.request import candidate_of
    from evaluator.workloads import chosen

    with border():
        wanted = chosen(names)
        candidate = candidate_of(
            under, meaning=meaning, runtime_model=runtime_model, stance=posture
        )
        records = _ran(wanted, candidate, posture)
    _show(records, as_json=as_json or form == "json")
    bad = (WorkloadOutcome.BROKEN, WorkloadOutcome.UNSTABLE)
    context.exit(1 if any(one.outcome in bad for one in records) else 0)


def _ran(
    wanted: Sequence[Workload], candidate: Candidate | None, stance: str
) -> tuple[WorkloadRecord, ...]:
    from evaluator.plan import Progress
    from evaluator.workload_run import in_sandbox

    done = 0
    name = candidate.name if candidate else "workloads"
    with progress_bar() as on_progress:

        def on_done(more: int) -> None:
            nonlocal done
            done += more
            on_progress(Progress(name, done, len(wanted)))

        return in_sandbox(wanted, candidate, stance, on_done)


def _show(records: Sequence[WorkloadRecord], *, as_json: bool) -> None:
    from evaluator.records import plain
    from evaluator.table_workloads import show_records

    if as_json:
        say(json.dumps({"workloads": plain(records)}))
        return
    with page() as console:
        show_records(console, records)
