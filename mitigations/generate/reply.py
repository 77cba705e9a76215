"""What comes back from a model, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct

_Tokens = Annotated[int, Meta(ge=0)]


class Status(StrEnum):
    """What became of a request."""

    OK = "ok"
    REFUSED = "refused"
    """The stop reason ``refusal``: HTTP 200, often without any content."""
    TRUNCATED = "truncated"
    """Cut off by ``max_tokens`` or by the size of the context."""
    INVALID = "invalid"
    """An answer that holds no profile that can be used."""
    API_ERROR = "api_error"
    """No answer: nothing is known of the model."""


class Usage(Struct, frozen=True):
    """Tokens as the provider counted them, and US dollars; None where the price is not known."""

    input_tokens: _Tokens = 0
    """Without those that were written to the cache or read from it."""
    output_tokens: _Tokens = 0
    cache_write_tokens: _Tokens = 0
    cache_read_tokens: _Tokens = 0
    cost: Annotated[float, Meta(ge=0)] | None = None

    def plus(self, other: Usage) -> Usage:
        known = self.cost is not None and other.cost is not None
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            (self.cost or 0) + (other.cost or 0) if known else None,
        )


class _Block(Struct):
    type: str


class _Details(Struct):
    category: str | None = None


class _Counts(Struct):
    input_tokens: _Tokens
    output_tokens: _Tokens
    cache_creation_input_tokens: _Tokens | None = None
    cache_read_input_tokens: _Tokens | None = None


class Message(Struct):
    """Of a message of the API, what is used here: one that is not of this shape is none."""

    content: list[_Block]
    model: str
    stop_reason: str
    usage: _Counts
    stop_details: _Details | None = None


class Reply(Struct, frozen=True, kw_only=True):
    """One answer of the API; ``raw`` is the whole of it as JSON, without the request's headers."""

    status: Status
    why: str = ""
    """In one line, where the status is not ``ok``."""
    model: str = ""
    """As the provider named it in the answer."""
    stop_reason: str = ""
    category: str = ""
    """Of a refusal, as the provider named it: ``cyber``, ..."""
    usage: Usage = Usage()
    request_id: str = ""
    seconds: float = 0.0
    raw: Mapping[str, Any] | None = None
    batch: bool = False
    """Whether it came by a batch, for half the price."""
    fatal: bool = False
    """Whether asking again, for anything, would end the same way: the key, the model, the bill."""

    @property
    def content(self) -> tuple[Mapping[str, Any], ...]:
        """The blocks of the answer; no block is first for sure, and there may be none."""
        return tuple((self.raw or {}).get("content") or ())

    @property
    def text(self) -> str:
        """All text of the answer."""
        return "".join(str(one.get("text", "")) for one in self.content if one["type"] == "text")

    @property
    def tool_uses(self) -> tuple[Mapping[str, Any], ...]:
        """Blocks with ``id``, ``name`` and ``input``."""
        return tuple(one for one in self.content if one["type"] == "tool_use")
