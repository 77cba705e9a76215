"""JUnit, SARIF, Markdown and annotations say the same of a check, and hostile text stays text."""

import json
import re
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from markdown_it import MarkdownIt

from reports.annotations import annotations
from reports.check_markdown import markdown
from reports.check_schema import CheckDocument, Item, Place
from reports.check_text import is_error, tally
from reports.junit import junit
from reports.sarif import sarif
from reports.text import code_span, one_line, visible

import checks
from checks import DOCUMENTS, EVERYTHING, HOSTILE, LEAKY, RING, WAIVED, document, item

SAID = f"create-directory: {LEAKY.message}"
COMMAND = re.compile(r"::(error|warning) ([^\n]*?)::([^\n]*)")
HIDING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def xml(found: CheckDocument) -> ElementTree.Element:
    return ElementTree.fromstring(junit(found))


def case(found: CheckDocument, name: str) -> ElementTree.Element:
    """The first of that name."""
    return next(case for case in xml(found).iter("testcase") if case.get("name") == name)


def run(found: CheckDocument) -> dict[str, Any]:
    (one,) = json.loads(sarif(found))["runs"]
    return one


def commands(found: CheckDocument) -> list[dict[str, str]]:
    """As the runner reads them: unescaped properties, kind and message."""
    lines = []
    for line in annotations(found).splitlines()[:-1]:
        kind, named, message = COMMAND.fullmatch(line).groups()  # type: ignore[union-attr]
        pairs = dict(one.split("=", 1) for one in named.split(","))
        lines.append(
            {k: unquote(v) for k, v in pairs.items()} | {"kind": kind, "is": unquote(message)}
        )
    return lines


class TestJUnit:
    def test_a_suite_for_each_profile_and_a_case_for_each_item(self) -> None:
        root = xml(EVERYTHING)
        assert [suite.get("name") for suite in root] == [
            "block-mkdir.json",
            "open.json",
            "quiet.json",
        ]
        assert [suite.get("tests") for suite in root] == ["4", "4", "1"]
        assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("9", "4", "1")

    def test_a_gate_is_a_failure_that_says_what_to_do(self) -> None:
        failure = case(EVERYTHING, "create-directory").find("failure")
        assert failure is not None
        assert failure.text is not None
        assert (failure.get("type"), failure.get("message")) == ("leaky", SAID)
        for told in (RING.route, RING.variant, RING.call, RING.fix, *RING.program, *LEAKY.detail):
            assert told in failure.text
        assert "profiles/block-mkdir.json:2:20" in failure.text

    def test_the_harness_is_an_error_and_nothing_is_skipped(self) -> None:
        found = case(EVERYTHING, "mount").find("error")
        assert found is not None
        assert found.get("message") == "mount: the judge died twice"
        assert case(EVERYTHING, "send-signal").find("failure") is not None
        assert not list(xml(EVERYTHING).iter("skipped"))

    def test_what_is_accepted_passes_with_its_reason(self) -> None:
        found = case(EVERYTHING, "create-file")
        assert [child.tag for child in found] == ["system-out"]
        assert found[0].text is not None
        assert all(one in found[0].text for one in (WAIVED.reason, WAIVED.owner, WAIVED.expires))

    def test_properties_name_what_judged(self) -> None:
        found = {p.get("name"): p.get("value") for p in xml(EVERYTHING)[0].iter("property")}
        assert found["suite"] == "2026.11"
        assert found["kernel"] == "6.18.0"
        assert found["libseccomp"] == "2.5.4"
        assert found["posture"] == "container"
        assert found["runtime model"] == "runc-1.1/libseccomp-2.5.4"
        assert found["changed: kernel"] == "6.12.0 -> 6.18.0"

    def test_a_case_names_its_source(self) -> None:
        found = case(EVERYTHING, "create-file x86_64:creat")
        assert (found.get("file"), found.get("line")) == ("profiles/sidestep.toml", "7")

    @pytest.mark.parametrize("status", ["listed", "", "of a later version"])
    def test_a_status_that_is_no_verdict_is_an_error(self, status: str) -> None:
        found = case(document(item("a.json", "b", status, "")), "b")
        assert found.find("error") is not None

    def test_what_a_prediction_cannot_tell_is_skipped(self) -> None:
        found = case(document(item("a.json", "b", "listed", ""), simulated=True), "b")
        assert [child.tag for child in found] == ["skipped"]

    @given(DOCUMENTS)
    def test_it_is_well_formed_whatever_it_holds(self, found: CheckDocument) -> None:
        root = xml(found)
        assert len(list(root.iter("testcase"))) == len(found.items)
        assert int(root.get("errors", "")) == sum(is_error(found, one) for one in found.items)
        assert int(root.get("failures", "")) == sum(one.status == "fail" for one in found.items)
        names = {suite.get("name") for suite in root}
        assert names == {one_line(one.profile) for one in found.items}


