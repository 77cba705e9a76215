"""What a search found, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from evaluator.search_records import SearchVerdict
from evaluator.terminal import printable

_STYLES = {
    SearchVerdict.FOUND: "bold red",
    SearchVerdict.HELD: "bold green",
    SearchVerdict.OPEN: "yellow",
    SearchVerdict.UNDECIDED: "bold yellow",
    SearchVerdict.UNTESTED: "dim",
}
_LONGEST = 16
"""Lines of a program; a longer one is to be read in its file."""
_SHOWN = 3
_ORDER = list(SearchVerdict)


def show_search(console: Console, document: Mapping[str, Any]) -> None:
    """A line for each family, and below it what was found there."""
    basis = document["basis"]
    name = printable(document["candidate"]["name"])
    console.print(Text(name, "bold"))
    where = f"suite {basis['suite']}, posture {basis['posture']}, seed {basis['seed']}"
    console.print(Text(f"  {where}, Linux {basis['kernel']}", "dim"))
    families = document["families"]
    if not families and not document["not_begun"]:
        console.print("\nIts filters stop nothing that a family begins with: name a FAMILY")
    for one in sorted(families, key=lambda one: _ORDER.index(SearchVerdict(one["verdict"]))):
        _show_family(console, one)
    if document["not_begun"]:
        console.print(f"\nnot begun: {', '.join(document['not_begun'])}", markup=False)
    finds = [find for one in families for find in one["finds"]]
    if finds and not finds[0]["file"]:
        console.print(Text("\n-o DIR keeps each find as a program that can be run again", "dim"))


def _show_family(console: Console, one: Mapping[str, Any]) -> None:
    verdict = SearchVerdict(one["verdict"])
    console.print()
    head = Text(f"{printable(one['family'])}: ", "bold").append(verdict.value, _STYLES[verdict])
    console.print(head)
    _say(console, one["evidence"])
    if verdict in (SearchVerdict.HELD, SearchVerdict.UNDECIDED):
        _say(console, f"it ended because {one['ended']}")
    if verdict is SearchVerdict.UNTESTED and not one["run"]:
        _say(console, f"nothing was run: {one['ended']}")
    elif verdict is SearchVerdict.UNTESTED:
        _say(console, f"the baseline is {one['baseline']} here, and so is all that was run")
    if one["untestable"]:
        noun = "route" if one["untestable"] == 1 else "routes"
        _say(console, f"more that looks open where the kernel has more: {one['untestable']} {noun}")
    for unsettled in one["unsettled"][:_SHOWN]:
        _say(console, f"proves nothing: {printable(unsettled)}")
    if len(one["unsettled"]) > _SHOWN:
        _say(console, f"and {len(one['unsettled']) - _SHOWN} more like that")
    for find in one["finds"]:
        _show_find(console, find)


def _say(console: Console, text: str) -> None:
    console.print(Padding(Text(text), (0, 0, 0, 2), expand=False))


def _show_find(console: Console, find: Mapping[str, Any]) -> None:
    console.print()
    console.print(Padding(Text(printable(find["id"]), "bold"), (0, 0, 0, 2), expand=False))
    known = f"the library has it as {find['known']}" if find["known"] else "not in the library"
    count = find["operations"]
    noun = "operation" if count == 1 else "operations"
    _say(console, f"  {find['technique']}, {count} {noun}; {printable(known)}")
    for step in find["steps"]:
        _say(console, f"  {step['move']}: {step['why']}")
    for line in find["text"][:_LONGEST]:
        console.print(Padding(Text(printable(line), "dim"), (0, 0, 0, 4), expand=False))
    if len(find["text"]) > _LONGEST:
        _say(console, f"  ... {len(find['text']) - _LONGEST} operations more")
    if find["file"] and not find["replay"]:
        _say(console, "  it names a path outside /work: attacks run does not take its file")
    if find["replay"]:  # on one line, to be copied
        console.print(Text(f"    {printable(find['replay'])}"), soft_wrap=True)
