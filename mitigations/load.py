"""From a path to candidates: profiles, raw filters, manifests, and directories of them."""

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from msgspec.structs import replace

from mitigations import (
    apparmor,
    landlock,
    layered,
    listing,
    manifests,
    oci,
    raw,
    runtime_default,
    runtimes,
    strict_json,
    systemd,
    toml_document,
)
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
from mitigations.kubernetes import NodeSetup
from mitigations.oci import DOCKER_CAPABILITIES, Reading
from mitigations.runtimes import DEFAULT_MODEL, Model
from mitigations.strict_json import JsonObject, is_list
from mitigations.systemd_facts import Facts, recorded
from mitigations.traps import find_traps
from mitigations.yaml_text import LIMIT_BYTES as MANIFEST_BYTES

LIBRARY = Path(__file__).parent / "library"
LIBRARY_INDEX = "library.toml"

STDIN = "-"
_SUFFIXES = (".json", ".bpf", ".toml", ".apparmor", *manifests.SUFFIXES, *systemd.SUFFIXES)
_FILTERS = (".json", ".bpf")
_TOML = re.compile(rb"^\s*\[\[\s*(layer|ruleset|path_beneath|net_port)\s*\]\]", re.MULTILINE)
_OWN_RESULT = re.compile(rb'\s*\{\s*"schema":\s*"sidestep\.')
_BEGINNING = 128
_MANIFEST = re.compile(rb"^(?:apiVersion|kind):", re.MULTILINE)
_AS_INSTALLED = NodeSetup()
_NOT_FOR_US = ("no-pod", "no-kind")
_LARGEST_FILTERS = 1 << 22  # as text, a filter of 4096 instructions has 300 KB

OnFile = Callable[[Path], object]
"""Hears of each further file, or directory of them, that candidates are made from, there or not."""
Meaning = Literal["auto", "oci", "docker", "kubernetes", "spo", "systemd", "raw"]


def load(
    path: Path,
    *,
    meaning: Meaning = "auto",
    runtime: str = DEFAULT_MODEL,
    capabilities: frozenset[str] = DOCKER_CAPABILITIES,
    kernel: tuple[int, int] | None = None,
    setup: NodeSetup = _AS_INSTALLED,
    known_to_systemd: Callable[[], Facts] = recorded,
    on_file: OnFile = lambda _: None,
) -> list[Candidate | FailedCandidate]:
    """The candidates of a file, of `-` (stdin), or of the files in a directory, sorted by name.

    In a directory, of *.toml only what has layers or a Landlock ruleset is one, and what our own
    commands wrote is none.

    A bad file raises ProfileError, but in a directory it becomes a FailedCandidate and the others
    go on, as they do behind a bad document of a stream; a directory without any candidate raises.
    `capabilities` (the bounding set of the posture) and `kernel` (by default the running one)
    decide Docker's includes and excludes, and `setup` what a manifest leaves to the node;
    `known_to_systemd`, which is asked for units only, knows the sets of calls in them.
    LibseccompMissing escapes: no other file would fare better.
    """
    loader = _Loader(
        meaning,
        runtimes.find_model(runtime),
        capabilities,
        running_kernel() if kernel is None else kernel,
        setup,
        known_to_systemd,
        on_file,
    )
    if not path.is_dir():
        return loader.load_file(path)
    found = [one for file in profiles_in(path) for one in _load_or_fail(loader, file)]
    if not found:
        known = ", ".join(f"*{suffix}" for suffix in _SUFFIXES)
        raise ProfileError(f"no candidate ({known}) in this directory", code="no-profiles")
    return found


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
        and not is_own_result(entry)
    ]


def is_own_result(path: Path) -> bool:
    """Whether a file is what a command of ours wrote; what might be a profile is none of that."""
    try:
        if path.suffix != ".json" or not path.is_file():
            return False
        with path.open("rb") as file:
            begins = file.read(_BEGINNING)
    except (OSError, ValueError):  # nobody may look, or no file has such a name
        return False
    return _OWN_RESULT.match(begins) is not None and not looks_like_profile(path)


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


