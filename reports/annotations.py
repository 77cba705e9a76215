"""A check as workflow commands: GitHub shows them at the line they name."""

from reports.check_schema import CheckDocument, Item
from reports.check_text import (
    LONG,
    expectation,
    item_lines,
    needs_attention,
    place,
    said,
    tally,
)
from reports.text import abbreviate, one_line, visible

_PER_ITEM = 3
"""So many ways through are told in an annotation; the other formats have all."""


def annotations(document: CheckDocument) -> str:
    """One command a line for what needs attention, worst first, and a closing line of our own.

    GitHub shows the first ten errors and the first ten warnings of a step.
    """
    lines = [_command(document, item) for item in needs_attention(document)]
    return "\n".join([*lines, f"sidestep: {tally(document)}"]) + "\n"


def _command(document: CheckDocument, item: Item) -> str:
    ways = [way for way in item.ways if way.waived is None]
    where = place(document, item, ways[0] if ways else None)
    title = f"{item.profile}: {expectation(item)} {item.says}"
    properties = {
        "file": where.file,
        "line": "" if where.line is None else str(where.line),
        "col": "" if where.line is None or where.column is None else str(where.column),
        "title": abbreviate(f"predicted: {title}" if document.simulated else title, LONG),
    }
    named = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
    text = [said(item), *item_lines(item, ways[:_PER_ITEM])]
    if len(ways) > _PER_ITEM:
        text += ["", f"and {len(ways) - _PER_ITEM} more"]
    return f"::{'warning' if item.status == 'warn' else 'error'} {named}::{_data(text)}"


def _data(lines: list[str]) -> str:
    return visible("\n".join(lines)).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    escaped = one_line(text).replace("%", "%25")
    return escaped.replace(":", "%3A").replace(",", "%2C")
