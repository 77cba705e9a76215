"""Which rewritten variants a candidate is tried with, unless all of them are asked for.

A rewrite matters where somebody meant to stop the effect.  There, what these filters may let
through on a route that no recorded variant has is always run.  Of the rest, one for each technique
is run, as a sample.
"""

from __future__ import annotations

from msgspec.structs import replace

from attacks.family import FamilyInstance, Technique, Variant
from evaluator.derived import rewritten
from evaluator.outcome import Terms, route
from evaluator.predict import predicted


class Sampler:
    """Rewrites families once, and chooses for each candidate."""

    def __init__(self, held: frozenset[str] | None) -> None:
        """``held``: the names ``family/variant`` of the suite; None for all."""
        self._held = held
        self._derived: dict[tuple[str, ...], tuple[Variant, ...]] = {}

    def choose(self, instance: FamilyInstance, terms: Terms) -> list[Variant]:
        """The rewritten variants of one family to run under these filters."""
        known = {route(one.program, None, terms) for one in instance.variants}
        sampled: set[Technique] = set()
        chosen: list[Variant] = []
        for variant in self.rewrite(instance):
            said = predicted(variant.program, terms.filters, None, terms.syscall_insn)
            new = said != "BLOCKED" and route(variant.program, None, terms) not in known
            if new or variant.technique not in sampled:
                sampled.add(variant.technique)
                chosen.append(variant)
        return chosen

    def rewrite(self, instance: FamilyInstance) -> tuple[Variant, ...]:
        """All that rewrites make of a family, or of a part of it; done once."""
        key = tuple(instance.ids)
        if key not in self._derived:
            name = instance.family.name
            self._derived[key] = tuple(
                one
                for one in rewritten(replace(instance, made=_not_made(instance)))
                if self._held is None or f"{name}/{one.name}" in self._held
            )
        return self._derived[key]


def _not_made(instance: FamilyInstance) -> tuple[Variant, ...]:
    """What no rewrite made of another variant: one rewrite is made of each, and no chains."""
    return tuple(one for one in instance.made if not one.parent)
