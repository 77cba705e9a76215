"""The exceptions of the harness, and the exit code that each one ends the command with.

    SidestepError                1
      InputError                 2   some input is wrong: a profile, an option, a results file
      EnvironmentLackError       3   this machine cannot do it
      HarnessError               4   we broke, or two views of one thing disagreed

The outcome of a trial is a value and never one of these.  The three leaf packages may not import
this one, so they raise ``ProfileError``, ``AttackError`` and ``ReportError``; ``border`` turns
these into an ``InputError`` where they enter.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


class SidestepError(Exception):
    """One line: what is wrong, where, and what to do."""

    exit_code = 1


class InputError(SidestepError):
    """Some input is wrong."""

    exit_code = 2


class EnvironmentLackError(SidestepError):
    """This machine cannot do what was asked."""

    exit_code = 3


class HarnessError(SidestepError):
    """We broke; nothing is known about the candidate."""

    exit_code = 4


INTERRUPTED = 130
TERMINATED = 143
HUNG_UP = 129


class TerminatedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP: what Ctrl-C does, with another exit code."""

    exit_code = TERMINATED


class HungUpError(TerminatedError):
    """SIGHUP: the terminal went away."""

    exit_code = HUNG_UP


def code_of(interruption: KeyboardInterrupt) -> int:
    """What a command exits with that was interrupted."""
    return interruption.exit_code if isinstance(interruption, TerminatedError) else INTERRUPTED


@contextmanager
def border() -> Generator[None]:
    """Lets the errors of the leaf packages out as ``InputError``."""
    from attacks.errors import AttackError  # here, so that `--help` is quick
    from mitigations.candidate import ProfileError
    from reports.errors import ReportError

    try:
        yield
    except (ProfileError, AttackError, ReportError) as error:
        raise InputError(str(error)) from error
