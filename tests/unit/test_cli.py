"""The command from its options to its exit code; what the kernel would say is made up here."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from attacks.family import Assumption, Technique
from evaluator import cli, cli_evaluate, cli_export, options
from evaluator.assemble import assemble, failed
from evaluator.errors import EnvironmentLackError, HarnessError, HungUpError, TerminatedError
from evaluator.plan import Plan, Progress
from evaluator.records import (
    CandidateResult,
    CandidateRun,
    Enforcement,
    Environment,
    Probe,
    Starts,
    TrialRecord,
    WorkloadOutcome,
    WorkloadRecord,
)
from evaluator.verdict import FailOn, Outcome
from mitigations.candidate import FailedCandidate
from reports.errors import ReportError

ROOT = Path(__file__).parent.parent.parent
SAMPLE = ROOT / "tests/data/results/sample.json"
PROFILE = """{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
 "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"""


class Kernel:
    """Answers for the campaign: baselines are blocked, all else gets through, unless told."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.leaks = True
        self.lacks = ""
        self.interrupt_after: int | None = None
        self.interrupt: BaseException = KeyboardInterrupt()

    def evaluate(
        self, plan: Plan, on_progress: Any, finish: Any = assemble
    ) -> Iterator[CandidateResult]:
        self.plan = plan
        if self.lacks:
            raise EnvironmentLackError(self.lacks)
        for number, candidate in enumerate(plan.candidates):
            if number == self.interrupt_after:
                raise self.interrupt
            on_progress(Progress(candidate.name, number, len(plan.candidates)))
            if isinstance(candidate, FailedCandidate):
                yield failed(candidate, plan)
            else:
                yield finish(self._run(plan, candidate), plan)

    def _run(self, plan: Plan, candidate: Any) -> CandidateRun:
        return CandidateRun(
            candidate=candidate,
            posture=plan.posture,
            enforcement=Enforcement(True),
            starts=Starts(True, True, True, True),
            trials=tuple(
                self._trial(variant) for family in plan.families for variant in family.variants
            ),
            workloads=tuple(
                WorkloadRecord(one.name, one.title, True, True, outcome=WorkloadOutcome.WORKS)
                for one in plan.workloads
            ),
            duration_s=0.1,
        )

    def _trial(self, variant: Any) -> TrialRecord:
        blocked = variant.technique is Technique.BASELINE or not self.leaks
        return TrialRecord(
            variant=variant.id,
            family=variant.family,
            title=variant.name,
            technique=variant.technique,
            assumption=variant.assumption,
            grade=variant.grade,
            outcome=Outcome.BLOCKED if blocked else Outcome.BYPASSED,
            control_effect=variant.grade,
            mitigated_effect=None if blocked else variant.grade,
            predicted=None,
            route=variant.name,
            negative=variant.negative,
            beyond_seccomp=variant.beyond_seccomp,
        )


def environment(probes: list[Probe]) -> Environment:
    return Environment(
        "6.12.0", "x86_64", "2.5.4", "namespaces", (), {}, "root", 65536, tuple(probes)
    )


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    fake = Kernel()
    campaign, doctor = ModuleType("evaluator.campaign"), ModuleType("evaluator.doctor")
    campaign.evaluate = fake.evaluate  # type: ignore[attr-defined]
    doctor.environment = environment  # type: ignore[attr-defined]
    doctor.probe = lambda: [Probe("x32", "no", "not testable", ok=False)]  # type: ignore[attr-defined]
    doctor.runtime_probes = list  # type: ignore[attr-defined]
    doctor.vm_probe = lambda: Probe("vm", "no", "no QEMU", ok=False)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "evaluator.campaign", campaign)
    monkeypatch.setitem(sys.modules, "evaluator.doctor", doctor)
    return fake


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "block-mkdir.json"
    path.write_text(PROFILE)
    return str(path)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_run_prints_a_table_and_ends_with_0(kernel, command, profile) -> None:
    code, out, err = command("evaluate", profile)
    assert (code, err) == (0, "")
    assert "block-mkdir: leaks in" in out
    assert max(map(len, out.splitlines())) <= 80


def test_json_is_one_object_and_nothing_else(kernel, command, profile) -> None:
    code, out, err = command("evaluate", profile, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "sidestep.results/1"
    assert document["exit_code"] == 0
    assert document["candidates"][0]["profile_text"] == PROFILE
    assert command("evaluate", profile, "--format", "json")[1].startswith('{"schema"')


@pytest.mark.parametrize(
    "arguments",
    [("evaluate", "nothing-is-read.json"), ("workloads", "list"), ("attacks", "list"), ("doctor",)],
)
def test_json_and_another_format_contradict_each_other(command, arguments) -> None:
    for both in (("--json", "--format", "table"), ("--format", "table", "--json")):
        code, out, err = command(*arguments, *both)
        assert (code, out) == (2, "")
        assert err == "sidestep: --json and --format table: give one of them\n"


def test_json_twice_is_json(command) -> None:
    code, out, _ = command("workloads", "list", "--json", "--format", "json")
    assert (code, out[:1]) == (0, "{")


def test_every_option_reaches_the_plan(kernel, command, profile) -> None:
    command(
        "evaluate", profile, "--posture", "restricted", "--jobs", "3", "--repeats", "2",
        "--timeout", "0.5", "--no-fast-path", "--assume", "inherited-ring,trusted-setup",
        "--objective", "no-new-directories", "--family", "create-file@/data",
        "--family", "change-mode[bits=04000]", "--suite", "2026.11", "--runtime-model", "crun",
        "--from", "oci",
    )  # fmt: skip
    plan = kernel.plan
    assert [family.label for family in plan.families] == [
        "create-file@/data",
        "change-mode[bits=04000]",
        "create-directory",
    ]
    assert plan.assume == {Assumption.INHERITED_RING, Assumption.TRUSTED_SETUP}
    assert plan.objective.name == "no-new-directories"
    assert (plan.posture, plan.jobs, plan.repeats) == ("restricted", 3, 2)
    assert (plan.timeout_s, plan.fast_path) == (0.5, False)
    assert plan.candidates[0].runtime_model.startswith("crun")


def test_what_is_said_twice_here_is_said_alike_elsewhere() -> None:
    from evaluator.posture import POSTURES
    from mitigations.export import FORMATS
    from mitigations.load import Meaning
    from mitigations.runtimes import MODELS

    assert list(FailOn) == list(cli_evaluate.FAIL_ON)
    assert tuple(POSTURES) == options.POSTURES
    assert tuple(MODELS) == options.RUNTIME_MODELS
    assert get_args(Meaning) == options.MEANINGS
    assert tuple(FORMATS) == cli_export.FORMATS
    shown = next(one for one in cli_evaluate.evaluate.params if one.name == "assume")
    assert all(one in shown.help for one in Assumption if one is not Assumption.NONE)


def test_a_failed_gate_ends_with_1_and_says_which(kernel, command, profile) -> None:
    code, out, _ = command("evaluate", profile, "--fail-on", "leaky,undecided")
    assert code == 1
    assert "gate failed: block-mkdir: leaky: " in out
    assert command("evaluate", profile, "--family", "create-directory")[0] == 1
    kernel.leaks = False
    assert command("evaluate", profile, "--fail-on", "leaky")[0] == 0
    assert command("evaluate", profile, "--family", "create-directory")[0] == 0
    assert command("evaluate", profile, "--objective", "no-new-directories")[0] == 0


def test_a_bad_profile_is_one_line_and_the_others_go_on(kernel, command, profile, tmp_path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    code, out, err = command("evaluate", str(bad), profile)
    assert code == 2
    assert err.startswith(f"sidestep: {bad}: ")
    assert err.count("\n") == 1
    assert "block-mkdir: leaks in" in out
    assert "bad: invalid: " in out
    code, out, err = command("evaluate", str(bad))
    assert (code, out, err.count("\n")) == (2, "", 1)
    code, out, _ = command("evaluate", str(bad), "--json")
    assert code == 2
    assert json.loads(out)["candidates"][0]["valid"] is False


def test_a_prediction_runs_no_workload(kernel, command, profile) -> None:
    code, out, err = command("evaluate", profile, "--simulate", "--workload", "tar")
    assert (code, out) == (2, "")
    assert "--simulate runs nothing" in err


def test_two_files_of_one_name_stay_apart(kernel, command, profile, tmp_path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "block-mkdir.json"
    other.write_text(PROFILE)
    _, out, _ = command("evaluate", profile, str(other), profile, "--json")
    names = [one["name"] for one in json.loads(out)["candidates"]]
    assert names == [profile, str(other), f"{profile} (2)"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "No such command"),
        (["evaluate"], "Missing argument"),
        (["evaluate", "P", "--nosuch"], "No such option"),
        (["evaluate", "P", "--family", "create-directry"], "did you mean"),
        (["evaluate", "P", "--objective", "no-new-directory"], "did you mean no-new-directories"),
        (["evaluate", "P", "--assume", "inherited-rings"], "did you mean inherited-ring"),
        (["evaluate", "P", "--fail-on", "leeky"], "did you mean leaky"),
        (["evaluate", "P", "--suite", "1999.01"], "unknown suite"),
        (["evaluate", "P", "--posture", "god"], "--posture"),
        (["evaluate", "P", "--jobs", "0"], "--jobs"),
        (["evaluate", "P", "--timeout", "nan"], "--timeout"),
        (["evaluate", "P", "-o", "P"], "would overwrite"),
        (["evaluate", "P", "-o", ""], "empty path"),
        (["evaluate", ""], "empty path"),
        (["evaluate", "P", "-o", "/dev/null"], "not a directory"),
        (["evaluate", "P", "-o", "P/deeper"], "cannot write"),
        (["evaluate", "/nonexistent.json"], "/nonexistent.json: "),
        (["attacks", "show", "create-directory/mkdrat"], "did you mean"),
        (["attacks", "list", "--family", "x"], "unknown family"),
        (["report", "/nonexistent"], "No such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    kernel, command, profile, arguments, message
) -> None:
    code, out, err = command(*(one.replace("P", profile) for one in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("sidestep: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_machine_that_cannot_do_it_ends_with_3(kernel, command, profile) -> None:
    kernel.lacks = "user namespaces are switched off"
    assert command("evaluate", profile) == (3, "", "sidestep: user namespaces are switched off\n")


def test_a_defect_of_ours_is_one_line_unless_debug_asks(
    kernel, command, profile, monkeypatch
) -> None:
    monkeypatch.setattr(sys.modules["evaluator.doctor"], "probe", lambda: 1 // 0)
    code, _, err = command("evaluate", profile)
    assert code == 4
    assert err.startswith("sidestep: internal error: ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        cli.main(["evaluate", profile, "--debug"])


@pytest.mark.parametrize(
    ("interrupt", "expected", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted: 1 of 2 candidates finished"),
        (TerminatedError(), 143, "interrupted: 1 of 2 candidates finished"),
        (HungUpError(), 129, "interrupted: 1 of 2 candidates finished"),
        (HarnessError("a control changed"), 4, "a control changed"),
    ],
)
def test_what_was_finished_is_kept_when_a_run_ends_early(
    kernel, command, profile, tmp_path, interrupt, expected, message
) -> None:
    kernel.interrupt_after, kernel.interrupt = 1, interrupt
    output = tmp_path / "out"
    code, out, err = command("evaluate", profile, profile, "--json", "-o", str(output))
    assert code == expected
    assert err == f"sidestep: {message}\n"
    document = json.loads(out)
    assert document["exit_code"] == expected
    assert len(document["candidates"]) == 1
    assert json.loads((output / "run.json").read_text()) == document


def test_listings_are_tables_or_json(kernel, command) -> None:
    code, out, _ = command("attacks", "list", "--family", "create-directory")
    assert code == 0
    assert "mkdirat-dirfd" in out
    families = json.loads(command("attacks", "list", "--json")[1])["families"]
    assert "create-directory" in [one["family"] for one in families]
    assert "* mkdirat(" in command("attacks", "show", "create-directory/mkdirat-dirfd")[1]
    shown = json.loads(command("attacks", "show", "create-directory/mkdir", "--json")[1])
    assert shown["technique"] == "baseline"
    assert "shell-basics" in command("workloads", "list")[1]
    assert json.loads(command("workloads", "list", "--json")[1])["workloads"]
    assert "not testable" in command("doctor")[1]
    assert json.loads(command("doctor", "--json")[1])["probes"][0]["ok"] is False


def test_a_report_is_rendered_again(command, tmp_path) -> None:
    code, out, _ = command("report", str(SAMPLE), "-o", str(tmp_path / "again"))
    assert code == 0
    assert "block-mkdir: leaks in 1 of 1 targeted family" in out
    assert (tmp_path / "again" / "report.html").is_file()


def _shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -c 'from evaluator.cli import main; main()'"
    return subprocess.run(
        ["/bin/bash", "-c", f'set -o pipefail; sidestep() {{ {program} "$@"; }}; {script}'],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_answers_at_once() -> None:
    """In processor time, so that a busy machine is no failure."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "evaluate" in _shell("sidestep --help").stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.4


def test_help_loads_nothing_heavy() -> None:
    done = _shell(
        f"{sys.executable} -X importtime -c 'from evaluator.cli import main; main()' --help"
    )
    for heavy in ("rich", "attacks", "mitigations", "reports", "pandas"):
        assert f"| {heavy}\n" not in done.stderr.replace("|   ", "| ")
        assert f" {heavy}." not in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = _shell("sidestep attacks list --json | true")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_one_line() -> None:
    done = _shell("sidestep attacks list > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "sidestep: cannot write to stdout: No space left on device\n"


def test_help_on_a_full_disk_is_one_line() -> None:
    done = _shell("sidestep --help > /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "internal" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", "2>&-"])
def test_closed_descriptors_that_are_not_needed_are_no_error(closed: str) -> None:
    done = _shell(f"sidestep attacks list {closed}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
def test_what_cannot_be_printed_is_not_lost_in_silence(closed: str) -> None:
    done = _shell(f"sidestep attacks list {closed}")
    assert done.returncode == 2
    assert done.stderr == "sidestep: cannot write to stdout: Bad file descriptor\n"


@pytest.mark.parametrize("form", ["table", "json"])
def test_results_are_printed_if_they_cannot_be_written(
    kernel, command, profile, tmp_path, monkeypatch, form
) -> None:
    def full(*_: object) -> None:
        raise ReportError("out: cannot write: No space left on device")

    monkeypatch.setattr("reports.files.write", full)
    code, out, err = command("evaluate", profile, "--format", form, "-o", str(tmp_path / "out"))
    assert (code, err) == (2, "sidestep: out: cannot write: No space left on device\n")
    assert "block-mkdir" in out
    assert "written to" not in out
    assert not (tmp_path / "out").exists()


def test_colour_is_only_for_terminals() -> None:
    done = _shell(f"sidestep report {SAMPLE}", FORCE_COLOR="1", NO_COLOR="1")
    assert "\x1b[31m" not in done.stdout
    assert "\x1b" not in _shell(f"sidestep report {SAMPLE}").stdout
