"""What an answer is worth, as Inspect counts it.

Everything that is reduced over epochs is 0 or 1 and better when higher, for Inspect's pass@k and
pass^k take it so; what is better when lower, like ``false_fix``, is in the metadata of the score.
What cannot be judged on this machine is NaN, which Inspect leaves out.
"""

from __future__ import annotations

import msgspec
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Metric, Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState

from evaluator import scoring
from evaluator.scenarios import Expect, scenario
from mitigations.candidate import ProfileError
from mitigations.generate.answer import Answer, read_answer
from sidestep.evaluations import judged

OF_PROFILE = ("valid", "enforced", "starts", "poc_blocked", "held", "workloads_ok", "joint")
METRICS = (*OF_PROFILE, "right")
"""``right``: it reaches ``joint``, or it says that no profile can do it, and none can."""
_UNSOLVABLE = (Expect.NOT_MITIGABLE, Expect.CONFLICT)
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
        if why := _why_silent(state.output):
            return _nothing("no_response", why)
        try:
            answer = read_answer(state.output.completion)
        except ProfileError as error:
            return _nothing("invalid_response_format", str(error))
        return await _of_answer(str(state.sample_id), answer)

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


def _nothing(reason: str, why: str, *, right: bool = False) -> Score:
    """An answer that is no profile is none of what a profile can be, and no false fix."""
    values = {**dict.fromkeys(METRICS, 0), "right": int(right)}
    return Score(value=values, reason=reason, explanation=why, metadata={"false_fix": False})


async def _of_answer(name: str, answer: Answer) -> Score:
    if answer.profile is None:
        right = scenario(name).expect in _UNSOLVABLE
        return _nothing("declined", answer.explanation, right=right)
    found = await judged(name, answer.profile)
    if isinstance(found, str):
        return _nothing("invalid_profile", found)
    values = {metric: _number(getattr(found, metric)) for metric in OF_PROFILE}
    return Score(
        value={**values, "right": values["joint"]},
        answer=answer.profile,
        explanation=_in_words(found),
        metadata=msgspec.to_builtins(found),
    )


def _number(value: bool | None) -> float:
    return float("nan") if value is None else float(value)


def _in_words(found: scoring.Score) -> str:
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
