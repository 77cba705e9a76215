"""A variant's program as the lines of a table: calls one by one, memory operations folded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby

from msgspec import Struct

from reports.schema import Step

_ADDRESS = re.compile(r"0x[0-9a-f]{7,}")


class Line(Struct, frozen=True):
    """One call, or some memory operations in a row."""

    slots: str
    section: str
    abi: str
    """Empty for the machine's own, and where the text names it already."""
    texts: tuple[str, ...]
    decisive: bool
    differs: bool
    """The candidate had a say in it: its answer, or what came of it, is not the control's."""
    is_memory: bool
    control: str | None
    mitigated: str | None
    filter: str | None


def lines(steps: Iterable[Step]) -> tuple[Line, ...]:
    """Everything in order; what only moves numbers in memory is put together."""
    found: list[Line] = []
    for (is_memory, _), group in groupby(steps, key=lambda s: (_is_memory(s), s.section)):
        if is_memory:
            found.append(_memory(list(group)))
        else:
            found += [_call(step) for step in group]
    return tuple(found)


def _is_memory(step: Step) -> bool:
    return not step.abi and not step.decisive and step.filter is None


def _memory(group: list[Step]) -> Line:
    first, last = group[0].slot, group[-1].slot
    return Line(
        slots=str(first) if first == last else f"{first}\u2013{last}",
        section=group[0].section,
        abi="",
        texts=tuple(step.text for step in group),
        decisive=False,
        differs=False,
        is_memory=True,
        control=None,
        mitigated=None,
        filter=None,
    )


def _call(step: Step) -> Line:
    return Line(
        slots=str(step.slot),
        section=step.section,
        abi=_tag(step),
        texts=(step.text,),
        decisive=step.decisive,
        differs=_failed(step.control) != _failed(step.mitigated)
        or step.filter not in (None, "ALLOW", "LOG"),
        is_memory=False,
        control=_result(step.control),
        mitigated=_result(step.mitigated),
        filter=step.filter,
    )


def _tag(step: Step) -> str:
    abi = step.abi or ""
    return "" if abi == "x86_64" or f"{abi}:" in step.text else abi


def _failed(result: str | None) -> bool:
    return result is None or not re.match(r"\d", result)


def _result(result: str | None) -> str | None:
    """Addresses are drawn at random, so that they differ between arms and say nothing."""
    return "an address" if result and _ADDRESS.fullmatch(result) else result
