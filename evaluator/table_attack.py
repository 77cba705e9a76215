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
    for find in one["finds"]:
        _show_find(console, find)


def _cost(usage: Mapping[str, Any]) -> str:
    tokens = f"{usage['input_tokens']:,} tokens in, {usage['output_tokens']:,} out"
    cost = usage["cost"]
    return f"{tokens}, {'cost not known' if cost is None else f'${cost:.2f}'}"


def _say(console: Console, text: str) -> None:
    console.print(Padding(Text(text), (0, 0, 0, 2), expand=False))


def _show_find(console: Console, find: Mapping[str, Any]) -> None:
    console.print()
    console.print(Padding(Text(printable(find["id"]), "bold"), (0, 0, 0, 2), expand=False))
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
    """Whom else the finds get past: a line for each candidate, a column for each find."""
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("under", overflow="fold")
    table.add_column("baseline")
    for find in finds:
        table.add_column(printable(find["id"].rpartition("/")[2]))
    for row in zip(*(find["replayed"] for find in finds), strict=True):
        cells = [Text(_cell(one), "bold red" if _counts(one) else "") for one in row]
        first = row[0]
        table.add_row(printable(first["candidate"]), first["baseline"] or "-", *cells)
    console.print(table)
    others = {one["source"] + one["candidate"] for find in finds for one in find["replayed"]}
    hit = {
        one["source"] + one["candidate"]
        for find in finds
        for one in find["replayed"]
        if _counts(one)
    }
    _say(console, f"{len(hit)} of {len(others)} stop the baseline and let some of these through")


def _counts(one: Mapping[str, Any]) -> bool:
    """What does not stop the baseline either is open, and not bypassed."""
    return bool(one["effect"]) and one["baseline"] == "BLOCKED"


def _cell(one: Mapping[str, Any]) -> str:
    if one["outcome"] == "BYPASSED" and not one["effect"]:
        return "something like it"
    return str(one["outcome"])
