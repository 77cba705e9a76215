"""What a profile library must keep: ``sidestep.toml``, read strictly.

Every mistake is one ``InputError`` with the file and the line.  What it means for a profile is a
``Promise``; what became of that is decided in ``evaluator.check_items``.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from attacks import library
from attacks.errors import AttackError
from attacks.family import Assumption, FamilyInstance, Technique
from evaluator import library_files
from evaluator.errors import InputError
from evaluator.objectives import objective, unknown
from evaluator.options import MEANINGS, POSTURES, RUNTIME_MODELS
from evaluator.sandbox import check_target
from evaluator.toml_source import KeyPath, Lines, in_words, said
from evaluator.workloads import Workload, chosen, workload
from mitigations.candidate import ProfileError
from mitigations.kubernetes import NodeSetup

if TYPE_CHECKING:
    from mitigations.load import Meaning

FILE = "sidestep.toml"
_LARGEST = 1 << 20
_DATES = (datetime.date, datetime.datetime, datetime.time)
_IN_IDS = re.compile(r"[\s\[\]]|::")
"""What ids of items are put together with."""

Text = Annotated[str, Meta(min_length=1)]


class _Accept(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Text
    owner: Text
    expires: datetime.date
    family: Text | None = None
    route: Text | None = None
    technique: Text | None = None
    only: Text | tuple[Text, ...] | None = None


class _AllowUntested(Struct, frozen=True, forbid_unknown_fields=True):
    name: Text
    reason: Text


class _Entry(
    Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={
        "meaning": "from",
        "runtime_models": "runtime-models",
        "seccomp_root": "seccomp-root",
        "seccomp_default": "seccomp-default",
        "runtime_default": "runtime-default",
        "allow_untested": "allow-untested",
    },
):
    match: str | tuple[str, ...]
    objective: str | None = None
    families: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    postures: tuple[str, ...] = POSTURES[:1]
    runtime_models: tuple[str, ...] = RUNTIME_MODELS[:1]
    meaning: str = MEANINGS[0]
    seccomp_root: Text | None = None
    seccomp_default: bool = False
    runtime_default: Text | None = None
    assume: tuple[str, ...] = ()
    exhaustive: bool = False
    accept: tuple[_Accept, ...] = ()
    allow_untested: tuple[_AllowUntested, ...] = ()


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    profile: tuple[_Entry, ...]
    suite: str | None = None


class Waiver(Struct, frozen=True):
    """An accepted way through: by its route or its technique, one of the two."""

    reason: str
    owner: str
    expires: datetime.date
    """The last day on which it counts."""
    family: str = ""
    """The label of the family that it is for; empty for all."""
    route: str = ""
    technique: str = ""
    line: int = 1
    profiles: frozenset[str] | None = None
    """Those that it is for; None for all of its entry."""

    @property
    def subject(self) -> str:
        """Family and way: ``create-directory x86_64:mkdirat``."""
        return f"{self.family} {self.route or self.technique}".strip()


class Promise(Struct, frozen=True):
    """What must be true of some profiles, and where: one ``[[profile]]``."""

    families: tuple[FamilyInstance, ...] = ()
    workloads: tuple[Workload, ...] = ()
    postures: tuple[str, ...] = POSTURES[:1]
    runtime_models: tuple[str, ...] = RUNTIME_MODELS[:1]
    meaning: Meaning = "auto"
    node: NodeSetup = NodeSetup()
    assume: frozenset[Assumption] = frozenset()
    exhaustive: bool = False
    waivers: tuple[Waiver, ...] = ()
    untested: Mapping[str, str] = field(default_factory=dict[str, str])
    """Families and workloads that need not be tested, with the reason."""
    line: int = 1


class Expected(Struct, frozen=True):
    """One profile, by its path relative to the library with forward slashes, and its promise."""

    profile: str
    """With the candidate's name behind a ``#`` if the file is a manifest."""
    path: Path
    """Of its file."""
    promise: Promise
    member: str = ""
    """The candidate's name in a manifest."""

    @property
    def file(self) -> str:
        """``profile`` without the candidate's name."""
        return self.profile.removesuffix(f"#{self.member}") if self.member else self.profile

    @property
    def waivers(self) -> Iterator[Waiver]:
        """Those that are for this profile."""
        for one in self.promise.waivers:
            if one.profiles is None or self.profile in one.profiles:
                yield one


