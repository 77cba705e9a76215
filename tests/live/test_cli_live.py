"""The command from end to end: what it prints, what it leaves, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "mitigations" / "library"
BLOCK_MKDIR = str(LIBRARY / "block-mkdir.json")
PACKAGES = sysconfig.get_path("purelib")
COMMAND = [sys.executable, "-c", "from evaluator.cli import main; main()"]
FAMILY = ("--family", "create-directory")
OUTPUTS = {"results.parquet", "summary.csv", "run.json", "report.html"}

# Design, section 7: the keys that are a contract.
KEYS = "schema environment suite objective candidates"
ENVIRONMENT_KEYS = "kernel arch libseccomp isolation lsm ambient"
CANDIDATE_KEYS = (
    "name source valid enforced starts posture runtime_model ground_truth warnings robustness "
    "routes utility families trials workloads"
)
FAMILY_KEYS = "family verdict targeted working blocked bypassed bypasses reachable_elsewhere"
TRIAL_KEYS = (
    "variant technique assumption outcome control_effect mitigated_effect predicted stopped_at"
)


class Done(Struct, dict=True):
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


class Running:
    """A command in a session of its own, with a mark by which all it started can be found."""

    def __init__(self, *arguments: str, command: Sequence[str] = COMMAND, **more: Any) -> None:
        self.mark = f"SIDESTEP_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        search = os.pathsep.join([str(ROOT), PACKAGES, os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": search, name: value, **more.pop("env", {})}
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
            **more,
        )

    def done(self, timeout: float = 60) -> Done:
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return Done(self.process.returncode, out, err)

    def processes(self, argument: bytes = b"") -> list[int]:
        """What the command started and is still there; with that argument, if one is given."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            try:
                if not entry.name.isdigit() or int(entry.name) == self.process.pid:
                    continue
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if argument in words[1:2] or not argument:
                    marked = self.mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                    found += [int(entry.name)] if marked else []
            except OSError:
                continue
        return found

    def workers(self) -> list[int]:
        """The outer processes of all runners, once they have been at work for a while.

        Two workers have two each.  The probes before the trials have one runner only.
        """
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            runners = self.processes(b"serve")
            found = [pid for pid in runners if _parent(pid) not in runners]
            if len(found) == 4:
                time.sleep(0.7)
                return found
            time.sleep(0.02)
        self.process.kill()
        raise AssertionError("the runners were not started")

    def nothing_left(self) -> bool:
        deadline = time.monotonic() + 5
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.processes()


