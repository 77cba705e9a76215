"""The real SDK against the loopback server: what a client of ours has to reckon with.

Where the SDK does something that a caller may not expect (an exception that is none of its own, a
"message" without content) the test says so, because ``sidestep generate`` must handle it.
"""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from tests.messages_api import replies
from tests.messages_api.clients import (
    HELLO,
    MODEL,
    async_client,
    client,
    create,
    create_async,
    spoken,
    statuses,
    streamed,
    streamed_async,
)
from tests.messages_api.server import API_VERSION, MessagesApi, most_at_once

ROOT = Path(__file__).parents[2]

Ask = Callable[..., Any]


@pytest.fixture(params=[create, create_async, streamed, streamed_async])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[create, create_async])
def ask_json(request: pytest.FixtureRequest) -> Ask:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[streamed, streamed_async])
def ask_stream(request: pytest.FixtureRequest) -> Ask:
    return request.param  # type: ignore[no-any-return]


# --- messages ----------------------------------------------------------------------------------


def test_text_comes_after_thinking(messages_api: MessagesApi, ask: Ask) -> None:
    words = "Deny mkdir and mkdirat. " * 9 + "é…😀"
    messages_api.script(MODEL, [replies.text(words, thinking="Which calls make a directory?")])
    message = ask(messages_api)
    assert spoken(message) == [
        {"type": "thinking", "thinking": "Which calls make a directory?"},
        {"type": "text", "text": words},
    ]
    assert message.content[0].signature
    assert (message.stop_reason, message.model, message.role) == ("end_turn", MODEL, "assistant")


def test_a_tool_use(messages_api: MessagesApi, ask: Ask) -> None:
    calls = [("evaluate_profile", {"profile": '{"a": [1, "ü"]}'}), ("evaluate_profile", {})]
    messages_api.script(MODEL, [replies.tool_uses(calls, thinking="Try.")])
    message = ask(messages_api)
    assert [(b.name, b.input) for b in message.content if b.type == "tool_use"] == calls
    assert message.stop_reason == "tool_use"
    assert len({block.id for block in message.content[1:]}) == 2


@pytest.mark.parametrize("written", ["", "To block this"])
def test_a_refusal_is_a_success_perhaps_without_content(
    messages_api: MessagesApi, ask: Ask, written: str
) -> None:
    messages_api.script(MODEL, [replies.refusal("cyber", explanation="No.", written=written)])
    message = ask(messages_api)
    assert message.stop_reason == "refusal"
    assert spoken(message) == ([{"type": "text", "text": written}] if written else [])
    assert message.stop_details.to_dict() == {
        "type": "refusal",
        "category": "cyber",
        "explanation": "No.",
    }
    assert statuses(messages_api) == [200]


def test_a_truncated_message(messages_api: MessagesApi, ask: Ask) -> None:
    messages_api.script(MODEL, [replies.truncated('{"defaultAction": "SCMP_ACT_')])
    message = ask(messages_api, max_tokens=77)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 77)


def test_the_answer_names_its_model(messages_api: MessagesApi, ask: Ask) -> None:
    messages_api.script(MODEL, [replies.text("x", model="claude-opus-5-5-20260901")])
    assert ask(messages_api).model == "claude-opus-5-5-20260901"


def test_a_script_sees_the_request(messages_api: MessagesApi, ask: Ask) -> None:
    messages_api.script(MODEL, lambda body: replies.text(body["messages"][0]["content"][::-1]))
    assert spoken(ask(messages_api)) == [{"type": "text", "text": "olleH"}]


def test_what_is_on_the_wire_is_recorded(messages_api: MessagesApi, ask: Ask) -> None:
    messages_api.script(MODEL, [replies.text("x")])
    ask(messages_api, system="Be brief.")
    (request,) = messages_api.requests
    assert (request.method, request.path, request.status) == ("POST", "/v1/messages", 200)
    assert request.headers["anthropic-version"] == API_VERSION
    assert request.headers["authorization"] == f"Bearer {messages_api.api_key}"
    sent = {"model": MODEL, "max_tokens": 999, "messages": HELLO, "system": "Be brief."}
    assert request.body == sent | ({"stream": True} if request.body.get("stream") else {})
    assert messages_api.asked() == [request.body]


