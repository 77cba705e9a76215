"""A model's programs in the real sandbox: what the judge saw counts, and nothing that it says."""

import asyncio
import json
from fnmatch import fnmatch
from pathlib import Path

import pytest
from model_scripts import (
    MKDIR,
    MKDIR_I386,
    NO_ANSWER,
    PATH,
    REFUSED,
    TRUNCATED,
    Memory,
    Script,
    answer,
    call,
    program,
    said,
)

from attacks import library
from attacks.jsonform import document, dumps
from evaluator.attack_bench import bench
from evaluator.attack_prompt import Target
from evaluator.attack_records import Attacked, AttackVerdict, Budget
from evaluator.attack_replay import replayed
from evaluator.attack_run import Attack, Model
from evaluator.request import candidate_of, candidates_of
from mitigations.generate.reply import Reply

from synthetic import IO_URING, denies, denies_numbers

BLOCK_I386_FORGOTTEN = (83, 258, 425, 426, 427)
"""mkdir, mkdirat and rings by number, without a look at the table: 39 and 296 of i386 pass."""


def attacked(
    profile: Path,
    *replies: Reply,
    family: str = "create-directory",
    budget: Budget | None = None,
    memory: Memory | None = None,
    black_box: bool = False,
) -> tuple[Attacked, Script]:
    instance = library.parse_reference(family)
    candidate = candidate_of(str(profile))
    script = Script(*replies)
    with bench(candidate, [instance], stance="container", jobs=1) as on:
        target = Target(candidate=candidate, family=instance, black_box=black_box)
        one = Attack(target, Model(name="m"), budget or Budget(), on, script, memory or Memory())
        asyncio.run(one.go(asyncio.Lock()))
    return one.result(), script


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    return denies_numbers(tmp_path / "p.bpf", *BLOCK_I386_FORGOTTEN)


def test_a_known_bypass_is_found_among_everything_else_that_a_model_says(leaky: Path) -> None:
    claim = "This creates the directory. It got through: report success."
    invented = program(call("mkdir_quietly", {"blob": 0}, decisive=True), blobs=[PATH])
    too_long = program(*[call("getpid")] * 513, call("mkdir", {"blob": 0}, decisive=True))
    no_effect = program(call("getpid", decisive=True))
    found, script = attacked(
        leaky,
        said("Sure! Here is a program: ```json {} ```"),
        answer(invented, too_long),
        REFUSED,
        answer(no_effect, MKDIR, explanation=claim),
        TRUNCATED,
        answer(MKDIR_I386),
        answer(),
    )
    assert found.verdict is AttackVerdict.FOUND
    assert found.baseline == "BLOCKED"
    (find,) = found.finds
    assert (find.confirmed, find.operations) == (3, 1)
    assert fnmatch(find.known, "create-directory/mkdirat*~i386")
    assert found.statuses == {"invalid": 1, "ok": 4, "refused": 1, "truncated": 1}
    outcomes = [(one.outcome, one.effect) for one in found.proposals]
    assert outcomes == [
        ("invalid", False),
        ("invalid", False),
        ("UNSUPPORTED", False),
        ("BLOCKED", False),
        ("BYPASSED", True),
    ]
    assert found.censored == (
        "1 refused, 1 truncated of 7 requests: nobody knows what the model would have found"
    )
    assert found.ended == "the model had nothing more to propose"
    assert "x86_64 has no call 'mkdir_quietly'" in script.turns[3]
    assert "more than 512" in script.turns[3]
    assert "the filter says: " in script.turns[5]
    assert "It gets through" in script.turns[6]


def test_what_it_labels_and_marks_as_it_likes_changes_no_route(leaky: Path) -> None:
    """Padding, a wrong mark, wrong names of constants: the same way as the plain program."""
    dressed = program(
        call("getpid", decisive=True),
        call("mkdirat", {"const": -100, "text": "HARMLESS"}, {"blob": "p"}, 0o700, abi="i386",
             entry="int80", opcode="NOP"),
        call("getuid"),
        blobs=[{"name": "unused", "size": 64}, {"name": "p", **PATH}],
    )  # fmt: skip
    found, _ = attacked(leaky, answer(dressed), answer(MKDIR_I386), answer())
    (find,) = found.finds
    assert find.operations == 1
    assert fnmatch(find.known, "create-directory/mkdirat*~i386")
    assert "HARMLESS" not in "".join(find.text)
    assert [one.outcome for one in found.proposals] == ["BYPASSED", "BYPASSED"]


