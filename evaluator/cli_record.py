"""The command ``sidestep record``: runs a program and writes the profile that it needs."""

from __future__ import annotations

import json
import math
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from msgspec import Struct

from evaluator import completion as offer
from evaluator.errors import InputError, border, code_of
from evaluator.options import RUNTIME_MODELS, debug_option, format_option
from evaluator.terminal import complain, page, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from rich.console import Console

    from evaluator.pool import Pool
    from evaluator.read_recording import Form
    from evaluator.recorded_profile import Made
    from evaluator.recording import Recording
    from evaluator.records import WorkloadRecord
    from evaluator.verified_recording import Verified
    from evaluator.workloads import Workload

_FORMS = ("auto", "audit", "strace", "spo")
_NO_RUNTIME = "none"
_STANCE = "container"
_RUNS_OF_A_WORKLOAD = 3
_BROKEN = 1


class _Request(Struct, frozen=True, kw_only=True):
    """The options, still as the user wrote them."""

    command: tuple[str, ...]
    workloads: tuple[str, ...]
    runs: int | None
    timeout: float
    files: tuple[str, ...]
    form_of_files: Form
    arguments: bool
    runtime_needs: str
    verify: bool
    evaluate: bool
    output: str | None
    form: str
    as_json: bool

    @property
    def prints_json(self) -> bool:
        return self.as_json or self.form == "json"

    @property
    def model(self) -> str:
        """Whose filter the profile is compiled to."""
        return RUNTIME_MODELS[0] if self.runtime_needs == _NO_RUNTIME else self.runtime_needs


class _Document(Struct, frozen=True):
    """What ``--json`` prints."""

    recording: Recording
    profile: dict[str, Any]
    notes: tuple[str, ...]
    verified: Verified | None = None
    """Of a command."""
    recordings: tuple[Recording, ...] = ()
    """Of workloads, one by one."""
    workloads: tuple[WorkloadRecord, ...] = ()
    """Under the profile."""

    @property
    def works(self) -> bool:
        """As far as somebody looked."""
        return all(one.works for one in (self.verified, *self.workloads) if one is not None)


class _Seen(Struct, frozen=True):
    """What was recorded, in order."""

    recordings: tuple[Recording, ...]
    notes: tuple[str, ...] = ()
    stopped: int = 0
    """The exit code if somebody stopped it."""


@click.command()
@click.argument("command", nargs=-1, type=click.UNPROCESSED, shell_complete=offer.files)
@click.option(
    "--workload",
    "workloads",
    metavar="NAME|FILE|all",
    multiple=True,
    shell_complete=offer.workloads,
    help="Record this in the sandbox instead of COMMAND; repeatable, with one profile for all.",
)
@click.option(
    "--runs",
    type=click.IntRange(1, 1000),
    help=f"Record so many runs and merge them; 1, and {_RUNS_OF_A_WORKLOAD} of a workload.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0.01, 86400),
    default=60.0,
    show_default=True,
    help="For one run; then COMMAND gets SIGTERM, and after a second SIGKILL.",
)
@click.option(
    "--read",
    "files",
    metavar="FILE",
    multiple=True,
    shell_complete=offer.files,
    help="Take what somebody else recorded, too, or instead; repeatable.",
)
@click.option(
    "--from",
    "form_of_files",
    type=click.Choice(_FORMS),
    default=_FORMS[0],
    show_default=True,
    help="What the files are: an audit log, output of strace -f, or a profile or log of the "
    "Security Profiles Operator.",
)
@click.option(
    "--arguments",
    is_flag=True,
    help="Allow commands and options (ioctl, fcntl, prctl, ...) only as they were seen.",
)
@click.option(
    "--runtime-needs",
    type=click.Choice((*RUNTIME_MODELS, _NO_RUNTIME)),
    default=RUNTIME_MODELS[0],
    show_default=True,
    help="Allow what this runtime calls before it starts the program; none: a minimal profile.",
)
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="Run COMMAND or the workloads once more, under the profile.",
)
@click.option("--evaluate", is_flag=True, help="Then evaluate the profile; needs -o.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    shell_complete=offer.files,
    help="Write the profile there instead of stdout.",
)
@format_option
@debug_option
@click.pass_context
def record(context: click.Context, /, **options: Any) -> None:
    """Run a program, collect every call of all its processes, and write the profile it needs.

    Write COMMAND behind --, to keep its options its own. It runs as it would without us, outside
    any sandbox; what it prints goes to stderr. It reads stdin if that is a file. A workload runs in
    the sandbox, a service with its customer (see sidestep workloads).

    Exit codes: 0 done, 1 the program does not work under the profile, 2 wrong input (a command that
    is missing), 3 this kernel cannot record, 130 interrupted: what was seen until then is printed.
    """
    request = _Request(**options)
    if request.workloads and context.get_parameter_source("timeout") != ParameterSource.DEFAULT:
        raise InputError("--timeout is for COMMAND: a workload has a deadline of its own")
    with border():
        code = _record(request)
    if request.evaluate and not code:
        _evaluate(context, request)
    context.exit(code)


