"""Pods of a containerd that is started here: the same programs, the same verdicts."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from attacks import library
from evaluator import campaign, runtime_run
from evaluator.containers import Containers
from evaluator.errors import HarnessError
from evaluator.plan import Plan
from evaluator.pods import Engine, started
from evaluator.pool import Arm
from evaluator.records import CandidateResult
from evaluator.request import families
from evaluator.runtimes import SCRATCH, CannotPerformError, RefusedError, cgroups
from evaluator.sandbox import read_back, runner_path
from evaluator.trial import program_spec
from evaluator.verdict import Outcome, Verdict
from evaluator.wire import ConfigSpec, Result
from mitigations.candidate import Candidate, SecurityProfile
from mitigations.load import load

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "mitigations" / "library"
MKDIR, MKDIRAT = "create-directory/mkdir", "create-directory/mkdirat"


def lacking() -> str:
    try:
        with started():
            return ""
    except Exception as error:
        return str(error)


LACKING = lacking()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(LACKING), reason=LACKING or "-")]


def left(pid: int) -> list[str]:
    """What a process of ours may leave."""
    mounts = Path("/proc/mounts").read_text().splitlines()
    mark = f"sidestep-{pid}-"
    processes = [
        one.parent.name
        for one in Path("/proc").glob("[0-9]*/cmdline")
        if mark.encode() in _text(one)
    ]
    names = [str(one) for one in [*SCRATCH.glob(f"{mark}*"), *cgroups(f"{mark}*")]]
    return [*names, *(one for one in mounts if mark in one), *processes]


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with started() as engine:
        yield engine
    assert left(os.getpid()) == []


def control(*, uid: int = 0, capabilities: int = 0, no_new_privs: bool = False) -> ConfigSpec:
    return ConfigSpec(uid, uid, capabilities, no_new_privs=no_new_privs)


def written(tmp_path: Path, document: object, name: str = "p.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(document))
    return path


def denying(*names: str, action: str = "SCMP_ACT_ERRNO") -> dict[str, Any]:
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": [*names], "action": action}],
    }


def evaluated(
    engine: Engine, path: Path, *names: str, posture: str = "container", **setup: Any
) -> CandidateResult:
    (candidate,) = load(path, runtime=engine.model, **setup)
    assert isinstance(candidate, Candidate)
    plan = Plan((candidate,), families(names, library.SUITE), workloads=(), posture=posture)
    (found,) = runtime_run.evaluate(plan, engine, lambda _: None)
    return found


def command(*args: object, **more: Any) -> "subprocess.Popen[str]":
    code = "from evaluator.entry import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **more,
    )


# --------------------------------------------------------------------------------- the same story


def test_pods_agree_with_our_own_sandbox_in_each_trial(engine: Engine) -> None:
    names = ("block-mkdir", "deny-create-directory-by-name", "no-new-directories")
    loaded = [load(PROFILES / f"{name}.json", runtime=engine.model)[0] for name in names]
    tried = runtime_run.testable(families([], library.SUITE), engine)
    plan = Plan(tuple(loaded), tried, workloads=(), jobs=2, with_steps=False)
    native = list(campaign.evaluate(plan, lambda _: None))
    contained = list(runtime_run.evaluate(plan, engine, lambda _: None))
    for ours, theirs in zip(native, contained, strict=True):
        assert theirs.enforced
        assert theirs.ground_truth.read_back == "identical"
        assert not theirs.counts.get(Outcome.HARNESS_ERROR)
        said = {one.variant: (one.outcome, one.stopped_at) for one in ours.trials}
        assert {one.variant: (one.outcome, one.stopped_at) for one in theirs.trials} == said
        verdicts = {one.family: one.verdict for one in ours.families}
        assert {one.family: one.verdict for one in theirs.families} == verdicts


def test_users_of_a_pod_are_the_machine_s_and_told_apart(engine: Engine, tmp_path: Path) -> None:
    """Without a user namespace between them the judge sees the subject's own ids."""
    path = written(tmp_path, denying("chown", "sendmsg"))
    (candidate,) = load(path, runtime=engine.model)
    names = ("change-owner", "forge-socket-credentials")
    tried = runtime_run.testable(families(names, library.SUITE), engine)
    plan = Plan((candidate,), tried, workloads=(), with_steps=False)
    (native,) = campaign.evaluate(plan, lambda _: None)
    (contained,) = runtime_run.evaluate(plan, engine, lambda _: None)
    said = {one.variant: one.outcome for one in contained.trials}
    assert said == {one.variant: one.outcome for one in native.trials}
    assert said["change-owner/chown"] is said["forge-socket-credentials/sendmsg"] is Outcome.BLOCKED
    assert said["change-owner/fchownat"] is Outcome.BYPASSED
    assert said["forge-socket-credentials/sendmmsg"] is Outcome.BYPASSED


