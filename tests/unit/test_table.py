"""What people see: 80 columns, the worst news first, nothing that a terminal obeys."""

import copy
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evaluator.records import Probe
from evaluator.table import show, show_probes
from evaluator.terminal import printable

SAMPLE = Path(__file__).parent.parent / "data/results/sample.json"


@pytest.fixture
def document() -> dict[str, Any]:
    return copy.deepcopy(json.loads(SAMPLE.read_text(encoding="utf-8")))


def render(document: dict[str, Any], *, encoding: str = "utf-8", colour: bool = False) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(
        file=stream, width=80, highlight=False, force_terminal=colour, no_color=not colour
    )
    show(console, document)
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def test_every_line_fits_80_columns(document: dict[str, Any]) -> None:
    document["candidates"][0]["source"] = "a/long/path/" * 12
    document["candidates"][0]["name"] = "n" * 120
    document["candidates"][0]["families"][0]["family"] = "change-mode[bits=04000]@/var/lib/very/far"
    assert max(len(line) for line in render(document).splitlines()) <= 80


def test_the_answer_is_the_first_line_of_each_candidate(document: dict[str, Any]) -> None:
    text = render(document)
    assert "block-mkdir: leaks in 1 of 1 targeted family\n" in text
    assert "no-new-directories: holds 1 of 1 targeted family\n" in text
    assert "unconfined: stops nothing that was tried\n" in text


def test_targeted_families_come_first_with_the_shortest_way_through(
    document: dict[str, Any],
) -> None:
    document["candidates"][0]["families"].reverse()
    rows = [line for line in render(document).splitlines() if re.search(" (leaky|open) ", line)]
    assert re.match(r" create-directory +✗ leaky +5 of 7 +io-uring-mkdirat", rows[0])
    assert all("not targeted" in row for row in rows[1:4])


CAUSE = {
    "variants": ["create-directory/io-uring-mkdirat"],
    "kind": "no-call",
    "call": "x86_64:io_uring_setup",
    "where": "syscalls[0].names",
    "said": "an io_uring does it, where no filter looks; io_uring_setup comes before it",
    "fix": 'add "io_uring_setup" to syscalls[0].names',
    "breaks": "",
}


def test_a_leak_is_followed_by_the_line_that_closes_it(document: dict[str, Any]) -> None:
    families = document["candidates"][0]["families"]
    for family in families:
        family["causes"] = [CAUSE, {**CAUSE, "fix": ""}]
    lines = render(document).splitlines()
    assert [line for line in lines if "io_uring_setup" in line] == [
        '  create-directory: add "io_uring_setup" to syscalls[0].names (and 1 more)'
    ]
    families[0]["causes"] = [{**CAUSE, "fix": ""}]
    assert "create-directory: an io_uring does it, where" in render(document)
    families[0] |= {"verdict": "open", "targeted": True}
    assert "create-directory: an io_uring does it, where" in render(document)
    families[0]["causes"] = [{**CAUSE, "fix": "add " + "x" * 300}]
    assert max(len(line) for line in render(document).splitlines()) <= 80


def test_scores_come_with_their_counts_and_the_threat_model(document: dict[str, Any]) -> None:
    text = render(document)
    assert "robustness 0.00 (0 of 1), utility 0.50 (1 of 2), routes 0.67 (5 of 7)" in text
    assert "robustness - (nothing targeted), utility 1.00 (2 of 2)" in text
    assert text.startswith("suite 2026.11, no objective, assuming nothing, Linux 6.12.0")


def test_candidates_are_compared_on_both_axes_with_counts_or_a_reason(
    document: dict[str, Any],
) -> None:
    document["candidates"][2] |= {"valid": False, "errors": [{"message": "x", "where": ""}]}
    document["candidates"][1] |= {
        "robustness": None,
        "utility": None,
        "counted": dict.fromkeys(("robustness", "routes", "utility"), "does not start"),
    }
    lines = [" ".join(line.split()) for line in render(document).splitlines()]
    assert "candidate robustness utility starts" in lines
    assert "block-mkdir 0.00 (0 of 1) 0.50 (1 of 2) yes" in lines
    assert "unconfined - - invalid" in lines
    assert "no-new-directories - (does not start) - (does not start) yes" in lines


def test_what_targeted_families_leave_behind_is_summed(document: dict[str, Any]) -> None:
    families = document["candidates"][0]["families"]
    said = "blocked silently; the process lives on"
    for family in families:
        family["aftermaths"] = [{"outcome": "BLOCKED", "trials": 3, "said": said}]
    assert f"  {said}: create-directory (3)\n" in render(document)
    for family in families:
        family["targeted"] = True
    families.append({**families[0], "family": "another"})
    text = " ".join(render(document).split())
    assert f"{said}: another (3), create-directory (3)," in text
    assert "create-file (3) and 1 more" in text


def test_records_that_this_machine_does_not_write_are_said(document: dict[str, Any]) -> None:
    assert "logs no errno" not in render(document)
    document["environment"]["audit_log"]["said"] = "this machine logs no errno"
    assert "this machine logs no errno\n" in render(document)


def test_what_does_not_start_is_no_champion(document: dict[str, Any]) -> None:
    document["candidates"][1]["starts"] = {
        "loads": True, "runtime": False, "static": False, "dynamic": False,
        "reason": "openat EPERM",
    }  # fmt: skip
    text = render(document)
    assert "no-new-directories: does not start\n" in text
    assert "runtime no" in text
    assert "openat EPERM" in text


def test_an_invalid_candidate_and_a_failed_gate_are_one_line_each(document: dict[str, Any]) -> None:
    bad = document["candidates"][2]
    bad |= {"valid": False, "errors": [{"message": "not JSON", "where": "line 3"}], "families": []}
    document["gates"] = [
        {"candidate": "block-mkdir", "gate": "leaky", "ok": False, "message": "leaky: x"},
        {"candidate": "block-mkdir", "gate": "undecided", "ok": True, "message": ""},
    ]
    lines = render(document).splitlines()
    assert "unconfined: invalid: line 3: not JSON" in lines
    assert [line for line in lines if "gate" in line] == ["gate failed: block-mkdir: leaky: x"]


def test_without_colour_or_unicode_the_same_is_said(document: dict[str, Any]) -> None:
    plain = render(document, encoding="ascii")
    assert "\x1b" not in plain
    assert "x leaky" in plain
    assert plain.isascii()
    assert "\x1b[" in render(document, colour=True)


def test_hostile_text_is_shown_and_not_obeyed(document: dict[str, Any]) -> None:
    candidate = document["candidates"][0]
    candidate["name"] = "[bold]x[/bold]\x1b[31m\u202egnp.exe\n"
    candidate["warnings"] = [{"code": "c", "message": "m\r" + "w" * 10_000, "where": ""}]
    text = render(document)
    assert r"[bold]x[/bold]\u{1b}[31m\u{202e}gnp.exe\u{a}" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
    assert text.count("w") < 2_000


def test_printable_leaves_ordinary_text_alone() -> None:
    assert printable("Größe 12 µs, 日本") == "Größe 12 µs, 日本"
    assert printable("\udcff") == r"\u{dcff}"


def test_probes_say_what_they_mean() -> None:
    stream = io.StringIO()
    probes = [Probe("x32", "no", "x32 variants are UNSUPPORTED here", ok=False)]
    show_probes(Console(file=stream, width=80), probes)
    assert "x32 variants are UNSUPPORTED here" in stream.getvalue()
    assert "✗ x32" in stream.getvalue()
