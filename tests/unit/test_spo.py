"""Resources of the Security Profiles Operator: what it would write to a node."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mitigations.candidate import AppArmorLayer, Candidate, FailedCandidate, ProfileError
from mitigations.load import load

GROUP = "security-profiles-operator.x-k8s.io"


def allow(*names: str, **more: Any) -> dict[str, Any]:
    return {"action": "SCMP_ACT_ALLOW", "names": list(names), **more}


def resource(name: str = "mine", version: str = "v1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/{version}",
        "kind": "SeccompProfile",
        "metadata": {"name": name},
        "spec": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [allow("read", "exit_group")],
            **spec,
        },
    }


def loaded(folder: Path, *objects: Any) -> list[Candidate | FailedCandidate]:
    path = folder / "profile.yaml"
    text = objects[0] if isinstance(objects[0], str) else yaml.safe_dump_all(objects)
    path.write_text(text)
    return load(path)


def one(folder: Path, *objects: Any) -> Candidate:
    found = loaded(folder, *objects)[-1]
    assert isinstance(found, Candidate), str(found.error)
    return found


def refused(folder: Path, *objects: Any) -> str:
    try:
        found = loaded(folder, *objects)[-1]
        assert isinstance(found, FailedCandidate)
        error = found.error
    except ProfileError as alone:
        error = alone
    assert "\n" not in str(error)
    assert str(error).startswith(str(folder))
    return str(error)


def same_as(folder: Path, profile: dict[str, Any]) -> Candidate:
    path = folder / "same.json"
    path.write_text(json.dumps(profile))
    (found,) = load(path, meaning="oci")
    assert isinstance(found, Candidate)
    return found


def test_the_spec_is_the_profile(tmp_path: Path) -> None:
    found = one(tmp_path, resource())
    assert (found.name, found.meaning) == ("seccompprofile/mine", "spo")
    assert found.seccomp == same_as(tmp_path, resource()["spec"]).seccomp


def test_a_base_profile_adds_its_rules_and_nothing_else(tmp_path: Path) -> None:
    root = resource("root", syscalls=[allow("write")], defaultAction="SCMP_ACT_KILL")
    base = resource("base", syscalls=[allow("close")], baseProfileName="root")
    found = one(tmp_path, root, base, resource(baseProfileName="base"))
    together = {**resource()["spec"], "syscalls": [allow("write", "close", "read", "exit_group")]}
    assert found.seccomp == same_as(tmp_path, together).seccomp
    assert found.default_action == "SCMP_ACT_ERRNO"


def test_a_base_profile_may_be_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "base.yml").write_text(yaml.safe_dump(resource("base", syscalls=[allow("write")])))
    (tmp_path / "wrong.yaml").write_text("a: [\n# security-profiles-operator.x-k8s.io")
    found = one(tmp_path, resource(baseProfileName="base"))
    assert found.profile is not None
    assert [rule.names for rule in found.profile.rules] == [("write",), ("read", "exit_group")]


@pytest.mark.parametrize(
    ("spec", "others", "said"),
    [
        ({"baseProfileName": "bsae"}, [resource("base")], "did you mean 'base'?"),
        ({"baseProfileName": "oci://ghcr.io/x/runc:v1"}, [], "pull it"),
        ({"baseProfileName": "mine"}, [], "does not end"),
        (
            {"baseProfileName": "base"},
            [resource("base", baseProfileName="mine")],
            "does not end",
        ),
        (
            {"baseProfileName": "a"},
            [resource("a", baseProfileName="b"), resource("b", baseProfileName="a")],
            "does not end",
        ),
        (
            {"baseProfileName": "base"},
            [resource("base", syscalls=[{"action": "SCMP_ACT_LOG", "names": ["read"]}])],
            "hangs on its version",
        ),
    ],
)
def test_base_profiles_that_cannot_be_had(
    tmp_path: Path, spec: Any, others: Any, said: str
) -> None:
    assert said in refused(tmp_path, *others, resource(**spec))


def test_errno_as_number_as_string_and_zero(tmp_path: Path) -> None:
    def errno_of(value: object) -> int | None:
        rule = {"action": "SCMP_ACT_ERRNO", "names": ["mkdir"], "errnoRet": value}
        found = one(tmp_path, resource(syscalls=[rule], defaultAction="SCMP_ACT_ALLOW"))
        assert found.profile is not None
        assert ("errno-zero-unset" in {each.code for each in found.warnings}) is (value == 0)
        return found.profile.rules[0].errno_ret

    assert (errno_of(38), errno_of("38"), errno_of(0)) == (38, 38, None)


def test_warnings_stand_at_their_lines(tmp_path: Path) -> None:
    text = f"""apiVersion: {GROUP}/v1beta1
kind: SeccompProfile
metadata: {{name: mine}}
spec:
  defaultAction: SCMP_ACT_ERRNO
  archtectures: []
  syscalls:
  - action: SCMP_ACT_ALLOW
    names:
    - read
    - wriet
