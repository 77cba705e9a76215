"""On another kernel, in a virtual machine: the same story, and nothing left behind.

Needs QEMU, and the distribution's packages or a cache of them.
"""

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from attacks import library
from attacks.effects import Grade
from evaluator import campaign, vm, vm_run
from evaluator.doctor import environment, without_sandbox
from evaluator.enforcement import control_of
from evaluator.errors import EnvironmentLackError, HarnessError, InputError
from evaluator.plan import Plan, Rewrites
from evaluator.posture import posture
from evaluator.records import CandidateResult, WorkloadOutcome
from evaluator.request import families
from evaluator.share import arm_of
from evaluator.trial import grade, program_spec
from evaluator.verdict import Outcome, Verdict
from evaluator.vm import Machines
from evaluator.vm_kernel import DEFAULT, Kernel, kernel
from evaluator.wire import Result
from evaluator.workloads import DEFAULTS, chosen
from mitigations.candidate import AppArmorLayer, Attachment, Candidate, SeccompLayer
from mitigations.load import load

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "mitigations" / "library"
APPARMOR = ROOT / "tests" / "data" / "apparmor"
CLOUD = "linux-image-cloud-amd64"
X86_64 = 0xC000003E
os.environ["SIDESTEP_TEST"] = str(os.getpid())  # for all that is started from here
_MARK = f"SIDESTEP_TEST={os.getpid()}\0".encode()
_SILENT = "#!/bin/sh\nexec sleep 600\n"


def running() -> set[str]:
    """The virtual machines that were started from here, by their pids."""
    found = set[str]()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_one = b"virtserialport" in (process / "cmdline").read_bytes()
            if is_one and _MARK in (process / "environ").read_bytes():
                found.add(process.name)
        except OSError:
            continue
    return found


