"""What the pages say about this repository is so."""

import re
from pathlib import Path

import pytest

from evaluator.verdict import Verdict

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose)
    here = [target for target in targets if "://" not in target]
    assert [target for target in here if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert not re.findall(r"TODO|FIXME|XXX|OUTPUT -->", page.read_text())


def test_the_readme_explains_every_verdict() -> None:
    table = (ROOT / "README.md").read_text().partition("| verdict | meaning |")[2].split("\n\n")[0]
    explained = re.findall(r"^\| `([a-z -]+)` \|", table, re.MULTILINE)
    assert sorted(explained) == sorted(verdict.value for verdict in Verdict)


def test_every_target_of_the_contributing_page_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"make ([a-z]+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert set(named) <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def test_the_demo_evaluates_bundled_profiles() -> None:
    makefile = (ROOT / "Makefile").read_text()
    profiles = re.search(r"^DEMO_PROFILES := .*?,(.*)\)$", makefile, re.MULTILINE)
    assert profiles
    library = ROOT / "mitigations" / "library"
    assert [name for name in profiles[1].split() if not (library / name).exists()] == []
