"""The files of a profile library: what globs stand for, and which candidates a manifest holds."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from mitigations.candidate import ProfileError

SUFFIXES = (".json", ".bpf", ".toml", ".apparmor")
MANIFESTS = (".yaml", ".yml")
_GLOB = re.compile(r"[*?\[]")
_NO_MANIFEST = ("no-pod", "no-kind")


class Files:
    """Those of one library."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._members: dict[str, list[str]] = {}

    def matched(self, pattern: str) -> list[str]:
        """The profiles of a path or a glob, each candidate of a manifest as ``FILE#NAME``.

        ``ValueError`` if it is no glob, ``OSError`` for a directory that it cannot look into,
        ``ProfileError`` for a manifest of which two candidates are called alike.
        """
        if not is_glob(pattern):
            name = Path(pattern).as_posix()
            file, member = self.split(name)
            if not is_there(self._root / file, Path.is_file):
                return []
            members = self._in(file)
            if not member:
                return members or [name]
            return [name] if name in members else []
        _read_directories(self._root, Path(pattern).parts)
        names = [one.relative_to(self._root).as_posix() for one in sorted(self._root.glob(pattern))]
        return [found for name in names for found in self._met(name)]

    def split(self, profile: str) -> tuple[str, str]:
        """The file, and the candidate in it; empty where the file is one."""
        file, mark, member = profile.partition("#")
        if not mark or is_there(self._root / profile, Path.is_file):
            return profile, ""
        return file, member

    def named_like(self, pattern: str) -> list[str]:
        """What might have been meant by a pattern that stands for nothing."""
        file, member = self.split(pattern)
        here = member and is_there(self._root / file, Path.is_file)
        return self._in(file) if here else profiles_below(self._root)

    def _met(self, name: str) -> list[str]:
        """What a glob takes of a file that it met."""
        from mitigations.load import is_own_result

        path = self._root / name
        if not _may_be_file(path):
            return []
        if name.endswith(MANIFESTS):
            return self._in(name, passing_over=True)
        if not name.endswith(SUFFIXES) or is_own_result(path):
            return []
        return self._in(name) or [name]

    def _in(self, file: str, *, passing_over: bool = False) -> list[str]:
        """The candidates of a manifest; none for another file.

        One that cannot be read is a single profile, and a wrong one; what is about something else
        than pods can be passed over.
        """
        if not file.endswith((*MANIFESTS, ".json")):
            return []
        if file not in self._members:
            from mitigations.load import names_in

            try:
                self._members[file] = names_in(self._root / file)
            except ProfileError as error:
                if passing_over and error.code in _NO_MANIFEST:
                    return []
                return [file]
        found = self._members[file]
        for name, count in Counter(found).items():
            if count > 1:
                raise ProfileError(f"{file} holds {count} candidates that are called {name}")
        return [f"{file}#{one}" for one in found]


def is_glob(pattern: str) -> bool:
    return _GLOB.search(pattern) is not None


def is_there(path: Path, test: Callable[[Path], bool]) -> bool:
    """A question about a path; no for a name that no file can have."""
    try:
        return test(path)
    except (OSError, ValueError):
        return False


def _read_directories(directory: Path, parts: Sequence[str]) -> None:
    """Reads every directory that a glob looks into: pathlib is silent on what it cannot read."""
    first, *rest = parts
    if first == "**":
        for _ in os.walk(directory, onerror=_raise):
            pass
    elif not _GLOB.search(first):
        if rest and (directory / first).is_dir():
            _read_directories(directory / first, rest)
    else:
        with os.scandir(directory) as entries:
            inside = [one.name for one in entries if one.is_dir()]
        for name in inside:
            if rest and fnmatch.fnmatchcase(name, first):
                _read_directories(directory / name, rest)


def _raise(error: OSError) -> NoReturn:
    raise error


def _may_be_file(path: Path) -> bool:
    """A regular file, or one of which nothing is known: it is a profile that cannot be used."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


# ----------------------------------------------------------------------------- what is a profile


def profiles_below(root: Path, on_error: Callable[[OSError], object] | None = None) -> list[str]:
    """The paths below a directory that hold a profile, sorted; hidden directories are left out.

    ``on_error`` hears of each directory that cannot be read.
    """
    from mitigations.load import looks_like_profile

    found: list[str] = []
    for directory, inside, files in os.walk(root, onerror=on_error):
        inside[:] = sorted(one for one in inside if not one.startswith("."))
        for name in files:
            path = Path(directory, name)
            if name.endswith(SUFFIXES) and not name.startswith(".") and looks_like_profile(path):
                found.append(path.relative_to(root).as_posix())
    return sorted(found)
