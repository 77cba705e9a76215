"""The API behind the wire: who may ask, what is asked, what is answered, what is remembered."""

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tests.messages_api import rules
from tests.messages_api.batches import Batches, description
from tests.messages_api.errors import Refused, error_object
from tests.messages_api.events import stream
from tests.messages_api.models import model_info, page
from tests.messages_api.replies import (
    Cut,
    Expired,
    Failure,
    Malformed,
    Message,
    Reply,
    Script,
)
from tests.messages_api.tokens import PromptCache, input_tokens, tokens
from tests.messages_api.wire import Answer, LoopbackServer

API_KEY = "loopback-test-key"
API_VERSION = "2026-10-21"
LARGEST_REQUEST = 32 << 20  # bytes


@dataclass
class Recorded:
    """One HTTP request, retries included.

    ``headers`` have lower-case names; a credential that is not the test key is left out. ``body``
    is the decoded JSON, or None. ``arrived`` and ``answered`` (its answer begins) are seconds of a
    monotonic clock. ``status`` is None while nothing was sent.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    arrived: float
    answered: float | None = None
    status: int | None = None


@dataclass
class _Fault:
    method: str
    path: re.Pattern[str]
    reply: Reply


@dataclass
class _Scripted:
    """A model. A list of replies is used up in order."""

    script: Script
    used: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, body: dict[str, Any]) -> Reply:
        if callable(self.script):
            return self.script(body)
        with self.lock:
            at, self.used = self.used, self.used + 1
        if at >= len(self.script):
            raise AssertionError(f"request {at + 1} of {len(self.script)} scripted ones")
        return self.script[at]


class MessagesApi:
    """A running server; use it as a context manager.

    ``batch_polls`` is how often a batch is looked at before it has ended; ``log`` is called when an
    answer begins. ``requests`` is what came, in the order of arrival. ``errors`` is what went wrong
    in a script or in the server itself: the fixture fails the test that leaves something there.
    """

    def __init__(
        self,
        *,
        api_key: str = API_KEY,
        port: int = 0,
        batch_polls: int = 1,
        log: Callable[[Recorded], None] = lambda recorded: None,
    ) -> None:
        self.api_key = api_key
        self.requests: list[Recorded] = []
        self.errors: list[BaseException] = []
        self.batches = Batches(self._batch_result, batch_polls)
        self._log = log
        self._models: dict[str, _Scripted] = {}
        self._faults: list[_Fault] = []
        self._cache = PromptCache()
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._server = LoopbackServer(port, self.handle, self.errors)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def base_url(self) -> str:
        return self._server.url

    @property
    def environment(self) -> dict[str, str]:
        """What a client in another process needs."""
        return {"ANTHROPIC_BASE_URL": self.base_url, "ANTHROPIC_API_KEY": self.api_key}

    def script(self, model: str, script: Script) -> None:
        """Makes ``model`` known. It answers from a list in order, or with what a function gives."""
        self._models[model] = _Scripted(script)

    def once(self, method: str, path: str, reply: Failure | Malformed | Cut) -> None:
        """The next request that fits gets this; a Cut is of the answer it would have got.

        ``path`` is a regular expression for the whole path. Comes before the scripts: nothing of a
        script is used up by a failure.
        """
        self._faults.append(_Fault(method, re.compile(path), reply))

    def asked(self, path: str = "/v1/messages") -> list[Any]:
        """The bodies of the POST requests to ``path``."""
        return [one.body for one in self.requests if (one.method, one.path) == ("POST", path)]

    def handle(self, method: str, target: str, headers: Mapping[str, str], raw: bytes) -> Answer:
        """The answer to one request; it is not yet sent."""
        recorded = self._record(method, target.partition("?")[0], headers, raw)
        request_id = f"req_{next(self._ids):06}"
        try:
            answer = self._answer(recorded, raw)
        except Refused as refused:
            answer = _error(refused.status, refused.type, str(refused))
        except Exception as error:  # of a script: the test must hear of it, the client must stop
            self.errors.append(error)
            answer = _error(500, "api_error", f"the script failed: {error}")
            answer.headers["x-should-retry"] = "false"
        answer.headers["request-id"] = request_id
        if answer.status >= 400 and answer.document is not None:
            answer.document["request_id"] = request_id

        def sent(status: int | None) -> None:
            recorded.status, recorded.answered = status, time.monotonic()
            self._log(recorded)

        answer.sent = sent
        return answer

    # --- what a request is -----------------------------------------------------------------------

    def _record(self, method: str, path: str, headers: Mapping[str, str], raw: bytes) -> Recorded:
        kept = {name.lower(): value for name, value in headers.items()}
        if kept.get("authorization") != f"Bearer {self.api_key}":
            kept.pop("authorization", None)
        for name in ("x-api-key", "cookie", "proxy-authorization"):
            kept.pop(name, None)
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        recorded = Recorded(method, path, kept, body, time.monotonic())
        with self._lock:
            self.requests.append(recorded)
        return recorded

    def _answer(self, request: Recorded, raw: bytes) -> Answer:
        self._check_headers(request)
        if len(raw) > LARGEST_REQUEST:
            raise Refused(413, "Request exceeds the maximum size")
        if raw and request.body is None:
            raise Refused(400, "The request body is not valid JSON")
        fault = self._fault(request)
        if fault is not None and not isinstance(fault, Cut):
            return _of_fault(fault)
        route = self._route(request)
        answer = route(request)
        if isinstance(fault, Cut):
            answer.part = fault.part
        return answer

    def _check_headers(self, request: Recorded) -> None:
        if "authorization" not in request.headers:
            raise Refused(401, "a valid bearer token is required")
        version = request.headers.get("anthropic-version")
        if version != API_VERSION:
            raise Refused(400, f"anthropic-version: {API_VERSION} is required, found {version}")

    def _fault(self, request: Recorded) -> Reply | None:
        with self._lock:
            for fault in self._faults:
                if fault.method == request.method and fault.path.fullmatch(request.path):
                    self._faults.remove(fault)
                    return fault.reply
        return None

    def _route(self, request: Recorded) -> Callable[[Recorded], Answer]:
        for method, pattern, route in (
            ("POST", r"/v1/messages", self._create),
            ("POST", r"/v1/messages/count_tokens", self._count),
            ("POST", r"/v1/messages/batches", self._create_batch),
            ("GET", r"/v1/messages/batches", self._list_batches),
            ("GET", r"/v1/messages/batches/[^/]+", self._retrieve_batch),
            ("GET", r"/v1/messages/batches/[^/]+/results", self._batch_results),
            ("POST", r"/v1/messages/batches/[^/]+/cancel", self._cancel_batch),
            ("GET", r"/v1/models", self._list_models),
            ("GET", r"/v1/models/[^/]+", self._retrieve_model),
        ):
            if method == request.method and re.fullmatch(pattern, request.path):
                return route
        raise Refused(404, f"Not found: {request.method} {request.path}")

    # --- messages --------------------------------------------------------------------------------

    def _create(self, request: Recorded) -> Answer:
        body = rules.check_request(request.body)
        reply = self._known(body["model"]).next(body)
        if isinstance(reply, Failure | Malformed):
            return _of_fault(reply)
        if isinstance(reply, Cut):
            answer = self._of_message(reply.whole, body)
            answer.part = reply.part
        elif isinstance(reply, Message):
            answer = self._of_message(reply, body)
        else:
            raise TypeError(f"{type(reply).__name__} is for a batch")
        answer.delay = reply.delay
        return answer

    def _count(self, request: Recorded) -> Answer:
        body = rules.check_count(request.body)
        self._known(body["model"])
        return Answer(document={"input_tokens": input_tokens(body)})

    def _known(self, model: str) -> _Scripted:
        if model not in self._models:
            raise Refused(404, f"model: {model}")
        return self._models[model]

    def _of_message(self, reply: Message, body: dict[str, Any]) -> Answer:
        message = self._message(reply, body)
        if body.get("stream"):
            return Answer(events=stream(message, reply.fails_with))
        return Answer(document=message)

    def _message(self, reply: Message, body: dict[str, Any], tier: str = "standard") -> Any:
        content = [self._block(block) for block in reply.content]
        thought = sum(tokens(block["thinking"]) for block in content if "thinking" in block)
        written = tokens(content)
        if reply.stop_reason == "max_tokens":
            written = body["max_tokens"]
        return {
            "id": f"msg_{next(self._ids):06}",
            "type": "message",
            "role": "assistant",
            "model": reply.model or body["model"],
            "content": content,
            "stop_reason": reply.stop_reason,
            "stop_sequence": reply.stop_sequence,
            "stop_details": reply.stop_details,
            "usage": {
                **self._cache.usage(body),
                "output_tokens": written,
                "output_tokens_details": {"thinking_tokens": min(thought, written)},
                "server_tool_use": None,
                "service_tier": tier,
                **reply.usage,
            },
        }

    def _block(self, block: Mapping[str, Any]) -> dict[str, Any]:
        if block["type"] == "tool_use":
            return {"id": f"toolu_{next(self._ids):06}", **block}
        if block["type"] == "thinking":
            return {"signature": rules.signature(block["thinking"]), **block}
        return dict(block)

    # --- batches ---------------------------------------------------------------------------------

    def _create_batch(self, request: Recorded) -> Answer:
        return self._described(self.batches.create(rules.check_batch(request.body)))

    def _retrieve_batch(self, request: Recorded) -> Answer:
        return self._described(self.batches.look(request.path.split("/")[4]))

    def _cancel_batch(self, request: Recorded) -> Answer:
        return self._described(self.batches.cancel(request.path.split("/")[4]))

    def _list_batches(self, request: Recorded) -> Answer:
        del request
        found = self.batches.newest_first()
        return Answer(document=page([description(one, self.base_url) for one in found]))

    def _batch_results(self, request: Recorded) -> Answer:
        lines = self.batches.results(request.path.split("/")[4])
        return Answer(body=lines, content_type="application/x-jsonl")

    def _described(self, batch: Any) -> Answer:
        return Answer(document=description(batch, self.base_url))

    def _batch_result(self, params: dict[str, Any]) -> tuple[str, bytes]:
        try:
            body = rules.check_request(params)
            reply = self._known(body["model"]).next(body)
        except Refused as refused:
            return _errored(refused.type, str(refused))
        if isinstance(reply, Expired):
            return "expired", b'{"type": "expired"}'
        if isinstance(reply, Failure):
            return _errored(reply.type, reply.message)
        if isinstance(reply, Malformed):
            return "succeeded", b'{"type": "succeeded", "message": ' + reply.body + b"}"
        if not isinstance(reply, Message):
            raise TypeError(f"a batch has no {type(reply).__name__}")
        message = self._message(reply, body, tier="batch")
        return "succeeded", json.dumps({"type": "succeeded", "message": message}).encode()

    # --- models ----------------------------------------------------------------------------------

    def _list_models(self, request: Recorded) -> Answer:
        del request
        return Answer(document=page([model_info(name) for name in self._models]))

    def _retrieve_model(self, request: Recorded) -> Answer:
        name = request.path.split("/")[3]
        self._known(name)
        return Answer(document=model_info(name))


def most_at_once(requests: Sequence[Recorded]) -> int:
    """The largest number of requests that were being answered at one moment."""
    ends = [one.answered for one in requests if one.answered is not None]
    changes = sorted([(one.arrived, 1) for one in requests] + [(end, -1) for end in ends])
    return max(itertools.accumulate(change for _, change in changes), default=0)


def _error(status: int, type_: str, message: str) -> Answer:
    return Answer(status=status, document=error_object(type_, message))


def _errored(type_: str, message: str) -> tuple[str, bytes]:
    result = {"type": "errored", "error": error_object(type_, message)}
    return "errored", json.dumps(result).encode()


def _of_fault(reply: Reply) -> Answer:
    if isinstance(reply, Failure):
        answer = _error(reply.status, reply.type, reply.message)
        answer.headers.update(reply.headers)
    elif isinstance(reply, Malformed):
        answer = Answer(body=reply.body, content_type=reply.content_type)
    else:
        raise TypeError(f"no fault: {type(reply).__name__}")
    answer.delay = reply.delay
    return answer
