"""The leaderboard says what the scores say, names no false winner, and shows text as text."""

import copy
import re
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluator.samples import Status
from reports.errors import ReportError
from reports.leaderboard import (
    PAIRS,
    Solved,
    build_board,
    render_leaderboard,
    span,
)
from reports.leaderboard_document import parse_leaderboard
from reports.leaderboard_failures import LISTED
from reports.leaderboard_schema import Rate

from boards import NAMES, board, made, poisoned, score
from hostile import HOSTILE
from test_reports_hostile import HIDDEN, PIECES
from test_reports_html import Page

TABLE = re.compile(r"<table.*?</table>", re.DOTALL)


@cache
def _board() -> dict[str, Any]:
    return board()


@pytest.fixture
def raw() -> dict[str, Any]:
    return copy.deepcopy(_board())


def page_of(raw: dict[str, Any]) -> str:
    return render_leaderboard(parse_leaderboard(raw))


def only(*scored: Any) -> dict[str, Any]:
    return board(list(scored))


class TestAnswer:
    def test_the_best_is_named_with_its_interval(self, raw: dict[str, Any]) -> None:
        found = build_board(parse_leaderboard(raw))
        rate = raw["rows"][1]["asked"]["joint"]
        assert raw["rows"][1]["model"] == "right-1"
        interval = f"{100 * rate['low']:.0f} to {100 * rate['high']:.0f} %"
        assert (
            found.headline
            == f"right-1 solves {interval} of 12 scenarios, more than each of 2 others"
        )

    def test_what_the_poc_alone_would_have_passed(self, raw: dict[str, Any]) -> None:
        said = build_board(parse_leaderboard(raw)).contrast
        # 36 answers of poc-1, 9 of right-1, and its 27 right ones
        assert "72 stopped the PoC and broke nothing" in said
        assert "got around 45 of them" in said

    def test_no_winner_where_the_interval_holds_0(self) -> None:
        alike = [made("a", name, 0, score(n % 2 == 0)) for n, name in enumerate(NAMES)]
        other = [made("b", name, 0, score(n % 2 == 1)) for n, name in enumerate(NAMES)]
        raw = only(*alike, *other)
        found = build_board(parse_leaderboard(raw))
        assert found.headline.startswith("No winner: a solves ")
        assert found.headline.endswith("is not shown to be better than b")
        assert [(pair.decided, pair.says[:9]) for pair in found.pairs] == [(False, "no winner")]
        assert "is better" not in page_of(raw)

    @pytest.mark.parametrize(
        "change", [{"difference": -0.1}, {"adjusted": 0.06}, {"adjusted": None}]
    )
    def test_a_winner_that_nothing_shows_is_refused(
        self, change: dict[str, Any], raw: dict[str, Any]
    ) -> None:
        pair = raw["comparisons"][0]
        assert pair["winner"]
        if "adjusted" in change:
            pair.update(change)
        else:
            pair["difference"]["low"] = change["difference"]
        with pytest.raises(ReportError, match=r"comparisons\[0\]\.winner"):
            parse_leaderboard(raw)

    @pytest.mark.parametrize("right", [True, False])
    def test_one_model(self, right: bool) -> None:
        raw = only(*(made("m", name, 0, score(right)) for name in NAMES))
        rate = "48 to 100 %" if right else "0 to 52 %"  # of so many clusters that agree
        found = build_board(parse_leaderboard(raw))
        assert found.headline == f"m solves {rate} of 12 scenarios"
        assert "no pair of models to compare" in page_of(raw)

    def test_nobody_solves_anything(self) -> None:
        raw = only(*(made(m, name, 0, score(False)) for name in NAMES for m in "ab"))
        assert build_board(parse_leaderboard(raw)).headline.startswith("None of 2 ")

    def test_no_model_at_all(self) -> None:
        raw = only(made("reference", NAMES[0], 0, score(True), strategy="known"))
        assert "No model was scored" in page_of(raw)

    def test_an_interval_without_0_is_no_winner_if_p_is_not_small(
        self, raw: dict[str, Any]
    ) -> None:
        raw["comparisons"][0].update(adjusted=0.06, winner="")
        pair = build_board(parse_leaderboard(raw)).pairs[0]
        assert (pair.decided, pair.says) == (False, "no winner: p is not below 0.05")

    def test_one_cluster_has_no_interval(self) -> None:
        raw = only(made("m", NAMES[0], 0, score(True)))
        assert (
            build_board(parse_leaderboard(raw)).headline
            == "m solves 100 % (no interval) of 1 scenario"
        )
        assert "fewer than two clusters" in page_of(raw)

    def test_nothing_but_errors_of_the_provider(self) -> None:
        raw = only(*(made("m", name, 0, None, Status.API_ERROR) for name in NAMES))
        found = build_board(parse_leaderboard(raw))
        assert found.headline == "Nothing can be said of m: none of its answers could be judged"
        assert {cell.solved for task in found.tasks for cell in task.cells} == {Solved.UNASKED}
        page_of(raw)


