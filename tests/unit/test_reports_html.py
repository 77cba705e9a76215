"""The page says what the run says, stays whole, and shows hostile text as text."""

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reports.answer import Standing, advice, headline, sentence, standing
from reports.document import parse_document
from reports.html import render
from reports.program import lines
from reports.schema import Step
from reports.text import abbreviate, script_json, visible

from grown import grown
from hostile import poison

SAMPLE = Path(__file__).parents[1] / "data" / "results" / "sample.json"
VOID = {"meta", "link", "br", "input", "rect"}
TAGS = VOID.union(
    *(
        words.split()
        for words in (
            "html head title style script body a nav p ol ul li main section article header",
            "h1 h2 h3 h4 h5 div span b code pre dl dt dd details summary noscript",
            "svg desc text defs use path",
            "table caption thead tbody tr th td form label select option button",
        )
    )
)


class Page(HTMLParser):
    """The elements and the text of a page; fails on what is not nested well."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.inside: dict[str, list[str]] = {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open:
            self.inside.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def raw() -> dict[str, Any]:
    return json.loads(SAMPLE.read_text())


def page_of(raw: dict[str, Any]) -> Page:
    return Page(render(parse_document(raw)))


def test_the_answer_is_in_the_page_without_a_script(raw: dict[str, Any]) -> None:
    text = " ".join(" ".join(page_of(raw).words).split())
    assert "block-mkdir leaks, unconfined leaves everything open, no-new-directories holds" in text
    assert "io_uring_enter(3, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0)" in text
    assert "the running kernel has no x32 ABI" in text
    assert "prerequisite only" in text


def test_a_bypass_says_what_lets_it_through_and_what_would_close_it(raw: dict[str, Any]) -> None:
    family = next(one for one in raw["candidates"][0]["families"] if one["verdict"] == "leaky")
    shared = {"kind": "no-call", "call": "x86_64:x", "where": "syscalls[0].names"}
    family["causes"] = [
        {**shared, "variants": family["bypasses"][:1], "said": "a <ring>", "fix": 'add "x" to y'},
        {**shared, "variants": family["bypasses"][1:], "said": "it is unknown", "fix": ""},
    ]
    (warning,) = raw["candidates"][0]["warnings"][:1]
    warning |= {"witness": "i386:mkdir(...)", "confirmed_by": "create-directory/mkdir-i386"}
    page = render(parse_document(raw))
    assert "<b>What lets it through.</b> a &lt;ring&gt;." in page
    assert "<b>What would close it.</b> <code>add &#34;x&#34; to y</code>" in page
    assert "no single line" in page
    assert "for instance <code>i386:mkdir(...)</code>" in page


def test_an_open_family_says_what_would_close_it(raw: dict[str, Any]) -> None:
    """Where the matrix unfolds if nobody meant to stop it, call by call if somebody did."""
    families = raw["candidates"][2]["families"]
    for family in families:
        cause = {"kind": "no-call", "call": "x86_64:x", "where": "", "said": "it is allowed"}
        family["causes"] = [
            {**cause, "variants": family["bypasses"], "fix": f"deny {family['family']}"}
        ]
    page = render(parse_document(raw))
    data = json.loads(Page(page).inside["script"][0])
    of = [[data["strings"][n] for n in one] for one in data["causes"]]
    assert [one[3] for one in of] == [f"deny {one['family']}" for one in families]
    assert [len(one) for one in data["candidates"][2]["causes"]] == [2] * 4
    assert 'class="family open"' not in page
    families[0]["targeted"] = True
    page = render(parse_document(raw))
    assert 'class="family open"' in page
    assert "<b>What would close it.</b> <code>deny create-directory</code>" in page


def test_each_axis_stands_beside_the_other_with_its_counts(raw: dict[str, Any]) -> None:
    text = " ".join(" ".join(page_of(raw).words).split())
    assert text.count("Robustness 0.00 (0 of 1), utility 0.50 (1 of 2)") == 1
    assert text.count("Robustness \u2013 (nothing targeted) , utility 1.00 (2 of 2)") == 1
    # In the answer, the comparison, and with the candidate.
    assert text.count("0.00 (0 of 1)") == text.count("0.50 (1 of 2)") == 3


def test_counts_that_an_old_document_lacks_are_not_made_up(raw: dict[str, Any]) -> None:
    for candidate in raw["candidates"]:
        del candidate["counted"]
    text = " ".join(page_of(raw).words)
    assert "0.50 (counts not recorded)" in text


def test_a_block_says_what_it_leaves_behind(raw: dict[str, Any]) -> None:
    text = " ".join(" ".join(page_of(raw).words).split())
    assert "4 blocked silently; the process lives on. 1 blocked with an audit record" in text
    data = json.loads(page_of(raw).inside["script"][0])
    assert "mkdir: EPERM, blocked silently; the process lives on" in data["strings"]
    assert "EPERM silently; the process lives on" in text
    raw["environment"]["audit_log"]["said"] = "this machine logs no errno"
    assert "this machine logs no errno" in render(parse_document(raw))


def test_the_plot_has_words_for_those_who_do_not_see_it(raw: dict[str, Any]) -> None:
    page = page_of(raw)
    (drawing,) = [one for one in page.all("svg") if one.get("role") == "img"]
    labels = (drawing["aria-labelledby"] or "").split()
    assert labels
    assert set(labels) <= {one.get("id") for _, one in page.elements}
    assert "unconfined" in page.inside["text"][-1]
    raw["candidates"] = raw["candidates"][:1]
    assert not [one for one in page_of(raw).all("svg") if one.get("role") == "img"]


def test_the_policy_names_this_style_and_this_script(raw: dict[str, Any]) -> None:
    page = page_of(raw)
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    for text in (page.inside["style"][0], page.inside["script"][1]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_nothing_is_fetched_and_nothing_is_inline_that_the_policy_forbids(
    raw: dict[str, Any],
) -> None:
    for tag, attributes in page_of(poison(raw)).elements:
        assert tag in TAGS
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
        assert tag == "link" or "src" not in attributes
    links = [a["href"] or "" for a in page_of(raw).all("a")]
    assert all(link.startswith(("#", "https://")) for link in links)


def test_every_link_leads_somewhere_and_no_id_is_used_twice(raw: dict[str, Any]) -> None:
    page = page_of(raw)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {(a["href"] or "")[1:] for a in page.all("a") if (a["href"] or "").startswith("#")}
    assert links <= set(ids)


def test_hostile_text_stays_text(raw: dict[str, Any]) -> None:
    text = render(parse_document(poison(raw)))
    page = Page(text)
    assert len(page.all("script")) == 2
    assert not page.all("img")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
    assert "<script>window.ran=1;alert(1)</script>" in "".join(
        page.inside["h3"] + page.inside["span"]
    )
    data = json.loads(page.inside["script"][0])
    assert any("alert(1)" in word for word in data["strings"])
    text.encode()


def test_a_link_that_is_no_web_address_is_text(raw: dict[str, Any]) -> None:
    for trial in raw["candidates"][0]["trials"]:
        trial["references"] = ["javascript:alert(1)"]
    links = [a["href"] or "" for a in page_of(raw).all("a")]
    assert not [link for link in links if "javascript" in link]


def test_the_data_holds_every_trial_once(raw: dict[str, Any]) -> None:
    data = json.loads(page_of(raw).inside["script"][0])
    strings, variants = data["strings"], data["variants"]
    for stored, candidate in zip(data["candidates"], raw["candidates"], strict=True):
        found = [(strings[variants[t[0]][0]], strings[t[1]]) for t in stored["trials"]]
        assert [(t["variant"], t["outcome"]) for t in candidate["trials"]] == found


def test_headings_go_down_one_level_at_a_time(raw: dict[str, Any]) -> None:
    levels = [int(tag[1]) for tag, _ in page_of(raw).elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


@pytest.mark.slow
def test_fifty_candidates_by_a_thousand_variants_stay_under_five_megabytes(
    raw: dict[str, Any],
) -> None:
    text = render(parse_document(grown(raw, candidates=50, families=100, variants=10)))
    assert len(text.encode()) < 5_000_000


def test_a_long_token_is_cut_where_it_would_only_fill_the_page(raw: dict[str, Any]) -> None:
    raw["candidates"][0]["name"] = "a" * 10_000
    page = page_of(raw)
    assert len("".join(page.inside["h1"] + page.inside["title"])) < 1_000
    assert "a" * 10_000 in "".join(page.words)


class TestAnswer:
    def standing(self, raw: dict[str, Any], **changes: Any) -> Standing:
        raw["candidates"][0].update(changes)
        return standing(parse_document(raw).candidates[0])

    def test_a_filter_that_stops_everything_is_no_champion(self, raw: dict[str, Any]) -> None:
        starts = {"loads": True, "runtime": False, "static": None, "dynamic": None}
        assert self.standing(raw, starts=starts) is Standing.DOES_NOT_START

    def test_a_program_that_confines_itself_needs_no_runtime(self, raw: dict[str, Any]) -> None:
        starts = {"loads": True, "runtime": False, "static": None, "dynamic": None}
        assert self.standing(raw, starts=starts, attachment="self") is Standing.LEAKY

    def test_what_is_not_in_force_is_not_leaky(self, raw: dict[str, Any]) -> None:
        assert self.standing(raw, enforced=False) is Standing.NOT_ENFORCED

    def test_an_open_family_that_had_to_hold_outweighs_held_ones(self, raw: dict[str, Any]) -> None:
        families = raw["candidates"][1]["families"]
        families[1]["targeted"] = True
        document = parse_document(raw)
        assert standing(document.candidates[1]) is Standing.OPEN
        assert "though it has to" in sentence(document.candidates[1])

    @pytest.mark.parametrize(
        ("verdict", "expected"),
        [
            ("undecided", Standing.UNDECIDED),
            ("untested", Standing.UNTESTED),
            ("not-enforced", Standing.NOT_ENFORCED),
            ("held here", Standing.HELD),
        ],
    )
    def test_every_verdict_has_a_sentence(
        self, verdict: str, expected: Standing, raw: dict[str, Any]
    ) -> None:
        for family in raw["candidates"][1]["families"]:
            family.update(verdict=verdict, targeted=True)
        document = parse_document(raw)
        assert standing(document.candidates[1]) is expected
        assert sentence(document.candidates[1]).endswith(".")
        assert render(document)

    def test_many_candidates_are_counted(self, raw: dict[str, Any]) -> None:
        more = [{**raw["candidates"][0], "name": f"x{n}"} for n in range(3)]
        raw["candidates"] += more
        expected = "4 of 6 candidates leak, 1 leaves everything open, 1 holds"
        assert expected == headline(parse_document(raw))

    def test_nothing_and_something_invalid_are_shown(self, raw: dict[str, Any]) -> None:
        wrong = {"name": "x", "source": "x.json", "valid": False}
        for candidates in ([], [wrong], [{**wrong, "errors": [{"message": "m", "where": "w"}]}]):
            raw["candidates"] = candidates
            assert page_of(raw)

    def test_advice_names_the_calls_and_what_holds(self, raw: dict[str, Any]) -> None:
        document = parse_document(raw)
        text = advice(document.candidates[0], document)
        assert "io_uring_enter" in text
        assert "no-new-directories holds it and breaks no workload" in text
        assert advice(document.candidates[1], document) == ""


class TestProgram:
    def test_operations_in_memory_are_put_together(self) -> None:
        steps = [
            Step(0, "attack", "r0 = io_uring_setup(4, &p)", "x86_64", control="3", mitigated="3"),
            Step(1, "attack", "r1 = r0 + 4", "", control="7", mitigated="7"),
            Step(2, "attack", "*(u32*)(r1) = 1", "", control="0", mitigated="0"),
            Step(
                3, "attack", "io_uring_enter(r0)", "x86_64", True, "1", "-1 EPERM", "ERRNO(EPERM)"
            ),
        ]
        found = lines(steps)
        assert [line.slots for line in found] == ["0", "1\u20132", "3"]
        assert [line.is_memory for line in found] == [False, True, False]
        assert [line.differs for line in found] == [False, False, True]

    def test_addresses_do_not_count_as_a_difference(self) -> None:
        line = lines([Step(0, "attack", "mmap()", "x86_64", False, "0x7f00000000", "0x7e00000000")])
        assert (line[0].differs, line[0].mitigated) == (False, "an address")

    def test_a_faked_success_is_a_difference(self) -> None:
        line = lines([Step(0, "attack", "mkdir()", "x86_64", True, "0", "0", "ERRNO(0)")])
        assert line[0].differs


class TestText:
    def test_what_hides_or_reorders_is_shown(self) -> None:
        assert visible("a\u202eb\x07\ud800") == "a\u2039U+202E\u203ab\u2407\u2039U+D800\u203a"
        assert visible("tab\tline\n") == "tab\tline\n"
        assert visible("\u0627\u0644\u0639") == "\u0627\u0644\u0639"

    def test_script_data_cannot_leave_its_element(self) -> None:
        text = script_json("</script><!--\u2028&")
        assert not set("<>&\u2028") & set(text)
        assert json.loads(text) == "</script><!--\u2028&"

    def test_both_ends_of_a_long_text_stay(self) -> None:
        assert abbreviate("a" * 50 + "b" * 50, 9) == "aaaa\u2026bbbb"
