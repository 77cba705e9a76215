"""Programs as JSON: a lossless form, its strict reader, and the schema that describes it.

The reader takes hostile input.  Every mistake is a ``ProgramError`` that names the JSON path; the
work is bounded by the limits of a program whatever the document says.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from importlib import resources
from typing import Any, TypeVar, assert_never, cast

from msgspec import Struct, field

from attacks.errors import AttackError
from attacks.program import (
    ARENA_SIZE,
    MAX_DEPTH,
    MAX_OPERATIONS,
    Abi,
    Add,
    Addr,
    Blob,
    Call,
    Compare,
    Const,
    Copy,
    Entry,
    Env,
    Environment,
    Expect,
    Fault,
    Find,
    Load,
    Operation,
    Print,
    Program,
    Slot,
    Store,
    Syscall,
    Value,
    Wait,
    executes,
    fits_image,
    is_decisive,
    operands,
)

FORMAT = "sidestep.program/1"
MAX_BLOBS = 1024
MAX_ALIGN = 65536
MAX_TEXT = 200
MAX_DOCUMENT = 4 * 1024 * 1024
MAX_WAIT_US = 2_000_000
_LONGEST_PATH = 4096
_WIDTHS = (1, 2, 4, 8)
_CONTENTS = ("string", "text", "base64")

_CALL_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}")
_BLOB_NAME = re.compile(r"[A-Za-z0-9_.-]{0,64}")
_OPCODE = re.compile(r"[A-Z0-9_, ]{0,200}")
_PRINTABLE = re.compile(r"[ -~]{0,200}")
_INSIDE = re.compile(
    r"/work(/.*)?|/proc/(self|thread-self|\d*)(/(?!root(/|$)|cwd(/|$))[^/]*)*", re.DOTALL
)

KnownCalls = Callable[[Abi, str], bool]
_E = TypeVar("_E", bound=StrEnum)


class ProgramError(AttackError):
    """A document that is no program: ``message`` at the JSON path ``where``."""

    def __init__(self, message: str, where: str) -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.where = where


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the form; what ``parse`` takes always passes it."""
    text = resources.files("attacks").joinpath("program.schema.json").read_text("utf-8")
    return cast("dict[str, Any]", json.loads(text))


# --- program to document


def document(program: Program) -> dict[str, Any]:
    """The JSON object of a program; fields that have their default value are left out."""
    names = _blob_names(program.blobs)
    result: dict[str, Any] = {"format": FORMAT}
    if program.blobs:
        result["blobs"] = [_blob_document(blob) for blob in program.blobs]
    for section in ("setup", "victim", "attack"):
        ops: tuple[Operation, ...] = getattr(program, section)
        if ops:
            result[section] = [_operation_document(op, names) for op in ops]
    return result


def dumps(program: Program) -> str:
    """The document as text, one line for each blob and operation's field."""
    return json.dumps(document(program), indent=2) + "\n"


def _blob_names(blobs: tuple[Blob, ...]) -> list[str | int]:
    """How each blob is referred to: by its name where that is unique, else by its index."""
    counts: dict[str, int] = {}
    for blob in blobs:
        counts[blob.name] = counts.get(blob.name, 0) + 1
    return [
        blob.name if blob.name and counts[blob.name] == 1 else index
        for index, blob in enumerate(blobs)
    ]


def _blob_document(blob: Blob) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if blob.name:
        result["name"] = blob.name
    if blob.data.endswith(b"\0") and _is_text(blob.data[:-1]):
        result["string"] = blob.data[:-1].decode("ascii")
    elif blob.data and _is_text(blob.data):
        result["text"] = blob.data.decode("ascii")
    elif blob.data:
        result["base64"] = base64.b64encode(blob.data).decode("ascii")
    if blob.size != len(blob.data) or not blob.data:
        result["size"] = blob.size
    if blob.align != 8:
        result["align"] = blob.align
    return result


