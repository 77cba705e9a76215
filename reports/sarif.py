"""A check as SARIF 2.1.0, as code scanning reads it."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from reports.check_schema import CheckDocument, Item, Place, Waived, Way
from reports.check_text import (
    accepted,
    is_error,
    is_not_run,
    item_lines,
    place,
    said,
    utc,
    way_lines,
)
from reports.text import one_line, visible

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_ROOT = "%SRCROOT%"
_ACCEPTED = "note"
"""A consumer that does not know suppressions must not fail for what is accepted."""

Json = dict[str, Any]


def sarif(document: CheckDocument) -> str:
    """One run: a result for each way through, or for each expectation that failed without one.

    The rule is the family; the location is what lets the way through.  What was accepted is there
    with a suppression, what passed is left out, what the harness could not do is a notification.
    """
    rules: dict[str, Json] = {}
    results: list[Json] = []
    for item in document.items:
        found = list(_results(document, item))
        if found:
            rules.setdefault(_rule_id(item), _rule(item))
        results += found
    numbers = {name: number for number, name in enumerate(rules)}
    for result in results:
        result["ruleIndex"] = numbers[result["ruleId"]]
    driver = {
        "name": "sidestep",
        "version": visible(document.tool.version) or "unknown",
        "rules": list(rules.values()),
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"sidestep/{one_line(document.library)}/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {
            _ROOT: {"description": {"text": "Where sidestep was started: the root of the sources."}}
        },
        "invocations": [_invocation(document)],
        "properties": _properties(document),
        "results": results,
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, ensure_ascii=False) + "\n"


def _results(document: CheckDocument, item: Item) -> Iterator[Json]:
    if item.status == "pass" or is_error(document, item) or is_not_run(document, item):
        return
    for way in item.ways:
        yield _result(document, item, way)
    # A failure must not vanish behind what is accepted.
    if item.status == "waived" and item.ways:
        return
    if not any(way.waived is None for way in item.ways):
        yield _result(document, item, None)


def _result(document: CheckDocument, item: Item, way: Way | None) -> Json:
    waived = way.waived if way else None
    level = "warning" if item.status == "warn" else "error"
    lines = [said(item)]
    if way:
        lines += list(way_lines(way))
    else:
        lines += list(item_lines(item, ()))
    result: Json = {
        "ruleId": _rule_id(item),
        "level": _ACCEPTED if waived or item.status == "waived" else level,
        "message": {"text": _message(lines, predicted=document.simulated)},
        "locations": [_location(place(document, item, way))],
        "partialFingerprints": {"sidestepRoute/v1": _fingerprint(item, way)},
        "properties": {
            "profile": one_line(item.profile),
            "verdict": one_line(item.says),
            "posture": one_line(item.posture),
            "runtimeModel": one_line(item.runtime_model),
        },
    }
    if way:
        result["properties"] |= {
            "route": one_line(way.route),
            "variant": one_line(way.variant),
            "technique": one_line(way.technique),
        }
    if waived:
        result["suppressions"] = [_suppression(waived)]
    return result


def _suppression(waived: Waived) -> Json:
    return {
        "kind": "external",
        "status": "accepted",
        "justification": visible(accepted(waived)),
        "properties": {
            "reason": visible(waived.reason),
            "owner": visible(waived.owner),
            "expires": visible(waived.expires),
        },
    }


def _fingerprint(item: Item, way: Way | None) -> str:
    """Of what stays the same when lines move; under two postures it is one finding."""
    parts = (item.profile, _rule_id(item), way.route if way else f"={item.says}")
    text = "\0".join(visible(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _location(where: Place) -> Json:
    # Code scanning wants a line; a file as a whole is shown at its first.
    region = {"startLine": max(1, where.line or 1)}
    if where.line and where.column:
        region["startColumn"] = max(1, where.column)
    location: Json = {"physicalLocation": {"artifactLocation": _uri(where.file), "region": region}}
    if where.path:
        location["logicalLocations"] = [
            {"fullyQualifiedName": one_line(where.path), "kind": "member"}
        ]
    return location


def _uri(file: str) -> Json:
    """A relative reference below the source root, or an absolute one for a file elsewhere."""
    try:
        encoded = file.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        encoded = visible(file).encode()
    if file.startswith("/"):
        return {"uri": f"file://{quote(encoded)}"}
    return {"uri": quote(posixpath.normpath(encoded)), "uriBaseId": _ROOT}


def _rule_id(item: Item) -> str:
    """A family's own name; what is no family stands below its kind."""
    name = item.kind if item.kind in ("waiver", "profile") else item.subject
    return one_line(f"workload/{name}" if item.kind == "workload" else name) or "profile"