def test_the_request_id_is_on_a_message_that_was_not_streamed(
    messages_api: MessagesApi, ask: Ask
) -> None:
    messages_api.script(MODEL, [replies.text("x")])
    message = ask(messages_api)
    streams = ask in (streamed, streamed_async)
    assert getattr(message, "_request_id", None) == (None if streams else "req_000001")


def test_usage(messages_api: MessagesApi, ask: Ask) -> None:
    usage = {"input_tokens": 11, "cache_read_input_tokens": 1200, "output_tokens": 7}
    messages_api.script(MODEL, [replies.text("x", usage=usage)])
    found = ask(messages_api).usage.to_dict()
    assert usage == {name: found[name] for name in usage}
    assert found["service_tier"] == "standard"


def test_thinking_tokens_are_part_of_the_output(messages_api: MessagesApi, ask: Ask) -> None:
    messages_api.script(MODEL, [replies.text("x", thinking="a long thought " * 20)])
    usage = ask(messages_api).usage
    assert 70 < usage.output_tokens_details.thinking_tokens < usage.output_tokens


# --- tokens and the prompt cache ---------------------------------------------------------------


def test_counted_tokens_are_those_of_usage(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, lambda body: replies.text("x"))
    prompt: Any = {
        "model": MODEL,
        "system": [
            {
                "type": "text",
                "text": "The reference of the format. " * 50,
                "cache_control": {"type": "ephemeral", "ttl": "1h"},
            }
        ],
        "messages": HELLO,
    }
    with client(messages_api) as one:
        counted = one.messages.count_tokens(**prompt).input_tokens
        first, second = (one.messages.create(max_tokens=9, **prompt).usage for _ in range(2))
    for usage in (first, second):
        cached = usage.cache_creation_input_tokens + usage.cache_read_input_tokens
        assert usage.input_tokens + cached == counted
    assert first.cache_creation.ephemeral_1h_input_tokens > 300
    assert first.cache_read_input_tokens == 0
    assert second.cache_creation_input_tokens == 0
    assert second.cache_read_input_tokens == first.cache_creation_input_tokens


def test_a_conversation_that_grows_reads_what_it_wrote(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, lambda body: replies.text("Yes."))
    history: list[Any] = []
    known = 0
    with client(messages_api) as one:
        for turn in range(3):
            mark = {"type": "ephemeral"}
            question = {"type": "text", "text": f"Question {turn}. " * 40, "cache_control": mark}
            history += [{"role": "user", "content": [question]}]
            answer = one.messages.create(model=MODEL, max_tokens=9, messages=history)
            history += [{"role": "assistant", "content": "Yes."}]
            read, written = (
                answer.usage.cache_read_input_tokens or 0,
                answer.usage.cache_creation_input_tokens or 0,
            )
            assert read == known
            assert written > 100
            known = read + written
            del question["cache_control"]


def test_without_a_mark_nothing_is_cached(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, lambda body: replies.text("x"))
    create(messages_api)
    usage = create(messages_api).usage
    assert usage.cache_read_input_tokens == usage.cache_creation_input_tokens == 0


# --- faults --------------------------------------------------------------------------------------


def test_429_is_asked_again_after_what_the_header_says(messages_api: MessagesApi, ask: Ask) -> None:
    messages_api.script(MODEL, [replies.rate_limited(after_ms=150, after_s=30), replies.text("x")])
    ask(messages_api)
    first, second = messages_api.requests
    assert statuses(messages_api) == [429, 200]
    assert 0.15 <= second.arrived - first.arrived < 15
    assert second.headers["x-stainless-retry-count"] == "1"


