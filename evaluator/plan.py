"""What a campaign is asked to do, and what it says while it does it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from msgspec import Struct, field

from attacks.family import Assumption, FamilyInstance
from evaluator.objectives import Objective
from evaluator.posture import posture
from evaluator.workloads import Workload
from mitigations.candidate import Candidate, FailedCandidate, OwnPosture


class Rewrites(Enum):
    """What rewrites make of the recorded variants: how much of it is run."""

    NONE = auto()
    SAMPLED = auto()
    """Where somebody meant to stop the effect; see ``evaluator.sampling``."""
    ALL = auto()


class Plan(Struct, frozen=True):
    """All candidates, under all families and workloads, in one posture."""

    candidates: tuple[Candidate | FailedCandidate, ...]
    """One that could not be loaded is reported and never aborts the others."""
    families: tuple[FamilyInstance, ...]
    workloads: tuple[Workload, ...]
    objective: Objective | None = None
    posture: str | OwnPosture = "container"
    """For candidates that do not bring their own."""
    assume: frozenset[Assumption] = frozenset()
    jobs: int = 1
    repeats: int = 1
    timeout_s: float = 5.0
    """For one arm of one trial."""
    fast_path: bool = True
    rewrites: Rewrites = Rewrites.NONE
    """Which rewritten variants are added to those of the families."""
    suite: frozenset[str] | None = None
    """What the suite holds, as ``family/variant``; None for all there is."""
    with_steps: bool = True
    """Whether the results hold what each operation of each program did."""
    with_reasons: bool = True
    """Whether it is found out why: the rule behind a bypass, the calls that break a workload,
    whether a denied prerequisite matters.  No outcome and no verdict hangs on it."""
    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    """The text of each candidate's file, by ``source``: for the report."""


def sameness(candidate: Candidate, plan: Plan) -> object:
    """Equal for candidates of which one run tells about all."""
    stance = posture(candidate.posture or plan.posture)
    # The same bytes that somebody else puts on are another candidate.
    who = (stance, candidate.attachment, candidate.runtime_model, candidate.assumes)
    return (*who, candidate.digest)


class Progress(Struct, frozen=True):
    """So many of all trials are done; ``candidate`` is the one in hand."""

    candidate: str
    done: int
    total: int
