"""One JSON object of a profile, read key by key with the types that runtimes insist on."""

from collections.abc import Sequence
from typing import Any

from mitigations.candidate import Finding, ProfileError
from mitigations.strict_json import JsonObject, is_list, join, kind
from mitigations.suggestion import did_you_mean

UINT64 = (1 << 64) - 1
MOST_FINDINGS = 1000


class Section:
    """Keys are matched as Go's decoder does: exactly, else without regard to case; null is unset.

    Keys outside `known` are ignored by every runtime; they become findings.
    """

    def __init__(
        self, value: object, where: str, known: Sequence[str], findings: list[Finding]
    ) -> None:
        if not isinstance(value, JsonObject):
            raise wrong_type("an object", value, where)
        self.where = where
        self.findings = findings
        self._values: dict[str, Any] = {}
        by_fold = {key.casefold(): key for key in known}
        for key, child in value.items():
            name = by_fold.get(key.casefold())
            if name is None:
                self._note_unknown(key, known)
                continue
            if name != key:
                message = f"read as {name!r} by Go runtimes, ignored by others: write it exactly"
                findings.append(Finding("key-case", message, join(where, key)))
            if name in self._values:
                raise ProfileError("key given twice", join(where, key), "duplicate-key")
            self._values[name] = child

    def _note_unknown(self, key: str, known: Sequence[str]) -> None:
        if len(self.findings) > MOST_FINDINGS:
            message = "so much in it is unknown that it can hardly be a profile"
            raise ProfileError(message, self.where, "not-a-profile")
        message = f"unknown key, ignored by runtimes{did_you_mean(key, known)}"
        self.findings.append(Finding("unknown-key", message, join(self.where, key)))

    def path(self, key: str) -> str:
        return join(self.where, key)

    def has(self, key: str) -> bool:
        return self._values.get(key) is not None

    def text(self, key: str) -> str:
        return text(self._values.get(key), self.path(key))

    def number(self, key: str, maximum: int, code: str = "number-out-of-range") -> int | None:
        value: object = self._values.get(key)
        if value is None:
            return None
        if type(value) is not int:
            raise wrong_type("an integer", value, self.path(key))
        if not 0 <= value <= maximum:
            raise ProfileError(f"{value} is not within 0..{maximum}", self.path(key), code)
        return value

    def items(self, key: str) -> list[tuple[Any, str]]:
        """Each element of an array with its path."""
        value: object = self._values.get(key)
        if value is None:
            return []
        if not is_list(value):
            raise wrong_type("an array", value, self.path(key))
        return [(item, f"{self.path(key)}[{index}]") for index, item in enumerate(value)]

    def texts(self, key: str) -> list[tuple[str, str]]:
        return [(text(item, where), where) for item, where in self.items(key)]

    def section(self, key: str, known: Sequence[str]) -> "Section":
        value: object = self._values.get(key)
        empty = JsonObject() if value is None else value
        return Section(empty, self.path(key), known, self.findings)

    def sections(self, key: str, known: Sequence[str]) -> list["Section"]:
        return [Section(item, where, known, self.findings) for item, where in self.items(key)]


def text(value: object, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong_type("a string", value, where)
    return value


def wrong_type(expected: str, value: object, where: str) -> ProfileError:
    return ProfileError(f"expected {expected}, found {kind(value)}", where, "wrong-type")
