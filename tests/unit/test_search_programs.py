"""A search without a kernel: what it builds, in which order, and what it leaves in a directory."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from attacks import library
from attacks.family import FamilyInstance, Variant
from attacks.moves import MOVES, supervised
from attacks.program import (
    Addr,
    Blob,
    Const,
    Load,
    Program,
    Slot,
    Syscall,
    Value,
    Wait,
    is_decisive,
)
from attacks.replay import replay
from attacks.rewrites import derive
from attacks.shorter import droppable, without, without_unused_memory
from evaluator.errors import InputError
from evaluator.fitting import fits, fitted, in_words
from evaluator.outcome import Terms
from evaluator.predict import is_known, predicted
from evaluator.records import plain
from evaluator.request import candidate_of
from evaluator.search import Search
from evaluator.search_moves import denied, moves
from evaluator.search_records import Ended, Limits, Searched, SearchVerdict, Tried
from evaluator.search_run import targeted
from evaluator.search_shorten import shortened
from evaluator.search_store import Store, basis, replay_command
from evaluator.table_search import show_search
from evaluator.wire import ProgramSpec, encode_program
from mitigations import x86_64
from mitigations.bpf import Filter

from synthetic import IO_URING, denies, denies_numbers, lets_pass_with_mark

RECORDED = [
    variant for family in library.load_families().values() for variant in family.default.variants
]
MKDIR = library.parse_reference("create-directory")
CHMOD = library.parse_reference("change-mode")
READ = library.parse_reference("read-file")
BLOCKED = Tried("BLOCKED", exact=False)


def filters_of(profile: Path) -> tuple[Filter, ...]:
    return tuple(Filter.decode(one.program) for one in candidate_of(str(profile)).seccomp)


class Simulated:
    """Says that what the filters let through works, and keeps the order."""

    def __init__(self, filters: Sequence[Filter]) -> None:
        self.filters = filters
        self.order: list[str] = []

    def __call__(self, variants: Sequence[Variant]) -> list[Tried]:
        self.order += [one.program.digest() for one in variants]
        return [self.tried(one) for one in variants]

    def tried(self, variant: Variant) -> Tried:
        if predicted(variant.program, self.filters, None, 0) == "BYPASSED":
            return Tried("BYPASSED", exact=True)
        return BLOCKED


def searched(instance: FamilyInstance, profile: Path, limits: Limits) -> tuple[Searched, list[str]]:
    filters = filters_of(profile)
    run = Simulated(filters)
    terms = Terms(filters, "", no_new_privs=False, syscall_insn=0, with_steps=False)
    search = Search(instance, terms, limits, run, lambda some: [BLOCKED] * len(some))
    search.go()
    return search.result(), run.order


# The rules that only a search applies


@pytest.mark.parametrize("name", MOVES)
def test_a_move_has_a_reason_and_finds_something_to_do(name: str) -> None:
    rule = MOVES[name]
    assert rule.why.endswith((".", ")."))
    found = [other for variant in RECORDED if (other := derive(variant, rule))]
    assert found
    for other in found:
        assert [s for s, op in other.program.flatten() if is_decisive(op)] == ["attack"]
        if is_known(other.program):
            encode_program(0, ProgramSpec(other.program), x86_64.number)


@pytest.mark.parametrize("name", supervised(83, 2))
def test_what_is_put_around_a_program_makes_no_process_where_that_is_the_effect(name: str) -> None:
    rule = supervised(83, 2)[name]
    assert derive(MKDIR.baseline, rule) is not None
    assert derive(library.parse_reference("create-process").baseline, rule) is None


# What is done to a program that is stopped


def test_only_calls_that_are_denied_are_touched(tmp_path: Path) -> None:
    filters = filters_of(denies(tmp_path / "p.json", "open", "openat"))
    stopped = denied(READ.baseline.program, filters, 0)
    assert [one.op.name for one in stopped] == ["open"]
    after = {
        op.name
        for move in moves(READ.baseline, stopped, filters)
        if move.name.endswith(":open") and (program := move.apply(READ.baseline))
        for _, op in program.flatten()
        if isinstance(op, Syscall) and op.decisive
    }
    assert after == {"read"}


def test_supervisors_are_tried_only_where_somebody_is_asked(tmp_path: Path) -> None:
    def names(action: str) -> set[str]:
        filters = filters_of(denies(tmp_path / "p.json", "mkdir", action=action))
        stopped = denied(MKDIR.baseline.program, filters, 0)
        return {one.name for one in moves(MKDIR.baseline, stopped, filters)}

    assert names("SCMP_ACT_TRACE") - names("SCMP_ACT_ERRNO") == set(supervised(83, 1))


def test_arguments_take_the_bits_that_are_let_through_and_no_others(tmp_path: Path) -> None:
    filters = filters_of(lets_pass_with_mark(tmp_path / "p.bpf", 0x1234))
    op = Syscall("chmod", (Addr(0), Const(0o644, "0644")), decisive=True)
    program = Program(blobs=(Blob(b"d/t\0", 4),), attack=(op,))
    (changes,) = fits(op, program.layout(), filters)
    assert in_words(changes) == "argument 2 with 0x123400000000"
    changed = replay(program, CHMOD.effect, fitted(0, changes), native=False)
    assert changed is not None
    (after,) = changed.attack
    assert isinstance(after, Syscall)
    assert after.args == (Addr(0), Const(0x1234 << 32 | 0o644))
    assert predicted(changed, filters, None, 0) == "BYPASSED"


def test_nothing_fits_where_only_bits_that_the_kernel_reads_would_help(tmp_path: Path) -> None:
    filters = filters_of(denies(tmp_path / "p.json", "chmod"))
    op = Syscall("chmod", (Const(0), Const(0o644)), decisive=True)
    assert fits(op, [], filters) == []


# The search


def test_the_same_seed_tries_the_same_programs_in_the_same_order(tmp_path: Path) -> None:
    profile = denies(tmp_path / "p.json", "open", "openat", *IO_URING)
    limits = Limits(seconds=None, programs=300, seed=1)
    first, second = (searched(READ, profile, limits) for _ in range(2))
    assert first[1] == second[1]
    assert replace(first[0], seconds=0) == replace(second[0], seconds=0)
    assert searched(READ, profile, replace(limits, seed=2))[1] != first[1]


def test_no_program_is_run_twice_and_one_of_a_route_is_enough(tmp_path: Path) -> None:
    found, order = searched(
        MKDIR, denies_numbers(tmp_path / "p.bpf", 83), Limits(seconds=None, programs=200)
    )
    assert len(order) == len(set(order))
    routes = [one.route for one in found.finds]
    assert len(routes) == len(set(routes))


def test_a_limit_of_programs_is_kept(tmp_path: Path) -> None:
    found, _ = searched(
        MKDIR,
        denies(tmp_path / "p.json", "mkdir", "mkdirat", *IO_URING),
        Limits(seconds=None, programs=10, baseline_only=True),
    )
    assert (found.built, found.ended) == (10, Ended.PROGRAMS)
    assert found.verdict is SearchVerdict.HELD
    assert found.evidence.startswith("nothing found: 10 programs built, 1 run, ")


def test_time_that_is_up_ends_it(tmp_path: Path) -> None:
    found, _ = searched(MKDIR, denies(tmp_path / "p.json", "mkdir"), Limits(seconds=0))
    assert found.ended is Ended.SECONDS


def test_a_find_names_its_moves_and_what_the_library_has_of_it(tmp_path: Path) -> None:
    profile = denies(tmp_path / "p.json", "chmod", "fchmod", "fchmodat", *IO_URING)
    found, _ = searched(CHMOD, profile, Limits(seconds=None, baseline_only=True))
    best = found.finds[0]
    assert best.id == "change-mode/chmod~newest"
    assert [one.move for one in best.steps] == ["newest"]
    assert best.known.startswith("change-mode/")
    assert best.digest == best.program.digest()


def test_a_way_that_no_variant_has_is_said_to_be_new(tmp_path: Path) -> None:
    others = (15, 91, 94, 268, 306, 425, 426, 427, 452)
    profile = lets_pass_with_mark(tmp_path / "p.bpf", 0x1234, *others)
    found, _ = searched(CHMOD, profile, Limits(seconds=None, baseline_only=True))
    assert {one.id: one.known for one in found.finds}["change-mode/chmod~fit"] == ""


def test_a_terminal_of_eighty_columns_is_wide_enough(tmp_path: Path) -> None:
    profile = denies(tmp_path / "p.json", "mkdir", "mkdirat", "mmap")
    found, _ = searched(MKDIR, profile, Limits(seconds=None, baseline_only=True))
    finds = [{**plain(one), "file": None, "replay": None} for one in found.finds]
    document = {
        "candidate": {"name": "p"},
        "basis": basis(candidate_of(str(profile)), "container", Limits()),
        "families": [{**plain(found), "evidence": found.evidence, "finds": finds}],
        "not_begun": ["create-file"],
    }
    console = Console(width=80, file=io.StringIO())
    show_search(console, document)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    for word in ("create-directory: found", found.evidence, "mkdir~ring-unmapped", "not begun"):
        assert word in shown


def test_what_proves_nothing_leaves_it_undecided(tmp_path: Path) -> None:
    filters = filters_of(denies(tmp_path / "p.json", "mkdir"))
    terms = Terms(filters, "", no_new_privs=False, syscall_insn=0, with_steps=False)
    late = Tried("INEFFECTIVE", exact=False, reason="it never came")

    def run(variants: Sequence[Variant]) -> list[Tried]:
        return [BLOCKED if one.name == "mkdir" else late for one in variants]

    search = Search(MKDIR, terms, Limits(programs=30, baseline_only=True), run, run)
    search.go()
    found = search.result()
    assert found.verdict is SearchVerdict.UNDECIDED
    assert found.unsettled[0].endswith("INEFFECTIVE (it never came)")


def test_a_family_is_targeted_if_its_baseline_is_denied(tmp_path: Path) -> None:
    candidate = candidate_of(str(denies(tmp_path / "p.json", "mkdir", "mkdirat")))
    assert targeted(candidate, [CHMOD, MKDIR]) == [MKDIR]


# Shortening


def call(name: str, *args: Value, decisive: bool = False) -> Syscall:
    return Syscall(name, args, decisive=decisive)


LONG = Program(
    blobs=(Blob(b"a\0", 2), Blob(b"b\0", 2), Blob(b"c\0", 2)),
    attack=(
        call("getpid"),
        call("open", Addr(0)),
        Load(Addr(1)),
        Syscall("fork", body=(call("getuid"), Wait(Addr(2), 0, Slot(1)))),
        call("fchmod", Slot(1), decisive=True),
    ),
)


def test_an_operation_that_nobody_reads_can_be_left_out() -> None:
    assert droppable(LONG) == [5, 4, 3, 2, 0]
    shorter = without(LONG, 3)
    assert [type(op).__name__ for _, op in shorter.flatten()] == [
        "Syscall", "Syscall", "Load", "Syscall"
    ]  # fmt: skip
    last = without(shorter, 0).attack[-1]
    assert isinstance(last, Syscall)
    assert last.args == (Slot(0),)


def test_memory_that_nobody_names_is_left_out() -> None:
    shorter = without_unused_memory(without(without(LONG, 3), 2))
    assert [one.data for one in shorter.blobs] == [b"a\0"]
    assert shorter.attack[1] == call("open", Addr(0))


def test_a_child_keeps_at_least_one_operation() -> None:
    assert 4 not in droppable(without(LONG, 5))


def test_only_what_still_works_is_kept() -> None:
    def works(programs: Sequence[Program]) -> list[bool]:
        return [any(isinstance(op, Load) for _, op in one.flatten()) for one in programs]

    short = shortened(LONG, works)
    assert [type(op).__name__ for _, op in short.flatten()] == ["Syscall", "Load", "Syscall"]


def test_a_shorter_program_that_fails_now_and_then_is_not_taken() -> None:
    def works(programs: Sequence[Program]) -> list[bool]:
        repeated = len(programs) == 3 and len(set(programs)) == 1
        return [not repeated or place != 1 for place, _ in enumerate(programs)]

    assert shortened(LONG, works) is LONG


# What is left in a directory


def test_a_state_is_read_again_and_no_other_search_takes_its_place(tmp_path: Path) -> None:
    of = {"profile": "a", "kernel": "6"}
    store = Store(tmp_path / "s", of, resume=False)
    store.tried["create-directory 00"] = BLOCKED
    store.save()
    assert Store(tmp_path / "s", of, resume=True).tried == store.tried
    with pytest.raises(InputError, match="holds a search already"):
        Store(tmp_path / "s", of, resume=False)
    with pytest.raises(InputError, match=r"is of another kernel \(6, now 7\)"):
        Store(tmp_path / "s", {**of, "kernel": "7"}, resume=True)


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', "\0", '{"format": "x", "of": {}}'])
def test_a_damaged_state_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(InputError) as caught:
        Store(tmp_path, {}, resume=True)
    assert "\n" not in str(caught.value)


def test_a_find_is_a_file_that_can_be_named_on_a_command_line(tmp_path: Path) -> None:
    profile = denies(tmp_path / "p.json", "chmod", *IO_URING)
    found, _ = searched(
        library.parse_reference("change-mode[bits=04000]"),
        profile,
        Limits(seconds=None, programs=60, baseline_only=True),
    )
    store = Store(tmp_path / "s", {}, resume=False)
    file = store.keep(found.finds[0])
    assert json.loads(file.read_text())["format"] == "sidestep.program/1"
    said = replay_command(file, found.family, "p q.json", ["--posture", "root"])
    assert said.endswith("--family 'change-mode[bits=04000]' --under 'p q.json' --posture root")


def test_a_search_is_of_one_profile_posture_and_beginning(tmp_path: Path) -> None:
    candidate = candidate_of(str(denies(tmp_path / "p.json", "chmod")))
    one = basis(candidate, "container", Limits())
    assert one != basis(candidate, "root", Limits())
    assert one != basis(candidate, "container", Limits(baseline_only=True))
