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


# ---------------------------------------------------------------------------------- manifests

POD = """\
kind: Pod
metadata: {name: web}
spec:
  securityContext: {seccompProfile: {type: Localhost, localhostProfile: a.json}}
  containers: [{name: app}, {name: side, securityContext: {privileged: true}}]
"""
DEFAULTED = "kind: Pod\nmetadata: {name: bare}\nspec: {containers: [{name: one}]}\n"


def says(found: Ran) -> dict[str, str]:
    """What became of each item, by its id."""
    return {one["id"]: one["says"] for one in json.loads(found.stdout)["items"]}


def test_each_candidate_of_a_manifest_is_a_profile(check: Check, library: Path) -> None:
    (library / "web.yaml").write_text(POD)
    (library / "service.yaml").write_text("kind: Service\n")
    entry = '[[profile]]\nmatch = "*.yaml"\nfamilies = ["create-directory"]\n'
    (library / "sidestep.toml").write_text(entry + 'seccomp-root = "."\n')
    found = says(check(library, "--simulate", "--json"))
    assert set(found) == {
        f"web.yaml#pod/web:{name}::{what}"
        for name in ("app", "side")
        for what in ("profile", "create-directory")
    }
    assert [found[f"web.yaml#pod/web:{one}::create-directory"] for one in ("app", "side")] == [
        "leaky",
        "open",
    ]
    only = check(library, "--simulate", "--json", "--profile", "web.yaml#pod/web:side")
    assert set(says(only)) == {
        "web.yaml#pod/web:side::profile",
        "web.yaml#pod/web:side::create-directory",
    }
    (library / "sidestep.toml").write_text(entry.replace("*.yaml", "web.yaml#pod/web:app"))
    listed = check(library, "--list", "--json")
    assert {one.partition("::")[0] for one in says(listed)} == {"web.yaml#pod/web:app"}


def test_what_the_node_is_stands_in_the_file(check: Check, library: Path) -> None:
    (library / "bare.yaml").write_text(DEFAULTED)
    entry = '[[profile]]\nmatch = "bare.yaml"\nfamilies = ["create-directory"]\n'
    subject = "bare.yaml#pod/bare:one::create-directory"
    (library / "sidestep.toml").write_text(entry)
    assert says(check(library, "--simulate", "--json"))[subject] == "open"
    default = 'seccomp-default = true\nruntime-default = "a.json"\n'
    (library / "sidestep.toml").write_text(entry + default)
    assert says(check(library, "--simulate", "--json"))[subject] == "leaky"


@pytest.mark.parametrize(
    ("match", "more", "words"),
    [
        ("web.yaml#pod/web:ap", "", "sidestep.toml:2: profile[0].match: no such profile:"),
        ("twice.yaml", "", "twice.yaml holds 2 candidates that are called pod/bare:one"),
        ("service.yaml*", "", "no profile matches"),
        ("web.yaml", 'seccomp-root = "nosuch"', "nosuch: not a directory"),
        ("web.yaml", 'runtime-default = "nosuch"', "nosuch: no such file"),
        ("web.yaml", "seccomp-default = 1", "seccomp-default"),
    ],
)
def test_wrong_words_about_manifests(
    check: Check, library: Path, match: str, more: str, words: str
) -> None:
    (library / "web.yaml").write_text(POD)
    (library / "twice.yaml").write_text(f"{DEFAULTED}---\n{DEFAULTED}")
    (library / "service.yaml").write_text("kind: Service\n")
    entry = f'[[profile]]\nmatch = "{match}"\nfamilies = ["create-directory"]\n{more}\n'
    (library / "sidestep.toml").write_text(entry)
    found = check(library, "--simulate")
    is_one_line(found, words)


def test_every_input_format_may_be_named(check: Check, library: Path) -> None:
    (library / "web.txt").write_text(POD)
    (library / "sidestep.toml").write_text(
        '[[profile]]\nmatch = "web.txt"\nfrom = "kubernetes"\nfamilies = ["create-directory"]\n'
    )
    found = check(library, "--simulate", "--json")
    assert says(found)["web.txt::profile"] == "invalid"  # there are two in it
    (library / "bad.yaml").write_text("kind: [")
    (library / "sidestep.toml").write_text(
        '[[profile]]\nmatch = "*.yaml"\nfamilies = ["create-directory"]\n'
    )
    found = check(library, "--simulate", "--json")
    assert says(found)["bad.yaml::profile"] == "invalid"
