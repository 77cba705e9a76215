"""``sidestep.toml``: what it means, and one line with the place for everything that is wrong."""

import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks import library
from attacks.family import Assumption
from evaluator import routes
from evaluator.check_items import listed, selected, units
from evaluator.errors import InputError
from evaluator.expectations import Library, file_of, read
from evaluator.library_files import profiles_below
from evaluator.library_init import Found, relative, text_of
from evaluator.toml_source import Lines
from reports.check_schema import Item

PROFILE = '{"defaultAction": "SCMP_ACT_ALLOW"}'
ENTRY = '[[profile]]\nmatch = "web/*.json"\nfamilies = ["create-directory"]\n'
ACCEPT = (
    '[[profile.accept]]\nroute = "x86_64:mkdirat"\nreason = "known"\nowner = "me"\n'
    "expires = 2027-01-31\n"
)
WORKLOAD = 'title = "It says yes"\ncommand = ["echo", "yes"]\n'


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Library]:
    """Reads a text as the sidestep.toml of a library with web/a.json, web/b.json and c.json."""
    (tmp_path / "web").mkdir()
    (tmp_path / "own").mkdir()
    for name in ("web/a.json", "web/b.json", "c.json"):
        (tmp_path / name).write_text(PROFILE)
    (tmp_path / "own/thing.toml").write_text(WORKLOAD)

    def write_and_read(text: str) -> Library:
        file = tmp_path / "sidestep.toml"
        file.write_text(text)
        return read(file)

    return write_and_read


def test_all_keys_mean_what_they_say(load: Callable[[str], Library]) -> None:
    found = load(
        """
suite = "2026.11"
[[profile]]
match = ["web/*.json", "c.json"]
objective = "no-new-directories"
families = ["create-file@/data", "change-mode[bits=04000]", "create-directory"]
workloads = ["own/thing.toml"]
postures = ["container", "restricted"]
runtime-models = ["crun"]
from = "docker"
assume = ["inherited-ring"]
exhaustive = true
[[profile.accept]]
family = "create-directory"
route = "x86_64:mkdirat"
reason = "known"
owner = "me"
expires = 2027-01-31
only = "web/a.json"
[[profile.accept]]
technique = "async-kernel"
reason = "known"
owner = "me"
expires = 2027-01-31
[[profile.allow-untested]]
name = "thing"
reason = "not everywhere"
"""
    )
    assert [one.profile for one in found.profiles] == ["web/a.json", "web/b.json", "c.json"]
    promise = found.profiles[0].promise
    assert [one.label for one in promise.families] == [
        "create-directory", "create-file@/data", "change-mode[bits=04000]",
    ]  # fmt: skip
    assert [one.name for one in promise.workloads] == ["static-entry", "shell-basics", "thing"]
    assert promise.postures == ("container", "restricted")
    assert promise.runtime_models == ("crun",)
    assert (promise.meaning, promise.exhaustive) == ("docker", True)
    assert promise.assume == {Assumption.INHERITED_RING}
    assert promise.untested == {"thing": "not everywhere"}
    assert [one.subject for one in found.profiles[0].waivers] == [
        "create-directory x86_64:mkdirat", "async-kernel",
    ]  # fmt: skip
    assert [one.subject for one in found.profiles[1].waivers] == ["async-kernel"]
    waiver = promise.waivers[0]
    assert (waiver.expires, waiver.line) == (datetime.date(2027, 1, 31), 13)
    assert len(units(found.profiles)) == 6


