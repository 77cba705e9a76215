"""What the tutorial shows is what its commands print here."""

import importlib.util
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
TUTORIAL = sorted((DOCS / "tutorial").glob("*.md"))

spec = importlib.util.spec_from_file_location("transcripts", DOCS / "transcripts.py")
assert spec is not None
assert spec.loader is not None
transcripts = importlib.util.module_from_spec(spec)
sys.modules["transcripts"] = transcripts  # msgspec looks for its annotations there
spec.loader.exec_module(transcripts)


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIAL, ids=lambda page: page.stem)
def test_a_page_shows_what_is_printed(page: Path) -> None:
    assert list(transcripts.mistakes(page)) == []


PAGE = """# A page

`a.txt`:

```json
{}
```

```console
$ cat a.txt
{}
$ false
$ echo $?
1
$ seq 3
[...]
3
```
"""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("{}\n$ false", "[]\n$ false"), ("1\n$ seq", "0\n$ seq"), ("[...]\n3", "[...]\nx")],
)
def test_a_page_that_is_wrong_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert list(transcripts.mistakes(page)) == []
    page.write_text(PAGE.replace(right, wrong))
    assert len(list(transcripts.mistakes(page))) == 1


def test_what_depends_on_the_machine_is_not_compared() -> None:
    assert transcripts.agrees(
        "Linux 6.1 x, 3 of 4\n[...]\nend", "Linux 7.12.3-foo x, 7 of\n11\nmore\nend"
    )
    assert not transcripts.agrees("held here", "leaky")
