"""A request to the Messages API, as a value: the same value, the same answer from the store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

API_VERSION = "2026-10-21"
"""The header ``anthropic-version`` that the SDK 2.x sends; an answer depends on it."""


class Request(Struct, frozen=True, kw_only=True):
    """What is asked; there is no temperature and no seed, the API refuses both."""

    model: str
    system: str
    messages: tuple[Mapping[str, Any], ...]
    max_tokens: int
    schema: Mapping[str, Any] | None = None
    """Of the answer (``output_config.format``): every object closed, no maps."""
    tools: tuple[Mapping[str, Any], ...] = ()
    effort: str | None = None

    def parameters(self) -> dict[str, Any]:
        """The arguments of ``messages.create``: what all requests share is first, and cached."""
        output: dict[str, Any] = {}
        if self.effort is not None:
            output["effort"] = self.effort
        if self.schema is not None:
            output["format"] = {"type": "json_schema", "schema": self.schema}
        system = {
            "type": "text",
            "text": self.system,
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        }
        given: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "system": [system],
            "messages": list(self.messages),
        }
        if output:
            given["output_config"] = output
        if self.tools:
            given["tools"] = list(self.tools)
        return given

    def digest(self) -> str:
        """SHA-256 of all that the answer depends on, in hex."""
        whole = {"anthropic-version": API_VERSION, **self.parameters()}
        return hashlib.sha256(msgspec.json.encode(whole, order="deterministic")).hexdigest()
