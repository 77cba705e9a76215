"""A confinement that somebody else put on, measured by the runner alone from the inside."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from attacks import library
from evaluator import ambient, runtime_run
from evaluator.ambient import Contents, candidate, families_of, judge, pack, read, with_control
from evaluator.errors import EnvironmentLackError, InputError
from evaluator.plan import Plan
from evaluator.posture import POSTURES
from evaluator.records import TrialRecord
from evaluator.request import families
from evaluator.runtimes import SCRATCH, find, spec
from evaluator.sandbox import Sandbox, runner_path
from evaluator.stage import why_not_inside
from evaluator.verdict import Outcome
from evaluator.wire import ConfigSpec, Request
from mitigations.load import load

ROOT = Path(__file__).parents[2]
FAMILIES = ("create-symlink", "create-hard-link", "create-file", "read-file", "rename-file")
DENIED = {"names": ["symlink", "symlinkat", "rename"], "action": "SCMP_ACT_ERRNO"}
CONTROL = ConfigSpec(0, 0, POSTURES["container"].mask, no_new_privs=False)
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers are started as root")


def profile(*rules: dict[str, Any]) -> dict[str, Any]:
    architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": [*rules]}


def plan(*names: str) -> Plan:
    return Plan((candidate(),), families(names, library.SUITE), workloads=())


@pytest.fixture(scope="module")
def packed() -> bytes:
    return pack(plan(*FAMILIES), library.SUITE)


@pytest.fixture
def scratch() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="ambient-test-", dir=SCRATCH))
    yield directory
    shutil.rmtree(directory)


def confined(
    contents: bytes, seccomp: dict[str, Any] | None, scratch: Path, *, as_text: bool = False
) -> bytes:
    """What the runner alone writes, as the program of a container that somebody else made.

    ``as_text``: with the pack as a file of the image, as where there is no shell.
    """
    runtime = find("crun")
    work, root = scratch / "work", scratch / "rootfs"
    scratch.chmod(0o711)
    for one in (work, root, *(root / name for name in ("proc", "dev", "work"))):
        one.mkdir(exist_ok=True)
    os.chown(work, 100001, 100001)
    shutil.copy(runner_path(), root / "runner")
    with Sandbox() as sandbox:
        config = spec(CONTROL, seccomp, sandbox.init_pid(), work)
        config["process"]["args"] = ["/runner", "ambient", "/work"]
        if as_text:
            (root / "programs").write_bytes(contents)
            config["process"]["args"].append("/programs")
        config["mounts"] = [
            one for one in config["mounts"] if (root / one["destination"][1:]).is_dir()
        ]
        (scratch / "config.json").write_text(json.dumps(config))
        done = subprocess.run(
            [*runtime.command, "--root", scratch / "s", "run", "--bundle", scratch, "ambient-test"],
            input=b"" if as_text else contents,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert not list(work.iterdir()), "the runner left something"
    return done.stdout


def trials(contents: Contents) -> dict[str, TrialRecord]:
    return {one.variant: one for one in judge(contents, plan(*FAMILIES)).trials}


def outcomes(contents: Contents) -> dict[str, Outcome]:
    return {name: one.outcome for name, one in trials(contents).items()}


def test_what_is_refused_in_there_is_blocked_and_named(packed: bytes, scratch: Path) -> None:
    contents = read(confined(packed, profile(DENIED), scratch), "results")
    found = trials(contents)
    stopped = found["create-symlink/symlink"].stopped_at
    assert stopped is not None
    assert (stopped.call, stopped.answer, stopped.layer) == ("symlink", "EPERM", "confinement")
    assert found["create-symlink/symlink"].outcome is Outcome.BLOCKED
    assert found["create-symlink/io-uring-symlinkat"].outcome is Outcome.BYPASSED
    run = judge(contents, plan(*FAMILIES))
    assert run.enforcement.ground_truth.seccomp_mode == 2
    assert any(
        note.startswith("control: the same programs in sidestep's own") for note in run.notes
    )


def test_from_inside_nothing_is_said_that_the_runtime_run_does_not_say(
    packed: bytes, scratch: Path, tmp_path: Path
) -> None:
    inside = outcomes(read(confined(packed, profile(DENIED), scratch), "results"))
    path = tmp_path / "p.json"
    path.write_text(json.dumps(profile(DENIED)))
    runtime = find("crun")
    (one,) = load(path, runtime=runtime.model)
    contained = replace(plan(*FAMILIES), candidates=(one,))
    (outside,) = runtime_run.evaluate(contained, runtime, lambda _: None)
    said = {trial.variant: trial.outcome for trial in outside.trials}
    decided = (Outcome.BLOCKED, Outcome.BYPASSED)
    assert Outcome.DISAGREEMENT not in inside.values()
    assert Outcome.HARNESS_ERROR not in inside.values()
    apart = {name for name, what in inside.items() if what in decided and said[name] is not what}
    assert not apart
    known = sum(what in decided for what in inside.values())
    assert known > 0.9 * sum(what in decided for what in said.values())


def test_without_a_filter_all_gets_through(packed: bytes, scratch: Path) -> None:
    found = outcomes(read(confined(packed, None, scratch), "results"))
    assert set(found.values()) == {Outcome.BYPASSED, Outcome.UNSUPPORTED}


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD"])
def test_a_kill_is_a_block_by_sigsys(packed: bytes, scratch: Path, action: str) -> None:
    killing = profile({"names": ["symlink"], "action": action})
    found = trials(read(confined(packed, killing, scratch), "results"))
    one = found["create-symlink/symlink"]
    assert one.outcome is Outcome.BLOCKED
    assert one.stopped_at is not None
    assert (one.stopped_at.call, one.stopped_at.answer) == ("symlink", "SIGSYS")
    assert Outcome.DISAGREEMENT not in {one.outcome for one in found.values()}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["mkdir", "mkdirat"], "mkdirat, which the runner needs (EPERM)"),
        (["newfstatat"], "newfstatat or getdents64, which the runner needs (EPERM)"),
        (["clone", "fork"], "clone, which the runner needs (EPERM)"),
        (["setitimer"], "or getpid, which the runner needs (EPERM)"),
    ],
)
def test_what_the_runner_is_denied_is_named(
    packed: bytes, scratch: Path, names: list[str], said: str
) -> None:
    results = confined(packed, profile({"names": names, "action": "SCMP_ACT_ERRNO"}), scratch)
    with pytest.raises(EnvironmentLackError, match="the confinement denies") as error:
        read(results, "results")
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["clone", "wait4", "setitimer", "rt_sigprocmask"])
def test_an_answer_of_0_is_not_believed(packed: bytes, scratch: Path, name: str) -> None:
    rule = {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}
    with pytest.raises(EnvironmentLackError, match="the confinement denies"):
        read(confined(packed, profile(rule), scratch), "results")


def test_a_runner_without_a_clock_works(packed: bytes, scratch: Path) -> None:
    """It bounds each program by the processor's counter."""
    rule = {"names": ["clock_gettime", "symlink"], "action": "SCMP_ACT_ERRNO"}
    found = outcomes(read(confined(packed, profile(rule), scratch), "results"))
    assert found["create-symlink/symlink"] is Outcome.BLOCKED
    assert found["create-symlink/symlinkat"] is Outcome.BYPASSED


