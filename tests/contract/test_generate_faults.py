"""The client of ``sidestep generate`` against a Messages API that misbehaves in every way it can.

Two promises: what came back is classified for what it is, and nothing that was answered is asked
twice, whatever happened in between.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mitigations.candidate import ProfileError
from mitigations.generate import batches, client
from mitigations.generate.answer import SCHEMA
from mitigations.generate.client import Asker, NotAskedError
from mitigations.generate.conversation import TOOL, Outcome, Said, Strategy, Task, converse
from mitigations.generate.prices import load_prices
from mitigations.generate.reply import Reply, Status
from mitigations.generate.request import Request
from mitigations.generate.store import Asked, Store
from tests.messages_api import replies
from tests.messages_api.server import MessagesApi, most_at_once

ROOT = Path(__file__).parents[2]
MODEL = "claude-opus-5-5"
PRICES = load_prices()
REQUEST = Request(
    model=MODEL,
    system="The format of a profile.",
    messages=({"role": "user", "content": "Nobody may create a directory."},),
    max_tokens=999,
    schema=SCHEMA,
)
PROFILE = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
GOOD = replies.text(json.dumps({"explanation": "", "possible": True, "profile": PROFILE}))
NONE_POSSIBLE = replies.text(json.dumps({"explanation": "", "possible": False, "profile": None}))


@pytest.fixture
def api(messages_api: MessagesApi, monkeypatch: pytest.MonkeyPatch) -> MessagesApi:
    for name, value in messages_api.environment.items():
        monkeypatch.setenv(name, value)
    return messages_api


def ask(store: Path, samples: int = 1, request: Request = REQUEST, **options: Any) -> list[Reply]:
    async def main() -> list[Reply]:
        async with Asker(Store(store), PRICES, **options) as asker:
            asked = [asker.ask(request, number) for number in range(samples)]
            return list(await asyncio.gather(*asked))

    return asyncio.run(main())


def ask_one(store: Path, **options: Any) -> Reply:
    (reply,) = ask(store, **options)
    return reply


# --- what came back ------------------------------------------------------------------------------


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"profile": value}
    return value


MESSAGE: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL,
    "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip
ANSWERS: dict[str, tuple[list[replies.Reply], Status, str]] = {
    "text": ([GOOD], Status.OK, ""),
    "thinking": ([replies.text("{}", thinking="hm")], Status.OK, ""),
    "redacted": (
        [replies.Message(content=[{"type": "redacted_thinking", "data": "AA=="}])],
        Status.OK,
        "",
    ),
    "tool": ([replies.tool_use(TOOL, {"profile": PROFILE})], Status.OK, ""),
    "no words": ([replies.text("")], Status.OK, ""),
    "nothing": ([replies.Message()], Status.OK, ""),
    "refused": ([replies.refusal("cyber")], Status.REFUSED, "refused: cyber"),
    "refused late": ([replies.refusal("bio", written="First")], Status.REFUSED, "refused: bio"),
    "refused without reason": ([replies.refusal(None)], Status.REFUSED, "refused: no category"),
    "cut off": ([replies.truncated('{"expl')], Status.TRUNCATED, "cut off: max_tokens"),
    "context": (
        [replies.text("{", stop_reason="model_context_window_exceeded")],
        Status.TRUNCATED,
        "cut off: model_context_window_exceeded",
    ),
    "429 passes": ([replies.rate_limited(), GOOD], Status.OK, ""),
    "500 passes": ([replies.server_error(), GOOD], Status.OK, ""),
    "529 passes": ([replies.overloaded(), replies.overloaded(), GOOD], Status.OK, ""),
    "cut passes": ([replies.cut(), GOOD], Status.OK, ""),
    "no answer passes": ([replies.cut(part=0), GOOD], Status.OK, ""),
    "odd characters": ([replies.text('{"a": "\x00\x1b[31m\u202e"}')], Status.OK, ""),
    "deep": ([replies.text("[" * 100_000)], Status.OK, ""),
    "deep for the tool": ([replies.tool_use(TOOL, nested(150))], Status.OK, ""),
    "five megabytes": ([replies.text("[" * 5_000_000)], Status.OK, ""),
}
WITHOUT_ANSWER: dict[str, tuple[list[replies.Reply], str]] = {
    "400": ([replies.failure(400, "prompt is too long")], "HTTP 400: prompt is too long"),
    "413": ([replies.failure(413, "too large")], "HTTP 413: too large"),
    "429": ([replies.rate_limited()] * 5, "HTTP 429"),
    "500": ([replies.server_error()] * 5, "HTTP 500"),
    "529": ([replies.overloaded()] * 5, "HTTP 529: Overloaded"),
    "odd usage": (
        [replies.not_a_message(MESSAGE | {"usage": {"input_tokens": -1, "output_tokens": "9"}})],
        "malformed answer",
    ),
    "content is text": ([replies.not_a_message(MESSAGE | {"content": "x"})], "malformed answer"),
    "block is text": ([replies.not_a_message(MESSAGE | {"content": ["x"]})], "malformed answer"),
    "no json": ([replies.not_json()], "no JSON object"),
    "no message": ([replies.not_a_message()], "malformed answer"),
    "a list": ([replies.not_a_message([1])], "no JSON object"),
    "a string": ([replies.not_a_message("x")], "no JSON object"),
    "web page": ([replies.web_page()], "no JSON object"),
    "no usage": ([replies.not_a_message(MESSAGE | {"usage": None})], "malformed answer"),
    "no reason": ([replies.not_a_message(MESSAGE | {"stop_reason": None})], "malformed answer"),
    "untyped block": ([replies.not_a_message(MESSAGE | {"content": [{}]})], "malformed answer"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_kept_and_never_asked_for_again(
    api: MessagesApi, tmp_path: Path, name: str
) -> None:
    script, status, why = ANSWERS[name]
    api.script(MODEL, script)
    reply = ask_one(tmp_path)
    assert (reply.status, reply.why) == (status, why)
    assert reply.model == MODEL
    assert reply.usage.cost is not None
    assert reply.usage.cost > 0
    assert len(api.requests) == len(script)
    again = ask_one(tmp_path)
    assert (again.status, again.text, again.usage) == (reply.status, reply.text, reply.usage)
    assert len(api.requests) == len(script)


@pytest.mark.parametrize("name", WITHOUT_ANSWER)
def test_what_says_nothing_of_the_model_is_asked_again_by_the_next_run(
    api: MessagesApi, tmp_path: Path, name: str
) -> None:
    script, why = WITHOUT_ANSWER[name]
    api.script(MODEL, [*script, GOOD])
    reply = ask_one(tmp_path)
    assert reply.status is Status.API_ERROR
    assert why in reply.why
    assert "\n" not in reply.why
    assert not reply.fatal
    assert len(api.requests) == len(script)
    assert ask_one(tmp_path).status is Status.OK
    assert len(api.requests) == len(script) + 1


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (replies.slow(20, GOOD), "APITimeoutError"),
        (replies.cut(), "APIConnectionError"),
        (replies.cut(part=0), "APIConnectionError"),
    ],
    ids=["slow", "cut", "no answer"],
)
def test_a_connection_that_does_not_hold(
    api: MessagesApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: replies.Reply,
    why: str,
) -> None:
    monkeypatch.setattr(client, "_RETRIES", 1)
    monkeypatch.setattr(client, "_TIMEOUT_S", 1.5)
    api.script(MODEL, [fault, fault, GOOD])
    reply = ask_one(tmp_path)
    assert (reply.status, reply.fatal) == (Status.API_ERROR, False)
    assert why in reply.why
    assert ask_one(tmp_path).status is Status.OK
    assert len(api.requests) == 3


def test_nobody_is_there(api: MessagesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(client, "_RETRIES", 0)
    reply = ask_one(tmp_path)
    assert (reply.status, reply.why[:18]) == (Status.API_ERROR, "APIConnectionError")
    assert api.requests == []


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_what_would_end_the_same_way_is_not_tried_for_every_sample(
    api: MessagesApi, tmp_path: Path, status: int
) -> None:
    api.script(MODEL, lambda body: replies.failure(status, "no"))
    found = ask(tmp_path, samples=30, at_once=2)
    assert {(one.status, one.fatal) for one in found} == {(Status.API_ERROR, True)}
    assert len(api.requests) <= 2


def test_a_wrong_key_and_an_unknown_model(
    api: MessagesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.script(MODEL, [])
    nobody = ask_one(tmp_path, request=replace(REQUEST, model="claude-nobody"))
    assert (nobody.fatal, nobody.why) == (True, "HTTP 404: model: claude-nobody")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-not-the-right-one")
    wrong = ask_one(tmp_path)
    assert (wrong.fatal, wrong.why[:8]) == (True, "HTTP 401")
    assert "sk-ant" not in repr(wrong)


def test_no_key_is_no_request(
    api: MessagesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given in (None, "", "  "):
        if given is None:
            monkeypatch.delenv("ANTHROPIC_API_KEY")
        else:
            monkeypatch.setenv("ANTHROPIC_API_KEY", given)
        with pytest.raises(ProfileError, match="ANTHROPIC_API_KEY"):
            ask_one(tmp_path)
    assert api.requests == []


def test_the_key_is_nowhere_in_the_store(api: MessagesApi, tmp_path: Path) -> None:
    api.script(MODEL, [GOOD, replies.failure(400, "no"), replies.not_a_message()])
    ask(tmp_path, samples=3, at_once=1)
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not any(api.api_key.encode() in content for content in kept)


# --- how much, how often -------------------------------------------------------------------------


def test_no_more_than_so_many_are_on_their_way(api: MessagesApi, tmp_path: Path) -> None:
    api.script(MODEL, lambda body: replies.slow(0.2, GOOD))
    ask(tmp_path, samples=12, at_once=3)
    assert most_at_once(api.requests) == 3
    assert len(api.requests) == 12


def test_samples_of_one_prompt_are_asked_for_one_by_one(api: MessagesApi, tmp_path: Path) -> None:
    api.script(MODEL, [replies.text(str(number)) for number in range(5)])
    first = ask(tmp_path, samples=5)
    assert sorted(one.text for one in first) == list("01234")
    assert [one.text for one in ask(tmp_path, samples=5)] == [one.text for one in first]
    assert len(api.requests) == 5


def test_what_was_stopped_goes_on_where_it_was(api: MessagesApi, tmp_path: Path) -> None:
    api.script(MODEL, lambda body: replies.slow(0.05, GOOD))

    async def main() -> list[object]:
        seen = 0

        def stop_after_five(_: Reply) -> None:
            nonlocal seen
            seen += 1
            if seen == 5:
                asker.stop()

        async with Asker(Store(tmp_path), PRICES, at_once=2, on_reply=stop_after_five) as asker:
            asked = [asker.ask(REQUEST, number) for number in range(20)]
            return list(await asyncio.gather(*asked, return_exceptions=True))

    found = asyncio.run(main())
    assert {type(one) for one in found} == {Reply, NotAskedError}
    answered = sum(isinstance(one, Reply) for one in found)
    assert 5 <= answered <= 7
    assert len(api.requests) == answered
    assert all(one.status is Status.OK for one in ask(tmp_path, samples=20))
    assert len(api.requests) == 20


def test_a_replay_asks_nobody(api: MessagesApi, tmp_path: Path) -> None:
    api.script(MODEL, [GOOD])
    ask_one(tmp_path)
    assert ask_one(tmp_path, replay=True).status is Status.OK
    with pytest.raises(NotAskedError, match="--replay"):
        ask(tmp_path, samples=2, replay=True)
    assert len(api.requests) == 1


def test_a_budget_ends_the_asking(api: MessagesApi, tmp_path: Path) -> None:
    usage = {"input_tokens": 0, "output_tokens": 50_000}  # a dollar
    api.script(MODEL, lambda body: replies.text("x", usage=usage))
    with pytest.raises(NotAskedError, match="budget"):
        ask(tmp_path, samples=9, at_once=1, max_cost=2.5)
    assert len(api.requests) == 3


def test_the_price_is_that_of_the_tokens(api: MessagesApi, tmp_path: Path) -> None:
    usage = {
        "input_tokens": 1_000_000,
        "output_tokens": 1_000_000,
        "cache_creation_input_tokens": 1_000_000,
        "cache_read_input_tokens": 1_000_000,
    }
    api.script(MODEL, [replies.text("x", usage=usage)])
    price = PRICES.models[MODEL]
    cost = price.input * (1 + PRICES.cache_write + PRICES.cache_read) + price.output
    assert ask_one(tmp_path).usage.cost == pytest.approx(cost)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.contract.test_generate_faults import PRICES, REQUEST, Asker, Store

async def main():
    def on_reply(_, left=[3]):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    async with Asker(Store(Path(sys.argv[1])), PRICES, at_once=2, on_reply=on_reply) as asker:
        await asyncio.gather(*(asker.ask(REQUEST, number) for number in range(20)))

asyncio.run(main())
"""