def _is_text(data: bytes) -> bool:
    return all(0x20 <= byte < 0x7F or byte in b"\t\n" for byte in data)


def _operation_document(op: Operation, names: list[str | int]) -> dict[str, Any]:
    def value(item: Value) -> Any:
        return _value_document(item, names)

    match op:
        case Syscall():
            return _syscall_document(op, names)
        case Load(address, offset, width):
            fields = {"op": "load", "address": value(address), "offset": offset, "width": width}
            return _without(fields, offset=0, width=8)
        case Store(address, offset, width, item, decisive):
            fields = {"op": "store", "address": value(address), "offset": offset, "width": width}
            fields |= {"value": value(item), "decisive": decisive}
            return _without(fields, offset=0, width=8, decisive=False)
        case Add(a, b):
            return {"op": "add", "a": value(a), "b": value(b)}
        case Copy(address, source, size, decisive):
            fields = {"op": "copy", "address": value(address), "source": value(source)}
            return _without(fields | {"size": value(size), "decisive": decisive}, decisive=False)
        case Compare(a, b, size):
            return {"op": "compare", "a": value(a), "b": value(b), "size": value(size)}
        case Find(address, size, wanted, wanted_size):
            fields = {"op": "find", "address": value(address), "size": value(size)}
            return fields | {"wanted": value(wanted), "wanted_size": value(wanted_size)}
        case Print(address, item, suffix):
            fields = {"op": "print", "address": value(address), "value": value(item)}
            return _without(fields | {"suffix": value(suffix)}, suffix=0)
        case Wait(address, offset, item, bound_us):
            fields = {"op": "wait", "address": value(address), "offset": offset}
            fields |= {"value": value(item), "bound_us": bound_us}
            return _without(fields, offset=0, value=0, bound_us=200_000)
        case Call(address, decisive):
            fields = {"op": "call", "address": value(address), "decisive": decisive}
            return _without(fields, decisive=False)
        case Expect(item, mask, equals):
            fields = {"op": "expect", "value": value(item), "mask": mask, "equals": equals}
            return _without(fields, mask=2**64 - 1)
        case Fault(decisive):
            return _without({"op": "fault", "decisive": decisive}, decisive=False)
        case _:
            assert_never(op)


def _syscall_document(op: Syscall, names: list[str | int]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "op": "syscall",
        "name": op.name,
        "abi": op.abi.value,
        "entry": op.entry.value,
        "args": [_value_document(item, names) for item in op.args],
        "opcode": op.opcode,
        "decisive": op.decisive,
        "may_fail": op.may_fail,
        "body": [_operation_document(inner, names) for inner in op.body],
    }
    defaults: dict[str, Any] = {"abi": "x86_64", "entry": "syscall", "args": [], "opcode": ""}
    return _without(fields, **defaults, decisive=False, may_fail=False, body=[])


def _without(fields: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """``fields`` less those that have their default value."""
    return {k: v for k, v in fields.items() if k not in defaults or v != defaults[k]}


def _value_document(value: Value, names: list[str | int]) -> Any:
    match value:
        case Const(number, text):
            return {"const": number, "text": text} if text else number
        case Addr(blob, offset):
            return {"blob": names[blob], "offset": offset} if offset else {"blob": names[blob]}
        case Slot(index):
            return {"slot": index}
        case Env(name):
            return {"env": name.value}
        case _:
            assert_never(value)


# --- document to program


def loads(
    text: str | bytes, *, known_calls: KnownCalls | None = None, confined: bool = True
) -> Program:
    """Parse JSON text.  See ``parse``."""
    if len(text) > MAX_DOCUMENT:
        raise ProgramError(f"longer than {MAX_DOCUMENT} bytes", "")
    try:
        content = json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates
        )
    except RecursionError:
        raise ProgramError("nested too deep", "$") from None
    except UnicodeDecodeError as error:
        raise ProgramError(f"not UTF-8 at byte {error.start}", "$") from None
    except json.JSONDecodeError as error:
        raise ProgramError(f"not JSON: {error}", "$") from None
    except ValueError as error:
        # The interpreter's own limit on the digits of a number, in its own words.
        said = "a number of too many digits" if "digits" in str(error) else str(error)
        raise ProgramError(f"not JSON: {said}", "$") from None
    return parse(content, known_calls=known_calls, confined=confined)


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return found


