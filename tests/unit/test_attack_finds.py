"""What becomes of a program that got through, without a kernel: shortened, marked, in scope."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from model_scripts import MKDIR, PATH, call, program

from attacks import library
from attacks.program import Program, Syscall, is_decisive
from evaluator import foreign
from evaluator.attack_finds import (
    Works,
    calls_of,
    library_calls,
    out_of_scope,
    settled,
    unlabelled,
)
from evaluator.attack_records import CENSORED, Attacked, AttackVerdict, Attempt
from evaluator.attack_run import check_family
from evaluator.errors import InputError
from evaluator.outcome import Terms
from evaluator.request import candidate_of
from mitigations.bpf import Filter
from mitigations.generate.reply import Status, Usage

from synthetic import denies, lets_pass_with_mark

MKDIR_FAMILY = library.parse_reference("create-directory")


def names(one: Program) -> list[str]:
    """The calls, the decisive one with a star."""
    return [
        f"{op.name}{'*' * is_decisive(op)}" for _, op in one.flatten() if isinstance(op, Syscall)
    ]


def needs(*wanted: str) -> Works:
    """Runs on paper: a program works if it makes these calls in this order."""

    def works(programs: Sequence[Program]) -> list[bool]:
        return [_in_order(wanted, [name.rstrip("*") for name in names(one)]) for one in programs]

    return works


def _in_order(wanted: Sequence[str], made: Sequence[str]) -> bool:
    left = iter(made)
    return all(name in left for name in wanted)


@pytest.mark.parametrize(
    ("marked", "needed", "left"),
    [
        # What is marked is needless, and the last call that is needed does it.
        (["getpid*", "open", "mkdirat"], ["open", "mkdirat"], ["open", "mkdirat*"]),
        # What is marked is needed, and does not complete it.
        (["open*", "mkdirat"], ["open", "mkdirat"], ["open", "mkdirat*"]),
        # It is marked as it should be; what comes before and after is needless.
        (["getpid", "mkdir*", "getuid"], ["mkdir"], ["mkdir*"]),
        (["mkdir*"], ["mkdir"], ["mkdir*"]),
        # What is marked comes last and is needless.
        (["mkdir", "pause*"], ["mkdir"], ["mkdir*"]),
        (
            ["getuid", "open", "mkdirat", "getpid*", "pause"],
            ["open", "mkdirat"],
            ["open", "mkdirat*"],
        ),
    ],
)
def test_the_mark_goes_where_the_effect_comes_from(
    marked: list[str], needed: list[str], left: list[str]
) -> None:
    calls = [call(one.rstrip("*"), decisive=one.endswith("*")) for one in marked]
    works = needs(*needed)
    assert names(settled(foreign.read(program(*calls)), works)) == left


@pytest.mark.parametrize(
    ("marks", "left"),
    [
        ({"mkdir"}, ["fork", "mkdir*", "wait4"]),
        ({"getpid"}, ["fork", "mkdir*", "wait4"]),
        ({"wait4"}, ["fork", "mkdir", "wait4*"]),  # it completes the effect, for all that is known
        ({"getuid"}, ["fork", "mkdir*", "wait4"]),
    ],
)
def test_what_is_done_in_a_child_is_marked_there(marks: set[str], left: list[str]) -> None:
    def one(name: str, *arguments: int, **more: object) -> dict[str, object]:
        return call(name, *arguments, decisive=name in marks, **more)

    child = one("fork", body=[one("mkdir"), one("getpid")])
    made = foreign.read(program(child, one("wait4", -1, 0, 0, 0), one("getuid")))
    assert names(settled(made, needs("fork", "mkdir", "wait4"))) == left


def test_a_mark_in_a_needless_child_leaves_with_it() -> None:
    child = call("fork", body=[call("getpid", decisive=True)])
    made = foreign.read(program(child, call("mkdir"), call("wait4", -1, 0, 0, 0)))
    assert names(settled(made, needs("mkdir"))) == ["mkdir*"]


def test_a_store_behind_the_call_that_matters_keeps_its_mark() -> None:
    store = {"op": "store", "address": {"blob": 0}, "value": {"slot": 1}, "decisive": True}
    made = foreign.read(program(call("open"), call("mmap", {"slot": 0}), store, blobs=[PATH]))

    def works(programs: Sequence[Program]) -> list[bool]:
        return [one == made for one in programs]

    assert settled(made, works) == made


def test_calls_are_told_apart_by_what_the_filter_tests(tmp_path: Path) -> None:
    marked = filters(lets_pass_with_mark(tmp_path / "p.bpf", 0x1234))

    def of(number: int, *before: str) -> frozenset[str]:
        calls = [*map(call, before), call("chmod", 0, number, decisive=True)]
        return calls_of(foreign.read(program(*calls)), marked)

    assert of(0o644) == of(0o755) == of(0x5678 << 32)
    assert of(0o644) != of(0x1234 << 32 | 0o644)
    assert of(0o644) < of(0o644, "getpid")


def test_the_library_has_what_needs_no_other_call(tmp_path: Path) -> None:
    open_ = filters(denies(tmp_path / "p.json", "rmdir"))
    known = library_calls(MKDIR_FAMILY, open_)
    assert known[0] == ("create-directory/mkdir", frozenset({"x86_64:mkdir"}))
    assert all(calls for _, calls in known)
    assert [name for name, calls in known if calls <= {"x86_64:getpid", "i386:mkdirat"}]
    assert not [name for name, calls in known if calls <= {"x86_64:getpid"}]


def filters(profile: Path) -> Terms:
    decoded = tuple(Filter.decode(one.program) for one in candidate_of(str(profile)).seccomp)
    return Terms(decoded, "", no_new_privs=False, syscall_insn=0)


def test_labels_are_dropped_and_nothing_else() -> None:
    text = program(
        call("mkdirat", {"const": 5, "text": "AT_FDCWD"}, {"blob": "text"}, decisive=True),
        call("io_uring_enter", opcode="MKDIRAT"),
        blobs=[{"name": "text", "text": "d/t"}],
    )
    bare = json.dumps({**json.loads(text)})
    one = unlabelled(foreign.read(bare))
    assert one.digest() == foreign.read(text).digest()
    calls = [op for _, op in one.flatten() if isinstance(op, Syscall)]
    assert [op.opcode for op in calls] == ["", ""]
    assert getattr(calls[0].args[0], "text", None) == ""
    assert one.blobs[0].data == b"d/t"


def test_every_recorded_program_stays_the_same_without_labels() -> None:
    for variant in MKDIR_FAMILY.variants:
        assert unlabelled(variant.program).digest() == variant.program.digest()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"setup": [call("getpid")]}, "setup"),
        ({"victim": [call("getpid")]}, "victim"),
        ({}, ""),
    ],
)
def test_what_runs_without_the_filter_is_out_of_scope(more: dict[str, object], said: str) -> None:
    one = foreign.read(json.dumps({**json.loads(MKDIR), **more}))
    found = out_of_scope(one, MKDIR_FAMILY)
    assert said in found
    assert bool(found) is bool(said)


def test_what_makes_no_call_is_out_of_scope() -> None:
    store = {"op": "store", "address": {"blob": 0}, "value": 1, "decisive": True}
    assert "no system call" in out_of_scope(
        foreign.read(program(store, blobs=[PATH])), MKDIR_FAMILY
    )


@pytest.mark.parametrize("name", library.load_families())
def test_the_baseline_of_each_family_is_in_scope(name: str) -> None:
    family = library.parse_reference(name)
    assert not out_of_scope(family.baseline.program, family)


def test_what_nobody_could_see_is_refused() -> None:
    with pytest.raises(InputError, match="kexec: its call is never run"):
        check_family(library.parse_reference("kexec"))
    check_family(MKDIR_FAMILY)


# ------------------------------------------------------------------------------------ records


def attacked(*statuses: Status) -> Attacked:
    return Attacked(
        family="create-directory",
        title="",
        baseline="BLOCKED",
        verdict=AttackVerdict.HELD,
        finds=(),
        attempts=tuple(map(Attempt, statuses)),
        proposals=(),
        routes=0,
        unsettled=(),
        disagreements=0,
        usage=Usage(),
        answered_by="",
        ended="",
        seconds=0,
    )


def test_what_was_not_answered_is_counted_by_its_kind() -> None:
    found = attacked(Status.REFUSED, Status.OK, Status.REFUSED, Status.API_ERROR, Status.INVALID)
    said = "1 api_error, 2 refused of 5 requests: nobody knows what the model would have found"
    assert found.censored == said
    assert attacked(Status.OK, Status.INVALID).censored == ""
    assert Status.OK not in CENSORED
    assert "5 requests, 1 of them answered with no program, 0 programs proposed" in found.evidence
