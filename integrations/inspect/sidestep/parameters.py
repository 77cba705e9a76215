"""What is wrong with a parameter, in one line for whoever typed ``inspect eval``."""

from __future__ import annotations

from collections.abc import Iterable

import click

from evaluator.errors import EnvironmentLackError, InputError


class RefusedError(click.ClickException):
    """Inspect ends with it as ``sidestep`` does with wrong input."""

    exit_code = InputError.exit_code


class UnableError(click.ClickException):
    """This machine cannot do it."""

    exit_code = EnvironmentLackError.exit_code


def one_of(name: str, value: str, known: Iterable[str]) -> None:
    """``RefusedError`` if the value is none of those."""
    names = list(known)
    if value not in names:
        raise RefusedError(f"{name}: {value!r} is none of {', '.join(names)}")


def one_or_more(name: str, value: object) -> None:
    """``RefusedError`` if the value is no number from 1 on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RefusedError(f"{name}: {value!r} is no number from 1 on")
