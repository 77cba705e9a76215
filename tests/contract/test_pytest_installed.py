"""The wheel beside a project with packages that are called like ours: they never meet."""

import os
import subprocess
from pathlib import Path

import pytest

LIBRARY = '[[profile]]\nmatch = "p.json"\nfamilies = ["create-directory"]\n'
pytestmark = pytest.mark.slow


def pytest_in(python: Path, project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *arguments],
        cwd=project,
        env={"PATH": os.environ["PATH"], "HOME": str(project), "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("reports", "evaluator", "attacks", "mitigations"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"OWN = {name!r}\n")
    (tmp_path / "test_own.py").write_text(
        "import attacks, evaluator, mitigations, reports\n\n"
        "def test_own():\n"
        "    assert reports.OWN == 'reports' and evaluator.OWN == 'evaluator'\n"
    )
    return tmp_path


def test_it_is_inert_where_there_is_no_library(installed_python: Path, project: Path) -> None:
    done = pytest_in(
        installed_python, project, "-W", "error", "--strict-config", "--strict-markers"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    loaded = subprocess.run(
        [installed_python, "-c", "import pytest_sidestep as p; print(p.__file__)"],
        cwd=project, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(installed_python.parents[1]) in loaded.stdout


def test_a_library_is_collected_beside_packages_of_our_names(
    installed_python: Path, project: Path
) -> None:
    (project / "sidestep.toml").write_text(LIBRARY)
    (project / "p.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    done = pytest_in(installed_python, project, "--collect-only", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sidestep.toml::p.json::create-directory" in done.stdout
    assert "test_own.py::test_own" in done.stdout


@pytest.mark.live
def test_it_judges_beside_packages_of_our_names(installed_python: Path, project: Path) -> None:
    (project / "sidestep.toml").write_text(LIBRARY)
    (project / "p.json").write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],'
        ' "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    done = pytest_in(installed_python, project)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "PASSED test_own.py::test_own" in done.stdout
    assert "FAILED sidestep.toml::p.json::create-directory" in done.stdout
    assert "way through: create-directory/io-uring" in done.stdout