def test_what_is_left_out_has_the_tools_defaults(load: Callable[[str], Library]) -> None:
    found = load(ENTRY)
    promise = found.profiles[0].promise
    assert found.suite == library.SUITE
    assert (promise.postures, promise.runtime_models) == (("container",), ("runc-1.1",))
    assert (promise.meaning, promise.assume, promise.exhaustive) == ("auto", frozenset(), False)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "Object missing required field `profile`"),
        ("profile = []", 1, "profile: empty"),
        ("suite = 3\n" + ENTRY, 1, "suite: Expected `str | null`, got `int`"),
        ('suite = "2026.13"\n' + ENTRY, 1, "no suite '2026.13'; did you mean 2026.1"),
        ("x ==", 1, "not TOML"),
        ("a = 1\na = 2\n", 2, "not TOML"),
        (ENTRY + 'objektive = "x"', 4, "profile[0].objektive: no key of that name; did you mean"),
        ('suit = "x"\n' + ENTRY, 1, "suit: no key of that name; did you mean suite?"),
        ("[[profile]]\nmatch = 3", 2, "match: Expected `str | array`, got `int`"),
        ("[[profile]]\nfamilies = []", 1, "missing required field `match`"),
        ("[[profile]]\nmatch = []", 2, "match: empty"),
        ('[[profile]]\nmatch = " "', 2, "match: empty"),
        ('[[profile]]\nmatch = "/etc/*.json"', 2, "leads out of the library"),
        ('[[profile]]\nmatch = "../x.json"', 2, "leads out of the library"),
        ('[[profile]]\nmatch = "webb/*.json"', 2, "no profile matches 'webb/*.json'; did you"),
        ('[[profile]]\nmatch = "web/c.json"', 2, "no such profile: 'web/c.json'; did you mean"),
        ('[[profile]]\nmatch = "c.json"', 1, "says nothing that must be true"),
        (ENTRY + '[[profile]]\nmatch = "**/a.json"\nfamilies = ["create-file"]', 5,
         "web/a.json is matched here and in line 2"),
        (ENTRY + 'objective = "container-base"', 4, "did you mean container-baseline?"),
        ('[[profile]]\nmatch = "c.json"\nfamilies = [\n "create-dir"]', 3,
         "unknown family 'create-dir'; did you mean 'create-directory'?"),
        ('[[profile]]\nmatch = "c.json"\nfamilies = ["create-node[kin=3]"]', 3,
         "no parameter 'kin'"),
        ('[[profile]]\nmatch = "c.json"\nworkloads = ["shell-basic"]', 3,
         "did you mean shell-basics"),
        ('[[profile]]\nmatch = "c.json"\nworkloads = ["own/x.toml"]', 3,
         "own/x.toml: no such file"),
        (ENTRY + 'postures = ["rooot"]', 4, "no posture 'rooot'; did you mean root?"),
        (ENTRY + "postures = []", 4, "empty"),
        (ENTRY + 'runtime-models = ["runc"]', 4, "no runtime model 'runc'; did you mean crun"),
        (ENTRY + 'from = "dokcer"', 4, "no input format 'dokcer'; did you mean docker?"),
        (ENTRY + 'assume = ["ring"]', 4, "no assumption 'ring'"),
        (ENTRY + "exhaustive = 1", 4, "exhaustive: Expected `bool`, got `int`"),
        (ENTRY + ACCEPT.replace("mkdirat", "mkdiratt"), 5, "did you mean x86_64:mkdirat"),
        (ENTRY + ACCEPT.replace("mkdirat", "mkdirat after x86_64:reboot"), 5,
         "no way by x86_64:mkdirat calls 'x86_64:reboot'"),
        (ENTRY + ACCEPT.replace("mkdirat", "mkdirat[x]"), 5, "is not of the form"),
        (ENTRY + ACCEPT.replace('route = "x86_64:mkdirat"', 'technique = "async"'), 5,
         "no technique 'async'; did you mean async-kernel?"),
        (ENTRY + ACCEPT.replace('route = "x86_64:mkdirat"', 'technique = "memory-alias"'), 5,
         "no way of technique 'memory-alias'"),
        (ENTRY + ACCEPT + 'technique = "async-kernel"', 4, "one of the two"),
        (ENTRY + ACCEPT + 'family = "create-file"', 9, "no family 'create-file'"),
        (ENTRY + ACCEPT + 'family = "creat"', 9, "unknown family 'creat'"),
        (ENTRY + ACCEPT + 'only = "c.json"', 9, "no such profile"),
        (ENTRY + ACCEPT + "only = []", 9, "only: empty"),
        (ENTRY + ACCEPT + ACCEPT, 9, "x86_64:mkdirat is accepted in line 4 already"),
        (ENTRY + ACCEPT.replace('"known"', '""'), 6, "reason: Expected `str` of length >= 1"),
        (ENTRY + ACCEPT.replace('"known"', '" "'), 6, "reason: empty"),
        (ENTRY + ACCEPT.replace('owner = "me"\n', ""), 4, "missing required field `owner`"),
        (ENTRY + ACCEPT.replace("2027-01-31", '"2027-01-31"'), 8, "a TOML date, without quotes"),
        (ENTRY + ACCEPT.replace("2027-01-31", "2027-01-31T00:00:00"), 8, "a TOML date"),
        (ENTRY + '[[profile.allow-untested]]\nname = "create-dirctory"\nreason = "x"', 5,
         "did you mean create-directory?"),
        (ENTRY + '[[profile.allow-untested]]\nname = "create-directory"\nreason = ""', 6, "reason"),
        (ENTRY + 2 * '[[profile.allow-untested]]\nname = "create-directory"\nreason = "x"\n', 8,
         "is named twice"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_file_and_line(
    load: Callable[[str], Library], tmp_path: Path, text: str, line: int, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        load(text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'sidestep.toml'}:{line}: "), message
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "name", ["profile", "create-directory", "create-file", "newly-opened x", "x[root,crun]", "a::b"]
)
def test_a_workload_is_never_called_like_another_item(
    load: Callable[[str], Library], tmp_path: Path, name: str
) -> None:
    (tmp_path / f"own/{name}.toml").write_text(WORKLOAD)
    with pytest.raises(InputError, match=r"sidestep\.toml:4: .*workload '") as caught:
        load(ENTRY + f'workloads = ["own/{name}.toml"]')
    assert name in str(caught.value)
    with pytest.raises(InputError, match="workload '"):
        relative([str(tmp_path / f"own/{name}.toml")], tmp_path)


def test_two_items_never_have_one_id() -> None:
    from evaluator.check_items import check_ids

    one = Item("a::x", "a", "x", "family", "fail", "leaky")
    check_ids([one, Item("b::x", "b", "x", "family", "pass", "held")])
    with pytest.raises(AssertionError, match="a::x"):
        check_ids([one, Item("a::x", "a", "x", "workload", "pass", "works")])


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; `sidestep check --init` writes"):
        read(file_of(str(tmp_path)))
    (tmp_path / "sidestep.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8 at byte 0"):
        read(file_of(str(tmp_path)))
    (tmp_path / "sidestep.toml").write_text("#" * (1 << 20) + "#")
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read(file_of(str(tmp_path)))


def test_a_truncated_profile_does_not_leave_a_glob(
    load: Callable[[str], Library], tmp_path: Path
) -> None:
    (tmp_path / "web/a.json").write_text("")
    (tmp_path / "web/check.json").write_text('{"schema": "sidestep.check/1"}')
    assert [one.profile for one in load(ENTRY).profiles] == ["web/a.json", "web/b.json"]


@pytest.mark.parametrize("pattern", ["**/*.json", "*/*.json", "w*/deep/*.json"])
def test_a_directory_that_a_glob_cannot_read_is_an_error(
    load: Callable[[str], Library],
    tmp_path: Path,
    pattern: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "web/deep").mkdir()
    (tmp_path / "web/deep/d.json").write_text(PROFILE)
    closed = str(tmp_path / ("web/deep" if "deep" in pattern else "web"))
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if os.fspath(path) == closed:  # root may read everything
            raise PermissionError(13, "Permission denied", closed)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=f"cannot read {closed}: Permission denied"):
        load(ENTRY.replace("web/*.json", pattern))


