"""AppArmor profiles, read as far as to attach them: their names, and whether they are whole.

What the rules mean is for apparmor_parser(8) to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mitigations.candidate import AppArmorLayer, Finding, ProfileError

_COMMENT = re.compile(r"#(?!include\b).*")
# The brace that begins a profile stands alone or ends its line; those of a path do neither.
_BODY = re.compile(r"[\s)]\{[\s}]|\{\s*$")
_HEAD = re.compile(r'\s*(?:profile\s+)?("[^"]+"|(?:[^\s{(]|\{[^\s{}]*\})+)')
_ATTACHED = re.compile(r'(\s*profile\s+(?:"[^"]+"|\S+))\s+(?:"[/@][^"]*"|[/@]\S*)(?=\s)')


def read(content: bytes) -> tuple[AppArmorLayer, list[Finding]]:
    """The first profile of a file, with all of its text; ``ProfileError`` for no profile."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ProfileError("not UTF-8", f"byte {error.start}", "not-utf8") from None
    profiles = list(_profiles(text))
    if not profiles:
        raise ProfileError("no AppArmor profile in it: `profile NAME {` is missing", code="empty")
    (_, name), *others = profiles
    said = f"it is the profile {name} that is put on, and none of the others of its file"
    findings = [Finding("another-profile", said, f"line {number}") for number, _ in others]
    return AppArmorLayer(name, text), findings[:1]


def unattached(text: str) -> str:
    """The same without the paths of programs that the first profile attaches to by itself.

    ``profile NAME PATH {`` becomes ``profile NAME {``.  A name that is a path stays.
    """
    lines = text.splitlines(keepends=True)
    number, _ = next(_profiles(text))
    lines[number - 1] = _ATTACHED.sub(r"\1", lines[number - 1], count=1)
    return "".join(lines)


def _profiles(text: str) -> Iterator[tuple[int, str]]:
    """The outermost profiles: the numbers of their lines, and their names.

    ``@{HOME}`` and ``{a,b}`` are closed on their line, and profiles in the end.
    """
    opened: list[int] = []
    for number, line in enumerate(_COMMENT.sub("", text).splitlines(), 1):
        if not opened and _BODY.search(line) and (found := _HEAD.match(line)):
            yield number, found[1].strip('"')
        for letter in line:
            if letter == "{":
                opened.append(number)
            elif letter == "}" and not opened:
                raise ProfileError("a } that closes nothing", f"line {number}", "bad-braces")
            elif letter == "}":
                opened.pop()
    if opened:
        raise ProfileError("a { that nothing closes", f"line {opened[-1]}", "bad-braces")
