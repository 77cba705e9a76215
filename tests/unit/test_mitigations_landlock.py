"""Landlock rulesets in both formats: equal meaning, and every defect in one line with its place."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitigations import landlock
from mitigations.candidate import (
    Candidate,
    FailedCandidate,
    LandlockLayer,
    NoNewPrivsLayer,
    ProfileError,
)
from mitigations.landlock_rights import (
    FS,
    NET,
    NEWEST_ABI,
    SCOPE,
    denies,
    everything,
    newer,
    reading,
    without_newer,
)
from mitigations.load import load

JSON = {
    "abi": 5,
    "variable": [
        {"name": "home", "literal": ["/root", "/home"]},
        {"name": "home", "literal": ["/srv"]},
    ],
    "ruleset": [{"handledAccessFs": ["abi.all"], "handledAccessNet": ["bind_tcp"]}],
    "pathBeneath": [
        {"allowedAccess": ["abi.read_execute"], "parent": ["/usr", "${home}/$${x}"]},
        {"allowedAccess": ["abi.read_write"], "parent": ["/tmp"]},
        {"allowedAccess": ["execute"], "parent": ["/tmp"]},
    ],
    "netPort": [{"allowedAccess": ["connect_tcp"], "port": [80, 443]}],
}
TOML = """
abi = 5
variable = [{ name = "home", literal = ["/root", "/home", "/srv"] }]

[[ruleset]]
handled_access_fs = ["abi.all"]
handled_access_net = ["bind_tcp"]

[[path_beneath]]
allowed_access = ["abi.read_execute"]
parent = ["/usr", "${home}/$${x}"]

[[path_beneath]]
allowed_access = ["abi.read_write", "execute"]
parent = ["/tmp"]