def test_a_run_that_was_killed_loses_only_what_was_on_its_way(
    api: MessagesApi, tmp_path: Path
) -> None:
    api.script(MODEL, lambda body: replies.slow(0.05, GOOD))
    for _ in range(2):
        command = [sys.executable, "-c", KILLED, tmp_path]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        killed = subprocess.run(command, env=environment, timeout=120, check=False)
        assert killed.returncode == -signal.SIGKILL
    kept = sum(Store(tmp_path).get(REQUEST, number) is not None for number in range(20))
    assert kept >= 3
    before = len(api.requests)
    assert before - kept <= 2 * 2
    assert all(one.status is Status.OK for one in ask(tmp_path, samples=20))
    assert len(api.requests) == before + 20 - kept


# --- conversations -------------------------------------------------------------------------------

TASK = Task(model=MODEL, system="The format.", prompt="Nobody may create a directory.", rounds=3)
WITH_TOOL = replace(TASK, strategy=Strategy.TOOLS)
WITH_FEEDBACK = replace(TASK, strategy=Strategy.FEEDBACK)
TRY = replies.tool_use(TOOL, {"profile": PROFILE}, thinking="Try it.")
Judge = Callable[[str], Awaitable[Said]]


async def never_content(profile: str) -> Said:
    json.loads(profile)
    return Said("mkdirat gets through", content=False)


