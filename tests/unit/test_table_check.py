"""What of a check is shown on a terminal: 80 columns, nothing that a terminal obeys."""

from typing import Any

from evaluator.check_items import mark_of
from evaluator.table_check import closing, plain_text
from reports.check_schema import Change, CheckDocument, Item, Place, Waived, Way
from reports.schema import Environment

HOSTILE = "\x1b[31mred\u202e\u2066" + "x" * 10_000 + "\n\r[bold]markup[/bold]"


def item(subject: str, status: str = "fail", says: str = "leaky", **more: Any) -> Item:
    fields = {"profile": "a.json", "kind": "family", "message": "it leaks", **more}
    profile = fields.pop("profile")
    kind = fields.pop("kind")
    identity = fields.pop("id", f"{profile}::{subject}")
    return Item(identity, profile, subject, kind, status, says, **fields)


def document(*items: Item, **more: Any) -> CheckDocument:
    where = Environment("6.1", "x86_64", "2.5.4", "namespaces")
    return CheckDocument("sidestep.check/1", ".", "sidestep.toml", "2026.11", where, items, **more)


def test_only_what_needs_attention_is_shown() -> None:
    found = document(
        item("held-family", "pass", "held"),
        item("waived-family", "waived"),
        item("leaky-family", reruns=2),
        item("warned-family", "warn", "newly-known", kind="baseline"),
        item("broken-family", "error", "harness"),
        exit_code=1,
    )
    text = plain_text(found)
    assert "held-family" not in text
    assert "waived-family" not in text
    assert "FAIL  leaky-family: it leaks (in 3 runs)" in text
    assert "warn  warned-family newly-known" in text
    assert "ERROR broken-family" in text
    assert closing(found).startswith(
        "1 profile: 1 pass, 1 FAILED, 1 harness error, 1 accepted, 1 warning; "
    )


def test_what_is_alike_in_several_postures_is_one_line() -> None:
    items = [
        item("f", posture=posture, runtime_model="crun", id=f"a.json::f[{posture},crun]")
        for posture in ("container", "restricted")
    ]
    text = plain_text(document(*items))
    assert text.count("FAIL ") == 1
    assert "f [container,crun] [restricted,crun]: it leaks" in text


def test_the_parameters_of_a_family_are_no_mark() -> None:
    one = item("change-mode[bits=04000]", posture="container", runtime_model="crun")
    assert mark_of(one) == ""
    assert "change-mode[bits=04000]: it leaks" in plain_text(document(one))
    assert mark_of(item("accept", id="a.json::accept x86_64:mkdirat[1+]")) == ""


def test_the_first_way_that_is_not_accepted_is_shown() -> None:
    waived = Waived("known", "me", "2999-01-01")
    ways = (
        Way("first", "f/a", "baseline", waived=waived),
        Way("second", "f/b", "baseline", place=Place("a.json", 7)),
        Way("third", "f/c", "baseline"),
    )
    text = plain_text(document(item("f", ways=ways, detail=("fix: one", "fix: two", "look"))))
    assert "second by f/b, a.json:7 (and 1 route more)" in text
    assert "first" not in text
    assert "fix: one (and 1 more)" in text
    assert "look" in text


def test_hostile_text_stays_text() -> None:
    way = Way(HOSTILE, HOSTILE, HOSTILE, place=Place(HOSTILE, 1))
    bad = item(HOSTILE, message=HOSTILE, detail=(HOSTILE,), ways=(way,), profile=HOSTILE)
    found = document(bad, changes=(Change(HOSTILE, HOSTILE, HOSTILE),), unexpected=(HOSTILE,))
    text = plain_text(found)
    assert not {"\x1b", "\u202e", "\u2066", "\r"} & set(text)
    assert "[bold]" not in text or "markup" in text
    assert max(map(len, text.splitlines())) <= 100
    assert len(text) < 10_000


def test_the_closing_line_says_how() -> None:
    assert "2 evaluated, 1 from the cache" in closing(document(evaluated=2, cached=1))
    assert "predicted" in closing(document(simulated=True))
    assert "nothing to check" in closing(document())
