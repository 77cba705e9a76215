"""Evaluations of one profile, in a thread: the sandbox is ours, Inspect needs none."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread
from inspect_ai.util import concurrency

from evaluator.generation import answer_candidate, said
from evaluator.scenario_check import evaluated
from evaluator.scenarios import scenario
from evaluator.scoring import Score

T = TypeVar("T")
_JOBS = 1
"""No process is forked: this one has threads that are not ours."""


async def judged(name: str, profile: str) -> Score | str:
    """What a profile is worth, hidden ways included; in one line why it cannot be used."""
    return await _in_thread(lambda: _judged(name, profile))


async def told(name: str, profile: str) -> str:
    """What a model may be told of its profile; nothing hidden is run."""
    return await _in_thread(lambda: said(scenario(name), profile, _JOBS).text)


def _judged(name: str, profile: str) -> Score | str:
    candidate = answer_candidate(profile)
    if isinstance(candidate, str):
        return candidate
    (found,) = evaluated(scenario(name), [candidate], lambda _: None, _JOBS)
    return found


async def _in_thread(work: Callable[[], T]) -> T:
    """One evaluation for each processor; the others wait."""
    async with concurrency("sidestep", len(os.sched_getaffinity(0))):
        return await anyio.to_thread.run_sync(work)
