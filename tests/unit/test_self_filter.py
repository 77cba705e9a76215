"""The start-up check of a self-filtering program: how its answers are judged, blamed, repaired."""

import errno
import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from self_filter_profiles import (
    DENIED_ALONE,
    DENIED_WITH_OTHERS,
    NO_WAY_IN,
    NOT_THERE,
    SOME_OPTIONS,
    WITHOUT_BOTH,
    WITHOUT_SECCOMP,
)

from attacks.program import Syscall
from evaluator import cli
from evaluator.self_filter import (
    Part,
    Step,
    Verdict,
    check_of,
    judge,
    program,
    steps,
)
from evaluator.self_filter_repair import allowing, blame, in_order, refusing
from mitigations import x86_64
from mitigations.bpf import Filter
from mitigations.candidate import Candidate
from mitigations.changes import Change
from mitigations.load import LIBRARY, load

from fixes import applied

FINE = (
    "EINVAL", "EINVAL", "EINVAL", "0", "0", "EFAULT", "0", "1", "0", "", "2", "errno 1233",
)  # fmt: skip
BOGUS = 0xF7A46A5C


def answers(**changed: str) -> list[str]:
    """What a kernel without any profile answers, with some answers changed: ``_9="EPERM"``."""
    found = list(FINE)
    for number, answer in changed.items():
        found[int(number[1:]) - 1] = answer
    return found


def verdicts(given: Sequence[str]) -> list[Verdict]:
    return [one.verdict for one in judge(steps(), given)]


def test_a_program_that_gets_its_answers_works() -> None:
    check = check_of(judge(steps(), answers()), 0)
    assert (check.works, check.by, check.reason, check.failed) == (True, "seccomp", "", None)
    said = {one.part: one.verdict for one in check.steps}
    assert said.pop(Part.FALLBACK) is Verdict.NOT_NEEDED
    assert set(said.values()) == {Verdict.ACCEPTED}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_nobody_has_must_be_unknown(number: int) -> None:
    assert check_of(judge(steps(), answers(**{f"_{number}": "ENOSYS"})), 0).works
    for wrong in ("EPERM", "EACCES", "0", "SIGSYS (killed)", ""):
        found = verdicts(answers(**{f"_{number}": wrong}))
        assert found[number - 1] is Verdict.FAILED
        assert set(found[: number - 1]) <= {Verdict.ACCEPTED}
        assert set(found[number:]) == {Verdict.NOT_REACHED}


@pytest.mark.parametrize("one", steps(), ids=lambda one: f"{one.number}")
def test_no_step_takes_any_answer(one: Step) -> None:
    if one.part is Part.FALLBACK:
        given = answers(_9="EPERM", _10="EPERM")
    else:
        given = answers(**{f"_{one.number}": "EPERM", "_10": "EPERM"})
    assert not check_of(judge(steps(), given), 0).works


def test_the_reason_names_the_call_and_the_answer() -> None:
    check = check_of(judge(steps(), answers(_1="EPERM")), 1)
    assert check.reason == "seccomp(0xf7a46a5c) answers EPERM, not ENOSYS or EINVAL"
    assert check.failed is not None
    assert check.by == ""


def test_what_is_behind_a_stop_was_not_asked() -> None:
    records = judge(steps(), answers(_4="EPERM"))
    assert [one.answer for one in records[4:]] == [""] * 8


def test_it_falls_back_to_prctl() -> None:
    for refused in ("ENOSYS", "EPERM", "EACCES", "17"):
        check = check_of(judge(steps(), answers(_9=refused, _10="0")), 0)
        assert (check.works, check.by) == (True, "prctl")
        assert check.steps[8].verdict is Verdict.FALLS_BACK
    check = check_of(judge(steps(), answers(_9="EPERM", _10="EACCES")), 0)
    assert not check.works
    assert check.failed is check.steps[9]


def test_a_death_is_no_refusal() -> None:
    found = verdicts(answers(_9="SIGSYS (killed)", _10="0"))
    assert found[8:10] == [Verdict.FAILED, Verdict.NOT_REACHED]


def test_a_filter_that_is_not_there_is_no_filter() -> None:
    check = check_of(judge(steps(), answers(_12="EINVAL")), 1)
    assert check.reason == "the program believes that its filter is in force, and it is not"


def test_who_never_sets_no_new_privs_leaves_two_steps_out() -> None:
    numbers = [one.number for one in steps(sets_no_new_privs=False)]
    assert numbers == [1, 2, 3, 4, 5, 6, 9, 10, 11, 12]


def test_every_step_is_one_call_of_the_program() -> None:
    calls = [op for _, op in program(steps()).flatten() if isinstance(op, Syscall)]
    assert calls == [one.call for one in steps()]
    assert all(one.may_fail for one in calls)


def test_its_own_filter_denies_what_starts_programs_and_tells_of_itself() -> None:
    own = Filter.decode(program(steps()).blobs[0].data)

    def says(abi: str, name: str, *args: int) -> str:
        nr = x86_64.number(abi, name)
        assert nr is not None
        return own.decide(x86_64.arch(abi), nr, [*args, *[0] * (6 - len(args))]).text

    for name in ("fork", "vfork", "execve", "execveat"):
        assert says("x86_64", name) == "ERRNO(EACCES)"
    for name in ("read", "clone", "seccomp", "exit_group"):
        assert says("x86_64", name) == "ALLOW"
    assert says("x86_64", "prctl", 21) == "ALLOW"
    assert says("x86_64", "prctl", BOGUS) == "ERRNO(1233)"
    assert says("i386", "getpid") == says("x32", "getpid") == "ERRNO(EACCES)"


