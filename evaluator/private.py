"""Private suites: hidden ways that are in no repository, made by chains of rewrites.

A seed chooses the chains.  Whoever keeps the seed can score with ways that no model has seen; the
digest of a suite says that two scores had the same one, and not what is in it.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterable

from attacks.effects import Grade
from attacks.family import Assumption, Variant
from attacks.rewrites import REWRITES, derive
from evaluator.derived import rewritten
from evaluator.predict import is_known
from evaluator.request import families
from evaluator.scenarios import Scenario

_WAYS = 32
"""For each family; where its control does not work here, a way does not count."""
_TRIES = 40 * _WAYS
_LENGTHS = (2, 3)
"""The public suite holds what one rewrite makes of a recorded way."""


@functools.cache
def private_ways(label: str, seed: str) -> tuple[Variant, ...]:
    """At most 32 ways to the effect of a family, the same for equal seeds.

    Each is made of a recorded way that takes nothing for granted, by two or three rewrites, and its
    program is none that is recorded or that one rewrite makes.
    """
    (instance,) = families([label])
    chosen = random.Random(f"{seed}\0{instance.label}")  # noqa: S311  (not for secrecy)
    recorded = [one for one in instance.variants if _may_begin(one)]
    known = {one.program for one in (*instance.variants, *rewritten(instance))}
    found: list[Variant] = []
    for _ in range(_TRIES if recorded else 0):
        if len(found) == _WAYS:
            break
        rules = chosen.choices(tuple(REWRITES), k=chosen.choice(_LENGTHS))
        way = _chained(chosen.choice(recorded), rules)
        if way is not None and way.program not in known:
            known.add(way.program)
            found.append(way)
    return tuple(found)


def digest(scenarios: Iterable[Scenario], seed: str) -> str:
    """Sixteen hexadecimal digits that tell the private suite of these scenarios from others."""
    ways = {
        f"{way.id} {way.program.digest()}"
        for scenario in scenarios
        for hold in scenario.hold
        for way in private_ways(hold.family, seed)
    }
    return hashlib.sha256("\n".join(sorted(ways)).encode()).hexdigest()[:16]


def _may_begin(variant: Variant) -> bool:
    counts = variant.assumption is Assumption.NONE and variant.grade is Grade.EXACT
    return counts and not variant.negative and not variant.beyond_seccomp


def _chained(variant: Variant, rules: Iterable[str]) -> Variant | None:
    """What the rules make of it one after another; None if one of them does not apply."""
    way: Variant | None = variant
    for name in rules:
        way = derive(way, REWRITES[name]) if way is not None else None
    if way is None or way.assumption is not Assumption.NONE or not is_known(way.program):
        return None
    return way
