"""What cannot be tried where somebody else puts the confinement on has one reason each."""

from collections.abc import Iterator

import pytest

from attacks import library
from attacks.family import Need, Variant
from evaluator.outcome import Terms
from evaluator.stage import CAUSES, NAMESPACES, NEIGHBOUR, SENTINEL, SETUP, untried, why_not
from evaluator.stage import why_not_inside as inside
from evaluator.trial import program_spec
from evaluator.verdict import Outcome

TERMS = Terms((), "", no_new_privs=False, syscall_insn=0)


def variants() -> Iterator[Variant]:
    for family in library.load_families().values():
        yield from family.default.variants


def test_every_variant_can_be_tried_or_has_a_known_reason() -> None:
    assert {why_not(one) for one in variants()} <= {"", *CAUSES}
    assert {inside(one) for one in variants()} <= {"", *CAUSES}


def test_what_must_never_run_for_real_is_never_tried() -> None:
    guarded = [one for one in variants() if one.guarded]
    assert guarded
    assert {why_not(one) for one in guarded} == {SENTINEL}


@pytest.mark.parametrize("cause", [SETUP, NEIGHBOUR, NAMESPACES])
def test_what_is_tried_needs_none_of_it(cause: str) -> None:
    assert any(why_not(one) == cause for one in variants())
    for one in variants():
        if not why_not(one):
            assert not one.program.setup
            assert not one.program.victim
            assert not one.fresh
            assert not program_spec(one).fresh


def test_from_the_inside_no_more_is_tried_than_from_outside() -> None:
    for one in variants():
        assert not (why_not(one) and not inside(one))
        if not inside(one):
            assert Need.MANY_IDS not in one.needs
            assert not any(b"/work" in blob.data for blob in one.program.blobs)


def test_what_is_not_tried_decides_nothing() -> None:
    one = next(each for each in variants() if why_not(each) == SENTINEL)
    found = untried(one, TERMS, SENTINEL)
    assert found.outcome is Outcome.UNSUPPORTED
    assert found.reason == SENTINEL
    assert not found.reachable_elsewhere
