"""Explanations on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from attacks.effects import Grade
from evaluator.explain import CallExplanation, FamilyExplanation, VariantExplanation, Way
from evaluator.records import Cause
from evaluator.terminal import printable

_FIRST, _LAST = 3, 9
"""So many instructions of a long way are shown from its ends."""
_STYLES = {"denied": "green", "passes": "red", "depends": "yellow"}


def show_call(console: Console, found: CallExplanation) -> None:
    name = found.call if found.abi == "x86_64" else f"{found.abi}:{found.call}"
    console.print(Text(f"{name} ({found.nr})", "bold"))
    if found.inexact:
        console.print(f"  cannot be told exactly: {found.inexact}", markup=False)
    for answer in found.answers:
        style = "red" if answer.allows else "green"
        where = " and ".join(answer.conditions) or "whatever its arguments"
        console.print(Text(f"  {answer.answer}", style).append(f"  {where}", "not bold default"))
        if answer.conditions:
            shown = ", ".join(hex(one) for one in answer.witness)
            looked_at = any("instruction_pointer" in one for one in answer.conditions)
            at = f" at {answer.instruction_pointer:#x}" if looked_at else ""
            console.print(f"    e.g. {found.call}({shown}){at}", markup=False)
        for trail in answer.instructions:
            for line in _shortened(trail):
                console.print(Text(f"    {line}", "dim"))
    if found.unjudged:
        console.print(f"  {found.unjudged}", markup=False)
        return
    for rule in found.rules:
        conditions = f" where {' and '.join(rule.conditions)}" if rule.conditions else ""
        odd = f" ({', '.join(rule.findings)})" if rule.findings else ""
        console.print(f"  rule {rule.where}: {rule.action}{conditions}{odd}", markup=False)
    if not found.rules and found.default:
        console.print(f"  no rule names it: {found.default} is the default", markup=False)


def _shortened(lines: tuple[str, ...]) -> list[str]:
    if len(lines) <= _FIRST + _LAST + 1:
        return list(lines)
    left_out = f"... {len(lines) - _FIRST - _LAST} instructions"
    return [*lines[:_FIRST], left_out, *lines[-_LAST:]]


def show_variant(console: Console, found: VariantExplanation) -> None:
    console.print(Text(f"{found.variant}: {found.predicted}", "bold"))
    for step in found.steps:
        mark = "* " if step.decisive else "  "
        console.print(f"{mark}{printable(step.text)}", markup=False)
        console.print(Text(f"      {step.answer}", "dim"))
    if found.cause is not None:
        _show_cause(console, found.cause)


def _show_cause(console: Console, cause: Cause) -> None:
    where = f" ({cause.where})" if cause.where else ""
    console.print(Text("what lets it through: ", "red").append(cause.said + where, "default"))
    if cause.fix:
        console.print(Text("what would close it: ", "green").append(cause.fix, "default"))
    if cause.breaks:
        console.print(Text(f"  {cause.breaks}", "dim"))


def show_family(console: Console, found: FamilyExplanation) -> None:
    """What gets through stands first; then the proof of the rest, and what it assumes."""
    counted = [one for one in found.ways if one.grade is Grade.EXACT]
    beside = [one for one in found.ways if one.grade is not Grade.EXACT]
    for way in sorted(counted, key=lambda one: one.verdict == "denied"):
        _show_way(console, way)
    if beside:
        console.print(Text("\nWhat is only equivalent to the effect does not count:", "dim"))
    for way in sorted(beside, key=lambda one: one.verdict == "denied"):
        _show_way(console, way)
    through = sum(one.verdict != "denied" for one in counted)
    end = "held for every known way" if found.held else "not held"
    console.print(Text(f"\n{found.family}: {end}", "bold"))
    if through:
        console.print(f"  {through} of {len(counted)} operations are let through or undecided")
    console.print(Text(f"  assumed: {'; '.join(found.assumes)}", "dim"))


def show_not_judged(console: Console, kinds: Sequence[str]) -> None:
    """What may stop more than was said."""
    said = f"not judged: other layers ({', '.join(kinds)}), which may stop what the filters do not"
    console.print(Text(said, "yellow"))


def _show_way(console: Console, way: Way) -> None:
    head = Text(f"{way.verdict:8}", _STYLES[way.verdict]).append(way.entry, "bold default")
    console.print(head.append(f"  {printable(way.detail)}", "not bold default"))
    if way.witness:
        console.print(Text(f"        {way.witness}", "dim"))