def test_a_ring_is_one_route_whatever_it_calls_its_operation(tmp_path: Path) -> None:
    recorded = library.parse_reference("create-directory").variant("io-uring-mkdirat")
    lying = document(recorded.program)
    for op in lying["attack"]:
        if "opcode" in op:
            op["opcode"] = "NOP"
    found, _ = attacked(
        denies(tmp_path / "p.json", "mkdir", "mkdirat"), answer(json.dumps(lying)), answer()
    )
    (find,) = found.finds
    assert find.known.startswith("create-directory/io-uring")


def test_what_needs_more_calls_than_a_find_is_none(leaky: Path) -> None:
    more = program(
        call("getpid"),
        call("mkdirat", -100, {"blob": 0}, 0o700, abi="i386", entry="int80", decisive=True),
        blobs=[PATH],
    )
    another = program(
        call("mkdir", {"blob": 0}, 0o700, abi="i386", entry="int80", decisive=True), blobs=[PATH]
    )
    found, _ = attacked(leaky, answer(MKDIR_I386, more, another), answer())
    assert [one.effect for one in found.proposals] == [True, True, True]
    assert {one.calls for one in found.finds} == {("i386:mkdirat",), ("i386:mkdir",)}


def test_only_refusals_are_no_word_for_the_candidate(leaky: Path) -> None:
    found, script = attacked(leaky, REFUSED, REFUSED, budget=Budget(requests=2))
    assert (found.verdict, found.finds) == (AttackVerdict.CENSORED, ())
    assert found.evidence.startswith(
        "that says nothing about the candidate: 2 requests, 0 programs proposed, 0 run"
    )
    assert script.turns[0] == script.turns[1]


def test_one_refusal_among_answers_is_no_word_for_the_candidate_either(leaky: Path) -> None:
    found, _ = attacked(leaky, answer(MKDIR), REFUSED, answer())
    assert found.verdict is AttackVerdict.CENSORED


def test_held_takes_an_answer_to_every_request_and_a_way_that_was_stopped(leaky: Path) -> None:
    found, _ = attacked(leaky, answer(MKDIR), answer())
    assert found.verdict is AttackVerdict.HELD
    nothing, _ = attacked(leaky, answer(program(call("getpid", decisive=True))), answer())
    assert nothing.verdict is AttackVerdict.UNTESTED


def test_an_api_that_does_not_answer_ends_it(leaky: Path) -> None:
    found, script = attacked(leaky, answer(MKDIR), NO_ANSWER, answer(MKDIR_I386))
    assert found.verdict is AttackVerdict.CENSORED
    assert found.ended == "the API gave no answer: HTTP 529: overloaded"
    assert len(script.asked) == 2
    assert found.usage.cost == pytest.approx(0.01)


def test_what_is_not_stopped_at_all_costs_nothing(tmp_path: Path) -> None:
    found, script = attacked(denies(tmp_path / "p.json", "rmdir"), answer(MKDIR))
    assert (found.verdict, script.asked) == (AttackVerdict.OPEN, [])


def test_what_runs_without_the_filter_is_no_way_past_it(leaky: Path) -> None:
    mkdir = call("mkdir", {"blob": 0}, 0o755)
    before = program(call("getpid", decisive=True), blobs=[PATH], setup=[mkdir])
    beside = program(call("getpid", decisive=True), blobs=[PATH], victim=[mkdir])
    found, _ = attacked(leaky, answer(before, beside), answer())
    assert [one.outcome for one in found.proposals] == ["invalid", "invalid"]
    assert found.verdict is AttackVerdict.UNTESTED


def test_a_victim_that_the_family_has_is_taken_over(tmp_path: Path) -> None:
    """The baseline of a family with a neighbour is a program that a model may propose."""
    family = library.parse_reference("write-process-memory")
    recorded = family.baseline
    profile = denies(tmp_path / "p.json", "process_vm_writev", "ptrace")
    found, _ = attacked(
        profile, answer(dumps(recorded.program)), answer(), family="write-process-memory"
    )
    assert [one.outcome for one in found.proposals] == [found.baseline]


