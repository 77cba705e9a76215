"""Profiles and stored results compared by real evaluations; objectives that can be reached."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluator.cli import main
from evaluator.objectives import objective

ABIS = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
RINGS = ("io_uring_setup", "io_uring_enter", "io_uring_register")


def profile(path: Path, *denied: str, architectures: list[str] = ABIS, **rule: Any) -> str:
    rules = [{"names": [*denied], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
    if rule:
        rules.append(rule)
    content = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": architectures,
        "syscalls": rules,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0), capsys.readouterr().out


def test_a_rule_that_is_lost_opens_and_given_back_closes(capsys, tmp_path) -> None:
    both = profile(tmp_path / "both.json", "mkdir", "mkdirat")
    one = profile(tmp_path / "one.json", "mkdir")
    stored = str(tmp_path / "stored")
    run(capsys, "evaluate", both, "--family", "create-directory", "-o", stored)

    code, out = run(capsys, "diff", both, one, "--family", "create-directory")
    assert code == 1
    assert "create-directory/mkdirat" in out
    assert "answer: mkdirat (x86_64, i386, x32): ERRNO(EPERM) -> ALLOW" in out

    code, out = run(capsys, "diff", stored, one, "--json")
    found = json.loads(out)["diff"]
    assert code == 1
    assert found["settings"] == [], "the family comes from the stored options"
    assert {c["kind"] for c in found["candidates"][0]["changes"]} == {"opened"}

    code, out = run(capsys, "diff", one, stored, "--json")
    assert code == 0
    changes = json.loads(out)["diff"]["candidates"][0]["changes"]
    assert {c["kind"] for c in changes} == {"closed"}

    code, out = run(capsys, "diff", f"{stored}/results.parquet", both)
    assert (code, "nothing differs" in out) == (0, True)


def test_a_call_that_no_family_needs_is_shown_though_nothing_is_worse(capsys, tmp_path) -> None:
    some = profile(tmp_path / "some.json", "mkdir")
    more = profile(tmp_path / "more.json", "mkdir", "sched_rr_get_interval")
    code, out = run(capsys, "diff", some, more, "--family", "create-directory")
    assert code == 0
    assert "answer: sched_rr_get_interval (x86_64, i386, x32): ALLOW -> ERRNO(EPERM)" in out


NETWORK = ("socket", "socketpair", "socketcall", "connect", "bind", "accept", "accept4", "listen")
SENDING = ("sendto", "sendmsg", "sendmmsg", "pidfd_getfd", "ptrace", "unshare", "setns")


@pytest.mark.parametrize(
    ("name", "denied"),
    [
        ("no-exec", ("execve", "execveat", *RINGS)),
        ("no-network", (*NETWORK, *SENDING, *RINGS)),
    ],
)
def test_an_objective_can_be_reached(capsys, tmp_path, name, denied) -> None:
    path = profile(tmp_path / "p.json", *denied)
    families = [word for one in objective(name).families for word in ("--family", one)]
    code, out = run(capsys, "evaluate", path, "--objective", name, *families)
    assert code == 0, out


def test_calls_that_cannot_be_compared_are_not_said_to_be_equal(capsys, tmp_path) -> None:
    def computed(name: str, answer: int) -> str:
        # A = args[0]; X = A; A *= X; A == 4 ? answer : allow
        multiplies = [[32, 0, 0, 16], [7, 0, 0, 0], [44, 0, 0, 0], [21, 0, 1, 4]]
        ends = [[6, 0, 0, answer], [6, 0, 0, 0x7FFF0000]]
        path = tmp_path / name
        content = {"attachment": "runtime", "filters": [{"instructions": [*multiplies, *ends]}]}
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)

    pair = (computed("a.json", 0x50001), computed("b.json", 0x50002))
    _, out = run(capsys, "diff", *pair, "--family", "create-directory")
    assert "calls not compared one by one: instruction 2 calculates with" in out