def parse(
    content: object, *, known_calls: KnownCalls | None = None, confined: bool = True
) -> Program:
    """The program that a JSON document holds, or ProgramError.

    ``known_calls`` says which call names exist under an ABI.  ``confined`` refuses blobs that read
    as a path out of the scratch directory: with ``..``, or absolute and not below /work or
    /proc/self.  It catches accidents; what confines a program is the sandbox.
    """
    reader = _Reader(known_calls)
    fields = reader.fields(content, "$", ("format",), ("blobs", "setup", "victim", "attack"))
    if fields["format"] != FORMAT:
        raise ProgramError(f"must be {FORMAT!r}", "$.format")
    reader.read_blobs(fields.get("blobs", []))
    sections = {
        name: reader.operations(fields.get(name, []), f"$.{name}", 0)
        for name in ("setup", "victim", "attack")
    }
    program = Program(tuple(reader.blobs), **sections)
    decisive = [section for section, op in program.flatten() if is_decisive(op)]
    if decisive != ["attack"]:
        raise ProgramError(f"{len(decisive)} decisive operations, not one of the attack", "$")
    if confined:
        _check_paths(program)
    return program


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


class _Reader(Struct):
    """Where the reader stands: the blobs by name and how many operations there are so far."""

    known_calls: KnownCalls | None
    blobs: list[Blob] = field(default_factory=list[Blob])
    index: dict[str, int] = field(default_factory=dict[str, int])
    slots: int = 0
    executes: bool = False

    def fields(
        self, content: object, where: str, required: Iterable[str], optional: Iterable[str] = ()
    ) -> dict[str, Any]:
        """``content`` as an object with exactly these fields."""
        if not isinstance(content, dict):
            raise ProgramError(f"must be an object, not {_kind(content)}", where)
        found = cast("dict[str, Any]", content)
        allowed = {*required, *optional}
        for name in found:
            if name not in allowed:
                raise ProgramError(f"unknown field {_quote(name)}", where)
        for name in required:
            if name not in found:
                raise ProgramError(f"field {name!r} is missing", where)
        return found

    # --- blobs

    def read_blobs(self, content: object) -> None:
        items = _array(content, "$.blobs", MAX_BLOBS)
        end = 0
        for number, item in enumerate(items):
            where = f"$.blobs[{number}]"
            blob = self.blob(item, where)
            end = -(-end // blob.align) * blob.align + blob.size
            if end > ARENA_SIZE:
                raise ProgramError(f"the arena is full: more than {ARENA_SIZE} bytes", where)
            if blob.name:
                # A name that is used twice can only be meant by index.
                self.index[blob.name] = -1 if blob.name in self.index else number
            self.blobs.append(blob)

    def blob(self, content: object, where: str) -> Blob:
        fields = self.fields(content, where, (), ("name", *_CONTENTS, "size", "align"))
        if sum(key in fields for key in _CONTENTS) > 1:
            raise ProgramError(f"has more than one of {', '.join(_CONTENTS)}", where)
        name = _match(_BLOB_NAME, fields.get("name", ""), f"{where}.name")
        data = _contents(fields, where)
        if "size" not in fields and not data:
            raise ProgramError("field 'size' is missing", where)
        size = _integer(fields.get("size", len(data)), f"{where}.size", 0, ARENA_SIZE)
        if size < len(data):
            raise ProgramError(f"less than its {len(data)} bytes of contents", f"{where}.size")
        align = _integer(fields.get("align", 8), f"{where}.align", 1, MAX_ALIGN)
        if align & (align - 1):
            raise ProgramError("must be a power of two", f"{where}.align")
        return Blob(data, size, align, name)

    # --- operations

    def operations(self, content: object, where: str, depth: int) -> tuple[Operation, ...]:
        items = _array(content, where, MAX_OPERATIONS)
        if items and depth > MAX_DEPTH:
            raise ProgramError(f"bodies nested deeper than {MAX_DEPTH}", where)
        return tuple(
            self.operation(item, f"{where}[{number}]", depth) for number, item in enumerate(items)
        )

    def operation(self, content: object, where: str, depth: int) -> Operation:
        if not isinstance(content, dict) or "op" not in content:
            raise ProgramError("must be an object with a field 'op'", where)
        kind = cast("dict[str, Any]", content)["op"]
        shape = _SHAPES.get(kind) if isinstance(kind, str) else None
        if shape is None:
            raise ProgramError(f"unknown operation {_quote(kind)}", f"{where}.op")
        fields = self.fields(cast("object", content), where, ("op", *shape[0]), shape[1])
        slot = self.slots
        self.slots += 1
        if self.slots > MAX_OPERATIONS:
            raise ProgramError(f"more than {MAX_OPERATIONS} operations", where)
        if kind == "syscall":
            return self.syscall(fields, where, slot, depth)
        return self.simple(kind, _Fields(self, fields, where, slot))

    def simple(self, kind: str, read: _Fields) -> Operation:
        """Every operation that is not a system call."""
        match kind:
            case "load":
                return Load(read.value("address"), read.offset(), read.width())
            case "store":
                address, item = read.value("address"), read.value("value")
                return Store(address, read.offset(), read.width(), item, read.flag("decisive"))
            case "add":
                return Add(read.value("a"), read.value("b"))
            case "copy":
                address, source = read.value("address"), read.value("source")
                return Copy(address, source, read.value("size"), read.flag("decisive"))
            case "compare":
                return Compare(read.value("a"), read.value("b"), read.value("size"))
            case "find":
                address, size = read.value("address"), read.value("size")
                return Find(address, size, read.value("wanted"), read.value("wanted_size"))
            case "print":
                address, item = read.value("address"), read.value("value")
                return Print(address, item, read.value("suffix", 0))
            case "wait":
                bound_us = _integer(
                    read.fields.get("bound_us", 200_000), f"{read.where}.bound_us", 0, MAX_WAIT_US
                )
                return Wait(read.value("address"), read.offset(), read.value("value", 0), bound_us)
            case "call":
                return Call(read.value("address"), read.flag("decisive"))
            case "expect":
                return Expect(
                    read.value("value"), read.word("mask", 2**64 - 1), read.word("equals")
                )
            case _:
                return Fault(read.flag("decisive"))

    def syscall(self, fields: dict[str, Any], where: str, slot: int, depth: int) -> Syscall:
        read = _Fields(self, fields, where, slot)
        name = _match(_CALL_NAME, fields["name"], f"{where}.name")
        abi = _member(Abi, fields.get("abi", "x86_64"), f"{where}.abi")
        entry = _member(Entry, fields.get("entry", "syscall"), f"{where}.entry")
        native = entry in (Entry.SYSCALL, Entry.WIDE_SYSCALL)
        if abi is not Abi.I386 and not native:
            raise ProgramError(f"{entry} reaches only i386", f"{where}.entry")
        if abi is Abi.I386 and native:
            raise ProgramError(f"{entry} does not reach i386: int80 does", f"{where}.entry")
        if self.known_calls is not None and not self.known_calls(abi, name):
            raise ProgramError(f"{abi} has no call {name!r}", f"{where}.name")
        arguments = _array(fields.get("args", []), f"{where}.args", 6)
        made = Syscall(
            name,
            tuple(
                self.value(item, f"{where}.args[{number}]", slot)
                for number, item in enumerate(arguments)
            ),
            abi,
            entry,
            read.flag("decisive"),
            read.flag("may_fail"),
            self.operations(fields.get("body", []), f"{where}.body", depth + 1),
            _match(_OPCODE, fields.get("opcode", ""), f"{where}.opcode"),
        )
        if executes(made):
            if self.executes:
                raise ProgramError("only one call may execute a file of its own", where)
            self.executes = True
            for number, inner in enumerate(made.body):
                if not fits_image(inner, slot + 1):
                    raise ProgramError(
                        "an executed file has no such operation, no environment, no process, and "
                        "only its own results",
                        f"{where}.body[{number}]",
                    )
        return made

    # --- values

    def value(self, content: object, where: str, slot: int) -> Value:
        """A value that the operation in ``slot`` reads."""
        if isinstance(content, int):
            return Const(_word(content, where))
        if isinstance(content, dict):
            found = cast("dict[str, Any]", content)
            if "const" in found:
                self.fields(found, where, ("const",), ("text",))
                text = _match(_PRINTABLE, found.get("text", ""), f"{where}.text")
                return Const(_word(found["const"], f"{where}.const"), text)
            if "blob" in found:
                return self.address(found, where)
            if "slot" in found:
                self.fields(found, where, ("slot",))
                return Slot(_earlier(found["slot"], f"{where}.slot", slot))
            if "env" in found:
                self.fields(found, where, ("env",))
                return Env(_member(Environment, found["env"], f"{where}.env"))
        raise ProgramError("must be a number or one of const, blob, slot, env", where)

    def address(self, found: dict[str, Any], where: str) -> Addr:
        self.fields(found, where, ("blob",), ("offset",))
        name = found["blob"]
        if isinstance(name, str):
            index = self.index.get(name)
            if index is None:
                raise ProgramError(f"no blob is called {_quote(name)}", f"{where}.blob")
            if index < 0:
                raise ProgramError(f"two blobs are called {_quote(name)}", f"{where}.blob")
        else:
            index = _integer(name, f"{where}.blob", 0, MAX_BLOBS)
            if index >= len(self.blobs):
                raise ProgramError(f"there is no blob {index}", f"{where}.blob")
        # One past the end is an address too: the end of a stack.
        offset = _integer(found.get("offset", 0), f"{where}.offset", 0, self.blobs[index].size)
        return Addr(index, offset)


class _Fields(Struct, frozen=True):
    """The fields of one operation, read one by one."""

    reader: _Reader
    fields: dict[str, Any]
    where: str
    slot: int

    def value(self, name: str, default: int | None = None) -> Value:
        return self.reader.value(self.fields.get(name, default), f"{self.where}.{name}", self.slot)

    def word(self, name: str, default: int | None = None) -> int:
        return _word(self.fields.get(name, default), f"{self.where}.{name}")

    def offset(self) -> int:
        place = f"{self.where}.offset"
        return _integer(self.fields.get("offset", 0), place, -ARENA_SIZE, ARENA_SIZE)

    def width(self) -> int:
        width = _integer(self.fields.get("width", 8), f"{self.where}.width", 1, 8)
        if width not in _WIDTHS:
            raise ProgramError("must be 1, 2, 4 or 8", f"{self.where}.width")
        return width

    def flag(self, name: str) -> bool:
        found = self.fields.get(name, False)
        if not isinstance(found, bool):
            raise ProgramError(f"must be true or false, not {_kind(found)}", f"{self.where}.{name}")
        return found


# The fields that each operation must and may have.
_SHAPES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "syscall": (
        ("name",),
        ("abi", "entry", "args", "opcode", "decisive", "may_fail", "body"),
    ),
    "load": (("address",), ("offset", "width")),
    "store": (("address", "value"), ("offset", "width", "decisive")),
    "add": (("a", "b"), ()),
    "copy": (("address", "source", "size"), ("decisive",)),
    "compare": (("a", "b", "size"), ()),
    "find": (("address", "size", "wanted", "wanted_size"), ()),
    "print": (("address", "value"), ("suffix",)),
    "wait": (("address",), ("offset", "value", "bound_us")),
    "call": (("address",), ("decisive",)),
    "expect": (("value", "equals"), ("mask",)),
    "fault": ((), ("decisive",)),
}


