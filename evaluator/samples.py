"""Answers to scenarios as somebody stored them: lines of ``samples.jsonl``, or a tree of files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from evaluator.errors import InputError
from evaluator.scenarios import scenario, scenarios
from mitigations.generate.reply import Status, Usage

KNOWN = "known"
"""The strategy of answers that need no model; no sample may claim it."""
_LARGEST_LINE = 4 * 1024 * 1024


class Sample(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer, or why there is none.  A line of ``samples.jsonl`` is one of these as JSON."""

    scenario: Annotated[str, Meta(min_length=1)]
    model: Annotated[str, Meta(min_length=1)]
    sample: Annotated[int, Meta(ge=0)] = 0
    """Its number among those of the same request."""
    strategy: str = "single"
    level: str = "effect"
    status: Status = Status.OK
    mitigation: str | None = None
    """The text of the answer, whatever it is; ``path`` may name a file instead."""
    path: str | None = None
    """Relative to the file that holds the line."""
    declined: bool = False
    """The answer is that no mitigation of the kind that is asked for can do it."""
    usage: Usage = Usage()
    why: str = ""
    """In one line, where the status is not ``ok``."""
    answered_by: str = ""
    """The model as the provider named it."""
    stop_reason: str = ""
    prompt: str = ""
    """The version of the prompts."""
    requests: tuple[str, ...] = ()
    """Digests of what was asked, as the store of answers names them."""
    source: str = ""
    """Where it stands, for messages."""

    @property
    def key(self) -> tuple[object, ...]:
        """No two samples have the same."""
        return self.scenario, *self.arm, self.sample

    @property
    def arm(self) -> tuple[str, str, str]:
        """What is compared: model, strategy and level."""
        return self.model, self.strategy, self.level


def read_samples(path: Path) -> list[Sample]:
    """The samples of a ``*.jsonl`` file, or of a tree ``MODEL/SCENARIO/SAMPLE.ext``.

    ``InputError`` with the line or the file if one of them is malformed, names a scenario that is
    not there, or is there twice.
    """
    try:
        found = list(_tree(path) if path.is_dir() else _lines(path))
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot read: {error.strerror}") from None
    if not found:
        raise InputError(f"{path}: holds no sample")
    taken: dict[tuple[object, ...], str] = {}
    for one in found:
        if one.key in taken:
            raise InputError(f"{one.source}: is the same sample as {taken[one.key]}")
        taken[one.key] = one.source
    return found


def added(path: Path, new: Iterable[Sample]) -> list[Sample]:
    """The samples of a file, if it is there, with new ones in the place of the same, or at the end.

    No answer takes the place of one.
    """
    is_new = not path.exists() or not path.stat().st_size
    found = {} if is_new else {one.key: one for one in read_samples(path)}
    for one in new:
        if one.status is not Status.API_ERROR or one.key not in found:
            found[one.key] = one
    return list(found.values())


def _lines(path: Path) -> Iterator[Sample]:
    _refuse_what_never_ends(path)
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LARGEST_LINE + 1):
            number += 1
            where = f"{path}:{number}"
            if len(line) > _LARGEST_LINE:
                raise InputError(f"{where}: longer than {_LARGEST_LINE >> 20} MiB")
            if line.strip():
                yield _with_text(_decoded(line, where), path.parent)


def _decoded(line: bytes, where: str) -> Sample:
    try:
        one = msgspec.json.decode(line, type=Sample)
        scenario(one.scenario)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{where}: {error}") from None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if one.strategy == KNOWN:
        raise InputError(f"{where}: strategy {KNOWN!r} is that of the answers that need no model")
    if one.mitigation is not None and one.path is not None:
        raise InputError(f"{where}: mitigation and path: give one of them")
    if one.status is Status.OK and one.declined is _has_text(one):
        said = "declined, and a mitigation" if one.declined else "neither mitigation nor path"
        raise InputError(f"{where}: status ok, and {said}")
    if one.status is not Status.OK and one.declined:
        raise InputError(f"{where}: status {one.status}, and declined: only an answer declines")
    return msgspec.structs.replace(one, source=where)


def _has_text(one: Sample) -> bool:
    return one.mitigation is not None or one.path is not None


def _with_text(one: Sample, directory: Path) -> Sample:
    if one.path is None:
        return one
    try:
        return msgspec.structs.replace(one, mitigation=_text(directory / one.path))
    except ValueError:
        raise InputError(f"{one.source}: path: a null character is in no path") from None
    except InputError as error:
        raise InputError(f"{one.source}: {error}") from None


def _refuse_what_never_ends(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a regular file")


def _text(path: Path) -> str:
    """What a file says, whatever it is; one that is too large is cut, and will be too large."""
    _refuse_what_never_ends(path)
    with path.open("rb") as file:
        return file.read(_LARGEST_LINE).decode("utf-8", errors="replace")


def _tree(root: Path) -> Iterator[Sample]:
    """``MODEL/SCENARIO/SAMPLE.ext``; the samples are numbered in the order of their names."""
    known = {one.name for one in scenarios()}
    folders = [folder for model in _entries(root) for folder in _entries(model)]
    if not any(one.name in known and one.is_dir() for one in folders):
        raise InputError(
            f"{root}: no tree MODEL/SCENARIO/SAMPLE.json, so nothing says what is to be held: "
            "name it with --objective or --family"
        )
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: belongs into a directory with the name of its scenario")
        try:
            scenario(folder.name)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
        for number, file in enumerate(one for one in _entries(folder) if one.is_file()):
            yield Sample(
                scenario=folder.name,
                model=folder.parent.name,
                sample=number,
                mitigation=_text(file),
                source=str(file),
            )


def _entries(path: Path) -> list[Path]:
    """What is in a directory and not hidden, by name; nothing if it is none."""
    return sorted(one for one in path.iterdir() if one.name[0] != ".") if path.is_dir() else []


def line(one: Sample) -> str:
    """One line of ``samples.jsonl``: without what is empty, with the text wherever it came from."""
    fields: dict[str, object] = msgspec.to_builtins(
        msgspec.structs.replace(one, path=None, source="")
    )
    filled = {name: value for name, value in fields.items() if value not in ("", None)}
    return msgspec.json.encode(filled).decode()


def schema() -> str:
    """The JSON Schema of a line."""
    return json.dumps(msgspec.json.schema(Sample), indent=2)