# ------------------------------------------------------------------------------ blame and repair


def candidate(folder: Path, document: dict[str, Any]) -> Candidate:
    path = folder / "p.json"
    path.write_text(json.dumps(document))
    (one,) = load(path)
    assert isinstance(one, Candidate)
    return one


def filters(one: Candidate) -> list[Filter]:
    return [Filter.decode(layer.program) for layer in one.seccomp]


BLAMED = [
    (WITHOUT_SECCOMP, 1, "no rule names seccomp, and SCMP_ACT_ERRNO is the default: ERRNO(EPERM)"),
    (DENIED_WITH_OTHERS, 1, "syscalls[0] answers ERRNO(EPERM)"),
    (NOT_THERE, 9, "syscalls[0] answers ERRNO(ENOSYS)"),
    (
        SOME_OPTIONS,
        3,
        "no rule is for these arguments of prctl, and SCMP_ACT_ERRNO is the default: ERRNO(EPERM)",
    ),
    (NO_WAY_IN, 6, "syscalls[1] answers ERRNO(EPERM)"),
    (NO_WAY_IN, 3, "the filters let it pass, so that the kernel itself has answered"),
]


@pytest.mark.parametrize(("document", "number", "said"), BLAMED)
def test_the_rule_behind_an_answer_is_named(
    document: dict[str, Any], number: int, said: str, tmp_path: Path
) -> None:
    one, call = candidate(tmp_path, document), steps()[number - 1].call
    args = [getattr(arg, "value", None) for arg in call.args]
    assert blame(one.profile, filters(one), call, args).said == said


def test_of_a_raw_program_the_instruction_is_named(tmp_path: Path) -> None:
    deny = {"filters": [{"flags": [], "instructions": [[6, 0, 0, 0x50001]]}]}
    one = candidate(tmp_path, deny)
    said = blame(one.profile, filters(one), steps()[0].call, [BOGUS]).said
    assert said == "instruction 0 of filter 1 returns ERRNO(EPERM)"


def answer(one: Candidate, name: str, *args: int) -> str:
    nr = x86_64.number("x86_64", name)
    assert nr is not None
    (only,) = filters(one)
    return only.decide(x86_64.AUDIT_ARCH_X86_64, nr, [*args, *[0] * (6 - len(args))]).text


def followed(folder: Path, document: dict[str, Any], made: Sequence[Change]) -> Candidate:
    for line in in_order(made):
        document = applied(document, line)
    return candidate(folder, document)


@pytest.mark.parametrize(
    "document", [WITHOUT_SECCOMP, WITHOUT_BOTH, DENIED_ALONE, DENIED_WITH_OTHERS, NOT_THERE]
)
def test_the_lines_do_what_they_say_to_the_file(document: dict[str, Any], tmp_path: Path) -> None:
    profile = candidate(tmp_path, document).profile
    assert profile is not None
    allowed = followed(tmp_path, document, allowing(profile, "seccomp", [BOGUS]))
    assert answer(allowed, "seccomp", BOGUS) == "ALLOW"
    refused = followed(tmp_path, document, refusing(profile, "seccomp", [BOGUS]))
    assert answer(refused, "seccomp", BOGUS) == "ERRNO(ENOSYS)"


def test_of_a_call_with_options_only_one_is_allowed(tmp_path: Path) -> None:
    profile = candidate(tmp_path, SOME_OPTIONS).profile
    assert profile is not None
    allowed = followed(tmp_path, SOME_OPTIONS, allowing(profile, "prctl", [BOGUS]))
    assert answer(allowed, "prctl", BOGUS) == "ALLOW"
    assert answer(allowed, "prctl", 1) == "ERRNO(EPERM)"


def test_a_rule_that_denies_only_the_call_gets_another_errno(tmp_path: Path) -> None:
    profile = candidate(tmp_path, DENIED_ALONE).profile
    assert profile is not None
    (change,) = refusing(profile, "seccomp", [])
    assert change.line == f"set syscalls[0].errnoRet to {errno.ENOSYS}"


def test_whole_rules_go_last_and_from_the_end() -> None:
    lines = ["remove syscalls[1]", 'add "x" to syscalls[3].names', "remove syscalls[10]"]
    assert in_order([Change(line, "", None) for line in lines]) == (
        'add "x" to syscalls[3].names',
        "remove syscalls[10]",
        "remove syscalls[1]",
    )


# --------------------------------------------------------------------------------- command line


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--posture", "root"], "--posture says something about a candidate: add --self-filter"),
        (["--from", "oci"], "--from says something about a candidate: add --self-filter"),
        (["--runtime-model", "crun"], "--runtime-model says something"),
        (["--self-filter", "/nowhere.json"], "/nowhere.json: No such file or directory"),
        (["--self-filter", ""], "an empty path"),
        (["--self-filter", str(LIBRARY)], "candidates: name one file"),
    ],
)
@pytest.mark.usefixtures("handlers")
def test_wrong_input_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", *arguments])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
