"""Explanations say what the filter answers, by which condition, and which rule is behind it."""

import json
from pathlib import Path

import pytest

from attacks import library
from attacks.consts import AT_FDCWD, O_CREAT, O_WRONLY
from attacks.effects import Grade
from attacks.program import Abi
from evaluator.errors import InputError
from evaluator.explain import Explainer, Question, parse_call
from evaluator.request import candidate_of

LIBRARY = Path(__file__).parents[2] / "mitigations" / "library"


def explainer(name: str) -> Explainer:
    return Explainer(candidate_of(str(LIBRARY / f"{name}.json")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mkdir", Question(tuple(Abi), "mkdir", (None,) * 6)),
        ("i386:umount", Question((Abi.I386,), "umount", (None,) * 6)),
        ("openat2", Question(tuple(Abi), "openat2", (None,) * 6)),
        (
            'x86_64:openat(AT_FDCWD, "x", O_CREAT|O_WRONLY, 0644)',
            Question(
                (Abi.X86_64,),
                "openat",
                (AT_FDCWD & (1 << 64) - 1, None, O_CREAT | O_WRONLY, 0o644, None, None),
            ),
        ),
        ("close(0x10)", Question(tuple(Abi), "close", (16, *[None] * 5))),
        ('chdir("a,b")', Question(tuple(Abi), "chdir", (None,) * 6)),
        ("close()", Question(tuple(Abi), "close", (None,) * 6)),
        ("no_such_call", None),
        ("create-directory", None),
        ("create-directory/mkdir", None),
    ],
)
def test_a_call_is_read_as_a_person_writes_it(text: str, expected: Question | None) -> None:
    assert parse_call(text) == expected


@pytest.mark.parametrize(
    "text", ["mkdir(1,2,3,4,5,6,7)", "openat(NO_SUCH)", "close(1 2)", "close(0x1ffffffffffffffff)"]
)
def test_arguments_that_cannot_be_read_are_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_call(text)
    assert "\n" not in str(caught.value)


def test_a_call_is_answered_with_the_instructions_and_the_rule() -> None:
    found = explainer("block-mkdir").call(Abi.X86_64, "mkdir", (None,) * 6)
    (answer,) = found.answers
    assert (answer.answer, answer.allows, answer.conditions) == ("ERRNO(EPERM)", False, ())
    (trail,) = answer.instructions
    assert trail[0].endswith("A = arch")
    assert trail[-1].endswith("return ERRNO(EPERM)")
    (rule,) = found.rules
    assert (rule.where, rule.action) == ("syscalls[0].names[0]", "SCMP_ACT_ERRNO errnoRet 1")


def test_an_architecture_that_no_rule_judges_is_told() -> None:
    found = explainer("block-mkdir").call(Abi.I386, "mkdir", (None,) * 6)
    assert [one.answer for one in found.answers] == ["KILL_THREAD"]
    assert "SCMP_ARCH_X86" in found.unjudged


def test_a_wide_argument_is_a_part_of_its_own() -> None:
    chmod = explainer("wide-argument-hole").call(Abi.X86_64, "chmod", (None,) * 6)
    assert {(one.answer, one.conditions) for one in chmod.answers} == {
        ("ALLOW", ("high(args[1]) != 0x0",)),
        ("ALLOW", ("high(args[1]) == 0x0", "low(args[1]) > 0xfff")),
        ("ERRNO(EPERM)", ("high(args[1]) == 0x0", "low(args[1]) <= 0xfff")),
    }
    known = explainer("wide-argument-hole").call(Abi.X86_64, "chmod", (None, 0o644, *[None] * 4))
    assert [one.answer for one in known.answers] == ["ERRNO(EPERM)"]
    assert known.answers[0].witness[1] == 0o644


def test_a_variant_is_answered_call_by_call() -> None:
    found = explainer("block-mkdir").variant(library.find_variant("create-directory/mkdirat"))
    assert found.predicted == "BLOCKED"
    assert [(one.decisive, one.answer) for one in found.steps] == [(True, "ERRNO(EPERM)")]


