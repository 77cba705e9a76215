"""docs/profiles.md names every warning there is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_warning_is_in_the_table_and_no_other() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "mitigations").glob("*.py"))
    made = set(re.findall(r'Finding\(\s*"([a-z-]+)"', sources))
    made |= {"includes-ignored", "excludes-ignored"}  # put together from the key
    table = (ROOT / "docs" / "profiles.md").read_text().split("## Warned about")[1]
    shown = {
        code
        for line in table.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }
    assert shown == made
