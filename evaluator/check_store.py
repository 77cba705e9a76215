"""Results of earlier checks, by all that they hang on; a cache, so nothing that goes wrong matters.

One file for each result, below ``$XDG_CACHE_HOME/sidestep/check``.  Under sudo that is the
caller's directory, and the caller's files.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pwd
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from evaluator.plan import Plan
from evaluator.posture import posture
from evaluator.records import Environment, WorkloadOutcome
from evaluator.verdict import Outcome, Scope, Verdict
from evaluator.workloads import Program, Workload, found
from mitigations.candidate import Candidate
from reports.errors import ReportError
from reports.files import caller, write_bytes
from reports.schema import Candidate as Result

_FORMAT = "sidestep.check-cache/1"
_CODE = (".py", ".json", ".toml", "")
"""Suffixes of the files that a verdict hangs on; the runner has none."""


class Entry(Struct, frozen=True):
    """What was found, and by how many further runs each failing subject was confirmed."""

    format: str
    key: str
    result: Result
    reruns: dict[str, int]


class Store:
    """The cache of one check; ``complain`` hears, once, why nothing can be kept."""

    def __init__(self, directory: Path, complain: Callable[[str], None]) -> None:
        self._directory = directory
        self._complain = complain
        self._is_broken = False
        self.kept = 0
        """So many results were written."""

    def get(self, key: str) -> Entry | None:
        """What is known under this key; None if that is nothing, or cannot be read."""
        try:
            entry = msgspec.json.decode(_content(self._path(key)), type=Entry)
            known = (entry.format, entry.key) == (_FORMAT, key) and _is_sound(entry)
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return entry if known else None

    def put(self, key: str, result: Result, reruns: Mapping[str, int]) -> None:
        """Keeps a result."""
        if self._is_broken:
            return
        entry = Entry(_FORMAT, key, result, dict(reruns))
        try:
            write_bytes(self._path(key), msgspec.json.encode(entry))
            self.kept += 1
        except ReportError as error:
            self._is_broken = True
            self._complain(f"nothing is kept for the next check: {error}")

    def drop(self, key: str) -> None:
        """Forgets a result that did not repeat."""
        with suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._directory / key[:2] / f"{key[2:]}.json"


def _content(path: Path) -> bytes:
    """Of a regular file; ``OSError`` for anything else, and never a wait for another process."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read()


def _is_sound(entry: Entry) -> bool:
    """Whether every word of an entry is one that this version knows; ``ValueError`` if not."""
    result = entry.result
    for family in result.families:
        Verdict(family.verdict)
    for trial in result.trials:
        Outcome(trial.outcome)
        Scope(trial.scope)
    for workload in result.workloads:
        WorkloadOutcome(workload.outcome)
    return result.valid and result.enforced is True and min(entry.reruns.values(), default=1) > 0


def directory() -> Path:
    """Where results are kept; a relative ``XDG_CACHE_HOME`` does not count, by its definition."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given.startswith("/"):
        return Path(given, "sidestep", "check")
    owner = caller()
    try:
        home = pwd.getpwuid(owner[0]).pw_dir if owner else str(Path.home())
    except KeyError:
        home = str(Path.home())
    return Path(home, ".cache", "sidestep", "check")


def surroundings(where: Environment) -> str:
    """What a result hangs on beside the candidate and the plan: the machine, and ourselves."""
    return _digest({"machine": where, "code": code_digest()})


def key(candidate: Candidate, plan: Plan, suite: str, around: str) -> str:
    """Equal only for candidates and plans that must have equal results."""
    said = {
        "around": around,
        "layers": [[type(one).__name__, one] for one in candidate.layers],
        # Equal filters of another source have other causes and findings.
        "source": [candidate.profile, candidate.warnings],
        "read": [
            candidate.meaning,
            candidate.runtime_model,
            candidate.attachment,
            candidate.default_action,
            candidate.intent,
        ],
        "notes": [candidate.notes, sorted(candidate.assumes)],
        "posture": posture(candidate.posture or plan.posture),
        "suite": [suite, sorted(plan.suite or ())],
        "families": [
            [one.label, one.effect.parent, sorted(one.parameters.items()), one.ids]
            for one in plan.families
        ],
        "named": sorted(plan.objective.families) if plan.objective else [],
        "workloads": [_workload(one) for one in plan.workloads],
        "assume": sorted(plan.assume),
        "rewrites": plan.rewrites.name,
        "timeout": plan.timeout_s,
    }
    return _digest(said)


def _workload(one: Workload) -> list[Any]:
    """A workload, and the programs of this machine that it runs."""
    system = one.command[:1] if one.program is Program.SYSTEM else ()
    return [one, [_program(name) for name in (*system, *one.needs)]]


def _program(name: str) -> list[Any]:
    path = found(name)
    try:
        status = Path(path).stat() if path else None
    except OSError:
        status = None
    if status is None:
        return [name, path]
    return [name, path, status.st_size, status.st_mtime_ns, status.st_ino]


@cache
def code_digest() -> str:
    """Of the code and the data of this very tool, runner and suites included."""
    root = Path(__file__).parent.parent
    hasher = hashlib.sha256()
    for package in ("attacks", "evaluator", "mitigations"):
        for path in sorted((root / package).rglob("*")):
            if path.suffix in _CODE and path.is_file() and "__pycache__" not in path.parts:
                hasher.update(f"{path.relative_to(root)}\0".encode())
                hasher.update(hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()


def _digest(value: Any) -> str:
    # Deterministic: sets have an order, too.
    encoded = msgspec.json.encode(value, order="deterministic", enc_hook=_number)
    return hashlib.sha256(encoded).hexdigest()


def _number(value: Any) -> int:
    """A constant with a name."""
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"no part of a key: {type(value).__name__}")