def test_retry_after_alone_is_in_seconds(messages_api: MessagesApi, ask_json: Ask) -> None:
    waits = replies.rate_limited(after_ms=None, after_s=1.1)  # above the SDK's own first 0.5 s
    messages_api.script(MODEL, [waits, replies.text("x")])
    ask_json(messages_api)
    first, second = messages_api.requests
    assert second.arrived - first.arrived >= 1.1


@pytest.mark.parametrize(
    ("fault", "error", "type_"),
    [
        (replies.rate_limited(), anthropic.RateLimitError, "rate_limit_error"),
        (replies.server_error(), anthropic.InternalServerError, "api_error"),
        (replies.overloaded(), anthropic.OverloadedError, "overloaded_error"),
    ],
    ids=["429", "500", "529"],
)
def test_a_fault_that_stays_is_raised_after_two_retries(
    messages_api: MessagesApi, ask: Ask, fault: replies.Failure, error: type[Exception], type_: str
) -> None:
    messages_api.script(MODEL, [fault] * 3)
    with pytest.raises(error) as raised:
        ask(messages_api)
    assert statuses(messages_api) == [fault.status] * 3
    assert raised.value.type == type_  # type: ignore[attr-defined]
    assert raised.value.request_id == "req_000003"  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", [replies.server_error(), replies.overloaded()])
def test_a_fault_that_passes_is_not_seen(
    messages_api: MessagesApi, ask: Ask, fault: replies.Failure
) -> None:
    messages_api.script(MODEL, [fault, replies.text("x")])
    assert spoken(ask(messages_api)) == [{"type": "text", "text": "x"}]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (402, anthropic.PaymentRequiredError),
        (403, anthropic.PermissionDeniedError),
        (413, anthropic.ContentTooLargeError),
    ],
)
def test_what_will_not_change_is_asked_once(
    messages_api: MessagesApi, ask: Ask, status: int, error: type[Exception]
) -> None:
    messages_api.script(MODEL, [replies.failure(status, "no")])
    with pytest.raises(error, match="no"):
        ask(messages_api)
    assert statuses(messages_api) == [status]


def test_slow_is_a_timeout(messages_api: MessagesApi, ask: Ask) -> None:
    messages_api.script(MODEL, [replies.slow(20, replies.text("x"))])
    with pytest.raises(anthropic.APITimeoutError):
        ask(messages_api, {"timeout": httpx2.Timeout(30, read=1), "max_retries": 0})
    assert statuses(messages_api) == [None]


def test_slow_within_the_timeout_is_an_answer(messages_api: MessagesApi, ask: Ask) -> None:
    messages_api.script(MODEL, [replies.slow(0.3, replies.text("x"))])
    ask(messages_api)
    (request,) = messages_api.requests
    assert request.answered is not None
    assert request.answered - request.arrived >= 0.3


def test_a_connection_that_ends_before_the_answer(messages_api: MessagesApi, ask: Ask) -> None:
    messages_api.script(MODEL, [replies.cut(part=0)])
    with pytest.raises(anthropic.APIConnectionError):
        ask(messages_api, {"max_retries": 0})
    assert statuses(messages_api) == [None]


def test_a_message_cut_in_the_middle_is_asked_again(
    messages_api: MessagesApi, ask_json: Ask
) -> None:
    messages_api.script(MODEL, [replies.cut(), replies.text("whole")])
    assert spoken(ask_json(messages_api)) == [{"type": "text", "text": "whole"}]
    assert statuses(messages_api) == [200, 200]


def test_a_stream_cut_in_the_middle_is_no_error_of_the_sdk(
    messages_api: MessagesApi, ask_stream: Ask
) -> None:
    messages_api.script(MODEL, [replies.cut()])
    with pytest.raises(httpx2.RemoteProtocolError):
        ask_stream(messages_api)
    assert statuses(messages_api) == [200]  # and it is not asked again


