"""A stream of manifests as candidates: whatever its objects are, and wherever one of them is wrong.

A mistake takes down the object that it is in; the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol

from msgspec.structs import replace

from mitigations import kubernetes, manifest, spo, yaml_text
from mitigations.candidate import Attachment, Candidate, FailedCandidate, ProfileError
from mitigations.kubernetes import NodeSetup
from mitigations.manifest import Node
from mitigations.strict_json import JsonObject, read_limited
from mitigations.suggestion import plain
from mitigations.yaml_text import Document, place

SUFFIXES = (".yaml", ".yml")
_MOST_BESIDE = 200
"""Files that are looked at for a base profile."""

Kind = Literal["auto", "kubernetes", "spo"]


class Profiles(kubernetes.Profiles, Protocol):
    """Whoever compiles what manifests name, and what the operator would write."""

    def document(self, document: JsonObject) -> Candidate:
        """The candidate of an OCI block."""
        ...


def read(
    content: bytes, path: Path, kind: Kind, setup: NodeSetup, profiles: Profiles
) -> list[Candidate | FailedCandidate]:
    """The candidates of a stream, in its order.

    ProfileError if there is none: code ``no-pod`` where all in it is about something else.
    """
    source = str(path)
    stream = _Stream(path, kind, setup, profiles)
    for document in yaml_text.read(content, source):
        stream.add(document)
    found = list(stream.candidates())
    if len(found) == 1 and isinstance(found[0], FailedCandidate):
        raise found[0].error
    if not found:
        raise stream.nothing()
    return found


class _Stream:
    """The objects of one file."""

    def __init__(self, path: Path, kind: Kind, setup: NodeSetup, profiles: Profiles) -> None:
        self._path = path
        self._source = str(path)
        self._kind = kind
        self._setup = setup
        self._profiles = profiles
        self._objects: list[tuple[Document, Node] | FailedCandidate] = []
        self._others: list[str] = []
        """Kinds that hold no pod."""
        self._beside: list[Node] | None = None

    def add(self, document: Document) -> None:
        if document.error is not None:
            self._objects.append(self._failed(document.error, document.line))
            return
        try:
            for node in manifest.objects(manifest.root(document, self._source)):
                self._objects.append((document, node))
        except ProfileError as error:
            self._objects.append(self._failed(self._explained(error, document), document.line))

    def candidates(self) -> Iterator[Candidate | FailedCandidate]:
        for one in self._objects:
            if isinstance(one, FailedCandidate):
                yield one
                continue
            document, node = one
            try:
                for found in self._of_object(node):
                    if isinstance(found, FailedCandidate):
                        yield replace(found, error=self._explained(found.error, document))
                    else:
                        yield found
            except ProfileError as error:
                yield self._failed(self._explained(error, document), node.line, node)

    def nothing(self) -> ProfileError:
        """Why there is no candidate."""
        if not self._others:
            return ProfileError("no object in it", place(self._source, 1), "no-pod")
        kinds = ", ".join(map(plain, dict.fromkeys(self._others[:5])))
        wanted = {
            "kubernetes": "a Pod, a Deployment or another object with a pod template",
            "spo": "a SeccompProfile or an AppArmorProfile",
            "auto": "a Pod, a Deployment or another object with a pod template",
        }[self._kind]
        article = "an" if kinds[:1] in "AEIOU" else "a"
        said = f"{article} {kinds} has no security context: wanted is {wanted}"
        return ProfileError(said, place(self._source, 1), "no-pod")

    def _failed(self, error: ProfileError, line: int, node: Node | None = None) -> FailedCandidate:
        name = f"{self._path.stem}:{line}"
        if node is not None:
            with suppress(ProfileError):  # it may be the name that is wrong
                name = manifest.object_name(node)
        return FailedCandidate(name, self._source, error)

    def _explained(self, error: ProfileError, document: Document) -> ProfileError:
        """What a template does wrong is that it is one, if the mistake is in a ``{{ ... }}``."""
        source, _, line = error.where.rpartition(":")
        if source != self._source or not line.isdigit() or not document.is_template:
            return error
        return yaml_text.template_error(error.where) if document.fills(int(line)) else error

    # ---------------------------------------------------------------------------------- an object

    def _of_object(self, node: Node) -> Iterator[Candidate | FailedCandidate]:
        if spo.is_spo(node) and self._kind != "kubernetes":
            yield self._of_operator(node)
            return
        pods = manifest.pods_of(node) if self._kind != "spo" else []
        if not pods:
            self._others.append(manifest.kind_of(node))
        for pod in pods:
            yield from kubernetes.candidates(pod, self._source, self._setup, self._profiles)

    def _of_operator(self, node: Node) -> Candidate:
        if manifest.kind_of(node) == "AppArmorProfile":
            layers, findings = spo.apparmor_layers(node)
            return Candidate(
                name=manifest.object_name(node),
                source=self._source,
                layers=layers,
                attachment=Attachment.RUNTIME,
                meaning=spo.MEANING,
                warnings=findings,
            )
        written = spo.seccomp_profile(node, self._possible_bases(node))
        try:
            found = self._profiles.document(written.document)
        except ProfileError as error:
            raise written.located(error) from None
        return replace(
            found,
            name=written.name,
            source=self._source,
            meaning=spo.MEANING,
            warnings=(*written.findings, *map(written.finding, found.warnings)),
        )

    def _possible_bases(self, node: Node) -> Iterable[Node]:
        own = [one[1] for one in self._objects if not isinstance(one, FailedCandidate)]
        if node.at("spec.baseProfileName") is None:
            return own
        self._profiles.uses(self._path.parent)
        if self._beside is None:
            self._beside = list(_objects_beside(self._path))
        return [*self._beside, *own]


def _objects_beside(path: Path) -> Iterator[Node]:
    """The operator's objects in the other files of a directory; what is wrong there is not ours."""
    try:
        files = [one for one in sorted(path.parent.iterdir()) if one.suffix in SUFFIXES]
    except OSError:
        return
    for file in files[:_MOST_BESIDE]:
        if file == path:
            continue
        try:
            content = read_limited(file, yaml_text.LIMIT_BYTES)
            if spo.GROUP.encode() not in content:
                continue
            for document in yaml_text.read(content, str(file)):
                if document.error is None and manifest.is_object(document.value):
                    yield from manifest.objects(manifest.root(document, str(file)))
        except ProfileError:
            continue