def _contents(fields: dict[str, Any], where: str) -> bytes:
    """The bytes of a blob; their length is checked before anything is decoded."""
    key = next((key for key in _CONTENTS if key in fields), "text")
    place = f"{where}.{key}"
    text = fields.get(key, "")
    if not isinstance(text, str):
        raise ProgramError(f"must be a string, not {_kind(text)}", place)
    if len(text) > 2 * ARENA_SIZE:
        raise ProgramError(f"the arena is full: more than {ARENA_SIZE} bytes", place)
    try:
        if key == "base64":
            return base64.b64decode(text, validate=True)
        return text.encode("utf-8") + (b"\0" if key == "string" else b"")
    except (binascii.Error, UnicodeError, ValueError):
        raise ProgramError(f"not valid {key}", place) from None


def _array(content: object, where: str, longest: int) -> Sequence[Any]:
    if not isinstance(content, list):
        raise ProgramError(f"must be an array, not {_kind(content)}", where)
    items = cast("Sequence[Any]", content)
    if len(items) > longest:
        raise ProgramError(f"more than {longest} entries", where)
    return items


def _integer(content: object, where: str, least: int, most: int) -> int:
    if isinstance(content, bool) or not isinstance(content, int):
        raise ProgramError(f"must be an integer, not {_kind(content)}", where)
    if not least <= content <= most:
        raise ProgramError(f"must be between {least} and {most}", where)
    return content