def talk(store: Path, task: Task, judge: Judge = never_content) -> Outcome:
    async def main() -> Outcome:
        async with Asker(Store(store), PRICES) as asker:
            return await converse(asker, task, 0, judge)

    return asyncio.run(main())


def test_a_tool_loop(api: MessagesApi, tmp_path: Path) -> None:
    api.script(MODEL, [TRY, TRY, GOOD])
    outcome = talk(tmp_path, WITH_TOOL)
    assert (outcome.status, len(outcome.requests)) == (Status.OK, 3)
    assert outcome.answer is not None
    last = api.asked()[-1]["messages"]
    assert [block["type"] for block in last[1]["content"]] == ["thinking", "tool_use"]
    assert last[2]["content"][0]["content"] == "mkdirat gets through"
    assert [len(body["messages"]) for body in api.asked()] == [1, 3, 5]
    assert talk(tmp_path, WITH_TOOL) == outcome
    assert len(api.requests) == 3


@pytest.mark.parametrize(
    "calls",
    [
        [("other_tool", {})],
        [(TOOL, {})],
        [(TOOL, {"profile": "a string"})],
        [(TOOL, {"profile": None})],
        [(TOOL, {"profile": PROFILE}), ("other_tool", {}), (TOOL, {"profile": PROFILE})],
    ],
    ids=["unknown", "nothing", "text", "null", "several"],
)
def test_odd_calls_are_answered_and_do_not_end_it(
    api: MessagesApi, tmp_path: Path, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    api.script(MODEL, [replies.tool_uses(calls), GOOD])
    assert talk(tmp_path, WITH_TOOL).status is Status.OK
    results = api.asked()[1]["messages"][2]["content"]
    assert len(results) == len(calls)


def test_a_model_that_only_calls_the_tool(api: MessagesApi, tmp_path: Path) -> None:
    api.script(MODEL, lambda body: TRY)
    outcome = talk(tmp_path, WITH_TOOL)
    assert (outcome.status, outcome.answer) == (Status.INVALID, None)
    assert len(api.requests) == len(outcome.requests) <= 9


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (replies.refusal("cyber"), Status.REFUSED),
        (replies.truncated("{"), Status.TRUNCATED),
        (replies.text("Done."), Status.INVALID),
        (replies.failure(400, "no"), Status.API_ERROR),
        (replies.not_a_message(), Status.API_ERROR),
    ],
    ids=["refused", "cut off", "prose", "400", "malformed"],
)
def test_what_ends_the_second_turn(
    api: MessagesApi, tmp_path: Path, second: replies.Reply, status: Status
) -> None:
    api.script(MODEL, [TRY, second, GOOD])
    assert talk(tmp_path, WITH_TOOL).status is status
    again = talk(tmp_path, WITH_TOOL)
    if status is Status.API_ERROR:  # the second turn alone is asked again
        assert (again.status, len(api.requests)) == (Status.OK, 3)
        assert len(api.asked()[2]["messages"]) == 3
    else:
        assert (again.status, len(api.requests)) == (status, 2)


