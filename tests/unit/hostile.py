"""Text that somebody may put into a profile, a name or a program to get at its readers."""

from typing import Any

HOSTILE = (
    "<script>window.ran=1;alert(1)</script>\"'><img src=x onerror=alert(2)>"
    "\u202egnp\u2066\x00\x07\x1b[31m\x1b]0;t\x07\u0085\ufeff{{7*7}}]]>\ud800"
)
FIXED = frozenset({"schema", "outcome", "verdict", "scope", "family", "variant", "started"})
"""Keys whose values our own code reads."""


def poison(value: Any, text: str = HOSTILE) -> Any:
    """Every text that may come from outside, with hostile text in front of it."""
    if isinstance(value, dict):
        return {key: one if key in FIXED else poison(one, text) for key, one in value.items()}
    if isinstance(value, list):
        return [poison(one, text) for one in value]
    return f"{text}{value}" if isinstance(value, str) else value
