"""The smallest rules that libseccomp 2.5.4 makes a filter of that does not do what they say.

The kernel and both simulators agree on what such a filter does (tests/live/test_tuples.py); why it
is wrong stands in tests/unit/libseccomp_defects.py.
"""

from collections.abc import Sequence

import pytest
from libseccomp_defects import SEEN_IN, is_miscompiled, low_halves

from mitigations import libseccomp, x86_64
from mitigations.bpf import Filter
from mitigations.classic import Action
from mitigations.meaning import meant, miscompiled
from mitigations.rules import NATIVE, Condition, Profile, Rule
from mitigations.runtimes import compile_profile, find_model

EQ, LT, LE, GE = (f"SCMP_CMP_{name}" for name in ("EQ", "LT", "LE", "GE"))
LOG, ALLOW = int(Action.LOG), int(Action.ALLOW)
ALL = (NATIVE, "SCMP_ARCH_X86", "SCMP_ARCH_X32")
Test = tuple[int, str, int]


def logging(*lists: Sequence[Test]) -> Profile:
    """Allows everything, and logs a chmod where all tests of one list hold."""
    rules = tuple(
        Rule(
            ("chmod",), ("",), "SCMP_ACT_LOG", None, tuple(Condition(*test, 0) for test in one), ""
        )
        for one in lists
    )
    return Profile("SCMP_ACT_ALLOW", None, ALL, None, "", "", rules)


def answer(profile: Profile, abi: str, args: Sequence[int]) -> set[int | None]:
    compiled = Filter.decode(compile_profile(profile, find_model("crun")).program)
    number = x86_64.NUMBERS[abi]["chmod"]
    return set(compiled.decide(x86_64.arch(abi), number, args).possible)


@pytest.fixture(autouse=True)
def the_version_they_were_seen_in() -> None:
    if libseccomp.version() != SEEN_IN:
        pytest.skip(f"seen in libseccomp {SEEN_IN}, here is {libseccomp.version()}")


@pytest.mark.parametrize(
    ("profile", "args", "right", "wrong"),
    [
        pytest.param(
            logging([(0, LT, 0x500000007)], [(0, LT, 7)]),
            (7, 0, 0, 0, 0, 0),
            LOG,
            ALLOW,
            id="a rule that holds is passed over",
        ),
        pytest.param(
            logging([(0, GE, 1)], [(0, LE, 1), (1, EQ, 1)]),
            (0, 2, 0, 0, 0, 0),
            ALLOW,
            LOG,
            id="a test looks at another argument",
        ),
    ],
)
def test_rules_that_share_an_argument(
    profile: Profile, args: Sequence[int], right: int, wrong: int
) -> None:
    number = x86_64.NUMBERS["x86_64"]["chmod"]
    assert meant(profile, "x86_64", number, args) == {right}
    assert answer(profile, "x86_64", args) == {wrong}
    assert is_miscompiled(profile, "x86_64", number)


@pytest.mark.parametrize(
    ("abi", "value", "argument"),
    [("x32", 5, 0x100000005), ("x32", 0x100000005, 5), ("i386", 0x100000005, 5)],
)
def test_upper_halves_are_not_compared(abi: str, value: int, argument: int) -> None:
    profile, args = logging([(0, EQ, value)]), (argument, 0, 0, 0, 0, 0)
    number = x86_64.NUMBERS[abi]["chmod"]
    assert meant(profile, abi, number, args) == {ALLOW}
    assert answer(profile, abi, args) == {LOG}
    assert meant(low_halves(profile), abi, number, (5, 0, 0, 0, 0, 0)) == {LOG}


def test_natively_they_are() -> None:
    assert answer(logging([(0, EQ, 5)]), "x86_64", (0x100000005, 0, 0, 0, 0, 0)) == {ALLOW}


@pytest.mark.parametrize(
    ("profile", "witness"),
    [
        (logging([(0, LT, 0x500000007)], [(0, LT, 7)]), "chmod("),
        (logging([(0, EQ, 0x100000005)]), "i386:chmod("),
    ],
)
def test_a_profile_that_meets_a_defect_is_told_so_with_a_witness(
    profile: Profile, witness: str
) -> None:
    compiled = Filter.decode(compile_profile(profile, find_model("crun")).program)
    (found,) = miscompiled(profile, compiled)
    assert found.code == "compiled-wrongly"
    assert found.witness.startswith(witness)
    assert f"libseccomp {SEEN_IN} " in found.message


def test_rules_that_are_kept_are_no_finding() -> None:
    profile = logging([(0, EQ, 5)], [(0, EQ, 6), (1, LT, 9)], [(2, GE, 0xFFFFFFFF)])
    compiled = Filter.decode(compile_profile(profile, find_model("crun")).program)
    assert not [*miscompiled(profile, compiled)]
