"""A profile's file after changes: what did not change stays as its author wrote it."""

from __future__ import annotations

import json
import re

from msgspec import Struct, field

from mitigations.rules import Profile, Rule, condition_as_dict, rule_as_dict

_SPACE = re.compile(r"[ \t\r\n]*")
_JSON = json.JSONDecoder()
_KEYS = re.compile(r"[^.\[\]]+|\[\d+\]")
_INDENT = re.compile(r"\n([ \t]*)\S")


class _Part(Struct):
    """A member of an object or an element of an array, with what stands before it."""

    key: str
    """The name of a member; an element's place, as in a path: ``[0]``."""
    head: str
    """From the end of what comes before it to its value: a comma, white space, the name."""
    value: _Node


class _Node(Struct):
    """A value as it is written; ``parts`` and ``tail`` if it holds others."""

    text: str
    opening: str = ""
    parts: list[_Part] = field(default_factory=list[_Part])
    tail: str = ""


class _Edits(Struct):
    """By path: other text for a value (None: without it), and what comes behind the last one."""

    instead: dict[str, str | None] = field(default_factory=dict[str, str | None])
    behind: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


def edited(text: str, old: Profile, new: Profile) -> str:
    """The file of ``old`` with what ``new`` says; ``text`` has been read as JSON before."""
    begin = _space(text, 0)
    root, end = _scan(text, begin)
    return text[:begin] + _written(root, "", _edits(root, old, new)) + text[end:]


def appended(text: str, where: str, value: str) -> str:
    """The file with one more element in the array at this path."""
    begin = _space(text, 0)
    root, end = _scan(text, begin)
    return text[:begin] + _written(root, "", _Edits(behind={where: [value]})) + text[end:]


def position(text: str, where: str) -> tuple[int, int] | None:
    """Line and column, from 1, of the value at a path; ``text`` has been read as JSON before.

    None if there is no such value.  Keys may differ in case, as runtimes read them so.
    """
    at = _space(text, 0)
    node, _ = _scan(text, at)
    for key in _KEYS.findall(where):
        at += len(node.opening)
        for part in node.parts:
            at += len(part.head)
            if part.key.casefold() == key.casefold():
                node = part.value
                break
            at += len(part.value.text)
        else:
            return None
    before = text[:at]
    return before.count("\n") + 1, at - before.rfind("\n")


# ------------------------------------------------------------------------------- what to change


def _edits(root: _Node, old: Profile, new: Profile) -> _Edits:
    edits = _Edits()
    if new.default_action != old.default_action:
        edits.instead[_join(old.where, "defaultAction")] = json.dumps(new.default_action)
    more = [one for one in new.architectures if one not in old.architectures]
    if more and old.architectures:
        edits.behind[old.architectures_at()] = [json.dumps(one) for one in more]
    elif more:
        every = json.dumps(list(new.architectures))
        edits.behind[old.where] = [f'"architectures": {every}']
    for one in old.architectures:
        if one not in new.architectures:
            edits.instead[old.architectures_at(one)] = None
    kept = {rule.where: rule for rule in new.rules}
    for rule in old.rules:
        if rule.where not in kept:
            edits.instead[rule.where] = None
        elif kept[rule.where] != rule:
            _edit_rule(edits, rule, kept[rule.where])
    was_there = {rule.where for rule in old.rules}
    added = [rule for rule in new.rules if rule.where not in was_there]
    if added:
        where = _join(old.where, "syscalls")
        rules = _find(root, where)
        lines = ",\n    ".join(json.dumps(rule_as_dict(one)) for one in added)
        whole = f"[\n    {lines}\n  ]"
        if rules is None:
            edits.behind.setdefault(old.where, []).append(f'"syscalls": {whole}')
        elif not rules.parts:
            edits.instead[where] = whole
        else:
            edits.behind[where] = [_rule_text(rules, one) for one in added]
    return edits


def _edit_rule(edits: _Edits, old: Rule, new: Rule) -> None:
    for name, where in zip(old.names, old.named_at, strict=True):
        if name not in new.names:
            edits.instead[where] = None
    more = [json.dumps(name) for name in new.names if name not in old.names]
    if more:
        edits.behind[f"{old.where}.names"] = more
    if new.action != old.action:
        edits.instead[f"{old.where}.action"] = json.dumps(new.action)
    if new.conditions != old.conditions:
        conditions = [condition_as_dict(one) for one in new.conditions]
        edits.instead[f"{old.where}.args"] = json.dumps(conditions) if conditions else None


def _rule_text(rules: _Node, rule: Rule) -> str:
    """A new rule, broken into lines as those beside it are."""
    said = rule_as_dict(rule).items()
    members = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in said]
    last = rules.parts[-1].value
    if not last.parts or "\n" not in last.parts[0].head:
        return "{" + ", ".join(members) + "}"
    inside = last.parts[0].head.rpartition("\n")[2].partition('"')[0]
    return "{\n" + ",\n".join(inside + one for one in members) + last.tail


# ------------------------------------------------------------------------------- the text itself


def _written(node: _Node, where: str, edits: _Edits) -> str:
    if not node.opening:
        return node.text
    written: list[str] = []
    for part in node.parts:
        at = where + part.key if part.key.startswith("[") else _join(where, part.key)
        if edits.instead.get(at, "") is None:
            continue
        head = part.head if written else _first(node, part)
        written.append(head + (edits.instead.get(at) or _written(part.value, at, edits)))
    for more in edits.behind.get(where, ()):
        written.append((_between(node) if written else "") + more)
    return node.opening + "".join(written) + node.tail


def _first(node: _Node, part: _Part) -> str:
    """What stands before a part that comes to be the first one."""
    return node.parts[0].head if node.opening == "[" else part.head.removeprefix(",")


def _between(node: _Node) -> str:
    """A comma, and a new line where the last part begins on one of its own."""
    heads = [part.head for part in node.parts[1:]]
    own_lines = all("\n" in head for head in heads) if heads else "\n" in node.tail
    space = _INDENT.search(node.parts[0].head + "x") if own_lines else None
    return f",\n{space[1]}" if space else ", "


def _scan(text: str, begin: int) -> tuple[_Node, int]:
    """The value that begins here, and where it ends."""
    opening = text[begin]
    if opening not in "[{":
        _, end = _JSON.raw_decode(text, begin)
        return _Node(text[begin:end]), end
    parts: list[_Part] = []
    at = begin + 1
    while text[_space(text, at)] not in "]}":
        start = _space(text, at)
        if text[start] == ",":
            start = _space(text, start + 1)
        key = f"[{len(parts)}]"
        if opening == "{":
            key, start = _JSON.raw_decode(text, start)
            start = _space(text, _space(text, start) + 1)  # the colon
        value, end = _scan(text, start)
        parts.append(_Part(key, text[at:start], value))
        at = end
    end = _space(text, at) + 1
    return _Node(text[begin:end], opening, parts, text[at:end]), end


def _space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _find(node: _Node, where: str) -> _Node | None:
    for key in _KEYS.findall(where):
        found = next((part.value for part in node.parts if part.key == key), None)
        if found is None:
            return None
        node = found
    return node


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
