"""The command ``sidestep score``: where it cannot write, it says so before anything is run."""

import json
from pathlib import Path

import pytest

from evaluator import cli_score
from evaluator.cli import main
from evaluator.cli_score import _without_seed


@pytest.fixture(autouse=True)
def _nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        pytest.fail("something was run")

    monkeypatch.setattr(cli_score, "_scored", run)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "samples.json"
    path.write_text(json.dumps({"scenario": "no-keys", "model": "m", "mitigation": "{}"}))
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["score", *map(str, arguments)])
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    return printed.err


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("", "an empty path"),
        ("x.bogus", "x.bogus: no form has this suffix: .html, .csv, .json; "),
        ("samples.json", "the output would overwrite the input"),
        ("samples.json/x", "not a directory"),
        ("/proc/none/x", "cannot write"),
    ],
)
def test_where_it_cannot_write(
    output: str, said: str, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(samples.parent / output) if output else ""
    assert said.lower() in refused(capsys, samples, "-o", target).lower()
    assert [one.name for one in samples.parent.iterdir()] == [samples.name]


@pytest.mark.parametrize("inside", [".", "out", "m/no-keys"])
def test_answers_are_not_mixed_with_what_is_said_of_them(
    inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m" / "no-keys").mkdir(parents=True)
    said = refused(capsys, tmp_path, "-o", tmp_path / inside)
    assert "the next run would take the output for an answer" in said


def test_a_terminal_gets_no_page(
    samples: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "the page is for a browser" in refused(capsys, samples, "--format", "html")


@pytest.mark.parametrize(
    "given", [["--private-suite", "secret"], ["--private-suite=secret"]], ids=["two", "one"]
)
def test_the_seed_is_not_told(given: list[str]) -> None:
    said = _without_seed(["score", "x", *given, "-o", "out"])
    assert "secret" not in " ".join(said)
    assert said[-2:] == ("-o", "out")
