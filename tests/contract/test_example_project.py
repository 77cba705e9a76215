"""The example project does what its README says."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "integrations" / "example"

pytestmark = [pytest.mark.slow, pytest.mark.live]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    return shutil.copytree(EXAMPLE, tmp_path / "example", ignore=ignored)


def pytest_in(python: Path, project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *arguments],
        cwd=project,
        env={"PATH": os.environ["PATH"], "HOME": str(project.parent), "COLUMNS": "75"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_passes_with_its_waiver(project: Path, installed_python: Path) -> None:
    done = pytest_in(installed_python, project, "-n2", "-W", "error")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "profiles/sidestep.toml::no-new-directories.json::create-directory" in done.stdout
    assert "accepted by team-build until 2099-12-31" in done.stdout
    assert "test_no_directory_can_be_made" in done.stdout
    assert " 13 passed" in done.stdout


def test_without_the_waiver_it_fails_as_its_readme_shows(
    project: Path, installed_python: Path
) -> None:
    file = project / "profiles" / "sidestep.toml"
    file.write_text(file.read_text().split("  # The build cache")[0])
    done = pytest_in(installed_python, project, "profiles")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 7 passed" in done.stdout
    (block,) = re.findall(r"```console\n(.*?)```", (project / "README.md").read_text(), re.DOTALL)
    shown = [line for line in block.splitlines() if line != "[...]" and not line.startswith("$ ")]
    assert len(shown) > 10
    lines = [re.sub("_{3,}", "___", line) for line in done.stdout.splitlines()]
    missing = [line for line in shown if re.sub("_{3,}", "___", line) not in lines]
    assert not missing
