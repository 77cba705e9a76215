"""The real SDK pointed at a loopback server, and small pieces of requests."""

import asyncio
import ssl
from typing import Any

import anthropic

from tests.messages_api.server import MessagesApi

MODEL = "claude-opus-5-5"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
TOOL = {
    "name": "evaluate_profile",
    "description": "Evaluates a profile.",
    "input_schema": {"type": "object", "properties": {"profile": {"type": "string"}}},
}


def question(*content: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(content) or "?"}


def answer(*content: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content) or "!"}


TEXT = {"type": "text", "text": "x"}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "held"}

# The certificates of the machine are read once and not for each of some hundred clients.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def client(api: MessagesApi, **options: Any) -> anthropic.Anthropic:
    given: Any = {"api_key": api.api_key, "base_url": api.base_url} | options
    return anthropic.Anthropic(**given, http_client=anthropic.DefaultHttpxClient(verify=NO_TLS))


def async_client(api: MessagesApi, **options: Any) -> anthropic.AsyncAnthropic:
    given: Any = {"api_key": api.api_key, "base_url": api.base_url} | options
    http_client = anthropic.DefaultAsyncHttpxClient(verify=NO_TLS)
    return anthropic.AsyncAnthropic(**given, http_client=http_client)


def create(api: MessagesApi, options: dict[str, Any] | None = None, **params: Any) -> Any:
    asked: Any = {"model": MODEL, "max_tokens": 999, "messages": HELLO} | params
    with client(api, **options or {}) as one:
        return one.messages.create(**asked)


def streamed(api: MessagesApi, options: dict[str, Any] | None = None, **params: Any) -> Any:
    asked: Any = {"model": MODEL, "max_tokens": 999, "messages": HELLO} | params
    with client(api, **options or {}) as one, one.messages.stream(**asked) as stream:
        return stream.get_final_message()


def create_async(api: MessagesApi, options: dict[str, Any] | None = None, **params: Any) -> Any:
    asked: Any = {"model": MODEL, "max_tokens": 999, "messages": HELLO} | params

    async def run() -> Any:
        async with async_client(api, **options or {}) as one:
            return await one.messages.create(**asked)

    return asyncio.run(run())


def streamed_async(api: MessagesApi, options: dict[str, Any] | None = None, **params: Any) -> Any:
    asked: Any = {"model": MODEL, "max_tokens": 999, "messages": HELLO} | params

    async def run() -> Any:
        async with (
            async_client(api, **options or {}) as one,
            one.messages.stream(**asked) as stream,
        ):
            return await stream.get_final_message()

    return asyncio.run(run())


def statuses(api: MessagesApi) -> list[int | None]:
    return [one.status for one in api.requests]


def spoken(message: Any) -> list[dict[str, Any]]:
    """The content without what the server numbers."""
    return [
        {name: value for name, value in block.to_dict().items() if name not in ("id", "signature")}
        for block in message.content
    ]