def _parent(pid: int) -> int:
    """0 where the process is gone already."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def sidestep(*arguments: str, **more: Any) -> Done:
    running = Running(*arguments, **more)
    done = running.done()
    assert running.nothing_left()
    return done


def has(keys: str, record: dict[str, Any]) -> bool:
    return set(keys.split()) <= record.keys()


def by_name(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in document["candidates"]}


# ------------------------------------------------------------------ what it prints and writes


@pytest.fixture(scope="module")
def block_mkdir(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    output = tmp_path_factory.mktemp("output") / "results"
    return sidestep("evaluate", BLOCK_MKDIR, "--json", "-o", str(output)), output


def test_json_is_one_object_with_the_keys_of_the_contract(block_mkdir: tuple[Done, Path]) -> None:
    done, _ = block_mkdir
    assert (done.code, done.err) == (0, "")
    document = done.document  # fails if stdout holds anything else
    assert document["schema"] == "sidestep.results/1"
    assert has(KEYS, document)
    assert has(ENVIRONMENT_KEYS, document["environment"])
    (candidate,) = document["candidates"]
    assert has(CANDIDATE_KEYS, candidate)
    assert all(has(FAMILY_KEYS, one) for one in candidate["families"])
    assert all(has(TRIAL_KEYS, one) for one in candidate["trials"])
    stopped = [one["stopped_at"] for one in candidate["trials"] if one["outcome"] == "BLOCKED"]
    assert all(one.keys() >= {"call", "abi", "answer", "decisive"} for one in stopped)
    assert all(one.keys() >= {"workload", "works"} for one in candidate["workloads"])


def test_a_profile_that_leaks_says_so(block_mkdir: tuple[Done, Path]) -> None:
    (candidate,) = block_mkdir[0].document["candidates"]
    verdicts = {one["family"]: one["verdict"] for one in candidate["families"]}
    assert verdicts["create-directory"] == "leaky"
    assert candidate["starts"].items() >= {
        ("loads", True),
        ("runtime", True),
        ("static", True),
    }
    assert all(one["works"] for one in candidate["workloads"])
    assert candidate["utility"] == 1


def test_an_output_directory_gets_all_files(block_mkdir: tuple[Done, Path]) -> None:
    done, output = block_mkdir
    assert {path.name for path in output.iterdir()} == OUTPUTS
    assert json.loads((output / "run.json").read_text()) == done.document
    assert all(path.stat().st_size > 100 for path in output.iterdir())


def test_a_table_fits_80_columns() -> None:
    done = sidestep("evaluate", BLOCK_MKDIR, env={"COLUMNS": "80"})
    assert (done.code, done.err) == (0, "")
    assert "leaky" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


# ------------------------------------------------------------------ how it ends


@pytest.mark.parametrize(
    ("profile", "condition", "code"),
    [
        ("block-mkdir.json", "leaky", 1),
        ("unconfined.json", "leaky", 0),
        ("block-mkdir.json", "undecided", 0),
    ],
)
def test_a_gate_decides_the_exit_code(profile: str, condition: str, code: int) -> None:
    done = sidestep("evaluate", str(LIBRARY / profile), "--json", "--fail-on", condition)
    assert done.code == code
    assert done.document["exit_code"] == code
    (gate,) = (one for one in done.document["gates"] if not one["ok"]) if code else ({},)
    assert not code or condition in gate["gate"]


def test_a_family_that_is_asked_for_must_hold() -> None:
    for profile, code in (("block-mkdir.json", 1), ("no-new-directories.json", 0)):
        done = sidestep("evaluate", str(LIBRARY / profile), "--json", *FAMILY)
        assert done.code == code, done.err


RULE: dict[str, Any] = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}
ARGUMENT = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}


def profile(**changes: Any) -> str:
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [RULE], **changes})


def with_rule(**changes: Any) -> str:
    return profile(syscalls=[{**RULE, **changes}])


BAD = {
    "not-json": ("{", ""),
    "wrong-type": (profile(syscalls="mkdir"), "syscalls"),
    "unknown-action": (with_rule(action="SCMP_ACT_DENY"), "syscalls[0].action"),
    "unknown-operator": (
        with_rule(args=[{**ARGUMENT, "op": "SCMP_CMP_LIKE"}]),
        "syscalls[0].args[0].op",
    ),
    "unknown-architecture": (profile(architectures=["SCMP_ARCH_Z80"]), "architectures[0]"),
    "index-6": (with_rule(args=[{**ARGUMENT, "index": 6}]), "syscalls[0].args[0].index"),
    "empty": ("", ""),
    "ten-megabytes": ("x" * 10_000_000, ""),
    "too-large": (
        profile(syscalls=[{**RULE, "args": [{**ARGUMENT, "value": i << 32}]} for i in range(5000)]),
        "",
    ),
    "no-profile": ('{"name": "left-pad", "version": "1.0.0"}', ""),
}


def test_bad_input_is_one_line_each_and_the_others_go_on(tmp_path: Path) -> None:
    for name, (text, _) in BAD.items():
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "nothing-here").mkdir()
    paths = [str(tmp_path / f"{name}.json") for name in BAD] + [str(tmp_path / "nothing-here")]
    done = sidestep("evaluate", *paths, BLOCK_MKDIR, "--json", *FAMILY)
    assert done.code == 2
    assert len(done.lines) == len(paths), done.err
    for line, path, (_, where) in zip(done.lines, paths, [*BAD.values(), ("", "")], strict=True):
        assert line.startswith(f"sidestep: {path}: {where}")
        assert len(line) < 400
    found = by_name(done.document)
    assert found["block-mkdir"]["families"][0]["verdict"] == "leaky"
    for name, (_, where) in BAD.items():
        assert not found[name]["valid"]
        (error,) = found[name]["errors"]
        assert error["where"].startswith(where)


def test_only_bad_input_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    done = sidestep("evaluate", str(tmp_path / "bad.json"), "-o", str(tmp_path / "out"))
    assert (done.code, done.out, len(done.lines)) == (2, "", 1)


# ------------------------------------------------------------------ interrupted, killed


@pytest.fixture
def long_run(tmp_path: Path) -> Running:
    """A bad candidate, which is finished at once, and one that takes long."""
    (tmp_path / "bad.json").write_text("{")
    return Running(
        "evaluate",
        str(tmp_path / "bad.json"),
        BLOCK_MKDIR,
        "--json",
        "--repeats",
        "300",
        "--jobs",
        "2",
        "-o",
        str(tmp_path / "out"),
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_was_finished_is_kept_and_nothing_is_left(
    long_run: Running, tmp_path: Path, number: int, code: int
) -> None:
    long_run.workers()
    begin = time.monotonic()
    long_run.process.send_signal(number)
    done = long_run.done()
    assert time.monotonic() - begin < 5
    assert done.code == code
    assert long_run.nothing_left()
    assert "interrupted: 1 of 2 candidates finished" in done.lines[-1]
    assert list(by_name(done.document)) == ["bad"]
    assert done.document["exit_code"] == code
    assert {path.name for path in (tmp_path / "out").iterdir()} == OUTPUTS


def test_a_killed_command_leaves_no_runner(long_run: Running) -> None:
    long_run.workers()
    long_run.process.kill()
    long_run.done()
    assert long_run.nothing_left()


def test_a_lost_worker_ends_the_run_in_one_line(long_run: Running) -> None:
    """Its share of the trials is not known to anybody else."""
    runners = long_run.workers()
    os.kill(_parent(runners[0]), signal.SIGKILL)
    done = long_run.done()
    assert done.code == 4
    assert done.lines[-1] == "sidestep: a worker process was lost"
    assert list(by_name(done.document)) == ["bad"]
    assert long_run.nothing_left()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lost_runner_costs_its_trial_and_not_the_run(number: int) -> None:
    two = (*FAMILY, "--family", "create-file")
    running = Running("evaluate", BLOCK_MKDIR, "--json", *two, "--repeats", "100", "--jobs", "2")
    os.kill(running.workers()[-1], number)
    done = running.done()
    assert running.nothing_left()
    assert done.code in (1, 4), done.err
    (candidate,) = done.document["candidates"]
    lost = [one for one in candidate["trials"] if one["outcome"] == "HARNESS_ERROR"]
    assert len(lost) <= 1
    assert candidate["families"][0]["verdict"] in ("leaky", "undecided")


# ------------------------------------------------------------------ as an ordinary user


def ordinary() -> list[str]:
    """The command as an ordinary user, by the system's Python: ours may be root's alone."""
    if os.geteuid() != 0:
        return COMMAND
    setpriv, python = shutil.which("setpriv"), Path("/usr/bin/python3")
    if setpriv is None:
        pytest.skip("setpriv (util-linux) is not here")
    if not python.exists():
        pytest.skip("no /usr/bin/python3 here")
    version = [str(python), "-c", "import sys; print(*sys.version_info[:2])"]
    found = subprocess.run(version, capture_output=True, text=True, check=True).stdout.split()
    if found != [str(part) for part in sys.version_info[:2]]:
        pytest.skip(f"/usr/bin/python3 is {'.'.join(found)}, our packages are for another")
    return [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", str(python), *COMMAND[1:]]


def test_an_ordinary_user_gets_the_same_verdicts() -> None:
    done = sidestep(
        "evaluate",
        str(LIBRARY),
        "--json",
        *FAMILY,
        command=ordinary(),
        env={"HOME": "/nonexistent"},
    )
    assert done.code == 1, done.err
    document = done.document
    assert document["environment"]["user"] != "root"
    assert document["environment"]["id_map"] == 1
    verdicts = {name: one["families"][0]["verdict"] for name, one in by_name(document).items()}
    assert verdicts["block-mkdir"] == "leaky"
    assert verdicts["no-new-directories"] == "held"
    assert verdicts["unconfined"] == "open"
    for one in document["candidates"]:
        assert one["enforced"]
        assert one["ground_truth"]["read_back"].startswith("not permitted")


def test_what_an_ordinary_user_cannot_test_says_why() -> None:
    done = sidestep(
        "evaluate", BLOCK_MKDIR, "--json", command=ordinary(), env={"HOME": "/nonexistent"}
    )
    assert done.code in (0, 1), done.err
    (candidate,) = done.document["candidates"]
    reasons = {
        one["variant"]: one["reason"]
        for one in candidate["trials"]
        if one["outcome"] not in ("BYPASSED", "BLOCKED")
    }
    one_id = "identity: an ordinary user's sandbox maps one id only"
    assert one_id in reasons["change-owner/chown"]
    known = ("kernel", "architecture", "capability", "identity", "system", "rewrite", "negative")
    assert [one for one in reasons.values() if not one.startswith(known)] == []
