"""Layered candidates: a TOML that stacks layers, so that several mitigations are one.

``name``, ``intent``, ``attachment``, ``posture`` and a ``[[layer]]`` for each layer.  In whatever
order they stand, they are put on as the kernel can take them: capabilities, no_new_privs, rulesets,
filters.  Files are named relative to this one and lie beside or below it; none of them can be a
layered candidate itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from mitigations import apparmor, capabilities, landlock, strict_json, toml_document
from mitigations.candidate import (
    AppArmorLayer,
    Attachment,
    Candidate,
    CapabilitiesLayer,
    Finding,
    LandlockLayer,
    Layer,
    NoNewPrivsLayer,
    OwnPosture,
    ProfileError,
    ReadOnlyRootLayer,
    SeccompLayer,
)
from mitigations.oci import DOCKER_CAPABILITIES
from mitigations.strict_json import is_list, is_table, join, kind
from mitigations.suggestion import did_you_mean, quote
from mitigations.toml_document import refuse_unknown

POSTURES = {
    "container": DOCKER_CAPABILITIES,
    "restricted": frozenset[str](),
    "root": frozenset(capabilities.CAPABILITIES),
}
"""What each posture that has a name may do."""
_TOP = ("name", "intent", "attachment", "posture", "layer")
_POSTURE = ("uid", "gid", "capabilities", "no_new_privs")
_LANDLOCK = ("abi", "variable", "ruleset", "path_beneath", "net_port")
_KEYS = {
    SeccompLayer.kind: ("file",),
    NoNewPrivsLayer.kind: (),
    LandlockLayer.kind: ("file", *_LANDLOCK),
    CapabilitiesLayer.kind: ("keep", "drop"),
    AppArmorLayer.kind: ("file", "profile"),
    ReadOnlyRootLayer.kind: ("writable",),
}
_LARGEST_ID = (1 << 32) - 2

LoadFilter = Callable[[Path, frozenset[str]], Candidate]
"""A seccomp profile of a file, for a container that is left with these capabilities."""


class _Seen(Struct):
    """What the layers have come to so far."""

    layers: list[Layer]
    findings: list[Finding]
    filters: Candidate | None = None


def is_layered(document: object) -> bool:
    return isinstance(document, dict) and "layer" in document


def read(
    path: Path, document: dict[str, Any], usual: frozenset[str], load_filter: LoadFilter
) -> Candidate:
    """The candidate of a document that stands in ``path``.

    ``usual`` are the capabilities of a posture that the user chooses.  ``ProfileError`` says which
    key is wrong, and in which of several files.
    """
    refuse_unknown(document, _TOP, "")
    name = _text(document, "name", "") or path.stem
    posture = _posture(document.get("posture"), name)
    own = posture.capabilities if isinstance(posture, OwnPosture) else POSTURES.get(posture or "")
    tables = _tables(document)
    left = _left(tables, usual if own is None else own)
    seen = _Seen([], [])
    for table, where in tables:
        _add(seen, table, where, path.parent, left, load_filter)
    rulesets = any(isinstance(one, LandlockLayer) for one in seen.layers)
    if rulesets and not any(isinstance(one, NoNewPrivsLayer) for one in seen.layers):
        seen.layers.insert(0, NoNewPrivsLayer())
    filters = seen.filters
    return Candidate(
        name=name,
        source=str(path),
        layers=tuple(seen.layers),
        attachment=_attachment(document, filters),
        meaning="layered",
        runtime_model=filters.runtime_model if filters else "",
        posture=posture,
        default_action=filters.default_action if filters else "",
        intent=_text(document, "intent", ""),
        profile=filters.profile if filters else None,
        warnings=tuple(seen.findings),
    )


def files(path: Path, document: dict[str, Any]) -> list[Path]:
    """Those that the layers of a document in ``path`` name; ``ProfileError`` as ``read``."""
    tables = _tables(document)
    return [_file(table, where, path.parent) for table, where in tables if "file" in table]


def _attachment(document: dict[str, Any], filters: Candidate | None) -> Attachment:
    word = _text(document, "attachment", "")
    if not word:
        return filters.attachment if filters else Attachment.RUNTIME
    if word not in tuple(Attachment):
        hint = did_you_mean(word, tuple(Attachment))
        message = f"unknown attachment {quote(word)}{hint}: runtime or self"
        raise ProfileError(message, "attachment", "unknown-attachment")
    return Attachment(word)


def _posture(value: object, name: str) -> str | OwnPosture | None:
    """A name, or a table that says what it is."""
    if value is None:
        return None
    if isinstance(value, str):
        if value not in POSTURES:
            hint = did_you_mean(value, POSTURES)
            message = f"unknown posture {quote(value)}{hint}: one of {', '.join(POSTURES)}"
            raise ProfileError(message, "posture", "unknown-posture")
        return value
    table = _table(value, "posture")
    refuse_unknown(table, _POSTURE, "posture")
    uid, gid = (_id(table, key) for key in ("uid", "gid"))
    nnp = table.get("no_new_privs", False)
    if not isinstance(nnp, bool):
        raise _wrong("true or false", nnp, "posture.no_new_privs")
    has = _capabilities(table, "capabilities", "posture") if "capabilities" in table else None
    return OwnPosture(
        f"of {name}", uid, gid, DOCKER_CAPABILITIES if has is None else has, no_new_privs=nnp
    )


def _id(table: dict[str, Any], key: str) -> int:
    value = table.get(key, 0)
    if type(value) is not int:
        raise _wrong("an integer", value, f"posture.{key}")
    if not 0 <= value <= _LARGEST_ID:
        raise ProfileError(f"{value} is no id", f"posture.{key}", "number-out-of-range")
    return value


# ---------------------------------------------------------------------------------------- layers


def _tables(document: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    value: object = document["layer"]
    if not is_list(value) or not value:
        raise ProfileError("expected at least one [[layer]]", "layer", "empty")
    found: list[tuple[dict[str, Any], str]] = []
    for index, item in enumerate(value):
        where = f"layer[{index}]"
        table = _table(item, where)
        word = table.get("kind")
        if not isinstance(word, str) or word not in _KEYS:
            hint = did_you_mean(word, _KEYS) if isinstance(word, str) else ""
            message = f"`kind` must be one of {', '.join(_KEYS)}{hint}"
            raise ProfileError(message, f"{where}.kind", "unknown-layer")
        refuse_unknown(table, ("kind", *_KEYS[word]), where)
        found.append((table, where))
    return found


def _left(tables: Sequence[tuple[dict[str, Any], str]], usual: frozenset[str]) -> frozenset[str]:
    """What all layers of capabilities leave of those of the posture."""
    for table, where in tables:
        if table["kind"] == CapabilitiesLayer.kind:
            usual &= _kept(table, where)
    return usual


def _add(
    seen: _Seen,
    table: dict[str, Any],
    where: str,
    folder: Path,
    left: frozenset[str],
    load_filter: LoadFilter,
) -> None:
    match table["kind"]:
        case SeccompLayer.kind:
            _add_filters(seen, _file(table, where, folder), where, left, load_filter)
        case LandlockLayer.kind:
            found = _landlock(table, where, folder)
            seen.layers.append(found.layer)
            seen.findings += found.findings
        case CapabilitiesLayer.kind:
            seen.layers.append(CapabilitiesLayer(_kept(table, where)))
        case AppArmorLayer.kind:
            layer, findings = _apparmor(table, where, folder)
            seen.layers.append(layer)
            seen.findings += findings
        case ReadOnlyRootLayer.kind:
            seen.layers.append(ReadOnlyRootLayer(_writable(table, where)))
        case _:
            seen.layers.append(NoNewPrivsLayer())


def _add_filters(
    seen: _Seen, file: Path, where: str, left: frozenset[str], load_filter: LoadFilter
) -> None:
    with _named(file, where):
        found = load_filter(file, left)
    if not all(isinstance(one, SeccompLayer | NoNewPrivsLayer) for one in found.layers):
        message = f"{file.name} is no seccomp profile: give it a layer of its own kind"
        raise ProfileError(message, f"{where}.file", "wrong-layer")
    seen.layers += found.layers
    prefix = f"{file.name}: "
    seen.findings += [
        Finding(one.code, one.message, prefix + one.where, one.witness) for one in found.warnings
    ]
    # Of several profiles none is what the filters were made of.
    several = seen.filters is not None
    seen.filters = _without_source(found) if several else found


def _without_source(found: Candidate) -> Candidate:
    return replace(found, profile=None, default_action="")


def _landlock(table: dict[str, Any], where: str, folder: Path) -> landlock.Reading:
    inline = {key: value for key, value in table.items() if key in _LANDLOCK}
    if inline and "file" in table:
        message = "a file, or the ruleset itself, and not both"
        raise ProfileError(message, f"{where}.file", "two-rulesets")
    if "file" not in table:
        return landlock.read(inline, landlock.in_toml, where)
    file = _file(table, where, folder)
    with _named(file, where):
        return read_landlock(file)


def read_landlock(file: Path) -> landlock.Reading:
    """The ruleset of a file in JSON or TOML."""
    content = strict_json.read_limited(file)
    if file.suffix != ".toml":
        return landlock.read(strict_json.parse(content), landlock.in_json)
    with toml_document.lines_of(content):
        found = landlock.read(toml_document.parse(content), landlock.in_toml)
    return landlock.Reading(found.layer, toml_document.with_lines(content, found.findings))


def _kept(table: dict[str, Any], where: str) -> frozenset[str]:
    if ("keep" in table) == ("drop" in table):
        message = "either `keep`, what is left, or `drop`, what is taken away"
        raise ProfileError(message, where, "keep-or-drop")
    if "keep" in table:
        return _capabilities(table, "keep", where)
    return frozenset(capabilities.CAPABILITIES) - _capabilities(table, "drop", where)


def _capabilities(table: dict[str, Any], key: str, where: str) -> frozenset[str]:
    words = _texts(table, key, where)
    return frozenset(one for word, at in words for one in capabilities.named(word, at))


def _apparmor(
    table: dict[str, Any], where: str, folder: Path
) -> tuple[AppArmorLayer, list[Finding]]:
    if ("file" in table) == ("profile" in table):
        message = "either `file`, with the profile, or `profile`, the name of a loaded one"
        raise ProfileError(message, where, "file-or-profile")
    if "profile" in table:
        return AppArmorLayer(_text(table, "profile", where)), []
    file = _file(table, where, folder)
    with _named(file, where):
        layer, findings = apparmor.read(strict_json.read_limited(file))
    return layer, [replace(one, where=f"{file.name}: {one.where}") for one in findings]


def _writable(table: dict[str, Any], where: str) -> tuple[str, ...]:
    words = _texts(table, "writable", where) if "writable" in table else []
    for path, at in words:
        if not path.startswith("/"):
            raise ProfileError(f"{quote(path)} is no absolute path", at, "bad-path")
        if not path.strip("/"):
            raise ProfileError("all would be writable: leave the layer out", at, "bad-path")
    return tuple(path for path, _ in words)


# ----------------------------------------------------------------------------------------- files


@contextmanager
def _named(file: Path, where: str) -> Generator[None]:
    """Errors raised inside are about another file: they say which."""
    try:
        yield
    except ProfileError as error:
        raise ProfileError(f"{file.name}: {error}", f"{where}.file", error.code) from None


def _file(table: dict[str, Any], where: str, folder: Path) -> Path:
    """A file beside or below the layered one."""
    at = f"{where}.file"
    given = _text(table, "file", where)
    if not given:
        raise ProfileError("missing", at, "missing-key")
    path = Path(given)
    if path.is_absolute() or ".." in path.parts:
        message = f"{quote(given)} leads out of the directory of this file"
        raise ProfileError(message, at, "outside")
    try:
        inside = (folder / path).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        raise ProfileError(f"{quote(given)} cannot be followed", at, "unreadable") from None
    if not inside:
        raise ProfileError(f"{quote(given)} is a link out of the directory", at, "outside")
    return folder / path


def _table(value: object, where: str) -> dict[str, Any]:
    if not is_table(value):
        raise _wrong("a table", value, where)
    return value


def _text(table: dict[str, Any], key: str, where: str) -> str:
    value: object = table.get(key, "")
    if not isinstance(value, str):
        raise _wrong("a string", value, join(where, key))
    return value


def _texts(table: dict[str, Any], key: str, where: str) -> list[tuple[str, str]]:
    at = join(where, key)
    value: object = table[key]
    if not is_list(value):
        raise _wrong("an array", value, at)
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise _wrong("a string", item, f"{at}[{index}]")
    return [(item, f"{at}[{index}]") for index, item in enumerate(value)]


def _wrong(expected: str, value: object, where: str) -> ProfileError:
    return ProfileError(f"expected {expected}, found {kind(value)}", where, "wrong-type")
