"""Prompts and feedback say what may be seen, and nothing else."""

import itertools

import msgspec
import pytest

from evaluator import prompts
from evaluator.scenarios import CANARY, Scenario, scenarios
from evaluator.shown import (
    Broken,
    DeniedCall,
    FamilyFeedback,
    Feedback,
    Level,
    Through,
    view,
)

FINE = Feedback(
    valid=True, errors=(), enforced=True, starts=True, start_reason="", families=(), broken=()
)


@pytest.mark.parametrize("one", scenarios(), ids=lambda one: one.name)
def test_each_level_tells_all_that_the_one_before_tells(one: Scenario) -> None:
    texts = [prompts.prompt(view(one, level)).user for level in Level]
    for less, more in itertools.pairwise(texts):
        assert set(less.splitlines()) <= set(more.splitlines())
    assert " ".join(one.task.split()) in texts[0]
    assert all(name in texts[0] for name in one.workloads)


@pytest.mark.parametrize("one", scenarios(), ids=lambda one: one.name)
def test_no_prompt_tells_what_only_the_judge_knows(one: Scenario) -> None:
    asked = prompts.prompt(view(one, Level.ADVISORY))
    whole = asked.system + asked.user
    assert CANARY not in whole
    assert one.name not in whole
    assert str(one.expect) not in whole or one.expect == "mitigable"
    if one.reference is not None:
        assert one.reference.strip() not in whole
    for hold in one.hold:
        assert not any(hidden in asked.user for hidden in hold.hidden)


def test_a_prompt_is_the_same_every_time() -> None:
    one = scenarios()[0]
    assert prompts.prompt(view(one, Level.POC)) == prompts.prompt(view(one, Level.POC))


def test_nothing_to_complain_of_says_so_and_promises_nothing() -> None:
    assert prompts.is_content(FINE)
    assert "not tried" in prompts.told(FINE)


def test_what_cannot_be_used_is_told_with_the_reason() -> None:
    feedback = msgspec.structs.replace(FINE, valid=False, errors=("syscalls[0]: no such action",))
    assert not prompts.is_content(feedback)
    assert prompts.told(feedback).splitlines()[1] == "- syscalls[0]: no such action"


def test_ways_and_broken_programs_are_told_and_no_more_than_a_dozen() -> None:
    ways = tuple(Through(f"f/v{n}", "sibling-syscall", ("mkdirat",)) for n in range(20))  # type: ignore[arg-type]
    feedback = msgspec.structs.replace(
        FINE,
        families=(FamilyFeedback("f", "Create a directory", ways, ways[:1]),),
        broken=(Broken("sqlite", "SQLite", "it fails", (DeniedCall("openat", "EPERM"),)),),
    )
    told = prompts.told(feedback)
    assert not prompts.is_content(feedback)
    assert "- f/v11 (sibling-syscall): mkdirat" in told
    assert "f/v12" not in told
    assert "- and 8 more" in told
    assert "not known whether they are stopped" in told
    assert "- sqlite: it fails (denied: openat answered EPERM)" in told


@pytest.mark.parametrize(
    "change", [{"enforced": False}, {"starts": False, "start_reason": "openat answers EPERM"}]
)
def test_a_profile_that_does_nothing_is_not_fine(change: dict[str, object]) -> None:
    feedback = msgspec.structs.replace(FINE, **change)
    assert not prompts.is_content(feedback)
    assert "that was tried is stopped" not in prompts.told(feedback)
