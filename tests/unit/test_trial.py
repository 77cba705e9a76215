"""The grade of an effect follows from what the judge saw, and from nothing else."""

import pytest
from msgspec.structs import replace

from attacks import library
from attacks.effects import Effect, EffectKind, Grade, ObjectKind
from attacks.family import Assumption, Technique, Variant
from attacks.program import (
    Abi,
    Addr,
    Blob,
    Call,
    Const,
    Env,
    Environment,
    Fault,
    Operation,
    Print,
    Program,
    Store,
    Syscall,
    Wait,
)
from evaluator.trial import already, grade, may_spawn, program_spec, rescue_program, strange
from evaluator.wire import Facts, Name, ProgramFlag, Result, Seen

from results import (
    ABSENT,
    DIR,
    DT_DIR,
    DT_LNK,
    DT_REG,
    FILE,
    LINK,
    NEW,
    NOTHING,
    OLD,
    arm,
    facts,
    seen,
)

EXACT, EQUIVALENT = Grade.EXACT, Grade.EQUIVALENT


def having(effect: Effect, grade: Grade = EXACT) -> Variant:
    """A variant of that effect, otherwise as empty as can be."""
    return Variant(
        id="f/v",
        family="f",
        technique=Technique.BASELINE,
        assumption=Assumption.NONE,
        grade=grade,
        program=Program(),
        effect=effect,
        objects=(),
        why="",
    )


def graded(effect: Effect, result: Result) -> Grade | None:
    return grade(having(effect), result)


OLD_FILE = seen(FILE, OLD)
OLD_NAMES = (Name(OLD, DT_REG, "old"),)


def directory(after: Facts, before: Facts = NOTHING) -> Grade | None:
    return graded(Effect(EffectKind.DIRECTORY), arm(before=before, after=after))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(facts(seen(DIR)), EXACT, id="a new directory"),
        pytest.param(NOTHING, None, id="nothing"),
        pytest.param(facts(seen(FILE)), None, id="a new file"),
        pytest.param(facts(seen(DIR, OLD)), EQUIVALENT, id="an old directory moved there"),
        pytest.param(
            facts(seen(LINK), followed=seen(DIR, OLD)), EQUIVALENT, id="a link to a directory"
        ),
        pytest.param(facts(seen(LINK), followed=ABSENT), None, id="a link to nothing"),
        pytest.param(facts(seen(LINK), followed=OLD_FILE), None, id="a link to a file"),
        pytest.param(
            facts(seen(DIR), by_fd=ABSENT), EQUIVALENT, id="the parent's descriptor does not see it"
        ),
        pytest.param(
            facts(ABSENT, by_fd=seen(DIR)), None, id="only the parent's descriptor sees it"
        ),
        pytest.param(
            facts(seen(DIR), by_fd=seen(DIR, NEW + 1)), EQUIVALENT, id="two different directories"
        ),
    ],
)
def test_a_directory(after: Facts, expected: Grade | None) -> None:
    assert directory(after) is expected


