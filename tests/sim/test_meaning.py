"""A profile, its compiled filter and our simulator must tell the same story."""

import operator
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mitigations import x86_64
from mitigations.bpf import Filter
from mitigations.candidate import Candidate
from mitigations.load import load
from mitigations.rules import NATIVE, Condition, Profile, Rule
from mitigations.runtimes import action_value, compile_profile, find_model

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
NAMES = ("read", "openat", "mkdir", "clone", "ioctl", "mmap", "fcntl", "kill", "prctl", "chmod")
ACTIONS = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_LOG", "SCMP_ACT_TRAP")
COMPARE: dict[str, Callable[[int, int], bool]] = {
    "SCMP_CMP_EQ": operator.eq,
    "SCMP_CMP_GE": operator.ge,
    "SCMP_CMP_GT": operator.gt,
    "SCMP_CMP_LE": operator.le,
    "SCMP_CMP_LT": operator.lt,
    "SCMP_CMP_NE": operator.ne,
}
EDGES = (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, 0x100000001, (1 << 64) - 1)
# So that predictions cost an evaluation of two seconds nothing.
SECONDS_FOR_2000_DECISIONS = 0.2

words = st.sampled_from(EDGES) | st.integers(0, (1 << 64) - 1)


@st.composite
def conditions(draw: st.DrawFn) -> tuple[Condition, ...]:
    indexes = draw(st.lists(st.integers(0, 5), unique=True, max_size=3))
    found: list[Condition] = []
    for index in indexes:
        if draw(st.booleans()):
            found.append(Condition(index, draw(st.sampled_from(sorted(COMPARE))), draw(words), 0))
        else:
            mask = draw(words)
            found.append(Condition(index, "SCMP_CMP_MASKED_EQ", mask, draw(words) & mask))
    return tuple(found)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """One rule per call: how several on one call combine is libseccomp's own matter."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6))
    rules = tuple(
        Rule((name,), ("",), draw(st.sampled_from(ACTIONS)), None, draw(conditions()), "")
        for name in names
    )
    return Profile(draw(st.sampled_from(ACTIONS)), None, (), None, "", "", rules)


def matches(condition: Condition, args: list[int]) -> bool:
    value = args[condition.index]
    if condition.operator == "SCMP_CMP_MASKED_EQ":
        return value & condition.value == condition.value_two
    return COMPARE[condition.operator](value, condition.value)


def expected(profile: Profile, name: str, args: list[int]) -> int:
    for rule in profile.rules:
        if name in rule.names and all(matches(each, args) for each in rule.conditions):
            return action_value(rule.action, rule.errno_ret)
    return action_value(profile.default_action, None)


def interesting(profile: Profile, draw: st.DataObject) -> list[int]:
    """Arguments around the values that the profile compares with."""
    near = [
        (base + offset) % (1 << 64)
        for rule in profile.rules
        for condition in rule.conditions
        for base in (condition.value, condition.value_two)
        for offset in (-1, 0, 1, 1 << 32)
    ]
    strategy = st.sampled_from(near) | words if near else words
    return [draw.draw(strategy) for _ in range(6)]


@settings(max_examples=120)
@given(profiles(), st.data())
def test_compiled_filter_does_what_the_profile_says(profile: Profile, data: st.DataObject) -> None:
    compiled = Filter.decode(compile_profile(profile, find_model("crun")).program)
    for _ in range(8):
        name = data.draw(st.sampled_from(NAMES))
        args = interesting(profile, data)
        number = x86_64.NUMBERS["x86_64"][name]
        decision = compiled.decide(x86_64.AUDIT_ARCH_X86_64, number, args)
        assert decision.possible == {expected(profile, name, args)}


@settings(max_examples=100)
@given(profiles(), st.data())
def test_unknown_arguments_cover_every_known_one(profile: Profile, data: st.DataObject) -> None:
    compiled = Filter.decode(compile_profile(profile, find_model("runc-1.1")).program)
    number = x86_64.NUMBERS["x86_64"][data.draw(st.sampled_from(NAMES))]
    args = interesting(profile, data)
    hidden = [None if data.draw(st.booleans()) else arg for arg in args]
    known = compiled.decide(x86_64.AUDIT_ARCH_X86_64, number, args)
    unknown = compiled.decide(x86_64.AUDIT_ARCH_X86_64, number, hidden)
    assert known.possible <= unknown.possible


@settings(max_examples=40)
@given(profiles(), st.data())
def test_tree_and_list_decide_alike(profile: Profile, data: st.DataObject) -> None:
    """What runc 1.2 makes of more than 32 rules, forced by rules that change nothing."""
    if not profile.rules:
        return
    same = Rule(("write",) * 40, ("",) * 40, profile.default_action, None, (), "")
    # With its architecture listed, for the stubs of the two differ where it is implied.
    rules = (*profile.rules, same)
    padded = Profile(profile.default_action, None, (NATIVE,), None, "", "", rules)
    tree = Filter.decode(compile_profile(padded, find_model("runc-1.2")).program)
    plain = Filter.decode(compile_profile(padded, find_model("runc-1.1")).program)
    args = interesting(profile, data)
    for number in (x86_64.NUMBERS["x86_64"][name] for name in NAMES):
        arch = x86_64.AUDIT_ARCH_X86_64
        assert tree.decide(arch, number, args).possible == plain.decide(arch, number, args).possible


@cache
def largest_capture() -> Filter:
    program = max(CAPTURES.glob("*.bpf"), key=lambda path: path.stat().st_size)
    (candidate,) = load(program)
    assert isinstance(candidate, Candidate)
    return Filter.decode(candidate.seccomp[0].program)


def test_predicting_a_run_takes_no_time() -> None:
    compiled = largest_capture()
    started = time.perf_counter()
    for index in range(2000):
        compiled.decide(x86_64.AUDIT_ARCH_X86_64, index % 335, [index, None, index, 0, 0, 0])
    assert time.perf_counter() - started < SECONDS_FOR_2000_DECISIONS
