"""The exported C files compile, and say by themselves what the tool would say."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from attacks.consts import (
    AT_FDCWD,
    CLONE_FILES,
    CLONE_FS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
    NULL,
    O_PATH,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import Assumption, Technique, Variant
from attacks.kernel import Kernel
from attacks.library import load_families
from attacks.program import Environment
from attacks.recorder import Recording
from evaluator.export_c import ExportError, export_c
from mitigations.x86_64 import number

ALLOW, EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000
MKDIR, MKDIRAT, EXECVE = 83, 258, 59
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def deny(*numbers: int, answer: int = EPERM) -> bytes:
    """A filter that looks at the number alone, as a hasty author writes it."""
    code = [(0x20, 0, 0, 0)]
    for nr in numbers:
        code += [(0x15, 0, 1, nr), (0x06, 0, 0, answer)]
    code.append((0x06, 0, 0, ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def record(
    recipe: Callable[[Kernel], object],
    kind: EffectKind = EffectKind.DIRECTORY,
    objects: tuple[Object, ...] = (),
) -> Variant:
    effect = Effect(kind, bits=0o222 if kind is EffectKind.MODE else 0)
    recording = Recording(effect, {})
    recipe(Kernel(recording))
    directory = Object(ObjectKind.DIRECTORY, "d", 0o755)
    return Variant(
        id="test/variant",
        family="test",
        technique=Technique.BASELINE,
        assumption=Assumption.NONE,
        grade=Grade.EXACT,
        program=recording.finish(),
        effect=effect,
        objects=(directory, *objects),
        why="A test.",
    )


def compile_c(source: str, folder: Path, *more: str) -> Path:
    (folder / "x.c").write_text(source)
    flags = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-but-set-parameter", *more]
    subprocess.run(["cc", *flags, "x.c", "-o", "x"], cwd=folder, check=True)
    return folder / "x"


def run(variant: Variant, *filters: bytes, folder: Path) -> tuple[int, str]:
    program = compile_c(export_c(variant, filters, number), folder)
    done = subprocess.run(
        [program], cwd=folder, check=False, capture_output=True, text=True, timeout=30
    )
    return done.returncode, done.stdout


# --- what can be seen without running


def test_the_file_names_itself_and_how_to_compile_it() -> None:
    source = export_c(record(lambda k: k.mkdir(k.path(), 0o755).decisive()), [deny(MKDIR)], number)
    assert source.startswith("/*\n * test/variant: A test.")
    assert "cc this-file.c -o try && ./try" in source
    assert '/* 0: mkdir("d/t", 0755) */' in source
    assert "{ 0x15, 0, 1, 0x53 }" in source


def test_text_from_outside_cannot_become_code(tmp_path: Path) -> None:
    variant = record(lambda k: k.mkdir(k.text('*/ int x; /*"\\??/'), 0o755).decisive())
    source = export_c(variant, [], number)
    comments = [line for line in source.splitlines() if line.startswith("\t/* 0:")]
    assert comments == [line for line in comments if line.count("*/") == 1]
    if shutil.which("cc"):
        compile_c(source, tmp_path)


def test_what_only_the_runner_has_is_refused_in_one_line() -> None:
    variant = record(lambda k: k.kill(k.env(Environment.CAUGHT), 9).decisive())
    with pytest.raises(ExportError, match="needs caught, which C does not have"):
        export_c(variant, [], number)


def test_an_unknown_call_is_refused() -> None:
    variant = record(lambda k: k.raw("frobnicate").decisive())
    with pytest.raises(ExportError, match="x86_64 has no call 'frobnicate'"):
        export_c(variant, [], number)


def test_the_whole_library_can_be_written() -> None:
    for family in load_families().values():
        for variant in family.default.variants:
            assert "/* @" not in export_c(variant, [deny(MKDIR)], number)


# --- compiled


@needs_cc
@pytest.mark.slow
def test_every_family_compiles(tmp_path: Path) -> None:
    for family in load_families().values():
        for variant in family.default.variants[:4]:
            compile_c(export_c(variant, [deny(MKDIR)], number), tmp_path, "-fsyntax-only")


def through_a_thread(k: Kernel) -> None:
    flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
    flag = k.buffer(4, name="flag")
    with k.child(k.clone(flags, k.stack())):
        k.mkdir(k.path(), 0o755).decisive()
        k.store(flag, 0, 4, 1)
    k.wait(flag)


def through_a_child(k: Kernel) -> None:
    child = k.fork()
    with k.child(child):
        k.mkdir(k.path(), 0o755).decisive()
    k.wait4(child, NULL, 0, NULL)


def through_vfork(k: Kernel) -> None:
    with k.child(k.vfork()):
        k.mkdir(k.path(), 0o755).decisive()


def through_a_ring(k: Kernel) -> None:
    k.ring().mkdirat(AT_FDCWD, k.path(), 0o755).decisive()


def through_setup(k: Kernel) -> None:
    here = k.setup.openat(AT_FDCWD, k.parent(), O_PATH)
    k.mkdirat(here, k.name(), 0o755).decisive()


def through_proc(k: Kernel) -> None:
    here = k.openat(AT_FDCWD, k.parent(), O_PATH)
    k.mkdirat(AT_FDCWD, k.proc_fd(here, "/t"), 0o755).decisive()


@needs_cc
@pytest.mark.live
@pytest.mark.parametrize(
    ("recipe", "status"),
    [
        (lambda k: k.mkdir(k.path(), 0o755).decisive(), 1),
        (lambda k: k.mkdirat(AT_FDCWD, k.path(), 0o755).decisive(), 0),
        (lambda k: k.i386.mkdir(k.path(), 0o755).decisive(), 0),
        (lambda k: k.i386_far.mkdir(k.path(), 0o755).decisive(), 0),
        (lambda k: k.mkdir(k.text("nowhere/t"), 0o755).decisive(), 2),
        (through_a_ring, 0),
        (through_a_child, 1),
        (through_vfork, 1),
        (through_a_thread, 1),
        (through_setup, 0),
        (through_proc, 0),
    ],
)
def test_the_exit_status_says_what_the_filter_is_worth(
    recipe: Callable[[Kernel], object], status: int, tmp_path: Path
) -> None:
    found, story = run(record(recipe), deny(MKDIR), folder=tmp_path)
    assert found == status, story


@needs_cc
@pytest.mark.live
def test_both_arms_are_told_step_by_step(tmp_path: Path) -> None:
    status, story = run(
        record(lambda k: k.mkdir(k.path(), 0o755).decisive()), deny(MKDIR), folder=tmp_path
    )
    assert status == 1
    assert '  0 * mkdir("d/t", 0755)' in story
    assert "-1 EPERM" in story
    assert "The filter stops this." in story
    assert not list(Path("/tmp").glob("sidestep.*/d"))


@needs_cc
@pytest.mark.live
def test_a_killed_subject_and_several_filters(tmp_path: Path) -> None:
    variant = record(lambda k: k.mkdir(k.path(), 0o755).decisive())
    filters = (deny(MKDIRAT), deny(MKDIR, answer=KILL))
    status, story = run(variant, *filters, folder=tmp_path)
    assert status == 1
    assert "ended by signal 31" in story


@needs_cc
@pytest.mark.live
def test_a_filter_that_the_kernel_refuses(tmp_path: Path) -> None:
    variant = record(lambda k: k.mkdir(k.path(), 0o755).decisive())
    status, story = run(variant, struct.pack("<HBBI", 0x20, 0, 0, 0), folder=tmp_path)
    assert status == 3
    assert "the filter could not be loaded: Invalid argument" in story


FILE = Object(ObjectKind.FILE, "d/t", 0o644, b"x")


@needs_cc
@pytest.mark.live
@pytest.mark.parametrize(
    ("kind", "recipe", "objects"),
    [
        (EffectKind.FILE, lambda k: k.creat(k.path(), 0o644).decisive(), ()),
        (EffectKind.OBJECT, lambda k: k.symlink(k.text("x"), k.path()).decisive(), ()),
        (EffectKind.DELETED, lambda k: k.unlink(k.path()).decisive(), (FILE,)),
        (EffectKind.MODE, lambda k: k.chmod(k.path(), 0o666).decisive(), (FILE,)),
    ],
)
def test_effects_are_seen_from_outside(
    kind: EffectKind,
    recipe: Callable[[Kernel], object],
    objects: tuple[Object, ...],
    tmp_path: Path,
) -> None:
    status, story = run(record(recipe, kind, objects), deny(MKDIR), folder=tmp_path)
    assert status == 0, story


@needs_cc
@pytest.mark.live
@pytest.mark.parametrize("kind", [EffectKind.FILE, EffectKind.DELETED, EffectKind.MODE])
def test_an_answer_of_zero_is_not_an_effect(kind: EffectKind, tmp_path: Path) -> None:
    variant = record(lambda k: k.getpid().decisive(), kind, (FILE,))
    status, story = run(variant, deny(MKDIR), folder=tmp_path)
    assert status == 2, story


@needs_cc
@pytest.mark.live
@pytest.mark.parametrize(
    ("reference", "status"),
    [
        ("create-process/fork", 0),
        ("create-process/vfork", 0),
        ("create-process/i386-clone", 0),
        ("create-process/thread-negative", 2),
        ("execute-program/execve", 1),
        ("execute-program/memfd-execveat", 0),
        ("execute-program/mmap-jump", 0),
        ("execute-program/compat-elf32", 1),
        ("execute-program/execve-check-negative", 2),
    ],
)
def test_processes_and_programs_are_seen_while_they_live(
    reference: str, status: int, tmp_path: Path
) -> None:
    family, _, name = reference.partition("/")
    variant = load_families()[family].default.variant(name)
    found, story = run(variant, deny(EXECVE), folder=tmp_path)
    assert found == status, story


@needs_cc
@pytest.mark.live
@pytest.mark.parametrize(
    ("reference", "denied", "status"),
    [
        ("set-host-name/sethostname", 170, 1),
        ("set-host-name/sethostname", MKDIR, 0),
        ("create-pipe/pipe", 22, 1),
        ("create-pipe/pipe2", 22, 0),
        ("open-socket/socket", 41, 1),
        ("install-filter/seccomp", 317, 1),
        ("load-kernel-module/init-module", 175, 1),
        ("load-kernel-module/finit-module", 175, 0),
        ("run-written-code/mmap-rwx", 9, 1),
        ("run-written-code/mmap-rwx", MKDIR, 0),
        ("set-extended-attribute/setxattr", 188, 1),
        ("kill-process/kill", 62, 1),
        ("kill-process/kill-own-group", MKDIR, 0),
        ("kill-process/pidfd-send-signal", 62, 0),
        ("read-process-memory/process-vm-readv", 310, 1),
        ("read-process-memory/proc-mem-pread", 310, 0),
        ("change-process-priority/setpriority", 141, 1),
        ("change-process-priority/setpriority", MKDIR, 0),
        ("connect-tcp/connect", 42, 1),
        ("connect-tcp/connect-stolen-socket", MKDIR, 0),
        ("read-file/read", 0, 1),
        ("read-file/pread64", 0, 0),
        ("inspect-mounts/read-mounts", MKDIR, 0),
        ("list-directory/getdents64", 217, 1),
        ("change-group-id/setgid", 106, 1),
        ("change-owner/chown", MKDIR, 0),
        ("change-process-settings/prctl", MKDIR, 0),
        ("forge-socket-credentials/sendmsg", 46, 1),
        ("kill-process/kill-everyone", 62, 1),
        ("mount-file-system/mount", 165, 1),
        ("change-mount/remount", MKDIR, 0),
        ("unmount/neighbours-root", 166, 0),
        ("watch-files/fanotify-mount-mark", MKDIR, 0),
    ],
)
def test_victims_secrets_witnesses_sentinels_and_traps_tell_the_same_in_c(
    reference: str, denied: int, status: int, tmp_path: Path
) -> None:
    family, _, name = reference.partition("/")
    variant = load_families()[family].default.variant(name)
    found, story = run(variant, deny(denied), folder=tmp_path)
    assert found == status, story
