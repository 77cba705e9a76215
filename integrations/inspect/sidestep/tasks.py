"""The task: one sample for each scenario."""

from __future__ import annotations

from collections.abc import Iterator

from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ResponseSchema,
)
from inspect_ai.solver import generate
from inspect_ai.util import JSONSchema

from evaluator import prompts
from evaluator.doctor import why_not_live
from evaluator.scenarios import CANARY, Scenario, Split, scenarios
from evaluator.shown import Level, view
from mitigations.generate.answer import SCHEMA
from mitigations.generate.conversation import MOST_TURNS
from sidestep.parameters import UnableError, one_of, one_or_more
from sidestep.scorers import answered, joint_asked
from sidestep.solvers import with_tool

ALL = "all"


@task
def mitigation(
    split: str = Split.DEV,
    level: str = Level.EFFECT,
    feedback: bool = False,
    epochs: int = 1,
    rounds: int = 3,
    structured: bool = True,
) -> Task:
    """Seccomp profiles for the scenarios, judged by running the ways that a model never saw.

    Args:
        split: ``dev``, ``held-out`` or ``all``.
        level: How much the prompt tells: ``effect``, ``poc`` or ``advisory``.
        feedback: Whether the model may evaluate profiles, over visible ways only.
        epochs: Answers to each scenario.
        rounds: With feedback, how many profiles may be evaluated before the answer.
        structured: Whether the provider is given the schema of an answer.
    """
    one_of("split", split, (*Split, ALL))
    one_of("level", level, tuple(Level))
    one_or_more("epochs", epochs)
    one_or_more("rounds", rounds)
    if lack := why_not_live():  # before anybody has paid for an answer
        raise UnableError(f"no answer can be judged here: {lack}")
    schema = ResponseSchema(name="answer", json_schema=JSONSchema.model_validate(SCHEMA))
    return Task(
        dataset=MemoryDataset(list(_samples(split, Level(level))), name=f"scenarios-{split}"),
        solver=with_tool(rounds) if feedback else generate(),
        scorer=[answered(), joint_asked()],
        epochs=Epochs(epochs, _reducers(epochs)),
        config=GenerateConfig(response_schema=schema if structured else None),
        turn_limit=rounds * MOST_TURNS if feedback else None,
        version=prompts.VERSION,
        metadata={"canary": CANARY},
        headline_metric="answered.joint",
    )


def _reducers(epochs: int) -> list[str]:
    return ["mean"] if epochs == 1 else ["mean", f"pass_at_{epochs}", f"pass_k_{epochs}"]


def _samples(split: str, level: Level) -> Iterator[Sample]:
    for one in scenarios():
        if split in (one.split, ALL):
            yield _sample(one, level)


def _sample(one: Scenario, level: Level) -> Sample:
    asked_for = prompts.prompt(view(one, level))
    return Sample(
        id=one.name,
        input=[
            ChatMessageSystem(content=asked_for.system),
            ChatMessageUser(content=asked_for.user),
        ],
        metadata={"cluster": one.cluster, "tier": one.tier, "split": one.split, "level": level},
    )