@pytest.mark.parametrize(
    "first",
    [
        GOOD,
        replies.text("Sure! Here is a profile."),
        replies.Message(content=[{"type": "thinking", "thinking": "hm"}]),
        replies.Message(content=[{"type": "redacted_thinking", "data": "AA=="}]),
    ],
    ids=["answer", "prose", "thinking only", "redacted only"],
)
def test_feedback_is_something_that_the_api_takes(
    api: MessagesApi, tmp_path: Path, first: replies.Message
) -> None:
    api.script(MODEL, [first, GOOD, GOOD])
    outcome = talk(tmp_path, WITH_FEEDBACK)
    assert [one.status for one in api.requests] == [200, 200, 200]
    assert outcome.status is Status.OK


def test_feedback_ends_where_there_is_nothing_to_say(api: MessagesApi, tmp_path: Path) -> None:
    async def content(profile: str) -> Said:
        json.loads(profile)
        return Said("", content=True)

    api.script(MODEL, [GOOD])
    assert talk(tmp_path, WITH_FEEDBACK, content).status is Status.OK
    api.script(MODEL, [NONE_POSSIBLE])
    assert talk(tmp_path / "other", WITH_FEEDBACK).answer is not None
    assert len(api.requests) == 2


def test_nothing_at_all_is_not_sent_back(api: MessagesApi, tmp_path: Path) -> None:
    api.script(MODEL, [replies.Message()])
    assert talk(tmp_path, WITH_FEEDBACK).status is Status.INVALID
    assert len(api.requests) == 1