def left_of(folder: Path) -> Iterator[str]:
    """Processes whose search path begins with a directory."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"\0PATH={folder}:".encode() in b"\0" + (process / "environ").read_bytes():
                yield process.name
        except OSError:
            continue


@pytest.fixture(scope="module")
def generic() -> Kernel:
    return kernel(DEFAULT)


@pytest.fixture(scope="module")
def machines(generic: Kernel) -> Iterator[Machines]:
    with Machines(generic) as found:
        yield found
    assert not running()


def plan(*candidates: Candidate, families_: tuple[str, ...] = ("create-directory",)) -> Plan:
    found = families(families_, library.SUITE)
    return Plan(candidates, found, workloads=(), rewrites=Rewrites.SAMPLED)


def evaluated(
    machines: Machines, *candidates: Candidate, names: tuple[str, ...] = ("create-directory",)
) -> list[CandidateResult]:
    return list(vm_run.evaluate(plan(*candidates, families_=names), machines, lambda _: None))


def natively(*candidates: Candidate) -> list[CandidateResult]:
    return list(campaign.evaluate(plan(*candidates), lambda _: None))


def loaded(path: Path) -> Candidate:
    (found,) = load(path)
    assert isinstance(found, Candidate)
    return found


def outcomes(found: CandidateResult) -> dict[str, Outcome]:
    return {one.variant: one.outcome for one in found.trials}


def apparmor(name: str, text: str) -> Candidate:
    return Candidate(name, name, (AppArmorLayer(name, text),), Attachment.RUNTIME, "apparmor")


# ----------------------------------------------------------------------------------- the same story


def test_what_both_kernels_can_do_comes_out_equal(machines: Machines) -> None:
    both = [loaded(LIBRARY / f"{one}.json") for one in ("block-mkdir", "no-new-directories")]
    for there, here in zip(evaluated(machines, *both), natively(*both), strict=True):
        assert there.enforced
        assert there.ground_truth.read_back == "identical"
        mine, theirs = outcomes(here), outcomes(there)
        assert mine.keys() == theirs.keys()
        differ = {one for one in mine if mine[one] is not theirs[one]}
        assert all(Outcome.UNSUPPORTED in (mine[one], theirs[one]) for one in differ)
        assert set(theirs.values()) <= {Outcome.BLOCKED, Outcome.BYPASSED, Outcome.UNSUPPORTED}
        assert there.families[0].verdict.value == here.families[0].verdict.value.removesuffix(
            " here"
        )


def test_what_a_child_executes_is_waited_for(machines: Machines) -> None:
    """On one processor Linux 6.1 lets the parent of a vfork go on in the midst of execve."""
    variant = next(
        one
        for one in families(("execute-program",), library.SUITE)[0].variants
        if one.id == "execute-program/vfork-execve"
    )
    control = control_of(machines, posture("container"))
    arms = [arm_of(variant, program_spec(variant), control, control)] * 40
    for result in machines.run(arms):
        assert isinstance(result, Result)
        assert grade(variant, result) is Grade.EXACT


def test_the_clock_there_is_no_faster_than_ours(generic: Kernel) -> None:
    """By it bounds are kept; one that is too fast cuts trials short."""
    variant = families(("create-directory",), library.SUITE)[0].variants[0]
    for _ in range(2):
        with Machines(generic) as one:
            control = control_of(one, posture("container"))
            arm = arm_of(variant, program_spec(variant), control, control)
            one.run([arm])
            begin, said_us = time.monotonic(), 0
            for _ in range(10):
                (result,) = one.run([arm])
                assert isinstance(result, Result)
                said_us += result.latency_us
            assert said_us / 1e6 < time.monotonic() - begin


def test_two_boots_give_equal_rows(generic: Kernel) -> None:
    candidate = loaded(LIBRARY / "block-mkdir.json")
    rows: list[list[tuple[object, ...]]] = []
    for _ in range(2):
        with Machines(generic) as one:
            (found,) = evaluated(one, candidate)
        rows.append(
            [(row.variant, row.outcome, row.reason, row.stopped_at) for row in found.trials]
        )
    assert rows[0] == rows[1]


def test_the_report_is_about_the_kernel_there(machines: Machines, generic: Kernel) -> None:
    here = environment(without_sandbox(), "none")
    there = vm_run.environment(machines, here)
    assert there.kernel == generic.release != here.kernel
    assert DEFAULT in there.isolation
    assert "apparmor" in there.lsm
    probes = {one.name: one for one in there.probes}
    assert probes["x32 calls"].value == "yes"
    assert here.kernel in probes["kernel"].meaning


# ---------------------------------------------------------------------------- other tables of calls


def deny(*numbers: int, other_arch: int, x32: int) -> Candidate:
    """A filter that knows the calls of one table alone.

    ``other_arch`` and ``x32``: what it answers to calls through the other two.
    """
    allow, refuse = 0x7FFF0000, 0x00050001
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, X86_64), (0x06, 0, 0, other_arch)]
    code += [(0x20, 0, 0, 0), (0x35, 0, 1, 0x40000000), (0x06, 0, 0, x32)]
    for number in numbers:
        code += [(0x15, 0, 1, number), (0x06, 0, 0, refuse)]
    code.append((0x06, 0, 0, allow))
    program = b"".join(struct.pack("<HBBI", *one) for one in code)
    return Candidate(
        "deny", "deny", (SeccompLayer(program, (program,)),), Attachment.RUNTIME, "raw"
    )


# What leads to a new directory through the native table, rings and mounts included.
_DIRECTORIES = (83, 258, 165, 425, 428, 429, 430, 442)
_ALLOW, _KILL = 0x7FFF0000, 0x80000000


def test_a_filter_that_forgets_x32_holds_on_one_kernel_and_leaks_on_another(
    machines: Machines,
) -> None:
    forgets = deny(*_DIRECTORIES, other_arch=_KILL, x32=_ALLOW)
    (there,), (here,) = evaluated(machines, forgets), natively(forgets)
    assert here.families[0].verdict is Verdict.HELD_HERE
    assert outcomes(here)["create-directory/mkdir-x32"] is Outcome.UNSUPPORTED
    assert there.families[0].verdict is Verdict.LEAKY
    assert outcomes(there)["create-directory/mkdir-x32"] is Outcome.BYPASSED
    assert outcomes(there)["create-directory/mkdir-i386"] is Outcome.BLOCKED


def test_a_filter_that_forgets_i386_leaks_through_nothing_else(machines: Machines) -> None:
    (found,) = evaluated(machines, deny(*_DIRECTORIES, other_arch=_ALLOW, x32=_KILL))
    said = outcomes(found)
    assert said["create-directory/mkdir-i386"] is Outcome.BYPASSED
    assert said["create-directory/mkdir-x32"] is Outcome.BLOCKED
    assert all("i386" in one for one in found.families[0].bypasses)


def test_a_kernel_without_x32_says_so() -> None:
    with Machines(kernel(CLOUD)) as cloud:
        (found,) = evaluated(cloud, deny(*_DIRECTORIES, other_arch=_KILL, x32=_ALLOW))
    assert found.families[0].verdict is Verdict.HELD_HERE
    assert outcomes(found)["create-directory/mkdir-x32"] is Outcome.UNSUPPORTED


# -------------------------------------------------------------------------------------- AppArmor


def test_an_apparmor_profile_holds_a_path_whatever_the_call(machines: Machines) -> None:
    by_path = loaded(APPARMOR / "no-writes-below-work.apparmor")
    by_call = loaded(LIBRARY / "block-mkdir.json")
    path, call = evaluated(machines, by_path, by_call)
    assert path.enforced
    assert path.ground_truth.apparmor == "no-writes-below-work (enforce)"
    assert path.families[0].verdict is Verdict.HELD
    assert any('apparmor="DENIED"' in one and "mkdir" in one for one in path.notes)
    ring = "create-directory/io-uring-mkdirat"
    assert outcomes(path)[ring] is Outcome.BLOCKED
    assert outcomes(call)[ring] is Outcome.BYPASSED
    assert call.ground_truth.apparmor == ""


def test_an_honest_program_that_a_profile_breaks_is_broken(machines: Machines) -> None:
    by_path = loaded(APPARMOR / "no-writes-below-work.apparmor")
    asked = replace(plan(by_path), workloads=chosen(DEFAULTS))
    (found,) = vm_run.evaluate(asked, machines, lambda _: None)
    said = {one.workload: one for one in found.workloads}
    assert said["shell-basics"].outcome is WorkloadOutcome.BROKEN
    assert said["static-entry"].works


def test_a_profile_may_include_what_its_package_has(machines: Machines) -> None:
    text = """abi <abi/3.0>,
