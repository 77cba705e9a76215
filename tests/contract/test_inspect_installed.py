"""The extension of Inspect as the wheel has it, in an environment without this tree."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.live,
    pytest.mark.skipif(
        importlib.util.find_spec("inspect_ai") is None,
        reason="the extra inspect is not installed (pip install -e '.[inspect]')",
    ),
]


def test_inspect_finds_the_task_by_its_name(installed_python: Path, tmp_path: Path) -> None:
    known_answer = ["--solver", "sidestep/known_answer", "--sample-id", "no-directories"]
    done = subprocess.run(
        [
            installed_python, "-m", "inspect_ai", "eval", "sidestep/mitigation",
            "--model", "none/none", "--display", "plain", *known_answer,
        ],
        cwd=tmp_path, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "joint_asked" in done.stdout
    loaded = subprocess.run(
        [installed_python, "-c", "import sidestep._registry as r; print(r.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(installed_python.parents[1]) in loaded.stdout