def test_a_mount_on_a_directory_that_was_there_is_equivalent() -> None:
    before = facts(seen(DIR, OLD))
    assert directory(facts(seen(DIR, OLD, dev=2)), before) is EQUIVALENT
    assert directory(before, before) is None


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(facts(seen(FILE), names=[Name(NEW, DT_REG, "t")]), EXACT, id="a new file"),
        pytest.param(facts(names=[Name(NEW, DT_REG, "core")]), EXACT, id="another name, too"),
        pytest.param(facts(names=OLD_NAMES), None, id="only the old file"),
        pytest.param(facts(names=[Name(NEW, DT_DIR, "t")]), None, id="a directory"),
        pytest.param(facts(names=[Name(NEW, DT_LNK, "t")]), None, id="a link to nothing"),
        pytest.param(
            facts(OLD_FILE, names=[Name(OLD, DT_REG, "t")]), EQUIVALENT, id="an old file renamed"
        ),
        pytest.param(
            facts(seen(LINK), followed=OLD_FILE, names=[Name(NEW, DT_LNK, "t")]),
            EQUIVALENT,
            id="a link to a file",
        ),
    ],
)
def test_a_file(after: Facts, expected: Grade | None) -> None:
    before = facts(names=OLD_NAMES)
    assert graded(Effect(EffectKind.FILE), arm(before=before, after=after)) is expected


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(facts(names=[*OLD_NAMES, Name(NEW, DT_LNK, "t")]), EXACT, id="a new link"),
        pytest.param(facts(names=[*OLD_NAMES, Name(NEW, 12, "x")]), EXACT, id="a new socket"),
        pytest.param(facts(names=OLD_NAMES), None, id="only the old one"),
        pytest.param(
            facts(seen(FILE, OLD, nlink=2), names=[*OLD_NAMES, Name(OLD, DT_REG, "t")]),
            EXACT,
            id="one more link of an old file",
        ),
        pytest.param(
            facts(seen(FILE, OLD), names=[Name(OLD, DT_REG, "t")]), EQUIVALENT, id="renamed"
        ),
        pytest.param(
            facts(seen(DIR, OLD, nlink=2), names=[Name(OLD, DT_DIR, "t")]),
            EQUIVALENT,
            id="an old directory moved there",
        ),
        pytest.param(
            facts(seen(DIR, 2, dev=9), names=OLD_NAMES), EQUIVALENT, id="something mounted there"
        ),
    ],
)
def test_an_object(after: Facts, expected: Grade | None) -> None:
    before = facts(names=OLD_NAMES)
    assert graded(Effect(EffectKind.OBJECT), arm(before=before, after=after)) is expected


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(facts(ABSENT, held=seen(FILE, OLD, nlink=0)), EXACT, id="no name left"),
        pytest.param(facts(OLD_FILE, held=OLD_FILE), None, id="still there"),
        pytest.param(facts(ABSENT, held=OLD_FILE), EQUIVALENT, id="renamed away"),
        pytest.param(facts(seen(FILE), held=OLD_FILE), EQUIVALENT, id="another file in its place"),
        pytest.param(
            facts(seen(FILE), held=seen(FILE, OLD, nlink=0)), EXACT, id="replaced, and gone"
        ),
    ],
)
def test_a_deleted_file(after: Facts, expected: Grade | None) -> None:
    before = facts(OLD_FILE, held=OLD_FILE)
    assert graded(Effect(EffectKind.DELETED), arm(before=before, after=after)) is expected


@pytest.mark.parametrize(
    ("held", "followed", "expected"),
    [
        pytest.param(seen(0o104644), seen(0o104644), EXACT, id="changed"),
        pytest.param(seen(0o106755), ABSENT, EXACT, id="changed, with other bits, and moved away"),
        pytest.param(OLD_FILE, OLD_FILE, None, id="as before"),
        pytest.param(OLD_FILE, seen(0o104755, NEW), EQUIVALENT, id="another file in its place"),
        pytest.param(seen(0o102644), seen(0o102644), None, id="another bit"),
        pytest.param(ABSENT, ABSENT, None, id="nothing"),
    ],
)
def test_a_mode(held: Seen, followed: Seen, expected: Grade | None) -> None:
    after = facts(followed, held=held)
    effect = Effect(EffectKind.MODE, bits=0o4000)
    assert graded(effect, arm(before=facts(OLD_FILE, held=OLD_FILE), after=after)) is expected


def test_all_bits_of_a_mode_must_be_there() -> None:
    effect = Effect(EffectKind.MODE, bits=0o6000)
    one, both = (facts(seen(mode), held=seen(mode)) for mode in (0o104644, 0o106644))
    assert graded(effect, arm(after=one)) is None
    assert graded(effect, arm(after=both)) is EXACT


