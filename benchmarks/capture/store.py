"""Writes captured programs beside the profile they came from, with an index of provenance."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from benchmarks.capture.private_space import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

CAPTURES = REPOSITORY / "tests" / "data" / "captures"
DATA = REPOSITORY / "mitigations" / "data"


class Capture(Struct, frozen=True):
    """One program as the kernel had it, and how it came to be there."""

    name: str
    program: bytes
    profile: dict[str, Any]
    runtime: str
    model: str
    version: str
    libseccomp: str
    command: str

    @property
    def entry(self) -> dict[str, Any]:
        return {
            "program": f"{self.name}.bpf",
            "profile": f"{self.name}.seccomp.json",
            "runtime": self.runtime,
            "model": self.model,
            "version": self.version,
            "libseccomp": self.libseccomp,
            "kernel": os.uname().release,
            "date": today(),
            "command": self.command,
            "instructions": len(self.program) // 8,
            "sha256": hashlib.sha256(self.program).hexdigest(),
        }


def save(captures: list[Capture]) -> None:
    """Replace these captures and their index entries; others stay as they are."""
    CAPTURES.mkdir(parents=True, exist_ok=True)
    index = CAPTURES / "INDEX.json"
    entries: list[dict[str, Any]] = json.loads(index.read_text()) if index.exists() else []
    known = {entry["program"]: entry for entry in entries}
    for capture in captures:
        (CAPTURES / f"{capture.name}.bpf").write_bytes(capture.program)
        write_json(CAPTURES / f"{capture.name}.seccomp.json", capture.profile)
        known[capture.entry["program"]] = capture.entry
    write_json(index, [known[name] for name in sorted(known)])


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def today() -> str:
    return datetime.now(UTC).date().isoformat()
