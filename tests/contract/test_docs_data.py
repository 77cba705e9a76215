"""docs/data.md says what the frames hold, and its examples run."""

import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from reports import load, write
from reports.document import load_document
from reports.schema import TABLES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "data.md"
SAMPLE = ROOT / "tests" / "data" / "results" / "sample.json"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_page_is_what_the_schema_makes() -> None:
    command = [sys.executable, str(ROOT / "docs" / "data.py")]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert made == PAGE.read_text()


def test_every_column_of_every_frame_is_on_the_page() -> None:
    text = PAGE.read_text()
    results = load(SAMPLE)
    for name in TABLES:
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        assert listed == list(getattr(results, name).columns)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs_and_prints_something(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(load_document(SAMPLE), tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    with redirect_stdout(io.StringIO()) as said:
        exec(compile(example, "docs/data.md", "exec"), {})
    assert "block-mkdir" in said.getvalue()