@pytest.mark.parametrize("posture", ["container", "restricted"])
def test_the_kernel_has_the_predicted_bytes(engine: Engine, posture: str) -> None:
    found = evaluated(engine, PROFILES / "block-mkdir.json", "create-directory", posture=posture)
    assert found.enforced
    assert found.ground_truth.read_back == "identical"
    assert found.ground_truth.seccomp_filters == 1
    assert found.families[0].verdict is Verdict.LEAKY
    assert not found.counts.get(Outcome.HARNESS_ERROR)


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("kind", ["RuntimeDefault", "Localhost", "Unconfined"])
def test_a_pod_is_asked_for_as_the_kubelet_asks(tmp_path: Path, kind: str, uid: int) -> None:
    name = {"localhostProfile": "p.json"} if kind == "Localhost" else {}
    written(tmp_path, denying("mkdir"))
    container = {"name": "app", "image": "x", "securityContext": {"runAsUser": uid}}
    spec = {"securityContext": {"seccompProfile": {"type": kind, **name}}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}
    path = written(tmp_path, pod | {"spec": spec | {"containers": [container]}}, "pod.json")
    done = command(
        *("evaluate", path, "--seccomp-root", tmp_path, "--runtime", "cri", "--start"),
        *("--family", "create-directory", "--json"),
    )
    output, errors = done.communicate(timeout=60)
    (found,) = json.loads(output)["candidates"]
    assert found["enforced"], errors
    truth = found["ground_truth"]
    assert truth["read_back"] in ("identical", "no filter to read back")
    assert truth["seccomp_filters"] == (0 if kind == "Unconfined" else 1)
    trials = {one["variant"]: one["outcome"] for one in found["trials"]}
    assert trials[MKDIR] == ("BLOCKED" if kind == "Localhost" else "BYPASSED")
    assert trials[MKDIRAT] == "BYPASSED"
    assert left(done.pid) == []


def test_the_runtime_puts_on_what_it_is_asked_for(engine: Engine) -> None:
    with engine.start(control(uid=1000, no_new_privs=True)) as pod:
        fields = dict(one.split(":\t", 1) for one in pod.status.text.splitlines() if ":\t" in one)
        assert pod.pid is not None
        assert read_back(runner_path(), pod.pid) == []
    assert fields["Uid"].split() == ["1000"] * 4
    assert (fields["CapEff"], fields["CapBnd"]) == ("0" * 16, "0" * 16)
    assert fields["NoNewPrivs"] == "1"


# ------------------------------------------------------------------------------------ what fails


def test_a_profile_that_the_runtime_refuses_is_told_in_its_words(
    engine: Engine, tmp_path: Path
) -> None:
    path = written(tmp_path, {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []})
    found = evaluated(engine, path, "create-directory")
    assert not found.enforced
    assert found.families[0].verdict is Verdict.NOT_ENFORCED
    assert any("cri does not start the container" in note for note in found.notes)
    assert not found.counts.get(Outcome.BLOCKED)


