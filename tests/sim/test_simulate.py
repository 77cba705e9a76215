"""``evaluate --simulate``: predictions that are called so everywhere, and nothing run."""

import json
import struct
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert

from evaluator import cli, pool
from evaluator.verdict import Outcome
from reports.document import parse_document
from reports.html import render
from reports.schema import Document

LIBRARY = Path(__file__).parents[2] / "mitigations" / "library"
PROFILES: dict[str, dict[str, Any]] = {
    one["file"]: one for one in tomllib.loads((LIBRARY / "library.toml").read_text())["profile"]
}
BLOCK_MKDIR = str(LIBRARY / "block-mkdir.json")


@pytest.fixture(autouse=True)
def nothing_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr(pool.Pool, "__init__", refuse)


def simulate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", "--simulate", *arguments])
    assert isinstance(ended.value.code, int)
    out, err = capsys.readouterr()
    assert not err
    return ended.value.code, out


@pytest.mark.parametrize("file", PROFILES)
def test_the_stated_verdicts_are_predicted(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    expected = PROFILES[file]["expected"]
    options = [word for family in expected for word in ("--family", family)]
    if PROFILES[file]["objective"]:
        options += ["--objective", PROFILES[file]["objective"]]
    _, out = simulate(capsys, str(LIBRARY / file), "--json", *options)
    (candidate,) = json.loads(out)["candidates"]
    found = {one["family"]: one["verdict"] for one in candidate["families"]}
    # What only a run can tell is undecided; what a kernel lacks is no news to a filter.
    wrong = {
        family: (found[family], said)
        for family, said in expected.items()
        if found[family] not in (said, "undecided") and not said.startswith("held here")
    }
    assert not wrong


def test_each_word_says_that_nothing_was_run(capsys: pytest.CaptureFixture[str]) -> None:
    _, out = simulate(capsys, BLOCK_MKDIR, "--json", "--family", "create-directory")
    found = json.loads(out)
    (candidate,) = found["candidates"]
    assert found["simulated"]
    assert found["environment"]["isolation"] == "none"
    assert candidate["simulated"]
    assert not candidate["enforced"]
    assert candidate["counts"].keys() == {Outcome.SIMULATED, Outcome.UNSUPPORTED}
    for trial in candidate["trials"]:
        assert trial["control_effect"] is trial["mitigated_effect"] is None
        if trial["outcome"] == Outcome.SIMULATED:
            assert trial["reason"] == f"predicted {trial['predicted']}"
        else:  # the posture's definition says so, and no run
            assert trial["outcome"] == Outcome.UNSUPPORTED
            assert trial["reason"].startswith("capability: this posture does not have CAP_")
    assert all(one["summary"].startswith("Predicted: ") for one in candidate["families"])


def test_the_table_says_it_first(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = simulate(capsys, BLOCK_MKDIR, "--family", "create-directory")
    assert code == 1  # a family that was named, and is not held
    assert "PREDICTION ONLY: nothing was run" in out
    assert "predicted: leaks in 1 of 1 targeted family" in out


def test_the_page_says_it_first(capsys: pytest.CaptureFixture[str]) -> None:
    _, out = simulate(capsys, BLOCK_MKDIR, "--json", "--family", "create-directory")
    page = render(parse_document(json.loads(out)))
    assert "Prediction only: block-mkdir leaks" in page
    assert "Nothing was run." in page
    assert "The effect was there afterwards in both." not in page
    assert "confirmed by the kernel" not in page


def test_a_gate_that_passes_says_that_it_was_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(LIBRARY / "no-new-directories.json")
    code, out = simulate(capsys, file, "--json", "--family", "create-directory")
    assert code == 0
    (gate,) = convert(json.loads(out), Document).gates
    assert gate.ok
    assert gate.message == "held (predicted)"


def test_it_works_where_no_sandbox_can_be_built(tmp_path: Path) -> None:
    """Under a filter that allows no new namespace, as in a locked-down runner."""
    locked = (
        "import pyseccomp, runpy, sys\n"
        "f = pyseccomp.SyscallFilter(pyseccomp.ALLOW)\n"
        "f.add_rule(pyseccomp.ERRNO(1), 'unshare')\n"
        "f.add_rule(pyseccomp.ERRNO(38), 'clone3')\n"
        "f.add_rule(pyseccomp.ERRNO(1), 'clone',"
        " pyseccomp.Arg(0, pyseccomp.MASKED_EQ, 0x10000000, 0x10000000))\n"
        "f.load()\n"
        "from evaluator.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", locked, "evaluate", BLOCK_MKDIR]
    narrow = ["--family", "create-directory"]
    run = subprocess.run(
        [*command, *narrow], check=False, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 3, run.stderr
    predicted = subprocess.run(
        [*command, *narrow, "--simulate", "-o", str(tmp_path / "report.html")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert predicted.returncode == 1, predicted.stderr
    assert "Prediction only" in (tmp_path / "report.html").read_text()


def test_where_only_a_run_shows_the_intention_nothing_is_called_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Denies mkdir by the upper half of the instruction pointer, which nobody knows before."""
    rows = [
        (0x20, 0, 0, 0),
        (0x15, 0, 3, 83),
        (0x20, 0, 0, 12),
        (0x35, 1, 0, 0x7F00),
        (0x06, 0, 0, 0x50001),
        (0x06, 0, 0, 0x7FFF0000),
    ]
    path = tmp_path / "pointer.bpf"
    path.write_bytes(b"".join(struct.pack("<HBBI", *row) for row in rows))
    _, out = simulate(capsys, str(path), "--json", "--family", "create-directory")
    (candidate,) = json.loads(out)["candidates"]
    assert [one["verdict"] for one in candidate["families"]] == ["undecided"]


def test_the_csv_says_it_in_each_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--family", "create-directory", "-o", str(tmp_path / "out"))
    simulate(capsys, BLOCK_MKDIR, *options)
    head, row = (tmp_path / "out" / "summary.csv").read_text().splitlines()
    assert dict(zip(head.split(","), row.split(","), strict=False))["candidate"] == "block-mkdir"
    assert head.endswith(",simulated")
    assert row.endswith(",True")