def test_a_link_to_nothing_is_a_profile_that_cannot_be_used(
    load: Callable[[str], Library], tmp_path: Path
) -> None:
    from evaluator.library_run import load_units
    from mitigations.candidate import FailedCandidate

    (tmp_path / "web/z.json").symlink_to("nowhere")
    found = load(ENTRY)
    assert [one.profile for one in found.profiles] == ["web/a.json", "web/b.json", "web/z.json"]
    assert isinstance(load_units(units(found.profiles))[2], FailedCandidate)


def test_what_is_a_profile(tmp_path: Path) -> None:
    for name, text in {
        "a.json": PROFILE,
        "broken.json": PROFILE[:-1],
        "oci.json": '{"linux": {"seccomp": {}}}',
        "package.json": '{"name": "x"}',
        "list.json": "[]",
        ".hidden.json": PROFILE,
        "raw.bpf": "",
        "notes.txt": PROFILE,
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/x.json").write_text(PROFILE)
    assert profiles_below(tmp_path) == ["a.json", "broken.json", "oci.json", "raw.bpf"]


def test_items_are_known_before_anything_runs(load: Callable[[str], Library]) -> None:
    found = load(ENTRY + 'workloads = ["static-entry"]\n' + ACCEPT)
    ids = [one.id for one in listed(found, selected(found, ["web/b.json"]))]
    assert ids == [
        "web/b.json::profile",
        "web/b.json::create-directory",
        "web/b.json::static-entry",
        "web/b.json::accept x86_64:mkdirat",
    ]
    several = load(ENTRY + 'postures = ["container", "restricted"]')
    every = [one.id for one in listed(several, several.profiles)]
    assert every[1] == "web/a.json::create-directory[container,runc-1.1]"
    assert len(set(every)) == len(every) == 8
    with pytest.raises(InputError, match=r"--profile: no profile 'web/x\.json'; did you mean web/"):
        selected(found, ["web/x.json"])


def test_lines_of_keys() -> None:
    text = '''a = """
b = 1
[c]
"""  # d
[t]
"x y".z = 1
list = [
  "k = 1",
]
[[p]]
k = 1
[[p.q]]
k = 1
[[p]]
[[p.q]]
[[p.q]]
k = 'it # is'
'''
    lines = Lines(text)
    assert lines.of(("a",)) == 1
    assert lines.of(("b",)) == 1  # it is part of a string
    assert lines.of(("t", "x y", "z")) == 6
    assert lines.of(("t", "list", 0)) == 7
    assert lines.of(("p", 0, "k")) == 11
    assert lines.of(("p", 0, "q", 0, "k")) == 13
    assert lines.of(("p", 1, "q", 1, "k")) == 17
    assert lines.of(("p", 1, "q", 1, "gone")) == 16


def test_routes_that_a_family_can_have() -> None:
    known = routes.known([library.parse_reference("create-directory")])
    for route in ("x86_64:mkdir", "i386:mkdir", "x86_64:IORING_OP_MKDIRAT", "x86_64:mkdir[3+,12-]"):
        assert not routes.mistake(route, known), route
    assert routes.mistake("x86_64:reboot", known)
    assert not routes.mistake("x86_64:mkdirat after x86_64:openat", known)


@pytest.mark.parametrize(
    ("waived", "route", "expected"),
    [
        ("x86_64:mkdir", "x86_64:mkdir", True),
        ("x86_64:mkdir", "x86_64:mkdir[1+]", True),
        ("x86_64:mkdir[1+]", "x86_64:mkdir[1+]", True),
        ("x86_64:mkdir[1+]", "x86_64:mkdir[1-]", False),
        ("x86_64:mkdir[1+]", "x86_64:mkdir", False),
        ("x86_64:mkdir", "x86_64:mkdirat", False),
        ("x86_64:mkdir", "x86_64:mkdir after x86_64:openat", False),
        ("x86_64:mkdir after x86_64:a", "x86_64:mkdir[1+] after x86_64:a", True),
        ("x86_64:mkdir after x86_64:a", "x86_64:mkdir after x86_64:a after x86_64:b", False),
    ],
)
def test_a_waiver_covers_its_route_and_regions_of_it(
    waived: str, route: str, expected: bool
) -> None:
    assert routes.accepts(waived, route) is expected


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4, unique=True))
def test_what_init_writes_is_toml_whatever_files_are_called(names: list[str]) -> None:
    import glob
    import tomllib

    found = [
        Found(name, ("create-directory",), ("static-entry",), (name,), (), ()) for name in names
    ]
    broken = [Found(name, (), (), (), (), (), error=name) for name in names]
    said = tomllib.loads(text_of([*found, *broken], ()))
    assert set(said) == {"suite", "profile"}
    (entry,) = said["profile"]
    match = entry["match"] if isinstance(entry["match"], list) else [entry["match"]]
    assert match == [glob.escape(one) for one in names]


def test_init_groups_what_is_equal_and_names_what_it_left_out() -> None:
    held = ("create-directory",)
    text = text_of(
        [
            Found("a.json", held, ("thing",), ("create-file",), (), ("shell-basics",)),
            Found("b.json", held, ("thing",), (), ("kexec",), ()),
            Found("c.json", (), (), ("create-file",), (), ()),
            Found("d.json", (), (), (), (), (), "defaultAction: no\nsuch = action"),
        ],
        ["own/thing.toml"],
    )
    assert text.count("[[profile]]") == 1
    assert 'match = ["a.json", "b.json"]' in text
    assert 'workloads = ["own/thing.toml"]' in text
    for line in (
        "# a.json leaks, so this is not expected: create-file",
        "# a.json breaks: shell-basics",
        "# b.json undecided: kexec",
        "# Left out: c.json: nothing is held, and no program works",
        "# Left out: d.json cannot be used: defaultAction: no such = action",
    ):
        assert line in text.splitlines()
    assert json.dumps(library.SUITE) in text
