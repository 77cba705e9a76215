"""What ``sidestep check`` found: the document that JUnit, SARIF, Markdown and annotations are of.

``sidestep check --format json`` prints it.  Like ``reports.schema`` it is data only; who decides
stands elsewhere.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from reports.schema import Environment, Int, Tool

SCHEMA = "sidestep.check/1"


class Place(Struct, frozen=True):
    """Where in a source file; lines and columns count from 1."""

    file: Annotated[str, "path, relative to the working directory where it is below it"]
    line: Annotated[Int | None, "line; null: the file as a whole"] = None
    column: Annotated[Int | None, "column; null: the line as a whole"] = None
    path: Annotated[str, "JSON path of the rule, or defaultAction"] = ""


class Waived(Struct, frozen=True):
    """An accepted way through, as it stands in ``sidestep.toml``."""

    reason: Annotated[str, "why it is accepted"]
    owner: Annotated[str, "who answers for it"]
    expires: Annotated[str, "ISO 8601 date, the last day on which it counts"]


class Way(Struct, frozen=True):
    """One route that got through, with the shortest program that takes it."""

    route: Annotated[str, "the route, as results name it"]
    variant: Annotated[str, "id of the shortest variant on it"]
    technique: Annotated[str, "why it may get through"]
    call: Annotated[str, "the decisive operation as text"] = ""
    program: Annotated[tuple[str, ...], "the program, operation by operation"] = ()
    cause: Annotated[str, "what lets it through, one sentence"] = ""
    fix: Annotated[str, "one line that closes it, proved by simulation; empty if none"] = ""
    place: Annotated[Place | None, "the rule or defaultAction that lets it through"] = None
    waived: Annotated[Waived | None, "accepted, and by whom"] = None


class Item(Struct, frozen=True):
    """One expectation of one profile under one posture and runtime model, and what became of it."""

    id: Annotated[str, "stable: PROFILE::SUBJECT, with [POSTURE,MODEL] where there are several"]
    profile: Annotated[str, "path of the profile relative to the library, with forward slashes"]
    subject: Annotated[str, "family, workload, waived route, or `profile` for the file itself"]
    kind: Annotated[str, "family, workload, waiver, profile or baseline"]
    status: Annotated[str, "pass, fail, error, waived, warn or listed (nothing was run)"]
    says: Annotated[
        str,
        "the class: held, leaky, open, undecided, untested, not-enforced, works, broken, "
        "unavailable, unstable, invalid, expired, unneeded, newly-opened, newly-broken, "
        "newly-unenforced, newly-known, gone, not-starting, harness",
    ]
    title: Annotated[str, "the effect, or what the workload does, in words"] = ""
    attack_technique: Annotated[str, "MITRE ATT&CK technique of the family, if one fits"] = ""
    message: Annotated[str, "one line"] = ""
    detail: Annotated[tuple[str, ...], "further lines: what to look at, what to do"] = ()
    posture: Annotated[str, "what the subject may do before the candidate"] = ""
    runtime_model: Annotated[str, "whose filter was loaded"] = ""
    place: Annotated[Place | None, "where to look: the profile, or sidestep.toml"] = None
    ways: Annotated[tuple[Way, ...], "what got through, waived ones included"] = ()
    reruns: Annotated[Int, "how often a changed verdict was looked at again"] = 0
    duration_s: Annotated[float, "seconds spent on the profile, on its first item"] = 0.0


class Change(Struct, frozen=True):
    """A setting that differs from the baseline's."""

    name: Annotated[str, "kernel, libseccomp, suite, ..."]
    before: Annotated[str, "in the baseline"]
    after: Annotated[str, "now"]


class CheckDocument(Struct, frozen=True):
    """One run of ``sidestep check``."""

    schema: Annotated[str, "name and version of this format"]
    library: Annotated[str, "the directory, as it was given"]
    expectations: Annotated[str, "the sidestep.toml that was read"]
    suite: Annotated[str, "the frozen list of variants that judged"]
    environment: Annotated[Environment, "the machine"]
    items: Annotated[tuple[Item, ...], "every expectation, in the order of the file"]
    unexpected: Annotated[tuple[str, ...], "profiles that no entry of the file matches"] = ()
    changes: Annotated[tuple[Change, ...], "what is not as it was in the baseline"] = ()
    baseline: Annotated[str | None, "the stored results compared with"] = None
    tool: Annotated[Tool, "the program"] = Tool()
    started: Annotated[str, "ISO 8601"] = ""
    duration_s: Annotated[float, "seconds"] = 0.0
    exit_code: Annotated[Int, "exit code of the command"] = 0
    simulated: Annotated[bool, "nothing was run: all verdicts are predictions"] = False
    evaluated: Annotated[Int, "candidates that were run now"] = 0
    cached: Annotated[Int, "candidates whose results were still valid"] = 0
