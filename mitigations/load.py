"""From a path to candidates: profiles in JSON, filters in our JSON or in binary, directories."""

import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from msgspec.structs import replace

from mitigations import apparmor, landlock, layered, oci, raw, runtimes, strict_json, toml_document
from mitigations.bpf import Filter
from mitigations.candidate import (
    Attachment,
    Candidate,
    FailedCandidate,
    Finding,
    Layer,
    NoNewPrivsLayer,
    ProfileError,
)
from mitigations.classic import MAX_INSTRUCTIONS
from mitigations.oci import DOCKER_CAPABILITIES
from mitigations.runtimes import DEFAULT_MODEL, Model
from mitigations.strict_json import is_list
from mitigations.traps import find_traps

LIBRARY = Path(__file__).parent / "library"
LIBRARY_INDEX = "library.toml"

_SUFFIXES = (".json", ".bpf", ".toml", ".apparmor")
_FILTERS = (".json", ".bpf")
_TOML = re.compile(rb"^\s*\[\[\s*(layer|ruleset|path_beneath|net_port)\s*\]\]", re.MULTILINE)
_LARGEST_PROGRAM_BYTES = (MAX_INSTRUCTIONS + 1) * 8

Meaning = Literal["auto", "oci", "docker"]


def load(
    path: Path,
    *,
    meaning: Meaning = "auto",
    runtime: str = DEFAULT_MODEL,
    capabilities: frozenset[str] = DOCKER_CAPABILITIES,
    kernel: tuple[int, int] | None = None,
) -> list[Candidate | FailedCandidate]:
    """One candidate of a file; of a directory one per file that is one, sorted by name.

    Those are *.json, *.bpf and *.apparmor, and of *.toml what has layers or a Landlock ruleset.

    A bad file raises ProfileError, but in a directory it becomes a FailedCandidate and the others
    go on; a directory without any such file raises. `capabilities` (the bounding set of the
    posture) and `kernel` (by default the running one) decide Docker's includes and excludes.
    LibseccompMissing escapes: no other file would fare better.
    """
    loader = _Loader(
        meaning,
        runtimes.find_model(runtime),
        capabilities,
        running_kernel() if kernel is None else kernel,
    )
    if not path.is_dir():
        return [loader.load_file(path)]
    files = profiles_in(path)
    if not files:
        raise ProfileError(
            "no profile (*.json, *.bpf, *.toml, *.apparmor) in this directory", code="no-profiles"
        )
    return [_load_or_fail(loader, file) for file in files]


def running_kernel() -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    assert match is not None
    return int(match[1]), int(match[2])


def load_index(directory: Path) -> Mapping[str, Mapping[str, Any]]:
    """What a library says about its files, by file name: the entries of its library.toml."""
    path = directory / LIBRARY_INDEX
    if not path.is_file():
        return {}
    return _read_index(path, path.stat().st_mtime_ns)


@cache
def _read_index(path: Path, changed_ns: int) -> Mapping[str, Mapping[str, Any]]:
    del changed_ns  # a part of the key, so that an edited file is read again
    try:
        document = tomllib.loads(strict_json.read_limited(path).decode())
    except ProfileError as error:
        raise ProfileError(
            f"cannot be read: {error.message}", path.name, "bad-library-index"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"not TOML: {error}", path.name, "bad-library-index") from None
    entries: object = document.get("profile", [])
    if not is_list(entries) or not all(_is_entry(entry) for entry in entries):
        raise ProfileError(
            "every [[profile]] is a table with a file", path.name, "bad-library-index"
        )
    return {entry["file"]: entry for entry in entries}


def _is_entry(entry: object) -> bool:
    match entry:
        case {"file": str(), "intent": str()}:
            return True
        case _:
            return False


def profiles_in(directory: Path) -> list[Path]:
    """The files of a directory that are taken for profiles, by name; no deeper ones.

    ProfileError if it cannot be read.
    """
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise ProfileError(error.strerror or str(error), code="unreadable") from None
    return [
        entry
        for entry in entries
        if entry.suffix in _SUFFIXES
        and not entry.name.startswith(".")
        and not entry.is_dir()
        and (entry.suffix != ".toml" or _is_candidate(entry))
    ]


def _is_candidate(path: Path) -> bool:
    """Whether a TOML in a directory is one of ours: there are many others."""
    try:
        return _TOML.search(strict_json.read_limited(path)) is not None
    except ProfileError:
        return False


def looks_like_profile(path: Path) -> bool:
    """Whether a file is meant as a profile, be it a wrong one: by its keys, or its words."""
    if path.suffix in (".bpf", ".apparmor"):
        return path.is_file()
    if path.suffix == ".toml":
        return _is_candidate(path)
    try:
        content = strict_json.read_limited(path)
    except ProfileError:
        return False
    try:
        document = strict_json.parse(content)
    except ProfileError:
        return b'"defaultAction"' in content
    return raw.is_raw(document) or landlock.is_landlock(document) or oci.holds_profile(document)


