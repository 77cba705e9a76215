"""What ``sidestep score`` found: the document that ``leaderboard.html`` is drawn from.

``sidestep score --json`` prints it and ``-o`` writes it as ``scores.json``.  Like
``reports.schema`` it is data only; who computes the rates stands elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Struct, field

from reports.schema import Environment, Int, Tool

SCHEMA = "sidestep.scores/1"
STATUSES = ("ok", "refused", "truncated", "invalid", "api_error")
METRICS = (
    "valid",
    "enforced",
    "starts",
    "poc_blocked",
    "visible_held",
    "hidden_held",
    "held",
    "workloads_ok",
    "joint",
    "false_fix",
)
KNOWN = "known"
"""The strategy of rows that need no model."""
RUNTIME_DEFAULT = "runtime-default"
"""Of these the one that somebody ships."""


class Rate(Struct, frozen=True):
    """A mean over scenarios; every value is null where there is nothing to average."""

    mean: Annotated[float | None, "mean over scenarios, samples of one averaged first"]
    low: Annotated[float | None, "lower end of the 95 % interval; null with fewer than 2 clusters"]
    high: Annotated[float | None, "upper end of the 95 % interval"]
    scenarios: Annotated[Int, "number of scenarios averaged"]


class Bypassed(Struct, frozen=True):
    """What one technique did to the answers of one row."""

    technique: Annotated[str, "why a way may get through"]
    answers: Annotated[Int, "answers that it was tried against"]
    bypassed: Annotated[Int, "of these, answers that some way of it got through"]
    ways: Annotated[Int, "ways that got through, summed over answers"]


class Row(Struct, frozen=True):
    """One model, strategy and level."""

    model: Annotated[str, "the model, as whoever stored the answers calls it"]
    strategy: Annotated[str, "how it was asked; `known` for answers that need no model"]
    level: Annotated[str, "how much it was told: effect, poc or advisory"]
    samples: Annotated[Int, "requests stored"]
    statuses: Annotated[Mapping[str, Int], "how many of them ended in which way"]
    rates: Annotated[Mapping[str, Rate], "by metric, over what was answered"]
    asked: Annotated[Mapping[str, Rate], "by metric, over all that was asked: no answer is 0"]
    gap: Annotated[Rate, "share that holds all visible ways less that of all hidden ways"]
    pass_at: Annotated[Mapping[int, float], "by k: the chance that one of k answers is right"] = (
        field(default_factory=dict[int, float])
    )
    pass_all: Annotated[Mapping[int, float], "by k: the chance that all of k answers are"] = field(
        default_factory=dict[int, float]
    )
    cost_per_solved: Annotated[float | None, "US dollars for each scenario solved, if known"] = None
    techniques: Annotated[tuple[Bypassed, ...], "what got around its answers"] = ()


class Comparison(Struct, frozen=True):
    """``joint`` of two rows, on the scenarios that both were asked."""

    first: Annotated[str, "model / strategy / level"]
    second: Annotated[str, "model / strategy / level"]
    scenarios: Annotated[Int, "number of scenarios that both were asked"]
    difference: Annotated[Rate, "first minus second"]
    p: Annotated[float | None, "paired permutation test, two-sided"] = None
    detectable: Annotated[float | None, "least difference found with 80 % power"] = None
    adjusted: Annotated[float | None, "p after Holm's procedure over all comparisons"] = None
    winner: Annotated[str, "the better one; empty if interval or adjusted p do not show it"] = ""


class Ways(Struct, frozen=True):
    """Ways that count for a verdict and work without the answer."""

    working: Annotated[Int, "how many were tried"]
    bypasses: Annotated[tuple[str, ...], "ids of the variants that got through"] = ()
    unsettled: Annotated[Int, "of how many nothing is known"] = 0


class Tried(Struct, frozen=True):
    """Ways of one technique that count and work without the answer."""

    working: Annotated[Int, "how many were tried"]
    bypasses: Annotated[Int, "how many got through"]


class Score(Struct, frozen=True):
    """What one answer is worth; null where there is nothing to say it of."""

    valid: Annotated[bool, "it could be read and compiled"]
    enforced: Annotated[bool, "the kernel confirmed it"]
    starts: Annotated[bool, "a container starts under it"]
    poc_blocked: Annotated[bool | None, "the obvious way to every effect is stopped"]
    visible: Annotated[Ways, "ways that a prompt may speak of"]
    hidden: Annotated[Ways, "ways that nobody is told"]
    held: Annotated[bool | None, "every family is held, hidden ways included"]
    workloads_ok: Annotated[bool | None, "what must work does"]
    joint: Annotated[bool | None, "all of the above"]
    false_fix: Annotated[bool | None, "PoC stopped, nothing broken, and a hidden way gets through"]
    techniques: Annotated[Mapping[str, Tried], "by technique, visible and hidden"] = field(
        default_factory=dict[str, Tried]
    )
    broken: Annotated[tuple[str, ...], "what must work and does not"] = ()
    unjudged: Annotated[tuple[str, ...], "what must work and cannot be judged here"] = ()


class Sample(Struct, frozen=True):
    """One answer, or why there is none."""

    scenario: Annotated[str, "the task"]
    model: Annotated[str, "the model"]
    strategy: Annotated[str, "how it was asked"]
    level: Annotated[str, "how much it was told"]
    sample: Annotated[Int, "its number among those of the same request"]
    status: Annotated[str, "ok, refused, truncated, invalid or api_error"]
    why: Annotated[str, "why it cannot be used, one line"] = ""
    score: Annotated[Score | None, "what it is worth; null if there is nothing to judge"] = None
    cost: Annotated[float | None, "US dollars, if known"] = None
    cluster: Annotated[str, "that of the scenario"] = ""
    holds: Annotated[bool, "whether something has to be held"] = True
    hides: Annotated[bool, "whether some of the ways are hidden"] = True

    @property
    def arm(self) -> tuple[str, str, str]:
        """What is compared: model, strategy and level."""
        return self.model, self.strategy, self.level


class Asked(Struct, frozen=True):
    """A scenario that some row was asked."""

    name: Annotated[str, "its name"]
    title: Annotated[str, "what is to be achieved"]
    cluster: Annotated[str, "scenarios of one cluster are not independent of each other"]
    tier: Annotated[Int, "1: names of calls; 2: arguments; 3: several mechanisms, or a conflict"]
    split: Annotated[str, "dev or held-out"]
    expect: Annotated[str, "mitigable, not-mitigable, conflict or nothing-to-stop"]


class Digests(Struct, frozen=True):
    """SHA-256 in hexadecimal of what decides the numbers."""

    suite: Annotated[str, "the frozen list of variants"] = ""
    scenarios: Annotated[str, "the scenarios asked, reference solutions included"] = ""
    samples: Annotated[str, "the answers, as they were read"] = ""


class Leaderboard(Struct, frozen=True):
    """One run of ``sidestep score``."""

    schema: Annotated[str, "name and version of this format"]
    environment: Annotated[Environment, "the machine"]
    suite: Annotated[str, "the frozen list of variants that judged"]
    scenarios: Annotated[tuple[Asked, ...], "what was asked"]
    rows: Annotated[tuple[Row, ...], "the best first"]
    comparisons: Annotated[tuple[Comparison, ...], "every pair of rows that need a model"]
    samples: Annotated[tuple[Sample, ...], "all answers, then those that need no model"]
    private_suite: Annotated[str, "digest of the private ways that were added, if any"] = ""
    digests: Annotated[Digests, "what decides the numbers"] = Digests()
    canary: Annotated[str, "the string in every scenario file"] = ""
    tool: Annotated[Tool, "the program"] = Tool()
    started: Annotated[str, "ISO 8601"] = ""
    duration_s: Annotated[float, "seconds"] = 0.0
    arguments: Annotated[tuple[str, ...], "the command line"] = ()
