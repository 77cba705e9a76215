"""What hardening came to: the changes, what each is for, what was measured before and after."""

from __future__ import annotations

from msgspec import Struct

from evaluator.layers import Hint

SCHEMA = "sidestep.harden/1"


class Chosen(Struct, frozen=True):
    """One change of the result."""

    line: str
    call: str
    """``x86_64:mkdirat``: what it is against, or what it lets a program have."""
    closes: tuple[str, ...] = ()
    """Variants that it stops, each proved on the compiled filter."""
    repairs: tuple[str, ...] = ()
    """Workloads that did not work without it."""
    breaks: str = ""


class Refused(Struct, frozen=True):
    """Changes that would close a way, and are not made."""

    lines: tuple[str, ...]
    """Together, if there are several."""
    workload: str
    """The one that they break; empty if they do not what they should."""
    needs: tuple[str, ...]
    """The calls that the workload was denied then, with the answers."""
    said: str = ""
    """What comes of them, if they break none."""


class Conflict(Struct, frozen=True):
    """A family that seccomp cannot hold while the workloads work."""

    family: str
    variant: str
    """A way that cannot be closed; empty if it is only all of them together that cannot."""
    said: str
    refused: tuple[Refused, ...]
    layers: tuple[Hint, ...]


class Held(Struct, frozen=True):
    """One family of the objective."""

    family: str
    title: str
    before: str
    bypassed_before: int
    after: str
    bypassed: int
    reason: str


class Works(Struct, frozen=True):
    """One workload before and after."""

    workload: str
    title: str
    chosen: bool
    """Whether it must work; another one is shown and does not decide."""
    in_control: bool
    before: bool
    reason_before: str
    after: bool
    reason: str


class Hardened(Struct, frozen=True):
    """The result, confirmed by a run of the very text, unless it says otherwise."""

    candidate: str
    source: str
    posture: str
    runtime_model: str
    objective: str | None
    holds: bool
    """All families are held and all chosen workloads work."""
    confirmed: bool
    """False where it ended before the last choice was run."""
    ended: str
    """Why it did not come to an end of its own; empty if it did."""
    rounds: int
    seconds: float
    changes: tuple[Chosen, ...]
    families: tuple[Held, ...]
    workloads: tuple[Works, ...]
    conflicts: tuple[Conflict, ...]
    notes: tuple[str, ...]
    diff: str
    profile: str
