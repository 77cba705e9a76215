"""Landlock rulesets in JSON and TOML, as landlockconfig defines them.

JSON has camelCase keys, TOML the same in snake_case: ``abi``, ``variable``, ``ruleset``,
``pathBeneath``, ``netPort``.  What a rule allows is handled as well; a path that cannot be opened
has no rule; rights by group (``abi.all``) are those of the ABI that the file names.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from mitigations.candidate import Finding, LandlockLayer, ProfileError
from mitigations.landlock_rights import (
    FS,
    NET,
    NEWEST_ABI,
    SCOPE,
    Right,
    denies,
    everything,
    reading,
)
from mitigations.strict_json import is_list, is_table, join, kind
from mitigations.suggestion import did_you_mean, quote

_TOP = ("abi", "variable", "ruleset", "pathBeneath", "netPort")
_NEEDED = ("variable", "ruleset", "pathBeneath", "netPort")
_HANDLED = {"handledAccessFs": FS, "handledAccessNet": NET, "scoped": SCOPE}
_PATH = ("allowedAccess", "parent")
_PORT = ("allowedAccess", "port")
_VARIABLE = ("name", "literal")
_LARGEST_ABI = (1 << 31) - 1
_LARGEST_PORT = 65535
_MOST_RULES = 1000
_LONGEST_PATH = 239
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_TOKEN = re.compile(r"\$\$|\$\{([^}]*)(\}?)")
_ALL = "abi.all"
_READ_EXECUTE, _READ_WRITE = "abi.read_execute", "abi.read_write"


class Reading(Struct, frozen=True):
    """A ruleset, and what is odd about it."""

    layer: LandlockLayer
    findings: tuple[Finding, ...]


def is_landlock(document: object) -> bool:
    """Whether it can be meant for nothing else."""
    if not is_table(document):
        return False
    return not _FOREIGN.isdisjoint(document) and not {"syscalls", "layer"} & set(document)


_FOREIGN = {"ruleset", "pathBeneath", "netPort", "path_beneath", "net_port"}


def in_json(key: str) -> str:
    """Keys as JSON has them."""
    return key


def in_toml(key: str) -> str:
    """Keys as TOML has them: ``path_beneath``."""
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", key)


def read(document: object, spelled: Callable[[str], str], where: str = "") -> Reading:
    """The ruleset of a document; ``spelled`` is ``in_json`` or ``in_toml``.

    ``ProfileError`` for what landlockconfig would refuse, or no kernel could do.
    """
    return _Reader(spelled, where).read(document)


class _Reader:
    """One document."""

    def __init__(self, spelled: Callable[[str], str], where: str) -> None:
        self._spelled = spelled
        self._where = where
        self._abi: int | None = None
        self._findings: list[Finding] = []

    def read(self, document: object) -> Reading:
        top = self._table(document, _TOP, self._where)
        if not any(key in top for key in _NEEDED):
            keys = ", ".join(map(self._spelled, _NEEDED))
            raise ProfileError(f"no ruleset in it: one of {keys} is needed", self._where, "empty")
        self._abi = self._read_abi(top)
        variables = self._variables(top)
        handled = dict.fromkeys(_HANDLED, 0)
        for table, where in self._tables(top, "ruleset", tuple(_HANDLED), self._where):
            if not table:
                raise ProfileError("an empty ruleset", where, "empty")
            for key in table:
                handled[key] |= self._rights(table, key, where, _HANDLED[key])
        paths: dict[str, int] = {}
        for table, where in self._tables(top, "pathBeneath", _PATH, self._where):
            access = self._rights(table, "allowedAccess", where, FS)
            handled["handledAccessFs"] |= access
            for path in self._paths(table, where, variables):
                paths[path] = paths.get(path, 0) | access
        ports: dict[int, int] = {}
        for table, where in self._tables(top, "netPort", _PORT, self._where):
            access = self._rights(table, "allowedAccess", where, NET)
            handled["handledAccessNet"] |= access
            for port in self._ports(table, where):
                ports[port] = ports.get(port, 0) | access
        if len(paths) + len(ports) > _MOST_RULES:
            raise ProfileError(
                f"{len(paths) + len(ports)} rules are too many (limit {_MOST_RULES})",
                self._where,
                "too-many-rules",
            )
        layer = LandlockLayer(
            handled["handledAccessFs"],
            handled["handledAccessNet"],
            handled["scoped"],
            tuple((path, access) for path, access in sorted(paths.items()) if access),
            tuple((port, access) for port, access in sorted(ports.items()) if access),
        )
        self._note_unhandled(layer)
        return Reading(layer, tuple(self._findings))

    # ------------------------------------------------------------------ rights

    def _read_abi(self, top: Mapping[str, Any]) -> int | None:
        value = top.get("abi")
        if value is None:
            return None
        where = join(self._where, self._spelled("abi"))
        if type(value) is not int:
            raise ProfileError(f"expected an integer, found {kind(value)}", where, "wrong-type")
        if not 1 <= value <= _LARGEST_ABI:
            raise ProfileError(f"{value} is no ABI of Landlock", where, "number-out-of-range")
        if value > NEWEST_ABI:
            message = f"ABI {value} is read as {NEWEST_ABI}, the newest that is known here"
            self._findings.append(Finding("unknown-abi", message, where))
        return min(value, NEWEST_ABI)

    def _rights(
        self, table: Mapping[str, Any], key: str, where: str, rights: Mapping[str, Right]
    ) -> int:
        found = 0
        for word, at in self._texts(table, key, where):
            found |= self._right(word, rights, at)
        return found

    def _right(self, word: str, rights: Mapping[str, Right], where: str) -> int:
        if word in rights:
            return rights[word].bit
        groups = (_ALL, _READ_EXECUTE, _READ_WRITE) if rights is FS else (_ALL,)
        if word not in groups:
            hint = did_you_mean(word, (*rights, *groups))
            raise ProfileError(f"unknown access right {quote(word)}{hint}", where, "unknown-right")
        if self._abi is None:
            raise ProfileError(
                f"{word!r} means the rights of an ABI, and the file names none: add `abi`",
                where,
                "no-abi",
            )
        every = everything(rights, self._abi)
        if word == _READ_EXECUTE:
            return reading(self._abi) | every & FS["refer"].bit
        return every & ~FS["execute"].bit if word == _READ_WRITE else every

    def _note_unhandled(self, layer: LandlockLayer) -> None:
        """Rights of the ABI that no rule is needed for."""
        abi = self._abi or NEWEST_ABI
        whole = LandlockLayer(everything(FS, abi), everything(NET, abi), everything(SCOPE, abi))
        handled = set(denies(layer))
        free = [name for name in denies(whole) if name not in handled]
        if layer.handled_fs:  # landlock(7): then it is denied even if it is not handled
            free = [name for name in free if name != "refer"]
        if not handled:
            message = "it denies nothing: no access right is handled"
            self._findings.append(Finding("nothing-handled", message, self._where))
        elif free:
            message = f"not handled, so allowed everywhere: {', '.join(free)}"
            self._findings.append(Finding("rights-not-handled", message, self._where))

    # ------------------------------------------------------------------ paths and ports

    def _variables(self, top: Mapping[str, Any]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for table, where in self._tables(top, "variable", _VARIABLE, self._where):
            name = table.get("name")
            at = join(where, "name")
            if not isinstance(name, str):
                raise ProfileError(f"expected a string, found {kind(name)}", at, "wrong-type")
            self._check_name(name, at)
            values = self._texts(table, "literal", where) if "literal" in table else ()
            found.setdefault(name, set()).update(value for value, _ in values)
        return found

    def _check_name(self, name: str, where: str) -> None:
        if not _NAME.fullmatch(name):
            raise ProfileError(
                f"{quote(name)} is no name of a variable: a letter, then letters, digits and _",
                where,
                "bad-variable",
            )

    def _paths(
        self, table: Mapping[str, Any], where: str, variables: Mapping[str, set[str]]
    ) -> Iterator[str]:
        for template, at in self._texts(table, "parent", where):
            for count, path in enumerate(self._resolved(template, at, variables)):
                if count > _MOST_RULES:
                    raise ProfileError(
                        f"more than {_MOST_RULES} paths of one", at, "too-many-rules"
                    )
                yield self._checked(path, at)

    def _resolved(
        self, template: str, where: str, variables: Mapping[str, set[str]]
    ) -> Iterator[str]:
        """A path for each combination of what its variables may be."""
        parts: list[Sequence[str]] = []
        end = 0
        for found in _TOKEN.finditer(template):
            parts.append((template[end : found.start()],))
            end = found.end()
            if found[0] == "$$":
                parts.append(("$",))
                continue
            if not found[2]:
                raise ProfileError("a variable without its }", where, "bad-variable")
            self._check_name(found[1], where)
            if found[1] not in variables:
                hint = did_you_mean(found[1], variables)
                message = f"unknown variable {quote(found[1])}{hint}"
                raise ProfileError(message, where, "unknown-variable")
            parts.append(sorted(variables[found[1]]))
        parts.append((template[end:],))
        return map("".join, itertools.product(*parts))

    def _checked(self, path: str, where: str) -> str:
        if not path or "\0" in path:
            raise ProfileError(f"{quote(path)} is no path", where, "bad-path")
        if len(path.encode(errors="surrogateescape")) > _LONGEST_PATH:
            raise ProfileError(
                f"a path of more than {_LONGEST_PATH} bytes: the sandbox takes no longer one",
                where,
                "bad-path",
            )
        if not path.startswith("/"):
            message = "relative: whoever starts the program decides where that is; /work here"
            self._findings.append(Finding("relative-path", message, where))
        return path

    def _ports(self, table: Mapping[str, Any], where: str) -> Iterator[int]:
        for value, at in self._items(table, "port", where):
            if type(value) is not int:
                raise ProfileError(f"expected a port, found {kind(value)}", at, "wrong-type")
            if not 0 <= value <= _LARGEST_PORT:
                raise ProfileError(
                    f"{value} is not within 0..{_LARGEST_PORT}", at, "number-out-of-range"
                )
            yield value

    # ------------------------------------------------------------------ shapes

    def _table(self, value: object, known: Sequence[str], where: str) -> dict[str, Any]:
        """A table by the keys that JSON has."""
        if not is_table(value):
            raise ProfileError(f"expected a table, found {kind(value)}", where, "wrong-type")
        by_spelling = {self._spelled(key): key for key in known}
        for key in value:
            if key not in by_spelling:
                hint = did_you_mean(key, by_spelling)
                at = join(where, key)
                raise ProfileError(f"unknown key{hint}", at, "unknown-key")
        return {by_spelling[key]: child for key, child in value.items()}

    def _tables(
        self, top: Mapping[str, Any], key: str, known: Sequence[str], where: str
    ) -> Iterator[tuple[dict[str, Any], str]]:
        if key in top:
            for value, at in self._items(top, key, where):
                yield self._table(value, known, at), at

    def _items(self, table: Mapping[str, Any], key: str, where: str) -> list[tuple[Any, str]]:
        at = join(where, self._spelled(key))
        if key not in table:
            raise ProfileError("missing", at, "missing-key")
        value = table[key]
        if not is_list(value):
            raise ProfileError(f"expected an array, found {kind(value)}", at, "wrong-type")
        if not value:
            raise ProfileError("an empty array", at, "empty")
        return [(item, f"{at}[{index}]") for index, item in enumerate(value)]

    def _texts(self, table: Mapping[str, Any], key: str, where: str) -> list[tuple[str, str]]:
        found = self._items(table, key, where)
        for value, at in found:
            if not isinstance(value, str):
                raise ProfileError(f"expected a string, found {kind(value)}", at, "wrong-type")
        return found
