"""A directory gets all files or keeps what it had."""

import csv
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

import reports.html
from reports import ReportError, load, write
from reports.document import parse_document
from reports.files import check, check_file, write_bytes
from reports.schema import TABLES
from reports.tables import matrix, summary
from reports.text import ascii_json

SAMPLE = Path(__file__).parents[1] / "data" / "results" / "sample.json"
NAMES = {"run.json", "results.parquet", "summary.csv", "report.html"}


@pytest.fixture
def raw() -> dict[str, Any]:
    return json.loads(SAMPLE.read_text())


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_directory_gets_four_files_and_nothing_else(raw: dict[str, Any], tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    assert {target / name for name in NAMES} == set(write(raw, target))
    assert set(contents(target)) == NAMES
    assert json.loads((target / "run.json").read_text()) == raw


@pytest.mark.parametrize("name", ["x.html", "x.json", "x.csv", "x.parquet"])
def test_a_file_name_gets_that_file_alone(name: str, raw: dict[str, Any], tmp_path: Path) -> None:
    assert (tmp_path / name,) == write(raw, tmp_path / name)
    assert [name] == [path.name for path in tmp_path.iterdir()]


def test_a_full_disk_leaves_the_good_files(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(raw, tmp_path)
    before = contents(tmp_path)

    def full(document: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(reports.html, "render", full)
    raw["suite"] = "another"
    with pytest.raises(ReportError) as error:
        write(raw, tmp_path)
    assert f"{tmp_path}: cannot write: No space left on device" == str(error.value)
    assert before == contents(tmp_path)


def test_a_real_full_disk_is_one_line(raw: dict[str, Any]) -> None:
    with pytest.raises(ReportError, match=r"^/dev/full: cannot write: .*not a directory"):
        write(raw, "/dev/full")


def test_a_place_that_takes_no_files_is_one_line(raw: dict[str, Any]) -> None:
    with pytest.raises(ReportError, match=r"^/proc.*: cannot write: ") as error:
        write(raw, "/proc/sidestep")
    assert "\n" not in str(error.value)


def test_a_wrong_document_writes_nothing(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["candidates"][0]["trials"][0]["outcome"] = None
    with pytest.raises(ReportError, match=r"outcome: Expected `str`"):
        write(raw, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_link_in_the_way_is_replaced_not_followed(raw: dict[str, Any], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").symlink_to(victim)
    write(raw, out)
    assert victim.read_text() == "mine"
    assert not (out / "run.json").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_under_sudo_everything_belongs_to_the_caller(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "4321")
    target = tmp_path / "new" / "out"
    for path in (*write(raw, target), target, target.parent):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)
    assert tmp_path.stat().st_uid != 1234


def test_no_cell_is_a_formula(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["candidates"][0]["name"] = "=cmd|' /C calc'!A0"
    write(raw, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert [cell for cell in cells if cell.startswith(("=", "+", "@"))] == []


def test_half_a_surrogate_can_be_written(raw: dict[str, Any], tmp_path: Path) -> None:
    first = raw["candidates"][0]
    first["name"] = first["source"] = first["trials"][0]["why"] = "bad\udcff"
    first["families"][0]["family"] = first["trials"][0]["steps"][0]["text"] = "\ud800"
    first["families"][0]["bypasses"] = first["notes"] = ["\ud800"]
    write(raw, tmp_path)
    stored = json.loads((tmp_path / "run.json").read_text())
    assert parse_document(raw) == parse_document(stored)
    for path in (tmp_path, tmp_path / "results.parquet"):
        loaded = load(path)
        for name in TABLES:
            frame = getattr(loaded, name)
            assert frame.iloc[0]["candidate"] == "bad\u2039U+DCFF\u203a"
            frame.to_json().encode()
        assert loaded.trials.iloc[0]["why"] == "bad\u2039U+DCFF\u203a"
        assert loaded.document.candidates[0].name == "bad\udcff"
        assert len(loaded.document.candidates[0].trials) == len(first["trials"])
        assert "\u2039U+D800\u203a" in matrix(loaded.document).index
        assert summary(loaded.document).iloc[0]["candidate"] == "bad\u2039U+DCFF\u203a"


def test_a_name_that_would_look_like_another_is_refused(raw: dict[str, Any]) -> None:
    raw["candidates"][0]["name"] = "bad\udcff"
    raw["candidates"][1]["name"] = "bad\u2039U+DCFF\u203a"
    with pytest.raises(ReportError, match=r"candidates\[1\]\.name: .* appears twice"):
        parse_document(raw)


def test_what_is_in_the_way_fails_before_anything_is_replaced(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "report.html").mkdir()
    (tmp_path / "run.json").write_text("old")
    os.mkfifo(tmp_path / "x.json")
    for target in (tmp_path, tmp_path / "x.json"):
        with pytest.raises(ReportError, match="not a regular file"):
            write(raw, target)
        with pytest.raises(ReportError, match="not a regular file"):
            check(target)
    assert (tmp_path / "run.json").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    check(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_no_cell_holds_control_characters(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["candidates"][0]["name"] = "a\x1b[31m\nb"
    write(raw, tmp_path / "x.csv")
    assert "a\u241b[31m\u240ab," in (tmp_path / "x.csv").read_text(encoding="utf-8")


def test_files_beside_the_four_are_written_with_them_or_not_at_all(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(raw, tmp_path / "out", {"check.json": b"{}"})
    before = contents(tmp_path / "out")
    assert before.keys() == NAMES | {"check.json"}
    assert before["check.json"] == b"{}"
    (tmp_path / "out/check.json").unlink()
    (tmp_path / "out/check.json").mkdir()
    del before["check.json"]
    with pytest.raises(ReportError, match="not a regular file"):
        write({**raw, "suite": "another"}, tmp_path / "out", {"check.json": b"{}"})
    (tmp_path / "out/check.json").rmdir()
    assert contents(tmp_path / "out") == before


def test_one_file_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "check.xml"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert contents(path.parent) == {"check.xml": b"two"}
    check_file(path)
    with pytest.raises(ReportError, match="cannot write"):
        write_bytes(path / "below", b"")
    with pytest.raises(ReportError, match="cannot write"):
        check_file(path / "below")
    assert contents(path.parent) == {"check.xml": b"two"}


@pytest.mark.parametrize(
    "value",
    [{"a": [1, None, "b"]}, {"a": "\u202ehidden"}, {"a": "\x9b"}, {"a": "\ud800"}, ["\U0001f600"]],
)
def test_json_is_ascii_and_says_the_same(value: object) -> None:
    assert ascii_json(value).isascii()
    assert json.loads(ascii_json(value)) == value