def test_a_family_with_a_way_through_is_not_held_and_names_it() -> None:
    found = explainer("wide-argument-hole").family(library.parse_reference("change-mode"))
    assert not found.held
    passing = {one.entry: one for one in found.ways if one.verdict == "passes"}
    assert passing["x86_64:fchmod"].witness == "change-mode/fchmod~wide"
    assert "high(args[1]) != 0x0" in passing["x86_64:fchmod"].detail
    assert found.assumes


@pytest.mark.parametrize(
    ("name", "family"),
    [("no-new-directories", "create-directory"), ("strict-allowlist", "create-directory")],
)
def test_a_family_is_held_if_every_known_way_is_denied(name: str, family: str) -> None:
    found = explainer(name).family(library.parse_reference(family))
    counted = [one for one in found.ways if one.grade is Grade.EXACT]
    assert {one.verdict for one in counted} == {"denied"}
    assert found.held
    assert len(counted) > 10


def test_without_a_filter_everything_passes() -> None:
    found = explainer("unconfined").family(library.parse_reference("create-directory"))
    assert {one.verdict for one in found.ways} == {"passes"}


def test_a_death_by_the_filter_may_be_the_effect(tmp_path: Path) -> None:
    profile = tmp_path / "core.json"
    calls = ["chdir", "prlimit64", "prctl", "getpid", "exit", "exit_group", "setrlimit", "write"]
    profile.write_text(
        json.dumps(
            {
                "defaultAction": "SCMP_ACT_KILL_PROCESS",
                "syscalls": [{"names": calls, "action": "SCMP_ACT_ALLOW"}],
            }
        )
    )
    found = Explainer(candidate_of(str(profile))).family(library.parse_reference("create-file"))
    assert not found.held
    (way,) = [one for one in found.ways if one.entry == "x86_64:kill"]
    assert way.verdict == "depends"


def profile(folder: Path, *rules: dict[str, object], **more: object) -> Explainer:
    path = folder / "profile.json"
    document = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [*rules], **more}
    path.write_text(json.dumps(document))
    return Explainer(candidate_of(str(path)))


def denies(*names: str, **more: object) -> dict[str, object]:
    return {"names": [*names], "action": "SCMP_ACT_ERRNO", **more}


def test_the_own_architecture_is_judged_whatever_others_are_named(tmp_path: Path) -> None:
    of = profile(tmp_path, denies("mkdir"), architectures=["SCMP_ARCH_X86"])
    found = of.call(Abi.X86_64, "mkdir", (None,) * 6)
    assert not found.unjudged
    assert [one.where for one in found.rules] == ["syscalls[0].names[0]"]


def test_a_call_about_which_no_filter_is_asked_is_told_so(tmp_path: Path) -> None:
    of = profile(tmp_path, denies("read"), defaultAction="SCMP_ACT_ERRNO")
    found = of.call(Abi.X86_64, "uretprobe", (None,) * 6)
    (answer,) = found.answers
    assert answer.answer == "ALLOW"
    assert not answer.instructions
    assert found.unjudged.startswith("no filter is asked")


def test_a_rule_is_shown_with_what_is_odd_about_it(tmp_path: Path) -> None:
    of = profile(tmp_path, denies("no_such_call", "rmdir"), denies("rmdir", errnoRet=2))
    first, second = of.call(Abi.X86_64, "rmdir", (None,) * 6).rules
    assert first.findings == ()
    assert second.findings == ("shadowed-rule",)


def test_only_rules_for_these_arguments_are_shown(tmp_path: Path) -> None:
    def on(value: int) -> dict[str, object]:
        return denies("chmod", args=[{"index": 1, "op": "SCMP_CMP_EQ", "value": value}])

    of = profile(tmp_path, on(5), on(6))
    found = of.call(Abi.X86_64, "chmod", (None, 6, None, None, None, None))
    assert [one.where for one in found.rules] == ["syscalls[1].names[0]"]
