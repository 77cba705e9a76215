"""Honest programs on the real kernel: what works, what breaks them, and that nothing stays."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluator.errors import InputError
from evaluator.records import WorkloadOutcome, WorkloadRecord
from evaluator.request import candidate_of
from evaluator.workload_run import in_sandbox
from evaluator.workloads import builtin, chosen, workload

LIBRARY = Path(__file__).parents[2] / "mitigations" / "library"
SMALL = "static-entry shell-basics threads busybox sqlite tar git socketcall dns python-network"
"""What the tests' environment installs, or has anyway."""
SLOW = "command = ['sleep', '60']\n"
USED = "[service]\nready = 'true'\nrequest = 'true'\n"


def ran(names: list[str], profile: Path | None = None) -> dict[str, WorkloadRecord]:
    candidate = candidate_of(str(profile)) if profile else None
    found = in_sandbox(chosen(names), candidate, "container", lambda _: None)
    return {one.workload: one for one in found}


def profile(tmp_path: Path, default: str, *rules: dict[str, object]) -> Path:
    architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    document = {"defaultAction": default, "architectures": architectures, "syscalls": list(rules)}
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(document))
    return path


def own(tmp_path: Path, text: str) -> str:
    path = tmp_path / "own.toml"
    path.write_text(f"title = 'own'\n{text}")
    return str(path)


# ------------------------------------------------------------------ what ships


@pytest.fixture(scope="module")
def controls() -> dict[str, WorkloadRecord]:
    return ran(["all"])


@pytest.mark.parametrize("name", [one.name for one in builtin()])
def test_a_workload_works_without_a_mitigation_or_names_what_is_not_installed(
    controls, name: str
) -> None:
    record, one = controls[name], workload(name)
    if one.missing():
        assert record.outcome is WorkloadOutcome.UNAVAILABLE
        assert record.reason == f"not installed: {', '.join(one.missing())}"
        assert name not in SMALL.split() or os.environ.get("CI") is None
    elif one.needs_ids and os.geteuid():
        assert record.outcome is WorkloadOutcome.UNAVAILABLE
    else:
        assert record.outcome is WorkloadOutcome.WORKS, record.reason


# ------------------------------------------------------------------ what breaks them


def denied(record: WorkloadRecord) -> list[tuple[str, str, str]]:
    return [(one.abi, one.call, one.answer) for one in record.needs]


def test_clone3_denied_with_eperm_breaks_threads_and_enosys_does_not(tmp_path) -> None:
    rule = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    broken = ran(["threads"], profile(tmp_path, "SCMP_ACT_ALLOW", rule))["threads"]
    assert broken.outcome is WorkloadOutcome.BROKEN
    assert denied(broken) == [("x86_64", "clone3", "EPERM")]
    assert "can't start new thread" in (broken.reason or "")
    mended = ran(["threads"], profile(tmp_path, "SCMP_ACT_ALLOW", {**rule, "errnoRet": 38}))
    assert mended["threads"].outcome is WorkloadOutcome.WORKS


RING = """
import ctypes
ring = ctypes.CDLL(None, use_errno=True).syscall(425, 4, ctypes.create_string_buffer(120))
print("goes on" if ring >= 0 or ctypes.get_errno() == 38 else "gives up")
"""