def _load_or_fail(loader: "_Loader", file: Path) -> Candidate | FailedCandidate:
    try:
        return loader.load_file(file)
    except ProfileError as error:
        return FailedCandidate(file.stem, str(file), error)


class _Loader:
    """The choices that hold for all files of one call."""

    def __init__(
        self,
        meaning: Meaning,
        model: Model,
        capabilities: frozenset[str],
        kernel: tuple[int, int],
    ) -> None:
        self._meaning: Meaning = meaning
        self._model = model
        self._capabilities = capabilities
        self._kernel = kernel

    def load_file(self, path: Path) -> Candidate:
        intent = str(load_index(path.parent).get(path.name, {}).get("intent", ""))
        if path.suffix == ".bpf":
            layer = raw.parse_program(strict_json.read_limited(path, _LARGEST_PROGRAM_BYTES))
            return Candidate(
                name=path.stem,
                source=str(path),
                layers=(layer,),
                attachment=Attachment.RUNTIME,
                meaning="raw",
                intent=intent,
            )
        if path.suffix == ".apparmor":
            return _of_layers(path, "apparmor", intent, (apparmor.read(_content(path)),))
        if path.suffix == ".toml":
            return self._toml_candidate(path, intent)
        document = strict_json.parse(_content(path))
        if raw.is_raw(document):
            return _raw_candidate(path, raw.parse_raw(document), intent)
        if landlock.is_landlock(document):
            return _landlock_candidate(path, landlock.read(document, landlock.in_json), intent)
        return self._profile_candidate(path, document, intent)

    def _toml_candidate(self, path: Path, intent: str) -> Candidate:
        content = _content(path)
        with toml_document.lines_of(content):
            document = toml_document.parse(content)
            if not layered.is_layered(document):
                return _landlock_candidate(path, layered.read_landlock(path), intent)
            found = layered.read(path, document, self._capabilities, self._filter)
        findings = toml_document.with_lines(content, found.warnings)
        return replace(found, intent=found.intent or intent, warnings=findings)

    def _filter(self, path: Path, capabilities: frozenset[str]) -> Candidate:
        """A seccomp profile that is one layer of several."""
        if path.suffix not in _FILTERS:
            raise ProfileError("a filter is a *.json or a *.bpf", code="wrong-layer")
        loader = _Loader(self._meaning, self._model, capabilities, self._kernel)
        return loader.load_file(path)

    def _profile_candidate(self, path: Path, document: object, intent: str) -> Candidate:
        reading = oci.read(
            document,
            meaning=self._meaning,
            capabilities=self._capabilities,
            kernel=self._kernel,
        )
        profile, warnings = reading.profile, reading.findings
        if profile is None:
            if self._model.refuses_pointless_errno:
                raise ProfileError(
                    "no default action given: crun refuses that, others run unconfined",
                    "defaultAction",
                    "missing-default-action",
                )
            return Candidate(
                name=path.stem,
                source=str(path),
                layers=(),
                attachment=Attachment.RUNTIME,
                meaning=reading.meaning,
                intent=intent,
                warnings=warnings,
            )
        layer = runtimes.compile_profile(profile, self._model)
        return Candidate(
            name=path.stem,
            source=str(path),
            layers=(layer,),
            attachment=Attachment.RUNTIME,
            meaning=reading.meaning,
            runtime_model=runtimes.describe(self._model),
            default_action=profile.default_action,
            intent=intent,
            profile=profile,
            warnings=(*warnings, *find_traps(profile, Filter.decode(layer.program))),
        )


def _content(path: Path) -> bytes:
    return strict_json.read_limited(path)


def _landlock_candidate(path: Path, found: landlock.Reading, intent: str) -> Candidate:
    # Who has no CAP_SYS_ADMIN can do it in no other way, and launchers do so.
    layers = (NoNewPrivsLayer(), found.layer)
    return _of_layers(path, "landlock", intent, layers, found.findings)


def _of_layers(
    path: Path,
    meaning: str,
    intent: str,
    layers: tuple[Layer, ...],
    warnings: tuple[Finding, ...] = (),
) -> Candidate:
    return Candidate(
        name=path.stem,
        source=str(path),
        layers=layers,
        attachment=Attachment.RUNTIME,
        meaning=meaning,
        intent=intent,
        warnings=warnings,
    )


def _raw_candidate(path: Path, found: raw.RawCandidate, intent: str) -> Candidate:
    return Candidate(
        name=path.stem,
        source=str(path),
        layers=found.layers,
        attachment=found.attachment,
        meaning="raw",
        intent=found.intent or intent,
    )
