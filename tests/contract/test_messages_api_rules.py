"""What the loopback server refuses: a client of ours is held to it.

Every refusal is asked for through the real SDK, so that it is known to be an error there.
"""

import json
from collections.abc import Callable
from typing import Any, Literal

import anthropic
import httpx2
import jsonschema
import pydantic
import pytest

from tests.messages_api import replies
from tests.messages_api.clients import (
    HELLO,
    MODEL,
    RESULT,
    TEXT,
    TOOL,
    answer,
    client,
    create,
    question,
    statuses,
    streamed,
)
from tests.messages_api.instances import instance, shaped
from tests.messages_api.rules import signature
from tests.messages_api.server import API_VERSION, MessagesApi

# --- what is refused -----------------------------------------------------------------------------


USE = {"type": "tool_use", "id": "toolu_1", "name": "evaluate_profile", "input": {}}
MARKED = TEXT | {"cache_control": {"type": "ephemeral"}}
MARKED_1H = TEXT | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
FORGED = {"type": "thinking", "thinking": "x", "signature": "AAAA"}
SIGNED = FORGED | {"signature": signature("x")}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "temperature": ({"temperature": 1.0}, "temperature: Sampling"),
    "top_p": ({"top_p": 1}, "top_p: Sampling"),
    "top_k": ({"top_k": 5}, "top_k: Sampling"),
    "unknown field": ({"seed": 1}, "seed: Extra inputs"),
    "raw output_format": ({"output_format": {}}, "output_format: Extra inputs"),
    "threads": ({"thread": {"type": "create"}}, "thread: Extra inputs"),
    "no tokens": ({"max_tokens": 0}, "max_tokens: .*at least 1"),
    "too many tokens": ({"max_tokens": 10**6}, "max_tokens: 1000000 >"),
    "tokens are a word": ({"max_tokens": "9"}, "max_tokens"),
    "no messages": ({"messages": []}, "at least one message"),
    "assistant first": ({"messages": [answer(), question()]}, 'first message must use the "user"'),
    "prefill": ({"messages": [question(), answer()]}, "must end with a user message"),
    "unknown role": ({"messages": [{"role": "tool", "content": "x"}]}, r"messages.0.role"),
    "field of a message": ({"messages": [question() | {"name": "x"}]}, "messages.0.name: Extra"),
    "empty text": ({"messages": [question(TEXT | {"text": " "})]}, "non-whitespace"),
    "empty string": ({"messages": [question() | {"content": ""}]}, "non-whitespace"),
    "a refusal sent back": (
        {"messages": [question(), {"role": "assistant", "content": []}, question()]},
        "messages.1: all messages must have non-empty content",
    ),
    "unknown block": ({"messages": [question({"type": "video"})]}, "messages.0.content.0.type"),
    "tool_use of a user": ({"messages": [question(USE)]}, "messages.0.content.0.type"),
    "field of a block": ({"messages": [question(TEXT | {"id": "x"})]}, "content.0.id: Extra"),
    "forged thinking": (
        {"messages": [question(), answer(FORGED, TEXT), question()]},
        "Invalid `signature`",
    ),
    "text before thinking": (
        {"messages": [question(), answer(TEXT, SIGNED), question()]},
        "first block must be `thinking`",
    ),
    "result without use": ({"messages": [question(RESULT)], "tools": [TOOL]}, "unexpected `tool_u"),
    "use without result": (
        {"messages": [question(), answer(USE), question()], "tools": [TOOL]},
        "without `tool_result` blocks immediately after: toolu_1",
    ),
    "text before a result": (
        {"messages": [question(), answer(USE), question(TEXT, RESULT)], "tools": [TOOL]},
        "without `tool_result` blocks immediately after",
    ),
    "two results": (
        {"messages": [question(), answer(USE), question(RESULT, RESULT)], "tools": [TOOL]},
        "single result",
    ),
    "one id twice": (
        {
            "messages": [
                question(), answer(USE), question(RESULT), answer(USE), question(RESULT),
            ],
            "tools": [TOOL],
        },
        "must be unique",
    ),
    "turns without tools": (
        {"messages": [question(), answer(USE), question(RESULT)]},
        "must define tools",
    ),
    "tools without thinking": (
        {
            "messages": [question(), answer(USE), question(RESULT)],
            "tools": [TOOL],
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "max_tokens": 2000,
        },
        "Expected `thinking`",
    ),
    "tool name": ({"tools": [TOOL | {"name": "a b"}]}, "tools.0.name"),
    "tool twice": ({"tools": [TOOL, TOOL]}, "Tool names must be unique"),
    "tool schema": ({"tools": [TOOL | {"input_schema": {"type": "array"}}]}, "should be 'object'"),
    "no JSON schema": (
        {"tools": [TOOL | {"input_schema": {"type": "object", "required": "profile"}}]},
        "JSON schema is invalid",
    ),
    "strict tool": ({"tools": [TOOL | {"strict": True}]}, "additionalProperties"),
    "choice without tools": ({"tool_choice": {"type": "auto"}}, "while providing tools"),
    "unknown tool": (
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}},
        "'other' not found",
    ),
    "forced while thinking": (
        {"tools": [TOOL], "tool_choice": {"type": "any"}, "thinking": {"type": "adaptive"}},
        "forces tool use",
    ),
    "little thinking": ({"thinking": {"type": "enabled", "budget_tokens": 1}}, "budget_tokens"),
    "much thinking": ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "greater than"),
    "thinking budget": (
        {"thinking": {"type": "adaptive", "budget_tokens": 2000}},
        "thinking.budget_tokens: Extra",
    ),
    "effort": ({"output_config": {"effort": "huge"}}, "output_config.effort"),
    "output_config": ({"output_config": {"schema": {}}}, "output_config.schema: Extra"),
    "format": ({"output_config": {"format": {"type": "json"}}}, "output_config.format.type"),
    "service tier": ({"service_tier": "batch"}, "service_tier"),
    "metadata": ({"metadata": {"run": "1"}}, "metadata.run: Extra"),
    "five marks": ({"system": [MARKED] * 5}, "maximum of 4 blocks with cache_control.*Found 5"),
    "long after short": ({"system": [MARKED, MARKED_1H]}, "must not come after"),
    "cache ttl": (
        {"cache_control": {"type": "ephemeral", "ttl": "2h"}},
        "cache_control.ttl",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", REFUSED)
def test_what_the_api_refuses_is_refused_here(messages_api: MessagesApi, change: str) -> None:
    fields, message = REFUSED[change]
    messages_api.script(MODEL, [])
    with pytest.raises(anthropic.BadRequestError, match=message) as raised:
        create(messages_api, extra_body=fields)
    assert raised.value.type == "invalid_request_error"
    assert statuses(messages_api) == [400]


@pytest.mark.parametrize("missing", ["max_tokens", "messages", "model"])
def test_what_is_required_is_required(messages_api: MessagesApi, missing: str) -> None:
    body = {"model": MODEL, "max_tokens": 9, "messages": HELLO}
    del body[missing]
    error = pytest.raises(anthropic.BadRequestError, match=f"{missing}: Field required")
    with client(messages_api) as one, error:
        one.post("/v1/messages", body=body, cast_to=object)


@pytest.mark.parametrize("sent", [b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_object(messages_api: MessagesApi, sent: bytes) -> None:
    headers = {
        "authorization": f"Bearer {messages_api.api_key}",
        "anthropic-version": API_VERSION,
    }
    found = httpx2.post(f"{messages_api.base_url}/v1/messages", content=sent, headers=headers)
    assert (found.status_code, found.headers["request-id"]) == (400, "req_000001")


@pytest.mark.parametrize("ask", [create, streamed])
def test_all_that_is_allowed_passes(messages_api: MessagesApi, ask: Callable[..., Any]) -> None:
    messages_api.script(MODEL, [replies.text("x")])
    ask(
        messages_api,
        max_tokens=4096,
        system=[MARKED_1H],
        messages=[
            question(TEXT), question(MARKED), answer(SIGNED, TEXT, USE), question(RESULT, TEXT),
            answer(TEXT), {"role": "system", "content": "Now be brief."}, question(),
        ],
        tools=[TOOL],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        thinking={"type": "adaptive", "display": "summarized"},
        output_config={"effort": "high", "format": None},
        cache_control={"type": "ephemeral"},
        metadata={"user_id": "none"},
        service_tier="standard_only",
        stop_sequences=["END"],
    )  # fmt: skip
    assert statuses(messages_api) == [200]


def test_counting_takes_no_max_tokens(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, [])
    error = pytest.raises(anthropic.BadRequestError, match="max_tokens: Extra")
    with client(messages_api) as one, error:
        one.messages.count_tokens(model=MODEL, messages=HELLO, extra_body={"max_tokens": 9})


# --- structured output ---------------------------------------------------------------------------


class Argument(pydantic.BaseModel):
    index: int = pydantic.Field(ge=0, le=5)
    op: Literal["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"]
    value: int


class Rule(pydantic.BaseModel):
    names: list[str] = pydantic.Field(min_length=1, max_length=400)
    action: Literal["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"]
    args: list[Argument] = []


class Seccomp(pydantic.BaseModel):
    mechanism: Literal["seccomp"]
    rules: list[Rule]


class Landlock(pydantic.BaseModel):
    mechanism: Literal["landlock"]
    abi: int = pydantic.Field(multiple_of=1)


class Mitigation(pydantic.BaseModel):
    rationale: str = pydantic.Field(max_length=2000, pattern="^[A-Z]")
    profile: Seccomp | Landlock = pydantic.Field(discriminator="mechanism")
    until: str | None = pydantic.Field(json_schema_extra={"format": "date"})


def shape(schema: dict[str, Any]) -> Any:
    return {"format": {"type": "json_schema", "schema": schema}}


@pytest.mark.parametrize("ask", [create, streamed])
def test_what_the_sdk_makes_of_a_model_is_accepted_and_answered(
    messages_api: MessagesApi, ask: Callable[..., Any]
) -> None:
    schema = anthropic.transform_schema(Mitigation)
    messages_api.script(MODEL, shaped)
    message = ask(messages_api, output_config=shape(schema))
    found = json.loads(message.content[0].text)
    jsonschema.validate(found, schema)
    Mitigation.model_validate(found | {"rationale": "Because"})


def test_what_pydantic_makes_of_it_is_refused(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, shaped)
    with pytest.raises(anthropic.BadRequestError, match=r"output_config\.format\.schema"):
        create(messages_api, output_config=shape(Mitigation.model_json_schema()))


def test_parse_gives_the_model(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, [replies.text('{"index": 1, "op": "SCMP_CMP_EQ", "value": 2}')])
    with client(messages_api) as one:
        parsed = one.messages.parse(
            model=MODEL, max_tokens=99, messages=HELLO, output_format=Argument
        )
    assert parsed.parsed_output == Argument(index=1, op="SCMP_CMP_EQ", value=2)


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


STRING = {"type": "string"}
REFUSED_SCHEMAS: dict[str, tuple[dict[str, Any], str]] = {
    "open": ({"type": "object", "properties": {}}, "additionalProperties"),
    "open inside": (closed(a={"type": "object", "properties": {}}), "properties.a.*additionalProp"),
    "a map": (closed() | {"additionalProperties": STRING}, "explicitly set to false"),
    "minimum": (closed(a={"type": "integer", "minimum": 0}), "'minimum' is not supported"),
    "maxLength": (closed(a=STRING | {"maxLength": 9}), "'maxLength' is not supported"),
    "pattern": (closed(a=STRING | {"pattern": "a"}), "'pattern' is not supported"),
    "default": (closed(a=STRING | {"default": ""}), "'default' is not supported"),
    "minItems": (closed(a={"type": "array", "items": STRING, "minItems": 2}), "0 or 1"),
    "maxItems": (closed(a={"type": "array", "items": STRING, "maxItems": 2}), "'maxItems'"),
    "no items": (closed(a={"type": "array"}), "'items' is required"),
    "oneOf": (closed(a={"oneOf": [STRING]}), "one of .*anyOf"),
    "no type": (closed(a={"description": "anything"}), "one of .*type is required"),
    "several types": (closed(a={"type": ["string", "null"]}), "use anyOf"),
    "discriminator": (closed(a={"anyOf": [STRING], "discriminator": {}}), "'discriminator'"),
    "format": (closed(a=STRING | {"format": "regex"}), "format 'regex'"),
    "enum of objects": (closed(a={"enum": [{}]}), "enum: only"),
    "empty enum": (closed(a={"enum": []}), "enum: a list of at least one"),
    "const object": (closed(a={"const": {}}), "const: only"),
    "reference": (closed(a={"$ref": "#/$defs/a"}), "is not one of"),
    "recursive": (
        closed(a={"$ref": "#/$defs/x"})
        | {"$defs": {"x": closed(y={"$ref": "#/$defs/z"}), "z": closed(x={"$ref": "#/$defs/x"})}},
        "Recursive schemas",
    ),
    "required": (closed() | {"required": ["b"]}, "are no properties"),
    "many optional": (
        closed(**{f"p{at}": STRING for at in range(25)}) | {"required": []},
        "25 optional properties",
    ),
    "many unions": (
        closed(**{f"p{at}": {"anyOf": [STRING, {"type": "null"}]} for at in range(17)}),
        "17 properties use anyOf",
    ),
}


@pytest.mark.parametrize("name", REFUSED_SCHEMAS)
def test_schemas_the_api_does_not_compile(messages_api: MessagesApi, name: str) -> None:
    schema, message = REFUSED_SCHEMAS[name]
    messages_api.script(MODEL, [])
    with pytest.raises(anthropic.BadRequestError, match=message):
        create(messages_api, output_config=shape(schema))


def test_the_plainest_instance_fits() -> None:
    schema = closed(
        a={"type": "array", "items": STRING, "minItems": 1},
        b={"anyOf": [{"type": "null"}, STRING]},
        c={"enum": ["x", "y"]},
        d={"allOf": [{"$ref": "#/$defs/e"}]},
    ) | {"$defs": {"e": closed(n={"type": "number"}, t=STRING | {"format": "date-time"})}}
    found = instance(schema)
    jsonschema.validate(found, schema)
    assert found["a"] == ["text"]


# --- tool turns ----------------------------------------------------------------------------------


def tool_loop(api: MessagesApi, alter: Callable[[list[Any]], object] = lambda _: None) -> list[Any]:
    """As a client does it: the content goes back as it came. Returns the messages."""
    messages: list[Any] = list(HELLO)
    with client(api) as one:
        for _ in range(4):
            message = one.messages.create(
                model=MODEL,
                max_tokens=99,
                messages=messages,
                tools=[TOOL],  # type: ignore[list-item]
            )
            messages.append({"role": "assistant", "content": message.to_dict()["content"]})
            uses = [block for block in message.content if block.type == "tool_use"]
            if not uses:
                return messages
            results = [RESULT | {"tool_use_id": use.id, "is_error": False} for use in uses]
            messages.append({"role": "user", "content": results})
            alter(messages)
    raise AssertionError("it did not end")


def test_a_tool_loop_of_two_turns(messages_api: MessagesApi) -> None:
    turn = replies.tool_use("evaluate_profile", {"profile": "{}"}, thinking="Try this.")
    messages_api.script(MODEL, [turn, turn, replies.text("Done.", thinking="It holds.")])
    messages = tool_loop(messages_api)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3
    assert statuses(messages_api) == [200, 200, 200]
    assert [len(body["messages"]) for body in messages_api.asked()] == [1, 3, 5]
    assert messages_api.asked()[2]["messages"][1] == messages[1]


def test_changed_thinking_is_refused(messages_api: MessagesApi) -> None:
    turn = replies.tool_use("evaluate_profile", {}, thinking="Try this.")
    messages_api.script(MODEL, [turn])
    with pytest.raises(anthropic.BadRequestError, match="Invalid `signature`"):
        tool_loop(messages_api, lambda messages: messages[1]["content"][0].update(thinking="No."))