def test_a_refusal_after_an_answer_keeps_the_answer(api: MessagesApi, tmp_path: Path) -> None:
    api.script(MODEL, [GOOD, replies.refusal("cyber")])
    outcome = talk(tmp_path, WITH_FEEDBACK)
    assert (outcome.status, outcome.answer is not None) == (Status.OK, True)
    assert outcome.stop_reason == "refusal"


# --- batches -------------------------------------------------------------------------------------


def send(store: Path, samples: int = 4, **options: Any) -> list[Reply | None]:
    """What is in the store after a batch."""

    async def main() -> list[Reply | None]:
        async with Asker(Store(store), PRICES, **options) as asker:
            wanted = [Asked(REQUEST, number) for number in range(samples)]
            await batches.ask_all(asker, wanted, lambda counts: None)
            return [asker.store.get(one.request, one.sample) for one in wanted]

    return asyncio.run(main())


def paths(api: MessagesApi, method: str) -> list[str]:
    return [one.path for one in api.requests if one.method == method]


@pytest.fixture
def quick(api: MessagesApi) -> MessagesApi:
    api.batches.polls = 0
    return api


def test_a_batch_is_kept_at_half_the_price(quick: MessagesApi, tmp_path: Path) -> None:
    usage = dict.fromkeys(("input_tokens", "cache_creation_input_tokens"), 0)
    usage |= {"cache_read_input_tokens": 0, "output_tokens": 1_000_000}
    quick.script(MODEL, [replies.text(str(at), usage=usage) for at in range(4)])
    found = send(tmp_path)
    assert sorted(one.text for one in found if one) == list("0123")
    assert all(one.batch for one in found if one)
    before = len(quick.requests)
    assert send(tmp_path) == found
    asked = ask(tmp_path, samples=4)
    assert len(quick.requests) == before
    assert [one.text for one in asked] == [one.text for one in found if one]
    assert {one.usage.cost for one in asked} == {PRICES.models[MODEL].output / 2}


