"""The wheel of this tree in an environment that has never seen it."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def built_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory]
    subprocess.run([*command, ROOT], check=True, capture_output=True)
    return next(directory.glob("*.whl"))


def add_dependencies(venv: Path) -> None:
    """Those of this environment, so that no test needs a network.

    A line of a .pth file adds a directory without reading the .pth files in it.
    """
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(venv)}))
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")


@pytest.fixture(scope="session")
def installed_python(built_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its Python; ``sidestep`` is beside it."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-index", "--no-deps", built_wheel], check=True)
    add_dependencies(venv)
    return python