def names_in(path: Path) -> list[str]:
    """The names of a manifest's candidates, wrong ones included; none for any other file.

    ProfileError as from ``load``.
    """
    limit = MANIFEST_BYTES if path.suffix in manifests.SUFFIXES else strict_json.LIMIT_BYTES
    if not _is_manifest(strict_json.read_limited(path, limit), path):
        return []
    return [one.name for one in load(path)]


def _load_or_fail(loader: "_Loader", file: Path) -> list[Candidate | FailedCandidate]:
    try:
        return loader.load_file(file)
    except ProfileError as error:
        # A Service, the values of a chart: not everything there is about pods.
        if file.suffix in manifests.SUFFIXES and error.code in _NOT_FOR_US:
            return []
        if error.code == systemd.MASKED:
            return []
        return [FailedCandidate(file.stem, str(file), error)]


class _Loader:
    """The choices that hold for all files of one call."""

    def __init__(
        self,
        meaning: Meaning,
        model: Model,
        capabilities: frozenset[str],
        kernel: tuple[int, int],
        setup: NodeSetup,
        known_to_systemd: Callable[[], Facts],
        on_file: OnFile,
    ) -> None:
        self._meaning: Meaning = meaning
        self._model = model
        self._capabilities = capabilities
        self._kernel = kernel
        self._setup = setup
        self._known_to_systemd = known_to_systemd
        self.uses = on_file
        self._localhost: dict[Path, Candidate | ProfileError] = {}
        self._defaults: dict[frozenset[str], Candidate | ProfileError] = {}

    def load_file(self, path: Path) -> list[Candidate | FailedCandidate]:
        if str(path) == STDIN:
            path = Path("/dev/stdin")
            return self._load(strict_json.read_limited(path, MANIFEST_BYTES), path, "")
        if is_own_result(path):
            message = "what sidestep wrote, and no mitigation: `sidestep report` shows results"
            raise ProfileError(message, code="own-result")
        intent = str(load_index(path.parent).get(path.name, {}).get("intent", ""))
        if path.suffix == ".bpf":
            return [_filters(path, strict_json.read_limited(path, _LARGEST_FILTERS), intent)]
        if path.suffix in systemd.SUFFIXES:
            systemd.refuse_masked(path)
        if path.suffix == ".apparmor":
            layer, findings = apparmor.read(_content(path))
            return [_of_layers(path, "apparmor", intent, (layer,), tuple(findings))]
        if path.suffix == ".toml":
            return [self._toml_candidate(path, intent)]
        limit = strict_json.LIMIT_BYTES if path.suffix == ".json" else MANIFEST_BYTES
        return self._load(strict_json.read_limited(path, limit), path, intent)

    def _load(self, content: bytes, path: Path, intent: str) -> list[Candidate | FailedCandidate]:
        meaning = self._meaning
        if meaning == "systemd" or (meaning == "auto" and _is_unit(content, path)):
            for folder in systemd.drop_in_folders(path):
                self.uses(folder)
            return [systemd.load(path, content, self._known_to_systemd(), intent)]
        if meaning == "raw" or (meaning == "auto" and listing.is_listing(content)):
            return [_filters(path, content, intent)]
        if meaning == "auto" and _is_manifest(content, path):
            return manifests.read(content, path, meaning, self._setup, self)
        if meaning == "kubernetes" or meaning == "spo":
            return manifests.read(content, path, meaning, self._setup, self)
        document = strict_json.parse(content)
        if raw.is_raw(document):
            return [_raw_candidate(path, raw.parse_raw(document), intent)]
        if landlock.is_landlock(document):
            return [_landlock_candidate(path, landlock.read(document, landlock.in_json), intent)]
        return [self._profile_candidate(path, document, meaning, intent)]

    def _toml_candidate(self, path: Path, intent: str) -> Candidate:
        content = _content(path)
        with toml_document.lines_of(content):
            document = toml_document.parse(content)
            if not layered.is_layered(document):
                return _landlock_candidate(path, layered.read_landlock(path), intent)
            for file in layered.files(path, document):
                self.uses(file)
            found = layered.read(path, document, self._capabilities, self._filter)
        findings = toml_document.with_lines(content, found.warnings)
        return replace(found, intent=found.intent or intent, warnings=findings)

    def _filter(self, path: Path, capabilities: frozenset[str]) -> Candidate:
        """A seccomp profile that is one layer of several."""
        if path.suffix not in _FILTERS:
            raise ProfileError("a filter is a *.json or a *.bpf", code="wrong-layer")
        loader = _Loader(
            self._meaning,
            self._model,
            capabilities,
            self._kernel,
            self._setup,
            self._known_to_systemd,
            self.uses,
        )
        (found,) = loader.load_file(path)
        if isinstance(found, FailedCandidate):
            raise found.error
        return found

    def localhost(self, path: Path) -> Candidate:
        """What a manifest names, read as containerd reads it."""
        if path not in self._localhost:
            try:
                document = strict_json.parse(strict_json.read_limited(path))
                self._localhost[path] = self._profile_candidate(path, document, "oci")
            except ProfileError as error:
                self._localhost[path] = error
        return _or_raise(self._localhost[path])

    def runtime_default(self, path: Path | None, capabilities: frozenset[str]) -> Candidate:
        """What the runtime makes for a container with this bounding set."""
        if path is not None:
            self.uses(path)
        if capabilities not in self._defaults:
            try:
                reading = runtime_default.read(path, capabilities, self._kernel)
                name = path or Path("RuntimeDefault")
                self._defaults[capabilities] = self._compiled(name, reading)
            except ProfileError as error:
                self._defaults[capabilities] = error
        return _or_raise(self._defaults[capabilities])

    def document(self, document: JsonObject) -> Candidate:
        """What the Security Profiles Operator writes to a node."""
        return self._profile_candidate(Path(), document, "oci")

    def _profile_candidate(
        self, path: Path, document: object, meaning: oci.Choice, intent: str = ""
    ) -> Candidate:
        reading = oci.read(
            document,
            meaning=meaning,
            capabilities=self._capabilities,
            kernel=self._kernel,
        )
        return self._compiled(path, reading, intent)

    def _compiled(self, path: Path, reading: Reading, intent: str = "") -> Candidate:
        profile, warnings = reading.profile, reading.findings
        if self._model.has_strict_parser and reading.meaning == "oci":
            _refuse_other_case(warnings)
        if profile is None:
            if self._model.has_strict_parser:
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


