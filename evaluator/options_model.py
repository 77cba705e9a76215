"""Options of commands that ask a language model, and what they make of them."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec import Struct

from evaluator import completion as offer
from evaluator.errors import InputError
from evaluator.terminal import complain

if TYPE_CHECKING:
    from mitigations.generate.client import Asker
    from mitigations.generate.prices import Prices
    from mitigations.generate.reply import Reply

EFFORTS = ("low", "medium", "high", "xhigh", "max")
_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")
_SIGNALLED = 128


class ModelRequest(Struct, frozen=True, kw_only=True):
    """The options, still as the user wrote them."""

    store: str | None
    replay: bool
    at_once: int
    max_cost: float | None
    prices: str | None
    max_tokens: int
    effort: str | None


def model_options(command: _F) -> _F:
    """What every command that asks a model takes: fields of ``ModelRequest``."""
    options = (
        click.option(
            "--store",
            metavar="DIR",
            shell_complete=offer.files,
            help="Where answers are kept, by what was asked: nothing is asked twice.",
        ),
        click.option(
            "--replay", is_flag=True, help="Only what is stored; the network is never touched."
        ),
        click.option(
            "--at-once",
            metavar="N",
            type=click.IntRange(1, 256),
            default=8,
            show_default=True,
            help="Requests on their way at one time.",
        ),
        click.option(
            "--max-cost",
            metavar="DOLLARS",
            type=click.FloatRange(min=0, min_open=True),
            help="Send nothing more once this run has cost so much.",
        ),
        click.option(
            "--prices",
            metavar="FILE",
            shell_complete=offer.files,
            help="A list of prices in place of the dated one that ships with the tool.",
        ),
        click.option(
            "--max-tokens",
            metavar="N",
            type=click.IntRange(256, 20_000),
            default=16_000,
            show_default=True,
            help="Of one answer, thinking included.",
        ),
        click.option("--effort", type=click.Choice(EFFORTS), help="By default the model's own."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def priced(request: ModelRequest, models: tuple[str, ...]) -> Prices:
    """The prices; ``InputError`` if a budget was given that nobody could keep."""
    from mitigations.generate.prices import SHIPPED, load_prices

    if request.max_cost is not None and not math.isfinite(request.max_cost):
        raise InputError(f"--max-cost: {request.max_cost} is no number of dollars")
    if odd := [name for name in models if not (name.isascii() and name.isprintable() and name)]:
        raise InputError(f"--model: {odd[0]!a} is no name of a model")
    prices = load_prices(Path(request.prices) if request.prices is not None else SHIPPED)
    unknown = [name for name in models if not prices.knows(name)]
    if request.max_cost is not None and unknown:
        raise InputError(f"--max-cost: no price is known of {', '.join(unknown)}: give --prices")
    return prices


def asker(
    request: ModelRequest,
    directory: Path,
    prices: Prices,
    on_reply: Callable[[Reply], None] = lambda _: None,
) -> Asker:
    """What asks, with its answers in ``directory`` unless ``--store`` names another one."""
    from mitigations.generate.client import Asker
    from mitigations.generate.store import Store

    if request.store == "":
        raise InputError("--store: an empty path")
    return Asker(
        Store(Path(request.store) if request.store is not None else directory),
        prices,
        at_once=request.at_once,
        replay=request.replay,
        max_cost=request.max_cost,
        on_reply=on_reply,
    )


def run(asking: Coroutine[Any, Any, _T], stop: Callable[[], None]) -> tuple[_T, int]:
    """The result of ``asking``, and the exit code if a signal ended it early; else 0.

    The first Ctrl-C or SIGTERM calls ``stop``, which lets what was asked be answered; the second
    one does not wait, and does what it does where nobody asks a model.
    """
    import asyncio

    ended_by = 0

    async def main() -> _T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def on_signal(number: int, frame: object) -> None:
            nonlocal ended_by
            del frame
            if ended_by:
                loop.call_soon_threadsafe(task.cancel if task is not None else stop)
                return
            ended_by = number
            complain("waiting for what is on its way; Ctrl-C again does not wait")
            loop.call_soon_threadsafe(stop)

        with _handlers(on_signal):
            return await asking

    try:
        return asyncio.run(main()), _SIGNALLED + ended_by if ended_by else 0
    except asyncio.CancelledError:
        signal.raise_signal(ended_by)
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def _handlers(on_signal: Callable[[int, object], None]) -> Generator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, on_signal) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
