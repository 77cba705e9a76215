"""Which change lets a program have a call again, and what a workload says that it was denied."""

import json
from pathlib import Path
from typing import Any

import pytest

from attacks import library
from evaluator.layers import could_hold, families_named
from evaluator.repairs import Denied, denied_in, repairs
from mitigations.bpf import Filter
from mitigations.candidate import Candidate
from mitigations.classic import pack
from mitigations.load import load
from mitigations.rules import Profile
from mitigations.stacked import denying
from mitigations.x86_64 import AUDIT_ARCH_X86_64, arch

ERRNO, ALLOW = "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"
ENOSYS = 38


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (None, ()),
        ("it did not end in time", ()),
        (
            "it exited with 1: no; denied: sysinfo (EPERM), i386:socketcall (0 (faked))",
            (Denied("x86_64", "sysinfo", "EPERM"), Denied("i386", "socketcall", "0 (faked)")),
        ),
        (
            "it was killed by SIGSYS; denied: io_uring_setup (SIGSYS (killed))",
            (Denied("x86_64", "io_uring_setup", "SIGSYS (killed)"),),
        ),
        (
            "runc-1.1 cannot finish: capset answers ERRNO(EPERM)",
            (Denied("x86_64", "capset", "ERRNO(EPERM)"),),
        ),
    ],
)
def test_what_was_denied_is_read_from_the_reason(
    reason: str | None, expected: tuple[Denied, ...]
) -> None:
    assert denied_in(reason) == expected


def profile(folder: Path, default: str, *rules: dict[str, Any], **more: Any) -> Profile:
    path = folder / "profile.json"
    path.write_text(json.dumps({"defaultAction": default, "syscalls": [*rules], **more}))
    (one,) = load(path)
    assert isinstance(one, Candidate)
    assert one.profile is not None
    return one.profile


def lines(of: Profile, denied: Denied) -> list[str]:
    return [one.change.line for one in repairs(of, denied)]


def test_a_call_that_programs_do_without_is_answered_enosys_first(tmp_path: Path) -> None:
    of = profile(tmp_path, ALLOW, {"names": ["clone3", "mkdir"], "action": ERRNO})
    soft, allowed = repairs(of, Denied("x86_64", "clone3", "EPERM"))
    assert soft.change.profile is not None
    assert [(one.names, one.errno_ret) for one in soft.change.profile.rules] == [
        (("mkdir",), None),
        (("clone3",), ENOSYS),
    ]
    assert allowed.change.profile is not None
    assert [one.names for one in allowed.change.profile.rules] == [("mkdir",)]


def test_who_does_not_do_without_is_allowed_it(tmp_path: Path) -> None:
    of = profile(tmp_path, ERRNO, {"names": ["read", "write"], "action": ALLOW})
    assert lines(of, Denied("x86_64", "seccomp", "EPERM")) == ['add "seccomp" to syscalls[0].names']
    assert lines(of, Denied("x86_64", "clone3", "ENOSYS")) == ['add "clone3" to syscalls[0].names']


def test_a_denial_is_taken_back_and_the_call_allowed_where_the_default_denies(
    tmp_path: Path,
) -> None:
    deny = {"names": ["futex"], "action": "SCMP_ACT_KILL"}
    of = profile(tmp_path, ERRNO, {"names": ["read"], "action": ALLOW}, deny)
    assert lines(of, Denied("x86_64", "futex", "SIGSYS (killed)")) == [
        'take futex out of syscalls[1] and add "futex" to syscalls[0].names'
    ]


def test_a_table_that_is_not_judged_is_named(tmp_path: Path) -> None:
    of = profile(tmp_path, ALLOW)
    (one,) = repairs(of, Denied("i386", "socketcall", "SIGSYS (killed)"))
    assert one.change.profile is not None
    assert one.change.profile.architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")


# ------------------------------------------------------------------ a filter beside others


@pytest.mark.parametrize("count", [1, 120, 121, 400])
def test_a_stacked_filter_denies_these_calls_and_no_other(count: int) -> None:
    native = {(AUDIT_ARCH_X86_64, nr): nr % 2 + 1 for nr in range(count)}
    foreign = {(arch("i386"), 1000 + nr): ENOSYS for nr in range(count)}
    made = Filter.decode(pack(denying(native | foreign)))
    for (table, nr), errno_ret in (native | foreign).items():
        assert made.decide(table, nr, [0] * 6, 0).data == errno_ret
        other = AUDIT_ARCH_X86_64 if table == arch("i386") else arch("i386")
        assert made.decide(other, nr, [0] * 6, 0).allows
    assert made.decide(AUDIT_ARCH_X86_64, count, [0] * 6, 0).allows


def test_layers_are_named_for_families_that_there_are() -> None:
    assert families_named() <= set(library.load_families())
    assert {one.kind.value for one in could_hold("create-directory")} == {
        "Landlock",
        "AppArmor",
        "namespace",
    }
    assert could_hold("no-such-family") == ()
