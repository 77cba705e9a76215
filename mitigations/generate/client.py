"""Asks the Messages API: a bounded number of requests at once, each answer kept, none asked twice.

The only module that imports the SDK (``anthropic`` 2.x), and only when something has to be sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec.structs import replace

from mitigations.candidate import ProfileError
from mitigations.generate.prices import Prices
from mitigations.generate.reply import Message, Reply, Status, Usage
from mitigations.generate.request import Request
from mitigations.generate.store import Store

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

KEY = "ANTHROPIC_API_KEY"
_TIMEOUT_S = 900.0
_RETRIES = 4
"""Of the SDK: for connection errors, 408, 409, 429 and 5xx, after what ``retry-after`` says."""
_CUT = frozenset({"max_tokens", "model_context_window_exceeded"})
_FATAL = frozenset({401, 402, 403, 404})
_LONGEST_WHY = 300
_DEEPEST = 200
"""Levels of an answer: a request nests it a few deeper, and Python's JSON ends below 1,000."""
_TOO_DEEP = object()


class NotAskedError(Exception):
    """A request that was not sent; the message is the reason."""


class Asker:
    """Gives the reply to a request, from the store or from the API.

    ``spent`` is what the API was paid in this run, in US dollars; None as soon as something was
    asked whose price nobody knows.
    """

    def __init__(
        self,
        store: Store,
        prices: Prices,
        *,
        at_once: int = 8,
        replay: bool = False,
        max_cost: float | None = None,
        on_reply: Callable[[Reply], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._prices = prices
        self._slots = asyncio.Semaphore(at_once)
        self._replay = replay
        self._max_cost = max_cost
        self._on_reply = on_reply
        self._client: AsyncAnthropic | None = None
        self._fatal: dict[str, Reply] = {}
        """By model: what would only be said again."""
        self._failed: dict[tuple[str, int], Reply] = {}
        self._stopped = asyncio.Event()
        self._why_stopped = ""
        self.spent: float | None = 0.0

    async def __aenter__(self) -> Asker:
        if not self._replay:
            self._store.lock()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store.unlock()
        if self._client is not None:
            await self._client.close()

    @property
    def store(self) -> Store:
        return self._store

    @property
    def client(self) -> AsyncAnthropic:
        """The SDK's client, made when it is first needed."""
        if self._client is None:
            self._client = connect()
        return self._client

    def stop(self, why: str = "interrupted before it was asked") -> None:
        """Lets what is on its way arrive, and sends nothing more."""
        self._why_stopped = why
        self._stopped.set()

    async def pause(self, seconds: float) -> None:
        """Waits so long, or until nothing more is to be sent."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    def must_send(self) -> None:
        """Raises ``NotAskedError`` if nothing may be sent now."""
        if self._replay:
            raise NotAskedError("not in the store, and --replay asks nobody")
        if self._stopped.is_set():
            raise NotAskedError(self._why_stopped)
        if self._max_cost is not None and (self.spent or 0) >= self._max_cost:
            raise NotAskedError(f"the budget of ${self._max_cost:g} is spent")

    async def ask(self, request: Request, sample: int) -> Reply:
        """The reply to one sample of a request.

        Raises ``NotAskedError`` if it is not stored and must not be sent, ``ProfileError`` if the
        store cannot be used or no key is there.
        """
        kept = self._store.get(request, sample) or self._failed.get((request.digest(), sample))
        if kept is None:
            async with self._slots:
                kept = await self._send(request)
            self.keep(request, sample, kept)
        priced = self._priced(request, kept)
        self._on_reply(priced)
        return priced

    def _priced(self, request: Request, reply: Reply) -> Reply:
        """With what it costs by the list of prices of this run, whenever it was asked."""
        model = reply.model if self._prices.knows(reply.model) else request.model
        return replace(reply, usage=self._prices.priced(reply.usage, model, batch=reply.batch))

    def keep(self, request: Request, sample: int, reply: Reply) -> None:
        """Stores a reply; one that says nothing of the model is not kept, and asked for again."""
        if reply.status is not Status.API_ERROR:
            self._store.put(request, sample, reply)
            cost = self._priced(request, reply).usage.cost
            known = self.spent is not None and cost is not None
            self.spent = (self.spent or 0) + (cost or 0) if known else None
            return
        self._failed[request.digest(), sample] = reply
        if reply.fatal:
            self._fatal[request.model] = reply

    async def _send(self, request: Request) -> Reply:
        self.must_send()
        if (fatal := self._fatal.get(request.model)) is not None:
            return fatal
        from anthropic import AnthropicError

        began = time.monotonic()
        try:
            # Raw: the SDK checks nothing of what it reads, and fails in many ways on what is odd.
            raw = cast("Any", self.client.messages.with_raw_response)
            answer = await raw.create(**request.parameters())
            body = await answer.read()
        except (AnthropicError, ValueError, TypeError) as error:
            return failed(error, time.monotonic() - began)
        seconds = time.monotonic() - began
        return read(_decoded(body), answer.request_id or "", seconds=seconds)


def connect() -> AsyncAnthropic:
    """The SDK's client with the key of the environment; ``ProfileError`` if there is none.

    The SDK would look for other credentials on disk: what was paid for with which key would not
    be clear.
    """
    key = os.environ.get(KEY, "").strip()
    if not key:
        raise ProfileError(f"no key: set {KEY} in the environment", code="no-key")
    try:
        from anthropic import AsyncAnthropic
    except ImportError as error:
        raise ProfileError(
            f"cannot import the SDK ({error}): pip install 'sidestep[llm]'", code="no-sdk"
        ) from None
    return AsyncAnthropic(api_key=key, max_retries=_RETRIES, timeout=_TIMEOUT_S)


@contextlib.contextmanager
def api_errors() -> Generator[None]:
    """Lets what the SDK raises out as a ``ProfileError``, in one line.

    Beside its own errors these are those of the transport, and what comes of an answer that is not
    what it takes for granted.
    """
    import httpx2
    from anthropic import AnthropicError

    try:
        yield
    except (AnthropicError, httpx2.HTTPError, ValueError, TypeError, AttributeError) as error:
        raise ProfileError(failed(error).why, "the API", code="api-error") from None


def failed(error: Exception, seconds: float = 0.0) -> Reply:
    """No answer, after the SDK's own retries."""
    status = getattr(error, "status_code", None)
    said = getattr(error, "api_message", None) or str(error) or type(error).__name__
    where = f"HTTP {status}: " if status is not None else f"{type(error).__name__}: "
    return Reply(
        status=Status.API_ERROR,
        why=_without_key(_line(f"{where}{said}")),
        request_id=str(getattr(error, "request_id", None) or ""),
        seconds=seconds,
        raw=_body(error),
        fatal=status in _FATAL,
    )


def _body(error: Exception) -> dict[str, Any] | None:
    body: object = getattr(error, "body", None)
    if _is_too_deep(body):
        return None
    told: object = json.loads(_without_key(json.dumps(body, default=str)))
    return _plain(told)


def _without_key(text: str) -> str:
    """Whoever is between us and the API may say the key back."""
    key = os.environ.get(KEY, "").strip()
    return text.replace(key, "[the key]") if key else text


def read(
    answer: object, request_id: str = "", *, batch: bool = False, seconds: float = 0.0
) -> Reply:
    """A message, given as JSON that nobody has checked, as a reply without its cost."""
    if _is_too_deep(answer):
        why = "the answer is nested too deeply"
        return Reply(status=Status.INVALID, why=why, request_id=request_id, batch=batch)
    raw = _plain(answer)
    try:
        message = msgspec.convert(raw, Message)
    except msgspec.ValidationError as error:
        why = f"malformed answer: {error}" if raw is not None else "the answer is no JSON object"
        return Reply(status=Status.API_ERROR, why=why, seconds=seconds, raw=raw)
    category = (message.stop_details and message.stop_details.category) or ""
    status, why = _status(message.stop_reason, category)
    counted = message.usage
    return Reply(
        status=status,
        why=why,
        model=message.model,
        stop_reason=message.stop_reason,
        category=category,
        usage=Usage(
            counted.input_tokens,
            counted.output_tokens,
            counted.cache_creation_input_tokens or 0,
            counted.cache_read_input_tokens or 0,
        ),
        request_id=request_id,
        seconds=seconds,
        raw=raw,
        batch=batch,
    )


def _status(reason: str, category: str) -> tuple[Status, str]:
    if reason == "refusal":
        return Status.REFUSED, _line(f"refused: {category or 'no category'}")
    if reason in _CUT:
        return Status.TRUNCATED, f"cut off: {reason}"
    return Status.OK, ""


def _decoded(body: bytes) -> object:
    try:
        return json.loads(body)
    except RecursionError:
        return _TOO_DEEP
    except ValueError:
        return None


def _is_too_deep(value: object) -> bool:
    """Level by level: how deep it is, is the author's choice."""
    level = [value]
    for _ in range(_DEEPEST):
        below: list[object] = []
        for one in level:
            if isinstance(one, dict):
                below.extend(cast("dict[str, object]", one).values())
            elif isinstance(one, list):
                below.extend(cast("list[object]", one))
        if not below:
            return value is _TOO_DEEP
        level = below
    return True


def _plain(value: object) -> dict[str, Any] | None:
    """A JSON object as it can be stored and sent again, or None if it is none.

    Half a surrogate pair cannot be sent: it becomes a question mark.
    """
    text = json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace")
    plain: object = json.loads(text)
    return cast("dict[str, Any]", plain) if isinstance(plain, dict) else None


def _line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_WHY]