@pytest.mark.parametrize(
    ("kind", "saw", "expected"),
    [
        (EffectKind.EXECUTED, "saw_exec", EXACT),
        (EffectKind.EXECUTED, "saw_mapped", EQUIVALENT),
        (EffectKind.CODE, "saw_code", EXACT),
        (EffectKind.LEARNED, "learned", EXACT),
        (EffectKind.WITNESSED, "witness_after", EXACT),
        (EffectKind.EXECUTED, "saw_process", None),
        (EffectKind.PROCESS, "saw_process", EXACT),
        (EffectKind.PROCESS, "saw_exec", None),
    ],
)
def test_a_process(kind: EffectKind, saw: str, expected: Grade | None) -> None:
    assert graded(Effect(kind), arm(**{saw: True})) is expected
    assert graded(Effect(kind), arm()) is None


# ------------------------------------------------------------------ before the trial


@pytest.mark.parametrize(
    ("kind", "before", "said"),
    [
        (EffectKind.DIRECTORY, facts(seen(DIR, OLD)), "was there before"),
        (EffectKind.DIRECTORY, NOTHING, None),
        (EffectKind.DIRECTORY, facts(OLD_FILE), None),  # something in the way is no directory
        (EffectKind.DELETED, NOTHING, "was not there"),
        (EffectKind.DELETED, facts(OLD_FILE, held=OLD_FILE), None),
        (EffectKind.MODE, NOTHING, "was not there"),
        (EffectKind.MODE, facts(OLD_FILE, held=seen(0o104644, OLD)), "was set before"),
        (EffectKind.MODE, facts(OLD_FILE, held=OLD_FILE), None),
        (EffectKind.FILE, facts(OLD_FILE), None),  # only what is new counts
        (EffectKind.OBJECT, facts(OLD_FILE), None),
        (EffectKind.EXECUTED, NOTHING, None),
        (EffectKind.PROCESS, NOTHING, None),
    ],
)
def test_a_world_that_is_not_ready_is_noticed(
    kind: EffectKind, before: Facts, said: str | None
) -> None:
    found = already(having(Effect(kind, bits=0o4000)), arm(before=before))
    assert (said in (found or "")) if said else found is None


def test_a_name_that_nobody_made_for_the_trial_is_noticed() -> None:
    mkdir, unlink = _variant("create-directory/mkdir"), _variant("delete-file/unlink")
    left = facts(names=[Name(OLD, DT_DIR, "t")])
    assert strange(mkdir, NOTHING) is None
    assert "'t' was there before" in (strange(mkdir, left) or "")
    assert strange(unlink, left) is None  # the file to delete


# ------------------------------------------------------------------ what the runner is told

MKDIR = Syscall("mkdir", (Addr(0), Const(0o755)), decisive=True)
OPEN = Syscall("openat", (Const(-100), Addr(0), Const(0)))
BLOBS = (Blob(b"d/t\0", 4),)


def program(*attack: Operation, **sections: tuple[Operation, ...]) -> Program:
    return Program(blobs=BLOBS, attack=attack, **sections)


def test_a_rescue_does_everything_earlier_before_the_filter() -> None:
    rescue = rescue_program(program(OPEN, Fault(), MKDIR, OPEN, setup=(Wait(Addr(0)),)))
    assert rescue is not None
    assert rescue.setup == (Wait(Addr(0)), OPEN, Fault())
    assert rescue.attack == (MKDIR, OPEN)


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(program(MKDIR), id="nothing comes earlier"),
        pytest.param(program(OPEN), id="nothing is decisive"),
        pytest.param(program(OPEN, Syscall("fork", body=(MKDIR,))), id="it is inside a child"),
        pytest.param(program(OPEN, MKDIR, victim=(OPEN,)), id="a victim lies between"),
    ],
)
def test_no_rescue_where_slots_would_change(what: Program) -> None:
    assert rescue_program(what) is None


def test_every_rescue_of_the_library_is_the_same_program_in_another_order() -> None:
    for variant in _library():
        rescue = rescue_program(variant.program)
        if rescue is not None:
            assert [op for _, op in rescue.flatten()] == [op for _, op in variant.program.flatten()]


