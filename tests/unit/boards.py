"""A document of ``sidestep score`` made from answers whose worth is known: nothing is run."""

import json
from typing import Any, cast

from evaluator.leaderboard import leaderboard
from evaluator.leaderboard_document import Origin, document
from evaluator.records import Environment, Tool
from evaluator.samples import KNOWN, Sample, Status
from evaluator.scenarios import scenario, scenarios
from evaluator.score_run import Answer, Scored
from evaluator.scoring import Score, Tried, Ways

from hostile import HOSTILE, poison

NAMES = [one.name for one in scenarios()[:12]]
HELD = Ways(5)
THROUGH = Ways(5, ("create-directory/mkdirat", "create-directory/mkdirat~i386"))


def score(joint: bool, *, works: bool = True) -> Score:
    """A right answer, a false fix, or one that breaks a workload."""
    return Score(
        valid=True,
        enforced=True,
        starts=True,
        poc_blocked=True,
        visible=HELD,
        hidden=THROUGH if works and not joint else HELD,
        held=joint or not works,
        workloads_ok=works,
        joint=joint and works,
        false_fix=works and not joint,
        techniques={
            "sibling-syscall": Tried(3, 0),
            "compat-abi": Tried(2, 2 if works and not joint else 0),
        },
        broken=() if works else ("shell-basics",),
    )


def made(
    model: str,
    name: str,
    number: int,
    found: Score | None,
    status: Status = Status.OK,
    *,
    strategy: str = "single",
    why: str = "",
) -> Scored:
    level = "" if strategy == KNOWN else "effect"
    cluster = scenario(name).cluster
    return Scored(name, model, strategy, level, number, status, why, found, None, cluster)


def answers() -> list[Scored]:
    """One model is mostly right, one writes false fixes, one denies all and refuses a third."""
    found: list[Scored] = []
    for place, name in enumerate(NAMES):
        for number in range(3):
            found += [
                made("right-1", name, number, score(bool((place + number) % 4))),
                made("poc-1", name, number, score(False)),
            ]
        found += [
            made("deny-1", name, 0, score(False, works=False)),
            made("deny-1", name, 1, None, Status.REFUSED),
            made("deny-1", name, 2, None, Status.INVALID, why="line 1 column 1: not JSON"),
        ]
    for name in NAMES:
        found += [
            made("reference", name, 0, score(True), strategy=KNOWN),
            made("poc-only", name, 0, score(False), strategy=KNOWN),
        ]
    return found


def origin() -> Origin:
    lsm = ("landlock",)
    where = Environment("6.18.0", "x86_64", "2.5.4", "namespaces", lsm, {}, "root", 65536, ())
    arguments = ("score", "samples.jsonl", "-o", "out")
    return Origin(Tool("sidestep", "0.1"), where, "2026-11-23T10:00:00+00:00", 12.5, arguments)


def board(scored: list[Scored] | None = None) -> dict[str, Any]:
    """The document of these answers, or of ``answers()``."""
    scored = answers() if scored is None else scored
    given = [
        Answer(
            scenario(one.scenario),
            Sample(scenario=one.scenario, model=one.model, sample=one.sample),
            "",
        )
        for one in scored
    ]
    written = document(leaderboard(scored), given, scored, origin())
    return cast("dict[str, Any]", json.loads(json.dumps(written)))


def poisoned(text: str = HOSTILE) -> dict[str, Any]:
    """Hostile in everything that a model, a provider or a stored file says."""
    clean = board()
    raw = poison(clean, text)
    for of in ("rows", "samples"):
        for one, was in zip(raw[of], clean[of], strict=True):
            for name in ("strategy", "status"):
                if name in was:
                    one[name] = was[name]
    for pair, was in zip(raw["comparisons"], clean["comparisons"], strict=True):
        for name in ("first", "second", "winner"):  # as the rows are called
            model, strategy, level = was[name].split(" / ") if was[name] else ("", "", "")
            pair[name] = f"{text}{model} / {strategy} / {text}{level}" if model else ""
    return raw
