"""The syntax of unit files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitigations.candidate import ProfileError
from mitigations.unit_file import parse, words


def read(text: str) -> list[tuple[str, str, str, str]]:
    return [
        (one.section, one.key, one.value, one.where)
        for one in parse(text.encode(), "f").assignments
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("  A =  b c  ", "b c"),
        ("A=b \\\nc", "b  c"),
        ("A=b\\\n   c\\\nd", "b    c d"),
        ("A=b \\\n# said\n  ; as well\nc", "b  c"),
        ("A=b \\\n\nB=c", "b"),
        ("A=b\\\\\nB=c", "b\\\\"),
        ("A=b\\\\\\\nc", "b\\\\ c"),
        ("A=b=c", "b=c"),
        ("A=b \\", "b"),
        ("A=", ""),
        ("A=b # no comment", "b # no comment"),
        ("A=b\r\n\r\n", "b"),
    ],
)
def test_value_of_a_line(text: str, value: str) -> None:
    assert read(f"[S]\n{text}")[0] == ("S", "A", value, "f:2")


def test_continued_line_is_where_it_begins() -> None:
    assert [one[3] for one in read("\n[S]\n\nA=b \\\n#\nc\nB=d\n")] == ["f:4", "f:7"]


def test_a_file_may_begin_with_a_byte_order_mark() -> None:
    assert read("\ufeff[S]\nA=b")[0][:3] == ("S", "A", "b")


@pytest.mark.parametrize("line", ["nothing", "=b", "A"])
def test_line_that_is_no_assignment_is_ignored_and_said(line: str) -> None:
    found = parse(f"[S]\n{line}\nB=c\n".encode(), "f")
    assert [one.key for one in found.assignments] == ["B"]
    assert [(one.code, one.where) for one in found.findings] == [("ignored-line", "f:2")]


@pytest.mark.parametrize("header", ["[S", "[S]x", '["S"]', "[a\\b]", "["])
def test_bad_header_is_refused(header: str) -> None:
    with pytest.raises(ProfileError, match=r"f:2: invalid section header"):
        parse(f"\n{header}\n".encode(), "f")


@pytest.mark.parametrize(
    ("value", "unquoted", "as_it_is"),
    [
        ("a  b\tc", ("a", "b", "c"), ("a", "b", "c")),
        ("'a b' c", ("a b", "c"), ("'a", "b'", "c")),
        ('a"b c"d', ("ab cd",), ('a"b', 'c"d')),
        (r"a\ b c\\", ("a b", "c\\"), ("a b", "c\\")),
        ("''", ("",), ("''",)),
        ("", (), ()),
    ],
)
def test_words_of_a_value(value: str, unquoted: tuple[str, ...], as_it_is: tuple[str, ...]) -> None:
    assert words(value, unquote=True) == (unquoted, True)
    assert words(value, unquote=False) == (as_it_is, True)


@pytest.mark.parametrize("rest", ["'c d", '"c', "c\\"])
def test_what_does_not_end_is_left_out(rest: str) -> None:
    assert words(f"a b {rest}", unquote=True) == (("a", "b"), False)


_KEY = st.text("ABCabc019-", min_size=1)
_VALUE = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="\\")
)


@given(st.lists(st.tuples(_KEY, st.lists(_VALUE.filter(bool)))))
def test_what_is_written_is_read(pairs: list[tuple[str, list[str]]]) -> None:
    text = "".join(f"{key} = {' '.join(value)}\n" for key, value in pairs)
    found = [(key, value) for _, key, value, _ in read(f"[S]\n{text}")]
    assert found == [(key, " ".join(value)) for key, value in pairs]


@given(st.lists(_VALUE.filter(lambda one: one[:1] not in ("", "#", ";")), min_size=1))
def test_a_continued_line_is_one_line(parts: list[str]) -> None:
    continued = read("[S]\nA=" + "\\\n".join(parts))
    assert continued == read("[S]\nA=" + " ".join(parts))


@given(st.lists(st.text(min_size=1).filter(lambda one: "\\" not in one and "'" not in one)))
def test_quoted_words_are_words_again(parts: list[str]) -> None:
    assert words(" ".join(f"'{one}'" for one in parts), unquote=True) == (tuple(parts), True)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_unit_or_one_line(content: bytes) -> None:
    try:
        parse(content, "f")
    except ProfileError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right
