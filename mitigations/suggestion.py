"""Words of the input in messages: quoted on one line, with the nearest word that is known."""

import re
from collections.abc import Iterable

_LONGEST_QUOTE = 60
_LONGEST_PLAIN = 4096  # a path
# What all names of a kind begin with, which would make any two of them near.
_FAMILY = re.compile(r"SCMP_[A-Z]+_|SECCOMP_FILTER_FLAG_")


def quote(word: str) -> str:
    return ascii(word if len(word) <= _LONGEST_QUOTE else f"{word[:_LONGEST_QUOTE]}...")


def plain(word: str) -> str:
    """The word as it is, if it is one line of printable characters and not too long."""
    return word if word.isprintable() and len(word) <= _LONGEST_PLAIN else quote(word)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A clause for the end of a message, empty if nothing is near."""
    near = nearest(word, known)
    return f" (did you mean '{near}'?)" if near else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """The word that is meant if this one is misspelt; empty if nothing is near."""
    if len(word) > _LONGEST_QUOTE:
        return ""
    # Only wrong input needs it, and it would slow down every start.
    from difflib import get_close_matches

    by_own_part = {_own_part(each): each for each in known}
    found = get_close_matches(_own_part(word), by_own_part, n=1, cutoff=0.55)
    return by_own_part[found[0]] if found else ""


def _own_part(word: str) -> str:
    return _FAMILY.sub("", word, count=1).casefold()
