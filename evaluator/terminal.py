"""Text on the terminal: pages on stdout, complaints and the progress bar on stderr."""

from __future__ import annotations

import io
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import click

from evaluator.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from evaluator.plan import Progress

_USUAL_WIDTH = 80
WIDEST = 100
_REFRESH_S = 0.1
_LONGEST = 400


def printable(text: str) -> str:
    """Text from outside without anything that a terminal obeys or that hides other text."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return "".join(
        character if unicodedata.category(character)[0] not in "CZ" or character == " "
        else f"\\u{{{ord(character):x}}}"
        for character in text
    )  # fmt: skip


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    line = " ".join(message.split())
    try:
        click.echo(f"sidestep: {printable(line)}", err=True)
    except OSError:  # nobody can be told, but the exit code still tells
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def say(text: str) -> None:
    """Text to stdout; a reader that went away is no error, and changes no exit code."""
    say_pieces([text])


def say_pieces(pieces: Iterable[str]) -> None:
    """The same for a text that comes in pieces."""
    try:
        _whole_stdout()
        for piece in pieces:
            click.echo(piece, nl=False)
        click.echo()
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()
    except OSError as error:
        discard_stdout()
        raise InputError(f"cannot write to stdout: {error.strerror}") from None


def _whole_stdout() -> None:
    """With PYTHONUNBUFFERED a short write, of a disk that is full, would be lost unsaid."""
    stream = sys.stdout
    if stream is not sys.__stdout__ or not isinstance(stream, io.TextIOWrapper):
        return  # whoever put another one there keeps it
    raw: object = sys.stdout.buffer
    if not isinstance(raw, io.FileIO):
        return
    encoding, errors = stream.encoding, stream.errors
    stream.detach()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=True
    )


def fill_descriptors() -> None:
    """Closed standard descriptors lead nowhere, so that no other file gets their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number: this one.  What is written to stdout must not vanish unsaid.
            opened = os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        discard_stdout()


def discard_stdout() -> None:
    # The interpreter flushes stdout once more at exit and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def page(*, stderr: bool = False) -> Generator[Console]:
    """A console whose text goes to stdout at the end, without spaces at the ends of lines.

    With ``stderr`` it goes there, because stdout is for something else.
    """
    from rich.console import Console

    terminal = Console(stderr=stderr)
    # A file of its own: rich flushes stdout where we could not catch that it is full.
    text = io.TextIOWrapper(io.BytesIO(), encoding=terminal.encoding)
    console = Console(
        file=text,
        width=min(terminal.width, WIDEST) or _USUAL_WIDTH,
        force_terminal=terminal.is_terminal,
        color_system=_color_system(terminal),
        no_color=terminal.no_color,
        highlight=False,
    )
    yield console
    text.flush()
    text.seek(0)
    shown = "\n".join(line.rstrip() for line in text)
    if stderr:
        click.echo(shown, err=True)
    else:
        say(shown)


def _color_system(terminal: Console) -> Literal["standard", "256", "truecolor"] | None:
    match terminal.color_system:
        case "standard" | "256" | "truecolor" as system:
            return system
        case _:
            return None


@contextmanager
def progress_bar() -> Generator[Callable[[Progress], None]]:
    """Live on stderr if that is a terminal, and gone at the end."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_dumb_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    # Without a thread of its own: the campaign forks.
    with Bar(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("starting", total=None)
        shown_at = 0.0

        def advance(progress: Progress) -> None:
            nonlocal shown_at
            now = time.monotonic()
            if now - shown_at < _REFRESH_S and progress.done < progress.total:
                return
            shown_at = now
            name = printable(progress.candidate)
            bar.update(task, description=name, completed=progress.done, total=progress.total)
            bar.refresh()

        yield advance
