"""RuntimeDefault: the profile that a container runtime makes for each container, by capabilities.

None is written down here.  One that came with us was captured from a real containerd by
``benchmarks/capture``; a file of the user's own is captured in the same way, or is in Docker's
format, whose includes and excludes are resolved for the container's capabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mitigations import oci, strict_json
from mitigations.candidate import Finding, ProfileError
from mitigations.oci import Reading
from mitigations.strict_json import JsonObject, is_list

BUNDLED = Path(__file__).parent / "data" / "runtime-default.containerd-1.6.20.json"


def read(path: Path | None, capabilities: frozenset[str], kernel: tuple[int, int]) -> Reading:
    """What RuntimeDefault is for a container with this bounding set.

    ProfileError where the file, by default the one that came with us, does not say it.
    """
    document = _document(path or BUNDLED)
    captured = _captured_for(document)
    if captured is None:
        reading = oci.read(document, capabilities=capabilities, kernel=kernel)
        if reading.meaning == "docker":
            return reading
        said = "taken for RuntimeDefault whatever the capabilities: it is not in Docker's format"
        same = Finding("runtime-default-given", said)
        return Reading(reading.profile, reading.meaning, (same, *reading.findings))
    if captured == capabilities:
        return oci.read(document["seccomp"], meaning="oci", kernel=kernel)
    if "by_capability" in document:
        try:
            block = with_capabilities(document["by_capability"], capabilities)
        except (AttributeError, KeyError, TypeError):
            where = "by_capability"
            raise ProfileError(
                "not as benchmarks/capture writes it", where, "bad-capture"
            ) from None
        return oci.read(block, meaning="oci", kernel=kernel)
    raise _other_capabilities(captured, capabilities)


def with_capabilities(parts: Mapping[str, Any], capabilities: frozenset[str]) -> JsonObject:
    """The block for these capabilities: ``none``, with what ``each`` one adds and takes away.

    That the parts add up was checked when they were captured.
    """
    each = [part for name, part in parts["each"].items() if name in capabilities]
    removed = [rule for part in each for rule in part["removed"]]
    rules = [rule for rule in parts["none"]["syscalls"] if rule not in removed]
    for part in each:
        rules += [rule for rule in part["added"] if rule not in rules]
    return JsonObject({**parts["none"], "syscalls": rules})


@cache
def _document(path: Path) -> JsonObject:
    document: object = strict_json.parse(strict_json.read_limited(path))
    if not isinstance(document, JsonObject):
        raise ProfileError("not a seccomp profile: no JSON object", code="not-a-profile")
    return document


def _captured_for(document: JsonObject) -> frozenset[str] | None:
    """The bounding set for which a profile was captured; None if it is no capture."""
    provenance: object = document.get("provenance")
    if not isinstance(provenance, JsonObject) or "seccomp" not in document:
        return None
    names: object = provenance.get("capabilities")
    if not is_list(names) or not all(isinstance(one, str) for one in names):
        where = "provenance.capabilities"
        raise ProfileError(
            "a capture that does not say for which capabilities", where, "bad-capture"
        )
    return frozenset(names)


def _other_capabilities(captured: frozenset[str], wanted: frozenset[str]) -> ProfileError:
    more, less = sorted(wanted - captured), sorted(captured - wanted)
    parts = [f"with {_few(more)}"] if more else []
    parts += [f"without {_few(less)}"] if less else []
    return ProfileError(
        f"RuntimeDefault is known for the default capabilities, not {' and '.join(parts)}: give "
        "--runtime-default a profile in Docker's format",
        code="unknown-runtime-default",
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
