"""The command ``sidestep record``: runs a program and writes the profile that it needs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from evaluator.errors import InputError, border
from evaluator.options import RUNTIME_MODELS, debug_option, format_option
from evaluator.terminal import complain, page, say

if TYPE_CHECKING:
    from rich.console import Console

    from evaluator.read_recording import Form
    from evaluator.recorded_profile import Made
    from evaluator.recording import Recording
    from evaluator.verified_recording import Verified

_FORMS = ("auto", "audit", "strace", "spo")
_NO_RUNTIME = "none"
_BROKEN = 1
_INTERRUPTED = 130


class _Request(Struct, frozen=True, kw_only=True):
    """The options, still as the user wrote them."""

    command: tuple[str, ...]
    runs: int
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
    verified: Verified | None


@click.command()
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--runs",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Run COMMAND so often and merge what was seen.",
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
    help="Run COMMAND once more, under the profile.",
)
@click.option("--evaluate", is_flag=True, help="Then evaluate the profile; needs -o.")
@click.option("-o", "--output", metavar="FILE", help="Write the profile there instead of stdout.")
@format_option
@debug_option
@click.pass_context
def record(context: click.Context, /, **options: Any) -> None:
    """Run a program, collect every call of all its processes, and write the profile it needs.

    Write COMMAND behind --, to keep its options its own. It runs as it would without us, outside
    any sandbox; what it prints goes to stderr. It reads stdin if that is a file.

    Exit codes: 0 done, 1 the program does not work under the profile, 2 wrong input (a command that
    is missing), 3 this kernel cannot record, 130 interrupted: what was seen until then is printed.
    """
    request = _Request(**options)
    with border():
        code = _record(request)
    if request.evaluate and not code:
        _evaluate(context, request)
    context.exit(code)


def _record(request: _Request) -> int:
    from evaluator.recorded_profile import document, profile_of
    from evaluator.recording import merge

    _check(request)
    found, stopped = _recordings(request)
    if not found:
        return stopped
    merged = merge(found)
    made = profile_of(merged, runtime=request.runtime_needs, arguments=request.arguments)
    profile = document(made.profile)
    if request.output is not None:
        _write(Path(request.output), profile)
    verified = None
    if not stopped:
        try:
            verified = _verified(request, merged, made)
        except KeyboardInterrupt as error:
            stopped = _code_of(error)
    _publish(request, _Document(merged, profile, made.notes, verified))
    return stopped or (_BROKEN if verified and not verified.works else 0)


def _check(request: _Request) -> None:
    """Finds out before the run what would fail after it."""
    if not request.command and not request.files:
        raise InputError("nothing to record: sidestep record -- COMMAND, or --read FILE")
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
        if not request.output or path.is_dir():
            raise InputError(f"--output: {request.output or 'an empty path'} is no file")
        if not path.absolute().parent.is_dir():
            raise InputError(f"--output: {path.parent} is not a directory")
        if any(
            path.exists() and Path(one).exists() and path.samefile(one) for one in request.files
        ):
            raise InputError(f"--output: {path} would overwrite an input")
    except OSError as error:
        raise InputError(f"--output: {path}: {error.strerror}") from None


def _recordings(request: _Request) -> tuple[list[Recording], int]:
    """All recordings, and the exit code if somebody stopped it."""
    from evaluator.read_recording import read
    from evaluator.record import InterruptedRecordingError
    from evaluator.record import record as record_once

    found = [read(path, request.form_of_files) for path in request.files]
    try:
        for _ in range(request.runs if request.command else 0):
            # One by one: what came before an interruption is kept.
            found.append(record_once(request.command, request.timeout))  # noqa: PERF401
    except InterruptedRecordingError as error:
        return [*found, error.found], _code_of(error.cause)
    return found, 0


def _code_of(interruption: KeyboardInterrupt) -> int:
    complain("interrupted: what was seen until now is kept")
    code: int = getattr(interruption, "exit_code", _INTERRUPTED)  # SIGTERM and SIGHUP have theirs
    return code


def _verified(request: _Request, found: Recording, made: Made) -> Verified | None:
    if not request.verify or not request.command:
        return None
    from evaluator.verified_recording import verify

    return verify(request.command, made.profile, request.model, found.ends[-1], request.timeout)


def _write(path: Path, profile: dict[str, Any]) -> None:
    try:
        path.write_text(_text(profile) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror}") from None


def _text(profile: dict[str, Any]) -> str:
    return json.dumps(profile, indent=2)


def _publish(request: _Request, found: _Document) -> None:
    """The profile on stdout leaves the table to stderr, so that the profile can be piped."""
    from evaluator.records import plain

    if request.prints_json:
        say(json.dumps(plain(found)))
        return
    with page(stderr=request.output is None) as console:
        _show(console, found)
        if request.output is not None:
            console.print(f"written to {request.output}", markup=False)
    if request.output is None:
        say(_text(found.profile))


def _show(console: Console, found: _Document) -> None:
    from evaluator import table_record

    table_record.show(console, found.recording)
    for note in found.notes:
        table_record.show_note(console, note)
    if found.verified is not None:
        table_record.show_verified(console, found.verified)


def _evaluate(context: click.Context, request: _Request) -> None:
    """What ``sidestep evaluate`` would do with the file, given nothing but its path."""
    group = context.find_root().command
    assert isinstance(group, click.Group)
    evaluate = group.get_command(context, "evaluate")
    assert evaluate is not None
    context.invoke(evaluate, paths=(request.output,), runtime_model=request.model)
