"""Workloads recorded in the sandbox, and whether they work under the profiles made of that.

Five fresh runs of each under its profile; many more by hand:

    SIDESTEP_FRESH_RUNS=20 .venv/bin/pytest tests/live/test_recorded_workloads.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import pytest

from evaluator import enforcement
from evaluator.enforcement import Applied
from evaluator.errors import InputError
from evaluator.pool import Pool
from evaluator.posture import posture
from evaluator.recorded_profile import profile_of
from evaluator.recorded_workloads import candidate_of, record_once
from evaluator.recording import Recording, merge
from evaluator.records import WorkloadRecord
from evaluator.workload_run import Ran, lacking, run_workloads
from evaluator.workloads import Workload, builtin, workload

FRESH = int(os.environ.get("SIDESTEP_FRESH_RUNS", "5"))
RECORDED = 3
SIDESTEP = (sys.executable, "-c", "from evaluator.cli import main; main()")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(len(os.sched_getaffinity(0))) as found:
        yield found


@pytest.fixture(scope="module")
def able(pool: Pool) -> list[Workload]:
    """What can run here; that the others are installed where they should be is tested elsewhere."""
    return [one for one in builtin() if not lacking(pool, one)]


@pytest.fixture(scope="module")
def recorded(pool: Pool, able: list[Workload]) -> dict[str, Recording]:
    rounds = [record_once(pool, able, "container", lambda _: None) for _ in range(RECORDED)]
    return {runs[0].workload: merge(runs) for runs in zip(*rounds, strict=True)}


def strictest(pool: Pool, found: Recording) -> Applied:
    """Its profile with its own arguments alone, and nothing for a runtime."""
    profile = profile_of(found, arguments=True).profile
    return enforcement.apply(pool, candidate_of(profile, "runc-1.1"), posture("container"))


def fresh_runs(pool: Pool, one: Workload, applied: Applied) -> list[WorkloadRecord]:
    controls: dict[str, tuple[Ran, ...]] = {}
    runs = [run_workloads(pool, [one], applied, lambda _: None, controls) for _ in range(FRESH)]
    return [record for (record,) in runs]


def test_every_workload_works_under_the_profile_that_was_recorded_of_it(
    pool: Pool, able: list[Workload], recorded: dict[str, Recording]
) -> None:
    applied = [strictest(pool, recorded[one.name]) for one in able]
    with ThreadPoolExecutor(pool.size) as threads:
        ran = threads.map(fresh_runs, repeat(pool), able, applied)
        bad = [(one.workload, one.reason) for runs in ran for one in runs if not one.works]
    assert bad == []
    assert {"static-entry", "shell-basics", "self-filter"} <= recorded.keys()


def test_a_program_of_one_call_is_recorded_exactly(recorded: dict[str, Recording]) -> None:
    found = recorded["static-entry"]
    assert found.calls("x86_64") == {"execve", "exit_group"}
    assert found.ends == ("exited with 0",) * RECORDED


def test_the_check_of_a_program_that_filters_itself(recorded: dict[str, Recording]) -> None:
    found = recorded["self-filter"]
    assert found.calls("x86_64") == {"seccomp", "prctl", "exit_group"}
    options = {use.args[0] for use in found.uses if use.call == "prctl"}
    assert {21, 22, 38, 39} < options


SERVICE = """
title = "own"
command = ["python3", "-I", "service.py"]
[files]
"service.py" = '''
import os, signal, socket, sys
signal.signal(signal.SIGUSR1, lambda *_: (os.getpgid(0), sys.exit(0)))
server = socket.create_server(("127.0.0.1", 6000))
while True:
    client, _ = server.accept()
    os.getsid(0)
    client.sendall(b"hello")
    client.close()
'''
[service]
ready = "python3 -I -c 'import socket; socket.create_connection((\\"127.0.0.1\\", 6000))'"
request = "python3 -I -c 'import socket; print(socket.create_connection((\\"127.0.0.1\\", 6000)).recv(9).decode())'"
answer = "hello\\n"
stop = "SIGUSR1"
"""  # noqa: E501


def own(tmp_path: Path, text: str) -> str:
    path = tmp_path / "own.toml"
    path.write_text(text)
    return str(path)


def test_a_service_is_served_and_stopped_and_its_customer_is_not_recorded(
    pool: Pool, tmp_path: Path
) -> None:
    one = workload(own(tmp_path, SERVICE))
    (found,) = record_once(pool, [one], "container", lambda _: None)
    calls = found.calls("x86_64")
    assert {"accept4", "getsid", "getpgid"} <= calls
    assert "connect" not in calls
    assert found.ends == ("exited with 0",)


def test_a_signal_that_ends_a_service_ends_its_recorder(pool: Pool, tmp_path: Path) -> None:
    text = "title = 'own'\ncommand = ['sleep', '60']\n[service]\nready = 'true'\nrequest = 'true'"
    one = workload(own(tmp_path, text))
    (found,) = record_once(pool, [one], "container", lambda _: None)
    assert found.ends == ("was killed by SIGTERM",)


def test_the_program_sees_nothing_of_its_recorder(pool: Pool, tmp_path: Path) -> None:
    script = "ls -A; ls /proc/self/fd | wc -l; tr '\\\\0' ' ' < /proc/self/cmdline | cut -c-3"
    text = f'title = "own"\ncommand = ["sh", "-c", "{script}"]\nstdout = "4\\ntr \\n"\n'
    (found,) = record_once(pool, [workload(own(tmp_path, text))], "container", lambda _: None)
    assert found.ends == ("exited with 0",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("command = ['sh', '-c', 'exit 3']", "own: does not work while it is recorded: it exited"),
        ("command = ['sleep', '60']\ndeadline = 0.2", "it did not end in time"),
        ("command = ['/etc/passwd']", "/etc/passwd: cannot be executed: Permission denied"),
    ],
)
def test_what_does_not_work_is_not_recorded(
    pool: Pool, tmp_path: Path, text: str, said: str
) -> None:
    one = workload(own(tmp_path, f"title = 'own'\n{text}"))
    with pytest.raises(InputError, match=said):
        record_once(pool, [one], "container", lambda _: None)


# ------------------------------------------------------------------ the command


def record(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SIDESTEP, "record", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_profile_of_a_workload_is_verified_in_the_sandbox(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    done = record("--workload", "shell-basics", "-o", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("shell-basics: 3 runs\n")
    assert "verified: shell-basics works under the profile" in done.stdout
    # Where it was written to is one line, to be copied, however long the path is.
    *told, written = done.stdout.splitlines()
    assert written == f"written to {path}"
    assert max(map(len, told)) <= 80
    assert "execve" in json.loads(path.read_text())["syscalls"][0]["names"]


def test_several_workloads_have_one_profile() -> None:
    done = record("--workload", "static-entry", "--workload", "socketcall", "--runs", "1", "--json")
    found = json.loads(done.stdout)
    assert [one["workload"] for one in found["recordings"]] == ["static-entry", "socketcall"]
    assert [one["works"] for one in found["workloads"]] == [True, True]
    assert found["profile"]["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workload", "sqlit"), "no workload 'sqlit'; did you mean sqlite"),
        (("--workload", "sqlite", "--", "true"), "COMMAND or --workload"),
        (("--workload", "sqlite", "--timeout", "5"), "a deadline of its own"),
        (("--workload", "no/such.toml"), "no/such.toml: no such file"),
    ],
)
def test_wrong_input_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = record(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert said in line


def test_a_workload_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = own(tmp_path, "title = 'own'\ncommand = ['no-such-program']")
    done = record("--workload", path)
    assert done.returncode == 2
    assert "workload own cannot run here: not installed: no-such-program" in done.stderr
