"""Workloads are data: what ships is complete, and mistakes in a user's own get one clear line."""

from __future__ import annotations

import pytest

from evaluator.errors import InputError
from evaluator.workloads import DEFAULTS, Program, builtin, chosen, workload

GOOD = """
title = "t"
command = ["true"]
"""
SERVICE = """
[service]
ready = "true"
request = "true"
"""


@pytest.mark.parametrize("one", builtin(), ids=lambda one: one.name)
def test_a_builtin_workload_proves_that_it_works_by_more_than_its_exit_code(one) -> None:
    judged = one.stdout if one.service is None else one.service.answer
    assert judged is not None
    assert one.title[0].isupper() or one.title.split()[0].rstrip(":") in one.name + "libc file man"


def test_the_defaults_come_first_and_need_nothing_that_a_bare_system_lacks() -> None:
    assert tuple(one.name for one in builtin())[: len(DEFAULTS)] == DEFAULTS
    assert not any(one.missing() or one.needs_ids for one in chosen(DEFAULTS))


def test_a_workload_is_chosen_once_however_often_it_is_named() -> None:
    assert chosen(["all", "sqlite", "shell-basics"]) == builtin()
    assert [one.name for one in chosen(["sqlite", "sqlite"])] == ["sqlite"]


def test_a_file_holds_a_workload_of_its_own(tmp_path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD + SERVICE)
    one = workload(str(tmp_path / "mine.toml"))
    assert (one.name, one.program) == ("mine", Program.SYSTEM)
    assert one.service is not None
    assert one.service.stop == "SIGTERM"


def test_two_workloads_of_one_name_are_refused(tmp_path) -> None:
    (tmp_path / "sqlite.toml").write_text(GOOD)
    with pytest.raises(InputError, match="two workloads are called 'sqlite'"):
        chosen(["sqlite", str(tmp_path / "sqlite.toml")])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = 3\ncommand = ['true']", "title: Expected `str`, got `int`"),
        ("title = 't'", "missing required field `command`"),
        ("title = 't'\ncommand = []", "command: empty"),
        ("title = 't'\ncommand = ['']", "command: empty"),
        (GOOD + "comand = 3", "did you mean command"),
        (GOOD + "deadline = 0", "deadline: Expected `float` > 0"),
        (GOOD + "deadline = nan", "deadline: "),
        (GOOD + "deadline = 1e9", "deadline: Expected `float` <= 600"),
        (GOOD + "name = 'x'", "a workload is called as its file is"),
        (GOOD + "stdout = ''" + SERVICE, "a service is judged by its answer"),
        (GOOD + SERVICE + "stop = 'SIGTURM'", "service.stop: no signal 'SIGTURM'"),
        (GOOD + "[service]\nready = 'true'", "service: Object missing required field `request`"),
        (GOOD + "[files]\n'../x' = ''", "leads out of the workload's directory"),
        (GOOD + "[files]\n'/etc/x' = ''", "leads out of the workload's directory"),
        (GOOD + f"[files]\n'{'x' * 80}' = ''", "longer than 58 bytes"),
        (GOOD + "[files]\n" + "\n".join(f"f{n} = ''" for n in range(40)), "and 32 is the most"),
        (GOOD + "[env]\n'A=B' = 'c'", "env: a name is empty or holds '='"),
        ('title = "t"\ncommand = ["a\\u0000b"]', "a NUL cannot be handed"),
        ("= [", "Invalid"),
        (GOOD + "a = " + "[" * 20_000, "nested too deeply"),
        (GOOD + "[files]\na = ''\n'a/b' = ''", "files: 'a/b' lies below another file"),
        (GOOD + "[files]\n'a' = ''\n'./a' = ''", "files: 'a' is there twice"),
        ("title = 't'\ncommand = ['./a']", "command: './a' is not one of its files"),
        (GOOD + "needs = ['bin/a']", "needs: 'bin/a' is a relative path"),
        (f"title = 't'\ncommand = {['true'] * 2000}", "command, env: more than 1000 words"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, text: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        workload(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert "\n" not in message


def test_what_is_no_file_of_text_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="no such file"):
        workload(str(tmp_path / "none.toml"))
    (tmp_path / "directory.toml").mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        workload(str(tmp_path / "directory.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"not UTF-8"):
        workload(str(tmp_path / "bytes.toml"))
    (tmp_path / "huge.toml").write_text("#" * 300_000)
    with pytest.raises(InputError, match="larger than 256 KiB"):
        workload(str(tmp_path / "huge.toml"))


def test_a_program_among_its_files_is_not_looked_for_in_our_directory(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "title = 't'\ncommand = ['./run.sh']\n[files]\n'run.sh' = '#!/bin/sh'"
    (tmp_path / "own.toml").write_text(text)
    assert workload("own.toml").missing() == ()