class TestSarif:
    def test_the_rule_is_the_family(self) -> None:
        found = run(EVERYTHING)
        ids = [rule["id"] for rule in found["tool"]["driver"]["rules"]]
        assert ids == [
            "create-directory", "workload/static-entry", "create-file", "send-signal",
            "open-socket", "waiver",
        ]  # fmt: skip
        assert all(ids[one["ruleIndex"]] == one["ruleId"] for one in found["results"])
        (rule,) = [
            one for one in found["tool"]["driver"]["rules"] if one["id"] == "create-directory"
        ]
        assert "external/mitre/T1074" in rule["properties"]["tags"]
        assert rule["help"]["text"]
        assert "helpUri" not in rule

    def test_the_location_is_what_lets_it_through(self) -> None:
        (location,) = run(EVERYTHING)["results"][0]["locations"]
        assert location["physicalLocation"] == {
            "artifactLocation": {"uri": "profiles/block-mkdir.json", "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": 2, "startColumn": 20},
        }
        assert location["logicalLocations"][0]["fullyQualifiedName"] == "defaultAction"

    def test_levels_and_suppressions(self) -> None:
        found = {one["ruleId"]: one for one in run(EVERYTHING)["results"]}
        assert found["create-directory"]["level"] == "error"
        assert "suppressions" not in found["create-directory"]
        assert found["open-socket"]["level"] == "warning"
        (suppression,) = found["create-file"]["suppressions"]
        assert (suppression["kind"], suppression["status"]) == ("external", "accepted")
        assert all(
            one in suppression["justification"]
            for one in (WAIVED.reason, WAIVED.owner, WAIVED.expires)
        )

    def test_a_failure_does_not_vanish_behind_what_is_accepted(self) -> None:
        accepted = msgspec.structs.replace(RING, waived=WAIVED)
        found = msgspec.structs.replace(LEAKY, says="undecided", ways=(accepted,))
        levels = [one["level"] for one in run(document(found))["results"]]
        assert levels == ["note", "error"]

    def test_a_fingerprint_is_of_profile_family_and_route_alone(self) -> None:
        def fingerprint(found: Item) -> str:
            (one,) = run(document(found))["results"]
            return one["partialFingerprints"]["sidestepRoute/v1"]

        replace = msgspec.structs.replace
        moved = replace(RING, place=Place("profiles/block-mkdir.json", 30, 1), call="other")
        first = fingerprint(LEAKY)
        assert fingerprint(replace(LEAKY, ways=(moved,), message="else")) == first
        assert fingerprint(replace(LEAKY, profile="other.json")) != first
        assert fingerprint(replace(LEAKY, subject="create-file")) != first
        assert fingerprint(replace(LEAKY, ways=(replace(RING, route="i386:mkdir"),))) != first

    def test_errors_of_the_harness_are_notifications(self) -> None:
        found = run(EVERYTHING)
        (invocation,) = found["invocations"]
        assert invocation["executionSuccessful"] is False
        assert invocation["exitCode"] == 1
        assert invocation["startTimeUtc"] == "2026-11-23T01:00:00Z"
        (told,) = invocation["toolExecutionNotifications"]
        assert "the judge died twice" in told["message"]["text"]
        assert "mount" not in {one["ruleId"] for one in found["results"]}

    def test_what_passes_is_left_out(self) -> None:
        assert run(document(item("a.json", "b", "pass", "held")))["results"] == []

    def test_a_file_elsewhere_is_absolute_and_names_are_encoded(self) -> None:
        found = document(
            item("a", "b", "fail", "open", place=Place("/else/a b%.json")),
            item("a", "c", "fail", "open", place=Place("dir/ä:b?#.json", 3)),
            item("a", "d", "fail", "open", place=Place("./bytes\udcff.json", 3)),
        )
        uris = [
            one["locations"][0]["physicalLocation"]["artifactLocation"]
            for one in run(found)["results"]
        ]
        assert uris == [
            {"uri": "file:///else/a%20b%25.json"},
            {"uri": "dir/%C3%A4%3Ab%3F%23.json", "uriBaseId": "%SRCROOT%"},
            {"uri": "bytes%FF.json", "uriBaseId": "%SRCROOT%"},
        ]

    def test_nothing_in_a_message_is_a_placeholder_or_a_link(self) -> None:
        found = document(
            item("a", "b", "fail", "open", message='{0} {"names": []} [text](http://x)')
        )
        (result,) = run(found)["results"]
        assert result["message"]["text"].startswith('b: {{0}} {"names": []} [text\\](http://x)')

    def test_a_prediction_says_so(self) -> None:
        (result,) = run(document(LEAKY, simulated=True))["results"]
        assert result["message"]["text"].startswith("Predicted, not run: ")


