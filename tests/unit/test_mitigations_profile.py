import json
from pathlib import Path
from typing import Any

import pytest

from mitigations.candidate import Candidate, ProfileError
from mitigations.load import Meaning, load

PROFILES = Path(__file__).parents[1] / "data" / "profiles"
INVALID = sorted((PROFILES / "invalid").glob("*.json"))
TRAPS = sorted((PROFILES / "traps").glob("*.json"))
KERNEL = (6, 18)
DENY_MKDIR = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}


def load_one(path: Path, **options: Any) -> Candidate:
    (candidate,) = load(path, kernel=KERNEL, **options)
    assert isinstance(candidate, Candidate)
    return candidate


def load_document(tmp_path: Path, document: object, **options: Any) -> Candidate:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(document))
    return load_one(path, **options)


def refusal(path: Path, **options: Any) -> ProfileError:
    with pytest.raises(ProfileError) as caught:
        load(path, kernel=KERNEL, **options)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid_file_is_refused_with_the_code_in_its_name(path: Path) -> None:
    assert refusal(path).code == path.stem


@pytest.mark.parametrize("path", TRAPS, ids=lambda path: path.stem)
def test_trap_is_reported_with_the_code_in_its_name(path: Path) -> None:
    meaning: Meaning = "auto"
    if path.stem.endswith("-ignored") and path.stem not in ("errno-ignored", "value-two-ignored"):
        meaning = "oci"
    codes = [warning.code for warning in load_one(path, meaning=meaning).warnings]
    assert path.stem in codes


def test_message_has_the_json_path_and_a_suggestion() -> None:
    error = refusal(PROFILES / "invalid" / "unknown-action.json")
    assert str(error) == (
        "defaultAction: unknown action 'SCMP_ACT_ALOW' (did you mean 'SCMP_ACT_ALLOW'?)"
    )


def test_syntax_error_has_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text('{\n "defaultAction": SCMP\n}')
    assert refusal(path).where == "line 2 column 19"


def test_ten_megabytes_are_refused_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(10 << 20)
    assert refusal(path).code == "too-large"


def test_filter_larger_than_the_kernel_takes_is_refused(tmp_path: Path) -> None:
    rules = [
        {**DENY_MKDIR, "args": [{"index": 0, "value": value << 32 | value, "op": "SCMP_CMP_EQ"}]}
        for value in range(1, 1200)
    ]
    path = tmp_path / "large.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    error = refusal(path)
    assert error.code == "filter-too-large"
    assert "4096" in error.message


def test_rules_beyond_all_reason_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "many.json"
    rule = {"names": ["mkdir"] * 5000, "action": "SCMP_ACT_ERRNO"}
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    assert refusal(path).code == "too-many-rules"


def test_file_of_nothing_but_unknown_keys_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(
        json.dumps({"defaultAction": "SCMP_ACT_ALLOW"} | {f"k{n}": 0 for n in range(2000)})
    )
    assert refusal(path).code == "not-a-profile"


def test_file_of_nothing_but_traps_reports_the_first(tmp_path: Path) -> None:
    rule = {"names": [f"no{n}" for n in range(3000)], "action": "SCMP_ACT_ERRNO"}
    document = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    assert len(load_document(tmp_path, document).warnings) == 1000


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.json").code == "unreadable"


@pytest.mark.parametrize("document", [[], 3, "x", None, True])
def test_json_that_is_no_object_is_refused(tmp_path: Path, document: object) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document))
    assert refusal(path).code == "wrong-type"


