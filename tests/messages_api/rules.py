"""What a request for a message must look like, as the API of 2026-10-21 has it.

Blocks, tools and settings that this project has no use for are refused too: nothing passes here
that nobody has looked at.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import Any

import jsonschema

from tests.messages_api.errors import Refused, invalid
from tests.messages_api.schema_rules import check_schema

MOST_OUTPUT_TOKENS = 128_000
CACHE_BREAKPOINTS = 4
SAMPLING = ("temperature", "top_p", "top_k")
EFFORTS = ("low", "medium", "high", "xhigh", "max")
CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")

COUNTED = {
    "cache_control", "messages", "model", "output_config", "speed", "system", "thinking",
    "tool_choice", "tools",
}  # fmt: skip
ASKED = COUNTED | {
    "container", "diagnostics", "inference_geo", "max_tokens", "metadata", "service_tier",
    "stop_sequences", "stream",
}  # fmt: skip

BLOCKS = {  # of each: (required fields, optional fields)
    "text": ({"text"}, {"cache_control", "citations"}),
    "thinking": ({"thinking", "signature"}, set[str]()),
    "redacted_thinking": ({"data"}, set[str]()),
    "tool_use": ({"id", "name", "input"}, {"cache_control", "caller", "toolset_name"}),
    "tool_result": ({"tool_use_id"}, {"cache_control", "content", "is_error", "toolset_name"}),
}
BLOCKS_OF_ROLE = {
    "user": {"text", "tool_result"},
    "assistant": {"text", "thinking", "redacted_thinking", "tool_use"},
    "system": {"text"},
}
THINKING = {  # of each: (required fields, optional fields)
    "adaptive": (set[str](), {"display"}),
    "enabled": ({"budget_tokens"}, {"display"}),
    "disabled": (set[str](), set[str]()),
    "between_tools": (set[str](), set[str]()),
}
TOOL_CHOICES = {  # of each: (required fields, optional fields)
    "auto": (set[str](), {"disable_parallel_tool_use"}),
    "any": (set[str](), {"disable_parallel_tool_use"}),
    "tool": ({"name"}, {"disable_parallel_tool_use"}),
    "none": (set[str](), set[str]()),
}


def signature(thinking: str) -> str:
    """Of a thinking block of ours: one that was changed is found out."""
    digest = hashlib.sha256(b"signed here " + thinking.encode("utf-8", "surrogatepass"))
    return base64.b64encode(digest.digest()).decode()


def check_request(body: object) -> dict[str, Any]:
    """The body of POST /v1/messages. Raises Refused."""
    request = _top_level(body, ASKED, {"max_tokens", "messages", "model"})
    most = request["max_tokens"]
    if not _is_integer(most) or most < 1:
        raise invalid("max_tokens", "Input should be a whole number of at least 1")
    if most > MOST_OUTPUT_TOKENS:
        raise invalid(
            "max_tokens", f"{most} > {MOST_OUTPUT_TOKENS}, the most output tokens of this model"
        )
    _check_settings(request)
    _check_prompt(request)
    return request


def check_count(body: object) -> dict[str, Any]:
    """The body of POST /v1/messages/count_tokens. Raises Refused."""
    request = _top_level(body, COUNTED, {"messages", "model"})
    _check_prompt(request)
    return request


def check_batch(body: object) -> list[dict[str, Any]]:
    """The body of POST /v1/messages/batches; its params are checked later, one by one."""
    requests = _top_level(body, {"requests"}, {"requests"})["requests"]
    if not isinstance(requests, list) or not 1 <= len(requests) <= 100_000:
        raise invalid("requests", "Input should be a list of 1 to 100000 requests")
    seen: set[str] = set()
    for at, request in enumerate(requests):
        where = f"requests.{at}"
        _fields(request, where, {"custom_id", "params"}, set())
        custom_id = request["custom_id"]
        if not isinstance(custom_id, str) or not CUSTOM_ID.fullmatch(custom_id):
            raise invalid(f"{where}.custom_id", f"String should match '^{CUSTOM_ID.pattern}$'")
        if custom_id in seen:
            raise invalid(f"{where}.custom_id", f"{custom_id!r} is there twice")
        seen.add(custom_id)
        if not isinstance(request["params"], dict):
            raise invalid(f"{where}.params", "Input should be an object")
        if "stream" in request["params"]:
            raise invalid(f"{where}.params.stream", "Extra inputs are not permitted")
    return requests


# --- the pieces --------------------------------------------------------------------------------


def _top_level(body: object, allowed: set[str], required: set[str]) -> dict[str, Any]:
    if isinstance(body, dict):
        for name in SAMPLING:
            if name in body:
                raise invalid(name, "Sampling parameters are not supported; remove it")
    return _fields(body, "", required, allowed - required)


def _fields(value: object, where: str, required: set[str], optional: set[str]) -> dict[str, Any]:
    prefix = f"{where}." if where else ""
    if not isinstance(value, dict):
        raise invalid(where or "body", "Input should be an object")
    for name in sorted(required - value.keys()):
        raise invalid(f"{prefix}{name}", "Field required")
    for name in value:
        if name not in required | optional:
            raise invalid(f"{prefix}{name}", "Extra inputs are not permitted")
    return value


def _variant(
    value: object, where: str, variants: dict[str, tuple[set[str], set[str]]]
) -> dict[str, Any]:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in variants:
        raise invalid(f"{where}.type", f"Input should be one of {', '.join(sorted(variants))}")
    required, optional = variants[kind]
    return _fields(value, where, required | {"type"}, optional)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _one_of(value: object, where: str, allowed: Iterable[object]) -> None:
    if value not in allowed:
        raise invalid(where, f"Input should be one of {', '.join(map(str, allowed))}")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise invalid(where, "Input should be a string")
    if not value.strip():
        raise invalid(where, "text content blocks must contain non-whitespace text")
    return value


def _check_settings(request: dict[str, Any]) -> None:
    if not isinstance(request.get("stream", False), bool):
        raise invalid("stream", "Input should be true or false")
    _one_of(request.get("service_tier", "auto"), "service_tier", ("auto", "standard_only"))
    _fields(request.get("metadata", {}), "metadata", set(), {"user_id"})
    stops = request.get("stop_sequences", [])
    if not isinstance(stops, list):
        raise invalid("stop_sequences", "Input should be a list")
    for at, stop in enumerate(stops):
        _text(stop, f"stop_sequences.{at}")
    for name in ("container", "diagnostics", "inference_geo"):
        if request.get(name) is not None:
            raise invalid(name, "this loopback server does not know what that does")


def _check_prompt(request: dict[str, Any]) -> None:
    _text(request["model"], "model")
    _one_of(request.get("speed") or "standard", "speed", ("standard", "fast"))
    _check_output_config(request.get("output_config"))
    thinking = _check_thinking(request)
    tools = _check_tools(request.get("tools", []))
    _check_tool_choice(request, tools, thinking)
    _check_system(request.get("system", ""))
    _check_messages(request["messages"])
    _check_tool_turns(request["messages"], tools, thinking)
    _check_cache_control(request)


def _check_output_config(given: object) -> None:
    if given is None:
        return
    config = _fields(given, "output_config", set(), {"effort", "format"})
    if config.get("effort") is not None:
        _one_of(config["effort"], "output_config.effort", EFFORTS)
    if config.get("format") is not None:
        where = "output_config.format"
        chosen = _variant(config["format"], where, {"json_schema": ({"schema"}, set())})
        check_schema(chosen["schema"], f"{where}.schema")


def _check_thinking(request: dict[str, Any]) -> str | None:
    if "thinking" not in request:
        return None
    thinking = _variant(request["thinking"], "thinking", THINKING)
    if thinking.get("display") is not None:
        _one_of(thinking["display"], "thinking.display", ("summarized", "omitted"))
    if thinking["type"] == "enabled":
        budget = thinking["budget_tokens"]
        if not _is_integer(budget) or budget < 1024:
            raise invalid("thinking.budget_tokens", "Input should be a whole number, 1024 or more")
        if budget >= request.get("max_tokens", budget + 1):
            raise invalid("max_tokens", "must be greater than thinking.budget_tokens")
    return str(thinking["type"])


def _check_tools(tools: object) -> list[str]:
    if not isinstance(tools, list):
        raise invalid("tools", "Input should be a list")
    names: list[str] = []
    optional = {"cache_control", "description", "input_examples", "strict", "type"}
    for at, given in enumerate(tools):
        where = f"tools.{at}"
        tool = _fields(given, where, {"name", "input_schema"}, optional)
        _one_of(tool.get("type", "custom"), f"{where}.type", ("custom",))
        name = tool["name"]
        if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
            raise invalid(f"{where}.name", f"String should match '^{TOOL_NAME.pattern}$'")
        if name in names:
            raise invalid("tools", f"Tool names must be unique: {name!r} is there twice")
        names.append(name)
        _check_input_schema(tool["input_schema"], f"{where}.input_schema")
        if tool.get("strict"):
            check_schema(tool["input_schema"], f"{where}.input_schema")
    return names


def _check_input_schema(schema: object, where: str) -> None:
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise invalid(f"{where}.type", "Input should be 'object'")
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        at = ".".join(map(str, error.absolute_path))
        raise invalid(where, f"JSON schema is invalid at '{at}': {error.message}") from None


def _check_tool_choice(request: dict[str, Any], tools: list[str], thinking: str | None) -> None:
    if "tool_choice" not in request:
        return
    choice = _variant(request["tool_choice"], "tool_choice", TOOL_CHOICES)
    if not tools:
        raise invalid("tool_choice", "may only be specified while providing tools")
    if choice["type"] == "tool" and choice["name"] not in tools:
        raise invalid("tool_choice.name", f"Tool {choice['name']!r} not found in provided tools")
    if choice["type"] in ("any", "tool") and thinking in ("adaptive", "enabled"):
        raise invalid("thinking", "may not be enabled when tool_choice forces tool use")


def _check_system(system: object) -> None:
    if isinstance(system, str):
        return
    if not isinstance(system, list):
        raise invalid("system", "Input should be a string or a list of text blocks")
    for at, block in enumerate(system):
        _check_block(block, f"system.{at}", "system")


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list):
        raise invalid("messages", "Input should be a list")
    if not messages:
        raise invalid("messages", "at least one message is required")
    for at, message in enumerate(messages):
        _fields(message, f"messages.{at}", {"role", "content"}, set())
        _one_of(message["role"], f"messages.{at}.role", tuple(BLOCKS_OF_ROLE))
        _check_content(message, f"messages.{at}")
    if messages[0]["role"] != "user":
        raise invalid("messages", 'first message must use the "user" role')
    if messages[-1]["role"] != "user":
        raise invalid(
            "messages",
            "This model does not support assistant message prefill."
            " The conversation must end with a user message.",
        )


def _check_content(message: dict[str, Any], where: str) -> None:
    content, role = message["content"], message["role"]
    if isinstance(content, str):
        _text(content, f"{where}.content")
        return
    if not isinstance(content, list):
        raise invalid(f"{where}.content", "Input should be a string or a list of blocks")
    if not content:
        raise invalid(where, "all messages must have non-empty content")
    for at, block in enumerate(content):
        _check_block(block, f"{where}.content.{at}", role)
    kinds = [block["type"] for block in content]
    if "thinking" in kinds and kinds[0] not in ("thinking", "redacted_thinking"):
        raise invalid(
            f"{where}.content.0", f"the first block must be `thinking`, found `{kinds[0]}`"
        )


def _check_block(given: object, where: str, role: str) -> None:
    allowed = {kind: BLOCKS[kind] for kind in BLOCKS_OF_ROLE[role]}
    block = _variant(given, where, allowed)
    if block["type"] == "text":
        _text(block["text"], f"{where}.text")
    elif block["type"] == "thinking" and block["signature"] != signature(block["thinking"]):
        raise invalid(where, "Invalid `signature` in `thinking` block")
    elif block["type"] == "tool_use" and not isinstance(block["input"], dict):
        raise invalid(f"{where}.input", "Input should be an object")
    elif block["type"] == "tool_result":
        _check_result(block, where)


def _check_result(block: dict[str, Any], where: str) -> None:
    content = block.get("content", "")
    if not isinstance(block.get("is_error", False), bool):
        raise invalid(f"{where}.is_error", "Input should be true or false")
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise invalid(f"{where}.content", "Input should be a string or a list of blocks")
    for at, inner in enumerate(content):
        _check_block(inner, f"{where}.content.{at}", "system")  # text only


def _check_tool_turns(
    messages: list[dict[str, Any]], tools: list[str], thinking: str | None
) -> None:
    """Every tool_use is answered in the next turn, first thing; and nothing else is."""
    asked: list[str] = []
    ever: set[str] = set()
    for at, _, blocks in _turns(messages):
        kinds = [block["type"] for block in blocks]
        answers = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        for answer in answers:
            if answer not in asked:
                raise invalid(
                    f"messages.{at}.content",
                    f"unexpected `tool_use_id` found in `tool_result` blocks: {answer}. Each"
                    " `tool_result` needs its `tool_use` in the previous message.",
                )
        if len(set(answers)) < len(answers):
            raise invalid(f"messages.{at}.content", "each tool_use must have a single result")
        leading = kinds[: len(answers)].count("tool_result")
        if set(asked) - set(answers[:leading]):
            raise invalid(
                f"messages.{at - 1}",
                "`tool_use` ids were found without `tool_result` blocks immediately after: "
                + ", ".join(sorted(set(asked) - set(answers[:leading]))),
            )
        asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(asked)) < len(asked) or ever & set(asked):
            raise invalid(f"messages.{at}.content", "`tool_use` ids must be unique")
        ever |= set(asked)
        if asked and thinking == "enabled" and kinds[0] not in ("thinking", "redacted_thinking"):
            raise invalid(
                f"messages.{at}.content.0.type",
                f"Expected `thinking` or `redacted_thinking`, but found `{kinds[0]}`",
            )
    if ever and not tools:
        raise invalid("tools", "Requests with `tool_use` or `tool_result` blocks must define tools")


def _turns(messages: list[dict[str, Any]]) -> list[tuple[int, str, list[dict[str, Any]]]]:
    """(index of the last message, role, blocks); neighbours of one role are one turn."""
    turns: list[tuple[int, str, list[dict[str, Any]]]] = []
    for at, message in enumerate(messages):
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if turns and turns[-1][1] == message["role"]:
            turns[-1] = (at, message["role"], turns[-1][2] + blocks)
        else:
            turns.append((at, message["role"], list(blocks)))
    return turns


def _check_cache_control(request: dict[str, Any]) -> None:
    """At most four marks; a longer ttl never after a shorter one, in the order of the prompt."""
    holders: list[Any] = [*request.get("tools", [])]
    if isinstance(request.get("system"), list):
        holders += request["system"]
    for message in request["messages"]:
        if isinstance(message["content"], list):
            holders += message["content"]
    marks = [holder["cache_control"] for holder in [*holders, request] if _marked(holder)]
    for mark in marks:
        _variant(mark, "cache_control", {"ephemeral": (set(), {"ttl"})})
        _one_of(mark.get("ttl", "5m"), "cache_control.ttl", ("5m", "1h"))
    if len(marks) > CACHE_BREAKPOINTS:
        raise Refused(
            400,
            f"A maximum of {CACHE_BREAKPOINTS} blocks with cache_control may be provided."
            f" Found {len(marks)}.",
        )
    times = [mark.get("ttl", "5m") for mark in marks]
    if times != sorted(times):  # "1h" sorts before "5m", as it has to stand
        raise invalid(
            "cache_control.ttl",
            "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block",
        )


def _marked(holder: dict[str, Any]) -> bool:
    return holder.get("cache_control") is not None
