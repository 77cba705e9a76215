"""Scores of models on a terminal: the interval first."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from evaluator.intervals import Rate
from evaluator.leaderboard import Comparison, Leaderboard, Row
from evaluator.score_run import Scored
from evaluator.table import plain_table
from evaluator.terminal import printable
from mitigations.generate.reply import Status

_METRICS = {
    "joint, 95 %": "joint",
    "PoC": "poc_blocked",
    "held": "held",
    "works": "workloads_ok",
    "false fix": "false_fix",
}
_MOST = 4
"""Techniques that are named for a row."""


def show(console: Console, board: Leaderboard, scored: Sequence[Scored]) -> None:
    names = {one.scenario for one in scored}
    count = f"{len(names)} scenario{'s' * (len(names) != 1)}"
    console.print(Text(f"{count}; joint: held, hidden ways included, and nothing broken"))
    for line in _suites(board):
        console.print(Text(line))
    table = plain_table(console)
    for head in ("answers of", *_METRICS):
        table.add_column(head, overflow="fold")
    for row in board.rows:
        first, *rest = (row.asked[metric] for metric in _METRICS.values())
        table.add_row(Text(_name(row)), _rate(first), *map(_share, rest))
    console.print(table)
    console.print(Text("all rates over all that was asked: no answer counts as 0", "dim"))
    _show_gaps(console, board.rows)
    _show_techniques(console, board.rows)
    for row in board.rows:
        _show_missing(console, row)
        _show_repeats(console, row)
    for one in board.comparisons:
        console.print(Text(_compared(one)))


def _suites(board: Leaderboard) -> list[str]:
    private = f"; private suite {board.private_suite}" if board.private_suite else ""
    hidden = any(row.asked["hidden_held"].scenarios for row in board.rows)
    nothing = [] if hidden else ["no way is hidden: nothing here says how an answer generalises"]
    return [f"suite {board.suite}{private}", *nothing]


def _show_gaps(console: Console, rows: Sequence[Row]) -> None:
    """What is held of what anybody may know, and of what nobody was told."""
    if not any(row.gap.scenarios for row in rows):
        return
    table = plain_table(console)
    for head in ("held, of ways that are", "visible", "hidden", "gap, 95 %"):
        table.add_column(head, overflow="fold")
    for row in rows:
        visible, hidden = row.asked["visible_held"], row.asked["hidden_held"]
        table.add_row(Text(_name(row)), _share(visible), _share(hidden), _rate(row.gap, "+"))
    console.print(table)


def _show_techniques(console: Console, rows: Sequence[Row]) -> None:
    table = plain_table(console)
    table.add_column("answers of", overflow="fold")
    table.add_column("bypassed by: answers that it got through, of those it was tried on")
    for row in rows:
        through = [one for one in row.techniques if one.bypassed]
        named = [f"{one.technique} {one.bypassed} of {one.answers}" for one in through[:_MOST]]
        more = [f"{len(through) - _MOST} more"] if len(through) > _MOST else []
        if named:
            table.add_row(Text(_name(row)), Text(", ".join([*named, *more])))
    if table.row_count:
        console.print(table)


def _name(row: Row) -> str:
    return printable(" / ".join(filter(None, (row.model, row.strategy, row.level))))


def _rate(rate: Rate, sign: str = "") -> str:
    if rate.mean is None:
        return "-"
    if rate.low is None or rate.high is None:
        return f"{rate.mean:{sign}.2f} (no interval)"
    return f"{rate.low:{sign}.2f} to {rate.high:{sign}.2f} ({rate.mean:{sign}.2f})"


def _share(rate: Rate) -> str:
    return "-" if rate.mean is None else f"{rate.mean:.2f}"


def _show_missing(console: Console, row: Row) -> None:
    missing = {s: n for s, n in row.statuses.items() if n and s is not Status.OK}
    if missing:
        said = ", ".join(f"{count} {status}" for status, count in missing.items())
        answered = _rate(row.rates["joint"])
        console.print(
            Text(f"{_name(row)}: {said} of {row.samples}; joint of what was answered: {answered}")
        )


def _show_repeats(console: Console, row: Row) -> None:
    """What several answers to one request come to, and what a solution costs."""
    said = [
        f"pass@{k} {row.pass_at[k]:.2f}, pass^{k} {row.pass_all[k]:.2f}"
        for k in row.pass_at
        if k > 1 and k in row.pass_all
    ]
    if row.cost_per_solved is not None:
        said.append(f"US$ {row.cost_per_solved:.4f} for each scenario solved")
    if said:
        console.print(Text(f"{_name(row)}: {'; '.join(said)}"))


def _compared(one: Comparison) -> str:
    difference = one.difference
    if difference.low is None or difference.high is None or one.adjusted is None:
        return printable(f"{one.first} and {one.second}: too few scenarios to compare")
    said = (
        f"{one.first} - {one.second}: {difference.low:+.2f} to {difference.high:+.2f} "
        f"({difference.mean:+.2f}), p = {one.adjusted:.3f} (Holm), {one.scenarios} scenarios"
    )
    least = (
        "; what difference would have shown is not known, as no two scenarios differ"
        if one.detectable is None
        else f"; a difference of {one.detectable:.2f} would have shown"
    )
    ends = f": {one.winner} is better" if one.winner else ": no winner"
    return printable(said + least + ends)