def test_io_uring_denied_with_a_kill_breaks_who_asks_for_it_and_enosys_does_not(tmp_path) -> None:
    text = "command = ['python3', '-I', '-S', 'ring.py']\nstdout = \"goes on\\n\"\n"
    ring = own(tmp_path, f"{text}[files]\n'ring.py' = '''{RING}'''")
    names = ["io_uring_setup", "io_uring_enter", "io_uring_register"]
    rule = {"names": names, "action": "SCMP_ACT_KILL_PROCESS"}
    (broken,) = ran([ring], profile(tmp_path, "SCMP_ACT_ALLOW", rule)).values()
    assert broken.outcome is WorkloadOutcome.BROKEN
    assert denied(broken) == [("x86_64", "io_uring_setup", "SIGSYS (killed)")]
    rule = {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    (mended,) = ran([ring], profile(tmp_path, "SCMP_ACT_ALLOW", rule)).values()
    assert mended.outcome is WorkloadOutcome.WORKS, mended.reason


def test_a_profile_without_socketcall_breaks_a_32_bit_program(tmp_path) -> None:
    rule = {"names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    found = ran(["socketcall", "dns"], profile(tmp_path, "SCMP_ACT_ALLOW", rule))
    assert denied(found["socketcall"]) == [("i386", "socketcall", "EPERM")]
    assert found["dns"].outcome is WorkloadOutcome.WORKS


def test_a_profile_without_seccomp_breaks_a_program_that_filters_itself(tmp_path) -> None:
    rule = {"names": ["seccomp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    path = profile(tmp_path, "SCMP_ACT_ALLOW", rule)
    (broken,) = ran(["self-filter"], path).values()
    assert broken.outcome is WorkloadOutcome.BROKEN
    assert denied(broken) == [("x86_64", "seccomp", "EPERM")]
    rule["errnoRet"] = 38  # then it falls back to prctl
    (mended,) = ran(["self-filter"], profile(tmp_path, "SCMP_ACT_ALLOW", rule)).values()
    assert mended.outcome is WorkloadOutcome.WORKS


def test_nothing_is_started_under_a_filter_that_a_program_puts_on_itself() -> None:
    with pytest.raises(InputError, match="no workload is started under it"):
        ran(["threads"], LIBRARY / "elasticsearch-self.json")


def test_every_call_that_an_allowlist_lacks_is_named_and_no_other(tmp_path) -> None:
    rule = {"names": ["mkdir", "rename", "sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    found = ran(["tar"], profile(tmp_path, "SCMP_ACT_ALLOW", rule))["tar"]
    assert denied(found) == [("x86_64", "mkdir", "EPERM")]


# ------------------------------------------------------------------ programs that misbehave


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("command = ['no-such-program']", "not installed: no-such-program"),
        ("command = ['true']\nneeds = ['no-such-tool']", "not installed: no-such-tool"),
        ("command = ['sh', '-c', 'exit 3']", "it exited with 3"),
        ('command = ["sh", "-c", "echo a; echo b"]\nstdout = "a\\nc\\n"', "'b' instead of 'c'"),
        ("command = ['sleep', '60']\ndeadline = 0.3", "it did not end in time"),
        ("command = ['sh', '-c', 'kill -SEGV $$']", "it was killed by SIGSEGV"),
        ("command = ['sh', '-c', 'yes | head -c 1G']", "more than 32 MiB to one file"),
        (
            "command = ['sh', '-c', 'for i in a b c; do head -c 30M /dev/zero >$i || exit; done']",
            "it filled the 64 MiB of its disk",
        ),
        (
            f"{SLOW}deadline = 0.3\n[service]\nready = 'false'\nrequest = 'true'",
            "it did not become ready in time",
        ),
        (
            f"{SLOW}deadline = 0.3\n[service]\nready = 'true'\nrequest = 'sleep 60'",
            "it did not answer in time",
        ),
        (
            "command = ['sh', '-c', 'sleep 60 &']\n[service]\nready = 'sleep 1'\nrequest = 'true'",
            "it ended before it was used",
        ),
        (
            "command = ['sh', '-c', 'trap \"\" TERM; touch on; while :; do sleep 1; done']\n"
            f"{USED}".replace("ready = 'true'", "ready = 'test -e on'"),
            "it did not end within 5 s of SIGTERM",
        ),
        (
            "command = ['sleep', '60']\n[service]\nready = 'true'\nrequest = 'echo no; exit 1'",
            "the request failed: no",
        ),
        (
            f"{SLOW}[service]\nready = 'true'\nrequest = 'echo 1'\nanswer = \"2\\n\"",
            "it answered '1' instead of '2'",
        ),
    ],
)
def test_what_does_not_work_anyway_is_bounded_and_explained(tmp_path, text: str, said: str) -> None:
    (record,) = ran([own(tmp_path, text)]).values()
    assert record.outcome is WorkloadOutcome.UNAVAILABLE
    assert said in (record.reason or "")


def test_a_program_that_fails_by_chance_is_never_called_broken(tmp_path) -> None:
    text = "command = ['sh', '-c', 'test $(od -An -N1 -tu1 /dev/urandom) -lt 128']"
    path = profile(tmp_path, "SCMP_ACT_ALLOW")
    found = [one for _ in range(12) for one in ran([own(tmp_path, text)], path).values()]
    outcomes = {one.outcome for one in found}
    assert outcomes <= {
        WorkloadOutcome.WORKS,
        WorkloadOutcome.UNSTABLE,
        WorkloadOutcome.UNAVAILABLE,
    }


def test_workloads_see_neither_each_other_nor_the_host(tmp_path) -> None:
    """One port, one SysV key, one file name: two services that would meet in one namespace."""
    script = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 6000)); "
        "open('mine', 'x'); time.sleep(60)"
    )
    text = (
        f'command = ["python3", "-I", "-c", "{script}"]\n[service]\n'
        "ready = 'test -e mine'\nrequest = 'test ! -e /root && ls'\nanswer = \"mine\\n\"\n"
    )
    names = []
    for name in ("first", "second", "third"):
        (tmp_path / f"{name}.toml").write_text(f"title = '{name}'\n{text}")
        names.append(str(tmp_path / f"{name}.toml"))
    found = ran(names)
    assert {one.outcome for one in found.values()} == {WorkloadOutcome.WORKS}, found


def test_no_process_stays_behind(tmp_path) -> None:
    marker = "86417"
    text = f"command = ['sh', '-c', 'sleep {marker} & setsid sleep {marker} & exit 0']"
    ran([own(tmp_path, text)])
    assert marker.encode() not in b"".join(_command_lines())


# ------------------------------------------------------------------ the command


COMMAND = [sys.executable, "-c", "from evaluator.cli import main; main()"]


def sidestep(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_says_what_is_broken_and_fails(tmp_path) -> None:
    rule = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    path = str(profile(tmp_path, "SCMP_ACT_ALLOW", rule))
    done = sidestep("workloads", "run", "threads", "static-entry", "--under", path)
    assert done.returncode == 1
    assert "clone3" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    done = sidestep("workloads", "run", "static-entry", "--under", path, "--json")
    assert done.returncode == 0
    (record,) = json.loads(done.stdout)["workloads"]
    assert record["outcome"] == "works"


def test_an_evaluation_runs_the_workloads_that_are_asked_for(tmp_path) -> None:
    rule = {"names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    path = str(profile(tmp_path, "SCMP_ACT_ALLOW", rule))
    done = sidestep(
        *("evaluate", path, "--family", "create-directory", "--workload", "socketcall", "--json")
    )
    (candidate,) = json.loads(done.stdout)["candidates"]
    assert [one["workload"] for one in candidate["workloads"]] == [
        *("static-entry", "shell-basics", "socketcall")
    ]
    assert candidate["utility"] == pytest.approx(2 / 3)


def test_ctrl_c_ends_at_once_and_leaves_nothing(tmp_path) -> None:
    path = own(tmp_path, "command = ['sleep', '86418']\ndeadline = 600")
    process = subprocess.Popen(
        [*COMMAND, "workloads", "check", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    for _ in range(200):
        if b"sleep\0" + b"86418" in b"".join(_command_lines()):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said.strip()) == (130, b"sidestep: interrupted")
    assert b"86418" not in b"".join(_command_lines())


def _command_lines() -> list[bytes]:
    found: list[bytes] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return found


def test_an_unknown_workload_is_one_line() -> None:
    done = sidestep("workloads", "run", "sqlit", "--under", "x.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sidestep: no workload 'sqlit'; did you mean sqlite or ")
    assert done.stderr.count("\n") == 1
    with pytest.raises(InputError):
        chosen(["sqlit"])
