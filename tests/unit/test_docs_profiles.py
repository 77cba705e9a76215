"""docs/profiles.md and docs/formats.md name every warning there is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_warning_is_on_a_page_and_no_other_in_the_table() -> None:
    makers = [
        *(ROOT / "mitigations").glob("*.py"),
        ROOT / "evaluator" / "findings.py",
        ROOT / "evaluator" / "process.py",
    ]
    sources = "".join(path.read_text() for path in makers)
    made = set(re.findall(r'(?:Finding|_seen|\.finding|_note)\(\s*"([a-z0-9-]+)"', sources))
    made |= {"includes-ignored", "excludes-ignored"}  # put together from the key
    table = (ROOT / "docs" / "profiles.md").read_text().split("## Warned about")[1]
    shown = {
        code
        for line in table.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`([a-z0-9-]+)`", line.split("|")[1])
    }
    formats = (ROOT / "docs" / "formats.md").read_text()
    assert made - set(re.findall(r"`([a-z0-9-]+)`", formats)) <= shown
    assert shown <= made
