"""What is evaluated for a score: equal filters once, and nothing that could not decide."""

from collections.abc import Iterator

import msgspec
import pytest

from attacks.effects import Grade
from attacks.family import Assumption, Technique
from evaluator import campaign, judging
from evaluator.judging import Asked, results, scores
from evaluator.plan import Plan, Progress
from evaluator.scenario_check import candidate, known_answers
from evaluator.scenarios import Scenario, is_hidden, scenario
from mitigations.candidate import Candidate


@pytest.fixture
def asked() -> Scenario:
    return scenario("no-directories")


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the candidates that were evaluated; the score of each is its name."""
    names: list[str] = []

    def fake(lot: Asked, private: str) -> list[str]:
        mine = [one.name for one in lot.candidates]
        names.extend(mine)
        return mine

    monkeypatch.setattr(judging, "_scores_of", fake)
    return names


def named(text: str, name: str) -> Candidate:
    return msgspec.structs.replace(candidate(text), name=name)


def test_equal_filters_are_evaluated_once_and_all_get_the_score(asked, evaluated) -> None:
    known = known_answers(asked)
    deny, allow = known["deny-all"], known["allow-all"]
    spaced = deny.replace(",", ",\n ")  # another text, the same filter
    given = [named(deny, "a"), named(allow, "b"), named(spaced, "c"), named(deny, "d")]
    told: list[Progress] = []
    (found,) = scores([Asked(asked, tuple(given))], told.append)
    assert evaluated == ["a", "b"]
    assert found == ["a", "b", "a", "a"]
    assert (told[-1].done, told[-1].total) == (2, 2)


def test_equal_filters_that_are_put_on_otherwise_are_not_one(asked, evaluated) -> None:
    one = named(known_answers(asked)["allow-all"], "a")
    other = msgspec.structs.replace(one, name="b", runtime_model="crun")
    scores([Asked(asked, (one, other))], lambda _: None)
    assert evaluated == ["a", "b"]


def test_each_scenario_has_its_own_scores_in_order(asked, evaluated) -> None:
    text = known_answers(asked)["allow-all"]
    many = [
        Asked(asked, tuple(named(variant(text, n), f"{m}-{n}") for n in range(20))) for m in "xy"
    ]
    found = scores(many, lambda _: None)
    assert found == [[f"{m}-{n}" for n in range(20)] for m in "xy"]


def variant(text: str, number: int) -> str:
    rule = f'[{{"names": ["acct"], "action": "SCMP_ACT_ERRNO", "errnoRet": {number + 1}}}]'
    return text.replace("[]", rule)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    plans: list[Plan] = []

    def fake(plan: Plan, *_: object) -> Iterator[object]:
        plans.append(plan)
        return iter(())

    monkeypatch.setattr(campaign, "evaluate", fake)
    return plans


def test_all_that_counts_is_run_and_nothing_else(planned) -> None:
    one = scenario("no-vsock")
    list(results(Asked(one, (candidate(known_answers(one)["allow-all"]),)), lambda _: None))
    held, *kept = planned[0].families
    whole = held.family.instance(held.parameters)
    left_out = {way.name for way in whole.variants} - {way.name for way in held.variants}
    assert left_out == {
        way.name
        for way in whole.variants
        if way.negative or way.assumption is not Assumption.NONE or way.grade is not Grade.EXACT
    }
    for family in kept:
        assert [way.technique for way in family.variants] == [Technique.BASELINE]


def test_what_a_deployment_brings_counts(asked, planned) -> None:
    plain = candidate(known_answers(asked)["allow-all"])
    beside = msgspec.structs.replace(plain, assumes=frozenset({"inherited-ring"}))
    for one in (plain, beside):
        list(results(Asked(asked, (one,)), lambda _: None))
    without, with_them = ({way.assumption for way in p.families[0].variants} for p in planned)
    assert without == {Assumption.NONE}
    assert with_them == {Assumption.NONE, Assumption.INHERITED_RING}


def test_a_private_suite_is_added_to_what_must_hold_and_to_nothing_else(planned) -> None:
    one = scenario("no-vsock")
    asked = Asked(one, (candidate(known_answers(one)["allow-all"]),))
    list(results(asked, lambda _: None, private="seed"))
    held, *kept = planned[0].families
    private = [way for way in held.variants if way.parent]
    assert private
    assert all(is_hidden(one.hold[0], way.id, way.technique) for way in private)
    assert not [way for family in kept for way in family.variants if way.parent]
