"""The cheapest choice that meets every clause.  Nothing here knows what the elements are.

A clause asks for one of some elements, or for one of some others to be left out: a way that has to
be closed is a clause of the first kind, a choice that broke something one of the second.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

_CHOSEN = 0.5
"""A solver's one is not always 1."""


class Clause(Struct, frozen=True):
    """Met if one of ``any_of`` is chosen, or one of ``unless`` is not."""

    any_of: frozenset[str] = frozenset()
    unless: frozenset[str] = frozenset()

    def met_by(self, chosen: Collection[str]) -> bool:
        return not self.any_of.isdisjoint(chosen) or not self.unless <= frozenset(chosen)


def choose(costs: Mapping[str, int], clauses: Collection[Clause]) -> frozenset[str] | None:
    """The cheapest elements that meet all clauses; None if no choice does.

    Every element of a clause has a cost, above zero: of two choices the smaller one is cheaper.
    """
    if not clauses:
        return frozenset()
    if any(not clause.any_of and not clause.unless for clause in clauses):
        return None
    return _solved(costs, [*dict.fromkeys(clauses)])


def _solved(costs: Mapping[str, int], clauses: Collection[Clause]) -> frozenset[str] | None:
    # A quarter of a second that nothing else needs.
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import lil_array

    names = sorted(set[str]().union(*(one.any_of | one.unless for one in clauses)))
    place = {name: n for n, name in enumerate(names)}
    rows = lil_array((len(clauses), len(names)))
    least = np.ones(len(clauses))
    for row, clause in enumerate(clauses):
        if not clause.any_of.isdisjoint(clause.unless):
            least[row] = -len(names)  # met by any choice
            continue
        for name in clause.any_of:
            rows[row, place[name]] = 1
        for name in clause.unless:
            rows[row, place[name]] = -1
        least[row] -= len(clause.unless)
    found = milp(
        np.array([float(costs[name]) for name in names]),
        integrality=np.ones(len(names), dtype=np.uint8),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows.tocsr(), lb=least),
    )
    if found.x is None:
        return None
    return frozenset(name for name, value in zip(names, found.x, strict=True) if value > _CHOSEN)
