"""Changes to a profile go into its file, and what did not change stays as it was written."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mitigations import changes
from mitigations.candidate import Candidate
from mitigations.changes import Change
from mitigations.load import LIBRARY, load
from mitigations.merge import merged
from mitigations.profile_text import appended, edited, position
from mitigations.rules import Condition, Profile

DENY = "SCMP_ACT_ERRNO"
TEXT = """\
{
    "defaultAction":"SCMP_ACT_ALLOW",  "comment": "by hand",
    "syscalls": [
        {"names": [ "mkdir","mkdirat" ], "action": "SCMP_ACT_KILL_PROCESS"},
        {
            "names": [
                "chmod",
                "fchmod"
            ],
            "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 4095, "op": "SCMP_CMP_LE"}]
        }
    ]
}
"""


def profile_of(folder: Path, text: str) -> Profile:
    path = folder / "profile.json"
    path.write_text(text)
    (one,) = load(path)
    assert isinstance(one, Candidate)
    assert one.profile is not None
    return one.profile


def says(profile: Profile) -> Any:
    """All but where it stands."""
    rules = [(one.names, one.action, one.errno_ret, one.conditions) for one in profile.rules]
    return profile.default_action, profile.architectures, rules


def after(folder: Path, text: str, *lines: Change) -> str:
    old = profile_of(folder, text)
    new = merged(old, lines)
    written = edited(text, old, new)
    assert says(profile_of(folder, written)) == says(new)
    return written


def test_only_what_is_new_is_new(tmp_path: Path) -> None:
    old = profile_of(tmp_path, TEXT)
    first, second = old.rules
    more = changes.add_name(old, first, "mknod")
    assert more is not None
    written = after(
        tmp_path,
        TEXT,
        more,
        changes.remove_name(old, first, "mkdir"),
        changes.set_action(old, first, DENY),
        changes.remove_name(old, second, "fchmod"),
        changes.drop_conditions(old, second),
        changes.add_rule(old, "clone3", DENY, errno_ret=38),
    )
    assert (
        written
        == """\
{
    "defaultAction":"SCMP_ACT_ALLOW",  "comment": "by hand",
    "syscalls": [
        {"names": [ "mkdirat", "mknod" ], "action": "SCMP_ACT_ERRNO"},
        {
            "names": [
                "chmod"
            ],
            "action": "SCMP_ACT_ERRNO"
        },
        {
            "names": ["clone3"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 38
        }
    ]
}
"""
    )


def test_nothing_changed_is_nothing_written(tmp_path: Path) -> None:
    assert after(tmp_path, TEXT) == TEXT


def test_a_rule_that_names_nothing_more_is_gone(tmp_path: Path) -> None:
    old = profile_of(tmp_path, TEXT)
    first = old.rules[0]
    written = after(tmp_path, TEXT, *(changes.remove_name(old, first, one) for one in first.names))
    assert [one["names"] for one in json.loads(written)["syscalls"]] == [["chmod", "fchmod"]]


def test_a_new_rule_joins_one_that_says_the_same(tmp_path: Path) -> None:
    text = (LIBRARY / "block-mkdir.json").read_text()
    old = profile_of(tmp_path, text)
    written = after(tmp_path, text, changes.add_rule(old, "creat", DENY, errno_ret=1))
    assert [one["names"] for one in json.loads(written)["syscalls"]] == [
        ["mkdir", "mkdirat", "creat"]
    ]


def test_a_rule_whose_action_changes_takes_no_names(tmp_path: Path) -> None:
    text = (LIBRARY / "block-mkdir.json").read_text()
    old = profile_of(tmp_path, text)
    kill = changes.set_action(old, old.rules[0], "SCMP_ACT_KILL")
    written = after(tmp_path, text, kill, changes.add_rule(old, "creat", DENY))
    assert [one["action"] for one in json.loads(written)["syscalls"]] == ["SCMP_ACT_KILL", DENY]


def test_bits_that_two_changes_want_clear_are_both_clear(tmp_path: Path) -> None:
    mask = {"index": 1, "value": 64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    rule = {"names": ["open"], "action": "SCMP_ACT_ALLOW", "args": [mask]}
    text = json.dumps({"defaultAction": DENY, "syscalls": [rule]})
    old = profile_of(tmp_path, text)
    wider = [
        changes.set_condition(old, old.rules[0], 0, Condition(1, "SCMP_CMP_MASKED_EQ", bits, 0))
        for bits in (64 | 512, 64 | 1024)
    ]
    document = json.loads(after(tmp_path, text, *wider))
    assert document["syscalls"][0]["args"][0]["value"] == 64 | 512 | 1024


@pytest.mark.parametrize(
    "text",
    [
        '{"defaultAction": "SCMP_ACT_ALLOW"}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}',
        '{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [ ]}}}',
        '\n{"syscalls":[{"name":"mkdir","action":"SCMP_ACT_KILL"}],"defaultAction":"SCMP_ACT_LOG"}',
    ],
)
def test_a_rule_goes_into_any_profile(text: str, tmp_path: Path) -> None:
    old = profile_of(tmp_path, text)
    written = after(tmp_path, text, changes.add_rule(old, "link", DENY, errno_ret=1))
    assert '"link"' in written


def test_an_architecture_is_taken_out_and_another_put_in(tmp_path: Path) -> None:
    text = (LIBRARY / "block-mkdir-kill.json").read_text()
    old = profile_of(tmp_path, text)
    written = after(tmp_path, text, changes.remove_architecture(old, "SCMP_ARCH_X86"))
    assert written == text.replace('"SCMP_ARCH_X86", ', "")


def test_what_stands_behind_a_list_is_kept() -> None:
    assert appended('{"filters": [1] , "x": "]"}\n', "filters", "2") == (
        '{"filters": [1, 2] , "x": "]"}\n'
    )


NAMES = ("mkdir", "link", "chmod", "creat", "openat", "clone3")
RULES = st.lists(
    st.fixed_dictionaries(
        {
            "names": st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
            "action": st.sampled_from([DENY, "SCMP_ACT_KILL", "SCMP_ACT_LOG"]),
        }
    ),
    max_size=3,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(RULES, st.sampled_from([None, 1, 4]), st.data())
def test_what_is_written_is_what_was_meant(
    tmp_path: Path, rules: list[dict[str, Any]], indent: int | None, data: st.DataObject
) -> None:
    text = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}, indent=indent)
    old = profile_of(tmp_path, text)
    made = [
        changes.add_rule(old, name, DENY) for name in data.draw(st.lists(st.sampled_from(NAMES)))
    ]
    for rule in old.rules:
        gone = data.draw(st.lists(st.sampled_from(rule.names), unique=True))
        made += [changes.remove_name(old, rule, name) for name in gone]
        more = changes.add_name(old, rule, data.draw(st.sampled_from(NAMES)))
        assert more is not None
        made += [more] if data.draw(st.booleans()) else []
    after(tmp_path, text, *made)


def _values(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Everything in a document with its path."""
    yield where, value
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _values(child, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for place, child in enumerate(value):
            yield from _values(child, f"{where}[{place}]")


_DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["names", "args", "op", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(_DOCUMENTS, st.sampled_from([None, 0, 2]))
def test_every_value_is_found_where_it_stands(document: Any, indent: int | None) -> None:
    text = json.dumps(document, indent=indent)
    for where, value in _values(document, ""):
        found = position(text, where)
        assert found is not None
        line, column = found
        rest = "\n".join(text.split("\n")[line - 1 :])[column - 1 :]
        assert json.JSONDecoder().raw_decode(rest)[0] == value


def test_what_is_not_there_has_no_position() -> None:
    text = '{"defaultaction": 1, "syscalls": [{}]}'
    assert position(text, "defaultAction") == (1, 19)
    for where in ("syscalls[1]", "syscalls[0].names", "linux.seccomp", "defaultAction.x"):
        assert position(text, where) is None