def _word(content: object, where: str) -> int:
    """A 64-bit word; negative numbers stand for their two's complement."""
    return _integer(content, where, -(2**63), 2**64 - 1)


def _earlier(content: object, where: str, slot: int) -> int:
    index = _integer(content, where, 0, MAX_OPERATIONS)
    if index >= slot:
        raise ProgramError(f"slot {index} is not earlier than slot {slot}", where)
    return index


def _match(pattern: re.Pattern[str], content: object, where: str) -> str:
    if not isinstance(content, str):
        raise ProgramError(f"must be a string, not {_kind(content)}", where)
    if not pattern.fullmatch(content):
        raise ProgramError(f"{_quote(content)} does not match {pattern.pattern}", where)
    return content


def _member(kind: type[_E], content: object, where: str) -> _E:
    for member in kind:
        if content == member.value:
            return member
    known = ", ".join(member.value for member in kind)
    raise ProgramError(f"{_quote(content)} is none of {known}", where)


def _kind(content: object) -> str:
    """What a JSON value is called."""
    match content:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _quote(content: object) -> str:
    """Short and harmless on a terminal, whatever the document holds."""
    if not isinstance(content, str):
        return _kind(content)
    return ascii(content if len(content) <= 40 else f"{content[:40]}...")


# --- paths


def _check_paths(program: Program) -> None:
    """Refuse every string in the arena that reads as a path out of the scratch directory."""
    whole: set[tuple[int, int]] = set()
    parts: set[tuple[int, int]] = set()
    for _, op in program.flatten():
        values = operands(op)
        for value in values:
            if isinstance(value, Addr):
                # What a Print appends is the end of a path, which may well start with a slash.
                is_part = isinstance(op, Print) and value is values[2]
                (parts if is_part else whole).add((value.blob, value.offset))
    for index, offset in sorted(whole | parts):
        content = program.blobs[index].data[offset : offset + _LONGEST_PATH].partition(b"\0")[0]
        if b".." in content.split(b"/"):
            raise ProgramError("a path with '..' leaves the scratch directory", f"$.blobs[{index}]")
        if (index, offset) in whole and _is_outside(content):
            raise ProgramError("an absolute path leaves the scratch directory", f"$.blobs[{index}]")


def _is_outside(content: bytes) -> bool:
    if not content.startswith(b"/") or not content.isascii():
        return False
    return not _INSIDE.fullmatch(content.decode("ascii"))