def test_a_batch_in_there_takes_at_most_three_times_the_native_time(
    scratch: Path, record_property: Callable[[str, object], None]
) -> None:
    everything = families([], library.SUITE)
    variants = [
        one
        for family in everything
        for one in family.variants
        if not why_not_inside(one) and not one.negative
    ]
    chosen = [family.only({one.id for one in variants}) for family in everything]
    contents = pack(
        Plan((candidate(),), tuple(one for one in chosen if one.size), workloads=()), library.SUITE
    )

    def native() -> float:
        begin = time.monotonic()
        with Sandbox() as sandbox:
            sandbox.define_config(0, CONTROL)
            sandbox.send(ambient.programs_of(variants))
            requests = [Request(n, n, 0, 0, 300_000) for n in range(len(variants))]
            for at in range(0, len(requests), 40):
                assert all(one.ok for one in sandbox.run(requests[at : at + 40]))
        return time.monotonic() - begin

    def contained() -> float:
        begin = time.monotonic()
        results = read(confined(contents, None, scratch), "results").results
        assert len(results) == len(variants)
        return time.monotonic() - begin

    ours, theirs = min(native() for _ in range(2)), min(contained() for _ in range(2))
    record_property(
        f"{len(variants)} programs natively / from inside a container",
        f"{ours * 1000:.0f} / {theirs * 1000:.0f} ms",
    )
    assert theirs < 3 * ours


