"""What a model found, and what it did not answer, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evaluator.attack_records import AttackVerdict
from evaluator.terminal import printable

_STYLES = {
    AttackVerdict.FOUND: "bold red",
    AttackVerdict.HELD: "bold green",
    AttackVerdict.CENSORED: "bold yellow",
    AttackVerdict.OPEN: "yellow",
    AttackVerdict.UNDECIDED: "bold yellow",
    AttackVerdict.UNTESTED: "dim",
}
_LONGEST = 16
_SHOWN = 3


def show_attack(console: Console, document: Mapping[str, Any]) -> None:
    """A paragraph for each family, and below it what was found there."""
    basis, model = document["basis"], document["model"]
    console.print(Text(printable(document["candidate"]["name"]), "bold"))
    where = f"suite {basis['suite']}, posture {basis['posture']}, Linux {basis['kernel']}"
    console.print(Text(f"  {where}", "dim"))
    box = "black box" if model["black_box"] else "white box"
    asked = f"{printable(model['name'])}, {box}, prompt {model['prompt']}"
    console.print(Text(f"  {asked}", "dim"))
    for one in document["families"]:
        _show_family(console, one)
    for one in document["families"]:
        if one["finds"] and one["finds"][0]["replayed"]:
            _show_replayed(console, one["finds"])
    finds = [find for one in document["families"] for find in one["finds"]]
    if finds and not finds[0]["file"]:
        console.print(Text("\n-o DIR keeps each find as a program that can be run again", "dim"))


def _show_family(console: Console, one: Mapping[str, Any]) -> None:
    verdict = AttackVerdict(one["verdict"])
    console.print()
    console.print(
        Text(f"{printable(one['family'])}: ", "bold").append(verdict.value, _STYLES[verdict])
    )
    _say(console, one["evidence"])
    if one["censored"]:
        _say(console, one["censored"])
    if verdict is not AttackVerdict.OPEN:
        _say(console, f"it ended: {printable(one['ended'])}; {_cost(one['usage'])}")
    for unsettled in one["unsettled"][:_SHOWN]:
        _say(console, f"proves nothing: {printable(unsettled)}")
    if len(one["unsettled"]) > _SHOWN:
        _say(console, f"and {len(one['unsettled']) - _SHOWN} more like that")
    for number, find in enumerate(one["finds"], 1):
        _show_find(console, number, find)


def _cost(usage: Mapping[str, Any]) -> str:
    tokens = f"{usage['input_tokens']:,} tokens in, {usage['output_tokens']:,} out"
    cost = usage["cost"]
    return f"{tokens}, {'cost not known' if cost is None else f'${cost:.2f}'}"


def _say(console: Console, text: str) -> None:
    console.print(Padding(Text(text), (0, 0, 0, 2), expand=False))


def _show_find(console: Console, number: int, find: Mapping[str, Any]) -> None:
    console.print()
    head = Text(f"{number}. {printable(find['id'])}", "bold")
    console.print(Padding(head, (0, 0, 0, 2), expand=False))
    known = f"the library has it as {find['known']}" if find["known"] else "not in the library"
    count = find["operations"]
    noun = "operation" if count == 1 else "operations"
    _say(console, f"  {count} {noun}, {find['confirmed']} of {find['confirmed']} runs; {known}")
    for line in find["text"][:_LONGEST]:
        console.print(Padding(Text(printable(line), "dim"), (0, 0, 0, 4), expand=False))
    if len(find["text"]) > _LONGEST:
        _say(console, f"  ... {len(find['text']) - _LONGEST} operations more")
    if find["replay"]:  # on one line, to be copied
        console.print(Text(f"    {printable(find['replay'])}"), soft_wrap=True)


def _show_replayed(console: Console, finds: Sequence[Mapping[str, Any]]) -> None:
    """Whom else the finds get past: a line for each candidate, with the numbers of the finds."""
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in ("under", "baseline", "lets through", "stops", "else"):
        table.add_column(name, overflow="fold")
    hit = 0
    rows = list(zip(*(find["replayed"] for find in finds), strict=True))
    for row in rows:
        through, stopped, other = _by_outcome(row)
        # What does not stop the baseline either is open, and not bypassed.
        counts = bool(through) and row[0]["baseline"] == "BLOCKED"
        hit += counts
        table.add_row(
            printable(row[0]["candidate"]),
            row[0]["baseline"] or "-",
            Text(_numbers(through), "bold red" if counts else ""),
            _numbers(stopped),
            _numbers(other, list(map(_word, row))),
        )
    console.print(table)
    _say(console, f"{hit} of {len(rows)} stop the baseline and let some of these through")


def _by_outcome(row: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int], list[int]]:
    """The numbers of the finds that got through, that were stopped, and the others."""
    through = [n for n, one in enumerate(row, 1) if one["effect"]]
    stopped = [n for n, one in enumerate(row, 1) if one["outcome"] == "BLOCKED"]
    other = [n for n in range(1, len(row) + 1) if n not in (*through, *stopped)]
    return through, stopped, other


def _word(one: Mapping[str, Any]) -> str:
    """What else came of a find: what got through without the effect itself had one like it."""
    return "equivalent" if one["outcome"] == "BYPASSED" else str(one["outcome"])


def _numbers(finds: Sequence[int], outcomes: Sequence[str] = ()) -> str:
    return ", ".join(f"{n} {outcomes[n - 1]}" if outcomes else str(n) for n in finds) or "-"