class Library(Struct, frozen=True):
    """A ``sidestep.toml`` and the profiles that it speaks of, in its order."""

    file: Path
    suite: str
    """The frozen list of variants whose ways decide."""
    profiles: tuple[Expected, ...]

    @property
    def root(self) -> Path:
        return self.file.parent


def file_of(given: str) -> Path:
    """The ``sidestep.toml`` that a path stands for: itself, or the one in that directory."""
    if not given:
        raise InputError("LIBRARY: an empty path")
    path = Path(given)
    try:
        return path / FILE if path.is_dir() else path
    except OSError as error:
        raise InputError(f"{given}: cannot read: {error.strerror}") from None


def read(file: Path) -> Library:
    """What the file says; ``InputError`` with its line where that makes no sense."""
    return _Reader(file, _text(file)).library()


def _text(file: Path) -> str:
    try:
        if not file.is_file():
            wrong = "not a regular file" if file.exists() else "no such file"
            raise InputError(f"{file}: {wrong}; `sidestep check --init` writes a first one")
        if file.stat().st_size > _LARGEST:
            raise InputError(f"{file}: larger than {_LARGEST >> 20} MiB")
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 at byte {error.start}, so it is no TOML") from None
    except OSError as error:
        raise InputError(f"{file}: cannot read: {error.strerror}") from None


