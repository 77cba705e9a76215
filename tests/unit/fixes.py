"""Does to a profile's document what a printed fix says, as a person would."""

import copy
import json
import re
from typing import Any

_LINES = (
    ("add", re.compile(r"add (?P<value>.+) to (?P<path>\S+)")),
    ("take all", re.compile(r"remove every (?P<value>\".+\") from (?P<path>\S+)")),
    ("take", re.compile(r"remove (?P<value>\".+\") from (?P<path>\S+)")),
    ("remove", re.compile(r"remove (?P<path>\S+)")),
    ("set", re.compile(r"set (?P<path>\S+) to (?P<value>.+)")),
)


def applied(document: dict[str, Any], line: str) -> dict[str, Any]:
    """The document after the change; the line must be one of those that are printed."""
    changed = copy.deepcopy(document)
    for kind, pattern in _LINES:
        match = pattern.fullmatch(line)
        if match is None:
            continue
        *way, last = _steps(match["path"])
        holder: Any = changed
        for step in way:
            holder = holder[step]
        value = json.loads(match["value"]) if "value" in match.groupdict() else None
        if kind == "add":
            holder[last].append(value)
        elif kind == "take all":
            holder[last] = [one for one in holder[last] if one != value]
        elif kind == "take":
            holder[last].remove(value)
        elif kind == "remove":
            del holder[last]
        else:
            holder[last] = value
        return changed
    raise AssertionError(f"nobody can paste: {line}")


def _steps(path: str) -> list[str | int]:
    words = re.findall(r"[^.\[\]]+", path)
    return [int(word) if word.isdigit() else word for word in words]
