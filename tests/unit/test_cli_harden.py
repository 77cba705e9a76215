"""What harden says to input that it cannot use: one line, before anything runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluator import cli
from mitigations.load import LIBRARY

PROFILE = str(LIBRARY / "block-mkdir.json")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def never(*_: object) -> None:
        raise AssertionError("nothing may run")

    monkeypatch.setattr("evaluator.campaign.evaluate", never)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["harden", *arguments])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


def profile(folder: Path, text: str) -> str:
    path = folder / "given.json"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--objective", "no-new-directory"], "did you mean no-new-directories"),
        (["--family", "create-directry"], "create-directory"),
        (["--workload", "shell"], "shell-basics"),
        (["-o", ""], "an empty path"),
        (["-o", "/"], "is a directory"),
        (["-o", "/no/such/folder/x.json"], "no such directory as /no/such/folder"),
        (["--rounds", "0"], "--rounds"),
        (["--posture", "god"], "--posture"),
    ],
)
def test_an_option_without_sense(arguments: list[str], said: str, command: Any) -> None:
    code, out, err = command(PROFILE, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err


def test_the_profile_itself_is_not_overwritten(tmp_path: Path, command: Any) -> None:
    path = profile(tmp_path, Path(PROFILE).read_text())
    code, out, err = command(path, "-o", path)
    assert (code, out) == (2, "")
    assert err == f"sidestep: {path}: the output would overwrite an input\n"
    assert Path(path).read_text() == Path(PROFILE).read_text()


def test_a_directory_is_refused_before_its_files_are_read(command: Any) -> None:
    code, out, err = command(str(LIBRARY))
    assert (code, out) == (2, "")
    assert err.endswith(": holds 11 candidates: name one file\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("{", "not JSON"),
        ('{"syscalls": []}', "no filter to change"),
        ('{"defaultAction": "SCMP_ACT_ALOW"}', "SCMP_ACT_ALLOW"),
    ],
)
def test_a_profile_that_is_none(text: str, said: str, command: Any, tmp_path: Path) -> None:
    code, out, err = command(profile(tmp_path, text), "--family", "create-directory")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err


def test_what_is_no_file(command: Any, tmp_path: Path) -> None:
    for given in (str(tmp_path), str(tmp_path / "missing.json"), str(LIBRARY), ""):
        code, out, err = command(given)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1


def test_every_family_has_a_row_on_the_page() -> None:
    from attacks import library

    page = (Path(__file__).parents[2] / "docs" / "attainable.md").read_text()
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert rows == list(library.load_families())
    assert json.dumps(library.SUITE).strip('"') in page
