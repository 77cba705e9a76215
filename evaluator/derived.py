"""What rewrites make of a family, as far as this machine has numbers for the calls."""

from __future__ import annotations

from attacks.family import FamilyInstance, Variant
from attacks.rewrites import derived
from evaluator.predict import is_known


def rewritten(instance: FamilyInstance) -> list[Variant]:
    """What each rule makes of each variant, less what calls something that a table lacks."""
    return [one for one in derived(instance.variants) if is_known(one.program)]
