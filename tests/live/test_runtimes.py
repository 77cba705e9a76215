"""Under runc and crun: the same story as natively, and nothing left behind, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from attacks import library
from evaluator import runtime_run
from evaluator.containers import Containers
from evaluator.plan import Plan
from evaluator.pool import Arm
from evaluator.posture import POSTURES
from evaluator.records import CandidateResult
from evaluator.request import families
from evaluator.runtimes import RUNTIMES, SCRATCH, Container, RefusedError, Runtime, find, sweep
from evaluator.sandbox import Sandbox, read_back, runner_path
from evaluator.trial import program_spec
from evaluator.verdict import Outcome, Verdict
from evaluator.wire import ConfigSpec, Request, Result
from mitigations.candidate import Candidate
from mitigations.load import load

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "mitigations" / "library"
CONTROL = ConfigSpec(0, 0, POSTURES["container"].mask, no_new_privs=False)
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers are started as root")


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return find(request.param)  # missing: an error, as CI installs both


def left() -> dict[str, set[str]]:
    """What a run may leave: bundles, cgroups, mounts, processes of ours, devices of another owner.

    A runtime gives what a container writes to, and be it the host's ``/dev/null``, to its user.
    """
    cgroups = Path("/sys/fs/cgroup")
    return {
        "bundles": {one.name for one in SCRATCH.glob(f"sidestep-{os.getpid()}-*")},
        "cgroups": {str(one) for one in cgroups.glob("*/sidestep-*")},
        "mounts": {
            line for line in Path("/proc/mounts").read_text().splitlines() if "sides" in line
        },
        "performers": {
            one.parent.name
            for one in Path("/proc").glob("[0-9]*/cmdline")
            if b"/runner\0perform" in _text(one)
        },
        "devices": {
            f"{one} {one.stat().st_mode:o} {one.stat().st_uid}:{one.stat().st_gid}"
            for one in map(Path, ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/tty"))
        },
    }


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    before = left()
    yield
    deadline = time.monotonic() + 3
    while left() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left() == before


def profile(*rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW") -> dict[str, Any]:
    return {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [*rules]}


def evaluated(
    runtime: Runtime, path: Path, *names: str, posture: str = "container"
) -> CandidateResult:
    candidates = load(path, runtime=runtime.model)
    plan = Plan(tuple(candidates), families(names, library.SUITE), workloads=(), posture=posture)
    (found,) = runtime_run.evaluate(plan, runtime, lambda _: None)
    return found


def written(tmp_path: Path, document: object, name: str = "p.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(document))
    return path


def command(*args: object, **more: Any) -> subprocess.CompletedProcess[str]:
    code = "from evaluator.entry import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        **more,
    )


# --------------------------------------------------------------------------------- the same story


@pytest.mark.slow
def test_native_runc_and_crun_agree_and_each_difference_has_a_name() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "runtimes.py"], capture_output=True, text=True, check=True
    )
    assert done.stdout == (ROOT / "docs" / "runtimes.md").read_text(), "read it, then --write"


def test_the_runtime_loads_the_predicted_bytes(runtime: Runtime) -> None:
    found = evaluated(runtime, PROFILES / "block-mkdir.json", "create-directory")
    assert found.enforced
    assert found.ground_truth.read_back == "identical"
    assert found.ground_truth.seccomp_filters == 1
    assert found.families[0].verdict is Verdict.LEAKY
    assert not found.counts.get(Outcome.HARNESS_ERROR)
    assert not found.counts.get(Outcome.DISAGREEMENT)


def test_other_bytes_than_the_predicted_ones_are_told(runtime: Runtime, tmp_path: Path) -> None:
    path = written(tmp_path, profile({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}))
    (candidate,) = load(path, runtime=runtime.model)
    written(tmp_path, profile({"names": ["rmdir"], "action": "SCMP_ACT_ERRNO"}))  # the file changed
    plan = Plan((candidate,), families(["create-directory"]), workloads=())
    (found,) = runtime_run.evaluate(plan, runtime, lambda _: None)
    assert not found.enforced
    assert found.ground_truth.read_back == "different"
    assert found.families[0].verdict is Verdict.NOT_ENFORCED


@pytest.mark.parametrize("posture", ["container", "restricted"])
def test_the_runtime_puts_on_what_the_posture_says(runtime: Runtime, posture: str) -> None:
    stance = POSTURES[posture]
    config = ConfigSpec(stance.uid, stance.gid, stance.mask, no_new_privs=stance.no_new_privs)
    with Container(runtime, config) as container:
        fields = dict(
            line.split(":\t", 1) for line in container.status.text.splitlines() if ":\t" in line
        )
        assert container.pid is not None
        assert read_back(runner_path(), container.pid) == []
    assert fields["Uid"].split()[0] == str(stance.uid)
    assert int(fields["CapEff"], 16) == (stance.mask if stance.uid == 0 else 0)
    assert int(fields["CapBnd"], 16) == stance.mask
    assert fields["NoNewPrivs"] == str(int(stance.no_new_privs))
    assert fields["Seccomp"] == "0"


def test_a_batch_in_a_container_takes_at_most_three_times_the_native_time(
    runtime: Runtime, record_property: Callable[[str, object], None]
) -> None:
    variants = [
        one
        for family in runtime_run.testable(families([], library.SUITE), runtime)
        for one in family.variants
        if not one.negative
    ][::3]
    specs = [program_spec(one) for one in variants]

    def batch(sandbox: Sandbox) -> float:
        witnesses = {id(one.witness): one.witness for one in specs if one.witness}
        numbers = {key: len(specs) + n for n, key in enumerate(witnesses)}
        sandbox.define_config(0, CONTROL)
        for key, witness in witnesses.items():
            sandbox.define_program(numbers[key], witness)
        for place, one in enumerate(specs):
            sandbox.define_program(place, one, numbers[id(one.witness)] if one.witness else None)
        requests = [Request(n, n, 0, 0, 300_000) for n in range(len(specs))]
        times: list[float] = []
        for _ in range(3):
            begin = time.monotonic()
            for at in range(0, len(requests), 40):
                assert all(result.ok for result in sandbox.run(requests[at : at + 40]))
            times.append(time.monotonic() - begin)
        return min(times)

    with Sandbox() as sandbox:
        native = batch(sandbox)
    with Container(runtime, CONTROL) as container:
        contained = batch(container.sandbox)
    record_property(
        f"{len(specs)} programs natively / under {runtime.name}",
        f"{native * 1000:.0f} / {contained * 1000:.0f} ms",
    )
    assert contained < 3 * native


# ------------------------------------------------------------------------------------ what fails


def test_a_missing_runtime_is_one_line(tmp_path: Path) -> None:
    done = command(
        *("evaluate", PROFILES / "block-mkdir.json", "--runtime", "runc"),
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert done.returncode == 3
    assert done.stderr == "sidestep: runc is not installed: apt-get install runc\n"


def test_a_runtime_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "crun"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    done = command(
        *("evaluate", PROFILES / "block-mkdir.json", "--runtime", "crun"),
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.returncode == 3
    assert done.stderr == "sidestep: crun --version: no answer\n"


def test_a_runtime_that_starts_nothing_is_not_enforced(tmp_path: Path) -> None:
    broken = tmp_path / "runc"
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "runc version 1.1.5" && exit\n'
        'echo "no, thank you" >&2\nexit 1\n'
    )
    broken.chmod(0o755)
    real = find("runc")
    lying = Runtime("runc", str(broken), real.version)
    with pytest.raises(RefusedError, match="no, thank you"):
        Container(lying, CONTROL)


def test_a_profile_that_the_runtime_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    path = written(tmp_path, profile(default="SCMP_ACT_ERRNO"))
    for name in RUNTIMES:
        found = evaluated(find(name), path, "create-directory")
        assert not found.enforced
        assert found.families[0].verdict is Verdict.NOT_ENFORCED
        assert any(f"{name} does not start the container" in note for note in found.notes)
        assert not found.counts.get(Outcome.BLOCKED)


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
@pytest.mark.parametrize("denied", ["clone", "setitimer"])
def test_who_may_start_nobody_gets_a_container_for_each_program(
    runtime: Runtime, tmp_path: Path, denied: str, action: str
) -> None:
    rules = [{"names": [denied, "mkdir"], "action": action}]
    path = written(tmp_path, profile(*rules))
    found = evaluated(runtime, path, "create-directory")
    trials = {one.variant: one for one in found.trials}
    stopped = trials["create-directory/mkdir"].stopped_at
    assert stopped is not None
    assert stopped.answer == ("EPERM" if action == "SCMP_ACT_ERRNO" else "SIGSYS (killed)")
    assert trials["create-directory/mkdirat"].outcome is Outcome.BYPASSED
    assert not found.counts.get(Outcome.HARNESS_ERROR)
    assert not found.counts.get(Outcome.DISAGREEMENT)
    assert any("each program is pid 1" in note for note in found.notes)


@pytest.mark.parametrize("denied", ["clone", "wait4", "setitimer", "rt_sigaction"])
def test_an_answer_of_0_is_not_believed(runtime: Runtime, tmp_path: Path, denied: str) -> None:
    rules = [
        {"names": [denied], "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"},
    ]
    found = evaluated(runtime, written(tmp_path, profile(*rules)), "create-directory")
    trials = {one.variant: one.outcome for one in found.trials}
    assert trials["create-directory/mkdir"] is Outcome.BLOCKED
    assert trials["create-directory/mkdirat"] is Outcome.BYPASSED
    assert not found.counts.get(Outcome.HARNESS_ERROR)
    assert any("each program is pid 1" in note for note in found.notes)


@pytest.mark.parametrize("denied", ["mmap", "read"])
def test_nor_is_one_that_leaves_the_runner_nothing(
    runtime: Runtime, tmp_path: Path, denied: str
) -> None:
    rule = {"names": [denied], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}
    found = evaluated(runtime, written(tmp_path, profile(rule)), "create-directory")
    assert found.families[0].verdict is Verdict.UNTESTED
    assert f"denies {denied}, which the runner needs" in found.notes[0]


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_what_a_program_leaves_goes_with_a_container_of_its_own(
    runtime: Runtime, tmp_path: Path, action: str
) -> None:
    """Nobody may kill: a program that leaves a process is tried by itself."""
    rules = [
        {"names": ["kill"], "action": action},
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"},
    ]
    found = evaluated(runtime, written(tmp_path, profile(*rules)), "create-directory")
    trials = {one.variant: one.outcome for one in found.trials}
    assert trials["create-directory/mkdir-own-listener"] is Outcome.BLOCKED
    assert not found.counts.get(Outcome.HARNESS_ERROR)


@pytest.mark.parametrize("denied", ["mmap", "read", "write"])
@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_what_the_runner_is_denied_is_named_and_no_block(
    runtime: Runtime, tmp_path: Path, denied: str, action: str
) -> None:
    path = written(tmp_path, profile({"names": [denied, "mkdir"], "action": action}))
    found = evaluated(runtime, path, "create-directory")
    assert found.families[0].verdict in (Verdict.UNTESTED, Verdict.NOT_ENFORCED)
    assert not found.enforced
    assert not found.counts.get(Outcome.BLOCKED)
    assert not found.counts.get(Outcome.HARNESS_ERROR)
    assert found.notes[0].startswith("not in force: ")


def mkdir_arm() -> Arm:
    variant = next(
        one
        for family in families(["create-directory"])
        for one in family.variants
        if one.id == "create-directory/mkdir"
    )
    return Arm(program_spec(variant), CONTROL, CONTROL, 500_000)


def test_a_container_that_is_killed_is_started_again(runtime: Runtime) -> None:
    with Containers(runtime) as containers:
        (first,) = containers.run([mkdir_arm()])
        pid = containers.container(CONTROL).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        (second,) = containers.run([mkdir_arm()])
        assert containers.container(CONTROL).pid != pid
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert second.after.path.error == 0


def test_a_container_that_is_frozen_is_given_up_in_time(runtime: Runtime) -> None:
    with Containers(runtime) as containers:
        containers.run([mkdir_arm()])
        pid = containers.container(CONTROL).pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        (result,) = containers.run([mkdir_arm()])
        assert time.monotonic() - begin < 15
    assert isinstance(result, Result)


def test_an_interrupted_run_leaves_nothing(runtime: Runtime) -> None:
    arguments = ["evaluate", str(PROFILES / "block-mkdir.json"), "--runtime", runtime.name]
    process = subprocess.Popen(
        [sys.executable, "-c", "from evaluator.entry import main; main()", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    deadline = time.monotonic() + 30
    while not list(SCRATCH.glob(f"sidestep-{process.pid}-*/pid")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not list(SCRATCH.glob(f"sidestep-{process.pid}-*"))


def test_what_a_killed_run_left_is_swept_by_the_next() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    stale = SCRATCH / f"sidestep-{gone.pid}-left"
    stale.mkdir()
    (stale / "config.json").write_text("{}")
    sweep()
    assert not stale.exists()


def test_no_room_for_a_container_is_named(runtime: Runtime) -> None:
    """In a mount namespace of its own, with a tmpfs that is nearly full."""
    script = (
        f'mount -t tmpfs -o size=40k tmpfs {SCRATCH} && "$@"; code=$?; ls {SCRATCH}; exit $code'
    )
    code = "from evaluator.entry import main; main()"
    evaluate = ("evaluate", PROFILES / "block-mkdir.json", "--runtime", runtime.name, "--json")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", code, *evaluate],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
    )
    said = f"{SCRATCH}: No space left on device: what containers are made of is written there"
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"sidestep: {said}\n")


def test_a_raw_filter_is_no_profile(runtime: Runtime) -> None:
    found = evaluated(runtime, PROFILES / "elasticsearch-self.json", "create-directory")
    assert not found.enforced
    assert found.families[0].verdict is Verdict.UNTESTED
    assert any("raw filter" in note for note in found.notes)


def test_a_pod_is_started_as_its_manifest_says(runtime: Runtime, tmp_path: Path) -> None:
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "p.json").write_text((PROFILES / "block-mkdir.json").read_text())
    context = {
        "runAsUser": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/p.json"},
    }
    container = {"name": "app", "image": "x", "securityContext": context}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [container]},
    }
    done = command(
        *("evaluate", written(tmp_path, pod, "pod.json"), "--seccomp-root", tmp_path),
        *("--runtime", runtime.name, "--family", "create-directory", "--json"),
    )
    (found,) = json.loads(done.stdout)["candidates"]
    assert found["enforced"], found["notes"]
    assert found["ground_truth"]["no_new_privs"] is True
    assert found["ground_truth"]["read_back"] == "identical"
    assert found["posture"] == "uid 1000"
    assert [one["verdict"] for one in found["families"]] == ["leaky"]


def test_an_apparmor_profile_reaches_the_runtime(runtime: Runtime) -> None:
    """Which refuses it: nobody has loaded one of that name."""
    with pytest.raises(RefusedError, match=r"(?i)apparmor"):
        Container(runtime, replace(CONTROL, apparmor="sidestep-nobody-has-loaded-it"))


def test_without_the_apparmor_profile_nothing_is_tried(runtime: Runtime, tmp_path: Path) -> None:
    container = {"name": "app", "image": "x"}
    key = "container.apparmor.security.beta.kubernetes.io/app"
    about = {"name": "web", "annotations": {key: "localhost/sidestep-nobody-has-loaded-it"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": about}
    path = written(tmp_path, {**pod, "spec": {"containers": [container]}}, "pod.yaml")
    found = evaluated(runtime, path, "create-directory")
    assert not found.enforced
    assert found.families[0].verdict is Verdict.UNTESTED
    assert found.notes[0].startswith(
        "not in force: AppArmor profile 'sidestep-nobody-has-loaded-it': "
    )


def test_layers_that_no_runtime_is_given_are_not_said_to_fail(runtime: Runtime) -> None:
    found = evaluated(runtime, ROOT / "mitigations/examples/data-by-path.toml", "create-directory")
    assert found.families[0].verdict is Verdict.UNTESTED
    assert found.starts.ok is None
    assert "landlock" in found.starts.reason


def test_families_without_a_testable_variant_fail_their_gate(runtime: Runtime) -> None:
    done = command(
        *("evaluate", PROFILES / "no-new-directories.json", "--runtime", runtime.name),
        *("--family", "kexec"),
    )
    assert done.returncode == 1
    assert "kexec must be held and is untested" in done.stdout.replace("\n", " ")


@pytest.mark.parametrize("option", [("--simulate",), ("--search", "1"), ("--exhaustive",)])
def test_options_that_a_runtime_cannot_serve_are_refused(option: tuple[str, ...]) -> None:
    done = command("evaluate", PROFILES / "block-mkdir.json", "--runtime", "runc", *option)
    assert done.returncode == 2
    assert done.stderr.startswith("sidestep: --runtime runc does not take --")


def test_the_doctor_says_what_can_be_used() -> None:
    done = command("doctor", "--json")
    probes = {one["name"]: one for one in json.loads(done.stdout)["probes"]}
    for name in RUNTIMES:
        assert probes[name]["ok"], probes[name]
        assert f"--runtime {name}" in probes[name]["meaning"]


def test_candidates_are_told_from_files(tmp_path: Path) -> None:
    path = written(tmp_path, profile({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}))
    (candidate,) = load(path)
    assert isinstance(candidate, Candidate)
    assert runtime_run.profile_for(candidate, find("runc")) == json.loads(path.read_text())