def test_an_error_in_the_middle_of_a_stream(messages_api: MessagesApi, ask_stream: Ask) -> None:
    messages_api.script(MODEL, [replies.text("half of it " * 9, fails_with="overloaded_error")])
    with pytest.raises(anthropic.APIStatusError) as raised:
        ask_stream(messages_api)
    assert (raised.value.status_code, raised.value.type) == (200, "overloaded_error")


def test_a_body_that_is_no_json_is_no_error_of_the_sdk(
    messages_api: MessagesApi, ask_json: Ask
) -> None:
    messages_api.script(MODEL, [replies.not_json()])
    with pytest.raises(json.JSONDecodeError):
        ask_json(messages_api)


def test_json_that_is_no_message_is_returned_as_one(
    messages_api: MessagesApi, ask_json: Ask
) -> None:
    messages_api.script(MODEL, [replies.not_a_message()])
    message = ask_json(messages_api)
    assert (message.content, message.usage, message.stop_reason) == (None, None, None)


def test_a_web_page_is_returned_as_text(messages_api: MessagesApi, ask_json: Ask) -> None:
    messages_api.script(MODEL, [replies.web_page()])
    assert isinstance(ask_json(messages_api), str)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (replies.not_json(), AssertionError),  # no event: there is no message to give
        (replies.broken_event(), json.JSONDecodeError),
    ],
    ids=["no events", "broken event"],
)
def test_a_stream_of_something_else_is_no_error_of_the_sdk(
    messages_api: MessagesApi, ask_stream: Ask, fault: replies.Malformed, error: type[Exception]
) -> None:
    messages_api.script(MODEL, [fault])
    with pytest.raises(error):
        ask_stream(messages_api)


# --- who may ask ---------------------------------------------------------------------------------


def test_a_wrong_key(messages_api: MessagesApi, ask: Ask) -> None:
    messages_api.script(MODEL, [])
    with pytest.raises(anthropic.AuthenticationError):
        ask(messages_api, {"api_key": "sk-somebody-elses"})
    assert statuses(messages_api) == [401]
    assert "sk-somebody-elses" not in repr(messages_api.requests)


def test_no_bearer(messages_api: MessagesApi, ask: Ask) -> None:
    messages_api.script(MODEL, [])
    with pytest.raises(anthropic.AuthenticationError, match="bearer token"):
        ask(messages_api, {"default_headers": {"Authorization": anthropic.Omit()}})
    assert "authorization" not in messages_api.requests[0].headers