[[net_port]]
allowed_access = ["connect_tcp"]
port = [80, 443]
"""


def loaded(tmp_path: Path, text: str, name: str = "one.toml") -> Candidate:
    path = tmp_path / name
    path.write_text(text)
    (found,) = load(path)
    assert not isinstance(found, FailedCandidate)
    return found


def test_both_formats_say_the_same(tmp_path: Path) -> None:
    found = loaded(tmp_path, TOML)
    twin = loaded(tmp_path, json.dumps(JSON), "one.json")
    assert found.layers == twin.layers
    assert found.meaning == "landlock"
    assert not found.seccomp_only
    first, ruleset = found.layers
    assert isinstance(first, NoNewPrivsLayer)
    assert isinstance(ruleset, LandlockLayer)
    every = everything(FS, 5)
    read = FS["execute"].bit | FS["read_file"].bit | FS["read_dir"].bit | FS["refer"].bit
    assert ruleset.handled_fs == every
    assert ruleset.handled_net == NET["bind_tcp"].bit | NET["connect_tcp"].bit  # as a rule names it
    assert dict(ruleset.path_rules) == {
        "/usr": read,
        "/root/${x}": read,
        "/home/${x}": read,
        "/srv/${x}": read,
        "/tmp": every,
    }
    assert dict(ruleset.port_rules) == dict.fromkeys((80, 443), NET["connect_tcp"].bit)


def test_what_is_not_handled_is_said(tmp_path: Path) -> None:
    found = loaded(tmp_path, '[[ruleset]]\nhandled_access_fs = ["make_dir"]\n')
    (warning,) = found.warnings
    assert warning.code == "rights-not-handled"
    assert "make_reg" in warning.message
    assert "make_dir" not in warning.message
    assert "refer" not in warning.message  # any ruleset for files denies that
    ports = loaded(tmp_path, '[[ruleset]]\nhandled_access_net = ["bind_tcp"]\n')
    assert "refer" in ports.warnings[0].message
    nothing = loaded(tmp_path, 'abi = 1\n[[ruleset]]\nscoped = ["abi.all"]\n')
    assert [one.code for one in nothing.warnings] == ["nothing-handled"]


def test_odd_input_is_warned_about_with_its_line(tmp_path: Path) -> None:
    text = 'abi = 99\n\n[[path_beneath]]\nallowed_access = ["abi.all"]\nparent = ["data"]\n'
    found = loaded(tmp_path, text)
    assert [(one.code, one.where) for one in found.warnings[:2]] == [
        ("unknown-abi", "line 1: abi"),
        ("relative-path", "line 5: path_beneath[0].parent[0]"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[ruleset]]\n", "line 1: ruleset[0]: an empty ruleset"),
        ("abi = 0\n[[ruleset]]\nscoped = ['signal']\n", "line 1: abi: 0 is no ABI of Landlock"),
        ("abi = true\n[[ruleset]]\n", "line 1: abi: expected an integer, found true"),
        (
            "[[ruleset]]\nhandled_acess_fs = ['execute']\n",
            "line 2: ruleset[0].handled_acess_fs: unknown key (did you mean 'handled_access_fs'?)",
        ),
        (
            "[[ruleset]]\nhandledAccessFs = ['execute']\n",
            "line 2: ruleset[0].handledAccessFs: unknown key (did you mean 'handled_access_fs'?)",
        ),
        (
            "[[ruleset]]\nhandled_access_fs = ['make_dri']\n",
            "line 2: ruleset[0].handled_access_fs[0]: unknown access right 'make_dri'",
        ),
        (
            "[[ruleset]]\nhandled_access_fs = ['abi.all']\n",
            "line 2: ruleset[0].handled_access_fs[0]: 'abi.all' means the rights of an ABI, and",
        ),
        (
            "[[ruleset]]\nhandled_access_net = ['make_dir']\n",
            "line 2: ruleset[0].handled_access_net[0]: unknown access right 'make_dir'",
        ),
        (
            "[[ruleset]]\nhandled_access_fs = 'execute'\n",
            "line 2: ruleset[0].handled_access_fs: expected an array, found a string",
        ),
        (
            "[[ruleset]]\nscoped = ['signal']\n\n[[path_beneath]]\nallowed_access = ['execute']\n",
            "line 4: path_beneath[0].parent: missing",
        ),
        (
            "[[path_beneath]]\nallowed_access = ['execute']\nparent = ['/a', '${b}']\n",
            "line 3: path_beneath[0].parent[1]: unknown variable 'b'",
        ),
        (
            "[[path_beneath]]\nallowed_access = ['execute']\nparent = ['${b']\n",
            "line 3: path_beneath[0].parent[0]: a variable without its }",
        ),
        (
            "[[net_port]]\nallowed_access = ['bind_tcp']\nport = [1, 65536]\n",
            "line 3: net_port[0].port[1]: 65536 is not within 0..65535",
        ),
        (
            "[[net_port]]\nallowed_access = ['bind_tcp']\nport = ['http']\n",
            "line 3: net_port[0].port[0]: expected a port, found a string",
        ),
        (
            "abi = 3\n",
            "no ruleset in it: one of variable, ruleset, path_beneath, net_port is needed",
        ),
        ("[[ruleset]\n", "line 1: not TOML: Expected ']]' at the end of an array declaration"),
        ("\n", "the file is empty"),
        ("abi = 1\nabi = 2\n", "line 2: not TOML: Cannot overwrite a value"),
    ],
)
def test_every_defect_is_one_line_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as error:
        loaded(tmp_path, text)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"ruleset": [{"scoped": ["singal"]}]}, "ruleset[0].scoped[0]: unknown access right"),
        ({"ruleset": [], "abi": 2}, "ruleset: an empty array"),
        ({"ruleset": {"scoped": ["signal"]}}, "ruleset: expected an array, found an object"),
        ({"ruleset": [7]}, "ruleset[0]: expected a table, found a number"),
        ({"pathBeneath": [{}]}, "pathBeneath[0].allowedAccess: missing"),
        ({"path_beneath": [{}]}, "path_beneath: unknown key (did you mean 'pathBeneath'?)"),
    ],
)
def test_defects_in_json_have_their_path(document: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as error:
        loaded(tmp_path, json.dumps(document), "one.json")
    assert str(error.value).startswith(said)


def test_too_many_paths_of_variables_are_refused_before_they_are_made() -> None:
    many = [str(number) for number in range(100)]
    document = {
        "variable": [{"name": "v", "literal": many}],
        "pathBeneath": [{"allowedAccess": ["execute"], "parent": ["/${v}${v}${v}${v}${v}"]}],
    }
    with pytest.raises(ProfileError, match="more than 1000 paths"):
        landlock.read(document, landlock.in_json)


@given(abi=st.integers(1, NEWEST_ABI), fs=st.integers(0, (1 << 17) - 1), net=st.integers(0, 3))
def test_a_kernel_is_asked_for_nothing_that_it_does_not_have(abi: int, fs: int, net: int) -> None:
    whole = LandlockLayer(fs, net, everything(SCOPE, NEWEST_ABI), (("/a", fs),), ((1, net),))
    left = without_newer(whole, abi)
    assert not list(newer(left, abi))
    assert set(denies(left)) <= set(denies(whole))
    assert all(access & left.handled_fs == access for _, access in left.path_rules)
    assert all(access & left.handled_net == access for _, access in left.port_rules)
    lost = {name.split("_", 3)[-1].lower() for name, _ in newer(whole, abi)}
    assert len(lost) == len(set(denies(whole)) - set(denies(left)))


def test_bits_are_those_of_the_header() -> None:
    """linux/landlock.h."""
    assert FS["make_dir"].bit == 1 << 7
    assert (FS["refer"].bit, FS["truncate"].bit, FS["ioctl_dev"].bit) == (1 << 13, 1 << 14, 1 << 15)
    assert reading(1) == 1 << 0 | 1 << 2 | 1 << 3
    assert everything(FS, 1) == (1 << 13) - 1
    assert [everything(NET, abi) for abi in (3, 4)] == [0, 3]
    assert [everything(SCOPE, abi) for abi in (5, 6)] == [0, 3]
