"""What a scripted model answers: a message, or one of the ways in which that goes wrong."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

Block = Mapping[str, Any]

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, kw_only=True)
class Reply:
    """``delay`` is in seconds, before the first byte."""

    delay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Message(Reply):
    """HTTP 200 with a message.

    Blocks are as on the wire; ids of ``tool_use`` and signatures of ``thinking`` are filled in when
    it is sent. ``usage`` replaces single numbers of those that are computed. ``model`` is the id
    that the answer names, None for the one that was asked. ``fails_with`` is the type of an error
    event that ends a stream half way; it does nothing without ``stream``.
    """

    content: Sequence[Block] = ()
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    stop_details: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    fails_with: str | None = None


@dataclass(frozen=True, kw_only=True)
class Failure(Reply):
    """An HTTP status with an error object; in a batch, an errored entry."""

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def type(self) -> str:
        return ERROR_TYPES[self.status]


@dataclass(frozen=True, kw_only=True)
class Malformed(Reply):
    """HTTP 200 with these bytes."""

    body: bytes
    content_type: str = "application/json"


@dataclass(frozen=True, kw_only=True)
class Cut(Reply):
    """The connection ends after this part of the body; with 0, before the status line."""

    part: float = 0.5
    whole: Message = field(default_factory=Message)


@dataclass(frozen=True, kw_only=True)
class Expired(Reply):
    """A request of a batch that was not reached within 24 hours."""


Script = Callable[[dict[str, Any]], Reply] | Sequence[Reply]
AnyReply = TypeVar("AnyReply", bound=Reply)


def text(words: str, *, thinking: str | None = None, **more: Any) -> Message:
    """``thinking`` comes before the text, as it does on the wire."""
    return Message(content=[*_thinking(thinking), {"type": "text", "text": words}], **more)


def tool_use(
    name: str, arguments: Mapping[str, Any], *, thinking: str | None = None, **more: Any
) -> Message:
    return tool_uses([(name, arguments)], thinking=thinking, **more)


def tool_uses(
    calls: Sequence[tuple[str, Mapping[str, Any]]], *, thinking: str | None = None, **more: Any
) -> Message:
    """Several calls of one turn: (name, arguments)."""
    blocks = [{"type": "tool_use", "name": name, "input": dict(given)} for name, given in calls]
    return Message(content=[*_thinking(thinking), *blocks], stop_reason="tool_use", **more)


def refusal(
    category: str | None = "cyber",
    *,
    explanation: str | None = None,
    written: str = "",
    **more: Any,
) -> Message:
    """A safety classifier stepped in; ``written`` is what the model had said until then."""
    return Message(
        content=[{"type": "text", "text": written}] if written else [],
        stop_reason="refusal",
        stop_details={"type": "refusal", "category": category, "explanation": explanation},
        **more,
    )


def truncated(words: str, **more: Any) -> Message:
    """Stopped by max_tokens, which is then also the number of output tokens."""
    return Message(content=[{"type": "text", "text": words}], stop_reason="max_tokens", **more)


def failure(status: int, message: str = "scripted", **headers: str) -> Failure:
    """Headers with underscores: ``retry_after_ms="10"``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Failure(status=status, message=message, headers=named)


def rate_limited(*, after_ms: int | None = 10, after_s: float | None = None) -> Failure:
    headers: dict[str, str] = {}
    if after_ms is not None:
        headers["retry-after-ms"] = str(after_ms)
    if after_s is not None:
        headers["retry-after"] = f"{after_s:g}"
    return Failure(status=429, message="This request would exceed the rate limit", headers=headers)


def overloaded(*, after_ms: int = 10) -> Failure:
    return failure(529, "Overloaded", retry_after_ms=str(after_ms))


def server_error(*, after_ms: int = 10) -> Failure:
    return failure(500, "Internal server error", retry_after_ms=str(after_ms))


def not_json() -> Malformed:
    return Malformed(body=b'{"type": "message", "content": [{"ty')


def not_a_message(document: object = None) -> Malformed:
    """JSON, but no message."""
    given = {"status": "ok"} if document is None else document
    return Malformed(body=json.dumps(given).encode())


def broken_event() -> Malformed:
    """A stream whose first event is not JSON."""
    return Malformed(
        body=b'event: message_start\ndata: {"type": "mess\n\n', content_type="text/event-stream"
    )


def web_page() -> Malformed:
    """What something between client and API may answer."""
    return Malformed(body=b"<!doctype html><title>Sign in</title>", content_type="text/html")


def cut(whole: Message | None = None, *, part: float = 0.5) -> Cut:
    return Cut(part=part, whole=whole or text("this sentence does not arrive whole"))


def slow(seconds: float, reply: AnyReply) -> AnyReply:
    return replace(reply, delay=seconds)


def _thinking(words: str | None) -> list[Block]:
    return [] if words is None else [{"type": "thinking", "thinking": words}]