def test_entries_without_an_answer_are_asked_for_again(quick: MessagesApi, tmp_path: Path) -> None:
    faults = [replies.server_error(), replies.Expired(), replies.not_a_message()]
    quick.script(MODEL, [GOOD, replies.refusal(), *faults, GOOD, GOOD, GOOD])
    found = send(tmp_path, samples=5)
    statuses = [None if one is None else one.status for one in found]
    assert sorted(map(str, statuses)) == ["None", "None", "None", "ok", "refused"]
    again = send(tmp_path, samples=5)
    assert sorted(str(one.status) for one in again if one) == ["ok"] * 4 + ["refused"]
    created = quick.asked("/v1/messages/batches")
    assert [len(body["requests"]) for body in created] == [5, 3]


def test_a_batch_that_was_left_is_taken_up(api: MessagesApi, tmp_path: Path) -> None:
    api.script(MODEL, [GOOD] * 4)
    api.batches.polls = 1

    async def main() -> None:
        async with Asker(Store(tmp_path), PRICES) as asker:
            wanted = [Asked(REQUEST, number) for number in range(4)]
            await batches.ask_all(asker, wanted, lambda counts: asker.stop())

    with pytest.raises(NotAskedError):
        asyncio.run(main())
    assert paths(api, "POST") == ["/v1/messages/batches"]
    assert all(send(tmp_path))
    assert paths(api, "POST") == ["/v1/messages/batches"]


BATCH, RESULTS = r"/v1/messages/batches/[^/]+", r"/v1/messages/batches/[^/]+/results"
ON_THE_WAY: dict[str, tuple[str, str, replies.Failure | replies.Malformed | replies.Cut]] = {
    "results are cut": ("GET", RESULTS, replies.cut()),
    "results are no json": ("GET", RESULTS, replies.not_json()),
    "results are a web page": ("GET", RESULTS, replies.web_page()),
    "results are something else": ("GET", RESULTS, replies.Malformed(body=b'{"a": 1}\n[]\n7\n')),
    "state is no json": ("GET", BATCH, replies.not_json()),
    "state is a web page": ("GET", BATCH, replies.web_page()),
    "created is no json": ("POST", "/v1/messages/batches", replies.not_json()),
    "created is a web page": ("POST", "/v1/messages/batches", replies.web_page()),
    "created is something else": ("POST", "/v1/messages/batches", replies.not_a_message()),
    "results are gone": ("GET", RESULTS, replies.failure(404, "gone")),
    "state is something else": ("GET", BATCH, replies.not_a_message()),
    "state is gone": ("GET", BATCH, replies.failure(404, "gone")),
    "created is refused": ("POST", "/v1/messages/batches", replies.failure(400, "no")),
}