def test_a_faked_success_is_no_block(packed: bytes, scratch: Path) -> None:
    faking = profile({"names": ["symlink"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0})
    found = outcomes(read(confined(packed, faking, scratch), "results"))
    assert found["create-symlink/symlink"] in (Outcome.INEFFECTIVE, Outcome.UNSUPPORTED)


def test_without_a_control_on_this_kernel_nothing_is_blocked(packed: bytes, scratch: Path) -> None:
    contents = read(confined(packed, profile(DENIED), scratch), "results")
    other = replace(contents, header=replace(contents.header, kernel="5.10.0-other"))
    found = trials(other)
    assert Outcome.BLOCKED not in {one.outcome for one in found.values()}
    assert "another kernel" in (found["create-symlink/symlink"].reason or "")
    unknown = replace(contents, status="")
    assert Outcome.BLOCKED not in outcomes(unknown).values()


def test_what_results_that_are_cut_off_lack_is_undecided(packed: bytes, scratch: Path) -> None:
    whole = confined(packed, profile(DENIED), scratch)
    cut = read(whole[: len(whole) - 100_000], "results")
    complete, partial = outcomes(read(whole, "results")), outcomes(cut)
    lost = {name for name in complete if partial[name] is not complete[name]}
    assert lost
    assert {partial[name] for name in lost} == {Outcome.HARNESS_ERROR}
    assert any("the runner ended early" in note for note in judge(cut, plan(*FAMILIES)).notes)


def test_a_pack_that_was_damaged_on_its_way_is_refused(packed: bytes, scratch: Path) -> None:
    at = packed.index(b"open/") if b"open/" in packed else len(packed) // 2
    damaged = packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]
    with pytest.raises(InputError, match=r"^r: the runner was not given the pack as it was made"):
        read(confined(damaged, None, scratch), "r")