class TestPage:
    def test_it_is_well_formed_and_fetches_nothing(self, raw: dict[str, Any]) -> None:
        text = page_of(raw)
        found = Page(text)
        assert len(found.all("script")) == 1
        assert any("default-src 'none'" in (one.get("content") or "") for one in found.all("meta"))
        hrefs = [one.get("href") or "" for kind in ("a", "link") for one in found.all(kind)]
        assert all(href.startswith(("#", "data:")) for href in hrefs)
        targets = {of["id"] for _, of in found.elements if of.get("id")}
        assert {href[1:] for href in hrefs if href.startswith("#")} <= targets
        assert [one for one, of in found.elements for name in of if name == "style"] == []

    def test_rows_that_need_no_model_stand_apart(self, raw: dict[str, Any]) -> None:
        found = build_board(parse_leaderboard(raw))
        assert [line.name for line in found.known] == ["reference", "poc-only"]
        assert [line.name for line in found.models] == ["right-1", "deny-1", "poc-1"]
        first = TABLE.findall(page_of(raw))[0]
        assert (
            first.index("poc-1")
            < first.index("Answers that need no model")
            < first.index("reference")
        )

    def test_what_a_runtime_ships_is_a_row_of_the_rates_alone(self) -> None:
        scored = [made("m", name, 0, score(True)) for name in NAMES]
        default = [
            made("runtime-default", name, 0, score(False), strategy="known") for name in NAMES
        ]
        found = build_board(parse_leaderboard(only(*scored, *default)))
        assert [line.name for line in found.known] == ["runtime-default"]
        assert [line.name for line in found.columns] == ["m"]
        assert {len(task.cells) for task in found.tasks} == {1}
        assert found.techniques == ()

    def test_many_rows_stay_a_page(self) -> None:
        scored = [
            made(f"m{n}", name, 0, score((n + place) % 3 > 0))
            for n in range(20)
            for place, name in enumerate(NAMES)
        ]
        raw = only(*scored)
        found = build_board(parse_leaderboard(raw))
        assert (len(found.pairs), found.more_pairs) == (PAIRS, 190 - PAIRS)
        assert len(page_of(raw)) < 1_000_000

    def test_both_denominators(self, raw: dict[str, Any]) -> None:
        deny = next(
            line for line in build_board(parse_leaderboard(raw)).models if line.name == "deny-1"
        )
        assert deny.asked["held"].mean == "0.33"
        assert (
            deny.answered["held"].mean == "0.50"
        )  # an invalid one is an answer, a refusal is none
        asked, answered, *_ = TABLE.findall(page_of(raw))
        assert "12 refused, 12 invalid" in asked
        assert "mean 0.33" in asked
        assert "mean 0.50" in answered

    def test_the_matrix_counts_and_marks_false_fixes_in_words(self, raw: dict[str, Any]) -> None:
        found = build_board(parse_leaderboard(raw))
        names = [line.name for line in found.lines]
        task = next(task for task in found.tasks if task.asked.name == NAMES[0])
        cells = dict(zip(names, task.cells, strict=True))
        assert (cells["right-1"].solved, cells["right-1"].said) == (Solved.SOME, "2 of 3")
        assert cells["right-1"].false_fixes == 1
        assert (cells["poc-1"].said, cells["poc-1"].false_fixes) == ("0 of 3", 3)
        assert cells["deny-1"].notes == ("1 refused", "1 invalid")
        assert cells["reference"].solved is Solved.ALL
        assert "≠ 3 false" in page_of(raw)

    def test_what_got_around_whom(self, raw: dict[str, Any]) -> None:
        found = build_board(parse_leaderboard(raw))
        (technique,) = found.techniques  # the other one got around nobody
        cells = dict(zip([line.name for line in found.lines], technique.cells, strict=True))
        assert technique.name == "compat-abi"
        assert cells["poc-1"] == ("36 of 36", "72 ways")
        assert cells["deny-1"] == ("0 of 12", "")

    def test_what_was_not_tried_on_a_row_is_not_0_of_0(self, raw: dict[str, Any]) -> None:
        raw["rows"][0]["techniques"] = []
        found = build_board(parse_leaderboard(raw))
        place = [line.name for line in found.lines].index(raw["rows"][0]["model"])
        assert found.techniques[0].cells[place] == ("not tried", "")

    def test_visible_and_hidden_ways_with_the_gap(self, raw: dict[str, Any]) -> None:
        line = next(one for one in build_board(parse_leaderboard(raw)).lines if one.name == "poc-1")
        assert (line.visible.mean, line.hidden.mean, line.gap.mean) == ("1.00", "0.00", "+1.00")
        assert 'id="gap"' in page_of(raw)

    def test_where_nothing_is_hidden_it_says_what_that_means(self, raw: dict[str, Any]) -> None:
        for one in raw["samples"]:
            one["hides"] = False
        assert "nothing here says how an answer generalises" in page_of(raw)

    def test_the_ways_of_a_private_suite_are_not_named(self, raw: dict[str, Any]) -> None:
        raw["private_suite"] = "0123456789abcdef"
        for one in raw["samples"]:
            if one["score"] and one["score"]["hidden"]["bypasses"]:
                one["score"]["hidden"]["bypasses"] = ["create-directory/mkdir~child~i386"]
        text = page_of(raw)
        assert "0123456789abcdef" in text
        assert "1 hidden way through" in text
        assert "~child" not in text

    def test_why_answers_failed(self, raw: dict[str, Any]) -> None:
        text = page_of(raw)
        assert "line 1 column 1: not JSON" in text
        assert "2 hidden ways through, such as create-directory/mkdirat" in text
        assert "broken: shell-basics" in text

    def test_long_lists_are_cut_with_their_number(self) -> None:
        scored = [made("m", name, n, score(False)) for name in NAMES for n in range(10)]
        raw = only(*scored)
        (found,) = build_board(parse_leaderboard(raw)).failures
        assert (len(found.shown), found.total) == (LISTED, 120)
        assert f"{120 - LISTED} more are in" in page_of(raw)

    def test_what_may_not_be_concluded(self, raw: dict[str, Any]) -> None:
        text = page_of(raw)
        clusters = len({one["cluster"] for one in raw["scenarios"]})
        assert f"with only {clusters} cluster" in text
        assert raw["canary"] in text
        expects = [one["expect"] for one in raw["scenarios"]]
        hopeless = expects.count("conflict") + expects.count("not-mitigable")
        assert ("No profile solves all of them" in text) == bool(hopeless)
        assert all(digest in text for digest in raw["digests"].values())

    def test_scenarios_that_nobody_can_solve_are_said_to_be_such(self, raw: dict[str, Any]) -> None:
        for number, one in enumerate(raw["scenarios"]):
            one["expect"] = "conflict" if number < 3 else "mitigable"
        assert "For 3 scenarios no profile is a solution" in page_of(raw)

    def test_cost_is_unknown_or_a_number_and_never_0_for_unknown(self, raw: dict[str, Any]) -> None:
        assert page_of(raw).count("not known</span>") == 3
        raw["rows"][1]["cost_per_solved"] = 0.0723
        assert "0.0723" in page_of(raw)

    def test_levels_are_named_where_rows_differ(self) -> None:
        scored = [
            made("m", name, 0, score(True), strategy=s)
            for name in NAMES
            for s in ("single", "rounds")
        ]
        found = build_board(parse_leaderboard(only(*scored)))
        assert {line.name for line in found.models} == {"m, single", "m, rounds"}
        assert {line.asked_how for line in found.models} == {"effect"}

    def test_names_that_look_alike_are_told_apart(self) -> None:
        long = "x" * 200
        scored = [
            made(m, name, 0, score(True))
            for name in NAMES
            for m in (long + "a" + long, long + "b" + long)
        ]
        names = [line.name for line in build_board(parse_leaderboard(only(*scored))).models]
        assert len(set(names)) == 2


