"""Mistakes in TOML files: where in the text a key stands, and msgspec's messages in our words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

KeyPath = tuple[str | int, ...]
"""``("profile", 0, "match")``: keys, and places in arrays of tables."""

_NAME = r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_UNKNOWN = "contains unknown field `"


class Lines:
    """The line of each key and table of a TOML text that has been parsed without an error."""

    def __init__(self, text: str) -> None:
        self._lines: dict[KeyPath, int] = {}
        self._counts: dict[KeyPath, int] = {}
        table: KeyPath = ()
        quote = ""
        for number, line in enumerate(text.splitlines(), 1):
            if not quote:
                header, key = _HEADER.match(line), _KEY.match(line)
                if header:
                    table = self._table(_names(header[2]), is_array=header[1] == "[[")
                    self._lines.setdefault(table, number)
                elif key:
                    self._lines.setdefault((*table, *_names(key[1])), number)
            quote = _still_open(line, quote)

    def of(self, path: Sequence[str | int]) -> int:
        """The line of a key or table, or else of the nearest thing that holds it."""
        at = tuple(path)
        while at and at not in self._lines:
            at = at[:-1]
        return self._lines.get(at, 1)

    def _table(self, names: Sequence[str], *, is_array: bool) -> KeyPath:
        path: KeyPath = ()
        for place, name in enumerate(names, 1):
            path = (*path, name)
            if is_array and place == len(names):
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path = (*path, self._counts[path])
        return path


def _names(dotted: str) -> list[str]:
    return [one.strip("\"'") for one in re.findall(_NAME, dotted)]


def _still_open(line: str, quote: str) -> str:
    """The quotes of a string of several lines that is open behind this one."""
    at = 0
    while True:
        if quote:
            end = line.find(quote, at)
            if end < 0:
                return quote
            at, quote = end + len(quote), ""
        found = re.compile(r'"""|\'\'\'|#|"(?:[^"\\]|\\.)*"|\'[^\']*\'').search(line, at)
        if found is None or found[0] == "#":
            return ""
        at = found.end()
        quote = found[0] if found[0] in ('"""', "'''") else ""


def said(error: str, known: Sequence[str]) -> tuple[KeyPath, str]:
    """Where and what, of a message of msgspec; ``known`` are the keys that there are."""
    message, _, place = error.rpartition(" - at `$")
    if not message:
        message, place = error, ""
    steps = _STEP.findall(place.rstrip("`"))
    path: KeyPath = tuple(int(number) if number else name for name, number in steps)
    if _UNKNOWN in message:
        key = message.partition(_UNKNOWN)[2].partition("`")[0]
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return (*path, key), f"no key of that name{hint}"
    return path, message


def in_words(path: Sequence[str | int]) -> str:
    """``profile[0].accept[1].route``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")
