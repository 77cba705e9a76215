"""A private suite: the same for one seed, nothing that is public, and always hidden."""

import re

import pytest

from attacks import library
from attacks.effects import Grade
from attacks.family import Assumption
from evaluator.derived import rewritten
from evaluator.private import digest, private_ways
from evaluator.scenarios import Hold, is_hidden, scenario

FAMILIES = ("create-directory", "add-key", "open-socket[family=AF_VSOCK]")


@pytest.mark.parametrize("label", FAMILIES)
def test_one_seed_makes_one_suite_and_another_seed_another(label: str) -> None:
    first = private_ways(label, "one")
    private_ways.cache_clear()
    again = private_ways(label, "one")
    assert first
    assert [(way.id, way.program) for way in first] == [(way.id, way.program) for way in again]
    assert [way.id for way in first] != [way.id for way in private_ways(label, "two")]


@pytest.mark.parametrize("label", FAMILIES)
@pytest.mark.parametrize("seed", ["a", "b"])
def test_nothing_of_it_is_public(label: str, seed: str) -> None:
    instance = library.parse_reference(label)
    public = {one.program for one in (*instance.variants, *rewritten(instance))}
    held = library.suite().variants
    ways = private_ways(label, seed)
    for way in ways:
        assert way.program not in public
        assert f"{instance.family.name}/{way.name}" not in held
        assert (way.assumption, way.grade) == (Assumption.NONE, Grade.EXACT)
    assert len({way.program for way in ways}) == len(ways)


@pytest.mark.parametrize("label", FAMILIES)
def test_its_ways_are_hidden_whatever_a_scenario_hides(label: str) -> None:
    for way in private_ways(label, "one"):
        assert way.name.count("~") >= 2
        assert is_hidden(Hold(label, ()), way.id, way.technique)


def test_a_way_that_got_through_can_be_looked_at_by_its_name() -> None:
    for way in private_ways("create-directory", "one"):
        assert library.find_variant(way.id).program == way.program


def test_a_digest_tells_suites_apart_and_not_the_seed() -> None:
    asked = [scenario("no-directories"), scenario("no-keys")]
    found = digest(asked, "correct horse")
    assert re.fullmatch("[0-9a-f]{16}", found)
    assert found == digest(reversed(asked), "correct horse")
    assert found != digest(asked, "battery staple")
    assert found != digest(asked[:1], "correct horse")