def test_hostile_names_stay_on_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"defaultAction": "\n\x1b[31m" + "A" * 100_000, "syscalls": []}))
    error = refusal(path)
    assert len(str(error)) < 200
    assert "\x1b" not in str(error)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("errnoRet", True),
        ("errnoRet", "1"),
        ("errnoRet", 1.0),
        ("names", "mkdir"),
        ("names", [1]),
        ("action", 5),
        ("args", {}),
        ("args", [1]),
        ("includes", []),
        ("comment", 1),
    ],
)
def test_types_are_those_of_go(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "x.json"
    rule = {**DENY_MKDIR, key: value}
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    if key == "comment":
        assert load_one(path).seccomp
        return
    error = refusal(path)
    assert error.code == "wrong-type"
    assert error.where.startswith(f"syscalls[0].{key}")


def test_null_is_unset_as_in_go(tmp_path: Path) -> None:
    document = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": None, "syscalls": None}
    assert load_document(tmp_path, document).seccomp


def test_file_without_default_action_and_rules_has_no_filter(tmp_path: Path) -> None:
    candidate = load_document(tmp_path, {})
    assert candidate.layers == ()
    assert candidate.profile is None
    assert [warning.code for warning in candidate.warnings] == ["unconfined"]


def test_crun_refuses_what_leaves_others_unconfined(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    path.write_text("{}")
    assert refusal(path, runtime="crun").code == "missing-default-action"


@pytest.mark.parametrize("rule", [{"name": "mkdir"}, {}, {"names": None}])
def test_crun_refuses_a_rule_without_names(rule: dict[str, Any], tmp_path: Path) -> None:
    block = {"defaultAction": "SCMP_ACT_ALLOW"}
    path = tmp_path / "p.json"

    def write(rule: dict[str, Any]) -> None:
        rules = [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO"}, rule]
        path.write_text(json.dumps({**block, "syscalls": rules}))

    write({**rule, "action": "SCMP_ACT_ERRNO"})
    refused = refusal(path, runtime="crun", meaning="oci")
    assert (refused.code, refused.where) == ("missing-names", "syscalls[1]")
    for runtime in ("runc-1.1", "runc-1.2"):
        load(path, runtime=runtime, meaning="oci")
    write({**rule, "names": [], "action": "SCMP_ACT_ERRNO"})
    load(path, runtime="crun", meaning="oci")
    # Docker makes names of name before a runtime sees it, and nothing of nothing.
    write({**rule, "action": "SCMP_ACT_ERRNO"})
    if "name" in rule:
        load(path, runtime="crun", meaning="docker")
    else:
        assert refusal(path, runtime="crun", meaning="docker").code == "missing-names"


@pytest.mark.parametrize(
    ("exact", "key"),
    [("args", "Args"), ("syscalls", "Syscalls"), ("defaultAction", "DEFAULTACTION")],
)
def test_crun_refuses_a_key_in_another_case(exact: str, key: str, tmp_path: Path) -> None:
    """It was seen to pass over them, which containerd reads and writes as they should be."""
    argument = {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}
    block = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**DENY_MKDIR, "args": [argument]}]}
    path = tmp_path / "p.json"
    path.write_text(json.dumps(block))
    assert load_one(path, runtime="crun", meaning="oci").layers
    path.write_text(json.dumps(block).replace(f'"{exact}"', f'"{key}"'))
    assert refusal(path, runtime="crun", meaning="oci").code == "key-case"
    assert load_one(path, runtime="runc-1.1", meaning="oci").layers
    assert load_one(path, runtime="crun", meaning="docker").layers


def test_crun_refuses_an_errno_for_an_action_without_one(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}))
    assert refusal(path, runtime="crun").code == "errno-without-use"
    assert load_one(path, runtime="runc-1.1").seccomp


def test_unknown_runtime_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, runtime="runc-1.3")
    assert error.code == "unknown-runtime"
    assert "runc-1.2" in str(error)


def test_detection_chooses_docker_only_for_keys_that_oci_lacks(tmp_path: Path) -> None:
    plain = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**DENY_MKDIR, "includes": {}}]}
    assert load_document(tmp_path, plain).meaning == "oci"
    legacy = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"name": "mkdir", "action": "SCMP_ACT_ERRNO"}],
    }
    assert load_document(tmp_path, legacy).meaning == "docker"


def resolved(candidate: Candidate) -> dict[str, Any]:
    assert candidate.profile is not None
    return candidate.profile.as_dict()


def test_legacy_name_blocks_under_docker_and_nothing_under_oci(tmp_path: Path) -> None:
    document = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"name": "mkdir", "action": "SCMP_ACT_ERRNO"}],
    }
    docker = load_document(tmp_path, document, meaning="docker")
    oci = load_document(tmp_path, document, meaning="oci")
    assert resolved(docker)["syscalls"][0]["names"] == ["mkdir"]
    assert resolved(oci)["syscalls"][0]["names"] == []
    assert docker.digest != oci.digest


