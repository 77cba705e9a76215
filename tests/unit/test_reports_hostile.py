"""Whatever a name, a path, a program or a model says, it is text in every form of a report."""

import csv
import io
import json
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from evaluator.table import show
from reports.document import complete, parse_document
from reports.files import csv_text
from reports.history import render_history
from reports.html import render
from reports.markdown import LONGEST, markdown, prose
from reports.text import code_span, one_line

from hostile import HOSTILE, poison
from test_reports_html import Page

SAMPLE = Path(__file__).parents[1] / "data" / "results" / "sample.json"
PIECES = [
    "<script>alert(1)</script>",
    "<!--",
    "</details>",
    "![x](https://x.example)",
    "[x](javascript:alert(1))",
    "https://x.example/y",
    "www.x.example",
    "@somebody",
    "#12",
    "`",
    "```",
    "|",
    "\n\n# a\n",
    "\n---\n",
    "- ",
    "1. ",
    "    ",
    "**b**",
    "~~s~~",
    "&lt;",
    "\\",
    "$x$",
    "=cmd()",
    "+1",
    "@SUM(1)",
    "\t=1",
    "\u202e",
    "\u2066",
    "\x00",
    "\x1b[2J",
    "\x9b31m",
    "\ud800",
    "\ufffe",
    "[bold]x[/bold]",
    "{{7*7}}",
    "x" * 10_000,
]
texts = st.lists(
    st.one_of(st.sampled_from(PIECES), st.text(st.characters(), max_size=8)), max_size=5
).map("".join)
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\ufeff\ud800-\udfff]"
)
few = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])


@cache
def _sample() -> str:
    return SAMPLE.read_text()


def poisoned(text: str) -> dict[str, Any]:
    raw = poison(json.loads(_sample()), text)
    for number, candidate in enumerate(raw["candidates"]):
        candidate["name"] += str(number)
    return raw


def tokens(text: str) -> list[Any]:
    """Of what a reader of Markdown makes of it, without the nesting."""
    found = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [one for token in found for one in (token, *(token.children or ()))]


@few
@given(texts)
def test_in_html(text: str) -> None:
    for page in (
        render(parse_document(poisoned(text))),
        render_history([parse_document(poisoned(text))])["index.html"],
    ):
        assert not HIDDEN.search(page)
        parsed = Page(page)  # fails if something is not nested well
        assert len(parsed.all("script")) <= 2
        assert not parsed.all("img")
        assert not [
            a for _, of in parsed.elements for a in of if a.startswith("on") or a == "style"
        ]
        hrefs = [one["href"] or "" for one in parsed.all("a")]
        assert all(re.match(r"#|https://|[\w-]+\.html$", href) for href in hrefs)
        page.encode()


@few
@given(texts)
def test_in_markdown(text: str) -> None:
    written = markdown(parse_document(poisoned(text)))
    assert not HIDDEN.search(written)
    assert len(written) <= LONGEST + 2_000
    found = tokens(written)
    kinds = {one.type for one in found}
    assert kinds.isdisjoint({"image", "link_open", "html_inline", "s_open", "hr", "em_open"})
    assert {one.tag for one in found if one.type == "heading_open"} == {"h2"}
    blocks = [one.content for one in found if one.type == "html_block"]
    own = re.compile(r"<details><summary>[^<>]*</summary>\n|</details>\n")
    assert all(own.fullmatch(one) for one in blocks)
    assert len(blocks) == 2 * written.count("\n<details>")


@given(texts)
def test_prose_is_one_paragraph_that_says_the_same(text: str) -> None:
    found = tokens(prose(text))
    assert {one.type for one in found} <= {
        "paragraph_open", "paragraph_close", "inline", "text", "text_special", "code_inline",
    }  # fmt: skip
    said = "".join(
        one.content for one in found if one.type in ("text", "text_special", "code_inline")
    )
    squeezed = re.sub(r"\s", "", one_line(text).replace("|", "\u2039U+007C\u203a"))
    if len(text) <= 300:
        assert re.sub(r"\s", "", said.replace("|", "\u2039U+007C\u203a")) == squeezed


@given(texts)
def test_a_code_span_holds_all_of_it(text: str) -> None:
    span = code_span(text)
    found = [one for one in tokens(f"a {span} b") if one.type != "inline"]
    kinds = [one.type for one in found if one.type != "text"]
    assert kinds == ["paragraph_open", *(["code_inline"] if span else []), "paragraph_close"]


@few
@given(texts)
def test_in_csv(text: str) -> None:
    rows = list(csv.reader(io.StringIO(csv_text(parse_document(poisoned(text))))))
    assert len({len(row) for row in rows}) == 1
    for cell in (cell for row in rows[1:] for cell in row):
        assert not HIDDEN.search(cell)
        is_number = re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell)
        assert is_number or not cell.strip().startswith(("=", "+", "-", "@")) or cell[0] == "'"


@few
@given(texts)
def test_on_a_terminal(text: str) -> None:
    stream = io.StringIO()
    raw = complete(poisoned(text))
    show(Console(file=stream, width=80, highlight=False, color_system=None), raw)
    for line in stream.getvalue().splitlines():
        assert not [one for one in line if unicodedata.category(one)[0] == "C"]


@pytest.mark.parametrize("said", [HOSTILE, "x" * 10_000])
def test_the_words_are_still_there(said: str) -> None:
    raw = poisoned(said)
    page = render(parse_document(raw))
    assert one_line(said)[:7].replace("<", "&lt;") in page
    assert one_line(said)[:8] in csv_text(parse_document(raw))
    assert one_line(said)[:8] in markdown(parse_document(raw))
