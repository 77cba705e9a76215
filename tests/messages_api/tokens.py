"""Token counts without a tokenizer: four characters are one, and a prompt cache that remembers.

The shortest prefix that the real cache takes, and its expiry, are not imitated.
"""

import json
import threading
from typing import Any

PROMPT = ("tools", "system", "messages", "output_config", "tool_choice")


def tokens(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False)) // 4 + 1


def input_tokens(body: dict[str, Any]) -> int:
    """All of the prompt, as ``count_tokens`` reports it."""
    return tokens({name: body.get(name) for name in PROMPT})


def cacheable(body: dict[str, Any]) -> tuple[list[object], str]:
    """What stands up to the last ``cache_control``, and its ttl; nothing without one."""
    parts: list[object] = [*body.get("tools", []), *_blocks(body.get("system", []))]
    for message in body["messages"]:
        parts.append(message["role"])
        parts.extend(_blocks(message["content"]))
    marked = [at for at, part in enumerate(parts) if _mark(part)]
    if mark := body.get("cache_control"):
        end = len(parts)
    elif marked:
        end = marked[-1] + 1
        mark = _mark(parts[end - 1])
    else:
        return [], "5m"
    return [_without_mark(part) for part in parts[:end]], mark.get("ttl", "5m")


class PromptCache:
    """The prefixes that were marked; a later request reads the longest that it starts with."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def usage(self, body: dict[str, Any]) -> dict[str, Any]:
        """The input side of ``usage``; its three numbers add up to ``input_tokens``."""
        everything = input_tokens(body)
        parts, ttl = cacheable(body)
        prefixes = [json.dumps([body["model"], parts[:end]]) for end in range(1, len(parts) + 1)]
        with self._lock:
            known = [prefix for prefix in prefixes if prefix in self._seen]
            self._seen.update(prefixes[-1:])
        read = min(len(known[-1]) // 4, everything - 1) if known else 0
        marked = min(len(prefixes[-1]) // 4, everything - 1) if prefixes else 0
        written = marked - read
        return {
            "input_tokens": everything - marked,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": written if ttl == "5m" else 0,
                "ephemeral_1h_input_tokens": written if ttl == "1h" else 0,
            },
        }


def _blocks(content: object) -> list[Any]:
    return content if isinstance(content, list) else [content]


def _mark(part: object) -> dict[str, Any]:
    return (part.get("cache_control") or {}) if isinstance(part, dict) else {}


def _without_mark(part: object) -> object:
    if not isinstance(part, dict):
        return part
    return {name: value for name, value in part.items() if name != "cache_control"}