def test_no_key(messages_api: MessagesApi) -> None:
    for headers in ({}, {"x-api-key": messages_api.api_key}):
        answer = httpx2.post(f"{messages_api.base_url}/v1/messages", json={}, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"
    assert messages_api.api_key not in repr(messages_api.requests)


def test_an_unknown_model(messages_api: MessagesApi, ask: Ask) -> None:
    with pytest.raises(anthropic.NotFoundError, match="claude-nobody") as raised:
        ask(messages_api, model="claude-nobody")
    assert raised.value.type == "not_found_error"


def test_an_unknown_path_and_an_old_version(messages_api: MessagesApi) -> None:
    with client(messages_api) as one, pytest.raises(anthropic.NotFoundError, match="GET /v1/files"):
        one.get("/v1/files", cast_to=object)
    old = {"anthropic-version": "2023-06-01"}
    with pytest.raises(anthropic.BadRequestError, match="anthropic-version"):
        create(messages_api, {"default_headers": old})


def test_models(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, [])
    messages_api.script("claude-haiku-5-5", [])
    with client(messages_api) as one:
        assert [model.id for model in one.models.list()] == [MODEL, "claude-haiku-5-5"]
        found = one.models.retrieve(MODEL)
        assert found.lifecycle == "active"
        assert found.capabilities is not None
        assert found.capabilities.structured_outputs.supported
        assert found.capabilities.thinking.types.adaptive.supported
        with pytest.raises(anthropic.NotFoundError):
            one.models.retrieve("claude-nobody")


# --- the server itself ---------------------------------------------------------------------------


def test_how_many_were_in_flight(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, lambda body: replies.slow(0.2, replies.text("x")))

    async def run() -> None:
        three = asyncio.Semaphore(3)

        async def one_of(one: anthropic.AsyncAnthropic) -> None:
            async with three:
                await one.messages.create(model=MODEL, max_tokens=9, messages=HELLO)

        async with async_client(messages_api) as one:
            await asyncio.gather(*(one_of(one) for _ in range(12)))

    asyncio.run(run())
    assert most_at_once(messages_api.requests) == 3
    assert len(messages_api.requests) == 12


def test_a_hundred_at_once(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, [replies.slow(0.2, replies.text(str(at))) for at in range(100)])

    async def run() -> list[Any]:
        async with async_client(messages_api, max_retries=0) as one:
            asked = [
                one.messages.create(model=MODEL, max_tokens=9, messages=HELLO) for _ in range(100)
            ]
            return await asyncio.gather(*asked)

    texts = {message.content[0].text for message in asyncio.run(run())}
    assert texts == {str(at) for at in range(100)}
    assert most_at_once(messages_api.requests) > 10


def test_a_script_that_is_used_up_or_fails_is_not_asked_again(messages_api: MessagesApi) -> None:
    def fails(body: dict[str, Any]) -> replies.Reply:
        raise LookupError(body["model"])

    messages_api.script(MODEL, [])
    messages_api.script("claude-haiku-5-5", fails)
    for model in (MODEL, "claude-haiku-5-5"):
        with pytest.raises(anthropic.InternalServerError, match="the script failed"):
            create(messages_api, model=model)
    assert statuses(messages_api) == [500, 500]
    assert [type(error) for error in messages_api.errors] == [AssertionError, LookupError]
    messages_api.errors.clear()  # or the fixture would fail this test


def test_nothing_is_left_when_it_stops() -> None:
    before = threading.active_count()
    with MessagesApi() as api, client(api, timeout=30, max_retries=0) as one:
        api.script(MODEL, [replies.text("x"), replies.slow(60, replies.text("x"))])
        one.messages.create(model=MODEL, max_tokens=9, messages=HELLO)  # its connection stays open
        waiting = threading.Thread(target=pytest.raises, args=(anthropic.APIError, create, api))
        waiting.start()
        late = time.monotonic() + 20
        while len(api.requests) < 2 and time.monotonic() < late:
            time.sleep(0.01)
        assert len(api.requests) == 2
        stopping = time.monotonic()
    waiting.join()
    assert time.monotonic() - stopping < 10
    assert threading.active_count() == before


# --- by hand -------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "tests.messages_api"]


def test_by_hand(tmp_path: Path) -> None:
    scripted = tmp_path / "models.py"
    scripted.write_text(
        "from tests.messages_api import replies\n"
        "MODELS = {'claude-opus-5-5': [replies.rate_limited(), replies.text('by hand')]}\n"
    )
    with subprocess.Popen(
        [*COMMAND, "--models", scripted],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().removeprefix("export ").strip() for _ in range(2)]
        given = dict(line.split("=", 1) for line in lines)
        with anthropic.Anthropic(
            base_url=given["ANTHROPIC_BASE_URL"], api_key=given["ANTHROPIC_API_KEY"]
        ) as one:
            message = one.messages.create(model=MODEL, max_tokens=9, messages=HELLO)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert spoken(message) == [{"type": "text", "text": "by hand"}]
    assert process.returncode == 0
    assert said.splitlines() == [
        "models: claude-opus-5-5",
        "POST /v1/messages claude-opus-5-5 429",
        "POST /v1/messages claude-opus-5-5 200",
        "2 requests",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("MODELS = ", "SyntaxError"),
        ("", "MODELS must be a dict"),
        ("MODELS = {'a': 'text'}", "MODELS['a'] is no function and no list of replies"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    scripted = tmp_path / "models.py"
    if content is not None:
        scripted.write_text(content)
    command = [*COMMAND, "--models", str(scripted)]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: {scripted}: ")
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