def _refuse_other_case(findings: Iterable[Finding]) -> None:
    """ProfileError for a key in another case: it counts only if containerd reads it first."""
    for one in findings:
        if one.code == "key-case":
            message = (
                "crun passes over a key in another case, containerd reads it: write it exactly"
            )
            raise ProfileError(message, one.where, "key-case")


def _is_manifest(content: bytes, path: Path) -> bool:
    """By what is in it where the name does not say: a JSON object with apiVersion and kind."""
    if path.suffix in manifests.SUFFIXES:
        return True
    if not content.lstrip().startswith(b"{"):
        return _MANIFEST.search(content) is not None
    try:
        document: object = strict_json.parse(content)
    except ProfileError:
        return False
    return isinstance(document, JsonObject) and {"apiVersion", "kind"} <= document.keys()


def _or_raise(found: Candidate | ProfileError) -> Candidate:
    if isinstance(found, ProfileError):
        raise found
    return found


def _is_unit(content: bytes, path: Path) -> bool:
    named = path.suffix in systemd.SUFFIXES or path.suffix in systemd.OTHER_KINDS
    return named or systemd.is_unit(content)


def _filters(path: Path, content: bytes, intent: str) -> Candidate:
    """Filters in our JSON, as text, or one as bytes."""
    # An initialiser of C begins like an object of JSON.
    if content.lstrip().startswith(b"{") and not listing.is_listing(content):
        document = strict_json.parse(content)
        if not raw.is_raw(document):
            raise ProfileError("no raw filters: they have the key filters", code="not-a-filter")
        return _raw_candidate(path, raw.parse_raw(document), intent)
    return _raw_candidate(path, raw.parse_filters(content), intent)


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
