"""Which rewritten variants a candidate is tried with, unless all of them are asked for.

A rewrite matters where somebody meant to stop the effect, and where these filters can tell what it
made from what was recorded: that is always run.  Of what falls on a route that a recorded variant
has, one for each rule is run, as a sample.
"""

from __future__ import annotations

from attacks.family import FamilyInstance, Variant
from evaluator.derived import rewritten
from evaluator.outcome import Terms, route


class Sampler:
    """Rewrites families once, and chooses for each candidate."""

    def __init__(self, held: frozenset[str] | None) -> None:
        """``held``: the names ``family/variant`` of the suite; None for all."""
        self._held = held
        self._derived: dict[str, tuple[Variant, ...]] = {}

    def choose(self, instance: FamilyInstance, terms: Terms) -> list[Variant]:
        """The rewritten variants of one family to run under these filters."""
        known = {route(one.program, None, terms) for one in instance.variants}
        sampled: set[str] = set()
        chosen: list[Variant] = []
        for variant in self._of(instance):
            rule = variant.id.rpartition("~")[2]
            if rule not in sampled or route(variant.program, None, terms) not in known:
                sampled.add(rule)
                chosen.append(variant)
        return chosen

    def _of(self, instance: FamilyInstance) -> tuple[Variant, ...]:
        if instance.label not in self._derived:
            name = instance.family.name
            self._derived[instance.label] = tuple(
                one
                for one in rewritten(instance)
                if self._held is None or f"{name}/{one.name}" in self._held
            )
        return self._derived[instance.label]
