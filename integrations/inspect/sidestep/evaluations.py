"""Evaluations of one profile, in a thread: the sandbox is ours, Inspect needs none."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread
from inspect_ai.util import concurrency

from evaluator.generation import said
from evaluator.judging import Asked, scores
from evaluator.scenario_check import candidate
from evaluator.scenarios import Scenario
from evaluator.scoring import Score

T = TypeVar("T")
_JOBS = 1
"""No process is forked: this one has threads that are not ours."""


async def judged(scenario: Scenario, profile: str) -> Score:
    """What a profile is worth, hidden ways included; ``ProfileError`` if it cannot be used."""
    return await _in_thread(lambda: _judged(scenario, profile))


async def told(scenario: Scenario, profile: str) -> str:
    """What a model may be told of its profile; nothing hidden is run."""
    return await _in_thread(lambda: said(scenario, profile, _JOBS).text)


def _judged(scenario: Scenario, profile: str) -> Score:
    asked = Asked(scenario, (candidate(profile),))
    ((found,),) = scores([asked], lambda _: None, jobs=_JOBS)
    return found


async def _in_thread(work: Callable[[], T]) -> T:
    """One evaluation for each processor; the others wait."""
    async with concurrency("sidestep", len(os.sched_getaffinity(0))):
        return await anyio.to_thread.run_sync(work)
