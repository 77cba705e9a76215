"""What hardening came to, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from evaluator.attainable import Row
from evaluator.harden_records import Chosen, Conflict, Hardened, Refused, Works
from evaluator.terminal import printable

_SHOWN = 3
_ATTAINABLE = {
    True: ("attainable", "bold green"),
    False: ("not attainable by what was measured", "bold red"),
    None: ("not tested", "dim"),
}
_DIFF_STYLES = {"+": "green", "-": "red", "@": "dim"}


def show_hardened(console: Console, found: Hardened, *, output: str | None) -> None:
    """The verdict, the changes and why, the diff, what was measured, what stands in the way."""
    _show_head(console, found)
    if found.changes:
        console.print("\nChanges")
    for change in found.changes:
        _show_change(console, change)
    if found.diff:
        console.print()
    for line in found.diff.splitlines():  # as it stands: it may be copied
        style = _DIFF_STYLES.get(line[:1], "")
        console.print(Text(printable(line) if line else "", style), soft_wrap=True)
    _show_measured(console, found)
    _show_notes(console, found)
    for conflict in found.conflicts:
        _show_conflict(console, conflict)
    if output is not None:
        console.print(f"\nwritten to {output}", markup=False, soft_wrap=True)
    elif found.changes:
        console.print("\nProfile")
        console.print(Text(found.profile.rstrip("\n")), soft_wrap=True)


def _show_head(console: Console, found: Hardened) -> None:
    name = Text(printable(found.candidate), "bold")
    console.print(name.append(f": {_verdict(found)}", "bold green" if found.holds else "bold red"))
    _say(console, printable(found.source))
    where = f"{found.runtime_model}, " if found.runtime_model else ""
    runs = "round" if found.rounds == 1 else "rounds"
    _say(console, f"{where}posture {found.posture}, {found.rounds} {runs}, {found.seconds:.1f} s")
    if found.ended:
        _say(console, f"it ended early: {printable(found.ended)}")


def _show_notes(console: Console, found: Hardened) -> None:
    if found.notes:
        console.print()
    for note in found.notes:
        _say(console, printable(note))


def _verdict(found: Hardened) -> str:
    if not found.confirmed:
        return "not confirmed: the last choice was not run"
    if found.ended:
        return "not finished"
    if found.holds and not found.changes:
        return "holds as it is"
    if found.holds:
        count = len(found.changes)
        return f"holds after {count} {'change' if count == 1 else 'changes'}, confirmed by a run"
    open_ = [one for one in found.families if one.after not in ("held", "held here")]
    if open_:
        return f"could not be made to hold {len(open_)} of {len(found.families)} families"
    return "could not be made to work"


def _show_change(console: Console, change: Chosen) -> None:
    _say(console, printable(change.line))
    if change.repairs:
        _say(console, f"  lets {', '.join(change.repairs)} have {change.call}")
    if change.closes:
        _say(console, f"  closes {_some([one.rpartition('/')[2] for one in change.closes])}")
    if change.breaks:
        _say(console, f"  {change.breaks}")


def _show_measured(console: Console, found: Hardened) -> None:
    console.print("\nMeasured, before and after")
    for one in found.families:
        before = (
            f"{one.before} ({one.bypassed_before} through)" if one.bypassed_before else one.before
        )
        after = f"{one.after} ({one.bypassed} through)" if one.bypassed else one.after or "not run"
        _say(console, f"{one.family}: {before} -> {after}")
    for work in found.workloads:
        _say(console, f"{work.workload}: {_work(work)}")


def _work(work: Works) -> str:
    if not work.in_control:
        return f"does not work here at all: {printable(work.reason_before)}"
    before = "works" if work.before else f"broken ({printable(work.reason_before)})"
    after = "works" if work.after else f"broken ({printable(work.reason)})"
    if not work.chosen and not work.before:
        return f"{before}; --workload {work.workload} asks for a repair"
    return before if before == after else f"{before} -> {after}"


def _show_conflict(console: Console, conflict: Conflict) -> None:
    console.print()
    console.print(Text(f"Conflict: {conflict.family}", "bold red"))
    what = f"{conflict.variant.rpartition('/')[2]}: " if conflict.variant else ""
    _say(console, f"seccomp cannot hold it here. {printable(what + conflict.said)}")
    for refused in conflict.refused[:_SHOWN]:
        _say(console, f"not {printable(' and '.join(refused.lines))}")
        _say(console, f"  {printable(_why_not(refused))}")
    if len(conflict.refused) > _SHOWN:
        _say(console, f"and {len(conflict.refused) - _SHOWN} more")
    if conflict.layers:
        _say(console, "what could, by its documentation (not tested here):")
    for hint in conflict.layers:
        _say(console, f"  {hint.kind}: {hint.how}")


def _why_not(refused: Refused) -> str:
    if not refused.workload:
        return refused.said
    needs = ", ".join(refused.needs) or "no call that is known"
    return f"breaks {refused.workload}, which is denied {needs}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _say(console: Console, text: str) -> None:
    """A line below a heading; those that it is broken into begin where it does."""
    deeper = len(text) - len(text.lstrip())
    console.print(Padding(Text(text.lstrip()), (0, 0, 0, 2 + deeper), expand=False))


def show_attainable(console: Console, rows: Sequence[Row]) -> None:
    """A family after the other: what holds it, and what nobody could test."""
    for row in rows:
        console.print(Text(f"{row.family}: ", "bold").append(*_ATTAINABLE[row.attainable]))
        for kind, cell in row.cells.items():
            _say(console, f"{kind.value:<10} {cell.comes}: {printable(cell.why)}")
        for line in row.changes:
            _say(console, f"  {printable(line)}")
        console.print()