def test_a_pack_whose_control_was_changed_is_refused(packed: bytes) -> None:
    contents = read(packed, "p")
    with pytest.raises(InputError, match=r"^p: changed or cut off since it was made"):
        families_of(replace(contents, notes=contents.notes[:-1] + b"?"), "p")
    with pytest.raises(InputError, match=r"^p: changed or cut off since it was made"):
        families_of(read(packed[: len(packed) // 2], "p"), "p")


def test_results_of_two_runners_are_refused(packed: bytes, scratch: Path) -> None:
    one = confined(packed, profile(DENIED), scratch)
    with pytest.raises(InputError, match=r"^r: of more than one runner"):
        read(one + one, "r")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_becomes_of_a_pack_is_a_pack_or_one_line(
    packed: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(packed) - 1) | st.integers(0, 3000))
    put = data.draw(st.binary(max_size=20))
    cut = data.draw(st.integers(0, 4000))
    try:
        contents = read(packed[:at] + put + packed[at + cut :], "p")
        families_of(contents, "p")
    except (InputError, EnvironmentLackError) as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said


@pytest.mark.parametrize("data", [b"nothing of ours", bytes(64), b"\x08\0\0\0\xff\xff\xff\x7f"])
def test_what_is_no_pack_is_one_line(data: bytes) -> None:
    with pytest.raises(InputError, match="x: no pack and no results of one"):
        read(data, "x")


def test_a_runner_that_said_nothing_is_one_line() -> None:
    with pytest.raises(InputError, match="x: empty: the runner did not start"):
        read(b"", "x")


@pytest.mark.parametrize(
    ("directory", "said"),
    [
        ("/nowhere", r"cannot be opened \(ENOENT\): name one of a tmpfs"),
        ("/usr", "there is no tmpfs to work in: name a directory of one"),
    ],
)
def test_a_place_to_work_in_is_needed(packed: bytes, directory: str, said: str) -> None:
    nobody = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
    with runner_path().open("rb") as runner:  # nobody may enter the directory that it lies in
        done = subprocess.run(
            [*nobody, f"/proc/self/fd/{runner.fileno()}", "ambient", directory],
            input=packed,
            stdout=subprocess.PIPE,
            pass_fds=(runner.fileno(),),
            check=False,
        )
    with pytest.raises(EnvironmentLackError, match=said):
        read(done.stdout, "x")


def test_a_pack_of_another_version_is_refused(packed: bytes) -> None:
    contents = read(packed, "p")
    header = contents.header
    assert families_of(contents, "p")
    for other in (
        replace(header, digest="0" * 16),
        replace(header, variants=header.variants[:-1]),
        replace(header, suite="1999.01"),
        replace(header, families=("no-such-family",)),
    ):
        with pytest.raises(InputError, match=r"^p: made by another version"):
            families_of(replace(contents, header=other), "p")


def test_a_header_survives_its_encoding(packed: bytes) -> None:
    header = read(packed, "p").header
    assert msgspec.json.decode(msgspec.json.encode(header), type=type(header)) == header


COMMAND = "from evaluator.entry import main; main()"


def command(*args: object, confine: bool = False) -> subprocess.CompletedProcess[str]:
    few = ["setpriv", "--bounding-set=-all,+chown,+dac_override,+fowner"] if confine else []
    return subprocess.run(
        [*few, sys.executable, "-c", COMMAND, "evaluate", "--ambient", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
    )


def test_the_command_packs_runs_and_judges(tmp_path: Path) -> None:
    file = tmp_path / "programs"
    done = command("--pack", file, "--family", "create-directory")
    assert done.returncode == 0, done.stderr
    assert f"written to {file}" in done.stdout
    refused = command("--control", file)
    assert refused.returncode == 3
    assert "nothing confines this process" in refused.stderr
    there = command("--control", file, "--json", confine=True)
    assert there.returncode == 1, there.stderr  # the named family is not held
    (found,) = json.loads(there.stdout)["candidates"]
    assert found["name"] == "ambient"
    assert [one["verdict"] for one in found["families"]] == ["open"]
    assert not list(SCRATCH.glob("sidestep-*"))


def test_a_pack_in_a_file_gives_the_same_as_text(packed: bytes, scratch: Path) -> None:
    text = confined(packed, profile(DENIED), scratch, as_text=True)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 4096
    found = outcomes(read(text, "log"))
    assert found == outcomes(read(confined(packed, profile(DENIED), scratch), "results"))
    assert Outcome.BLOCKED in found.values()
    cut = read(text[: len(text) * 9 // 10], "log")
    assert 0 < len(cut.results) < len(found)


def test_the_control_may_come_from_beside_it(packed: bytes, scratch: Path) -> None:
    """Of a container without the filter: what it shows is what the pack's own control shows."""
    there = read(confined(packed, profile(DENIED), scratch, as_text=True), "candidate.txt")
    beside = read(confined(packed, None, scratch, as_text=True), "control.txt")
    found = with_control(there, beside, "control.txt")
    assert outcomes(found) == outcomes(there)
    notes = judge(found, plan(*FAMILIES)).notes
    assert "the same programs in control.txt, under seccomp mode 0 with 0 filters" in notes[0]


def test_what_the_control_does_not_show_is_no_block(packed: bytes, scratch: Path) -> None:
    there = read(confined(packed, profile(DENIED), scratch), "candidate.txt")
    found = trials(with_control(there, there, "control.txt"))
    assert Outcome.BLOCKED not in {one.outcome for one in found.values()}
    symlink = found["create-symlink/symlink"]
    assert symlink.outcome is Outcome.UNSUPPORTED
    assert symlink.reason == "the control does not show it either, where it ran"


def test_a_control_of_something_else_is_refused(packed: bytes, scratch: Path) -> None:
    there = read(confined(packed, None, scratch), "candidate.txt")
    other = read(confined(pack(plan("kexec", "create-file"), "2026.11"), None, scratch), "o.txt")
    with pytest.raises(InputError, match=r"^o.txt: of another pack than the results"):
        with_control(there, other, "o.txt")
    with pytest.raises(InputError, match=r"^programs: holds no results: give what a runner wrote"):
        with_control(there, read(packed, "programs"), "programs")


KUBERNETES = ROOT / "integrations" / "kubernetes"
KUBECTL = """#!/bin/sh
case "$*" in
"get pods --selector job-name=sidestep "*) echo "$PODS" ;;
"get job sidestep "*) echo 1 ;;
"logs sidestep-lost "*) echo "Error from server: no log" >&2 && exit 1 ;;
"logs sidestep-"*) cat "$LOGS/$4.txt" ;;
esac
"""
PODS = {
    "a pod": ("sidestep-x|node-1|Succeeded", 0, ""),
    "two of one node": ("sidestep-x|node-1|Succeeded\nsidestep-y|node-1|Succeeded", 0, ""),
    "one that failed": (
        "sidestep-lost|node-2|Failed\nsidestep-x|node-1|Succeeded",
        3,
        (
            "Error from server: no log\n"
            "collect: sidestep-lost on node-2 (Failed): no log of the container control: left out\n"
        ),
    ),
    "one without a node": (
        "sidestep-y||Pending\nsidestep-x|node-1|Succeeded",
        3,
        "collect: sidestep-y: on no node (Pending): left out\n",
    ),
    "none with results": (
        "sidestep-y||Pending",
        3,
        "collect: sidestep-y: on no node (Pending): left out\ncollect: 0 of 1 pods have results\n",
    ),
}


@pytest.fixture(scope="module")
def logs(packed: bytes) -> Iterator[Path]:
    """What the two containers of the Job write, under runc's rival."""
    directory = Path(tempfile.mkdtemp(prefix="ambient-test-", dir=SCRATCH))
    for name, seccomp in (("control", None), ("candidate", profile(DENIED))):
        place = directory / f"{name}.place"
        place.mkdir()
        text = confined(packed, seccomp, place, as_text=True)
        (directory / f"{name}.txt").write_bytes(text)
    yield directory
    shutil.rmtree(directory)


def collect(
    to: Path, logs: Path, pods: str, job: str = "sidestep"
) -> subprocess.CompletedProcess[str]:
    """``collect`` with a kubectl that has only these pods."""
    bin_ = to / "bin"
    bin_.mkdir()
    sidestep = f"#!/bin/sh\nexec {sys.executable} -c '{COMMAND}' \"$@\"\n"
    for name, text in (("kubectl", KUBECTL), ("sidestep", sidestep)):
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    path = f"{bin_}:{os.environ['PATH']}"
    return subprocess.run(
        [KUBERNETES / "collect", job, to / "results"],
        env={**os.environ, "PATH": path, "LOGS": str(logs), "PODS": pods},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize("case", PODS)
def test_the_job_of_a_cluster_is_collected_and_judged(
    logs: Path, tmp_path: Path, case: str
) -> None:
    pods, code, said = PODS[case]
    done = collect(tmp_path, logs, pods)
    assert (done.returncode, done.stderr) == (code, said)
    with_results = pods.count("Succeeded")
    kept = sorted((tmp_path / "results").glob("*/report/run.json"))
    assert len(kept) == with_results
    assert done.stdout.count("node-1\n") == with_results
    for one in kept:
        assert json.loads(one.read_text())["candidates"][0]["counts"]["BLOCKED"] > 0


def test_nothing_to_collect_is_one_line(logs: Path, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine").write_text("")
    full = collect(tmp_path, logs, "sidestep-x|node-1|Succeeded")
    shutil.rmtree(tmp_path / "bin")
    nothing = collect(tmp_path, logs, "", "another")
    assert full.returncode == nothing.returncode == 2
    assert full.stderr.endswith("/results is not an empty directory: name another\n")
    assert nothing.stderr == "collect: no pods of a Job named another in this namespace\n"


def test_the_job_is_what_kubernetes_takes() -> None:
    job = yaml.safe_load((KUBERNETES / "job.yaml").read_text())
    kubernetes_validate.validate(job, "1.33", strict=True)
    control, candidate_ = job["spec"]["template"]["spec"]["containers"]
    differs = {
        key
        for key in control["securityContext"]
        if control["securityContext"][key] != candidate_["securityContext"][key]
    }
    assert differs == {"seccompProfile"}
    image = (KUBERNETES / "Containerfile").read_text().splitlines()[-1]
    assert image == 'ENTRYPOINT ["/runner", "ambient", "/scratch", "/programs"]'


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--ambient needs a control"),
        (("--pack", "a", "--unpack", "b"), "--pack and --unpack: choose one"),
        (("x.json", "--pack", "a"), "leave the candidates out"),
        (("--unpack", "no-such-file"), "no-such-file: No such file or directory"),
        (("--unpack", "README.md"), "README.md: no pack and no results of one"),
        (("--pack", "docs"), "docs: not a file that could be written"),
        (("--pack", "a", "--runtime", "runc"), "--ambient does not take --runtime"),
        (("--pack", "a", "--family", "kexec"), "none of these families can be tried"),
    ],
)
def test_wrong_input_is_one_line(options: tuple[str, ...], said: str) -> None:
    done = command(*options)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("sidestep: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
