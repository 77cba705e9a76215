"""Kubernetes objects: values with their places, and the pods that are in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from mitigations.candidate import Finding, ProfileError
from mitigations.strict_json import join, kind
from mitigations.suggestion import did_you_mean, nearest, quote
from mitigations.yaml_text import Document, YamlList, YamlObject, place

_TEMPLATES = {
    "Pod": "",
    "PodTemplate": "template",
    "ReplicationController": "spec.template",
    "Deployment": "spec.template",
    "ReplicaSet": "spec.template",
    "DaemonSet": "spec.template",
    "StatefulSet": "spec.template",
    "Job": "spec.template",
    "CronJob": "spec.jobTemplate.spec.template",
}
_BUILT_IN = (
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
)
"""Groups of the API itself that have a dot in their name; none has pods."""
_LARGEST = (1 << 63) - 1


class Node(Struct, frozen=True):
    """A value of a manifest: what it is, its path in the document, its file and line."""

    value: Any
    path: str
    source: str
    line: int

    @property
    def where(self) -> str:
        return place(self.source, self.line)

    def error(self, message: str, code: str) -> ProfileError:
        return ProfileError(f"{self.path}: {message}" if self.path else message, self.where, code)

    def finding(self, code: str, message: str) -> Finding:
        return Finding(code, f"{self.path}: {message}" if self.path else message, self.where)

    # ------------------------------------------------------------------------------ what is in it

    def fields(self) -> list[str]:
        return list(self._mapping())

    def get(self, key: str) -> Node | None:
        """The value of a key; None if it is not given, or null, which is the same."""
        mapping = self._mapping()
        if mapping.get(key) is None:
            return None
        return Node(mapping[key], join(self.path, key), self.source, mapping.lines[key])

    def at(self, path: str) -> Node | None:
        """The value behind several keys, ``spec.template``; nothing in between need be there."""
        found: Node | None = self
        for key in filter(None, path.split(".")):
            found = found.get(key) if found is not None else None
        return found

    def items(self, key: str) -> list[Node]:
        """The elements of a list; none if it is not given."""
        found = self.get(key)
        return [] if found is None else found.elements()

    def elements(self) -> list[Node]:
        if not isinstance(self.value, YamlList):
            raise self._wrong("a list")
        return [
            Node(one, f"{self.path}[{index}]", self.source, line)
            for index, (one, line) in enumerate(zip(self.value, self.value.lines, strict=True))
        ]

    def _mapping(self) -> YamlObject:
        if not isinstance(self.value, YamlObject):
            raise self._wrong("a mapping")
        return self.value

    # --------------------------------------------------------------------------------- what it is

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self._wrong("a string")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self._wrong("true or false")
        return self.value

    def number(self) -> int:
        if type(self.value) is not int:
            raise self._wrong("an integer")
        if not 0 <= self.value <= _LARGEST:
            raise self.error(f"{self.value} is not within 0..{_LARGEST}", "number-out-of-range")
        return self.value

    def one_of(self, known: Sequence[str]) -> str:
        word = self.text()
        if word not in known:
            hint = did_you_mean(word, known)
            said = f"{quote(word)} is none of {', '.join(known)}{hint}"
            raise self.error(said, "unknown-value")
        return word

    def _wrong(self, expected: str) -> ProfileError:
        found = {"an object": "a mapping", "an array": "a list"}.get(kind(self.value))
        what = f"the string {quote(self.value)}" if isinstance(self.value, str) else None
        return self.error(
            f"expected {expected}, found {what or found or kind(self.value)}", "wrong-type"
        )


def text_of(node: Node | None) -> str:
    return "" if node is None else node.text()


def flag_of(node: Node | None) -> bool | None:
    return None if node is None else node.flag()


def number_of(node: Node | None) -> int | None:
    return None if node is None else node.number()


def unknown_keys(node: Node, known: Sequence[str]) -> Iterator[Finding]:
    """A finding for each key that the API server does not know and so drops."""
    for key in node.fields():
        if key not in known:
            said = f"unknown field, which the API server drops{did_you_mean(key, known)}"
            yield _at_key(node, key).finding("unknown-field", said)


def misspelt_keys(node: Node, known: Sequence[str], wanted: Sequence[str]) -> Iterator[Finding]:
    """The same where only what is near to a field of ours matters: ``known`` may be incomplete."""
    for key in node.fields():
        if key not in known and nearest(key, known) in wanted:
            said = f"unknown field, which the API server drops{did_you_mean(key, known)}"
            yield _at_key(node, key).finding("unknown-field", said)


def _at_key(node: Node, key: str) -> Node:
    return Node(node.value[key], join(node.path, key), node.source, node.value.lines[key])


# ------------------------------------------------------------------------------------------ pods


class Pod(Struct, frozen=True):
    """A pod, or the template of one."""

    name: str
    """``deployment/web``"""
    spec: Node
    annotations: Node | None
    is_template: bool


def root(document: Document, source: str) -> Node:
    return Node(document.value, "", source, document.line)


def is_object(value: object) -> bool:
    """Whether it is meant to be a Kubernetes object."""
    return isinstance(value, YamlObject) and ("kind" in value or "apiVersion" in value)


def objects(node: Node) -> Iterator[Node]:
    """The object itself, or those of a list of objects, however deep."""
    if not is_object(node.value):
        raise node.error("no Kubernetes object: it has no kind", "no-kind")
    if kind_of(node).endswith("List") and node.get("items") is not None:
        for item in node.items("items"):
            yield from objects(item)
    else:
        yield node


def kind_of(node: Node) -> str:
    found = node.get("kind")
    if found is None:
        raise node.error("no Kubernetes object: it has no kind", "no-kind")
    return found.text()


def object_name(node: Node) -> str:
    """``pod/web``: kind and name, as kubectl writes them."""
    metadata = node.get("metadata")
    name = metadata.get("name") or metadata.get("generateName") if metadata is not None else None
    return f"{kind_of(node).lower()}/{text_of(name) or 'unnamed'}"


def pods_of(node: Node) -> list[Pod]:
    """The pods that an object is or holds templates of; none if it is about something else.

    ProfileError for a kind that the API server does not know, if there is a pod in it.
    """
    what = kind_of(node)
    if what in _TEMPLATES:
        template = node.at(_TEMPLATES[what])
        if template is None:
            raise node.error(f"a {what} without {_TEMPLATES[what]}", "no-pod")
        return [_pod(object_name(node), template, is_template=what != "Pod")]
    found = list(_templates_within(node))
    if found and not _is_custom(node):
        hint = did_you_mean(what, _TEMPLATES)
        said = f"no kind with pods is called {quote(what)}{hint}: the API server refuses it"
        raise node.error(said, "unknown-kind")
    name = object_name(node) if found else ""
    if len(found) == 1:
        return [_pod(name, found[0], is_template=True)]
    return [_pod(f"{name}[{one.path}]", one, is_template=True) for one in found]


def _is_custom(node: Node) -> bool:
    group = text_of(node.get("apiVersion")).partition("/")[0]
    return "." in group and group not in _BUILT_IN


def _pod(name: str, template: Node, *, is_template: bool) -> Pod:
    spec = template.get("spec")
    if spec is None:
        raise template.error("a pod without spec", "no-pod")
    return Pod(name, spec, template.at("metadata.annotations"), is_template)


def _templates_within(node: Node) -> Iterator[Node]:
    """Wherever a custom resource has a pod template: Rollout, JobSet, a Service of Knative."""
    if isinstance(node.value, YamlObject):
        spec = node.value.get("spec")
        if isinstance(spec, YamlObject) and isinstance(spec.get("containers"), YamlList):
            yield node
            return
        for key in node.value:
            if isinstance(node.value[key], YamlObject | YamlList):
                yield from _templates_within(_at_key(node, key))
    elif isinstance(node.value, YamlList):
        for one in node.elements():
            yield from _templates_within(one)
