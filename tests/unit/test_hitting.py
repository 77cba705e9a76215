"""The solver's choice is the one that trying all of them finds."""

from collections.abc import Collection, Mapping
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.hitting import Clause, choose

NAMES = "abcdef"
SETS = st.frozensets(st.sampled_from(NAMES), max_size=3)
CLAUSES = st.lists(st.builds(Clause, SETS, SETS), max_size=8)
COSTS = st.fixed_dictionaries({name: st.integers(1, 9) for name in NAMES})


def cheapest(costs: Mapping[str, int], clauses: Collection[Clause]) -> int | None:
    """By trying every choice."""
    choices = (set(some) for size in range(len(NAMES) + 1) for some in combinations(NAMES, size))
    met = (some for some in choices if all(one.met_by(some) for one in clauses))
    return min((sum(costs[name] for name in some) for some in met), default=None)


@settings(max_examples=200, deadline=None)
@given(COSTS, CLAUSES)
def test_the_choice_is_the_cheapest_of_all(costs: dict[str, int], clauses: list[Clause]) -> None:
    chosen = choose(costs, clauses)
    best = cheapest(costs, clauses)
    assert (chosen is None) == (best is None)
    if chosen is not None:
        assert all(one.met_by(chosen) for one in clauses)
        assert sum(costs[name] for name in chosen) == best


@pytest.mark.parametrize(
    ("clauses", "expected"),
    [
        ([], set[str]()),
        ([Clause(frozenset("ab")), Clause(frozenset("bc"))], {"b"}),
        # What broke something is taken in another way, even if that is dearer.
        ([Clause(frozenset("ab")), Clause(unless=frozenset("b"))], {"a"}),
        # A pair that broke something together may be chosen one by one.
        ([Clause(frozenset("ab")), Clause(unless=frozenset("ab"))], {"b"}),
        ([Clause(frozenset("b")), Clause(unless=frozenset("b"))], None),
        ([Clause()], None),
    ],
)
def test_clauses(clauses: list[Clause], expected: set[str] | None) -> None:
    assert choose({"a": 3, "b": 2, "c": 2}, clauses) == expected
