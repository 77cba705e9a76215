"""Requests, prices and the store of answers."""

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mitigations.candidate import ProfileError
from mitigations.generate.client import KEY, connect
from mitigations.generate.prices import Price, Prices, load_prices
from mitigations.generate.reply import Reply, Status, Usage
from mitigations.generate.request import Request
from mitigations.generate.store import Asked, Batch, Store

REQUEST = Request(
    model="some-model",
    system="what it is",
    messages=({"role": "user", "content": "a task"},),
    max_tokens=1000,
)
RAW = {
    "content": [{"type": "text", "text": "x"}],
    "model": "some-model-1",
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 10, "output_tokens": 20},
}
REPLY = Reply(status=Status.OK, model="some-model-1", usage=Usage(10, 20, 30, 40, 0.5), raw=RAW)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"system": "else"},
        {"messages": ({"role": "user", "content": "another task"},)},
        {"max_tokens": 1001},
        {"schema": {"type": "object"}},
        {"tools": ({"name": "t"},)},
        {"effort": "high"},
    ],
)
def test_whatever_an_answer_depends_on_changes_the_digest(change: dict[str, Any]) -> None:
    assert replace(REQUEST, **change).digest() != REQUEST.digest()
    assert replace(REQUEST).digest() == REQUEST.digest()


def test_no_request_holds_what_the_api_refuses() -> None:
    assert not {"temperature", "top_p", "top_k"} & set(REQUEST.parameters())


def test_answers_are_kept_by_request_and_sample(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "b")
    assert store.get(REQUEST, 0) is None
    store.put(REQUEST, 0, REPLY)
    again = Store(tmp_path / "a" / "b")
    assert again.get(REQUEST, 0) == REPLY
    assert again.get(REQUEST, 1) is None
    assert again.get(replace(REQUEST, model="other"), 0) is None


def test_batches_are_kept_until_they_are_fetched(tmp_path: Path) -> None:
    store = Store(tmp_path)
    batch = Batch("msgbatch_1/../x", {"id-0": Asked(REQUEST, 3)})
    store.put_batch(batch)
    assert list(Store(tmp_path).batches()) == [batch]
    store.drop_batch(batch)
    assert list(store.batches()) == []


def test_what_was_said_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.said("x", str) is None
    store.say("x", "wörd")
    assert store.said("x", str) == "wörd"


def test_a_damaged_answer_is_named_and_not_asked_for_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(REQUEST, 0, REPLY)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b'{"asked"')
    with pytest.raises(ProfileError, match=f"{path}.*remove the file"):
        store.get(REQUEST, 0)


def test_nothing_is_left_of_what_could_not_be_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / f"{REQUEST.digest()}.0.json").mkdir()
    with pytest.raises(ProfileError, match="cannot write"):
        store.put(REQUEST, 0, REPLY)
    assert [one.name for one in tmp_path.iterdir()] == [f"{REQUEST.digest()}.0.json"]


def test_a_store_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProfileError, match="cannot make it"):
        Store(tmp_path / "file" / "store").lock()


PRICES = Prices("2026-11-21", {"m": Price(2.0, 10.0)})


def test_a_price_counts_every_kind_of_token() -> None:
    usage = Usage(1_000_000, 100_000, 500_000, 2_000_000)
    # 2 for input, 1 for output, 500,000 written at twice, 2,000,000 read at a tenth of the input
    assert PRICES.priced(usage, "m").cost == pytest.approx(2 + 1 + 2 + 0.4)
    assert PRICES.priced(usage, "m", batch=True).cost == pytest.approx((2 + 1 + 2 + 0.4) / 2)
    assert PRICES.priced(usage, "m-20261101").cost == pytest.approx(5.4)


def test_an_unknown_price_is_none_and_never_0() -> None:
    usage = PRICES.priced(Usage(1, 1, cost=3.0), "other")
    assert usage.cost is None
    assert Usage(cost=1.0).plus(usage).cost is None
    assert Usage(1, 2, 3, 4, 1.0).plus(Usage(1, 1, 1, 1, 0.5)) == Usage(2, 3, 4, 5, 1.5)


def test_the_prices_that_ship_can_be_read_and_are_dated() -> None:
    assert load_prices().models
    assert load_prices().date >= "2026-11-21"


@pytest.mark.parametrize(
    "text",
    ["", "date = 1", 'date = "today"\n[models]', 'date = "2026-11-21"\n[models]\nm = 3', "["],
)
def test_a_wrong_list_of_prices_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(text)
    with pytest.raises(ProfileError, match=r"prices\.toml: no list of prices"):
        load_prices(tmp_path / "prices.toml")


def test_a_missing_list_of_prices_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="No such file"):
        load_prices(tmp_path / "prices.toml")


def test_without_a_key_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ANTHROPIC_"):
            monkeypatch.delenv(name)
    with pytest.raises(ProfileError, match=KEY):
        connect()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"type":"text"', b'"kind":"text"'),
        (b'"sample":0', b'"sample":7'),
        (b'"a task"', b'"another"'),
        (b'"input_tokens":10', b'"input_tokens":-3'),
        (b'"cost":0.5', b'"cost":-5'),
        (b'"raw":{', b'"raw":{"x":' + b"[" * 3000 + b"]" * 3000 + b","),
    ],
)
def test_what_does_not_answer_the_request_is_not_taken(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    store = Store(tmp_path)
    store.put(REQUEST, 0, REPLY)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(ProfileError, match="remove the file"):
        store.get(REQUEST, 0)


def test_two_do_not_ask_into_one_store(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    first.lock()
    with pytest.raises(ProfileError, match="another run"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


@pytest.mark.parametrize("price", ["nan", "inf", "1e400", "-1", "1e308"])
def test_what_is_no_price_is_refused(tmp_path: Path, price: str) -> None:
    text = f'date = "2026-11-21"\n[models]\nm = {{ input = 1.0, output = {price} }}\n'
    (tmp_path / "prices.toml").write_text(text)
    with pytest.raises(ProfileError, match="no list of prices"):
        load_prices(tmp_path / "prices.toml")


def test_endless_prices_are_not_read() -> None:
    with pytest.raises(ProfileError, match="not a regular file"):
        load_prices(Path("/dev/zero"))