def test_an_interval_is_drawn_where_it_is() -> None:
    assert span(Rate(0.5, 0.25, 0.75, 9)).said == "0.25 to 0.75"
    drawn = span(Rate(0.5, 0.25, 0.75, 9), -1.0)
    assert (drawn.low, drawn.at, drawn.high) == (62.5, 75.0, 87.5)
    assert drawn.said == "+0.25 to +0.75"
    assert span(Rate(-1e-17, -0.5, 0.5, 9), -1.0).said == "\u22120.50 to +0.50"
    assert span(Rate(-1e-17, -0.5, 0.5, 9), -1.0).mean == "+0.00"
    assert span(Rate(None, None, None, 0)).at is None
    assert span(Rate(0.5, None, None, 1)).said == "no interval"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw.update(schema="sidestep.results/1"), "schema"),
        (lambda raw: raw["rows"][0]["asked"].pop("joint"), r"rows\[0\]\.asked: joint is missing"),
        (lambda raw: raw["rows"][0]["statuses"].update(fine=1), "is no status"),
        (lambda raw: raw["samples"][0].update(status="fine"), "is no status"),
        (lambda raw: raw["samples"][0].update(scenario="other"), "is not listed"),
        (lambda raw: raw["samples"][0].update(model="other"), "no row is of its model"),
        (lambda raw: raw["rows"].append(raw["rows"][0]), "there twice"),
        (lambda raw: raw["rows"][0].update(samples="many"), r"rows\[0\]\.samples: Expected `int`"),
        (lambda raw: raw["rows"][0].pop("model"), "missing required field `model`"),
    ],
)
def test_a_wrong_document_is_one_line(change: Any, said: str, raw: dict[str, Any]) -> None:
    change(raw)
    with pytest.raises(ReportError, match=said) as error:
        parse_leaderboard(raw)
    assert "\n" not in str(error.value)


texts = st.lists(
    st.one_of(st.sampled_from(PIECES), st.text(st.characters(), max_size=8)), max_size=5
).map("".join)


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(texts.filter(lambda text: " / " not in text))
def test_hostile_text_is_text(text: str) -> None:
    page = page_of(poisoned(text))
    assert not HIDDEN.search(page)
    found = Page(page)  # fails if something is not nested well
    assert len(found.all("script")) == 1
    assert not found.all("img")
    assert not [a for _, of in found.elements for a in of if a.startswith("on") or a == "style"]
    assert all((one["href"] or "").startswith("#") for one in found.all("a"))
    page.encode()


def test_hostile_text_is_shortened_and_still_there() -> None:
    long = HOSTILE.encode(errors="replace").decode() + "y" * 10_000
    page = page_of(
        only(
            *(made(long, name, 0, None, Status.INVALID, strategy=long, why=long) for name in NAMES)
        )
    )
    assert page.count("&lt;script&gt;window.ran") > len(NAMES)
    assert "y" * 300 not in page
    assert len(page) < 100_000
