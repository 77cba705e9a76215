"""Recording real programs: what they call, how they end, and that nothing of them is left."""

import ctypes
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluator.errors import InputError
from evaluator.record import CUT_OFF, GRACE_S, MOST_OUTPUT, record
from evaluator.recorded_profile import document, profile_of
from evaluator.recording import Recording, recording
from evaluator.verified_recording import verify

PYTHON = sys.executable
SIDESTEP = [PYTHON, "-c", "from evaluator.cli import main; main()"]
TIMEOUT_S = 30.0


def elf(code: str) -> bytes:
    """A static 64-bit program of these bytes, which is all that runs."""
    text = bytes.fromhex(code)
    base, size = 0x400000, 64 + 56
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + size, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    total = size + len(text)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, total, total, 4096)
    return ident + header + segment + text


def program(tmp_path: Path, code: str) -> str:
    path = tmp_path / "program"
    path.write_bytes(elf(code))
    path.chmod(0o755)
    return str(path)


def seen(*command: str, timeout_s: float = TIMEOUT_S) -> Recording:
    return record(command, timeout_s)


def python(source: str, *arguments: str, timeout_s: float = TIMEOUT_S) -> Recording:
    return seen(PYTHON, "-c", source, *arguments, timeout_s=timeout_s)


def processes(mark: str) -> list[int]:
    """Who has this word in its command line."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if mark.encode() in line and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


# --- what is seen --------------------------------------------------------------------------------


def test_a_program_of_three_calls_is_recorded_exactly(tmp_path: Path) -> None:
    # getpid natively; getpid and exit(0) through int 0x80
    code = "b827000000 0f05 b814000000 cd80 31db b801000000 cd80"
    found = seen(program(tmp_path, code))
    assert found.calls("x86_64") == {"execve", "getpid"}
    assert found.calls("i386") == {"getpid", "exit"}
    assert found.calls("x32") == frozenset()
    assert found.ends == ("exited with 0",)
    assert found.notes == ()


def test_a_call_through_x32_and_one_without_a_name(tmp_path: Path) -> None:
    # x32's getpid, call 5000, exit_group(7)
    code = "b827000040 0f05 b888130000 0f05 bf07000000 b8e7000000 0f05"
    found = seen(program(tmp_path, code))
    assert found.calls("x32") == {"getpid"}
    assert found.calls("x86_64") == {"execve", "5000", "exit_group"}
    assert found.ends == ("exited with 7",)


def test_all_processes_of_a_shell() -> None:
    found = seen("/bin/sh", "-c", "ls / | head -n 1 > /dev/null; exit 3")
    assert {"execve", "getdents64", "wait4", "dup2"} <= found.calls("x86_64")
    assert found.ends == ("exited with 3",)
    (clone,) = {one.args[0] for one in found.uses if one.call == "clone"}
    assert clone is not None
    assert clone & 0xFF == signal.SIGCHLD


def test_what_a_thread_calls() -> None:
    found = python(
        "import os, threading\nt = threading.Thread(target=os.getresuid)\nt.start()\nt.join()"
    )
    assert "getresuid" in found.calls("x86_64")


def test_the_arguments_that_a_rule_could_use() -> None:
    found = python(
        "import socket, fcntl, ctypes\n"
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)\n"
        "fcntl.fcntl(0, 1)\n"
        "ctypes.CDLL(None).prctl(15, b'x', 0, 0, 0)\n"
    )
    args = {(one.call, *one.args[:3]) for one in found.uses}
    assert ("socket", 16, 3 | 0o2000000, 4) in args
    assert ("fcntl", None, 1, None) in args
    assert ("prctl", 15, None, None) in args


def test_too_many_values_of_an_argument_are_any() -> None:
    found = python(
        "import fcntl\n"
        "for n in range(2000, 2200):\n"
        "    try: fcntl.fcntl(0, n)\n"
        "    except OSError: pass\n"
    )
    commands = [one.args[1] for one in found.uses if one.call == "fcntl"]
    assert None in commands
    assert len(commands) <= 65


def test_the_command_gets_no_descriptor_of_ours() -> None:
    assert python("import os, sys; sys.exit(len(os.listdir('/proc/self/fd')))").ends == (
        "exited with 4",
    )


def test_signals_do_not_keep_a_call_from_ever_coming_through() -> None:
    found = python(
        "import os, signal\n"
        "signal.signal(signal.SIGALRM, lambda *_: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)\n"
        "for _ in range(2000): os.getppid()\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
    )
    assert found.ends == ("exited with 0",)
    assert "rt_sigreturn" in found.calls("x86_64")


# --- a filter of its own -------------------------------------------------------------------------

OWN_FILTER = """
import ctypes, os, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
class Program(ctypes.Structure):
    _fields_ = [("n", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
rows = ctypes.create_string_buffer(struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000))
program = ctypes.byref(Program(1, ctypes.addressof(rows)))
go = threading.Event()
thread = threading.Thread(target=go.wait)
thread.start()
os.getpgid(0)
libc.prctl(38, 1, 0, 0, 0)
assert libc.syscall(317, 1, int(sys.argv[1]), program) == int(sys.argv[2])
os.getsid(0)
go.set()
thread.join()
"""


def test_calls_before_a_filter_of_its_own_and_threads_without_it() -> None:
    found = python(OWN_FILTER, "0", "0")
    assert found.ends == ("exited with 0",)
    phase = {one.call: one.before_own_filter for one in found.uses}
    assert phase["getpgid"]
    assert not phase["getsid"]
    (note,) = found.notes
    assert "a filter of its own; 1 of its 2 threads were left without it" in note


def test_a_filter_of_its_own_for_all_threads() -> None:
    found = python(OWN_FILTER, "1", "0")
    (note,) = found.notes
    assert note.endswith("puts on a filter of its own")


def test_a_listener_of_its_own_is_refused_by_the_kernel_and_that_is_said() -> None:
    found = python(OWN_FILTER, "8", "-1")
    assert found.ends == ("exited with 0",)
    assert "EBUSY" in found.notes[0]
    assert not any(one.before_own_filter for one in found.uses)


def test_strict_mode_is_refused_by_the_kernel_and_that_is_said() -> None:
    found = python("import ctypes, sys; sys.exit(ctypes.CDLL(None).prctl(22, 1, 0, 0, 0) + 1)")
    assert found.ends == ("exited with 0",)
    assert "strict mode" in found.notes[0]


# --- commands that make trouble ------------------------------------------------------------------


def test_a_command_that_is_missing() -> None:
    with pytest.raises(InputError, match="no-such-command: command not found"):
        seen("no-such-command")
    with pytest.raises(InputError, match="/no/such: cannot be executed: No such file"):
        seen("/no/such")
    with pytest.raises(InputError, match="/etc/passwd: cannot be executed: Permission denied"):
        seen("/etc/passwd")


def test_a_command_that_was_cut_off_may_end_well_under_its_profile() -> None:
    source = "import os\nfor _ in range(200000): os.getppid()"
    command = [PYTHON, "-I", "-S", "-c", source]
    recorded = record(command, 0.5)
    assert recorded.ends == (CUT_OFF,)
    found = verify(command, profile_of(recorded).profile, "runc-1.1", CUT_OFF, 60.0)
    assert found.works


def test_a_command_that_never_ends() -> None:
    begin = time.monotonic()
    found = seen("sleep", "98761", timeout_s=0.5)
    assert time.monotonic() - begin < 0.5 + GRACE_S + 2
    assert found.ends == ("was still running when its time was up",)
    assert not processes("98761")


def test_a_command_that_ignores_sigterm() -> None:
    source = "import signal, time; signal.signal(15, signal.SIG_IGN)\nwhile True: time.sleep(98762)"
    found = python(source, timeout_s=0.5)
    assert "it did not end on SIGTERM and was killed" in found.notes
    assert not processes("98762")


def test_a_command_that_forks_away() -> None:
    source = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "time.sleep(98763)\n"
    )
    found = python(source)
    assert found.ends == ("exited with 0",)
    assert any("outlived it" in note for note in found.notes)
    assert "setsid" in found.calls("x86_64")
    assert not processes("98763")


def test_a_command_that_never_stops_forking() -> None:
    source = "import os\nmark = 98764\nwhile True:\n os.fork() or os._exit(0)\n"
    found = python(source, timeout_s=0.3)
    assert found.ends == ("was still running when its time was up",)
    assert not processes("98764")


def test_a_command_that_prints_much(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    found = seen("head", "-c", "100000000", "/dev/zero")
    assert found.ends == ("exited with 0",)
    shown = capfdbinary.readouterr().err
    assert len(shown) < MOST_OUTPUT + 200
    assert b"more bytes of its output are not shown" in shown


def ctrl_c(number: int) -> tuple[int, str, str]:
    process = subprocess.Popen(
        [*SIDESTEP, "record", "--", "/bin/sh", "-c", "echo started; sleep 98765"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "started\n"
    process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    return process.returncode, output, errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_interrupts_keeps_what_was_seen(number: int, code: int) -> None:
    returned, output, errors = ctrl_c(number)
    assert returned == code, errors
    assert "interrupted: what was seen until now is kept" in errors
    assert "write" in json.loads(output)["syscalls"][0]["names"]
    assert not processes("98765")


def test_nothing_is_left_when_we_are_killed() -> None:
    returned, _, _ = ctrl_c(signal.SIGKILL)
    assert returned == -signal.SIGKILL
    end = time.monotonic() + 5
    while processes("98765") and time.monotonic() < end:
        time.sleep(0.05)
    assert not processes("98765")


# --- the profile ---------------------------------------------------------------------------------


def test_a_profile_that_lacks_a_call_is_not_verified(tmp_path: Path) -> None:
    command = ("/bin/mkdir", str(tmp_path / "new"))
    whole = seen(*command)
    (tmp_path / "new").rmdir()
    lacking = recording(command, [one for one in whole.uses if one.call != "mkdir"])
    verified = verify(command, profile_of(lacking).profile, "runc-1.1", whole.ends[0], TIMEOUT_S)
    assert not verified.works
    assert verified.end == "exited with 1"
    assert verified.denied[0] == "mkdir -> EPERM"


def test_a_32_bit_program_works_under_its_profile_alone(tmp_path: Path) -> None:
    command = (program(tmp_path, "b814000000 cd80 31db b801000000 cd80"),)
    found = seen(*command)
    native = recording(command, [one for one in found.uses if one.abi == "x86_64"])
    assert verify(command, profile_of(found).profile, "runc-1.1", found.ends[0], 5).works
    broken = verify(command, profile_of(native).profile, "runc-1.1", found.ends[0], 5)
    assert broken.end == "was killed by SIGSYS"
    assert broken.denied[0] == "i386:getpid -> EPERM"


# --- the command ---------------------------------------------------------------------------------


def command(*arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SIDESTEP, "record", *arguments], capture_output=True, text=True, stdin=stdin, check=False
    )


def test_the_profile_goes_to_stdout_and_all_else_to_stderr() -> None:
    done = command("--runs", "2", "--", "/bin/echo", "hello")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["defaultAction"] == "SCMP_ACT_ERRNO"
    assert done.stderr.count("hello\n") == 3  # two runs, and one to verify
    assert "verified: it exited with 0 under the profile" in done.stderr
    assert max(map(len, done.stderr.splitlines())) <= 80


def test_the_profile_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    done = command("--no-verify", "-o", str(path), "--runtime-needs", "none", "--", "/bin/true")
    assert done.returncode == 0, done.stderr
    assert json.loads(path.read_text())["defaultErrnoRet"] == 1
    assert f"written to {path}" in " ".join(done.stdout.split())


def test_one_json_object() -> None:
    done = command("--json", "--", "/bin/true")
    found = json.loads(done.stdout)
    assert found["verified"] == {
        "works": True, "end": "exited with 0", "expected": "exited with 0", "denied": [],
    }  # fmt: skip
    assert found["recording"]["command"] == ["/bin/true"]
    assert found["profile"]["syscalls"]
    assert {one["abi"] for one in found["recording"]["uses"]} == {"x86_64"}


@pytest.mark.slow
def test_the_profile_is_evaluated_where_that_is_asked_for(tmp_path: Path) -> None:
    path = str(tmp_path / "true.json")
    done = command("--evaluate", "-o", path, "--", "/bin/true")
    assert done.returncode == 0, done.stderr
    assert f"written to {path}" in " ".join(done.stdout.split())
    assert "starts: yes (loads, runtime, static, dynamic)" in done.stdout


def test_a_file_on_stdin_is_the_commands_in_every_run(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("text\n")
    with (tmp_path / "in").open() as file:
        done = command("--runs", "2", "--", "/bin/cat", stdin=file.fileno())
    assert done.stderr.count("text\n") == 3


def test_somebody_elses_recording_needs_no_command(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('execve("/bin/a", ["a"], 0x7f) = 0\nexit_group(0) = ?\n')
    done = command("--read", str(tmp_path / "log"))
    assert done.returncode == 0, done.stderr
    assert "execve" in json.loads(done.stdout)["syscalls"][0]["names"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to record"),
        (("--", "no-such-command"), "no-such-command: command not found on PATH"),
        (("--read", "/no/such"), "/no/such"),
        (("-o", "/no/such/file", "--", "true"), "/no/such is not a directory"),
        (("-o", "/", "--", "true"), "/ is no file"),
        (("--evaluate", "--", "true"), "--evaluate"),
        (("--timeout", "nan", "--", "true"), "nan"),
        (("--", ""), "no command"),
    ],
)
def test_wrong_input_is_one_line(arguments: Sequence[str], said: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert said in line


def give_up_cap_sys_admin() -> None:
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 21, 0, 0, 0)  # PR_CAPBSET_DROP: gone with the next exec


def test_without_privileges_it_is_recorded_with_no_new_privs() -> None:
    source = "from evaluator.record import record\nprint(record(('/bin/true',), 5).notes)"
    done = subprocess.run(
        [PYTHON, "-c", source], preexec_fn=give_up_cap_sys_admin, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "no_new_privs" in done.stdout, done.stderr


def test_the_document_needs_no_value_that_says_nothing(tmp_path: Path) -> None:
    found = document(profile_of(seen("/bin/true")).profile)
    assert "flags" not in found
    assert found["architectures"] == ["SCMP_ARCH_X86_64"]
