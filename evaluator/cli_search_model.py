"""``sidestep search --model``: a language model proposes the programs that are run."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from evaluator.errors import HarnessError, InputError, code_of
from evaluator.options import unusual
from evaluator.options_model import ModelRequest, asker, priced, run
from evaluator.terminal import complain, page, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from attacks.family import FamilyInstance
    from evaluator.attack_bench import Bench
    from evaluator.attack_records import Attacked, ModelFind
    from evaluator.attack_run import Attack
    from evaluator.plan import Progress
    from mitigations.candidate import Candidate, FailedCandidate
    from mitigations.generate.client import Asker
    from mitigations.generate.prices import Prices
    from mitigations.load import Meaning

REPLIES = "replies"
RESULT = "result.json"
_FOUND = 1
_NOTHING_KNOWN = 3
_USUAL_PROGRAMS = 20


class ModelSearch(Struct, frozen=True, kw_only=True):
    """The options, still as the user wrote them."""

    candidate: str
    families: tuple[str, ...]
    meaning: Meaning
    runtime_model: str
    posture: str
    model: str
    run_untrusted: bool
    most_programs: int | None
    requests: int
    black_box: bool
    against: tuple[str, ...]
    show_prompt: bool
    api: ModelRequest
    output: str | None
    jobs: int | None
    form: str
    as_json: bool


class _Done(Struct):
    """What there is when it ends, however it ends."""

    found: list[Attacked]
    code: int | None = None
    """The exit code, if it ended early."""


def search_by_model(request: ModelSearch) -> int:
    """Runs it, shows it, and gives the exit code."""
    if request.show_prompt:
        _show_prompts(request)
        return 0
    candidate, families, others, prices = _checked(request)
    done = _attacked(request, candidate, families, prices)
    _replay(request, families, others, done)
    document = _document(request, candidate, prices, done.found)
    if request.output is not None:
        _keep(Path(request.output) / RESULT, document)
    _show(request, document)
    if done.code is not None:
        return done.code
    if any(one.disagreements for one in done.found):
        return HarnessError.exit_code
    if any(one.finds for one in done.found):
        return _FOUND
    return _of_nothing(done.found)


def _checked(
    request: ModelSearch,
) -> tuple[Candidate, tuple[FamilyInstance, ...], tuple[Candidate | FailedCandidate, ...], Prices]:
    """All that can be wrong before anything is asked or run."""
    from evaluator.request import candidates_of

    if not request.run_untrusted:
        raise InputError(
            "--model: what a model writes is run here, in the sandbox: say --run-untrusted"
        )
    if request.output == "":
        raise InputError("--output: an empty path")
    if request.output is None and request.api.store is None:
        raise InputError("--output: say with -o in which directory answers and finds are kept")
    prices = priced(request.api, (request.model,))
    candidate, chosen = _target(request)
    others = candidates_of(
        request.against,
        meaning=request.meaning,
        runtime_model=request.runtime_model,
        stance=request.posture,
    )
    if request.output is not None:
        _make(Path(request.output))
    return candidate, chosen, others, prices


def _target(request: ModelSearch) -> tuple[Candidate, tuple[FamilyInstance, ...]]:
    from evaluator.attack_run import check_family
    from evaluator.request import candidate_of, families, filters_alone

    if not request.families:
        raise InputError("--model: name a FAMILY: each of them costs requests")
    candidate = candidate_of(
        request.candidate,
        meaning=request.meaning,
        runtime_model=request.runtime_model,
        stance=request.posture,
    )
    chosen = families(request.families)
    for one in chosen:
        check_family(one)
    return filters_alone(candidate, "search"), chosen


def _show_prompts(request: ModelSearch) -> None:
    from evaluator import attack_prompt

    candidate, families = _target(request)
    for one in families:
        target = attack_prompt.Target(candidate=candidate, family=one, black_box=request.black_box)
        say(attack_prompt.system(target))


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror}") from None


# ------------------------------------------------------------------------------------ the attack


def _attacked(
    request: ModelSearch,
    candidate: Candidate,
    families: Sequence[FamilyInstance],
    prices: Prices,
) -> _Done:
    """What was found until it ended; finds are on disk as soon as they are made."""
    from evaluator.attack_bench import bench

    attacks: list[Attack] = []
    asking: list[Asker] = []
    jobs = request.jobs or len(os.sched_getaffinity(0))
    directory = Path(request.output or ".") / REPLIES
    with (
        progress_bar() as on_progress,
        bench(candidate, families, stance=request.posture, jobs=jobs) as on,
    ):

        async def main() -> None:
            async with asker(request.api, directory, prices) as one:
                asking.append(one)
                on_step = _watcher(on_progress, attacks, one)
                attacks.extend(_attacks(request, candidate, families, on, one, on_step))
                await _all(attacks)

        def stop() -> None:
            for one in asking:
                one.stop()

        code: int | None = None
        try:
            _, interrupted = run(main(), stop)
            code = interrupted or None
        except KeyboardInterrupt as error:
            complain("interrupted")
            code = code_of(error)
        except HarnessError as error:
            complain(str(error))
            code = error.exit_code
    return _Done([one.result() for one in attacks], code)


async def _all(attacks: Sequence[Attack]) -> None:
    import asyncio  # slow to import

    running = asyncio.Lock()
    try:
        async with asyncio.TaskGroup() as group:
            for one in attacks:
                group.create_task(one.go(running))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None  # of the store, the key, the harness: one says it


def _attacks(
    request: ModelSearch,
    candidate: Candidate,
    families: Sequence[FamilyInstance],
    on: Bench,
    asks: Asker,
    on_step: Callable[[], None],
) -> list[Attack]:
    from evaluator.attack_prompt import Target
    from evaluator.attack_records import Budget
    from evaluator.attack_run import Attack, Model

    def keep(find: ModelFind) -> None:
        if request.output is not None:
            from attacks.jsonform import dumps
            from evaluator.search_store import written

            written(_file(Path(request.output), find), dumps(find.program).encode())

    model = Model(name=request.model, max_tokens=request.api.max_tokens, effort=request.api.effort)
    budget = Budget(request.most_programs or _USUAL_PROGRAMS, request.requests)
    return [
        Attack(
            Target(candidate=candidate, family=one, black_box=request.black_box),
            model,
            budget,
            on,
            asks,
            asks.store,
            on_find=keep,
            on_step=on_step,
        )
        for one in families
    ]


def _watcher(
    on_progress: Callable[[Progress], None], attacks: Sequence[Attack], asks: Asker
) -> Callable[[], None]:
    from evaluator.plan import Progress

    def on_step() -> None:
        found = [one.result() for one in attacks]
        proposed = sum(len(one.proposals) for one in found)
        finds = sum(len(one.finds) for one in found)
        spent = "cost unknown" if asks.spent is None else f"${asks.spent:.2f} in this run"
        total = sum(one.budget.programs for one in attacks)
        on_progress(Progress(f"{finds} found, {spent}", proposed, total))

    return on_step


def _file(directory: Path, find: ModelFind) -> Path:
    from evaluator.search_store import file_of

    return file_of(directory, find.id, find.digest)


def _replay(
    request: ModelSearch,
    families: Sequence[FamilyInstance],
    others: Sequence[Candidate | FailedCandidate],
    done: _Done,
) -> None:
    """Tries the finds under the other candidates; a fault there costs none of the finds."""
    from evaluator.attack_replay import replayed

    if not others or done.code is not None:
        return
    pairs = [
        (family, find)
        for family, one in zip(families, done.found, strict=True)
        for find in one.finds
    ]
    try:
        with progress_bar() as on_progress:
            tried = replayed(
                pairs,
                others,
                stance=request.posture,
                jobs=request.jobs or len(os.sched_getaffinity(0)),
                on_progress=on_progress,
            )
    except KeyboardInterrupt as error:
        complain("interrupted: the finds were not tried under the other profiles")
        done.code = code_of(error)
        return
    by_id = {one.id: one for one in tried}
    done.found = [
        replace(one, finds=tuple(by_id[find.id] for find in one.finds)) for one in done.found
    ]


# ------------------------------------------------------------------------------------ the result


def _document(
    request: ModelSearch, candidate: Candidate, prices: Prices, found: Sequence[Attacked]
) -> dict[str, Any]:
    from attacks.library import SUITE
    from evaluator import attack_prompt
    from evaluator.attack_records import SCHEMA
    from mitigations.candidate import OwnPosture

    own = candidate.posture
    return {
        "schema": SCHEMA,
        "candidate": {
            "name": candidate.name,
            "source": candidate.source,
            "runtime_model": candidate.runtime_model,
        },
        "model": {
            "name": request.model,
            "prompt": attack_prompt.VERSION,
            "black_box": request.black_box,
            "effort": request.api.effort,
            "max_tokens": request.api.max_tokens,
            "prices": prices.date,
        },
        "basis": {
            "profile": candidate.digest,
            "posture": repr(own) if isinstance(own, OwnPosture) else own or request.posture,
            "suite": SUITE,
            "kernel": platform.release(),
        },
        "budget": {
            "programs": request.most_programs or _USUAL_PROGRAMS,
            "requests": request.requests,
            "max_cost": request.api.max_cost,
        },
        "families": [_family_document(request, one) for one in found],
    }


def _family_document(request: ModelSearch, one: Attacked) -> dict[str, Any]:
    from evaluator.records import plain

    return {
        **plain(one),
        "evidence": one.evidence,
        "censored": one.censored,
        "finds": [_find_document(request, find, one.family) for find in one.finds],
    }


def _find_document(request: ModelSearch, find: ModelFind, family: str) -> dict[str, Any]:
    from attacks.jsonform import document
    from evaluator.records import plain
    from evaluator.search_store import replay_command

    options = unusual(request.meaning, request.runtime_model, request.posture)
    file = None if request.output is None else _file(Path(request.output), find)
    again = None if file is None else replay_command(file, family, request.candidate, options)
    return {
        **plain(find),
        "is_new": find.is_new,
        "program": document(find.program),
        "file": None if file is None else str(file),
        "replay": again,
    }


def _keep(path: Path, document: dict[str, Any]) -> None:
    from evaluator.search_store import written

    written(path, json.dumps(document, indent=2).encode() + b"\n")


def _show(request: ModelSearch, document: dict[str, Any]) -> None:
    if request.as_json or request.form == "json":
        say(json.dumps(document))
        return
    from evaluator.table_attack import show_attack

    with page() as console:
        show_attack(console, document)


def _of_nothing(found: Sequence[Attacked]) -> int:
    """The exit code where nothing was found: whether that says anything."""
    from evaluator.attack_records import NO_WORD
    from mitigations.generate.reply import Status

    unknown = [one for one in found if one.verdict in NO_WORD]
    if not unknown:
        return 0
    attempts = [attempt for one in found for attempt in one.attempts]
    if attempts and all(one.status is Status.API_ERROR for one in attempts):
        raise InputError(f"nothing was answered: {attempts[0].why}")
    names = ", ".join(one.family for one in unknown)
    complain(f"nothing found, and nothing is known of {names}: see why above")
    return _NOTHING_KNOWN
