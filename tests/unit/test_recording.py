"""Recordings merged, made into profiles, and read from what others recorded."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator import read_recording
from evaluator.errors import InputError
from evaluator.kept_arguments import KEPT, NO_ARGUMENTS, kept, value_of, value_text
from evaluator.recorded_profile import COMPANIONS, document, models, profile_of, runtime_uses
from evaluator.recording import Recording, Use, merge, recording, title
from mitigations import x86_64
from mitigations.bpf import Filter
from mitigations.rules import Profile
from mitigations.runtimes import compile_profile, find_model

CLONE_NEWUSER, CLONE_NEWNET, SIGCHLD = 0x10000000, 0x40000000, 17
ENOSYS, EPERM = 38, 1


def use(name: str, *args: int, abi: str = "x86_64", before: bool = False) -> Use:
    six = (*args, *(0,) * (6 - len(args)))
    return Use(abi, name, kept(abi, name, six), 1, before)


def seen(*uses: Use) -> Recording:
    return recording(("program",), uses)


def answer(profile: Profile, name: str, *args: int, abi: str = "x86_64") -> str:
    layer = compile_profile(profile, find_model("runc-1.1"))
    number = x86_64.number(abi, name)
    assert number is not None
    six = [*args, *[0] * (6 - len(args))]
    return Filter.decode(layer.program).decide(x86_64.arch(abi), number, six).text


# --- recordings ----------------------------------------------------------------------------------


def test_the_calls_of_an_abi() -> None:
    found = seen(use("open"), use("open", abi="i386"), use("read", abi="i386"))
    assert found.calls("x86_64") == {"open"}
    assert found.calls("i386") == {"open", "read"}
    assert found.calls("x32") == frozenset()
    assert found.abis == ("x86_64", "i386")


def test_merging_counts_the_runs_of_each_use_and_of_each_call() -> None:
    first = seen(use("openat", 0, 0, 0o2), use("read"))
    second = seen(use("openat", 0, 0, 0o1), use("read"))
    both = merge([first, second])
    assert both.runs == 2
    assert {(one.call, one.runs) for one in both.uses} == {("openat", 1), ("read", 2)}
    assert both.appearances == {"openat": 2, "read": 2}
    assert both.only_once() == ()


def test_what_not_every_run_had() -> None:
    both = merge([seen(use("read")), seen(use("read"), use("futex", 0, 0x80))])
    assert [one.call for one in both.only_once()] == ["futex"]


def test_a_use_before_the_own_filter_is_another_one() -> None:
    found = seen(use("read", before=True), use("read"), use("read"))
    assert len(found.uses) == 2
    assert title(use("read", abi="i386")) == "i386:read"


CALLS = st.sampled_from(["read", "openat", "socket", "ioctl", "clone"])
RUNS = st.lists(
    st.builds(
        lambda uses: seen(*uses),
        st.lists(st.builds(use, CALLS, st.integers(0, 3), st.integers(0, 3)), max_size=6),
    ),
    min_size=1,
    max_size=5,
)


@given(RUNS)
def test_merging_loses_nothing_and_invents_nothing(runs: list[Recording]) -> None:
    merged = merge(runs)
    assert {(one.call, one.args) for one in merged.uses} == {
        (one.call, one.args) for run in runs for one in run.uses
    }
    for one in merged.uses:
        assert one.runs == sum(
            one.call == u.call and one.args == u.args for r in runs for u in r.uses
        )


@given(RUNS)
def test_merging_in_steps_is_merging_at_once(runs: list[Recording]) -> None:
    stepwise = runs[0]
    for run in runs[1:]:
        stepwise = merge([stepwise, run])
    assert merge([stepwise]) == merge(runs)


# --- arguments -----------------------------------------------------------------------------------


def test_every_kept_argument_is_of_a_call_that_exists() -> None:
    for one in KEPT:
        assert any(one.on(abi) for abi in x86_64.NUMBERS), one.call
        assert all(0 <= index < 6 for index in one.indices)


def test_addresses_and_descriptors_are_not_kept() -> None:
    assert kept("x86_64", "openat", (3, 0x7F00, 0o2, 0o644, 0, 0)) == (
        None, None, 2, None, None, None,
    )  # fmt: skip
    assert kept("x86_64", "read", (1, 2, 3, 4, 5, 6)) == NO_ARGUMENTS
    assert kept("i386", "mmap", (1, 2, 3, 4, 5, 6)) == NO_ARGUMENTS  # its arguments are in memory


def test_prctl_keeps_its_second_argument_where_that_is_a_mode() -> None:
    assert kept("x86_64", "prctl", (22, 2, 0x7F00, 0, 0, 0))[:2] == (22, 2)
    assert kept("x86_64", "prctl", (15, 0x7F00, 0, 0, 0, 0))[:2] == (15, None)


@pytest.mark.parametrize(
    ("call", "value", "text"),
    [
        ("socket", 2, "AF_INET"),
        ("socket", 999, "999"),
        ("clone", 0x100 | 17, "CLONE_VM|SIGCHLD"),
        ("unshare", CLONE_NEWUSER, "CLONE_NEWUSER"),
        ("clone", 0, "0"),
        ("ioctl", 7, "7"),
        ("ioctl", 0x5401, "0x5401"),
    ],
)
def test_a_value_in_words(call: str, value: int, text: str) -> None:
    assert value_text(call, 0, value) == text
    if not text.isdigit():
        assert value_of(call, 0, text) == value


# --- profiles ------------------------------------------------------------------------------------


def test_what_was_not_seen_is_denied() -> None:
    profile = profile_of(seen(use("read"), use("execve"))).profile
    assert answer(profile, "read") == "ALLOW"
    assert answer(profile, "ptrace") == "ERRNO(EPERM)"
    assert answer(profile, "clone3") == "ERRNO(ENOSYS)"
    assert answer(profile, "read", abi="i386").startswith("KILL")


def test_what_comes_by_chance_is_allowed() -> None:
    profile = profile_of(seen(use("execve"))).profile
    for name in COMPANIONS:
        if x86_64.number("x86_64", name) is not None:
            assert answer(profile, name) == "ALLOW", name


def test_sockets_by_their_family() -> None:
    profile = profile_of(seen(use("socket", 1, 1), use("socket", 2, 1))).profile
    assert [answer(profile, "socket", family) for family in (1, 2, 16, 38)] == [
        "ALLOW", "ALLOW", "ERRNO(EPERM)", "ERRNO(EPERM)",
    ]  # fmt: skip


def test_a_family_that_is_not_known_opens_all() -> None:
    profile = profile_of(
        seen(use("socket", 1, 1), Use("x86_64", "socket", NO_ARGUMENTS, 1))
    ).profile
    assert answer(profile, "socket", 38) == "ALLOW"


def test_clone_without_the_namespaces_that_were_not_seen() -> None:
    profile = profile_of(seen(use("clone", CLONE_NEWNET | SIGCHLD), use("clone", SIGCHLD))).profile
    assert answer(profile, "clone", SIGCHLD) == "ALLOW"
    assert answer(profile, "clone", CLONE_NEWNET | SIGCHLD) == "ALLOW"
    assert answer(profile, "clone", CLONE_NEWUSER | SIGCHLD) == "ERRNO(EPERM)"


def test_clone3_is_allowed_where_it_was_called_and_that_is_said() -> None:
    made = profile_of(seen(use("clone3")))
    assert answer(made.profile, "clone3") == "ALLOW"
    assert any("clone3" in note for note in made.notes)


def test_commands_only_where_asked_for() -> None:
    found = seen(use("ioctl", 0, 0x5401), use("prctl", 15))
    assert answer(profile_of(found).profile, "ioctl", 0, 0x5412) == "ALLOW"
    strict = profile_of(found, arguments=True).profile
    assert answer(strict, "ioctl", 0, 0x5401) == "ALLOW"
    assert answer(strict, "ioctl", 0, 0x5412) == "ERRNO(EPERM)"
    assert answer(strict, "prctl", 22) == "ERRNO(EPERM)"


def test_too_many_values_are_any() -> None:
    found = seen(*(use("ioctl", 0, 0x5400 + n) for n in range(40)))
    assert answer(profile_of(found, arguments=True).profile, "ioctl", 0, 1) == "ALLOW"


def test_architectures_are_those_that_were_seen() -> None:
    made = profile_of(seen(use("execve"), use("open", abi="i386")))
    assert made.profile.architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")
    assert answer(made.profile, "open", abi="i386") == "ALLOW"
    assert answer(made.profile, "futex_time64", abi="i386") == "ALLOW"
    assert any("i386" in note for note in made.notes)


def test_a_number_without_a_name_is_said() -> None:
    made = profile_of(seen(use("execve"), Use("x86_64", "5000", NO_ARGUMENTS, 1)))
    assert any("5000" in note for note in made.notes)


@pytest.mark.parametrize("model", models())
def test_the_needs_of_a_runtime(model: str) -> None:
    found = seen(use("execve"))
    minimal, whole = profile_of(found).profile, profile_of(found, runtime=model).profile
    needed = {one.call for one in runtime_uses(model)}
    assert "capset" in needed
    assert answer(minimal, "capset") == "ERRNO(EPERM)"
    assert {name for name in needed if answer(whole, name) == "ALLOW"} == needed


def test_the_document_is_a_profile_that_can_be_read_back(tmp_path: Path) -> None:
    from mitigations.candidate import Candidate
    from mitigations.load import load

    made = profile_of(seen(use("execve"), use("socket", 1), use("clone", SIGCHLD)))
    path = tmp_path / "recorded.json"
    path.write_text(json.dumps(document(made.profile)))
    (found,) = load(path)
    assert isinstance(found, Candidate)
    assert found.profile is not None
    assert found.seccomp[0] == compile_profile(made.profile, find_model("runc-1.1"))
    assert found.profile.rules == made.profile.rules  # and each rule says where it stands


# --- what others recorded ------------------------------------------------------------------------


def read(tmp_path: Path, text: str, form: read_recording.Form = "auto") -> Recording:
    path = tmp_path / "log"
    path.write_text(text)
    return read_recording.read(str(path), form)


AUDIT = """\
type=SECCOMP msg=audit(1700000000.100:1): auid=4294967295 uid=0 gid=0 ses=1 pid=7 comm="a" \
exe="/bin/a" sig=0 arch=c000003e syscall=257 compat=0 ip=0x7f code=0x7ffc0000\x1dARCH=x86_64 \
SYSCALL=openat
Nov  1 10:00:00 host kernel: [ 1.0] audit: type=1326 audit(1700000000.200:2): auid=0 uid=0 gid=0 \
ses=1 pid=8 comm="b" exe="/bin/b" sig=0 arch=40000003 syscall=102 compat=1 ip=0xf7 code=0x7ffc0000
type=SECCOMP msg=audit(1700000000.300:3): pid=9 comm="c" exe="/bin/c" sig=0 arch=c000003e \
syscall=3 compat=0 ip=0x7f code=0x7ffc0000AUID="unset" ARCH=x86_64 SYSCALL=close
type=SYSCALL msg=audit(1700000000.400:4): arch=c000003e syscall=41 success=yes exit=3 a0=10 a1=3 \
a2=0 a3=7ffd items=0 ppid=1 pid=9 comm="c" exe="/bin/c"
type=PROCTITLE msg=audit(1700000000.400:4): proctitle="c"
type=SYSCALL msg=audit(11/01/23 10:00:00.500:5) : arch=x86_64 syscall=listen success=yes a0=0x3
----
"""


def test_an_audit_log(tmp_path: Path) -> None:
    found = read(tmp_path, AUDIT)
    assert found.calls("x86_64") == {"openat", "close", "socket", "listen"}
    assert found.calls("i386") == {"socketcall"}
    (opened,) = (one for one in found.uses if one.call == "socket")
    assert opened.args[:3] == (16, 3, 0)
    (note,) = found.notes
    assert note.endswith("calls of 3 programs: /bin/a, /bin/b, /bin/c")


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "type=SECCOMP msg=audit(1.1:1): pid=1 exe=/a",
        "type=SECCOMP msg=audit(1.1:1): arch=c00000b7 syscall=56",
        "type=SYSCALL msg=audit(1.1:1): arch=x86_64 syscall=nosuchcall",
    ],
)
def test_a_strange_line_of_an_audit_log_is_quoted(tmp_path: Path, line: str) -> None:
    found = read(tmp_path, f"{AUDIT}{line}\n", "audit")
    (note,) = (one for one in found.notes if "not understood" in one)
    assert "1 lines not understood" in note
    assert f"line {AUDIT.count(chr(10)) + 1}" in note
    assert line[:20] in note


STRACE = """\
execve("/bin/a", ["a", "b)(\\", ["], 0x7ffd /* 3 vars */) = 0
[pid    12] socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3
12 10:00:00.123456 socket(AF_INET6, SOCK_DGRAM, IPPROTO_IP <unfinished ...>
12 10:00:00.123460 <... socket resumed>) = 4
     0.000021 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD, child_tidptr=0x7f) = 9
1700000000.100000 prctl(PR_SET_NAME, "x") = 0
[00007f1234567890] unshare(CLONE_NEWUSER) = 0
syscall_0x1388(0, 0) = -1 ENOSYS (Function not implemented)
[pid 12] vfork(strace: Process 13 attached
 <unfinished ...>
clone(child_stack=NULL, flags=SIGCHLDstrace: Process 14 attached
, child_tidptr=0x7f) = 14
strace: [ Process PID=13 runs in 32 bit mode. ]
13  mmap2(NULL, 8192, PROT_READ, MAP_PRIVATE, -1, 0) = 0xf7
13  old_mmap({addr=NULL, len=1}) = 0xf7
[pid 12] exit_group(0) = ?
[pid 12] --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---
+++ exited with 0 +++
"""


COUNTED = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 30.71    0.000226           7        30           mmap
 21.47    0.000158           4        34        13 openat
------ ----------- ----------- --------- --------- ----------------
100.00    0.000384           6        64        13 total
System call usage summary for 32 bit mode:
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
100.00    0.000226           7        30           fstat64
------ ----------- ----------- --------- --------- ----------------
100.00    0.000226           7        30           total
"""


def test_strace(tmp_path: Path) -> None:
    found = read(tmp_path, STRACE)
    assert found.notes == ()
    assert found.calls("x86_64") == {
        "execve", "socket", "clone", "prctl", "unshare", "5000", "exit_group", "vfork",
    }  # fmt: skip
    assert found.calls("i386") == {"mmap2", "mmap"}
    args = {(one.call, one.args[0]) for one in found.uses}
    assert {("socket", 1), ("socket", 10), ("unshare", CLONE_NEWUSER), ("prctl", None)} <= args
    assert {("clone", 0x200000 | SIGCHLD), ("clone", SIGCHLD)} <= args


def test_strace_that_does_not_say_what_is_32_bit(tmp_path: Path) -> None:
    found = read(tmp_path, "7 execve(0) = 0\n7 fstat64(1) = 0\n7 read(3) = 1\n8 read(3) = 1\n")
    assert found.calls("i386") == {"fstat64", "read"}
    assert found.calls("x86_64") == {"execve", "read"}
    assert any("32-bit" in note for note in found.notes)


def test_the_table_that_strace_counts(tmp_path: Path) -> None:
    found = read(tmp_path, COUNTED)
    assert found.notes == ()
    assert found.calls("x86_64") == {"mmap", "openat"}
    assert found.calls("i386") == {"fstat64"}


@pytest.mark.parametrize("line", ["nonsense", "frobnicate(1) = 0", " > /lib/libc.so.6(read+1)"])
def test_a_strange_line_of_strace_is_quoted(tmp_path: Path, line: str) -> None:
    (note,) = read(tmp_path, f"{STRACE}{line}\n").notes
    assert "1 lines not understood: line 19" in note


SPO_YAML = """\
apiVersion: security-profiles-operator.x-k8s.io/v1beta1
kind: SeccompProfile
metadata:
  name: recorded
spec:
  architectures: [SCMP_ARCH_X86_64, SCMP_ARCH_X86]
  defaultAction: SCMP_ACT_ERRNO
  syscalls:
  - action: SCMP_ACT_ALLOW
    names: [openat, socketcall]
  - action: SCMP_ACT_ERRNO
    names: [ptrace]
"""


def test_a_profile_of_the_operator(tmp_path: Path) -> None:
    found = read(tmp_path, SPO_YAML)
    assert found.calls("x86_64") == {"openat"}
    assert found.calls("i386") == {"openat", "socketcall"}


def test_profiles_of_the_operator_in_a_list_and_on_another_machine(tmp_path: Path) -> None:
    profile = {
        "kind": "SeccompProfile",
        "spec": {
            "architectures": ["SCMP_ARCH_AARCH64"],
            "baseProfileName": "runc-v1",
            "syscalls": [{"action": "SCMP_ACT_ALLOW", "names": ["read", "nosuch"]}],
        },
    }
    found = read(tmp_path, json.dumps({"kind": "List", "items": [profile, {"kind": "Pod"}]}))
    assert found.calls("x86_64") == {"read"}
    said = " ".join(found.notes)
    for word in ("SCMP_ARCH_AARCH64", "runc-v1", "nosuch", "no SeccompProfile"):
        assert word in said


def test_the_logs_of_the_operators_enrichers(tmp_path: Path) -> None:
    old = 'I0705 1 e.go:1] log-enricher "msg"="audit" "syscallID"=39 "syscallName"="getpid"\n'
    new = 'I0516 1 e.go:4] "audit" logger="log-enricher" type="seccomp" syscallName="openat"\n'
    other = 'I0516 1 e.go:4] "audit" logger="log-enricher" type="selinux" perm="listen"\n'
    assert read(tmp_path, old + new + other).calls("x86_64") == {"getpid", "openat"}
    line = {"version": "spo/v1_alpha", "pid": 7, "syscalls": ["read", "write"]}
    found = read(tmp_path, json.dumps(line) + "\n{broken\n")
    assert found.calls("x86_64") == {"read", "write"}
    assert "line 2" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "form", "said"),
    [
        ("", "auto", "no system call in it, read as strace"),
        ("hello\n", "audit", "no system call in it, read as audit"),
        ("kind: SeccompProfile\nspec: 7\n", "auto", "SeccompProfile"),
        ("kind: SeccompProfile\n  - : [\n", "auto", "not YAML"),
        ("kind: SeccompProfile\nspec: {syscalls: [{names: [[a]]}]}\n", "spo", "SeccompProfile"),
    ],
)
def test_a_file_without_a_recording_is_one_line(
    tmp_path: Path, text: str, form: read_recording.Form, said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read(tmp_path, text, form)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_recording.read(str(tmp_path / "missing"))
    with pytest.raises(InputError, match="not a regular file"):
        read_recording.read(str(tmp_path))
