"""One message as server-sent events."""

import json
from collections.abc import Iterator
from typing import Any

from tests.messages_api.errors import error_object

PIECE = 24  # characters of text in one delta


def event(name: str, **fields: Any) -> bytes:
    data = json.dumps({"type": name, **fields})
    return f"event: {name}\ndata: {data}\n\n".encode()


def stream(message: dict[str, Any], fails_with: str | None = None) -> list[bytes]:
    """Every event of ``message``; with ``fails_with``, half of them and an error event."""
    events = list(_events(message))
    if fails_with is None:
        return events
    error = error_object(fails_with, "scripted")
    return [*events[: len(events) // 2], event("error", error=error["error"])]


def _events(message: dict[str, Any]) -> Iterator[bytes]:
    usage = message["usage"]
    nothing_yet: dict[str, Any] = {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
    }
    started = {**message, **nothing_yet, "usage": {**usage, "output_tokens": 1}}
    yield event("message_start", message=started)
    yield event("ping")
    for index, block in enumerate(message["content"]):
        empty, deltas = _taken_apart(block)
        yield event("content_block_start", index=index, content_block=empty)
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    stopped = {name: message[name] for name in ("stop_reason", "stop_sequence", "stop_details")}
    counted = {name: usage[name] for name in ("output_tokens", "output_tokens_details")}
    yield event("message_delta", delta=stopped, usage=counted)
    yield event("message_stop")


def _taken_apart(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    kind = block["type"]
    if kind == "text":
        pieces = _pieces(block["text"])
        return {**block, "text": ""}, [{"type": "text_delta", "text": one} for one in pieces]
    if kind == "thinking":
        pieces = _pieces(block["thinking"])
        deltas = [{"type": "thinking_delta", "thinking": one} for one in pieces]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*deltas, signed]
    if kind == "tool_use":
        pieces = _pieces(json.dumps(block["input"]))
        deltas = [{"type": "input_json_delta", "partial_json": one} for one in pieces]
        return {**block, "input": {}}, deltas
    return block, []


def _pieces(words: str) -> list[str]:
    return [words[at : at + PIECE] for at in range(0, len(words), PIECE)]
