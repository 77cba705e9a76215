"""Programs survive the way to JSON and back; nothing else gets through the reader."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import programs

from attacks import jsonform
from attacks.jsonform import FORMAT, ProgramError, document, dumps, loads, parse
from attacks.library import load_families
from attacks.program import (
    MAX_DEPTH,
    MAX_OPERATIONS,
    Addr,
    Blob,
    Const,
    Program,
    Syscall,
)

pytestmark = pytest.mark.unit

VALIDATOR = jsonschema.Draft202012Validator(jsonform.schema())
CALL: dict[str, Any] = {"op": "syscall", "name": "getpid", "decisive": True}


def doc(*ops: Any, **fields: Any) -> dict[str, Any]:
    return {"format": FORMAT, **fields, "attack": [*ops]}


# --- round trip


def test_every_variant_of_the_library_survives() -> None:
    for family in load_families().values():
        for variant in family.default.variants:
            back = loads(dumps(variant.program), confined=False)
            assert back == variant.program, variant.id
            assert document(back) == document(variant.program), variant.id
            assert back.digest() == variant.program.digest()
            VALIDATOR.validate(document(variant.program))


@settings(max_examples=60)
@given(programs())
def test_random_programs_survive(program: Program) -> None:
    content = document(program)
    VALIDATOR.validate(content)
    back = loads(json.dumps(content), confined=False)
    assert back == program
    assert document(back) == content, "and so are the names"
    assert back.digest() == program.digest()


def test_a_short_form_for_hand_written_programs() -> None:
    program = parse(
        doc(
            {
                "op": "syscall",
                "name": "mkdir",
                "args": [{"blob": "path"}, {"const": 493, "text": "0755"}],
                "decisive": True,
            },
            blobs=[{"name": "path", "string": "d/t"}],
        )
    )
    assert program.blobs == (Blob(b"d/t\0", 4, 8, "path"),)
    assert program.attack == (Syscall("mkdir", (Addr(0), Const(493, "0755")), decisive=True),)


# --- mistakes


def nested(depth: int) -> dict[str, Any]:
    call: dict[str, Any] = {"op": "syscall", "name": "fork", "body": [CALL]}
    for _ in range(depth - 1):
        call = {"op": "syscall", "name": "fork", "body": [call]}
    return call


BLOB = {"name": "a", "string": "d/t"}
MISTAKES: list[tuple[Any, str, str]] = [
    (None, "$", "must be an object, not null"),
    ([], "$", "must be an object, not an array"),
    ({"attack": []}, "$", "field 'format' is missing"),
    ({"format": "x", "attack": []}, "$.format", "must be"),
    (doc(), "$", "0 decisive operations"),
    (doc(CALL, CALL), "$", "2 decisive operations"),
    (doc(CALL, setup=[CALL]), "$", "2 decisive operations"),
    (doc(CALL, surprise=1), "$", "unknown field 'surprise'"),
    (doc(CALL, setup={}), "$.setup", "must be an array, not an object"),
    (doc(7), "$.attack[0]", "must be an object with a field 'op'"),
    (doc({"op": "jump"}), "$.attack[0].op", "unknown operation 'jump'"),
    (doc({"op": []}), "$.attack[0].op", "unknown operation an array"),
    (doc(CALL | {"abi": "arm"}), "$.attack[0].abi", "'arm' is none of x86_64, i386, x32"),
    (doc(CALL | {"abi": 3}), "$.attack[0].abi", "a number is none of"),
    (doc(CALL | {"entry": "int80"}), "$.attack[0].entry", "int80 reaches only i386"),
    (doc(CALL | {"abi": "i386"}), "$.attack[0].entry", "syscall does not reach i386"),
    (doc(CALL | {"name": "rm -rf"}), "$.attack[0].name", "does not match"),
    (doc(CALL | {"name": None}), "$.attack[0].name", "must be a string, not null"),
    (doc(CALL | {"opcode": "\x1b[2J"}), "$.attack[0].opcode", "does not match"),
    (doc(CALL | {"args": [0] * 7}), "$.attack[0].args", "more than 6 entries"),
    (doc(CALL | {"args": [1.5]}), "$.attack[0].args[0]", "must be a number or one of"),
    (doc(CALL | {"args": [True]}), "$.attack[0].args[0]", "must be an integer, not a boolean"),
    (doc(CALL | {"args": [2**64]}), "$.attack[0].args[0]", "must be between"),
    (doc(CALL | {"args": [{"const": 1, "text": "a\nb"}]}), "$.attack[0].args[0].text", "match"),
    (doc(CALL | {"args": [{"env": "HOME"}]}), "$.attack[0].args[0].env", "is none of"),
    (doc(CALL | {"args": [{"slot": 0}]}), "$.attack[0].args[0].slot", "is not earlier than slot 0"),
    (doc(CALL | {"args": [{"slot": -1}]}), "$.attack[0].args[0].slot", "must be between"),
    (doc(CALL | {"args": [{"slot": 9999}]}), "$.attack[0].args[0].slot", "must be between"),
    (doc(CALL | {"args": [{"blob": "a"}]}), "$.attack[0].args[0].blob", "no blob is called 'a'"),
    (doc(CALL | {"args": [{"blob": 0}]}), "$.attack[0].args[0].blob", "there is no blob 0"),
    (
        doc(CALL | {"args": [{"blob": "a"}]}, blobs=[BLOB, BLOB]),
        "$.attack[0].args[0].blob",
        "two blobs are called 'a'",
    ),
    (
        doc(CALL | {"args": [{"blob": "a", "offset": 5}]}, blobs=[BLOB]),
        "$.attack[0].args[0].offset",
        "must be between 0 and 4",
    ),
    (doc(CALL | {"decisive": 1}), "$.attack[0].decisive", "must be true or false"),
    (doc(CALL | {"body": 1}), "$.attack[0].body", "must be an array"),
    (
        doc(CALL | {"name": "execve", "body": [{"op": "fault"}]}),
        "$.attack[0].body[0]",
        "an executed file has no such operation",
    ),
    (
        doc(*[{"op": "syscall", "name": "execve", "body": [{"op": "add", "a": 0, "b": 0}]}] * 2),
        "$.attack[1]",
        "only one call may execute a file of its own",
    ),
    (doc({"op": "load"}), "$.attack[0]", "field 'address' is missing"),
    (doc({"op": "load", "address": 0, "width": 3}), "$.attack[0].width", "must be 1, 2, 4 or 8"),
    (doc({"op": "add", "a": 0, "b": None}), "$.attack[0].b", "must be a number or one of"),
    (
        doc({"op": "wait", "address": 0, "bound_us": 10**9}),
        "$.attack[0].bound_us",
        "must be between",
    ),
    (doc(CALL, blobs=[{}]), "$.blobs[0]", "field 'size' is missing"),
    (doc(CALL, blobs=[{"text": "a", "base64": ""}]), "$.blobs[0]", "more than one of"),
    (doc(CALL, blobs=[{"base64": "?"}]), "$.blobs[0].base64", "not valid base64"),
    (doc(CALL, blobs=[{"text": "\ud800"}]), "$.blobs[0].text", "not valid text"),
    (doc(CALL, blobs=[{"text": "ab", "size": 1}]), "$.blobs[0].size", "less than its 2 bytes"),
    (doc(CALL, blobs=[{"size": 8, "align": 3}]), "$.blobs[0].align", "must be a power of two"),
    (doc(CALL, blobs=[{"size": 2**40}]), "$.blobs[0].size", "must be between"),
    (doc(CALL, blobs=[{"size": 200_000}] * 2), "$.blobs[1]", "the arena is full"),
    (doc(CALL, blobs=[{"text": "x" * 10**6}]), "$.blobs[0].text", "the arena is full"),
    (doc(CALL, blobs=[{"size": 1}] * 2000), "$.blobs", "more than 1024 entries"),
    (doc(nested(MAX_DEPTH + 1)), "$.attack[0]" + ".body[0]" * 4 + ".body", "nested deeper than 4"),
    (doc(*[{"op": "fault"}] * (MAX_OPERATIONS + 1)), "$.attack", "more than 512 entries"),
    (
        doc(CALL, setup=[{"op": "fault"}] * 400, victim=[{"op": "fault"}] * 113),
        "$.victim[112]",
        "more than 512 operations",
    ),
]


@pytest.mark.parametrize(("content", "where", "message"), MISTAKES)
def test_a_mistake_is_named_with_its_place(content: Any, where: str, message: str) -> None:
    with pytest.raises(ProgramError) as caught:
        parse(content)
    assert caught.value.where == where
    assert message in caught.value.message
    assert "\n" not in str(caught.value)


def test_nesting_as_deep_as_allowed() -> None:
    assert len(parse(doc(nested(MAX_DEPTH))).flatten()) == MAX_DEPTH + 1


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/", "../x", "d/../../x", "/proc/self/root/etc", "/proc/1/cwd/x"]
)
def test_a_path_out_of_the_scratch_directory(path: str) -> None:
    content = doc(CALL | {"args": [{"blob": 0}]}, blobs=[{"string": path}])
    with pytest.raises(ProgramError, match=r"\$\.blobs\[0\]: .* leaves the scratch directory"):
        parse(content)
    parse(content, confined=False)


def test_a_path_hidden_inside_a_blob() -> None:
    content = doc(CALL | {"args": [{"blob": 0, "offset": 4}]}, blobs=[{"text": "abcd/etc/passwd"}])
    with pytest.raises(ProgramError, match="leaves the scratch directory"):
        parse(content)


@pytest.mark.parametrize("path", ["d/t", "a..b", "/work/d/t", "/proc/self/fd/3", "/proc/"])
def test_a_path_inside(path: str) -> None:
    parse(doc(CALL | {"args": [{"blob": 0}]}, blobs=[{"string": path}]))


def test_unknown_calls_are_the_callers_business() -> None:
    parse(doc(CALL))
    with pytest.raises(ProgramError, match="x86_64 has no call 'getpid'"):
        parse(doc(CALL), known_calls=lambda _abi, _name: False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        '{"format": Infinity}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 10_000,
        b"\xff\xfe",
        " " * (jsonform.MAX_DOCUMENT + 1),
    ],
)
def test_text_that_is_no_json(text: str | bytes) -> None:
    with pytest.raises(ProgramError):
        loads(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["op", "name", "args", "blob", "slot", "const", "attack", "body", "a"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_nonsense_is_a_program_error(content: Any) -> None:
    for whole in (content, doc(content), doc(CALL, blobs=content), doc(CALL, setup=content)):
        try:
            parse(whole)
        except ProgramError:
            continue


def test_large_documents_take_little_time() -> None:
    many = [{"blob": index, "offset": 1} for index in range(6)]
    content = doc(
        *[{"op": "syscall", "name": "f", "args": many}] * 511,
        CALL,
        blobs=[{"text": "/" + "a/" * 20_000}] * 6,
    )
    start = time.process_time()
    parse(content)
    with pytest.raises(ProgramError):
        parse(doc(*[{"op": "fault"}] * 200_000))
    assert time.process_time() - start < 1
