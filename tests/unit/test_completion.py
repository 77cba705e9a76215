"""What a shell offers: asked as shells ask, and in the shells themselves."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = "from evaluator.entry import main; main()"
PATIENCE = 60


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def ask(*words: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """What click's script for bash asks when the key is pressed behind the last of the words."""
    line = {
        "COMP_WORDS": "\n".join(["sidestep", *words]),
        "COMP_CWORD": str(len(words)),
        "_SIDESTEP_COMPLETE": "bash_complete",
    }
    return subprocess.run(
        [sys.executable, *flags, "-c", COMMAND],
        env=environment(**line),
        capture_output=True,
        text=True,
        check=True,
    )


def offered(*words: str) -> list[str]:
    done = ask(*words)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "one"),
    [
        (["comp"], "plain,completion"),
        (["evaluate", "x.json", "--family", "create-d"], "plain,create-directory"),
        (["evaluate", "--objective", "no-new-d"], "plain,no-new-directories"),
        (["evaluate", "--workload", "shell"], "plain,shell-basics"),
        (["evaluate", "--workload", "nginx,a"], "plain,nginx,all"),
        (["evaluate", "--assume", "inherited-r"], "plain,inherited-ring"),
        (["evaluate", "--fail-on", "leaky,und"], "plain,leaky,undecided"),
        (["evaluate", "--suite", ""], "plain,2026.11"),
        (["evaluate", "--posture", "r"], "plain,restricted"),
        (["evaluate", "mitigations/li"], "file,mitigations/li"),
        (["explain", "x.json", "openat2"], "plain,openat2"),
        (["explain", "x.json", "create-hard"], "plain,create-hard-link"),
        (
            ["explain", "x.json", "create-directory/mkdirat-d"],
            "plain,create-directory/mkdirat-dirfd",
        ),
        (
            ["attacks", "show", "create-directory/mkdir-chdir~i"],
            "plain,create-directory/mkdir-chdir~i386",
        ),
        (["attacks", "list", "--technique", "x32"], "plain,x32-abi"),
        (["attacks", "list", "--need", "CAP_MK"], "plain,CAP_MKNOD"),
        (["attacks", "list", "--call", "mkdira"], "plain,mkdirat"),
        (["objectives", "show", "kernel"], "plain,kernel-surface"),
        (["workloads", "show", "my"], "file,my"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_value_is_offered(words: list[str], one: str) -> None:
    assert one in offered(*words)


def test_what_was_typed_wrong_before_is_no_error() -> None:
    assert "plain,--family" in offered("evaluate", "--posture", "nobody", "--fa")
    assert not [one for one in offered("--version", "") if "sidestep" in one]
    assert offered("evaluate", "--family", "no-such") == []


def test_nothing_heavy_is_imported_while_a_shell_waits() -> None:
    done = ask("evaluate", "--family", "", flags=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "evaluator.completion" in imported
    heavy = ("pandas", "pyarrow", "rich", "scipy", "jinja2", "attacks.families.create_directory")
    assert imported.isdisjoint(heavy)


def test_another_shell_is_refused_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "completion", "ksh"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "'bash', 'zsh', 'fish'" in done.stderr


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which ``sidestep`` is this tree's."""
    program = tmp_path / "bin" / "sidestep"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{COMMAND}' \"$@\"\n")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def typed(argv: list[str], path: str, setup: str, keys: str, wanted: str) -> str:
    """What an interactive shell shows until it shows what is wanted."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(environment(PATH=path, TERM="dumb", PS1="", HOME="/nonexistent"))
        os.execvp(argv[0], argv)
    try:
        os.write(terminal, f"{setup}; echo rea''dy\n".encode())
        shown = shown_until(terminal, "ready")
        os.write(terminal, keys.encode())
        return shown + shown_until(terminal, wanted)
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def shown_until(terminal: int, wanted: str) -> str:
    shown, end = "", time.monotonic() + PATIENCE
    while wanted not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
    assert wanted in shown, f"{wanted!r} did not come, but: {shown!r}"
    return shown


def test_bash_completes_at_its_prompt(path: str, tmp_path: Path) -> None:
    (tmp_path / "a-profile.json").touch()
    setup = f"cd {tmp_path}; source <(sidestep completion bash)"
    argv = ["bash", "--norc", "--noprofile", "-i"]
    typed(argv, path, setup, "sidestep harden x --family create-dir\t", "create-directory")
    typed(argv, path, setup, "sidestep evaluate a-pro\t", "a-profile.json")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_at_its_prompt(path: str) -> None:
    setup = "autoload -Uz compinit; compinit -u -D; source <(sidestep completion zsh)"
    typed(["zsh", "-f", "-i"], path, setup, "sidestep harden x --family create-dir\t", "ectory")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(path: str) -> None:
    script = 'sidestep completion fish | source; complete -C "sidestep harden x --family create-d"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["create-directory"]