"""
    found = one(tmp_path, text)
    at = {each.code: (each.where.rpartition(":")[2], each.message) for each in found.warnings}
    assert at["unknown-field"][0] == "6"
    assert "did you mean 'architectures'?" in at["unknown-field"][1]
    assert at["unknown-syscall"][0] == "11"
    assert at["unknown-syscall"][1].startswith("spec.syscalls[0].names[1]: ")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"defaultAction": "SCMP_ACT_ALOW"}, "did you mean 'SCMP_ACT_ALLOW'?"),
        ({"syscalls": {}}, "expected a list"),
        ({"syscalls": [{"action": "SCMP_ACT_ALLOW", "names": "read"}]}, "expected an array"),
        ({"syscalls": [1]}, "expected a mapping"),
        ({"syscalls": [{"names": ["mkdir"], "errnoRet": "EPERM"}]}, "expected an integer"),
        ({"architectures": ["SCMP_ARCH_NATIVE"]}, "unknown architecture"),
        ({"disabled": True}, "writes no file"),
        ({"state": "Disabled"}, "writes no file"),
    ],
)
def test_mistakes(tmp_path: Path, spec: Any, said: str) -> None:
    assert said in refused(tmp_path, resource(**spec))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("RawSelinuxProfile", "an SELinux policy"),
        ("SelinuxProfile", "an SELinux policy"),
        ("ProfileRecording", "sidestep record"),
        ("SecompProfile", "unknown kind"),
    ],
)
def test_other_resources_are_refused_by_name(tmp_path: Path, kind: str, said: str) -> None:
    assert said in refused(tmp_path, {**resource(), "kind": kind})


def test_apparmor_profiles(tmp_path: Path) -> None:
    def layers(**spec: Any) -> tuple[object, ...]:
        return one(tmp_path, {**resource(), "kind": "AppArmorProfile", "spec": spec}).layers

    assert layers(abstract={}) == (AppArmorLayer("mine"),)
    assert layers(mode="Enforce") == (AppArmorLayer("mine"),)
    assert layers(mode="Complain") == ()
    assert layers(complainMode=True) == ()


def test_from_tells_the_two_formats_apart(tmp_path: Path) -> None:
    path = tmp_path / "both.yaml"
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c"}]}}
    path.write_text(yaml.safe_dump_all([pod, resource()]))
    assert [each.name for each in load(path)] == ["pod/unnamed:c", "seccompprofile/mine"]
    assert [each.name for each in load(path, meaning="spo")] == ["seccompprofile/mine"]
    assert [each.name for each in load(path, meaning="kubernetes")] == ["pod/unnamed:c"]


def test_names_of_fields_have_one_spelling(tmp_path: Path) -> None:
    """The API server drops any other: the file on the node has value 0."""
    args = [{"index": 1, "Value": 511, "op": "SCMP_CMP_EQ"}]
    rule = {"action": "SCMP_ACT_ERRNO", "names": ["chmod"], "args": args, "errnoret": 38}
    found = one(tmp_path, resource(defaultAction="SCMP_ACT_ALLOW", syscalls=[rule]))
    plain = {"action": "SCMP_ACT_ERRNO", "names": ["chmod"]}
    plain["args"] = [{"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}]
    spec = resource(defaultAction="SCMP_ACT_ALLOW", syscalls=[plain])["spec"]
    assert found.seccomp == same_as(tmp_path, spec).seccomp
    said = [each.message for each in found.warnings if each.code == "unknown-field"]
    assert [each.partition(":")[0] for each in said] == [
        "spec.syscalls[0].errnoret",
        "spec.syscalls[0].args[0].Value",
    ]
    assert "action" in refused(tmp_path, resource(syscalls=[{"Action": "x", "names": ["chmod"]}]))


def in_namespace(namespace: str, *args: Any, **spec: Any) -> dict[str, Any]:
    found = resource(*args, **spec)
    found["metadata"]["namespace"] = namespace
    return found


def test_a_base_is_looked_for_in_the_same_namespace(tmp_path: Path) -> None:
    right = in_namespace("one", "base", syscalls=[allow("mkdir")])
    wrong = in_namespace("two", "base", syscalls=[allow("chmod")])
    (tmp_path / "z.yaml").write_text(yaml.safe_dump(wrong))
    mine = in_namespace("one", syscalls=[allow("read")], baseProfileName="base")
    alone = resource(syscalls=[allow("mkdir"), allow("read")])["spec"]
    assert one(tmp_path, right, mine).seccomp == same_as(tmp_path, alone).seccomp
    other = in_namespace("three", baseProfileName="base")
    assert "no SeccompProfile 'base' in namespace 'three'" in refused(tmp_path, right, other)
    stale = in_namespace("one", "base", syscalls=[allow("chown")])
    (tmp_path / "z.yaml").write_text(yaml.safe_dump(stale))
    assert "two SeccompProfiles are called 'base', and differ" in refused(tmp_path, right, mine)
    (tmp_path / "z.yaml").write_text(yaml.safe_dump(right))
    assert one(tmp_path, right, mine)