def test_a_missing_localhost_file_is_refused(engine: Engine) -> None:
    asked = SecurityProfile("Localhost", "/nowhere/p.json")
    with pytest.raises(RefusedError, match="cannot load seccomp profile"):
        engine.start(control(), asked)


def test_an_apparmor_profile_reaches_the_runtime(engine: Engine) -> None:
    """Which refuses it: nobody has loaded one of that name."""
    with pytest.raises(RefusedError, match=r"(?i)apparmor"):
        engine.start(replace(control(), apparmor="sidestep-nobody-has-loaded-it"))


@pytest.mark.parametrize("kind", ["RuntimeDefault", "Localhost"])
def test_without_the_apparmor_profile_nothing_is_tried(
    engine: Engine, tmp_path: Path, kind: str
) -> None:
    name = {"localhostProfile": "sidestep-nobody-has-loaded-it"} if kind == "Localhost" else {}
    container = {"name": "app", "image": "x"}
    spec = {"securityContext": {"appArmorProfile": {"type": kind, **name}}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}
    path = written(tmp_path, pod | {"spec": spec | {"containers": [container]}}, "pod.yaml")
    found = evaluated(engine, path, "create-directory")
    assert not found.enforced
    assert found.families[0].verdict is Verdict.UNTESTED
    assert found.notes[0].startswith("not in force: AppArmor ")


@pytest.mark.parametrize("denied", ["openat", "read", "mmap", "clone"])
@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_what_the_runner_is_denied_is_named_and_no_block(
    engine: Engine, tmp_path: Path, denied: str, action: str
) -> None:
    begin = time.monotonic()
    found = evaluated(
        engine, written(tmp_path, denying(denied, "mkdir", action=action)), "create-directory"
    )
    assert found.families[0].verdict in (Verdict.UNTESTED, Verdict.NOT_ENFORCED)
    assert not found.enforced
    assert not found.counts.get(Outcome.BLOCKED)
    assert not found.counts.get(Outcome.HARNESS_ERROR)
    assert found.notes[0].startswith("not in force: ")
    assert time.monotonic() - begin < 20


def test_who_may_not_end_a_program_says_so(engine: Engine, tmp_path: Path) -> None:
    path = written(tmp_path, denying("kill", "mkdir"))
    found = evaluated(engine, path, "create-directory")
    trials = {one.variant: one for one in found.trials}
    assert found.families[0].verdict is Verdict.LEAKY
    assert trials[MKDIR].outcome is Outcome.BLOCKED
    left = trials["create-directory/mkdir-own-listener"]
    assert left.outcome is Outcome.UNSUPPORTED
    assert left.reason == "cri: the confinement denies kill, which the runner needs (EPERM)"


def test_the_machine_s_own_capabilities_are_given_to_nobody(engine: Engine) -> None:
    with pytest.raises(CannotPerformError, match="CAP_SYS_ADMIN would be the machine's own"):
        engine.start(control(capabilities=1 << 21))
    found = evaluated(engine, PROFILES / "block-mkdir.json", "create-directory", posture="root")
    assert found.families[0].verdict is Verdict.UNTESTED


def mkdir_arm() -> Arm:
    (variant,) = [
        one
        for family in families(["create-directory"])
        for one in family.variants
        if one.id == MKDIR
    ]
    return Arm(program_spec(variant), control(), control(), 500_000)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_container_that_is_killed_or_frozen_is_started_again(
    engine: Engine, number: signal.Signals
) -> None:
    with Containers(engine) as containers:
        (first,) = containers.run([mkdir_arm()])
        pid = containers.container(control()).pid
        assert pid is not None
        os.kill(pid, number)
        begin = time.monotonic()
        (second,) = containers.run([mkdir_arm()])
        assert time.monotonic() - begin < 15
        assert containers.container(control()).pid != pid
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert second.after.path.error == 0


