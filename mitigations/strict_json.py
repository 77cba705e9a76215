"""JSON from files that nobody vouches for: every defect is one ProfileError with its place."""

import json
import os
import re
import select
import stat
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from mitigations.candidate import ProfileError
from mitigations.suggestion import quote

LIMIT_BYTES = 1 << 20  # twenty times the largest profile in use
PATIENCE_S = 10.0
_DESCRIPTOR = re.compile(r"/dev/stdin|/dev/fd/\d+|/proc/self/fd/\d+", re.ASCII)
_LONGEST_KEY = 40
_LONGEST_NUMBER = 64  # digits; converting millions of them takes minutes


class JsonObject(dict[str, Any]):
    """A JSON object that remembers which of its keys were given twice."""

    duplicates: tuple[str, ...] = ()


def is_table(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def read_limited(path: Path, limit: int = LIMIT_BYTES) -> bytes:
    """The bytes of a regular file, or of a pipe that the caller handed over as a descriptor.

    Nothing else is opened to the end: a FIFO that nobody writes to would keep us for ever.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                if status.st_size > limit:
                    raise _too_large(status.st_size, limit)
                content = file.read(limit + 1) or b""  # what is not ready has nothing to say
            elif stat.S_ISDIR(status.st_mode) or not _DESCRIPTOR.fullmatch(str(path)):
                raise ProfileError("is not a regular file", code="not-a-file")
            else:
                content = _read_stream(file.fileno(), limit)
    except OSError as error:
        raise ProfileError(error.strerror or str(error), code="unreadable") from None
    if len(content) > limit:
        raise _too_large(len(content), limit)
    return content


def _open(path: str, flags: int) -> int:
    if not _DESCRIPTOR.fullmatch(path) and not stat.S_ISREG(Path(path).stat().st_mode):
        raise ProfileError("is not a regular file", code="not-a-file")  # opening may have effects
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _read_stream(descriptor: int, limit: int) -> bytes:
    content = b""
    end = time.monotonic() + PATIENCE_S
    while len(content) <= limit:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise ProfileError(f"no data within {PATIENCE_S:g} s", code="no-data")
        part = os.read(descriptor, 1 << 16)
        if not part:
            break
        content += part
    return content


def _too_large(size: int, limit: int) -> ProfileError:
    return ProfileError(f"{size:,} bytes are too many (limit {limit:,})", code="too-large")


def parse(content: bytes) -> Any:
    """The document; objects are JsonObject."""
    text = _decode(content)
    repeated: list[str] = []

    def build(pairs: list[tuple[str, Any]]) -> JsonObject:
        result = JsonObject(pairs)
        if len(result) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            result.duplicates = tuple(key for key, count in counts.items() if count > 1)
            repeated.extend(result.duplicates)
        return result

    if not text.strip():
        raise ProfileError("the file is empty", code="empty-file")
    try:
        document = json.loads(
            text,
            object_pairs_hook=build,
            parse_constant=_refuse_constant,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ProfileError(f"not JSON: {error.msg}", where, "not-json") from None
    except RecursionError:
        raise ProfileError("nested too deeply for a profile", code="too-deep") from None
    if repeated:
        _refuse_duplicates(document)
    return document


def _decode(content: bytes) -> str:
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ProfileError(
            "starts with a byte order mark, which runtimes refuse: save it as plain UTF-8",
            code="byte-order-mark",
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ProfileError(
            f"not UTF-8 (byte {error.object[error.start]:#04x})",
            f"byte {error.start}",
            "not-utf8",
        ) from None


def _refuse_constant(text: str) -> NoReturn:
    raise ProfileError(f"{text} is not JSON", code="not-a-number")


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ProfileError(f"a number of {len(text)} digits", code="number-out-of-range")
    return int(text)


def _refuse_duplicates(document: object) -> None:
    for value, where in _walk(document):
        if isinstance(value, JsonObject) and value.duplicates:
            raise ProfileError("key given twice", join(where, value.duplicates[0]), "duplicate-key")


def _walk(document: object) -> Iterator[tuple[object, str]]:
    """Every value with its path; iterative, for the nesting is the author's choice."""
    pending: list[tuple[object, str]] = [(document, "")]
    while pending:
        value, where = pending.pop()
        yield value, where
        if isinstance(value, JsonObject):
            pending.extend((child, join(where, key)) for key, child in value.items())
        elif is_list(value):
            pending.extend((child, f"{where}[{index}]") for index, child in enumerate(value))


def join(where: str, key: str) -> str:
    """A JSON path one step further; a key that would not print plainly is quoted."""
    is_plain = key.isascii() and key.isprintable() and 0 < len(key) <= _LONGEST_KEY
    shown = key if is_plain else quote(key)
    return f"{where}.{shown}" if where else shown


def kind(value: object) -> str:
    """What JSON calls it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return "a number"
        case float():
            return f"the number {value!r}, which is not an integer"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
