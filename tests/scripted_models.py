"""Models of which it is known what they answer to every scenario.

A server by hand: ``python -m tests.messages_api --models tests/scripted_models.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from evaluator import prompts
from evaluator.scenario_check import Known, known_answers
from evaluator.scenarios import Expect, Scenario, scenarios
from evaluator.shown import Level, view
from tests.messages_api import replies

SOLVES, POC_ONLY, DENIES = "scripted-reference", "scripted-poc-only", "scripted-deny-all"


def asked(body: Mapping[str, Any]) -> Scenario:
    """The scenario that a request is about."""
    content = body["messages"][0]["content"]
    text = content if isinstance(content, str) else content[0]["text"]
    return _BY_PROMPT[text]


def answer(profile: str | None) -> str:
    """A profile as a model answers it; None where it says that there is none."""
    return json.dumps(
        {
            "explanation": "scripted",
            "possible": profile is not None,
            "profile": None if profile is None else json.loads(profile),
        }
    )


def solution(one: Scenario) -> str | None:
    """The right answer."""
    if one.expect is Expect.NOTHING:
        return known_answers(one)[Known.ALLOW_ALL]
    return one.reference


def _model(profile: Callable[[Scenario], str | None]) -> Callable[[dict[str, Any]], replies.Reply]:
    return lambda body: replies.text(answer(profile(asked(body))), thinking="scripted")


_BY_PROMPT = {prompts.prompt(view(one, level)).user: one for one in scenarios() for level in Level}
MODELS = {
    SOLVES: _model(solution),
    POC_ONLY: _model(lambda one: known_answers(one)[Known.POC_ONLY]),
    DENIES: _model(lambda one: known_answers(one)[Known.DENY_ALL]),
}
