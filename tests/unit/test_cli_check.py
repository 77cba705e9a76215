"""``sidestep check`` from its command line, where nothing has to run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from evaluator.cli import main
from evaluator.library_init import Found, counted

PROFILE = json.dumps(
    {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
    }
)
ENTRY = '[[profile]]\nmatch = "*.json"\nfamilies = ["create-directory"]\n'


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "lib"
    made.mkdir()
    (made / "a.json").write_text(PROFILE)
    (made / "sidestep.toml").write_text(ENTRY)
    monkeypatch.chdir(tmp_path)
    return made


class Ran(NamedTuple):
    """How the command ended."""

    code: int
    stdout: str
    stderr: str


Check = Callable[..., Ran]


@pytest.fixture
def check(capfd: pytest.CaptureFixture[str]) -> Check:
    def run(*arguments: str | Path) -> Ran:
        with pytest.raises(SystemExit) as caught:
            main(["check", *map(str, arguments)])
        return Ran(int(caught.value.code or 0), *capfd.readouterr())

    return run


def is_one_line(found: Ran, *words: str) -> None:
    assert (found.code, found.stderr.count("\n"), found.stdout) == (2, 1, ""), found
    for word in words:
        assert word in found.stderr


def test_a_dash_is_stdout(check: Check, library: Path, tmp_path: Path) -> None:
    found = check(library, "--simulate", "--json", "-o", "-")
    assert json.loads(found.stdout)["schema"] == "sidestep.check/1"
    assert found.stdout.count("\n") == 1
    found = check(library, "--simulate", "--format", "junit", "-o", "-")
    assert found.stdout.startswith("<?xml")
    is_one_line(check(library, "--simulate", "-o", "-"), "-o -: add --format json")
    assert {one.name for one in tmp_path.iterdir()} == {"lib"}


@pytest.mark.parametrize("name", ["f.txt", "x.bogus"])
def test_a_file_whose_name_says_nothing_needs_a_format(
    check: Check, library: Path, tmp_path: Path, name: str
) -> None:
    is_one_line(check(library, "--simulate", "-o", name), name, "--format")
    assert not (tmp_path / name).exists()
    assert check(library, "--simulate", "--format", "json", "-o", name).code == 1
    assert json.loads((tmp_path / name).read_text())["exit_code"] == 1


@pytest.fixture
def closed(library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which nobody may look; root may everywhere, so it is made up."""
    stat: Callable[..., Any] = Path.stat
    place = library.parent / "closed"

    def refuse(path: Path, **more: Any) -> Any:
        if place in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **more)

    monkeypatch.setattr(Path, "stat", refuse)
    return place


def test_where_nobody_may_look_is_one_line(check: Check, library: Path, closed: Path) -> None:
    for found in (
        check(closed / "lib"),
        check("--init", closed / "lib"),
        check(library, "--simulate", "-o", closed / "x"),
        check(library, "--simulate", "-o", closed / "x.json"),
        check(library, "--simulate", "--baseline", closed / "x"),
    ):
        is_one_line(found, str(closed), "Permission denied")


def test_init_counts_what_it_wrote_down() -> None:
    found = [
        Found("a.json", ("create-directory",), ("static-entry",), (), (), ()),
        Found("\udcff.json", ("create-directory",), (), (), (), ()),
        Found("c.json", (), (), (), (), ()),
    ]
    assert counted(found) == "1 of 3 profiles, 1 families held, 1 workloads that work"