include <tunables/global>
profile x {
  include <abstractions/base>
  capability, file, signal, audit deny @{PROC}/sys/** w,
}
"""
    (found,) = evaluated(machines, apparmor("x", text))
    assert found.enforced
    assert found.families[0].verdict is Verdict.OPEN


def test_a_profile_is_on_nobody_but_subjects(machines: Machines) -> None:
    """What a profile attaches to is none of ours: it must not confine a control, or a shell."""
    text = "profile {} {}{{ capability, file, network, signal, audit deny /work/** w, }}\n"
    attached = apparmor("attached", text.format("attached", "/** "))
    plain = apparmor("plain", text.format("plain", ""))
    rows: list[dict[str, Outcome]] = []
    for found in evaluated(machines, attached, plain, names=("execute-program",)):
        assert found.enforced
        assert Outcome.HARNESS_ERROR not in found.counts
        rows.append(outcomes(found))
        assert machines.first.read("/proc/self/attr/apparmor/current") == "unconfined"
    assert rows[0] == rows[1]


@pytest.mark.parametrize("name", ["/usr/bin/cat", "/usr/bin/{cat,sh}", "/work/d/prog"])
def test_a_profile_whose_name_is_a_program_that_trials_run(machines: Machines, name: str) -> None:
    why = machines.first.load_apparmor(AppArmorLayer(name, f"{name} {{ file, signal, }}\n"))
    assert why.startswith(f"{name} attaches by itself to programs")
    assert name not in (machines.first.read("/sys/kernel/security/apparmor/profiles") or "")


def test_what_is_denied_is_counted_whatever_the_name(machines: Machines) -> None:
    text = 'profile "two words" { capability, file, signal, audit deny /work/** w, }\n'
    (found,) = evaluated(machines, apparmor("two words", text))
    assert any('profile="two words": mkdir' in one for one in found.notes)


def test_a_large_profile_is_loaded(machines: Machines) -> None:
    rules = "".join(f"  deny /some/path/{n}/{{a,b}}/** w,\n" for n in range(2000))
    text = f"profile large {{\n  file, signal,\n{rules}}}\n"
    assert machines.first.load_apparmor(AppArmorLayer("large", text)) == ""


def test_a_kernel_that_does_not_run_apparmor(
    generic: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm, "COMMAND_LINE", vm.COMMAND_LINE.replace("apparmor=1", "apparmor=0"))
    with Machines(generic) as one:
        (found,) = evaluated(one, apparmor("x", "profile x { file, signal, }\n"))
    assert found.families[0].verdict is Verdict.NOT_ENFORCED
    assert any(f"the kernel of {DEFAULT} does not run AppArmor" in note for note in found.notes)


def test_an_apparmor_profile_leaks_where_it_says_nothing(machines: Machines) -> None:
    leaky = loaded(APPARMOR / "no-signals.apparmor")
    (found,) = evaluated(machines, leaky, names=("kill-process",))
    assert found.enforced
    assert found.families[0].verdict is Verdict.LEAKY
    assert outcomes(found)["kill-process/kill"] is Outcome.BLOCKED
    assert any("ptrace" in one for one in found.families[0].bypasses)


def test_two_layers_and_which_of_them_holds(machines: Machines) -> None:
    path, call = (
        loaded(APPARMOR / "no-writes-below-work.apparmor"),
        loaded(LIBRARY / "block-mkdir.json"),
    )
    both = Candidate("both", "both", (*call.layers, *path.layers), Attachment.RUNTIME, "layers")
    (found,) = evaluated(machines, both)
    assert found.enforced
    assert found.families[0].verdict is Verdict.HELD
    assert found.families[0].stopped_by.keys() == {"seccomp", "apparmor"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("profile x { capability, file, audit deny /work/** w, }\n", "nobody outside may end"),
        ("profile x flags=(complain) { file, signal, }\n", "says x (complain), not x (enforce)"),
        ("profile x { nonsense, }\n", "apparmor_parser refuses it: "),
        ("", "only its name is known"),
    ],
)
def test_a_profile_that_is_not_enforced_blocks_nothing(
    machines: Machines, text: str, said: str
) -> None:
    (found,) = evaluated(machines, apparmor("x", text))
    assert not found.enforced
    assert any(said in one for one in found.notes)
    assert Outcome.BLOCKED not in found.counts
    assert found.families[0].verdict is Verdict.NOT_ENFORCED


# ---------------------------------------------------------------------------------- what goes wrong


def test_a_machine_that_is_killed_is_started_again(generic: Kernel) -> None:
    with Machines(generic) as one:
        os.kill(one.first.pid, signal.SIGKILL)
        (found,) = evaluated(one, loaded(LIBRARY / "block-mkdir.json"))
        assert found.families[0].verdict is Verdict.LEAKY
        assert Outcome.HARNESS_ERROR not in found.counts


def test_another_machine_has_the_profiles_of_the_one_that_was_lost(generic: Kernel) -> None:
    with Machines(generic) as one:
        for candidate in (
            APPARMOR / "no-signals.apparmor",
            APPARMOR / "no-writes-below-work.apparmor",
        ):
            (layer,) = loaded(candidate).layers
            assert isinstance(layer, AppArmorLayer)
            assert one.first.load_apparmor(layer) == ""
        lost = one.first.pid
        os.kill(lost, signal.SIGKILL)
        one.renew()
        assert one.first.pid != lost
        names = one.first.read("/sys/kernel/security/apparmor/profiles") or ""
        assert set(names.splitlines()) == {
            "no-signals (enforce)",
            "no-writes-below-work (enforce)",
        }


def test_a_machine_that_is_lost_again_and_again_is_given_up(
    generic: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm, "_MOST_LOST", 1)
    with Machines(generic) as one:
        one.renew()
        with pytest.raises(EnvironmentLackError, match=f"{DEFAULT} was lost 2 times; it said last"):
            one.renew()


def test_what_lost_machines_said_is_not_lost(generic: Kernel) -> None:
    with Machines(generic) as one:
        one.first.command("echo '<5>said before' >/dev/kmsg")
        before = len(one.log())
        os.kill(one.first.pid, signal.SIGKILL)
        one.renew()
        one.first.command("echo '<5>said after' >/dev/kmsg")
        assert "said before" in one.log()[:before]
        assert "said after" in one.log()[before:]


def test_a_machine_that_is_stopped_is_not_waited_for(
    generic: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm, "_ASK_TIMEOUT_S", 1.0)
    with Machines(generic) as one:
        os.kill(one.first.pid, signal.SIGSTOP)
        with pytest.raises(HarnessError, match="does not answer"):
            one.first.read("/proc/version")


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts another program in the place of QEMU."""
    path = tmp_path / vm.QEMU
    path.write_text(script)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(vm, "BOOT_TIMEOUT_S", 1.0)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (_SILENT, "did not start in 1 s; it printed nothing"),
        ("#!/bin/sh\necho no such machine >&2\nexit 1\n", "it said last: no such machine"),
        ("#!/bin/sh\nhead -c 100000 /dev/zero\nexec sleep 600\n", "did not start"),
        # What a wrapper starts is ended with it.
        ("#!/bin/sh\necho y >&2\nsleep 600 &\nsleep 600\n", "in 1 s; it said last: y"),
    ],
)
def test_a_machine_that_does_not_start_is_named(
    generic: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    before, begin = running(), time.monotonic()
    fake(tmp_path, monkeypatch, script)
    with pytest.raises(EnvironmentLackError, match=said):
        Machines(generic)
    assert time.monotonic() - begin < 20
    assert running() == before
    assert not list(left_of(tmp_path))


def test_a_console_has_a_bound(
    generic: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "#!/bin/sh\nsleep 0.3\nhead -c 9000000 /dev/zero >&2\necho end >&2\nexec sleep 600\n"
    fake(tmp_path, monkeypatch, script)
    monkeypatch.setattr(vm, "_CONSOLE_LIMIT", 1 << 20)
    with pytest.raises(EnvironmentLackError, match="did not start") as caught:
        Machines(generic)
    assert "end" not in str(caught.value)


def test_a_package_that_is_not_there_or_is_no_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(EnvironmentLackError, match="no-such-kernel: Unable to locate package"):
        kernel("no-such-kernel")
    with pytest.raises(InputError, match="there is no kernel in that package"):
        kernel("hello")
    assert not list((tmp_path / "sidestep" / "vm").iterdir())


@pytest.mark.parametrize("after_s", [0.5, 3, 10])
def test_ctrl_c_ends_the_machine(after_s: float) -> None:
    """While it boots, and in the middle of trials."""
    before = running()
    with started() as process:
        wait_until(lambda: bool(running() - before))
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    wait_until(lambda: running() == before)


def test_whoever_is_killed_takes_the_machine_along() -> None:
    before = running()
    with started() as process:
        wait_until(lambda: bool(running() - before))
        process.kill()
    wait_until(lambda: running() == before)


def started(*more: str) -> subprocess.Popen[bytes]:
    code = "from evaluator.entry import main; main()"
    command = ["evaluate", str(LIBRARY / "block-mkdir.json"), "--runtime", "vm", *more]
    return subprocess.Popen(
        [sys.executable, "-c", code, *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_until(holds: Callable[[], bool], within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Generator[None, Any, None]:
    """But the machine that all tests of this module share."""
    if "machines" in request.fixturenames:
        request.getfixturevalue("machines")
    before = running()
    yield
    wait_until(lambda: running() == before)
