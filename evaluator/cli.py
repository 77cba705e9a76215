"""The command ``sidestep``: its signals, its errors and their exit codes.

Heavy modules are imported where they are used, so that ``sidestep --help`` answers at once.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from evaluator.cli_attacks import attacks
from evaluator.cli_attainable import attainable
from evaluator.cli_check import check
from evaluator.cli_completion import completion
from evaluator.cli_diff import diff
from evaluator.cli_doctor import doctor
from evaluator.cli_evaluate import evaluate
from evaluator.cli_explain import explain
from evaluator.cli_export import export
from evaluator.cli_generate import generate
from evaluator.cli_harden import harden
from evaluator.cli_objectives import objectives
from evaluator.cli_record import record
from evaluator.cli_report import report
from evaluator.cli_scenarios import scenarios
from evaluator.cli_score import score
from evaluator.cli_search import search
from evaluator.cli_workloads import workloads
from evaluator.errors import HungUpError, InputError, SidestepError, TerminatedError, code_of
from evaluator.options import Invocation, debug_option, own_version
from evaluator.terminal import complain, discard_stdout, fill_descriptors, flush, say

if TYPE_CHECKING:
    from types import FrameType

HARNESS_FAILED = 4
_NO_MYSTERY = (click.exceptions.Exit, click.ClickException)
"""What needs no traceback, even if somebody asked for one."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit; every failure is one line on stderr."""
    fill_descriptors()
    invocation = Invocation()
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _on_interrupt)
        signal.signal(signal.SIGTERM, _on_signal)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
            signal.signal(signal.SIGHUP, _on_signal)
        code = cli.main(
            None if arguments is None else list(arguments),
            prog_name="sidestep",
            standalone_mode=False,
            obj=invocation,
        )
    except BaseException as error:
        if invocation.debug and not isinstance(error, _NO_MYSTERY):
            raise
        code = _explain(error, sys.argv[1:] if arguments is None else arguments)
    flush()
    # Whoever calls us with arguments has a process of its own to end.
    own = arguments is None
    if own and any(one.name == "libseccomp" for one in threading.enumerate()):
        os._exit(code or 0)  # nothing can interrupt libseccomp, and it must keep what it works on
    sys.exit(code or 0)


def _explain(error: BaseException, arguments: Sequence[str]) -> int:
    """The exit code of an exception, after its line on stderr."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case SystemExit():
            return error.code if isinstance(error.code, int) else 0
        case TerminatedError():
            return error.exit_code
        case click.Abort() if isinstance(error.__cause__, TerminatedError):
            return error.__cause__.exit_code  # click's word for any interruption
        case KeyboardInterrupt() | click.Abort():
            complain("interrupted")
            return code_of(KeyboardInterrupt())
        case SidestepError():
            complain(str(error))
            return error.exit_code
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message(), err=True)
            return InputError.exit_code
        case click.ClickException():
            complain(error.format_message())
            return InputError.exit_code
        case BrokenPipeError():
            discard_stdout()
            return 0
        case OSError(errno=errno.ENOSPC | errno.EBADF, filename=None):
            discard_stdout()
            complain(f"cannot write to stdout: {error.strerror}")
            return InputError.exit_code
        case OSError(filename=str() as path) if is_named(path, arguments):
            complain(f"{path}: {error.strerror}")
            return InputError.exit_code
        case _:
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            complain(f"internal error: {what} (--debug shows where)")
            return HARNESS_FAILED


def is_named(path: str, arguments: Sequence[str]) -> bool:
    """Whether the user named a path, or a directory that it is in: no other is the user's fault."""
    words = {word for one in arguments for word in (one, one.partition("=")[2])}
    places = words | {word.partition("#")[0] for word in words}
    named = {os.path.normpath(one) for one in places if one}
    place = Path(os.path.normpath(path))
    return any(str(one) in named for one in (place, *place.parents))


def _on_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Once: what is cleaned up then is bounded, and must not be interrupted in turn."""
    del frame
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _on_signal(number: int, frame: FrameType | None) -> None:
    del frame
    raise HungUpError if number == signal.SIGHUP else TerminatedError


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        say(f"sidestep {own_version()}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Print the version and exit.",
)
@debug_option
def cli() -> None:
    """Find what still gets past a mitigation, and what it breaks.

    Every known way to cause an effect runs once without the mitigation and once with it, and the
    effect is looked for from outside.

    Exit codes: 0 done, 1 a gate failed, 2 some input is wrong, 3 this machine cannot do it, 4 the
    harness failed or two views disagreed, 130 interrupted.
    """


cli.add_command(attacks)
cli.add_command(check)
cli.add_command(completion)
cli.add_command(diff)
cli.add_command(doctor)
cli.add_command(evaluate)
cli.add_command(explain)
cli.add_command(export)
cli.add_command(generate)
cli.add_command(harden)
cli.add_command(objectives)
cli.add_command(record)
cli.add_command(report)
cli.add_command(scenarios)
cli.add_command(score)
cli.add_command(search)
cli.add_command(workloads)
attacks.add_command(attainable)
