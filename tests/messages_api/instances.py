"""An answer that fits the schema a request asks for, when nobody scripted a better one."""

import json
from typing import Any

from tests.messages_api import replies

STRINGS = {
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "date": "2026-01-01",
    "duration": "P1D",
    "email": "somebody@example.org",
    "hostname": "example.org",
    "uri": "https://example.org/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
PLAIN = {"string": "text", "integer": 0, "number": 0, "boolean": False, "null": None}


def shaped(body: dict[str, Any]) -> replies.Message:
    """JSON of the shape in ``output_config.format``; without one, a sentence."""
    chosen = (body.get("output_config") or {}).get("format")
    if chosen is None:
        return replies.text("Nobody wrote a script for this model.")
    return replies.text(json.dumps(instance(chosen["schema"]), indent=2))


def instance(schema: dict[str, Any], root: dict[str, Any] | None = None) -> Any:
    """The plainest value that ``schema`` accepts: the first of every choice, required members."""
    root = schema if root is None else root
    if "$ref" in schema:
        return instance(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return instance(schema["anyOf"][0], root)
    if "allOf" in schema:
        return instance(schema["allOf"][0], root)
    if schema["type"] == "object":
        required = schema.get("required", [])
        return {name: instance(schema["properties"][name], root) for name in required}
    if schema["type"] == "array":
        return [instance(schema["items"], root)] * schema.get("minItems", 0)
    return STRINGS.get(schema.get("format", ""), PLAIN[schema["type"]])