def _rule(item: Item) -> Json:
    name = _rule_id(item)
    short, full = _HELP.get(item.kind, _HELP["family"])
    about = visible(item.title) or name
    return {
        "id": name,
        "name": _pascal(name),
        "shortDescription": {"text": short.format(about=about)},
        "fullDescription": {"text": full.format(about=about)},
        "help": {"text": f"{full.format(about=about)} {_ADVICE.get(item.kind, _STOP_IT)}"},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": _tags(item)},
    }


_NOT_HELD = (
    "The profile has to stop this effect ({about}), and it is not shown to be stopped: a program "
    "reached it with the profile in force, or nothing could be decided."
)
_HELP = {
    "family": ("Not stopped: {about}", _NOT_HELD),
    "workload": (
        "Does not run under the profile: {about}",
        "An honest program that has to keep working ({about}) does not run under the profile.",
    ),
    "waiver": (
        "A waiver that does not count",
        "An accepted way through has expired, is no longer needed, or names what does not exist.",
    ),
    "profile": (
        "A profile that cannot be tested",
        "The profile cannot be read or loaded, or is missing, so nothing is known about it.",
    ),
}
"""Short and full description by kind of item."""
_STOP_IT = (
    "The message names the program that got through, its decisive call and, where one was proved, "
    "the line that closes it. `sidestep explain PROFILE FAMILY` says why; `sidestep harden "
    "PROFILE` proposes a change and tests it."
)
_LET_IT_RUN = (
    "The message names the call that was denied. `sidestep workloads run NAME --under PROFILE` "
    "shows it again."
)
_REPAIR_IT = "The message says what to change in the profile or in sidestep.toml."
_ADVICE = {"workload": _LET_IT_RUN, "waiver": _REPAIR_IT, "profile": _REPAIR_IT}


def _tags(item: Item) -> list[str]:
    tags = ["security", "sandbox", "seccomp"]
    if re.fullmatch(r"T\d{4}(\.\d{3})?", item.attack_technique):
        tags += ["mitre-attack", f"external/mitre/{item.attack_technique}"]
    return tags


def _pascal(name: str) -> str:
    return "".join(word.capitalize() for word in re.findall(r"[A-Za-z0-9]+", name)) or "Rule"


def _invocation(document: CheckDocument) -> Json:
    errors = [item for item in document.items if is_error(document, item)]
    invocation: Json = {
        "executionSuccessful": not errors and document.exit_code in (0, 1),
        "exitCode": document.exit_code,
        "toolExecutionNotifications": [
            *(_notification(document, item) for item in errors),
            *(_unexpected(profile) for profile in document.unexpected),
        ],
    }
    if started := utc(document.started):
        invocation["startTimeUtc"] = started
    return invocation


def _notification(document: CheckDocument, item: Item) -> Json:
    lines = [f"{item.profile}: {said(item)}", *item_lines(item)]
    return {
        "level": "error",
        "descriptor": {"id": one_line(item.says) or "harness"},
        "message": {"text": _message(lines, predicted=document.simulated)},
        "locations": [_location(place(document, item))],
    }


def _unexpected(profile: str) -> Json:
    return {
        "level": "warning",
        "descriptor": {"id": "unexpected"},
        "message": {"text": _message([f"{profile}: nothing is expected of it"], predicted=False)},
    }


def _properties(document: CheckDocument) -> Json:
    return {
        "suite": one_line(document.suite),
        "kernel": one_line(document.environment.kernel),
        "libseccomp": one_line(document.environment.libseccomp),
        "expectations": one_line(document.expectations),
        "baseline": None if document.baseline is None else one_line(document.baseline),
        "simulated": document.simulated,
        "changes": [
            {name: one_line(getattr(one, name)) for name in ("name", "before", "after")}
            for one in document.changes
        ],
    }


def _message(lines: list[str], *, predicted: bool) -> str:
    """Plain text in which nothing is a placeholder (3.11.5) or an embedded link (3.11.6)."""
    text = visible("\n".join(lines))
    text = re.sub(r"\{(\d+)\}", r"{{\1}}", text).replace("](", "\\](")
    return f"Predicted, not run: {text}" if predicted else text
