"""The bundle that a runtime gets, and how its words are read."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluator import cri, runtimes
from evaluator.containers import why_not_labelled
from evaluator.errors import EnvironmentLackError
from evaluator.posture import CONTAINER, POSTURES, mask
from evaluator.runtimes import Runtime, find, spec
from evaluator.wire import ConfigSpec, Filter
from mitigations.candidate import AppArmorLayer

PROFILE: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW"}


def config(**changes: Any) -> ConfigSpec:
    usual: dict[str, Any] = {
        "uid": 0,
        "gid": 0,
        "capabilities": POSTURES["container"].mask,
        "no_new_privs": False,
    }
    return ConfigSpec(**{**usual, **changes})


def made(seccomp: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return spec(config(**changes), seccomp, 4711, Path("/scratch"))


def test_the_control_differs_by_the_profile_alone() -> None:
    control, candidate = made(), made(PROFILE, filters=(Filter(b"x"),))
    assert candidate["linux"].pop("seccomp") == PROFILE
    assert candidate == control


def test_user_capabilities_and_no_new_privs_are_the_runtimes_to_put_on() -> None:
    process = made(uid=1000, gid=1001, no_new_privs=True, kept=mask(["CAP_KILL"]))["process"]
    assert process["user"] == {"uid": 1000, "gid": 1001, "umask": 0o022}
    assert process["noNewPrivileges"] is True
    assert set(process["capabilities"]) == {"bounding", "effective", "permitted"}
    assert {tuple(one) for one in process["capabilities"].values()} == {("CAP_KILL",)}
    assert set(made()["process"]["capabilities"]["bounding"]) == CONTAINER


def test_an_apparmor_profile_is_named_where_there_is_one() -> None:
    assert "apparmorProfile" not in made()["process"]
    assert made(apparmor="k8s-deny")["process"]["apparmorProfile"] == "k8s-deny"


def nested(message: bytes, *path: int) -> cri.Message:
    for number in path:
        (found,) = cri.decode(message)[number]
        assert isinstance(found, bytes)
        message = found
    return cri.decode(message)


@pytest.mark.parametrize(
    ("name", "old", "kind", "reference"),
    [("k8s-deny", b"localhost/k8s-deny", 2, [b"k8s-deny"]), ("", b"unconfined", 1, None)],
)
def test_a_pod_is_asked_for_apparmor_in_both_fields(
    name: str, old: bytes, kind: int, reference: list[bytes] | None
) -> None:
    """LinuxContainerSecurityContext: apparmor_profile is 9, apparmor 16 (CRI v1 api.proto)."""
    standing = cri.Standing(0, 0, no_new_privs=False, apparmor=name)
    asked = cri.container_config("i", ["/runner"], cri.RUNTIME_DEFAULT, standing=standing)
    security = nested(asked, 15, 2)
    assert security[9] == [old]
    profile = nested(asked, 15, 2, 16)
    assert (profile[1], profile.get(2)) == ([kind], reference)


def test_a_profile_is_asked_for_only_where_it_is_in_the_kernel() -> None:
    files = {
        "/sys/module/apparmor/parameters/enabled": "Y\n",
        "/sys/kernel/security/apparmor/profiles": "web (enforce)\nother (complain)\n",
    }
    assert why_not_labelled(AppArmorLayer("web"), files.get) == ""
    assert "not among the enforced ones" in why_not_labelled(AppArmorLayer("other"), files.get)
    assert "not among the enforced ones" in why_not_labelled(AppArmorLayer("we"), files.get)
    own = AppArmorLayer("web", "profile web { }")
    assert "is not loaded into the kernel of this machine" in why_not_labelled(own, files.get)
    assert "does not run AppArmor" in why_not_labelled(AppArmorLayer("web"), lambda _: None)


def test_ids_are_those_of_nobody() -> None:
    linux = made()["linux"]
    assert linux["uidMappings"] == linux["gidMappings"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 100001, "size": 65536}]


def test_namespaces_are_the_judges_but_pid_and_mount() -> None:
    joined = {one["type"]: one.get("path") for one in made()["linux"]["namespaces"]}
    assert joined == {
        "user": "/proc/4711/ns/user",
        "network": "/proc/4711/ns/net",
        "ipc": "/proc/4711/ns/ipc",
        "uts": "/proc/4711/ns/uts",
        "pid": None,
        "mount": None,
    }


def test_only_the_scratch_directory_is_writable() -> None:
    found = made()
    assert found["root"]["readonly"] is True
    binds = [one for one in found["mounts"] if one["type"] == "bind"]
    writable = [one["destination"] for one in binds if "ro" not in one["options"]]
    assert writable == ["/work"]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("name", "version", "model"),
    [
        ("runc", "1.1.5+ds1", "runc-1.1"),
        ("runc", "1.0.0-rc93", "runc-1.1"),
        ("runc", "1.2.0", "runc-1.2"),
        ("runc", "1.10.1", "runc-1.2"),
        ("crun", "1.8.1", "crun"),
    ],
)
def test_the_version_says_how_filters_are_made(name: str, version: str, model: str) -> None:
    assert Runtime(name, f"/usr/bin/{name}", version).model == model


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("", ""),
        ("one\ntwo\n\n", "two"),
        (
            'time="now" level=error msg="runc run failed: \\"x\\" is odd"\n',
            'runc run failed: "x" is odd',
        ),
    ],
)
def test_a_runtime_is_quoted_without_what_its_log_adds(said: str, line: str) -> None:
    assert runtimes.last_line(said) == line


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentLackError, match="crun is not installed: apt-get install crun"):
        find("crun")
    (tmp_path / "crun").write_text("#!/bin/sh\n")
    (tmp_path / "crun").chmod(0o755)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(EnvironmentLackError, match="started as root"):
        find("crun")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(runtimes, "SCRATCH", tmp_path)
    with pytest.raises(EnvironmentLackError, match="is no tmpfs"):
        find("crun")
