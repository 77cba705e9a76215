"""TOML from files that nobody vouches for: every defect is one ProfileError with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from mitigations.candidate import Finding, ProfileError
from mitigations.strict_json import join
from mitigations.suggestion import did_you_mean, quote

_AT_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def parse(content: bytes) -> dict[str, Any]:
    """The document; ``ProfileError`` for what is no TOML."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ProfileError(
            "not UTF-8, so it is no TOML", f"byte {error.start}", "not-utf8"
        ) from None
    if not text.strip():
        raise ProfileError("the file is empty", code="empty-file")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.search(str(error))
        message = _AT_LINE.sub("", str(error))
        where = f"line {found[1]}" if found and found[1] else "the end"
        raise ProfileError(f"not TOML: {message}", where, "not-toml") from None
    except RecursionError:
        raise ProfileError("nested too deeply", code="too-deep") from None
    except ValueError as error:  # a number of thousands of digits
        raise ProfileError(f"not TOML: {error}", code="not-toml") from None


@contextmanager
def lines_of(content: bytes) -> Generator[None]:
    """Errors raised inside say the line of the key that they are about, too."""
    try:
        yield
    except ProfileError as error:
        raise ProfileError(error.message, placed(content, error.where), error.code) from None


def with_lines(content: bytes, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings, each with the line of its key."""
    return tuple(
        Finding(one.code, one.message, placed(content, one.where), one.witness, one.confirmed_by)
        for one in findings
    )


def placed(content: bytes, where: str) -> str:
    """``line 12: path_beneath[1].parent[0]``; the place alone where its line is not found."""
    line = _line_of(content.decode(errors="replace"), where)
    return f"line {line}: {where}" if where and line else where


def _line_of(text: str, where: str) -> int:
    """The line on which a key or the header of a table stands; 0 if it is not found.

    The document was parsed before: this only looks for the words of a path, one by one.
    """
    lines = text.splitlines()
    at, found = 0, 0
    prefix = ""
    steps = _STEP.findall(where)
    for place, (key, index) in enumerate(steps):
        if index:
            continue
        after = steps[place + 1][1] if place + 1 < len(steps) else ""
        dotted = f"{prefix}.{key}" if prefix else key
        header = _nth(lines, at, _header(dotted), int(after or 0) if after else 0)
        line = header if header is not None else _nth(lines, at, _assigned(key), 0)
        if line is None:
            return found
        prefix, at, found = dotted, line + (header is not None), line + 1
    return found


def _header(dotted: str) -> re.Pattern[str]:
    name = r"\s*\.\s*".join(rf'["\']?{re.escape(part)}["\']?' for part in dotted.split("."))
    return re.compile(rf"\s*\[\[?\s*{name}\s*\]")


def _assigned(key: str) -> re.Pattern[str]:
    return re.compile(rf'(?:.*[{{,]\s*|\s*)["\']?{re.escape(key)}["\']?\s*[=.]')


def _nth(lines: list[str], start: int, pattern: re.Pattern[str], number: int) -> int | None:
    found = [place for place in range(start, len(lines)) if pattern.match(lines[place])]
    return found[number] if number < len(found) else None


def refuse_unknown(table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    """``ProfileError`` for a key that is none of these."""
    for key in table:
        if key not in known:
            raise ProfileError(
                f"unknown key {quote(key)}{did_you_mean(key, known)}",
                join(where, key),
                "unknown-key",
            )
