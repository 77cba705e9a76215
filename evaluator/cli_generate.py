"""The command ``sidestep generate``: asks models for mitigations, and keeps what they answer."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from evaluator import completion as offer
from evaluator.errors import EnvironmentLackError, InputError, border
from evaluator.options import debug_option, jobs_option, own_version
from evaluator.options_model import ModelRequest, asker, model_options, priced, run
from evaluator.terminal import complain, page, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluator.generation import Generated, State, Wanted
    from evaluator.plan import Progress
    from evaluator.scenarios import Scenario
    from mitigations.generate.batches import Counts
    from mitigations.generate.client import Asker
    from mitigations.generate.prices import Prices

LEVELS = ("effect", "poc", "advisory")
STRATEGIES = ("single", "feedback", "tools")
SPLITS = ("dev", "held-out", "all")
SAMPLES = "samples.jsonl"
MANIFEST = "manifest.json"
REPLIES = "replies"


class _Request(Struct, frozen=True, kw_only=True):
    """The options, still as the user wrote them."""

    scenarios: tuple[str, ...]
    models: tuple[str, ...]
    split: str
    levels: tuple[str, ...]
    samples: int
    strategy: str
    rounds: int
    batch: bool
    dry_run: bool
    score: bool
    show_prompt: bool
    output: str | None
    jobs: int | None
    model: ModelRequest


@click.command()
@click.argument("scenarios", metavar="[SCENARIO]...", nargs=-1)
@click.option("--model", "models", metavar="ID", multiple=True, help="As the API names it; repeat.")
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default=SPLITS[0],
    show_default=True,
    help="Which scenarios, where none is named.",
)
@click.option(
    "--level",
    "levels",
    type=click.Choice(LEVELS),
    multiple=True,
    default=LEVELS[:1],
    show_default=True,
    help="What the prompt tells: the effect, a program that has it, the advisory; repeat.",
)
@click.option(
    "--samples",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Answers to each prompt.",
)
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default=STRATEGIES[0],
    show_default=True,
    help="One answer; again after feedback; with a tool that evaluates.",
)
@click.option(
    "--rounds",
    metavar="N",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    help="Answers with feedback at most; evaluations with the tool.",
)
@click.option("--batch", is_flag=True, help="By Message Batches: half the price, within a day.")
@model_options
@click.option(
    "--score",
    is_flag=True,
    help="Score the answers at once: sidestep score DIR/samples.jsonl -o DIR.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be asked, and ask nothing.")
@click.option("--show-prompt", is_flag=True, help="Print the prompts and ask nothing.")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    shell_complete=offer.files,
    help=f"Gets {SAMPLES}, {MANIFEST} and {REPLIES}/.",
)
@jobs_option
@debug_option
@click.pass_context
def generate(context: click.Context, /, **options: Any) -> None:
    """Ask language models to mitigate what the scenarios describe.

    The key comes from the environment, ANTHROPIC_API_KEY, and is stored nowhere. Each answer is
    kept with what was asked; the same command again asks only for what is missing. Score what came
    of it with `sidestep score DIR/samples.jsonl`.

    Exit codes: 0 all was answered; 2 the key, the model or another option is wrong; 3 some answers
    are missing.
    """
    asked = {name: options.pop(name) for name in ModelRequest.__struct_fields__}
    with border():
        code = _generate(context, _Request(**options, model=ModelRequest(**asked)))
    context.exit(code)


def _generate(context: click.Context, request: _Request) -> int:
    from evaluator.generation import Wanted
    from evaluator.samples import added
    from evaluator.shown import Level
    from mitigations.generate.conversation import Strategy
    from reports.files import check_names

    chosen = _chosen(request)
    if request.show_prompt:
        _show_prompts(chosen, request.levels)
        return 0
    if not request.models:
        raise InputError("--model: say which model to ask, as the API names it")
    if request.batch and request.strategy != STRATEGIES[0]:
        raise InputError("--batch: a batch holds one request a sample: --strategy single")
    if request.batch and request.model.max_cost is not None:
        raise InputError("--batch: a batch is sent as a whole, whatever it costs: no --max-cost")
    if not request.output:
        raise InputError("--output: say with -o in which directory the answers are kept")
    wanted = Wanted(
        models=tuple(dict.fromkeys(request.models)),
        scenarios=chosen,
        levels=tuple(map(Level, dict.fromkeys(request.levels))),
        samples=request.samples,
        strategy=Strategy(request.strategy),
        rounds=request.rounds,
        effort=request.model.effort,
        max_tokens=request.model.max_tokens,
    )
    for line in wanted.without_more():
        complain(line)
    if not wanted.items():
        raise InputError("--level: nothing is left to ask")
    prices = priced(request.model, wanted.models)
    directory = Path(request.output)
    check_names(directory, (SAMPLES, MANIFEST))
    if request.dry_run:
        _say_what(wanted, asker(request.model, directory / REPLIES, prices))
        return 0
    added(directory / SAMPLES, ())  # what cannot be read is said before anything is paid for
    done, interrupted = _asked(request, wanted, prices, directory)
    _write(done, wanted, prices, directory)
    _show(done, directory)
    if request.score and done.samples and not interrupted:
        from evaluator.cli_score import score

        samples = str(directory / SAMPLES)
        context.invoke(score, samples=samples, jobs=request.jobs, output=request.output)
    if interrupted:
        return interrupted
    _complain_of_missing(done)
    return 0


def _chosen(request: _Request) -> tuple[Scenario, ...]:
    from evaluator.scenarios import scenario, scenarios

    if request.scenarios:
        return tuple(scenario(name) for name in dict.fromkeys(request.scenarios))
    every = SPLITS[-1]
    return tuple(one for one in scenarios() if request.split in (every, one.split))


def _show_prompts(chosen: tuple[Scenario, ...], levels: tuple[str, ...]) -> None:
    from evaluator import prompts
    from evaluator.shown import Level, view

    say(f"{prompts.SYSTEM}")
    for one in chosen:
        for level in levels:
            say(f"--- {one.name}, {level}\n\n{prompts.prompt(view(one, Level(level))).user}")


def _say_what(wanted: Wanted, asking: Asker) -> None:
    items = wanted.items()
    kept = sum(asking.store.get(one.task.opening(), one.number) is not None for one in items)
    characters = sum(len(one.task.system) + len(one.task.prompt) for one in items)
    say(f"{len(items)} samples, {kept} of which are stored or begun")
    say(f"{characters:,} characters of prompts, without feedback; the system prompt is cached")


def _asked(
    request: _Request, wanted: Wanted, prices: Prices, directory: Path
) -> tuple[Generated, int]:
    """What was answered, and the exit code if a signal ended it early."""
    from evaluator.generation import generate as ask_for
    from evaluator.generation import send_batches
    from mitigations.generate.client import NotAskedError

    jobs = request.jobs or len(os.sched_getaffinity(0))
    asking = asker(request.model, directory / REPLIES, prices)

    async def main() -> Generated:
        async with asking:
            if request.batch:
                why = "no batch brought it yet"
                try:
                    await send_batches(wanted, asking, _counter(on_progress))
                except NotAskedError as error:
                    why = str(error)
                asking.stop(why)
            return await ask_for(wanted, asking, _watcher(on_progress), jobs=jobs)

    with progress_bar() as on_progress:
        return run(main(), asking.stop)


def _watcher(on_progress: Callable[[Progress], None]) -> Callable[[State], None]:
    from evaluator.plan import Progress

    def watch(state: State) -> None:
        spent = "cost unknown" if state.spent is None else f"${state.spent:.2f} in this run"
        on_progress(Progress(f"{state.tokens:,} tokens, {spent}", state.done, state.total))

    return watch


def _counter(on_progress: Callable[[Progress], None]) -> Callable[[Counts], None]:
    from evaluator.plan import Progress

    def count(counts: Counts) -> None:
        on_progress(Progress("batches", counts.done, counts.done + counts.waiting))

    return count


def _write(done: Generated, wanted: Wanted, prices: Prices, directory: Path) -> None:
    """Adds to what is there: another model, other levels, more samples."""
    import json

    from evaluator.generation import manifest
    from evaluator.samples import added, line
    from reports.files import write_texts

    lines = "".join(line(one) + "\n" for one in added(directory / SAMPLES, done.samples))
    made = manifest(directory / MANIFEST, done, wanted, prices, own_version())
    write_texts({SAMPLES: lines, MANIFEST: json.dumps(made, indent=2) + "\n"}, directory)


def _show(done: Generated, directory: Path) -> None:
    with page() as console:
        for line in _summary(done):
            console.print(line, markup=False)
        console.print(f"wrote {directory / SAMPLES}", markup=False, soft_wrap=True)


def _summary(done: Generated) -> list[str]:
    from mitigations.generate.reply import Status

    counts = Counter(str(one.status) for one in done.samples)
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    lines = [f"{len(done.samples)} of {done.total} samples: {said or 'nothing was answered'}"]
    answered = [one for one in done.samples if one.status is not Status.API_ERROR]
    known = [one.usage.cost for one in answered if one.usage.cost is not None]
    if known:
        more = "" if len(known) == len(answered) else f" for {len(known)}, of the others not known"
        lines.append(f"they cost ${sum(known):.2f}{more}")
    elif answered:
        lines.append("what they cost is not known: the list of prices does not name the model")
    lines += (f"{n} not asked: {why}" for why, n in Counter(done.not_asked).most_common())
    return lines


def _complain_of_missing(done: Generated) -> None:
    """Raises where something is missing: which line of the summary says so is easily overlooked."""
    from mitigations.generate.reply import Status

    failed = Counter(one.why for one in done.samples if one.status is Status.API_ERROR)
    missing = failed.total() + len(done.not_asked)
    if failed and missing == done.total:
        raise InputError(f"nothing was answered: {failed.most_common(1)[0][0]}")
    for reason, count in failed.most_common(3):
        complain(f"{count} without an answer: {reason}")
    if missing:
        raise EnvironmentLackError(
            f"{missing} of {done.total} samples are missing: the same command asks for them again"
        )
