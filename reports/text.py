"""Makes strings from profiles, programs and models safe to show: hostile input stays text."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import msgspec

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)

_HALF = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """Show what would hide or reorder text: control characters, direction marks, half surrogates.

    Line feed and tab stay as they are.  What remains is legal in XML 1.0.
    """
    return _HIDDEN.sub(_name, text)


def encodable(text: str) -> str:
    """Text with half surrogates shown as in ``visible``, so that UTF-8 can hold it."""
    return _HALF.sub(_name, text)


def one_line(text: str) -> str:
    """Visible text in which line feeds and tabs are shown as well."""
    return visible(text).replace("\n", "\u240a").replace("\t", "\u2409")


def code_span(text: str) -> str:
    """Text as Markdown that nothing in it can leave, in a paragraph, a list or a table.

    A vertical bar would end a table's cell, and dialects differ in how one is escaped there.
    """
    shown = one_line(text).replace("|", "\u2039U+007C\u203a")
    if not shown.strip():
        return ""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if "`" in (shown[0], shown[-1]) else f"{fence}{shown}{fence}"


def _name(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u2039U+{code:04X}\u203a"


def abbreviate(text: str, limit: int = 60) -> str:
    """The text, or its two ends if it is longer than ``limit``."""
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[:half]}\u2026{text[-half:]}"


def plain(value: object) -> str:
    """A value of unknown kind in words."""
    match value:
        case None:
            return "unknown"
        case True:
            return "yes"
        case False:
            return "no"
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)


def counted(number: int, singular: str, plural: str = "") -> str:
    """``1 way``, ``2 ways``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def ascii_json(value: object) -> bytes:
    """JSON in ASCII, so that nothing in it can hide or reorder what is shown."""
    with suppress(UnicodeEncodeError):  # half of a surrogate pair
        text = msgspec.json.encode(value)
        if text.isascii():
            return text
    return json.dumps(value, ensure_ascii=True).encode()


def script_json(value: object) -> str:
    """JSON that cannot leave a script element: ASCII only, without markup characters."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
