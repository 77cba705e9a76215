"""What the library lacks of what it knows."""

from attacks import library
from evaluator.coverage import coverage, missing_siblings


def test_siblings_that_a_family_lacks_are_named() -> None:
    whole = library.load_families()["create-directory"].default
    alone = whole.only(["create-directory/mkdir"])
    assert missing_siblings([alone]) == {"create-directory": ("mkdirat",)}
    assert "mkdirat" not in missing_siblings([whole]).get("create-directory", ())


def test_calls_are_counted_by_table() -> None:
    alone = library.load_families()["create-directory"].default.only(["create-directory/mkdir"])
    native, i386, *_ = coverage([alone])
    assert native.used == {"mkdir": 1}
    assert "mkdirat" in native.unused
    assert not i386.used
