"""The direction of imports, what a start-up may load, and what the runner may include."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("evaluator", "attacks", "mitigations", "reports")
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--config", ROOT / "pyproject.toml", "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_import_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def copied_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("attacks.text", "import ctypes"),
        ("attacks.text", "import mitigations"),
        ("attacks.program", "import attacks.library"),
        ("mitigations.oci", "import attacks"),
        ("mitigations.oci", "import pyseccomp"),
        ("mitigations.oci", "import evaluator"),
        ("mitigations.bpf", "import mitigations.load"),
        ("reports.tables", "import evaluator"),
        ("evaluator.trial", "import pyseccomp"),
        ("evaluator.cli", "import sidestep"),
        ("evaluator.trial", "import reports"),
        ("evaluator.verdict", "import evaluator.campaign"),
    ],
)
def test_a_forbidden_import_is_noticed(copied_tree: Path, module: str, statement: str) -> None:
    path = copied_tree / (module.replace(".", "/") + ".py")
    before = path.read_text()
    path.write_text(f"{before}\n{statement}\n")
    try:
        done = lint_imports(copied_tree)
    finally:
        path.write_text(before)
    assert done.returncode == 1
    assert f"{module} -> {statement.removeprefix('import ')}" in done.stdout


def test_starting_the_command_loads_no_heavy_package() -> None:
    heavy = ("pandas", "pyarrow", "jinja2", "pyseccomp", "rich", "anthropic")
    program = (
        f"import sys, evaluator.cli\nprint(*[name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_runner_includes_no_kernel_or_library_header() -> None:
    freestanding = {"stddef.h", "stdint.h", "stdbool.h", "stdarg.h", "limits.h"}
    native = ROOT / "evaluator" / "native"
    sources = [native / "runner.c", *native.glob("*.h")]
    included = {
        name
        for path in sources
        for name in re.findall(r"^\s*#\s*include\s*<([^>]+)>", path.read_text(), re.MULTILINE)
    }
    assert included <= freestanding
