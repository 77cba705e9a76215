import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitigations.candidate import ProfileError
from mitigations.yaml_text import Document, lines_of, read


def documents(text: str | bytes) -> list[Document]:
    return list(read(text.encode() if isinstance(text, str) else text, "f.yaml"))


def value_of(text: str) -> object:
    (one,) = documents(text)
    assert one.error is None, str(one.error)
    return one.value


def error_of(text: str | bytes) -> str:
    """The one line about the only document."""
    (one,) = documents(text)
    assert one.error is not None
    line = str(one.error)
    assert "\n" not in line
    assert line.startswith("f.yaml:")
    return line


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("yes", True),
        ("Off", False),
        ("y", True),
        ("'yes'", "yes"),
        ("!!str yes", "yes"),
        ("0644", 420),
        ("0o17", 15),
        ("0x10", 16),
        ("0b11", 3),
        ("1_000", 1000),
        ("-5", -5),
        ("1e3", 1000.0),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("2026-11-23", "2026-11-23"),
        ("089", 89.0),
        (".", "."),
    ],
)
def test_plain_words_mean_what_they_mean_to_kubernetes(word: str, meant: object) -> None:
    found = value_of(f"k: {word}\nother: 1\n")
    assert found == {"k": meant, "other": 1}
    assert isinstance(found, dict)
    assert type(found["k"]) is type(meant)


def test_lines_of_everything() -> None:
    value = value_of("a:\n- x\n- b: 1\n  c.d: {e: f}\n")
    assert lines_of(value) == {
        "a": 1,
        "a[0]": 2,
        "a[1]": 3,
        "a[1].b": 3,
        "a[1].c.d": 4,
        "a[1].c.d.e": 4,
    }


def test_documents_of_a_stream_count_their_lines_in_the_file() -> None:
    found = documents("# only a remark\n---\na: 1\n---\n---\nb: 2\n--- {c: 3}\n...\n")
    assert [(one.value, one.line) for one in found] == [({"a": 1}, 3), ({"b": 2}, 6), ({"c": 3}, 7)]


def test_directives_belong_to_the_document_behind_them() -> None:
    assert value_of("%YAML 1.1\n---\na: 1\n") == {"a": 1}


def test_a_bad_document_leaves_the_others() -> None:
    first, second, third = documents("a: 1\n---\na: [\n---\nb: 2\n")
    assert (first.value, third.value) == ({"a": 1}, {"b": 2})
    assert second.error is not None


def test_anchors_and_merges() -> None:
    found = value_of("base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  y: 3\nboth: [*b, *b]\n")
    assert found == {
        "base": {"x": 1, "y": 2},
        "mine": {"x": 1, "y": 3},
        "both": [{"x": 1, "y": 2}, {"x": 1, "y": 2}],
    }


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(9)
)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "key 'a' given twice, first in line 1"),
        ("a:\n\tb: 1\n", 2, "a tab in the indentation"),
        ("a: {{ .Values.x }}\n", 1, "render it first"),
        ("a: 1\n{{- if .Values.y }}\nb: 2\n{{- end }}\n", 2, "render it first"),
        ("a: &a [*a]\n", 1, "within its own anchor"),
        ("a: *nowhere\n", 1, "without an anchor"),
        (BOMB, 6, "more than 200,000 values"),
        ("[" * 5000, 1, "nested more than 100 deep"),
        ("a: !Ref x\n", 1, "unknown tag '!Ref'"),
        ("a: !!python/object:os.system x\n", 1, "unknown tag"),
        ("? [a, b]\n: c\n", 1, "a key that is no plain word"),
        ("a: 'x\n", 2, "not YAML"),
        ("a: b: c\n", 1, "not YAML"),
        ("a: 1\n b: 2\n", 2, "not YAML"),
        ("a: \x01\n", 1, "not YAML"),
        ("a: " + "1" * 5000 + "\n", 1, "a number of 5000 digits"),
        ("<<: 5\n", 1, "<< takes a mapping"),
    ],
)
def test_mistakes_are_one_line_with_their_place(text: str, line: int, said: str) -> None:
    found = error_of(text)
    assert found.startswith(f"f.yaml:{line}: ")
    assert said in found


def test_a_rendered_manifest_may_hold_braces() -> None:
    assert value_of("args: ['--format={{.Names}}']\n") == {"args": ["--format={{.Names}}"]}


def test_json_with_tabs_is_yaml_all_the_same() -> None:
    assert value_of('{\n\t"a": [1,\t2]\n}\n') == {"a": [1, 2]}


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ProfileError, match=r"f\.yaml:2: not UTF-8"):
        documents(b"a: 1\nb: \xff\n")


def test_too_many_documents() -> None:
    with pytest.raises(ProfileError, match="more than 10,000 documents"):
        documents("---\na: 1\n" * 10_001)


@pytest.mark.parametrize(
    "text",
    [
        "---\nkind: Pod\nspec: {containers: [{name: c}]}\n" * 5000,
        "- b\n" * 1_000_000,
        "{" * 1_000_000,
        "? " * 1_000_000,
        "a: " + "x" * 4_000_000,
        "&a " * 500_000,
        "a: 1\n" * 1_000_000,
        "'" + "\n" * 1_000_000,
        "a: >\n" + " \n" * 1_000_000,
        "{{" * 1_000_000,
    ],
    ids=range(10),
)
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    documents(text)
    assert time.process_time() - started < 5


# fmt: off
PIECES = st.sampled_from([
    "a", ": ", "\n", "- ", "  ", "{", "}", "[", "]", "&a ", "*a", "'", '"', "|", "---\n", "!!", ",",
    "<<: ", "#", "\t", "%", "1", "0x", "~", "? ", "...\n", "é", "\u2028", "\0", ">-\n", "@", "`",
])
# fmt: on


@given(st.lists(PIECES, max_size=40).map("".join))
def test_whatever_is_written_is_a_value_or_one_line(text: str) -> None:
    for one in documents(text):
        if one.error is not None:
            assert "\n" not in str(one.error)
            assert str(one.error).startswith("f.yaml:")
        else:
            assert all(line >= 1 for line in lines_of(one.value).values())
