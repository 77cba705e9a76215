"""The wheel beside a project with packages that are called like ours: they never meet."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = '[[profile]]\nmatch = "p.json"\nfamilies = ["create-directory"]\n'
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and beside it what it depends on, pytest included."""
    directory = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory]
    subprocess.run([*build, ROOT], check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory / "venv"], check=True)
    python = directory / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    wheel = next(directory.glob("*.whl"))
    subprocess.run([*pip, "install", "-q", "--no-index", "--no-deps", wheel], check=True)
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(directory / "venv")}))
    # A line of a .pth file adds a directory without reading the .pth files in it.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


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


def test_it_is_inert_where_there_is_no_library(python: Path, project: Path) -> None:
    done = pytest_in(python, project, "-W", "error", "--strict-config", "--strict-markers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    loaded = subprocess.run(
        [python, "-c", "import pytest_sidestep as p; print(p.__file__)"],
        cwd=project, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(python.parents[1]) in loaded.stdout


def test_a_library_is_collected_beside_packages_of_our_names(python: Path, project: Path) -> None:
    (project / "sidestep.toml").write_text(LIBRARY)
    (project / "p.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    done = pytest_in(python, project, "--collect-only", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sidestep.toml::p.json::create-directory" in done.stdout
    assert "test_own.py::test_own" in done.stdout


@pytest.mark.live
def test_it_judges_beside_packages_of_our_names(python: Path, project: Path) -> None:
    (project / "sidestep.toml").write_text(LIBRARY)
    (project / "p.json").write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],'
        ' "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    done = pytest_in(python, project)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "PASSED test_own.py::test_own" in done.stdout
    assert "FAILED sidestep.toml::p.json::create-directory" in done.stdout
    assert "way through: create-directory/io-uring" in done.stdout