@pytest.mark.parametrize(
    ("op", "spawns"),
    [
        (MKDIR, False),
        (Store(Addr(0), 0, 8, Const(0)), False),
        (Call(Addr(0)), True),
        (Syscall("clone", (Const(17),)), True),
        (Syscall("execve", (Addr(0),)), True),
        (Syscall("ptrace"), True),
        (Syscall("fork", abi=Abi.I386), True),
        (Syscall("no_such_call", body=(MKDIR,)), True),
    ],
)
def test_a_program_that_may_leave_a_process_is_swept(op: Operation, spawns: bool) -> None:
    assert may_spawn(program(op)) is spawns
    assert may_spawn(program(MKDIR, setup=(op,))) is spawns


@pytest.mark.parametrize(
    ("op", "itself"),
    [
        (OPEN, False),
        (Print(Addr(1), Env(Environment.VICTIM_PID)), False),  # procfs finds whom it means
        (Syscall("pidfd_open", (Env(Environment.VICTIM_PID), Const(0))), True),
        (Store(Addr(1), 0, 4, Env(Environment.VICTIM_PID)), True),
        (Syscall("getpid"), True),
        (Syscall("open", (Addr(2), Const(0))), True),
        (Syscall("io_uring_setup", (Const(1), Addr(1))), True),
        (Syscall("fork", body=(OPEN,)), True),
    ],
)
def test_a_setup_that_names_a_process_is_the_own_work_of_the_subject(
    op: Operation, *, itself: bool
) -> None:
    blobs = (*BLOBS, Blob(b"", 64), Blob(b"/proc/self/fd/3\0", 16))
    there = Program(blobs=blobs, setup=(op,), attack=(MKDIR,))
    later = Program(blobs=blobs, attack=(op, MKDIR))
    variant = replace(having(Effect(EffectKind.DIRECTORY)), program=there)
    assert (ProgramFlag.DIRECT in program_spec(variant).flags) is itself
    assert ProgramFlag.DIRECT in program_spec(replace(variant, foreign=True)).flags
    assert ProgramFlag.DIRECT not in program_spec(replace(variant, program=later)).flags


def _library() -> list[Variant]:
    families = library.load_families().values()
    return [variant for family in families for variant in family.default.variants]


def _variant(reference: str) -> Variant:
    return library.find_variant(reference)


def test_the_runner_watches_for_what_the_effect_needs() -> None:
    for variant in _library():
        flags = program_spec(variant).flags
        assert bool(flags & ProgramFlag.WATCH_PROCESS) == (variant.effect.kind == "process")
        assert bool(flags & ProgramFlag.WATCH_EXEC) == (variant.effect.kind == "executed")
        assert bool(flags & ProgramFlag.SWEEP) == may_spawn(variant.program)
        assert bool(flags & ProgramFlag.CORE) == variant.core_file
        assert bool(flags & ProgramFlag.VICTIM) == variant.program.needs_victim


@pytest.mark.parametrize(
    ("reference", "wanted"),
    [
        ("new-user-namespace/unshare", True),
        ("new-user-namespace/setns", True),
        ("new-user-namespace/clone", False),
        ("create-directory/mkdir", False),
    ],
)
def test_who_enters_a_user_namespace_has_no_second_thread(reference: str, wanted: bool) -> None:
    """With no_new_privs the subject loads its filters itself."""
    assert bool(program_spec(_variant(reference)).flags & ProgramFlag.NO_NEW_PRIVS) is wanted


def test_a_probe_is_filled_with_the_probe_program() -> None:
    spec = program_spec(_variant("execute-program/execve"))
    probes = [one for one in spec.objects if one.kind is ObjectKind.PROBE]
    assert probes
    assert all(one.content.startswith(b"\x7fELF") for one in probes)
    assert all(spec.magic in one.content for one in probes)
