"""Message Batches of the loopback server, through the real SDK."""

import asyncio
from typing import Any

import anthropic
import httpx2
import pytest

from tests.messages_api import replies
from tests.messages_api.clients import MODEL, TEXT, async_client, client, question, statuses
from tests.messages_api.server import MessagesApi


def batch_request(name: str, words: str = "", **params: Any) -> Any:
    given = {
        "model": MODEL,
        "max_tokens": 99,
        "messages": [question(TEXT | {"text": words or name})],
    }
    return {"custom_id": name, "params": given | params}


BATCH_REPLIES: dict[str, replies.Reply] = {
    "text": replies.text("answer", thinking="first"),
    "refused": replies.refusal(),
    "broken": replies.server_error(),
    "late": replies.Expired(),
    "no-message": replies.not_a_message(),
}


def batch_script(body: dict[str, Any]) -> replies.Reply:
    return BATCH_REPLIES[body["messages"][0]["content"][0]["text"]]


def test_a_batch(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, batch_script)
    requests = [batch_request(name) for name in BATCH_REPLIES]
    requests.append(batch_request("refused-by-rules", temperature=0))
    requests.append(batch_request("unknown-model", model="claude-nobody"))
    with client(messages_api) as one:
        batch = one.messages.batches.create(requests=requests)
        assert (batch.processing_status, batch.results_url) == ("in_progress", None)
        looked = one.messages.batches.retrieve(batch.id)
        assert looked.processing_status == "in_progress"
        assert looked.request_counts.processing == len(requests)
        ended = one.messages.batches.retrieve(batch.id)
        assert ended.processing_status == "ended"
        assert ended.ended_at is not None
        assert ended.request_counts.to_dict() == {
            "processing": 0, "succeeded": 3, "errored": 3, "canceled": 0, "expired": 1,
        }  # fmt: skip
        lines = list(one.messages.batches.results(batch.id))
        again = list(one.messages.batches.results(batch.id))
    assert lines == again
    names = [request["custom_id"] for request in requests]
    assert [line.custom_id for line in lines] != names
    results: dict[str, Any] = {line.custom_id: line.result for line in lines}
    assert results.keys() == set(names)
    assert [block.type for block in results["text"].message.content] == ["thinking", "text"]
    assert results["text"].message.usage.service_tier == "batch"
    assert results["refused"].message.stop_reason == "refusal"
    assert results["refused"].message.content == []
    assert results["broken"].error.error.type == "api_error"
    assert results["late"].type == "expired"
    assert results["no-message"].message.content is None
    assert "temperature" in results["refused-by-rules"].error.error.message
    assert results["unknown-model"].error.error.type == "not_found_error"


def test_a_batch_is_answered_once_however_often_it_is_read(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, [replies.text("only one")])

    async def run() -> list[Any]:
        async with async_client(messages_api) as one:
            batch = await one.messages.batches.create(requests=[batch_request("a")])
            for _ in range(3):
                await one.messages.batches.retrieve(batch.id)
            return [line async for line in await one.messages.batches.results(batch.id)]

    (line,) = asyncio.run(run())
    assert line.result.message.content[0].text == "only one"


def test_results_before_the_end(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, [])
    messages_api.batches.polls = 100
    with client(messages_api) as one:
        batch = one.messages.batches.create(requests=[batch_request("a")])
        with pytest.raises(anthropic.AnthropicError, match="results_url"):
            one.messages.batches.results(batch.id)


def test_a_cancelled_batch(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, [])
    with client(messages_api) as one:
        batch = one.messages.batches.create(requests=[batch_request("a"), batch_request("b")])
        assert one.messages.batches.cancel(batch.id).processing_status == "canceling"
        assert one.messages.batches.retrieve(batch.id).processing_status == "canceling"
        ended = one.messages.batches.retrieve(batch.id)
        assert (ended.processing_status, ended.request_counts.canceled) == ("ended", 2)
        kinds = [line.result.type for line in one.messages.batches.results(batch.id)]
        assert kinds == ["canceled", "canceled"]
        with pytest.raises(anthropic.ConflictError):
            one.with_options(max_retries=0).messages.batches.cancel(batch.id)


def test_batches_are_listed_and_unknown_ones_are_not_found(messages_api: MessagesApi) -> None:
    with client(messages_api) as one:
        made = [one.messages.batches.create(requests=[batch_request("a")]).id for _ in range(2)]
        assert [batch.id for batch in one.messages.batches.list()] == made[::-1]
        with pytest.raises(anthropic.NotFoundError):
            one.messages.batches.retrieve("msgbatch_other")


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "1 to 100000"),
        ([batch_request("a"), batch_request("a")], "'a' is there twice"),
        ([batch_request("a/b")], "String should match"),
        ([batch_request("a" * 65)], "String should match"),
        ([batch_request("a", stream=True)], "stream: Extra"),
        ([{"custom_id": "a"}], "requests.0.params: Field required"),
    ],
)
def test_batches_that_are_refused(
    messages_api: MessagesApi, requests: list[Any], message: str
) -> None:
    with client(messages_api) as one, pytest.raises(anthropic.BadRequestError, match=message):
        one.messages.batches.create(requests=requests)


def test_faults_on_the_way_to_a_batch(messages_api: MessagesApi) -> None:
    messages_api.script(MODEL, [replies.text("x"), replies.text("y")])
    messages_api.batches.polls = 0
    look, results = r"/v1/messages/batches/[^/]+", r"/v1/messages/batches/[^/]+/results"
    messages_api.once("GET", look, replies.overloaded())
    messages_api.once("GET", results, replies.cut())
    with client(messages_api) as one:
        batch = one.messages.batches.create(requests=[batch_request("a"), batch_request("b")])
        with pytest.raises(httpx2.RemoteProtocolError):
            list(one.messages.batches.results(batch.id))
        assert statuses(messages_api) == [200, 529, 200, 200]
        assert len(list(one.messages.batches.results(batch.id))) == 2
