"""What CI systems are given: valid by their schemas, and its shell run as they run it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parents[2]
INTEGRATIONS = ROOT / "integrations"
ACTION = INTEGRATIONS / "github" / "action.yml"
GITLAB = INTEGRATIONS / "gitlab" / "sidestep.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"
COMMANDS = Path(sys.executable).parent
EXPRESSION = re.compile(r"\$\{\{ *([\w.-]+) *\}\}")
LEAKY = (
    '{"defaultAction": "SCMP_ACT_ALLOW",'
    ' "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
)
LIBRARY = '[[profile]]\nmatch = "p.json"\nfamilies = ["create-directory"]\n'

pytestmark = pytest.mark.slow
Results = tuple[subprocess.CompletedProcess[str], dict[str, str]]


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        (ACTION, ["vendor.github-actions"]),
        (INTEGRATIONS / "github" / "workflow.yml", ["vendor.github-workflows"]),
        (GITLAB, ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_it_is_valid_by_its_schema(file: Path, schema: list[str]) -> None:
    command = [COMMANDS / "check-jsonschema", "--builtin-schema", *schema, file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("validate-manifest", HOOKS),
        ("validate-config", INTEGRATIONS / "pre-commit" / "pre-commit-config.yaml"),
    ],
    ids=["manifest", "config"],
)
def test_pre_commit_takes_it(arguments: tuple[str, Path], tmp_path: Path) -> None:
    environment = os.environ | {"PRE_COMMIT_HOME": str(tmp_path)}
    command = [COMMANDS / "pre-commit", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    library = tmp_path / "workspace" / "profiles"
    library.mkdir(parents=True)
    (library / "p.json").write_text(LEAKY)
    (library / "sidestep.toml").write_text(LIBRARY)
    return library.parent


# ---------------------------------------------------------------------------------------- GitHub


def steps() -> dict[str, dict[str, Any]]:
    action = yaml.safe_load(ACTION.read_text())
    return {step["id"]: step for step in action["runs"]["steps"] if "run" in step}


def outputs(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def github(project: Path, step: str, context: dict[str, str], **more: str) -> Results:
    """One step as the runner runs it: expressions in ``env`` alone, bash with its options."""
    action = yaml.safe_load(ACTION.read_text())
    defaults = {f"inputs.{k}": v.get("default", "") for k, v in action["inputs"].items()}
    temporary = project.parent
    output, summary = temporary / f"{step}-output", temporary / "summary.md"
    for file in (output, summary):
        file.touch()
    found = steps()[step]
    assert "${{" not in found["run"]
    values = defaults | context
    environment = {
        name: EXPRESSION.sub(lambda match: values[match[1]], text)
        for name, text in found["env"].items()
    }
    script = temporary / f"{step}.sh"
    script.write_text(found["run"])
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
        cwd=project,
        env={
            "PATH": f"{COMMANDS}:{os.environ['PATH']}",
            "HOME": str(temporary),
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(project),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            "RUNNER_TEMP": str(temporary),
        } | environment | more,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    return done, outputs(output) | {"summary": summary.read_text()}


@pytest.fixture
def check(project: Path, installed_python: Path) -> Callable[..., Results]:
    """The step that checks, by prediction so that it runs anywhere."""

    def check(**inputs: str) -> Results:
        context = {f"inputs.{k.replace('_', '-')}": v for k, v in inputs.items()}
        defaults = {
            "inputs.library": "profiles",
            "inputs.simulate": "true",
            "steps.install.outputs.command": str(installed_python.with_name("sidestep")),
        }
        return github(project, "check", defaults | context)

    return check


class TestGitHub:
    def test_no_input_is_put_into_a_script(self) -> None:
        assert all("${{" not in step["run"] for step in steps().values())

    def test_it_installs_what_is_asked_for(self, project: Path, built_wheel: Path) -> None:
        context = {"inputs.version": str(built_wheel), "github.action_path": "/nowhere"}
        done, found = github(project, "install", context, PIP_NO_INDEX="1", PIP_NO_DEPS="1")
        assert done.returncode == 0, done.stdout + done.stderr
        assert os.access(found["command"], os.X_OK)

    def test_a_failure_is_annotated_summed_up_and_kept(self, check: Callable[..., Results]) -> None:
        done, found = check()
        assert done.returncode == 1, done.stderr
        (error,) = [line for line in done.stdout.splitlines() if line.startswith("::error ")]
        assert error.startswith("::error file=profiles/p.json,line=1,col=")
        assert "## sidestep, prediction only: " in found["summary"]
        assert "create-directory" in found["summary"]
        assert found["exit-code"] == "1"
        results = Path(found["results"])
        assert json.loads((results / "check.json").read_text())["exit_code"] == 1
        assert json.loads(Path(found["sarif"]).read_text())["version"] == "2.1.0"
        ElementTree.parse(results / "check.xml")

    def test_a_failure_may_be_tolerated(self, check: Callable[..., Results]) -> None:
        done, found = check(fail="false")
        assert done.returncode == 0
        assert found["exit-code"] == "1"

    def test_wrong_input_may_not(self, check: Callable[..., Results], project: Path) -> None:
        (project / "profiles" / "sidestep.toml").write_text("profile = 3\n")
        done, found = check(fail="false")
        assert done.returncode == 2
        assert "::error title=sidestep check, exit code 2::sidestep: profiles/" in done.stdout
        assert found["exit-code"] == "2"
        assert "sarif" not in found
        assert "no results" in found["summary"]

    @pytest.mark.parametrize("form", ["table", "markdown", "json"])
    def test_other_formats_are_no_commands(self, check: Callable[..., Results], form: str) -> None:
        done, _ = check(format=form)
        assert done.returncode == 1
        first, *_, last = done.stdout.splitlines()
        token = first.removeprefix("::stop-commands::")
        assert last == f"::{token}::"
        assert len(token) == 32

    def test_what_files_are_called_is_no_command(
        self, check: Callable[..., Results], project: Path
    ) -> None:
        name = "x\n::error::y%0A::z.json"
        (project / "profiles" / name).write_text(LEAKY)
        (project / "profiles" / "sidestep.toml").write_text(LIBRARY.replace("p.json", "x*.json"))
        done, _ = check()
        assert done.returncode == 1, done.stdout + done.stderr
        commands = [line for line in done.stdout.splitlines() if line.startswith("::")]
        assert [one.split(" ")[0] for one in commands[2:]] == ["::error"]
        assert not any(line.startswith("::error::") for line in done.stdout.splitlines())

    def test_the_library_is_no_option(self, check: Callable[..., Results]) -> None:
        done, _ = check(library="--help")
        assert done.returncode == 2

    @pytest.mark.parametrize(
        ("sudo", "user", "allowed", "expected"),
        [
            ("auto", "1000", False, True),
            ("auto", "1000", True, False),
            ("auto", "0", False, False),
            ("always", "1000", True, True),
            ("never", "1000", False, False),
        ],
    )
    def test_sudo_where_it_is_needed(
        self,
        project: Path,
        installed_python: Path,
        sudo: str,
        user: str,
        allowed: bool,
        expected: bool,
    ) -> None:
        programs = project.parent / "programs"
        programs.mkdir()
        said = project.parent / "sudo-said"
        for name, script in (
            (
                "sudo",
                f'echo "$@" > {said}\nwhile [ "${{1#-}}" != "$1" ]; do shift; done\nexec "$@"',
            ),
            ("id", f"echo {user}"),
            ("unshare", f"exit {0 if allowed else 1}"),
        ):
            (programs / name).write_text(f"#!/bin/sh\n{script}\n")
            (programs / name).chmod(0o755)
        command = installed_python.with_name("sidestep")
        context = {
            "inputs.library": "profiles/nowhere",
            "inputs.sudo": sudo,
            "steps.install.outputs.command": str(command),
        }
        path = f"{programs}:{COMMANDS}:{os.environ['PATH']}"
        done, _ = github(project, "check", context, PATH=path)
        assert done.returncode == 2, done.stdout + done.stderr
        assert said.exists() == expected
        if expected:
            assert f" {command} check " in said.read_text()

    @pytest.mark.live
    def test_it_runs_the_attacks(self, check: Callable[..., Results]) -> None:
        done, found = check(simulate="false", sudo="never")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "io_uring" in done.stdout
        assert "## sidestep: " in found["summary"]

    @pytest.mark.live
    def test_what_sudo_writes_belongs_to_the_caller(
        self, project: Path, installed_python: Path
    ) -> None:
        programs = project.parent / "programs"
        programs.mkdir()
        sudo = programs / "sudo"
        sudo.write_text(
            '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\n'
            'SUDO_UID=12345 SUDO_GID=12345 exec "$@"\n'
        )
        sudo.chmod(0o755)
        context = {
            "inputs.library": "profiles",
            "inputs.sudo": "always",
            "steps.install.outputs.command": str(installed_python.with_name("sidestep")),
        }
        path = f"{programs}:{COMMANDS}:{os.environ['PATH']}"
        done, found = github(project, "check", context, PATH=path)
        assert done.returncode == 1, done.stdout + done.stderr
        files = [one for one in Path(found["results"]).iterdir() if one.suffix != ".txt"]
        assert {"check.json", "check.xml", "check.sarif", "check.md"} <= {one.name for one in files}
        assert {one.stat().st_uid for one in files} == {os.getuid() or 12345}


# ---------------------------------------------------------------------------------------- GitLab


def gitlab(project: Path, part: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The lines of a job as the runner runs them: one script, ended by the first that fails."""
    job = yaml.safe_load(GITLAB.read_text())["sidestep"]
    script = "set -eo pipefail\n" + "\n".join(job[part])
    return subprocess.run(
        ["bash", "-c", script],
        cwd=project,
        env={"PATH": f"{COMMANDS}:{os.environ['PATH']}", "HOME": str(project.parent), "CI": "true"}
        | job["variables"] | {"SIDESTEP_LIBRARY": "profiles"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


@pytest.fixture
def job(project: Path, installed_python: Path) -> Iterator[Path]:
    """A project in which the first part of the job has been done."""
    (project / ".sidestep-venv").symlink_to(installed_python.parents[1])
    return project


class TestGitLab:
    def test_it_installs_what_is_asked_for(self, project: Path, built_wheel: Path) -> None:
        script = yaml.safe_load(GITLAB.read_text())["sidestep"]["before_script"]
        assert "apt-get" in script[0]  # not for a test: it changes the machine
        done = subprocess.run(
            ["bash", "-ec", "\n".join(script[1:])],
            cwd=project,
            env={"PATH": f"{COMMANDS}:{os.environ['PATH']}", "PIP_NO_INDEX": "1",
                 "PIP_NO_DEPS": "1", "SIDESTEP_PACKAGE": str(built_wheel)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert os.access(project / ".sidestep-venv" / "bin" / "sidestep", os.X_OK)

    def test_a_failure_leaves_a_report(self, job: Path) -> None:
        done = gitlab(job, "script", SIDESTEP_SIMULATE="true")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "create-directory" in done.stdout
        suites = ElementTree.parse(job / "sidestep-results" / "check.xml").getroot()
        assert suites.get("failures") == "1"

    def test_wrong_input_is_wrong(self, job: Path) -> None:
        done = gitlab(job, "script", SIDESTEP_SIMULATE="true", SIDESTEP_LIBRARY="nowhere")
        assert done.returncode == 2
        assert done.stderr.startswith("sidestep: ")

    @pytest.mark.live
    def test_it_runs_the_attacks(self, job: Path) -> None:
        done = gitlab(job, "script")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "io-uring" in done.stdout


# ------------------------------------------------------------------------------------ pre-commit


class TestPreCommit:
    def run(self, project: Path, python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        (hook,) = yaml.safe_load(HOOKS.read_text())
        assert hook["pass_filenames"] is False
        environment = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(project.parent)}
        return subprocess.run(
            [*hook["entry"].split(), *arguments],
            cwd=project, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def test_it_predicts(self, project: Path, installed_python: Path) -> None:
        done = self.run(project, installed_python, "profiles")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "predicted" in done.stdout

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("profiles/sidestep.toml", True),
            ("sidestep.toml", True),
            ("profiles/sub/a.json", True),
            ("profiles/a.bpf", True),
            ("not-sidestep.toml", False),
            ("README.md", False),
        ],
    )
    def test_it_runs_when_profiles_change(self, name: str, meant: bool) -> None:
        (hook,) = yaml.safe_load(HOOKS.read_text())
        assert bool(re.search(hook["files"], name)) == meant
