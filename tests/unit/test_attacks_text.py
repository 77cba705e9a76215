"""A program reads like strace output, whatever it holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from attacks.consts import AT_FDCWD, NULL, O_DIRECTORY, O_PATH, SIGCHLD
from attacks.effects import Effect, EffectKind
from attacks.kernel import Kernel
from attacks.library import load_families
from attacks.program import Addr, Blob, Const, Env, Environment, Expect, Program, Syscall, Wait
from attacks.recorder import Recording
from attacks.text import program_text

pytestmark = pytest.mark.unit


def texts(recipe: Callable[[Kernel], None]) -> list[str]:
    recording = Recording(Effect(EffectKind.DIRECTORY), {})
    recipe(Kernel(recording))
    return [line.text for line in program_text(recording.finish())]


def test_a_call_reads_like_strace() -> None:
    assert texts(lambda k: k.mkdir(k.path(), 0o755).decisive()) == ['mkdir("d/t", 0755)']


def test_the_other_tables_are_named() -> None:
    assert texts(lambda k: k.i386.mkdir(k.path(), 0o755).decisive()) == ['i386:mkdir("d/t", 0755)']
    assert texts(lambda k: k.x32.mkdir(k.path(), 0o755).decisive()) == ['x32:mkdir("d/t", 0755)']
    assert texts(lambda k: k.i386_far.mkdir(k.path(), 0o755).decisive()) == [
        'i386(far-int80):mkdir("d/t", 0755)'
    ]


def test_only_results_that_are_used_get_a_name() -> None:
    def recipe(k: Kernel) -> None:
        k.umask(0)
        here = k.openat(AT_FDCWD, k.parent(), O_PATH | O_DIRECTORY)
        k.mkdirat(here, k.name(), 0o755).decisive()

    assert texts(recipe) == [
        "umask(0)",
        'r1 = openat(AT_FDCWD, "d", O_PATH|O_DIRECTORY)',
        'mkdirat(r1, "t", 0755)',
    ]


def test_a_number_printed_into_a_path_is_shown_in_the_path() -> None:
    def recipe(k: Kernel) -> None:
        here = k.openat(AT_FDCWD, k.parent(), O_PATH)
        k.mkdir(k.proc_fd(here, "/t"), 0o755).decisive()

    assert texts(recipe)[1:] == [
        'sprintf(&path + 0xe, "%ld/t", r0)',
        'mkdir("/proc/self/fd/<r0>/t", 0755)',
    ]


def test_structures_are_shown_by_name() -> None:
    def recipe(k: Kernel) -> None:
        args = k.struct("QQQQQQQQ", 0, 0, 0, 0, SIGCHLD, 0, 0, 0, name="clone_args")
        k.store(args, 0x10, 4, 1)
        word = k.load(args, 0, 4)
        k.add(word, 16)
        k.clone3(args, 64).decisive()

    assert texts(recipe) == [
        "*(u32*)(&clone_args + 0x10) = 1",
        "r1 = *(u32*)(&clone_args)",
        "r2 = r1 + 16",
        "clone3(&clone_args, 64)",
    ]


def test_a_child_is_indented_and_the_decisive_operation_marked() -> None:
    def recipe(k: Kernel) -> None:
        child = k.fork()
        with k.child(child):
            k.mkdir(k.path(), 0o755).decisive()
        k.wait4(child, NULL, 0, NULL).may_fail()

    recording = Recording(Effect(EffectKind.DIRECTORY), {})
    recipe(Kernel(recording))
    assert [str(line) for line in program_text(recording.finish())] == [
        "  0  attack    r0 = fork()",
        '  1  attack  *   mkdir("d/t", 0755)',
        "  2  attack    wait4(r0, NULL, 0, NULL)  (may fail)",
    ]


def test_a_ring_shows_what_it_submits() -> None:
    def recipe(k: Kernel) -> None:
        k.ring().mkdirat(AT_FDCWD, k.path(), 0o755).decisive()

    assert any("io_uring_enter[IORING_OP_MKDIRAT](" in text for text in texts(recipe))


def test_odd_values_have_a_text_too() -> None:
    program = Program(
        blobs=(Blob(b'a"\n\\', 8), Blob(b"x" * 100, 100), Blob(b"", 1), Blob(b"\x01\0", 2)),
        attack=(
            Syscall("f", (Addr(0), Addr(1), Addr(2), Addr(3), Const(2**64 - 100), Const(-1))),
            Syscall("g", (Env(Environment.VICTIM_PID), Addr(7), Const(0xDEADBEEF00000000))),
            Wait(Const(0x1000), 4, Const(1), 1500),
            Expect(Const(1), 2**64 - 1, 1),
        ),
    )
    assert [line.text for line in program_text(program)] == [
        f'f("a\\"\\n\\\\", "{"x" * 64}...", "", &blob3, -100, -1)',
        "g(VICTIM_PID, &blob7, 0xdeadbeef00000000)",
        "wait while *(u32*)(0x1000 + 0x4) == 1, at most 1500 us",
        "expect 1 == 1",
    ]


def test_every_operation_of_the_library_has_one_line() -> None:
    for family in load_families().values():
        for variant in family.default.variants:
            lines = program_text(variant.program)
            assert [line.slot for line in lines] == list(range(len(lines)))
            assert len(lines) == len(variant.program.flatten())
            assert all(line.text.isprintable() for line in lines)
            assert sum(line.decisive for line in lines) == 1