def _record(request: _Request) -> int:
    _check(request)
    if not request.workloads:
        seen = _seen(request)
        return _publish(request, seen, lambda made: _verified(request, seen, made))
    from evaluator.pool import Pool
    from evaluator.workloads import chosen

    wanted = chosen(request.workloads)
    with Pool(len(os.sched_getaffinity(0))) as pool:
        able, notes = _able(pool, wanted, request)
        seen = _seen(request, pool, able, notes)
        return _publish(request, seen, lambda made: _verified_workloads(request, pool, able, made))


def _publish(request: _Request, seen: _Seen, verify: Callable[[Made], dict[str, Any]]) -> int:
    """Writes the profile, verifies it, prints what there is; the exit code."""
    from evaluator.recorded_profile import document, profile_of
    from evaluator.recording import merge

    stopped = seen.stopped
    if not seen.recordings:
        return stopped
    merged = merge(seen.recordings)
    made = profile_of(merged, runtime=request.runtime_needs, arguments=request.arguments)
    profile = document(made.profile)
    if request.output is not None:
        _write(Path(request.output), profile)
    verified: dict[str, Any] = {}
    if not stopped and request.verify:
        try:
            verified = verify(made)
        except KeyboardInterrupt as error:
            stopped = _code_of(error)
    found = _Document(
        merged, profile, (*seen.notes, *made.notes), recordings=_by_workload(seen), **verified
    )
    _print(request, found)
    return stopped or (0 if found.works else _BROKEN)


def _by_workload(seen: _Seen) -> tuple[Recording, ...]:
    from evaluator.recording import merge

    names = dict.fromkeys(one.workload for one in seen.recordings if one.workload)
    return tuple(merge([one for one in seen.recordings if one.workload == name]) for name in names)


def _check(request: _Request) -> None:
    """Finds out before the run what would fail after it."""
    if not request.command and not request.files and not request.workloads:
        raise InputError(
            "nothing to record: sidestep record -- COMMAND, --workload NAME, or --read FILE"
        )
    if request.command and request.workloads:
        raise InputError("COMMAND or --workload: record one, and then the other")
    if math.isnan(request.timeout):
        raise InputError("--timeout: nan is no number of seconds")
    if request.evaluate and (request.output is None or request.prints_json):
        raise InputError(
            "--evaluate prints a table of its own: say with -o where the profile goes, and leave "
            "--json to sidestep evaluate"
        )
    if request.output is None:
        return
    path = Path(request.output)
    try:
        if not request.output or request.output.endswith("/") or path.is_dir():
            raise InputError(f"--output: {request.output or 'an empty path'} is no file")
        if not path.absolute().parent.is_dir():
            raise InputError(f"--output: {path.parent} is not a directory")
        if any(
            path.exists() and Path(one).exists() and path.samefile(one) for one in request.files
        ):
            raise InputError(f"--output: {path} would overwrite an input")
    except OSError as error:
        raise InputError(f"--output: {path}: {error.strerror}") from None


def _able(
    pool: Pool, wanted: Sequence[Workload], request: _Request
) -> tuple[list[Workload], tuple[str, ...]]:
    """Those that can run here; of ``all`` it is said which others were left out."""
    from evaluator.workload_run import lacking

    reasons = {one.name: reason for one in wanted if (reason := lacking(pool, one))}
    if reasons and ("all" not in request.workloads or len(reasons) == len(wanted)):
        name, reason = next(iter(reasons.items()))
        raise InputError(f"workload {name} cannot run here: {reason}")
    notes = tuple(f"not recorded: {name}: {reason}" for name, reason in reasons.items())
    return [one for one in wanted if one.name not in reasons], notes