class TestMarkdown:
    def test_what_needs_attention_comes_first(self) -> None:
        text = markdown(EVERYTHING)
        assert text.startswith(
            "## sidestep: 9 expectations: 4 fail, 1 error, 1 warning, 1 accepted"
        )
        order = ["### error: `open.json` `mount`", "### fail: `block-mkdir.json`", "### warn: "]
        places = [text.index(one) for one in [*order, "### Accepted", "| profile |"]]
        assert places == sorted(places)
        assert f"fix: `{RING.fix}`" in text
        assert "`kernel`: `6.12.0` before, `6.18.0` now" in text

    def test_nothing_to_say_is_short(self) -> None:
        text = markdown(document(item("a.json", "b", "pass", "held")))
        assert "### " not in text
        assert "1 expectation: all hold" in text

    @given(DOCUMENTS)
    @settings(max_examples=150)
    def test_hostile_text_is_text(self, found: CheckDocument) -> None:
        """Nothing but the headings, lists, code and the one table of our own."""
        parser = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table")
        tokens = parser.parse(markdown(found))
        inline = [child for token in tokens if token.children for child in token.children]
        assert {child.type for child in inline} <= {"text", "code_inline", "softbreak"}
        assert not {"html_block", "fence", "code_block", "blockquote_open", "hr"} & {
            token.type for token in tokens
        }
        profiles = len({one.profile for one in found.items})
        assert sum(token.type == "tr_open" for token in tokens) == profiles + 1
        cells = [token for token in tokens if token.type in ("td_open", "th_open")]
        assert len(cells) == 7 * (profiles + 1)
        assert not HIDING.search(markdown(found))

    @pytest.mark.parametrize("text", HOSTILE)
    def test_a_code_span_shows_all_of_its_text(self, text: str) -> None:
        (token,) = MarkdownIt().parse(f"x {code_span(text)} y")[1:2]
        shown = "".join(one.content for one in token.children or [] if one.type == "code_inline")
        expected = one_line(text).replace("|", "\u2039U+007C\u203a")
        assert shown == (expected if expected.strip() else "")


class TestAnnotations:
    def test_they_name_file_line_and_column(self) -> None:
        (first,) = commands(document(LEAKY))
        assert first["kind"] == "error"
        assert (first["file"], first["line"], first["col"]) == (
            "profiles/block-mkdir.json",
            "2",
            "20",
        )
        assert first["title"] == "block-mkdir.json: create-directory leaky"
        for told in (LEAKY.message, RING.route, RING.call, RING.fix):
            assert told in first["is"]

    def test_the_worst_comes_first_and_what_is_accepted_not_at_all(self) -> None:
        found = commands(EVERYTHING)
        assert [one["title"].split(": ")[1].split(" ")[0] for one in found] == [
            "mount", "create-directory", "static-entry", "send-signal", "create-file",
            "open-socket",
        ]  # fmt: skip
        assert [one["kind"] for one in found] == [*["error"] * 5, "warning"]
        assert annotations(EVERYTHING).splitlines()[-1] == f"sidestep: {tally(EVERYTHING)}"

    @given(DOCUMENTS)
    def test_nobody_can_add_a_command(self, found: CheckDocument) -> None:
        text = annotations(found)
        quiet = {"pass", "waived", "listed"} if found.simulated else {"pass", "waived"}
        told = [one for one in found.items if one.status not in quiet]
        assert text.count("\n") == len(told) + 1
        assert "\r" not in text
        assert not HIDING.search(text)
        for one in commands(found):
            assert set(one) <= {"file", "line", "col", "title", "kind", "is"}
            assert one.get("line", "1").isdigit()


@given(DOCUMENTS)
@settings(max_examples=50)
def test_every_format_is_utf_8(found: CheckDocument) -> None:
    for form in (junit, sarif, markdown, annotations):
        text = form(found)
        text.encode()
        assert not HIDING.search(text)


def test_all_of_a_long_name_is_shown_or_its_two_ends() -> None:
    long = "a" * 5_000 + "-" + "z" * 5_000
    found = document(item("p.json", long, "fail", "open"))
    assert long in junit(found)
    assert long in sarif(found)
    assert "a" * 50 in markdown(found)
    assert "z" * 50 in annotations(found)


def test_hostile_text_is_shown_not_dropped() -> None:
    found = document(item("p.json", "x", "fail", "open", message=checks.MARKUP))
    failure = case(found, "x").find("failure")
    assert failure is not None
    assert failure.get("message") == f"x: {checks.MARKUP}"
    assert checks.MARKUP in run(found)["results"][0]["message"]["text"]
    assert checks.MARKUP in markdown(found)
    assert checks.MARKUP in commands(found)[0]["is"]
    assert visible("\x1b") == "\u241b"
