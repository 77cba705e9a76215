"""A program that filters itself, under profiles that let it, and under profiles that do not."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from self_filter_profiles import (
    DENIED_ALONE,
    DENIED_WITH_OTHERS,
    KILLED_BY_RULE,
    KILLS,
    KILLS_THREAD,
    NO_WAY_IN,
    NOT_THERE,
    PRETENDS,
    SOME_OPTIONS,
    TRAPS,
    WITHOUT_BOTH,
    WITHOUT_SECCOMP,
    allowlist,
)

from evaluator.errors import EnvironmentLackError
from evaluator.pool import Pool
from evaluator.posture import POSTURES
from evaluator.self_filter import Verdict, run
from evaluator.self_filter_doctor import SelfFilter, examine
from evaluator.wire import ConfigSpec
from mitigations.candidate import Candidate
from mitigations.load import LIBRARY, load

from fixes import applied

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "self-filter.md"
CONFINED = """
import ctypes, struct, sys
libc, rows = ctypes.CDLL(None), {rows}
code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *row) for row in rows))
head = struct.pack("<H6xQ", len(rows), ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert not rows or libc.prctl(22, 2, ctypes.create_string_buffer(head), 0, 0) == 0
from evaluator.cli import main
main()
"""
"""The command with no_new_privs, and under a filter if there is one."""
COMMAND = [sys.executable, "-c", "from evaluator.cli import main; main()"]
SYS_ADMIN = 1 << 21
BROKEN = {
    "no rule names seccomp": (WITHOUT_SECCOMP, 1, "seccomp", "EPERM"),
    "nor prctl": (WITHOUT_BOTH, 1, "seccomp", "EPERM"),
    "killed by default": (KILLS, 1, "seccomp", "SIGSYS (killed)"),
    "its thread is killed": (KILLS_THREAD, 1, "seccomp", "SIGSYS (killed)"),
    "trapped": (TRAPS, 1, "seccomp", "SIGSYS (killed)"),
    "denied alone": (DENIED_ALONE, 1, "seccomp", "EPERM"),
    "denied with others": (DENIED_WITH_OTHERS, 1, "seccomp", "EPERM"),
    "killed by a rule": (KILLED_BY_RULE, 1, "seccomp", "SIGSYS (killed)"),
    "neither way in": (NO_WAY_IN, 6, "prctl", "EPERM"),
    "pretended": (PRETENDS, 12, "prctl", "EINVAL"),
    "some options": (SOME_OPTIONS, 3, "prctl", "EPERM"),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as found:
        yield found


def candidate(folder: Path, document: Any, name: str = "p", **options: Any) -> Candidate:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document))
    (one,) = load(path, **options)
    assert isinstance(one, Candidate)
    return one


def bundled(name: str) -> Candidate:
    (one,) = load(LIBRARY / f"{name}.json")
    assert isinstance(one, Candidate)
    return one


def examined(pool: Pool, one: Candidate, posture: str = "container") -> SelfFilter:
    return examine(pool, one, POSTURES[posture])


def causes(found: SelfFilter) -> set[str]:
    return {one.name for one in found.suspects if one.cause}


def config(capabilities: int, *, no_new_privs: bool) -> ConfigSpec:
    return ConfigSpec(0, 0, capabilities, no_new_privs)


# ---------------------------------------------------------------------------- without a profile


@pytest.mark.parametrize("capabilities", [0, POSTURES["container"].mask])
@pytest.mark.parametrize("before", [False, True])
def test_unconfined_it_works_without_any_capability(
    pool: Pool, capabilities: int, *, before: bool
) -> None:
    how = config(capabilities, no_new_privs=before)
    check = run(pool, how, how)
    assert (check.works, check.by, check.reason) == (True, "seccomp", "")
    assert [one.answer for one in check.steps][:3] == ["EINVAL"] * 3
    assert check.steps[3].answer == ("1" if before else "0")


def test_who_never_sets_no_new_privs_needs_cap_sys_admin(pool: Pool) -> None:
    bare, able = (config(mask, no_new_privs=False) for mask in (0, SYS_ADMIN))
    refused = run(pool, bare, bare, sets_no_new_privs=False)
    assert not refused.works
    assert {one.number: one.answer for one in refused.steps if one.answer == "EACCES"} == {
        9: "EACCES",
        10: "EACCES",
    }
    assert run(pool, able, able, sets_no_new_privs=False).works


# ------------------------------------------------------------------------------ under a profile


@pytest.mark.parametrize("name", BROKEN)
def test_the_exact_call_is_named_and_the_repaired_profile_works(
    name: str, pool: Pool, tmp_path: Path
) -> None:
    document, number, call, answer = BROKEN[name]
    found = examined(pool, candidate(tmp_path, document))
    failed = found.check.failed
    assert not found.works
    assert found.control.works
    assert failed is not None
    assert (failed.number, failed.answer) == (number, answer)
    assert failed.call.startswith(f"{call}(")
    assert found.where in ("defaultAction", "syscalls[0]", "syscalls[1]")
    assert causes(found) == {"this profile"}
    assert found.repairs
    for repair in found.repairs:
        repaired = document
        for line in repair.lines:
            repaired = applied(repaired, line)
        again = examined(pool, candidate(tmp_path, repaired, "repaired"))
        assert (again.works, again.check.by) == (True, repair.check.by)
        assert causes(again) == set()


def test_both_calls_that_are_denied_are_repaired(pool: Pool, tmp_path: Path) -> None:
    found = examined(pool, candidate(tmp_path, WITHOUT_BOTH))
    whole, around = found.repairs
    assert whole.lines == ('add "seccomp" to syscalls[0].names', 'add "prctl" to syscalls[0].names')
    assert (whole.check.by, around.check.by) == ("seccomp", "prctl")


def test_where_seccomp_is_not_there_it_falls_back(pool: Pool, tmp_path: Path) -> None:
    found = examined(pool, candidate(tmp_path, NOT_THERE))
    assert (found.works, found.check.by) == (True, "prctl")
    assert found.check.steps[8].verdict is Verdict.FALLS_BACK
    assert found.repairs == ()


@pytest.mark.parametrize("posture", POSTURES)
def test_the_posture_is_not_the_cause(posture: str, pool: Pool, tmp_path: Path) -> None:
    broken = examined(pool, candidate(tmp_path, WITHOUT_SECCOMP), posture)
    assert causes(broken) == {"this profile"}
    assert {one.works for one in broken.arms if one.profile == "candidate"} == {False}
    works = examined(pool, candidate(tmp_path, allowlist("prctl", "seccomp")), posture)
    assert causes(works) == set()
    assert {one.works for one in works.arms if one.profile == "candidate"} == {True}


def test_a_filter_that_a_program_put_on_itself_lets_it_put_on_another(pool: Pool) -> None:
    found = examined(pool, bundled("elasticsearch-self"))
    assert found.works
    assert found.check.steps[3].answer == "1"
    assert found.check.steps[4].answer == "2"


def test_a_raw_program_gets_no_line(pool: Pool, tmp_path: Path) -> None:
    # nr 317 answers EPERM, everything else passes
    rows = [[32, 0, 0, 0], [21, 0, 1, 317], [6, 0, 0, 0x50001], [6, 0, 0, 0x7FFF0000]]
    raw = {"attachment": "runtime", "filters": [{"flags": [], "instructions": rows}]}
    found = examined(pool, candidate(tmp_path, raw))
    assert found.answered_by == "instruction 2 of filter 1 returns ERRNO(EPERM)"
    assert (found.works, found.repairs) == (False, ())


def test_what_does_not_load_is_not_examined(pool: Pool, tmp_path: Path) -> None:
    raw = {
        "attachment": "self",
        "filters": [{"flags": [], "instructions": [[6, 0, 0, 2147418112]]}],
    }
    with pytest.raises(EnvironmentLackError, match="EACCES"):
        examined(pool, candidate(tmp_path, raw))


def test_runtimes_differ(pool: Pool, tmp_path: Path) -> None:
    """From 1.2 on, runc's stub answers ENOSYS above the calls that a profile names."""
    broken = candidate(tmp_path, WITHOUT_SECCOMP, runtime="crun")
    assert not examined(pool, broken).works
    stubbed = candidate(tmp_path, WITHOUT_SECCOMP, runtime="runc-1.2")
    assert examined(pool, stubbed).check.by == "prctl"


def test_the_kernel_counts_the_profile_before_the_first_step(pool: Pool, tmp_path: Path) -> None:
    found = examined(pool, candidate(tmp_path, WITHOUT_SECCOMP))
    assert found.check.filters is not None
    assert found.control.filters is not None
    assert found.check.filters - found.control.filters == 1


# --------------------------------------------------------------------------------- command line


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "doctor", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_command_ends_with_0_or_1(tmp_path: Path) -> None:
    works = doctor("--self-filter", str(LIBRARY / "unconfined.json"))
    assert (works.returncode, works.stderr) == (0, "")
    broken = doctor("--self-filter", str(LIBRARY / "strict-allowlist.json"))
    assert (broken.returncode, broken.stderr) == (1, "")
    assert max(map(len, (works.stdout + broken.stdout).splitlines())) <= 80


def confined(*rows: tuple[int, int, int, int]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CONFINED.format(rows=rows), "doctor", "--self-filter"]
    profile = str(LIBRARY / "unconfined.json")
    return subprocess.run(
        [*command, profile], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_what_was_there_before_us_is_said() -> None:
    done = confined()
    assert (done.returncode, done.stderr) == (0, "")
    assert "no_new_privs was set before sidestep was started" in done.stdout
    assert "EACCES" not in done.stdout
    assert "was set before" not in doctor("--self-filter", str(LIBRARY / "unconfined.json")).stdout


def test_a_machine_that_refuses_it_to_all_proves_nothing_about_a_profile() -> None:
    bogus_is_refused = (
        (32, 0, 0, 0), (21, 0, 3, 317), (32, 0, 0, 16), (21, 0, 1, 0xF7A46A5C),
        (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000),
    )  # fmt: skip
    done = confined(*bogus_is_refused)
    assert (done.returncode, done.stdout) == (3, "")
    assert "even without the candidate: seccomp(0xf7a46a5c) answers EPERM" in done.stderr
    assert "under a filter already" in done.stderr
    assert done.stderr.count("\n") == 1


def test_json_is_one_object() -> None:
    done = doctor("--self-filter", str(LIBRARY / "strict-allowlist.json"), "--json")
    found = json.loads(done.stdout)["self_filter"]
    assert (done.returncode, found["works"]) == (1, False)
    assert found["check"]["steps"][0]["answer"] == "EPERM"
    assert found["repairs"][0]["check"]["works"] is True


def test_the_page_shows_what_the_command_prints() -> None:
    text = PAGE.read_text()
    shown = re.findall(r"```console\n\$ sidestep ([^\n]+)\n(.*?)\n```", text, re.DOTALL)
    assert shown
    for line, output in shown:
        done = subprocess.run(
            [*COMMAND, *shlex.split(line)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert _anywhere(done.stdout) == _anywhere(output)


def _anywhere(text: str) -> list[str]:
    """Without the version of libseccomp, which is this machine's."""
    found = re.sub(r"libseccomp-[0-9.]+", "libseccomp-*", text)
    return [line.rstrip() for line in found.strip().splitlines()]
