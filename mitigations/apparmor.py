"""AppArmor profiles, read as far as to attach them: their names, and whether they are whole.

What the rules mean is for apparmor_parser(8) to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mitigations.candidate import AppArmorLayer, ProfileError

_COMMENT = re.compile(r"#(?!include\b).*")
# The brace that begins a profile stands alone or ends its line; those of a path do neither.
_BODY = re.compile(r"[\s)]\{[\s}]|\{\s*$")
_HEAD = re.compile(r'\s*(?:profile\s+)?("[^"]+"|[^\s{(]+)')


def read(content: bytes) -> AppArmorLayer:
    """The first profile of a file, with all of its text; ``ProfileError`` for no profile."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ProfileError("not UTF-8", f"byte {error.start}", "not-utf8") from None
    names = list(_profiles(_COMMENT.sub("", text)))
    if not names:
        raise ProfileError("no AppArmor profile in it: `profile NAME {` is missing", code="empty")
    return AppArmorLayer(names[0], text)


def _profiles(text: str) -> Iterator[str]:
    """The names of the outermost profiles.

    ``@{HOME}`` and ``{a,b}`` are closed on their line, and profiles in the end.
    """
    opened: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not opened and _BODY.search(line) and (found := _HEAD.match(line)):
            yield found[1].strip('"')
        for letter in line:
            if letter == "{":
                opened.append(number)
            elif letter == "}" and not opened:
                raise ProfileError("a } that closes nothing", f"line {number}", "bad-braces")
            elif letter == "}":
                opened.pop()
    if opened:
        raise ProfileError("a { that nothing closes", f"line {opened[-1]}", "bad-braces")
