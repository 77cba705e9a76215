"""What a search leaves in a directory: its finds as programs, and what it has tried.

A search that goes on builds the same programs again, which takes no time, and does not run what it
ran before.  What was tried is true of one profile, posture, suite and kernel, and is of no use for
another.
"""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from attacks.jsonform import dumps
from attacks.library import SUITE
from evaluator.errors import InputError
from evaluator.search_records import Find, Limits, Tried
from mitigations.candidate import Candidate, OwnPosture

_FORMAT = "sidestep.search-state/1"
_NAME = "state.json"
_ODD = re.compile(r"[^A-Za-z0-9._~=,\[\]:@-]")
_LONGEST_NAME = 120


class _State(Struct, frozen=True):
    format: str
    of: dict[str, str]
    """What the results are true of."""
    tried: dict[str, Tried]


def basis(candidate: Candidate, posture: str, limits: Limits) -> dict[str, str]:
    """What must be the same for a search to go on, in words."""
    return {
        "profile": candidate.digest,
        "posture": repr(candidate.posture)
        if isinstance(candidate.posture, OwnPosture)
        else candidate.posture or posture,
        "suite": SUITE,
        "kernel": platform.release(),
        "seed": str(limits.seed),
        "beginning": "baseline" if limits.baseline_only else "library",
    }


class Store:
    """One directory; ``tried`` is what is remembered."""

    def __init__(self, directory: Path, of: dict[str, str], *, resume: bool) -> None:
        """Raises ``InputError`` where it holds another search, or none that could go on."""
        self._directory = directory
        self._of = of
        self.tried: dict[str, Tried] = {}
        try:
            if resume:
                self.tried = self._read()
            elif (directory / _NAME).exists():
                raise InputError(
                    f"{directory}: holds a search already; --resume goes on with it, "
                    "or name another directory"
                )
            directory.mkdir(parents=True, exist_ok=True)
            self.save()
        except OSError as error:
            raise InputError(f"{directory}: {error.strerror}") from None

    def _read(self) -> dict[str, Tried]:
        path = self._directory / _NAME
        if not path.is_file():
            raise InputError(f"{path}: there is nothing to resume")
        try:
            state = msgspec.json.decode(path.read_bytes(), type=_State)
        except msgspec.MsgspecError as error:
            raise InputError(f"{path}: no state of a search: {error}") from None
        if state.format != _FORMAT:
            raise InputError(f"{path}: its format is not {_FORMAT}: begin anew elsewhere")
        for name, value in self._of.items():
            old = state.of.get(name, "")
            if old != value:
                raise InputError(
                    f"{path}: is of another {name} ({old}, now {value}): begin anew in another "
                    "directory"
                )
        return state.tried

    def save(self) -> None:
        """Writes what was tried, as a whole or not at all."""
        state = _State(_FORMAT, self._of, self.tried)
        written(self._directory / _NAME, msgspec.json.encode(state))

    def keep(self, find: Find) -> Path:
        """Writes the program of a find, in the form that ``attacks run`` takes."""
        return written(self.file_of(find), dumps(find.program).encode())

    def file_of(self, find: Find) -> Path:
        """Where the program of a find is, or will be."""
        return file_of(self._directory, find.id, find.digest)


def file_of(directory: Path, identity: str, digest: str) -> Path:
    """Where a directory has the program of that id."""
    name = _ODD.sub(".", identity)
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}.{digest}"
    return directory / f"{name}.json"


def written(path: Path, content: bytes) -> Path:
    """The path, once the file is there as a whole; ``InputError`` if it cannot be written."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_bytes(content)
        new.replace(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    return path


def replay_command(file: Path, family: str, under: str, options: Sequence[str]) -> str:
    """The command that runs a find again."""
    words = ["sidestep", "attacks", "run", str(file), "--family", family, "--under", under]
    return shlex.join([*words, *options])
