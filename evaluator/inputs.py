"""From what stands on the command line to files: globs, stdin, one of several, what changed."""

from __future__ import annotations

import glob
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from evaluator.errors import InputError
from mitigations.candidate import ProfileError

STDIN = "-"
_GIT_S = 60.0


class Named(Struct, frozen=True):
    """A path, and which of its candidates is meant: ``web.yaml#deployment/web:app``."""

    path: str
    name: str
    """Empty for all of them."""


def named(given: str) -> Named:
    """What a path means; one with a ``#`` in its own name is a path all the same."""
    path, mark, name = given.rpartition("#")
    if not mark or not name or _exists(given):
        return Named(given, "")
    return Named(path, name)


def expanded(given: Sequence[str]) -> list[str]:
    """Globs that no shell has expanded; whatever else is given stays, even if it is not there.

    ProfileError for a pattern that meets nothing.
    """
    return [path for one in given for path in _met(one)]


def _met(given: str) -> list[str]:
    if _exists(given) or not glob.has_magic(given):
        return [given]
    found = sorted(glob.glob(given, recursive=True))  # noqa: PTH207 - Path has no absolute globs
    if not found:
        raise ProfileError("no file is called like that", given, "no-match")
    return found


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


# ----------------------------------------------------------------------------- what has changed


def changed_since(
    revision: str, paths: Iterable[str], made_of: Callable[[str], Iterable[Path]]
) -> list[str]:
    """The files among these, and in these directories, that are not as they were at a revision.

    New files count, deleted ones do not.  ``made_of`` names the files that one refers to, and
    directories that have parts of it: if something is other, new or gone there, it has changed, and
    so it has where git does not know them.  InputError where git has no answer about a file itself.
    """
    from mitigations.load import profiles_in

    wanted: list[str] = []
    for path in paths:
        if path == STDIN:
            raise InputError("--changed-since: stdin has no history")
        wanted += map(str, profiles_in(Path(path))) if Path(path).is_dir() else [path]
    history = _History(revision)
    return [
        path
        for path in wanted
        if history.is_other(Path(named(path).path)) or any(map(history.may_be_other, made_of(path)))
    ]


class _History:
    """What git says of files since a revision; each directory is asked about once."""

    def __init__(self, revision: str) -> None:
        self._revision = revision
        self._changed: dict[Path, set[Path] | InputError] = {}

    def is_other(self, path: Path) -> bool:
        """Whether a file has changed, is new or gone; InputError if git does not know."""
        return path.resolve() in self._around(path.resolve().parent)

    def may_be_other(self, path: Path) -> bool:
        """The same for a file or something directly in a directory; True if git does not know."""
        place = path.resolve()
        try:
            changed = self._around(place if place.is_dir() else _there(place.parent))
        except InputError:
            return _is_anything(place)
        return place in changed or any(one.parent == place for one in changed)

    def _around(self, folder: Path) -> set[Path]:
        if folder not in self._changed:
            try:
                self._changed[folder] = set(_changed(self._revision, folder))
            except InputError as error:
                self._changed[folder] = error
        found = self._changed[folder]
        if isinstance(found, InputError):
            raise found
        return found


def _there(folder: Path) -> Path:
    """The directory, or the nearest above it that is there."""
    return next(one for one in (folder, *folder.parents) if one.is_dir())


def _is_anything(place: Path) -> bool:
    """A directory that is not there, or with nothing in it, is no part of anything."""
    try:
        return any(place.iterdir()) if place.is_dir() else place.exists()
    except OSError:
        return True


def _changed(revision: str, folder: Path) -> Iterator[Path]:
    top = Path(_git(folder, "rev-parse", "--show-toplevel").rstrip("\n"))
    wanted = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    commit = _git(folder, *wanted, failing=f"{top} has no commit {revision!r}")
    different = _git(
        top, "diff", "--name-only", "-z", "--no-ext-diff", "--no-renames", commit.strip(), "--"
    )
    new = _git(top, "ls-files", "--others", "--exclude-standard", "-z")
    for name in (different + new).split("\0"):
        if name:
            yield (top / name).resolve()


def _git(folder: Path, *arguments: str, failing: str = "") -> str:
    """What git prints; ``InputError`` with ``failing``, or with git's own word, if it refuses."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_GIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise InputError("--changed-since: git is not installed") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"--changed-since: git took more than {_GIT_S:g} s") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["git said nothing"])[0]
        raise InputError(f"--changed-since: {failing or f'{folder}: {said}'}")
    return done.stdout
