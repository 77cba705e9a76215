"""In a real browser the script runs under the page's own policy, and nothing complains."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reports import write

SAMPLE = Path(__file__).parents[1] / "data" / "results" / "sample.json"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP,*,~NOTFOUND",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
    "--dump-dom",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="chromium is not installed"),
]


def opened(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page's elements after its script ran, and what it said on the console."""
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, re.findall(r"^.*CONSOLE.*$", done.stderr, re.MULTILINE)


def test_the_table_is_filled_and_the_console_is_quiet(tmp_path: Path) -> None:
    raw = json.loads(SAMPLE.read_text())
    (page,) = write(raw, tmp_path / "report.html")
    elements, console = opened(page, tmp_path / "profile")
    assert console == []
    body = elements.split('<table id="rows">')[1].split("</table>")[0]
    assert body.count("<tr>") == 1 + sum(len(c["trials"]) for c in raw["candidates"])
    assert "48 of 48 trials." in elements


def test_a_script_in_a_name_does_not_run(tmp_path: Path) -> None:
    raw = json.loads(SAMPLE.read_text())
    raw["candidates"][0]["name"] = (
        "</script><img src=x onerror=console.log(1)><script>console.log(2)"
    )
    (page,) = write(raw, tmp_path / "report.html")
    elements, console = opened(page, tmp_path / "profile")
    assert console == []
    assert "<img" not in elements


def test_the_policy_stops_what_does_not_belong(tmp_path: Path) -> None:
    raw = json.loads(SAMPLE.read_text())
    (page,) = write(raw, tmp_path / "report.html")
    page.write_text(page.read_text().replace("</main>", "<script>console.log(1)</script></main>"))
    _, console = opened(page, tmp_path / "profile")
    assert len(console) == 1
    assert "Content Security Policy" in console[0]