def test_arch_map_gives_the_native_entry_and_its_others(tmp_path: Path) -> None:
    document = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        ],
        "syscalls": [DENY_MKDIR],
    }
    docker = load_document(tmp_path, document)
    assert resolved(docker)["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert "architectures" not in resolved(load_document(tmp_path, document, meaning="oci"))


@pytest.mark.parametrize(
    ("gate", "applies"),
    [
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"includes": {"arches": ["amd64", "arm64"]}}, True),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "6.18"}}, True),
        ({"includes": {"minKernel": "6.19"}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"excludes": {"minKernel": "4.8"}}, False),
        ({"includes": {}, "excludes": {}}, True),
    ],
)
def test_docker_gates(tmp_path: Path, gate: dict[str, Any], applies: bool) -> None:
    document = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**DENY_MKDIR, **gate}]}
    rules = resolved(load_document(tmp_path, document, meaning="docker"))["syscalls"]
    assert bool(rules) is applies


def test_oci_ignores_gates(tmp_path: Path) -> None:
    gated = {**DENY_MKDIR, "includes": {"caps": ["CAP_SYS_ADMIN"]}}
    document = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [gated]}
    assert resolved(load_document(tmp_path, document, meaning="oci"))["syscalls"]


def test_errno_names_of_podman_are_understood(tmp_path: Path) -> None:
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrno": "ENOSYS",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errno": "EACCES"}],
    }
    profile = resolved(load_document(tmp_path, document))
    assert profile["defaultErrnoRet"] == 38
    assert profile["syscalls"][0]["errnoRet"] == 13


def test_keys_match_without_case_as_in_go(tmp_path: Path) -> None:
    lower = load_document(tmp_path, {"defaultaction": "SCMP_ACT_ALLOW", "SYSCALLS": [DENY_MKDIR]})
    exact = load_document(tmp_path, {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [DENY_MKDIR]})
    assert lower.digest == exact.digest
    both = tmp_path / "both.json"
    both.write_text('{"defaultAction": "SCMP_ACT_ALLOW", "DefaultAction": "SCMP_ACT_ERRNO"}')
    assert refusal(both).code == "duplicate-key"


def test_config_json_is_read_at_its_seccomp_section(tmp_path: Path) -> None:
    section = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**DENY_MKDIR, "errnoRet": "1"}]}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"ociVersion": "1.0.2", "linux": {"seccomp": section}}))
    assert refusal(path).where == "linux.seccomp.syscalls[0].errnoRet"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mkdirr", "nor does Linux 6.18 (did you mean 'mkdir'?)"),
        ("mk\ndir\x00", "nor does Linux 6.18"),
    ],
)
def test_unknown_call_says_whether_linux_has_it(tmp_path: Path, name: str, words: str) -> None:
    rule = {"names": ["mkdir", name], "action": "SCMP_ACT_ERRNO"}
    candidate = load_document(tmp_path, {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    (warning,) = [each for each in candidate.warnings if each.code == "unknown-syscall"]
    assert warning.where == "syscalls[0].names[1]"
    assert words in warning.message
    assert "\n" not in warning.message


def test_flags_follow_the_runtime(tmp_path: Path) -> None:
    document: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [DENY_MKDIR]}
    log, tsync = "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"

    def flags(runtime: str, given: list[str] | None) -> tuple[str, ...]:
        extra = {} if given is None else {"flags": given}
        return load_document(tmp_path, document | extra, runtime=runtime).seccomp[0].flags

    assert flags("runc-1.1", None) == ()
    assert flags("runc-1.2", None) == ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)
    assert flags("runc-1.2", []) == ()
    assert flags("runc-1.2", [log, tsync]) == (log,)
    assert flags("crun", [log, tsync]) == (log, tsync)
    path = tmp_path / "bogus.json"
    path.write_text(json.dumps(document | {"flags": [log, "SECCOMP_FILTER_FLAG_LOGG"]}))
    assert refusal(path, runtime="crun").where == "flags[1]"


@pytest.mark.parametrize("conditional_first", [True, False])
def test_a_shadowed_rule_does_nothing(conditional_first: bool, tmp_path: Path) -> None:
    """The compiled filter is the same without it."""
    narrow = {
        **DENY_MKDIR,
        "action": "SCMP_ACT_KILL_PROCESS",
        "args": [{"index": 1, "value": 0o755, "op": "SCMP_CMP_EQ"}],
    }
    rules = [narrow, DENY_MKDIR] if conditional_first else [DENY_MKDIR, narrow]
    both, alone = (
        load_document(tmp_path, {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": one})
        for one in (rules, [DENY_MKDIR])
    )
    assert both.layers == alone.layers
    (warning,) = [each for each in both.warnings if each.code == "shadowed-rule"]
    assert warning.where == f"syscalls[{rules.index(narrow)}].names[0]"
