"""What a model answers: the schema that it is asked for, and our own reading of what it wrote.

What it wrote is data.  It is one JSON object of this shape or it is invalid: no prose is searched
for a profile, no fence is taken off, and of two profiles none is chosen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from mitigations import rules
from mitigations.candidate import ProfileError
from mitigations.strict_json import is_list, is_table, kind, parse

LARGEST = 1 << 20
"""Characters: a filter of 4,096 instructions is long compiled before its profile is."""
_KEYS = ("explanation", "possible", "profile")
_ACTIONS = tuple(one for one in rules.ACTIONS if one not in ("SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE"))
"""Those two need somebody who listens."""
_ABIS = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")


class Answer(Struct, frozen=True):
    """What a model wrote, as far as it is used; nothing of it is trusted yet."""

    explanation: str
    profile: str | None
    """A seccomp profile as JSON, or None: the model says that no profile can do it."""


def _closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    """An object with exactly these properties: the API takes no other."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(items)}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [dict(schema), {"type": "null"}]}


def _one_of(names: Sequence[str]) -> dict[str, Any]:
    return {"enum": list(names)}  # a ``type`` beside it is refused


_STRING = {"type": "string"}
_INTEGER = {"type": "integer"}
_CONDITION = _closed(
    {
        "index": _INTEGER,
        "value": _INTEGER,
        "valueTwo": _or_null(_INTEGER),
        "op": _one_of(rules.OPERATORS),
    }
)
_RULE = _closed(
    {
        "names": _list(_STRING),
        "action": _one_of(_ACTIONS),
        "errnoRet": _or_null(_INTEGER),
        "args": _list(_CONDITION),
    }
)
PROFILE_SCHEMA = _closed(
    {
        "defaultAction": _one_of(_ACTIONS),
        "defaultErrnoRet": _or_null(_INTEGER),
        "architectures": _list(_one_of(_ABIS)),
        "syscalls": _list(_RULE),
    }
)
SCHEMA = _closed(
    {"explanation": _STRING, "possible": {"type": "boolean"}, "profile": _or_null(PROFILE_SCHEMA)}
)
"""JSON Schema of an answer, in the part of the language that the API takes."""


def read_answer(text: str) -> Answer:
    """The answer that a text is; ``ProfileError`` with what is wrong, and where."""
    if len(text) > LARGEST:
        raise ProfileError(f"{len(text)} characters; an answer has at most {LARGEST}")
    document = parse(text.encode("utf-8", errors="surrogatepass"))
    if not is_table(document):
        raise ProfileError(f"a JSON {kind(document)}, not an object")
    if odd := sorted(set(document) ^ set(_KEYS)):
        known = odd[0] in _KEYS
        raise ProfileError("missing" if known else "not one of the keys of an answer", odd[0])
    explanation, possible, profile = (document[key] for key in _KEYS)
    if not isinstance(explanation, str):
        raise ProfileError(f"a {kind(explanation)}, not a string", "explanation")
    if not isinstance(possible, bool):
        raise ProfileError(f"a {kind(possible)}, not a boolean", "possible")
    if possible is not is_table(profile):
        raise ProfileError("an object if a profile is possible, and null if not", "profile")
    return Answer(explanation, profile_text(profile) if possible else None)


def profile_text(value: object) -> str:
    """A profile as an answer or a tool call gives it: JSON in lines, without its nulls.

    ``ProfileError`` if it is no JSON object.
    """
    if not is_table(value):
        raise ProfileError(f"a JSON {kind(value)}, not an object", "profile")
    try:
        return json.dumps(_without_null(value), indent=2) + "\n"
    except RecursionError:
        raise ProfileError("nested too deeply for a profile", "profile", "too-deep") from None


def _without_null(value: object) -> object:
    """The schema has no optional fields: what is null was left out."""
    if is_table(value):
        return {key: _without_null(one) for key, one in value.items() if one is not None}
    if is_list(value):
        return [_without_null(one) for one in value]
    return value