def _seen(
    request: _Request,
    pool: Pool | None = None,
    wanted: Sequence[Workload] = (),
    notes: tuple[str, ...] = (),
) -> _Seen:
    """All recordings: what others made, then the runs of the command or of the workloads."""
    from evaluator.read_recording import read
    from evaluator.record import InterruptedRecordingError
    from evaluator.record import record as record_command

    found = [read(path, request.form_of_files) for path in request.files]
    try:
        for _ in range((request.runs or 1) if request.command else 0):
            # One by one: what came before an interruption is kept.
            found.append(record_command(request.command, request.timeout))  # noqa: PERF401
        if pool is not None:
            _record_workloads(request, pool, wanted, found)
    except InterruptedRecordingError as error:
        return _Seen((*found, error.found), notes, _code_of(error.cause))
    except KeyboardInterrupt as error:
        return _Seen(tuple(found), notes, _code_of(error, kept=bool(found)))
    return _Seen(tuple(found), notes)


def _record_workloads(
    request: _Request, pool: Pool, wanted: Sequence[Workload], found: list[Recording]
) -> None:
    from evaluator.recorded_workloads import record_once

    runs = request.runs or _RUNS_OF_A_WORKLOAD
    with _counting("recording", runs * len(wanted)) as on_done:
        for _ in range(runs):
            found += record_once(pool, wanted, _STANCE, on_done)


@contextmanager
def _counting(what: str, total: int) -> Generator[Callable[[int], None]]:
    """A bar that hears how many more are done."""
    from evaluator.plan import Progress

    done = 0
    with progress_bar() as on_progress:

        def on_done(more: int) -> None:
            nonlocal done
            done += more
            on_progress(Progress(what, done, total))

        yield on_done


def _code_of(interruption: KeyboardInterrupt, *, kept: bool = True) -> int:
    complain(
        f"interrupted: {'what was seen until now is kept' if kept else 'nothing was seen yet'}"
    )
    return code_of(interruption)


def _verified(request: _Request, seen: _Seen, made: Made) -> dict[str, Any]:
    if not request.command:
        return {}
    from evaluator.verified_recording import verify

    end = seen.recordings[-1].ends[-1]
    verified = verify(request.command, made.profile, request.model, end, request.timeout)
    return {"verified": verified}


def _verified_workloads(
    request: _Request, pool: Pool, wanted: Sequence[Workload], made: Made
) -> dict[str, Any]:
    from evaluator.recorded_workloads import verify

    with _counting("verifying", len(wanted)) as on_done:
        return {"workloads": verify(pool, wanted, made.profile, request.model, _STANCE, on_done)}


def _write(path: Path, profile: dict[str, Any]) -> None:
    try:
        path.write_text(_text(profile) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror}") from None


def _text(profile: dict[str, Any]) -> str:
    return json.dumps(profile, indent=2)


def _print(request: _Request, found: _Document) -> None:
    """The profile on stdout leaves the table to stderr, so that the profile can be piped."""
    from evaluator.records import plain

    if request.prints_json:
        say(json.dumps(plain(found)))
        return
    with page(stderr=request.output is None) as console:
        _show(console, found)
        if request.output is not None:
            console.print(f"written to {request.output}", markup=False, soft_wrap=True)
    if request.output is None:
        say(_text(found.profile))


def _show(console: Console, found: _Document) -> None:
    from evaluator import table_record

    table_record.show(console, found.recording, found.recordings)
    for note in found.notes:
        table_record.show_note(console, note)
    if found.verified is not None:
        table_record.show_verified(console, found.verified)
    if found.workloads:
        table_record.show_workloads(console, found.workloads)


def _evaluate(context: click.Context, request: _Request) -> None:
    """What ``sidestep evaluate`` would do with the file, given nothing but its path."""
    group = context.find_root().command
    assert isinstance(group, click.Group)
    evaluate = group.get_command(context, "evaluate")
    assert evaluate is not None
    context.invoke(evaluate, paths=(request.output,), runtime_model=request.model)
