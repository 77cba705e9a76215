"""A live process as a candidate: what is read of it, what cannot be, and that it is let go."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from evaluator import process
from evaluator.errors import EnvironmentLackError
from evaluator.sandbox import runner_path
from mitigations import classic
from mitigations.candidate import NoNewPrivsLayer, OwnPosture, ProfileError
from mitigations.classic import Action, Instruction

_STRICT = """
#include <sys/prctl.h>
#include <unistd.h>
int main(void)
{
	char one;
	prctl(PR_SET_SECCOMP, 1);
	return (int)read(0, &one, 1);
}
"""
_PTRACE_SEIZE = 0x4206
_MKDIR, _CHMOD = 83, 90
_LOADS = """
import ctypes, os, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
def load(program):
    code = ctypes.create_string_buffer(program, len(program))
    spec = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    if libc.prctl(22, 2, ctypes.create_string_buffer(spec), 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")
"""
_WAITS = """
print("ready", flush=True)
while True: time.sleep(60)
"""


def denying(number: int, errno_ret: int) -> bytes:
    return classic.pack(
        [
            Instruction(classic.LOAD_WORD, 0, 0, 0),
            Instruction(classic.JMP | classic.JEQ | classic.K, 0, 1, number),
            Instruction(classic.RETURN_K, 0, 0, Action.ERRNO | errno_ret),
            Instruction(classic.RETURN_K, 0, 0, Action.ALLOW),
        ]
    )


FILTERS = (denying(_MKDIR, 1), denying(_CHMOD, 13))


@contextmanager
def started(code: str) -> Generator[int]:
    """A Python that has done what the code says and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", _LOADS + code + _WAITS], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"ready\n"
            yield child.pid
        finally:
            child.kill()


def loads(*programs: bytes) -> str:
    return "".join(f"load({program!r})\n" for program in programs)


@pytest.fixture(autouse=True)
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("reading filters back needs root")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from evaluator.cli import main; main()", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def state(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def until(pid: int, field: str, start: str) -> None:
    """Waits for a process to be in a state; one that never comes is a failure."""
    deadline = time.monotonic() + 20
    while not state(pid)[field].startswith(start):
        assert time.monotonic() < deadline, state(pid)
        time.sleep(0.01)


def refused(pid: int) -> str:
    """In one line."""
    with pytest.raises((ProfileError, EnvironmentLackError)) as caught:
        process.read(pid)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_filters_are_read_oldest_first_and_the_process_goes_on() -> None:
    with started(loads(*FILTERS)) as pid:
        began = time.monotonic()
        found = process.read(pid)
        took = time.monotonic() - began
        after = state(pid)
    assert found.filters == FILTERS
    assert after["State"].startswith("S")
    assert after["TracerPid"] == "0"
    assert took < 2


def test_candidate_has_the_layers_that_are_in_force_and_the_powers_of_the_process() -> None:
    with started(loads(*FILTERS)) as pid:
        found = process.candidate(process.read(pid))
        mask = int(state(pid)["CapEff"], 16)
    assert isinstance(found.layers[0], NoNewPrivsLayer)
    assert [layer.program for layer in found.seccomp] == list(FILTERS)
    assert isinstance(found.posture, OwnPosture)
    assert found.posture.uid == 0
    assert len(found.posture.capabilities) == mask.bit_count()
    assert "Seccomp 2, 2 filters, NoNewPrivs 1" in found.notes[0]


def test_process_of_somebody_else_has_that_user() -> None:
    drop = "os.setgroups([]); os.setresgid(7, 7, 7); os.setresuid(4321, 4321, 4321)\n"
    with started(loads(FILTERS[0]) + drop) as pid:
        found = process.candidate(process.read(pid))
    assert isinstance(found.posture, OwnPosture)
    assert (found.posture.uid, found.posture.capabilities) == (4321, frozenset())


def test_user_is_that_of_its_own_user_namespace() -> None:
    # The namespace maps the machine's 4321 to its root.
    code = """
read, write = os.pipe()
middle, up = os.pipe()
child = os.fork()
if not child:
    os.setresgid(4321, 4321, 4321); os.setresuid(4321, 4321, 4321)
    libc.unshare(0x10000000)
    os.write(up, b"x"); os.read(read, 1)
"""
    code += "\n".join(f"    {line}" for line in loads(FILTERS[0]).splitlines())
    code += """
    print("ready", flush=True); time.sleep(600)
os.read(middle, 1)
open(f"/proc/{child}/uid_map", "w").write("0 4321 1")
os.write(write, b"x")
print(child, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", _LOADS + code + "time.sleep(600)"],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        said = {parent.stdout.readline().strip() for _ in range(2)}
        (child,) = (int(line) for line in said if line != "ready")
        try:
            found = process.candidate(process.read(child))
        finally:
            os.kill(child, signal.SIGKILL)
            parent.kill()
    assert isinstance(found.posture, OwnPosture)
    assert found.posture.uid == 0


def test_thread_without_the_filter_is_named() -> None:
    waits = "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    with started(waits + loads(FILTERS[0])) as pid:
        found = process.candidate(process.read(pid))
    assert [one.code for one in found.warnings] == ["threads-differ"]
    assert "is under 0" in found.warnings[0].message
    assert found.assumes == {"unfiltered-thread"}


_THREAD = """
def other():
{indented}
    seen.set(); time.sleep(600)
seen = threading.Event()
threading.Thread(target=other, daemon=True).start()
seen.wait()
"""


def thread(code: str) -> str:
    """One that does what the code says, before the first goes on."""
    return _THREAD.format(indented="\n".join(f"    {one}" for one in code.splitlines()))


@pytest.mark.parametrize(
    ("of_thread", "differs", "is_weaker"),
    [
        (FILTERS[1:], True, True),  # as many, and others
        (FILTERS[:1], False, False),
        (FILTERS, True, False),  # all of the first, and one more
    ],
)
def test_filters_of_threads_are_compared(
    of_thread: tuple[bytes, ...], differs: bool, is_weaker: bool
) -> None:
    with started(thread(loads(*of_thread)) + loads(FILTERS[0])) as pid:
        found = process.candidate(process.read(pid))
    assert [one.code for one in found.warnings] == ["threads-differ"] * differs
    assert found.assumes == (frozenset({"unfiltered-thread"}) if is_weaker else frozenset())


_CAPSET = """
head = struct.pack("<Ii", 0x20080522, 0)
sets = ctypes.create_string_buffer(24)
libc.syscall(125, head, sets)
for place in (0, 12):
    struct.pack_into("<I", sets, place, 0)
"""


@pytest.mark.parametrize(
    "gives_up",
    [
        _CAPSET + "assert not libc.syscall(126, head, sets)\n",  # effective ones alone
        "os.setresuid(1000, 1000, 0)\n",
        "assert not libc.syscall(117, 1000, 1000, 1000)\n",  # one thread of two
    ],
)
def test_what_may_be_regained_is_in_both_arms(gives_up: str) -> None:
    """Permitted capabilities, the saved user, those of another thread."""
    beside = thread("pass")
    with started(loads(FILTERS[0]) + beside + gives_up) as pid:
        mask = int(state(pid)["CapEff"], 16)
        found = process.candidate(process.read(pid))
        whole = int(Path("/proc/self/status").read_text().partition("CapPrm:")[2].split()[0], 16)
    assert mask == 0
    assert isinstance(found.posture, OwnPosture)
    assert (found.posture.uid, len(found.posture.capabilities)) == (0, whole.bit_count())
    assert "may-regain" in [one.code for one in found.warnings]


def test_stopped_process_stays_stopped() -> None:
    with started(loads(FILTERS[0])) as pid:
        os.kill(pid, signal.SIGSTOP)
        until(pid, "State", "T")
        assert process.read(pid).filters == FILTERS[:1]
        assert state(pid)["State"].startswith("T (stopped)")


def test_reader_that_is_killed_lets_the_process_go() -> None:
    """The runner's output is a full pipe: it waits there with the process stopped."""
    many = loads(*(denying(_MKDIR, 1) for _ in range(40)))
    with started(many) as pid:
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        with suppress(BlockingIOError):
            while os.write(write_end, b"x" * 4096):
                pass
        os.set_blocking(write_end, True)
        reader = subprocess.Popen([runner_path(), "readback", str(pid)], stdout=write_end)
        until(pid, "State", "t")
        reader.send_signal(signal.SIGINT)
        reader.wait(10)
        os.close(read_end)
        os.close(write_end)
        assert state(pid)["TracerPid"] == "0"
        assert not state(pid)["State"].startswith(("t", "T"))


def test_process_without_filter_is_one_line() -> None:
    with started("") as pid:
        assert "it is under no seccomp filter" in refused(pid)


def test_strict_mode_is_one_line(tmp_path: Path) -> None:
    source = tmp_path / "strict.c"
    source.write_text(_STRICT)
    subprocess.run(["cc", "-o", tmp_path / "strict", source], check=True)
    with subprocess.Popen([tmp_path / "strict"], stdin=subprocess.PIPE) as child:
        until(child.pid, "Seccomp", "1")
        assert "strict mode" in refused(child.pid)
        child.kill()


def test_zombie_and_what_is_gone_are_one_line() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        until(child.pid, "State", "Z")
        assert "zombie" in refused(child.pid)
        child.wait()
    assert "no such process" in refused(child.pid)


def test_ourselves_and_threads_are_one_line() -> None:
    assert "sidestep itself" in refused(os.getpid())
    waits = "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    with started(waits + loads(FILTERS[0])) as pid:
        (thread,) = {int(one.name) for one in Path(f"/proc/{pid}/task").iterdir()} - {pid}
        assert f"a thread of process {pid}" in refused(thread)


def test_what_somebody_traces_already_is_one_line() -> None:
    trace = ctypes.CDLL(None).ptrace
    trace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    with started(loads(FILTERS[0])) as pid:
        assert trace(_PTRACE_SEIZE, pid, None, None) == 0
        assert f"process {os.getpid()} traces it already" in refused(pid)


def test_only_root_may_look(monkeypatch: pytest.MonkeyPatch) -> None:
    with started(loads(FILTERS[0])) as pid:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert "needs root" in refused(pid)


def test_kernel_threads_are_one_line() -> None:
    """They are to be seen in the first pid namespace alone."""
    for pid in (int(one.name) for one in Path("/proc").glob("[0-9]*")):
        with suppress(OSError):
            if not Path(f"/proc/{pid}/cmdline").read_bytes() and state(pid)["PPid"] == "2":
                assert "a kernel thread" in refused(pid)
                break


def test_command_says_what_gets_through_in_a_process() -> None:
    with started(loads(FILTERS[0])) as pid:
        done = run("evaluate", "--pid", str(pid), "--family", "create-directory", "--json")
        (found,) = json.loads(done.stdout)["candidates"]
        listed = run("explain", f"pid:{pid}")
    assert found["name"] == f"pid:{pid}"
    assert found["ground_truth"]["read_back"] == "identical"
    assert found["families"][0]["verdict"] == "leaky"
    assert done.returncode == 1
    assert listed.stdout.splitlines()[0] == "# filter 1 of 1"
    assert "return ERRNO(EPERM)" in listed.stdout


def test_command_says_why_a_process_cannot_be_evaluated() -> None:
    with started("") as pid:
        done = run("evaluate", "--pid", str(pid), "--simulate")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"sidestep: pid:{pid}: ")
