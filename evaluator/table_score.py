"""Scores of models on a terminal: the interval first."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from evaluator.leaderboard import Comparison, Leaderboard, Rate, Row
from evaluator.score_run import Scored
from evaluator.table import plain_table
from evaluator.terminal import printable
from mitigations.generate.reply import Status


def show(console: Console, board: Leaderboard, scored: Sequence[Scored]) -> None:
    names = {one.scenario for one in scored}
    console.print(
        Text(f"{len(names)} scenarios; joint: held, hidden ways included, and nothing broken")
    )
    table = plain_table(console)
    for head in ("answers of", "joint, 95 %", "PoC", "held", "works", "false fix"):
        table.add_column(head, overflow="fold")
    for row in board.rows:
        rest = (_share(row.asked[name]) for name in ("poc_blocked", "held", "workloads_ok"))
        table.add_row(
            Text(_name(row)), _rate(row.asked["joint"]), *rest, _share(row.asked["false_fix"])
        )
    console.print(table)
    console.print(Text("all rates over all that was asked: no answer counts as 0", "dim"))
    for row in board.rows:
        _show_missing(console, row)
    for one in board.comparisons:
        console.print(Text(_compared(one)))


def _name(row: Row) -> str:
    return printable(" / ".join(filter(None, (row.model, row.strategy, row.level))))


def _rate(rate: Rate) -> str:
    if rate.mean is None:
        return "-"
    if rate.low is None or rate.high is None:
        return f"{rate.mean:.2f} (one cluster: no interval)"
    return f"{rate.low:.2f} to {rate.high:.2f} ({rate.mean:.2f})"


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


def _compared(one: Comparison) -> str:
    difference = one.difference
    if difference.low is None or difference.high is None or one.p is None:
        return printable(f"{one.first} and {one.second}: too few scenarios to compare")
    said = (
        f"{one.first} - {one.second}: {difference.low:+.2f} to {difference.high:+.2f} "
        f"({difference.mean:+.2f}), p = {one.p:.3f}, {one.scenarios} scenarios"
    )
    least = f"; a difference of {one.detectable:.2f} would have shown" if one.detectable else ""
    ends = f": {one.winner} is better" if one.winner else ": no winner"
    return printable(said + least + ends)