def test_an_interrupted_run_leaves_nothing() -> None:
    process = command("evaluate", PROFILES / "block-mkdir.json", "--runtime", "cri", "--start")
    deadline = time.monotonic() + 30
    while not list(SCRATCH.glob(f"sidestep-{process.pid}-*/pod-1")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert left(process.pid) == []


def test_what_a_killed_run_left_is_swept_by_the_next(engine: Engine) -> None:
    process = command("evaluate", PROFILES / "block-mkdir.json", "--runtime", "cri", "--start")
    deadline = time.monotonic() + 30
    while not list(SCRATCH.glob(f"sidestep-{process.pid}-*/pod-1")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 5
    while [one for one in left(process.pid) if one.isdecimal()]:  # processes
        assert time.monotonic() < deadline
        time.sleep(0.05)
    evaluated(engine, PROFILES / "unconfined.json", "create-symlink")
    assert left(process.pid) == []


def test_another_s_containerd_is_given_an_image_and_rid_of_it(engine: Engine) -> None:
    own = engine.directory / "c" / "socket"
    environment = {**os.environ, "CONTAINER_RUNTIME_ENDPOINT": f"unix://{own}"}
    done = command(
        *("evaluate", PROFILES / "block-mkdir.json", "--runtime", "cri"),
        *("--family", "create-directory", "--json"),
        env=environment,
    )
    output, errors = done.communicate(timeout=60)
    (found,) = json.loads(output)["candidates"]
    assert found["ground_truth"]["read_back"] == "identical", errors
    assert [one["verdict"] for one in found["families"]] == ["leaky"]
    assert left(done.pid) == []


def test_a_socket_without_an_answer_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        for endpoint, said in (
            (path, "no CRI runtime answers: "),
            (tmp_path / "absent", "no socket of a CRI runtime"),
        ):
            process = command(
                *("evaluate", PROFILES / "block-mkdir.json", "--runtime", "cri"),
                *("--endpoint", endpoint),
            )
            output, errors = process.communicate(timeout=30)
            assert (process.returncode, output) == (3, "")
            assert errors.startswith(f"sidestep: {endpoint}: {said}")
            assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("daemon", "said"),
    [
        ("echo it does not start; exit 7", "containerd ended with exit code 7: it does not start"),
        ("exec sleep 1000", "containerd does not answer within 15 s: no message"),
    ],
)
def test_a_daemon_that_does_not_serve_is_one_line(tmp_path: Path, daemon: str, said: str) -> None:
    program = tmp_path / "containerd"
    program.write_text(f"#!/bin/sh\n{daemon}\n")
    program.chmod(0o755)
    process = command(
        *("evaluate", PROFILES / "block-mkdir.json", "--runtime", "cri", "--start"),
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (3, "", f"sidestep: {said}\n")
    assert left(process.pid) == []


def test_a_missing_containerd_is_one_line(tmp_path: Path) -> None:
    process = command(
        *("evaluate", PROFILES / "block-mkdir.json", "--runtime", "cri", "--start"),
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert process.communicate(timeout=30) == (
        "",
        "sidestep: containerd is not installed: apt-get install containerd\n",
    )
    assert process.returncode == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--runtime", "cri"), "sidestep: --runtime cri: name containerd's socket with --endpoint"),
        (("--start",), "sidestep: --start starts a containerd: add --runtime cri"),
        (("--runtime", "cri", "--start", "--simulate"), "sidestep: --runtime cri does not take"),
    ],
)
def test_options_that_make_no_sense_are_one_line(options: tuple[str, ...], said: str) -> None:
    process = command("evaluate", PROFILES / "block-mkdir.json", *options)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert errors.startswith(said)
    assert errors.count("\n") == 1


def test_the_doctor_says_whether_pods_can_be_started() -> None:
    output, _ = command("doctor", "--json").communicate(timeout=60)
    probes = {one["name"]: one for one in json.loads(output)["probes"]}
    assert probes["cri"]["ok"], probes["cri"]


def test_a_pod_that_cannot_speak_is_no_verdict(engine: Engine) -> None:
    with engine.start(control()) as pod, pytest.raises(HarnessError):
        pod.wait_status()