def send_and_read(store: Path) -> str:
    """What the error says, if it is one for the user."""
    try:
        send(store)
    except ProfileError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ON_THE_WAY)
def test_faults_on_the_way_are_one_line_and_the_next_run_goes_on(
    quick: MessagesApi, tmp_path: Path, name: str
) -> None:
    quick.script(MODEL, [GOOD] * 8)
    method, path, fault = ON_THE_WAY[name]
    quick.once(method, path, fault)
    said = send_and_read(tmp_path)
    assert "\n" not in said
    assert all(send(tmp_path))
    created = quick.asked("/v1/messages/batches")
    assert len(created) == (2 if method == "POST" else 1)


@pytest.mark.parametrize("fault", [replies.overloaded(), replies.rate_limited()])
@pytest.mark.parametrize(("method", "path"), [("GET", BATCH), ("GET", RESULTS)])
def test_faults_that_pass_are_not_seen(
    quick: MessagesApi, tmp_path: Path, method: str, path: str, fault: replies.Failure
) -> None:
    quick.script(MODEL, [GOOD] * 4)
    quick.once(method, path, fault)
    assert all(send(tmp_path))
    assert paths(quick, "POST") == ["/v1/messages/batches"]


@pytest.mark.parametrize(
    "reply",
    [
        replies.text('{"a": "\ud800"}'),
        replies.tool_use(TOOL, {"profile": {"\ud800": "\udfff"}}),
        replies.tool_use(TOOL, nested(150)),
    ],
    ids=["half a character", "half a character for the tool", "deep for the tool"],
)
def test_an_odd_answer_is_kept_and_never_asked_for_again(
    api: MessagesApi, tmp_path: Path, reply: replies.Reply
) -> None:
    api.script(MODEL, [reply])
    found = ask_one(tmp_path)
    assert (found.status, found.why) == (Status.OK, "")
    ask_one(tmp_path)
    assert len(api.requests) == 1


@pytest.mark.parametrize("first", ["", " \n"], ids=["empty", "blank"])
def test_feedback_to_an_empty_answer_is_something_that_the_api_takes(
    api: MessagesApi, tmp_path: Path, first: str
) -> None:
    """The API refuses blocks of text without text, also in what it wrote itself."""
    api.script(MODEL, [replies.text(first), GOOD, GOOD])
    outcome = talk(tmp_path, WITH_FEEDBACK)
    assert {one.status for one in api.requests} == {200}
    assert outcome.status in (Status.OK, Status.INVALID)


@pytest.mark.parametrize("depth", [250, 450, 900])
def test_an_answer_that_is_too_deep_is_invalid_and_never_asked_for_again(
    api: MessagesApi, tmp_path: Path, depth: int
) -> None:
    api.script(MODEL, [replies.tool_use(TOOL, nested(depth))])
    found = ask_one(tmp_path)
    assert (found.status, found.why) == (Status.INVALID, "the answer is nested too deeply")
    ask_one(tmp_path)
    assert len(api.requests) == 1


def test_a_key_that_is_said_back_is_not_told(
    api: MessagesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", api.api_key)
    api.script(MODEL, [replies.failure(400, f"no: {api.api_key}")])
    reply = ask_one(tmp_path)
    assert "[the key]" in reply.why
    assert api.api_key not in f"{reply.why}{reply.raw}"
