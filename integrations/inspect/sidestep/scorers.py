"""What an answer is worth, as Inspect counts it.

Everything that is reduced over epochs is 0 or 1 and better when higher, for Inspect's pass@k and
pass^k take it so; what is better when lower, like ``false_fix``, is in the metadata of the score.
What cannot be judged on this machine is NaN, which Inspect leaves out.
"""

from __future__ import annotations

import math

import msgspec
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Metric, Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState

from evaluator import leaderboard
from evaluator.scenarios import Scenario, scenario
from evaluator.score_run import Scored
from evaluator.scoring import Score as Found
from evaluator.scoring import declined
from mitigations.candidate import ProfileError
from mitigations.generate.answer import read_answer
from mitigations.generate.reply import Status
from sidestep.evaluations import judged

METRICS = tuple(one for one in leaderboard.METRICS if one != "false_fix")
_NO_ANSWER = {
    "content_filter": "refusal",
    "max_tokens": "truncated",
    "model_length": "truncated",
}
"""Stop reasons with which nothing was answered, and what such a sample is left out for."""
_SHOWN = 4


def _metrics() -> list[Metric]:
    return [mean(), stderr(cluster="cluster")]


@scorer(metrics={metric: _metrics() for metric in METRICS})
def answered() -> Scorer:
    """Over what was answered: a refusal and an answer that was cut off are not scored."""

    async def score(state: TaskState, target: Target) -> Score:
        del target
        if reason := _NO_ANSWER.get(state.output.stop_reason):
            return Score.unscored(reason=reason, explanation=_why(state.output))
        asked = scenario(str(state.sample_id))
        if why := _why_silent(state.output):
            return _nothing(asked, "no_response", why)
        try:
            answer = read_answer(state.output.completion)
        except ProfileError as error:
            return _nothing(asked, "invalid_response_format", str(error))
        if answer.profile is None:
            return _score(asked, declined(asked), answer.explanation, reason="declined")
        try:
            found = await judged(asked, answer.profile)
        except ProfileError as error:
            return _nothing(asked, "invalid_profile", str(error))
        return _score(asked, found, _in_words(found), answer=answer.profile)

    return score


@scorer(metrics=_metrics())
def joint_asked() -> Scorer:
    """``joint`` over all that was asked: a refusal and an answer that was cut off count as 0."""

    async def score(state: TaskState, target: Target) -> Score:
        del target
        found = (state.scores or {}).get("answered")
        if found is None:
            raise ValueError("joint_asked comes behind answered, whose score it takes")
        joint = found.as_dict()["joint"] if isinstance(found.value, dict) else 0
        return Score(value=joint or 0, reason=found.reason, explanation=found.explanation)

    return score


def _why(output: ModelOutput) -> str:
    details = output.choices[0].stop_details if output.choices else None
    if details is None:
        return f"stopped: {output.stop_reason}"
    parts = (details.type, details.category, details.explanation)
    return ": ".join(one for one in parts if one)


def _why_silent(output: ModelOutput) -> str:
    """Why there is no answer at all, if there is none."""
    if output.choices and output.message.tool_calls:
        return "it used the tool until no turn was left"
    return "" if output.completion.strip() else "nothing was answered"


def _nothing(asked: Scenario, reason: str, why: str) -> Score:
    """Of an answer that is no profile; nobody would take it for a fix."""
    return Score(
        value=_values(asked, None), reason=reason, explanation=why, metadata={"false_fix": False}
    )


def _score(
    asked: Scenario, found: Found, explanation: str, *, reason: str = "", answer: str = ""
) -> Score:
    return Score(
        value=_values(asked, found),
        answer=answer or None,
        explanation=explanation,
        reason=reason or None,
        metadata=msgspec.to_builtins(found),
    )


def _values(asked: Scenario, found: Found | None) -> dict[str, float]:
    """As ``sidestep score`` counts them."""
    one = Scored(
        scenario=asked.name,
        model="",
        strategy="",
        level="",
        sample=0,
        status=Status.INVALID if found is None else Status.OK,
        score=found,
        holds=bool(asked.hold),
        hides=any(hold.hidden for hold in asked.hold),
    )
    values = {metric: leaderboard.value(one, metric) for metric in METRICS}
    return {metric: math.nan if value is None else value for metric, value in values.items()}


def _in_words(found: Found) -> str:
    """Why it does not reach ``joint``, or that it does."""
    through = (*found.visible.bypasses, *found.hidden.bypasses)
    parts = (
        "not enforced" if not found.enforced else "",
        "a container does not start under it" if not found.starts else "",
        f"gets through: {_some(through)}" if through else "",
        f"does not work: {_some(found.broken)}" if found.broken else "",
        f"cannot be judged here: {_some(found.unjudged)}" if found.unjudged else "",
    )
    said = "; ".join(filter(None, parts))
    return said or ("held, and everything works" if found.joint else "not shown to be held")


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
