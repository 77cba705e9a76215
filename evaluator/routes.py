"""Routes as results name them: what a waiver names, and whether there can be such a route.

``outcome.route`` makes them: ``ABI:CALL[REGION] after ABI:CALL``.  The region is a place in one
compiled filter, so it changes whenever the filter does.  Without one the whole call is meant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from msgspec import Struct

from attacks.family import FamilyInstance, Technique
from evaluator.derived import rewritten
from evaluator.outline import outline

_ROUTE = re.compile(r"(?P<way>[^\s\[\]]+)(?:\[(?P<region>[0-9+,-]+)\])?(?P<after>(?: after \S+)*)")


class Known(Struct, frozen=True):
    """What the ways to some families are made of, those included that rewrites make."""

    ways: dict[str, frozenset[str]]
    """By decisive call, ``ABI:CALL``: the other calls on the way."""
    techniques: frozenset[Technique]


def known(instances: Iterable[FamilyInstance]) -> Known:
    """All routes that variants of these families can have, under whatever filter."""
    ways: dict[str, frozenset[str]] = {}
    techniques: set[Technique] = set()
    for instance in instances:
        for variant in (*instance.variants, *rewritten(instance)):
            plan = outline(variant.program)
            way = "memory" if plan.by_store else "none"
            others: set[str] = set()
            for call in plan.calls:
                if call.op.decisive:
                    way = f"{call.op.abi.value}:{call.op.opcode or call.op.name}"
                else:
                    others.add(f"{call.op.abi.value}:{call.op.name}")
            ways[way] = ways.get(way, frozenset()) | others
            techniques.add(variant.technique)
    return Known(ways, frozenset(techniques))


def mistake(route: str, among: Known) -> str:
    """Why no way can have this route, with the nearest one; empty if one can."""
    found = _ROUTE.fullmatch(route)
    way = found["way"] if found else route.partition("[")[0].partition(" ")[0]
    if way not in among.ways:
        return f"no way has the route {route!r}{_nearest(way, among.ways)}"
    if found is None:
        return f"{route!r} is not of the form ABI:CALL[REGION] after ABI:CALL"
    for other in found["after"].split(" after ")[1:]:
        if other not in among.ways[way]:
            return f"no way by {way} calls {other!r}{_nearest(other, among.ways[way])}"
    return ""


def accepts(waived: str, route: str) -> bool:
    """Whether a waiver of one route covers another: the same, or a region of the same call."""
    if waived == route:
        return True
    ours, theirs = _ROUTE.fullmatch(waived), _ROUTE.fullmatch(route)
    if ours is None or theirs is None or ours["region"]:
        return False
    return (ours["way"], ours["after"]) == (theirs["way"], theirs["after"])


def _nearest(name: str, among: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(among), n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(close)}?" if close else ""
