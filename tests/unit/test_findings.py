"""Every finding has a profile that has it and one that has not; its witness does what it says."""

import json
from pathlib import Path
from typing import Any

import pytest

from attacks import library
from evaluator.explain import parse_call
from evaluator.findings import Shown, with_findings
from mitigations.bpf import Filter
from mitigations.candidate import Candidate, Finding
from mitigations.load import load
from mitigations.witness import answer

KERNEL = (6, 18)
ERRNO, ALLOW = "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"
ALL = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
LOAD_NR, LOAD_ARCH = [32, 0, 0, 0], [32, 0, 0, 4]


def rule(*names: str, action: str = ERRNO, **more: Any) -> dict[str, Any]:
    return {"names": [*names], "action": action, **more}


def where(index: int, op: str, value: int, two: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": two}


def profile(*rules: dict[str, Any], default: str = ALLOW, **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "architectures": ALL, "syscalls": [*rules], **more}


def raw(*instructions: list[int]) -> dict[str, Any]:
    return {"filters": [{"instructions": [*instructions]}], "attachment": "runtime"}


def loaded(folder: Path, document: dict[str, Any]) -> Candidate:
    path = folder / "profile.json"
    path.write_text(json.dumps(document))
    (one,) = load(path, kernel=KERNEL)
    assert isinstance(one, Candidate)
    return with_findings(one)


def filters(candidate: Candidate) -> tuple[Filter, ...]:
    return tuple(Filter.decode(layer.program) for layer in candidate.seccomp)


def answered(candidate: Candidate, finding: Finding) -> str:
    question = parse_call(finding.witness)
    assert question is not None
    said = answer(filters(candidate), question.abis[0].value, question.name, question.args)
    assert not said.depends
    return said.text


MASK = where(1, "MASKED_EQ", 0xFFF, 0x1ED)
HAS = [
    # code, a profile that has it, one that has not, the witness and its answer
    (
        "default-allows",
        profile(rule("mkdir")),
        profile(default=ERRNO),
        "file_setattr(...)",
        "ALLOW",
    ),
    (
        "missing-architectures",
        profile(rule("mkdir"), architectures=ALL[:2]),
        profile(rule("mkdir")),
        "x32:mkdir(...)",
        "KILL_THREAD",
    ),
    (
        "unknown-syscall",
        profile(rule("mkdir", "setxattrat")),
        profile(rule("mkdir", "setxattr")),
        "setxattrat(...)",
        "ALLOW",
    ),
    (
        "rule-equals-default",
        profile(rule("mkdir", action=ALLOW)),
        profile(rule("mkdir")),
        "mkdir(...)",
        "ALLOW",
    ),
    (
        "conditions-become-or",
        profile(rule("mkdir", args=[where(1, "GE", 1), where(1, "LE", 7)])),
        profile(rule("mkdir", args=[where(0, "GE", 1), where(1, "LE", 7)])),
        "mkdir(_, 0x100000000, ...)",
        "ERRNO(EPERM)",
    ),
    (
        "conditions-become-or",
        profile(rule("mkdir", args=[where(1, "GE", 1), where(1, "LE", 7)])),
        profile(rule("mkdir", args=[where(1, "EQ", 7), where(1, "EQ", 7)])),  # both say the same
        "mkdir(_, 0x100000000, ...)",
        "ERRNO(EPERM)",
    ),
    (
        "condition-always-true",
        profile(rule("mkdir", args=[where(1, "GE", 0)])),
        profile(rule("mkdir", args=[where(1, "GE", 1)])),
        "mkdir(_, 0x100000000, ...)",
        "ERRNO(EPERM)",
    ),
    (
        "condition-never-true",
        profile(rule("mkdir", args=[where(1, "LT", 0)])),
        profile(rule("mkdir", args=[where(1, "LT", 1)])),
        "mkdir(_, 0x100000000, ...)",
        "ALLOW",
    ),
    (
        "value-beyond-mask",
        profile(rule("mkdir", args=[where(1, "MASKED_EQ", 0x40, 0x81)])),
        profile(rule("mkdir", args=[where(1, "MASKED_EQ", 0xC1, 0x81)])),
        "mkdir(_, 0x0, ...)",
        "ERRNO(EPERM)",
    ),
    (
        "errno-zero",
        profile(rule("mkdir", errnoRet=0)),
        profile(rule("mkdir", errnoRet=1)),
        "mkdir(...)",
        "ERRNO(0)",
    ),
    (
        "errno-zero",
        profile(rule("mkdir", errnoRet=0)),
        profile(rule("mkdirr", errnoRet=0)),  # no call gets it
        "mkdir(...)",
        "ERRNO(0)",
    ),
    (
        "trace-without-tracer",
        profile(rule("mkdir", action="SCMP_ACT_TRACE")),
        profile(rule("mkdir")),
        "mkdir(...)",
        "TRACE(1)",
    ),
    (
        "notify-without-listener",
        profile(rule("mkdir", action="SCMP_ACT_NOTIFY")),
        profile(rule("mkdir")),
        "mkdir(...)",
        "USER_NOTIF",
    ),
    (
        "upper-half-compared",
        profile(rule("socket", args=[where(0, "EQ", 38)])),
        profile(rule("socket", args=[where(0, "MASKED_EQ", 0xFFFFFFFF, 38)])),
        "socket(0x100000026, ...)",
        "ALLOW",
    ),
    (
        "upper-half-compared",
        profile(rule("chmod", args=[where(1, "LE", 0o7777)])),
        profile(rule("chmod", args=[MASK])),
        "chmod(_, 0x100000000, ...)",
        "ALLOW",
    ),
    (
        "i386-entry",
        profile(rule("chown")),
        profile(rule("chown", "chown32")),
        "i386:chown32(...)",
        "ALLOW",
    ),
    (
        "x32-entry",
        profile(rule("mkdir", action=ALLOW), default=ERRNO),
        profile(rule("mkdir", action=ALLOW), default=ERRNO, architectures=ALL[:2]),
        "x32:mkdir(...)",
        "ALLOW",
    ),
    (
        "hidden-by-multiplexer",
        profile(rule("socket", action=ALLOW, args=[where(0, "EQ", 1)]), default=ERRNO),
        profile(rule("socket", args=[where(0, "EQ", 1)])),
        "i386:socketcall(0x1, ...)",
        "ALLOW",
    ),
]


@pytest.mark.parametrize(("code", "bad", "good", "witness", "text"), HAS)
def test_a_finding_is_shown_by_a_call(
    code: str, bad: dict[str, Any], good: dict[str, Any], witness: str, text: str, tmp_path: Path
) -> None:
    candidate = loaded(tmp_path, bad)
    found = [one for one in candidate.warnings if one.code == code]
    assert [one.witness for one in found] == [witness]
    assert answered(candidate, found[0]) == text
    assert "\n" not in found[0].message
    assert code not in [one.code for one in loaded(tmp_path, good).warnings]


def test_a_newer_libseccomp_is_told_with_its_answer(tmp_path: Path) -> None:
    (found,) = [
        one
        for one in loaded(tmp_path, profile(rule("setxattrat", errnoRet=13))).warnings
        if one.code == "unknown-syscall"
    ]
    assert found.message.endswith("; libseccomp 2.6.0 answers ERRNO(EACCES)")


def test_a_filter_that_ignores_the_architecture_takes_one_number_for_another(
    tmp_path: Path,
) -> None:
    """It denies 83, mkdir, which is symlink through the 32-bit table."""
    program = [LOAD_NR, [21, 0, 1, 83], [6, 0, 0, 0x50001], [6, 0, 0, 0x7FFF0000]]
    candidate = loaded(tmp_path, raw(*program))
    found = {one.code: one for one in candidate.warnings}
    assert found["i386-entry"].witness == "i386:mkdir(...)"
    assert "its number 39 is judged as that of getpid" in found["i386-entry"].message
    assert answered(candidate, found["i386-entry"]) == "ALLOW"
    assert found["x32-entry"].witness == "x32:mkdir(...)"
    assert answered(candidate, found["x32-entry"]) == "ALLOW"


def test_a_filter_that_knows_its_tables_has_neither(tmp_path: Path) -> None:
    program = [
        LOAD_ARCH,
        [21, 0, 4, 0xC000003E],
        LOAD_NR,
        [53, 2, 0, 0x40000000],
        [21, 1, 0, 83],
        [6, 0, 0, 0x7FFF0000],
        [6, 0, 0, 0x50001],
    ]
    assert loaded(tmp_path, raw(*program)).warnings == ()


def test_what_nobody_can_show_has_no_witness(tmp_path: Path) -> None:
    codes = {one.code: one for one in loaded(tmp_path, profile(rule("mkdirr"))).warnings}
    assert codes["unknown-syscall"].witness == ""


@pytest.mark.parametrize(
    ("witness", "variant", "stopped", "shows"),
    [
        ("mkdir(...)", "create-directory/mkdir", "EPERM", True),
        ("mkdir(...)", "create-directory/mkdir", None, False),  # it is denied: nothing got through
        ("mkdir(...)", "create-directory/mkdirat", "EPERM", False),
        ("i386:mkdir(...)", "create-directory/mkdir", "EPERM", False),
        ("mkdirat(...)", "create-directory/mkdirat", None, True),
        ("chmod(_, 0x1000001ed, ...)", "change-mode/chmod-wide-mode", None, True),
        ("chmod(_, 0x1000001ed, ...)", "change-mode/chmod", None, False),
    ],
)
def test_a_trial_shows_a_witness_if_its_call_took_the_same_way(
    witness: str, variant: str, stopped: str | None, shows: bool, tmp_path: Path
) -> None:
    candidate = loaded(
        tmp_path, profile(rule("mkdir"), rule("chmod", args=[where(1, "LE", 0o7777)]))
    )
    shown = Shown(filters(candidate), [witness])
    assert list(shown.by(library.find_variant(variant), stopped)) == ([witness] if shows else [])
