"""A wheel is complete: whoever installs it needs no compiler and no checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory]
    done = subprocess.run([*command, ROOT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(directory.glob("*.whl"))


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command as installed from the wheel, in an environment that has never seen this tree."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-index", "--no-deps", wheel], check=True)
    # The dependencies are those of this environment, so that the test needs no network. A line of
    # a .pth file adds a directory without reading the .pth files in it: the checkout stays out.
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(venv)}))
    dependencies = sysconfig.get_path("purelib")
    (site_packages / "dependencies.pth").write_text(f"{dependencies}\n")
    return venv / "bin" / "sidestep"


def run(command: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command, *arguments],
        cwd=cwd,
        env={"PATH": str(cwd), "HOME": os.environ.get("HOME", "/")},  # no compiler, no tools
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_holds_the_runner_its_source_and_the_data(wheel: Path) -> None:
    files = {info.filename: info for info in zipfile.ZipFile(wheel).infolist()}
    runner = files["evaluator/_bin/runner"]
    assert runner.external_attr >> 16 & 0o111, "not executable"
    assert wheel.name.endswith("-py3-none-linux_x86_64.whl")
    assert {
        "evaluator/_bin/runner.id",
        "evaluator/native/build.py",
        "evaluator/native/runner.c",
        "mitigations/library/block-mkdir.json",
        "attacks/suites/2026.11.json",
        "attacks/program.schema.json",
        "reports/templates/report.html.j2",
        "pytest_sidestep.py",
        "sidestep/_registry.py",
    } <= set(files)
    ours = ("tests/", "docs/", "integrations/")
    strays = {name for name in files if name.startswith(ours) or ".new" in name}
    assert not strays


def test_the_command_answers(command: Path, tmp_path: Path) -> None:
    done = run(command, "--version", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0.1.0" in done.stdout


def test_it_runs_from_the_installed_files(command: Path, tmp_path: Path) -> None:
    program = "import evaluator, attacks, mitigations, reports; print(evaluator.__file__)"
    python = command.with_name("python")
    done = subprocess.run(
        [python, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert str(command.parents[1]) in done.stdout


@pytest.mark.live
def test_it_evaluates_without_a_compiler(command: Path, tmp_path: Path) -> None:
    profile = ROOT / "mitigations" / "library" / "block-mkdir.json"
    done = run(command, "evaluate", str(profile), "--family", "create-directory", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr  # a family that was named leaks
    assert "leaky" in done.stdout
