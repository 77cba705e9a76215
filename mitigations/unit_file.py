"""The syntax of systemd's unit files (systemd.syntax(7)): sections, continued lines, comments.

What systemd warns of and leaves out is left out here as well, and said.  What each setting means
is not decided here.
"""

import re
from collections.abc import Callable, Iterator

from msgspec import Struct

from mitigations.candidate import Finding, ProfileError
from mitigations.suggestion import quote

BLANKS = " \t\n\r"
_LINE_END = re.compile(r"\r\n|\n\r|\n|\r")
_BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
_COMMENTS = ("#", ";")
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")
_NO_NAME = re.compile(r"""['"\\]""")
_QUOTES = ("'", '"')


class Assignment(Struct, frozen=True):
    """One ``Key=value``; ``where`` is the file and the number of the line that it begins on."""

    section: str
    key: str
    value: str
    where: str


class UnitText(Struct, frozen=True):
    """What one file says, in its order."""

    assignments: tuple[Assignment, ...]
    sections: tuple[tuple[str, str], ...]
    """The headers, each with where it stands."""
    findings: tuple[Finding, ...]


def _nothing_fatal(_: Assignment) -> str:
    return ""


def parse(
    content: bytes,
    source: str,
    *,
    is_drop_in: bool = False,
    fatal: Callable[[Assignment], str] = _nothing_fatal,
) -> UnitText:
    """The assignments of a unit file or drop-in.

    Of a unit with a mistake at which systemd stops reading, nothing is started: ProfileError.  Of
    such a drop-in the lines before the mistake are in force, and no other.  ``fatal`` says what
    mistake of this kind an assignment is; nothing for most.
    """
    assignments: list[Assignment] = []
    sections: list[tuple[str, str]] = []
    findings: list[Finding] = []
    section: str | None = None
    for number, line in _logical_lines(_text(content, source)):
        where = f"{source}:{number}"
        if mistake := _mistake(line):
            findings.append(_end(mistake, where, is_drop_in=is_drop_in))
            break
        if line.startswith("["):
            section = line[1:-1]
            sections.append((section, where))
            continue
        key, equals, value = line.partition("=")
        key = key.strip(BLANKS)
        problem = (
            "no = in this line"
            if not equals
            else "no name before ="
            if not key
            else "this stands before the first section"
            if section is None
            else ""
        )
        if problem or section is None:
            message = f"{problem}: systemd ignores it: {quote(line)}"
            findings.append(Finding("ignored-line", message, where))
            continue
        assignment = Assignment(section, key, value.strip(BLANKS), where)
        if mistake := fatal(assignment):
            findings.append(_end(mistake, where, is_drop_in=is_drop_in))
            break
        assignments.append(assignment)
    return UnitText(tuple(assignments), tuple(sections), tuple(findings))


def _text(content: bytes, source: str) -> str:
    """What is not UTF-8 is kept as surrogates: in a comment systemd does not look at it."""
    text = content.decode(errors="surrogateescape")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ProfileError("a NUL byte: no unit file", f"{source}:{line}", "nul-byte")
    return text.removeprefix(_BYTE_ORDER_MARK)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line with those that continue it, without blanks around it; comments are no line.

    A comment between a line and its continuation is left out; an empty line ends it.
    """
    begun, gathered = 0, ""
    for number, line in enumerate(_LINE_END.split(text), 1):
        if line.lstrip(BLANKS).startswith(_COMMENTS):
            continue
        begun = begun or number
        gathered += line
        if _is_continued(gathered):
            gathered = f"{gathered[:-1]} "
            continue
        if stripped := gathered.strip(BLANKS):
            yield begun, stripped
        begun, gathered = 0, ""
    if stripped := gathered.strip(BLANKS):
        yield begun, stripped


def _is_continued(line: str) -> bool:
    """Two backslashes at its end are one that was escaped."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _mistake(line: str) -> str:
    """Why systemd reads no further than before this line; empty if it does."""
    if _NOT_UTF_8.search(line):
        return "not UTF-8"
    if not line.startswith("["):
        return ""
    name = line[1:-1]
    is_header = line.endswith("]") and name.isprintable() and not _NO_NAME.search(name)
    return "" if is_header else f"invalid section header {quote(line)}"


def _end(mistake: str, where: str, *, is_drop_in: bool) -> Finding:
    if not is_drop_in:
        message = f"{mistake}: systemd does not start the unit"
        raise ProfileError(message, where, "unit-not-loaded")
    message = f"{mistake}: systemd leaves out the rest of this drop-in, from here on"
    return Finding("rest-ignored", message, where)


def words(value: str, *, unquote: bool) -> tuple[tuple[str, ...], bool]:
    """The words of a value, and whether all of it could be read.

    A backslash takes the next character as it is.  Only with ``unquote`` are quotes more than
    characters.  Where a quote is not closed, or a backslash is the last character, systemd keeps
    the words before and ignores the rest.
    """
    found: list[str] = []
    at = 0
    while True:
        while at < len(value) and value[at] in BLANKS:
            at += 1
        if at == len(value):
            return tuple(found), True
        word, at = _word(value, at, unquote=unquote)
        if word is None:
            return tuple(found), False
        found.append(word)


def _word(value: str, at: int, *, unquote: bool) -> tuple[str | None, int]:
    """The word that begins there (None if it does not end), and where it ends."""
    word, opened = "", ""
    while at < len(value):
        one = value[at]
        if one == "\\":
            at += 1
            if at == len(value):
                return None, at
            word += value[at]
        elif opened:
            if one == opened:
                opened = ""
            else:
                word += one
        elif unquote and one in _QUOTES:
            opened = one
        elif one in BLANKS:
            break
        else:
            word += one
        at += 1
    return (None, at) if opened else (word, at)
