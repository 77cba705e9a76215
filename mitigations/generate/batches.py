"""Message Batches: many requests at half the price, within a day, in any order.

A batch is written to the store before anybody waits for it: whoever runs the same again takes up
the waiting where it was left, and asks for nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from mitigations.generate.client import Asker, api_errors, read
from mitigations.generate.reply import Reply, Status
from mitigations.generate.store import Asked, Batch

_LARGEST = 10_000
"""Requests of one batch; the API takes 100,000 and 256 MB."""
_FIRST_POLL_S = 1.0
_LONGEST_POLL_S = 60.0


class Counts(Struct, frozen=True):
    """How far the batches are."""

    waiting: int
    done: int


def custom_id(asked: Asked) -> str:
    """At most 64 characters of ``[A-Za-z0-9_-]``: the digest, shortened, and the sample."""
    return f"{asked.request.digest()[:48]}-{asked.sample}"


async def ask_all(
    asker: Asker,
    wanted: Iterable[Asked],
    on_counts: Callable[[Counts], None],
) -> None:
    """Puts the replies to all of them into the asker's store; what is there is not asked.

    Raises ``NotAskedError`` where nothing may be sent, ``ProfileError`` without a key.
    """
    missing = {custom_id(one): one for one in wanted if _is_missing(asker, one)}
    pending = list(asker.store.batches())
    for batch in pending:
        for name in batch.asked:
            missing.pop(name, None)
    if not missing and not pending:
        return
    asker.must_send()
    names = list(missing)
    with api_errors():
        for start in range(0, len(names), _LARGEST):
            part = {name: missing[name] for name in names[start : start + _LARGEST]}
            pending.append(await _whole(_send(asker, part)))
        await _fetch_all(asker, pending, on_counts)


async def _whole(sending: Coroutine[Any, Any, Batch]) -> Batch:
    """Not interrupted half-way: what was paid for must be remembered."""
    task = asyncio.ensure_future(sending)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _is_missing(asker: Asker, one: Asked) -> bool:
    return asker.store.get(one.request, one.sample) is None


async def _send(asker: Asker, part: dict[str, Asked]) -> Batch:
    created = await asker.client.messages.batches.create(
        requests=[
            {"custom_id": name, "params": one.request.parameters()}  # type: ignore[typeddict-item]
            for name, one in part.items()
        ]
    )
    batch = Batch(_identity(created), part)
    asker.store.put_batch(batch)
    return batch


def _identity(created: object) -> str:
    identity = getattr(created, "id", None)
    if not isinstance(identity, str) or not identity:
        raise ValueError("the answer to a new batch has no id")
    return identity


async def _fetch_all(
    asker: Asker, pending: Sequence[Batch], on_counts: Callable[[Counts], None]
) -> None:
    pause = _FIRST_POLL_S
    left = list(pending)
    done = 0
    while left:
        for batch in list(left):
            if await _has_ended(asker, batch):
                done += await _fetch(asker, batch)
                left.remove(batch)
        on_counts(Counts(sum(len(one.asked) for one in left), done))
        if left:
            await asker.pause(pause)
            asker.must_send()
            pause = min(pause * 1.5, _LONGEST_POLL_S)


async def _has_ended(asker: Asker, batch: Batch) -> bool:
    from anthropic import NotFoundError

    try:
        state = await asker.client.messages.batches.retrieve(batch.id)
    except NotFoundError:
        return True  # as fetching its results will show
    return str(state.processing_status) == "ended"


class _Error(Struct, frozen=True):
    type: str = ""
    message: str = ""


class _Errored(Struct, frozen=True):
    error: _Error = _Error()


class _Result(Struct):
    type: str
    message: Any = None
    error: _Errored = _Errored()


class _Entry(Struct):
    custom_id: str
    result: _Result


async def _fetch(asker: Asker, batch: Batch) -> int:
    """Stores the results; what failed or expired is not stored, and so asked again next time.

    What is not among them may be there the next time, or for the key that the batch was sent with:
    it is asked again only if somebody removes the record of the batch.
    """
    from anthropic import NotFoundError

    try:
        answer = await asker.client.messages.batches.with_raw_response.results(batch.id)
        lines = (await answer.read()).splitlines()
    except NotFoundError:
        lines = []
    missing = dict(batch.asked)
    for line in lines:
        entry = _entry(line)
        asked = None if entry is None else missing.pop(entry.custom_id, None)
        if entry is not None and asked is not None:
            asker.keep(asked.request, asked.sample, _reply(entry.result))
    where = asker.store.place(batch)
    why = f"the provider gives no result of its batch; to ask again, remove {where}"
    for asked in missing.values():
        asker.keep(asked.request, asked.sample, Reply(status=Status.API_ERROR, why=why))
    if not missing:
        asker.store.drop_batch(batch)
    return len(batch.asked)


def _entry(line: bytes) -> _Entry | None:
    try:
        return msgspec.json.decode(line, type=_Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _reply(result: _Result) -> Reply:
    if result.type == "succeeded":
        return read(result.message, batch=True)
    said = (result.type, result.error.error.type, result.error.error.message)
    return Reply(status=Status.API_ERROR, why=f"in a batch: {': '.join(filter(None, said))}")