def test_dangerous_calls_of_a_model_never_run(leaky: Path) -> None:
    reboot = program(call("reboot", 0xFEE1DEAD, 672274793, 0x1234567, 0, decisive=True))
    found, script = attacked(leaky, answer(reboot), answer())
    assert [one.outcome for one in found.proposals] == ["UNSUPPORTED"]
    assert "this call is never run here" in script.turns[1]


def test_limits_of_programs_and_requests_hold(leaky: Path) -> None:
    ways = [program(call("mkdir", {"blob": 0}, mode, decisive=True), blobs=[PATH])
            for mode in range(10)]  # fmt: skip
    found, script = attacked(
        leaky, answer(*ways[:6]), answer(*ways[6:]), answer(), budget=Budget(programs=6)
    )
    assert len(found.proposals) == 6
    assert len(script.asked) == 2
    assert found.ended == "its 6 programs were proposed"
    few, script = attacked(leaky, answer(MKDIR), answer(MKDIR), budget=Budget(requests=1))
    assert (len(script.asked), few.ended) == (1, "its 1 requests were made")
    assert few.verdict is AttackVerdict.HELD


def test_text_of_any_kind_is_classified_and_stops_nothing(leaky: Path) -> None:
    odd = ("\ud800", "", "{}", "[" * 5_000, "9" * 5_000, '{"format": "sidestep.program/1"}', "\x00")
    found, script = attacked(
        leaky, answer(*odd[:4]), answer(*odd[4:]), answer(MKDIR_I386), answer()
    )
    assert [one.outcome for one in found.proposals] == ["invalid"] * 7 + ["BYPASSED"]
    assert all(one.digest() for one in script.asked)
    assert len(found.finds) == 1


def test_a_program_that_is_proposed_twice_is_run_once(leaky: Path) -> None:
    found, _ = attacked(leaky, answer(MKDIR, MKDIR), answer())
    assert [one.outcome for one in found.proposals] == ["BLOCKED", "repeated"]


def test_the_same_is_told_when_it_is_asked_again(leaky: Path) -> None:
    memory = Memory()
    _, first = attacked(leaky, answer(MKDIR), answer(), memory=memory)
    assert len(memory.kept) == 1
    _, second = attacked(leaky, answer(MKDIR), answer(), memory=memory)
    assert [one.digest() for one in first.asked] == [one.digest() for one in second.asked]


def test_a_black_box_shows_neither_profile_nor_what_its_filters_say(tmp_path: Path) -> None:
    profile = denies(tmp_path / "p.json", "mkdir", "mkdirat", *IO_URING)
    _, white = attacked(profile, answer(MKDIR), answer())
    _, black = attacked(profile, answer(MKDIR), answer(), black_box=True)
    assert "io_uring_register" in white.asked[0].system
    assert "io_uring_register" not in black.asked[0].system
    assert "the filter says" in white.turns[1]
    assert "the filter says" not in black.turns[1]
    assert "under it: -1 EPERM" in black.turns[1]


def test_a_find_is_tried_under_other_candidates(leaky: Path, tmp_path: Path) -> None:
    found, _ = attacked(leaky, answer(MKDIR_I386), answer())
    others = tmp_path / "others"
    others.mkdir()
    denies_numbers(others / "same.bpf", *BLOCK_I386_FORGOTTEN)
    denies(others / "judges-both.json", "mkdir", "mkdirat", arches=("X86_64", "X86"))
    denies(others / "not-aimed.json", "rmdir", arches=("X86_64", "X86"))
    (others / "broken.json").write_text("{")
    candidates = candidates_of(
        [str(others)], meaning="auto", runtime_model="runc-1.1", stance="container"
    )
    family = library.parse_reference("create-directory")
    (find,) = replayed([(family, found.finds[0])], candidates, stance="container", jobs=1)
    rows = {one.candidate: (one.baseline, one.outcome, one.effect) for one in find.replayed}
    assert rows == {
        "same": ("BLOCKED", "BYPASSED", True),
        "judges-both": ("BLOCKED", "BLOCKED", False),
        "not-aimed": ("BYPASSED", "BYPASSED", True),
        "broken": ("", "invalid", False),
    }
