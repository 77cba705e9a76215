"""The direction of imports, what a start-up may load, and what the runner may include."""

import os
import re
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


@pytest.mark.parametrize(
    ("package", "statement"),
    [
        ("attacks", "import ctypes"),
        ("attacks", "import mitigations"),
        ("mitigations", "import attacks"),
        ("mitigations", "import pyseccomp"),
        ("mitigations", "import evaluator"),
        ("reports", "import evaluator"),
        ("evaluator", "import pyseccomp"),
    ],
)
def test_a_forbidden_import_is_noticed(tmp_path: Path, package: str, statement: str) -> None:
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "mitigations" / "libseccomp.py").write_text("import ctypes\nimport pyseccomp\n")
    clean = lint_imports(tmp_path)
    (tmp_path / package / "wrong.py").write_text(statement + "\n")
    wrong = lint_imports(tmp_path)
    assert (clean.returncode, wrong.returncode) == (0, 1), clean.stdout + wrong.stdout


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