class _Reader:
    """One file; knows the line of everything in it."""

    def __init__(self, file: Path, text: str) -> None:
        self._file = file
        try:
            raw = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            where = re.search(r"\(at line (\d+), column \d+\)", str(error))
            line = f":{where[1]}" if where else ""
            raise InputError(f"{file}{line}: not TOML: {error}") from None
        except RecursionError:
            raise InputError(f"{file}: nested too deeply") from None
        self._lines = Lines(text)
        try:
            self._said = msgspec.convert(raw, _File, builtin_types=_DATES)
        except msgspec.ValidationError as error:
            path, message = said(str(error), self._known(str(error)))
            if "Expected `date`" in message:
                message = "a TOML date, without quotes and time: expires = 2027-01-31"
            self._fail(path, message)
        self._files = library_files.Files(file.parent)

    @staticmethod
    def _known(error: str) -> Sequence[str]:
        """The keys that there are where an error is."""
        for part, struct in (
            (".accept[", _Accept),
            (".allow-untested[", _AllowUntested),
            (".profile[", _Entry),
        ):
            if part in error:
                return struct.__struct_encode_fields__
        return _File.__struct_encode_fields__

    def _fail(self, path: KeyPath, message: str) -> NoReturn:
        key = in_words(path)
        raise InputError(
            f"{self._file}:{self._lines.of(path)}: {f'{key}: ' if key else ''}{message}"
        )

    @contextmanager
    def _at(self, *path: str | int) -> Generator[None]:
        """Lets errors out with the line of this key."""
        try:
            yield
        except (AttackError, InputError) as error:
            self._fail(path, str(error))

    # --------------------------------------------------------------------------------- content

    def library(self) -> Library:
        """All of the file."""
        suite = self._said.suite or library.SUITE
        suites = [one.stem for one in library.SUITES.glob("*.json")]
        if suite not in suites:
            self._fail(("suite",), unknown("suite", suite, suites))
        if not self._said.profile:
            self._fail(("profile",), "empty: no profile is expected to hold anything")
        profiles: list[Expected] = []
        lines: dict[str, int] = {}
        for place, entry in enumerate(self._said.profile):
            matched = self._matched(place, entry)
            for name in matched:
                line = self._lines.of(("profile", place, "match"))
                if name in lines:
                    self._fail(
                        ("profile", place, "match"),
                        f"{name} is matched here and in line {lines[name]}: "
                        "a profile has one entry",
                    )
                lines[name] = line
            promise = self._promise(place, entry, suite, matched)
            profiles += [self._expected(name, promise) for name in matched]
        return Library(self._file, suite, tuple(profiles))

    def _expected(self, profile: str, promise: Promise) -> Expected:
        file, member = self._files.split(profile)
        return Expected(profile, self._file.parent / file, promise, member)

    def _matched(self, place: int, entry: _Entry) -> list[str]:
        at: KeyPath = ("profile", place, "match")
        patterns = (entry.match,) if isinstance(entry.match, str) else entry.match
        if not patterns:
            self._fail(at, "empty: name a file or a glob")
        return self._named(at, patterns, None)

    def _named(
        self, at: KeyPath, patterns: Iterable[str], among: Sequence[str] | None
    ) -> list[str]:
        """The profiles that paths and globs stand for; each has to stand for one at least."""
        found: dict[str, None] = {}
        for pattern in patterns:
            names = self._of_pattern(at, pattern)
            if among is not None:
                names = [name for name in names if name in among]
            if not names:
                what = (
                    "no profile matches" if library_files.is_glob(pattern) else "no such profile:"
                )
                known = self._files.named_like(pattern) if among is None else among
                self._fail(at, f"{what} {pattern!r}{_hint(pattern, known)}")
            found.update(dict.fromkeys(names))
        return list(found)

    def _of_pattern(self, at: KeyPath, pattern: str) -> list[str]:
        if not pattern.strip():
            self._fail(at, "empty: name a file or a glob")
        if pattern.startswith("/") or ".." in pattern.split("/") or "\0" in pattern:
            self._fail(at, f"{pattern!r} leads out of the library: write it relative to this file")
        try:
            return self._files.matched(pattern)
        except ValueError as error:  # "**.json"
            self._fail(at, f"{pattern!r} is no glob: {error}")
        except OSError as error:
            self._fail(at, f"{pattern!r}: cannot read {error.filename}: {error.strerror}")
        except ProfileError as error:
            self._fail(at, str(error))

    def _promise(self, place: int, entry: _Entry, suite: str, matched: Sequence[str]) -> Promise:
        at: KeyPath = ("profile", place)
        self._check_words(at, entry)
        families, workloads = self._named_in(at, entry, suite)
        if not families and not workloads:
            self._fail(at, "says nothing that must be true: objective, families or workloads")
        labels = [one.label for one in families]
        return Promise(
            families=families,
            workloads=workloads,
            postures=tuple(dict.fromkeys(entry.postures)),
            runtime_models=tuple(dict.fromkeys(entry.runtime_models)),
            meaning=cast("Meaning", entry.meaning),  # one of MEANINGS, as was checked
            node=self._node(at, entry),
            assume=frozenset(map(Assumption, entry.assume)),
            exhaustive=entry.exhaustive,
            waivers=tuple(self._waivers(at, entry, families, matched)),
            untested=dict(self._untested(at, entry, [*labels, *(one.name for one in workloads)])),
            line=self._lines.of(at),
        )

    def _node(self, at: KeyPath, entry: _Entry) -> NodeSetup:
        """What is said of the node that manifests are for; paths are relative to this file."""
        folder = self._file.parent
        node = NodeSetup(seccomp_default=entry.seccomp_default)
        if entry.seccomp_root is not None:
            root = folder / entry.seccomp_root
            if not library_files.is_there(root, Path.is_dir):
                self._fail((*at, "seccomp-root"), f"{root}: not a directory")
            node = replace(node, seccomp_root=root)
        if entry.runtime_default is not None:
            file = folder / entry.runtime_default
            if not library_files.is_there(file, Path.is_file):
                self._fail((*at, "runtime-default"), f"{file}: no such file")
            node = replace(node, runtime_default=file)
        return node

    def _check_words(self, at: KeyPath, entry: _Entry) -> None:
        for key, kind, values, known in (
            ("postures", "posture", entry.postures, POSTURES),
            ("runtime-models", "runtime model", entry.runtime_models, RUNTIME_MODELS),
            ("from", "input format", (entry.meaning,), MEANINGS),
            ("assume", "assumption", entry.assume, tuple(Assumption)),
        ):
            if not values and key != "assume":
                self._fail((*at, key), "empty: leave it out, or name one")
            for value in values:
                if value not in known:
                    self._fail((*at, key), unknown(kind, value, list(known)))

    def _named_in(
        self, at: KeyPath, entry: _Entry, suite: str
    ) -> tuple[tuple[FamilyInstance, ...], tuple[Workload, ...]]:
        """The families and the workloads of the objective and of the entry, each once."""
        families: dict[str, FamilyInstance] = {}
        workloads: list[str] = []
        if entry.objective is not None:
            with self._at(*at, "objective"):
                goal = objective(entry.objective)
                families |= {one: self._family(one, suite) for one in goal.families}
                workloads += goal.workloads
        for name in entry.families:
            with self._at(*at, "families"):
                found = self._family(name, suite)
                families[found.label] = found
        for name in entry.workloads:
            with self._at(*at, "workloads"):
                own = "/" in name or name.endswith(".toml")
                one = str(self._file.parent / name) if own else name
                if one != "all":
                    workload(one)  # or it is an error of this line
                workloads.append(one)
        with self._at(*at, "workloads"):
            programs = chosen(workloads)
            for program in programs:
                check_workload_name(program.name, families)
            return tuple(families.values()), programs

    @staticmethod
    def _family(reference: str, suite: str) -> FamilyInstance:
        found = library.parse_reference(reference)
        check_target(found.effect.parent)
        if not found.only(library.suite(suite).variants.keys()).size:
            raise InputError(f"suite {suite} holds nothing of family {found.family.name}")
        return found

    # --------------------------------------------------------------------------------- waivers

    def _waivers(
        self,
        at: KeyPath,
        entry: _Entry,
        families: Sequence[FamilyInstance],
        matched: Sequence[str],
    ) -> Iterator[Waiver]:
        seen: dict[tuple[str, str], int] = {}
        for place, one in enumerate(entry.accept):
            here: KeyPath = (*at, "accept", place)
            for key, text in (("reason", one.reason), ("owner", one.owner)):
                if not text.strip():
                    self._fail((*here, key), "empty")
            if (one.route is None) == (one.technique is None):
                self._fail(here, "a waiver names a route or a technique: one of the two")
            chosen_families = self._waived_families(here, one, families)
            self._check_way(here, one, chosen_families)
            line = self._lines.of(here)
            patterns = (one.only,) if isinstance(one.only, str) else one.only
            only = None
            if patterns is not None:
                if not patterns:
                    self._fail((*here, "only"), "empty: leave it out, or name a profile")
                only = frozenset(self._named((*here, "only"), patterns, matched))
            waiver = Waiver(
                reason=one.reason,
                owner=one.owner,
                expires=one.expires,
                family=chosen_families[0].label if one.family else "",
                route=one.route or "",
                technique=one.technique or "",
                line=line,
                profiles=only,
            )
            for profile in only or matched:
                key_ = (waiver.subject, profile)
                if key_ in seen:
                    self._fail(here, f"{waiver.subject} is accepted in line {seen[key_]} already")
                seen[key_] = line
            yield waiver

    def _waived_families(
        self, here: KeyPath, one: _Accept, families: Sequence[FamilyInstance]
    ) -> list[FamilyInstance]:
        if one.family is None:
            return list(families)
        with self._at(*here, "family"):
            label = library.parse_reference(one.family).label
        found = [each for each in families if each.label == label]
        if not found:
            known = [each.label for each in families]
            message = unknown("family", label, known) if known else f"no family {label!r}"
            self._fail((*here, "family"), f"{message} (of those that this entry expects)")
        return found

    def _check_way(self, here: KeyPath, one: _Accept, families: Sequence[FamilyInstance]) -> None:
        # Recording what rewrites make takes time, and few files have waivers.
        from evaluator import routes

        key = "route" if one.route is not None else "technique"
        if one.technique is not None and one.technique not in list(Technique):
            self._fail((*here, key), unknown("technique", one.technique, list(Technique)))
        known = routes.known(families)
        if one.technique is not None and one.technique not in known.techniques:
            self._fail(
                (*here, key), unknown("way of technique", one.technique, [*known.techniques])
            )
        wrong = routes.mistake(one.route, known) if one.route is not None else ""
        if wrong:
            self._fail((*here, key), wrong)

    def _untested(
        self, at: KeyPath, entry: _Entry, known: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        seen: set[str] = set()
        for place, one in enumerate(entry.allow_untested):
            here: KeyPath = (*at, "allow-untested", place)
            if not one.reason.strip():
                self._fail((*here, "reason"), "empty")
            name = one.name
            if name not in known:
                self._fail(
                    (*here, "name"),
                    unknown("family or workload", name, list(known))
                    + " (of those that this entry expects)",
                )
            if name in seen:
                self._fail((*here, "name"), f"{name} is named twice")
            seen.add(name)
            yield name, one.reason


def check_workload_name(name: str, labels: Collection[str] = ()) -> None:
    """``InputError`` if items about a workload could not be told from others of its profile."""
    if name == "profile" or name in labels or _is_family(name):
        what = "of the profile itself" if name == "profile" else "of the family"
        raise InputError(f"workload {name!r} has the name {what}: rename its file")
    if _IN_IDS.search(name):
        raise InputError(f"workload {name!r}: white space, brackets and '::' are for ids of items")


def _is_family(name: str) -> bool:
    try:
        return bool(library.family(name))
    except AttackError:
        return False


def _hint(pattern: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(pattern, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
