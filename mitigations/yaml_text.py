"""YAML from files that nobody vouches for: documents with the line of every value.

PyYAML makes events of the text; what they build, and how much of it, is decided here.  Plain words
mean what they mean to Kubernetes' own parser (YAML 1.1: ``yes`` is true, ``0644`` is octal).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from mitigations.candidate import ProfileError
from mitigations.strict_json import JsonObject, join
from mitigations.suggestion import quote

if TYPE_CHECKING:
    from yaml.events import AliasEvent, CollectionStartEvent, Event, ScalarEvent

LIMIT_BYTES = 8 << 20
MOST_DOCUMENTS = 10_000
_DEEPEST = 100
_MOST_VALUES = 200_000
"""In one document, with every alias counted as what it stands for."""

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_WORDLESS = re.compile(r"(?:\s|#[^\n]*(?:\n|$)|%[^\n]*(?:\n|$)|\.\.\.(?=\s|$)|---(?=\s|$))*")
_TEMPLATE = re.compile(r"\{\{")
_TAB_INDENT = re.compile(r"^ *\t")
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"])
_FALSE = frozenset(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"])
_INTEGER = re.compile(
    r"([-+]?)(?:0b([01_]+)|0x([0-9a-fA-F_]+)|0o?([0-7_]+)|(0|[1-9][0-9_]*))", re.ASCII
)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_LONGEST_NUMBER = 64
_BASES = (2, 16, 8, 10)
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = ("!", f"{_TAG}str", f"{_TAG}binary", f"{_TAG}timestamp")
_WORD_TAGS = tuple(_TAG + kind for kind in ("null", "bool", "int", "float"))
_COLLECTION_TAGS = (None, "!", f"{_TAG}map", f"{_TAG}seq")


class YamlObject(JsonObject):
    """A mapping that knows where it and each of its values begins: lines, counted from 1."""

    line: int = 1
    lines: dict[str, int]


class YamlList(list[Any]):
    line: int = 1
    lines: list[int]


class Document(Struct, frozen=True):
    """One document of a stream.

    ``value`` is of YamlObject, YamlList, str, int, float, bool and None.  ``error`` is set instead
    where it is not YAML; the documents behind it are read all the same.
    """

    line: int
    """Where its value begins."""
    text: str
    first: int
    """The line that ``text`` begins with."""
    value: Any = None
    error: ProfileError | None = None

    @property
    def is_template(self) -> bool:
        """Whether somebody still has to fill it in: ``{{ ... }}``."""
        return _TEMPLATE.search(self.text) is not None

    def fills(self, line: int) -> bool:
        """Whether there is such a place in a line."""
        rows = self.text.split("\n")
        index = line - self.first
        return 0 <= index < len(rows) and _TEMPLATE.search(rows[index]) is not None


class _Built(Struct):
    """A value, where it begins and how many values it is with all that is in it."""

    value: Any
    line: int
    size: int = 1


def read(content: bytes, source: str) -> Iterator[Document]:
    """The documents of a stream that hold something; ``source`` is the file's name in errors.

    ProfileError where it cannot be taken for text at all, or has too many documents.
    """
    text = _decode(content, source)
    count = 0
    for line, part in _split(text):
        if _WORDLESS.fullmatch(part):
            continue
        count += 1
        if count > MOST_DOCUMENTS:
            where = place(source, line)
            raise ProfileError(f"more than {MOST_DOCUMENTS:,} documents", where, "too-many")
        yield from _documents(part, line, source)


def place(source: str, line: int) -> str:
    return f"{source}:{line}"


def lines_of(value: object, where: str = "") -> dict[str, int]:
    """The line of every value below this one, by its JSON path as ``strict_json`` writes it."""
    found: dict[str, int] = {}
    pending: list[tuple[object, str]] = [(value, where)]
    while pending:
        one, at = pending.pop()
        children: list[tuple[object, str, int]] = []
        if isinstance(one, YamlObject):
            children = [(child, join(at, key), one.lines[key]) for key, child in one.items()]
        elif isinstance(one, YamlList):
            pairs = enumerate(zip(one, one.lines, strict=True))
            children = [(child, f"{at}[{index}]", line) for index, (child, line) in pairs]
        for child, path, line in children:
            found[path] = line
            pending.append((child, path))
    return found


def _decode(content: bytes, source: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        what = f"not UTF-8 (byte {error.object[error.start]:#04x})"
        raise ProfileError(what, place(source, line), "not-utf8") from None
    text = text.replace("\r\n", "\n")
    # JSON may be indented with tabs, which YAML does not take; a tab is nothing else there.
    return text.replace("\t", " ") if text.lstrip()[:1] in ("{", "[") else text


def _split(text: str) -> Iterator[tuple[int, str]]:
    """The parts between lines that begin with ``---``, as kubectl takes a stream apart."""
    begin, line = 0, 1
    for match in _SEPARATOR.finditer(text):
        part = text[begin : match.start()]
        if _WORDLESS.fullmatch(part) and "%" in part:
            continue  # directives belong to the document that follows
        yield line, part
        line += part.count("\n")
        begin = match.start()
    yield line, text[begin:]


def _documents(text: str, line: int, source: str) -> Iterator[Document]:
    import yaml  # a tenth of a second that only manifests need

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    events = yaml.parse(text, Loader=loader)
    builder = _Builder(source, line)
    try:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                built = builder.build(events, next(events), 0)
                if built.value is not None:
                    yield Document(built.line, text, line, built.value)
    except ProfileError as error:
        yield Document(line, text, line, error=_template_error(text, source, line) or error)
    except yaml.YAMLError as error:
        why = _template_error(text, source, line) or _syntax_error(error, text, source, line)
        yield Document(line, text, line, error=why)


def _template_error(text: str, source: str, first: int) -> ProfileError | None:
    match = _TEMPLATE.search(text)
    if match is None:
        return None
    line = first + text.count("\n", 0, match.start())
    return template_error(place(source, line))


def template_error(where: str) -> ProfileError:
    return ProfileError(
        "a template ({{ ... }}), not a manifest: render it first (helm template)",
        where,
        "template",
    )


def _syntax_error(error: Exception, text: str, source: str, first: int) -> ProfileError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    index = 0 if mark is None else mark.line
    rows = text.split("\n")
    where = place(source, first + index)
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    if index < len(rows) and _TAB_INDENT.match(rows[index]):
        what = "a tab in the indentation, where YAML takes spaces only"
        return ProfileError(what, where, "tab")
    if isinstance(getattr(error, "reason", None), str):
        problem = str(error.reason)  # type: ignore[attr-defined]  # of yaml.reader.ReaderError
    return ProfileError(f"not YAML: {problem}", where, "not-yaml")


class _Builder:
    """Values out of events; the depth is the author's choice, and so it is bounded."""

    def __init__(self, source: str, first: int) -> None:
        self._source = source
        self._first = first
        self._anchors: dict[str, _Built | None] = {}
        """None while what it names is not complete."""

    def build(self, events: Iterator[Event], event: Event, depth: int) -> _Built:
        from yaml import events as kinds

        if depth > _DEEPEST:
            raise self._error(event, f"nested more than {_DEEPEST} deep", "too-deep")
        match event:
            case kinds.AliasEvent():
                return self._alias(event)
            case kinds.ScalarEvent():
                built = _Built(self._scalar(event), self._line(event))
                if event.anchor is not None:
                    self._anchors[event.anchor] = built
                return built
            case kinds.MappingStartEvent() | kinds.SequenceStartEvent():
                return self._collection(events, event, depth)
            case _:
                raise self._error(event, "unexpected", "not-yaml")

    def _collection(
        self, events: Iterator[Event], event: CollectionStartEvent, depth: int
    ) -> _Built:
        from yaml.events import MappingStartEvent

        if event.tag not in _COLLECTION_TAGS:
            raise self._error(event, f"unknown tag {quote(str(event.tag))}", "unknown-tag")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        line = self._line(event)
        if isinstance(event, MappingStartEvent):
            built = self._mapping(events, line, depth)
        else:
            built = self._sequence(events, line, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = built
        return built

    def _sequence(self, events: Iterator[Event], line: int, depth: int) -> _Built:
        from yaml.events import SequenceEndEvent

        found = YamlList()
        found.line, found.lines = line, []
        size = 1
        while not isinstance(event := next(events), SequenceEndEvent):
            item = self.build(events, event, depth + 1)
            found.append(item.value)
            found.lines.append(item.line)
            size = self._grown(size, item, event)
        return _Built(found, line, size)

    def _mapping(self, events: Iterator[Event], line: int, depth: int) -> _Built:
        from yaml.events import MappingEndEvent, ScalarEvent

        found = YamlObject()
        found.line, found.lines = line, {}
        merged: list[tuple[Event, _Built]] = []
        size = 1
        while not isinstance(event := next(events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise self._error(event, "a key that is no plain word", "bad-key")
            value = self.build(events, next(events), depth + 1)
            size = self._grown(size, value, event)
            if event.value == "<<" and event.implicit[0]:
                merged.append((event, value))
            elif event.value in found:
                what = f"key {quote(event.value)} given twice, first in line "
                first = found.lines[event.value]
                raise self._error(event, f"{what}{first}", "duplicate-key")
            else:
                found[event.value] = value.value
                found.lines[event.value] = self._line(event)
        for event, value in merged:
            self._merge(found, event, value.value)
        return _Built(found, line, size)

    def _grown(self, size: int, by: _Built, event: Event) -> int:
        if size + by.size > _MOST_VALUES:
            what = f"more than {_MOST_VALUES:,} values, what aliases stand for included"
            raise self._error(event, what, "too-large")
        return size + by.size

    def _merge(self, into: YamlObject, event: Event, value: object) -> None:
        """``<<``: the keys of another mapping, or of several, that are not given here."""
        for one in value if isinstance(value, YamlList) else [value]:
            if not isinstance(one, YamlObject):
                raise self._error(event, "<< takes a mapping, or a list of them", "bad-merge")
            for key, child in one.items():
                if key not in into:
                    into[key] = child
                    into.lines[key] = one.lines[key]

    def _alias(self, event: AliasEvent) -> _Built:
        name = str(event.anchor)
        if name not in self._anchors:
            raise self._error(event, f"alias {quote(name)} without an anchor", "unknown-alias")
        built = self._anchors[name]
        if built is None:
            raise self._error(event, f"alias {quote(name)} within its own anchor", "endless")
        return _Built(built.value, built.line, built.size)

    def _scalar(self, event: ScalarEvent) -> object:
        if event.tag in _TEXT_TAGS or (event.tag is None and not event.implicit[0]):
            return event.value
        if event.tag is not None and event.tag not in _WORD_TAGS:
            raise self._error(event, f"unknown tag {quote(event.tag)}", "unknown-tag")
        return self._word(event)

    def _word(self, event: ScalarEvent) -> object:
        word = event.value
        if word in _NULL:
            return None
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        if not (word[0] in "+-." or word[0].isdigit()):
            return word
        if match := _INTEGER.fullmatch(word):
            if len(word) > _LONGEST_NUMBER:
                what = f"a number of {len(word)} digits"
                raise self._error(event, what, "number-out-of-range")
            digits = next(part for part in match.groups()[1:] if part is not None)
            base = next(b for b, part in zip(_BASES, match.groups()[1:], strict=True) if part)
            return int(match[1] + (digits.replace("_", "") or "0"), base)
        return float(word) if _FLOAT.fullmatch(word) else word

    def _line(self, event: Event) -> int:
        mark = event.start_mark
        assert mark is not None
        return self._first + mark.line

    def _error(self, event: Event, message: str, code: str) -> ProfileError:
        return ProfileError(message, place(self._source, self._line(event)), code)
