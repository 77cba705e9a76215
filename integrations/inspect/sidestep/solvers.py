"""Ways to an answer beside one request: with a tool, and without a model at all."""

from __future__ import annotations

import json

from inspect_ai.agent import as_solver, react
from inspect_ai.model import ModelOutput, ModelUsage
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import Tool, ToolDef, ToolError, ToolParams
from inspect_ai.util import JSONSchema

from evaluator.scenario_check import Known, known_answers
from evaluator.scenarios import Scenario, scenario
from mitigations.candidate import ProfileError
from mitigations.generate.answer import PROFILE_SCHEMA, profile_text
from mitigations.generate.conversation import NO_MORE, TOOL, TOOL_DESCRIPTION
from sidestep.evaluations import told
from sidestep.parameters import one_of, one_or_more

_KNOWN = (Known.REFERENCE, Known.POC_ONLY, Known.ALLOW_ALL, Known.DENY_ALL)


@solver
def with_tool(rounds: int = 3) -> Solver:
    """An agent that may evaluate so many profiles before it answers; the last message counts."""
    one_or_more("rounds", rounds)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        tool = _evaluate_profile(scenario(str(state.sample_id)), rounds)
        agent = react(prompt=None, tools=[tool], submit=False)
        return await as_solver(agent)(state, generate)

    return solve


def _evaluate_profile(asked: Scenario, rounds: int) -> Tool:
    """The tool for one sample: it tells of visible ways only, and has a budget."""
    left = rounds

    async def execute(profile: object) -> str:
        nonlocal left
        if not left:
            raise ToolError(NO_MORE)
        try:
            text = profile_text(profile)
        except ProfileError as error:
            raise ToolError(str(error)) from None
        left -= 1
        return await told(asked, text)

    # Inspect takes no parameter without a description.
    profile = _with_gaps(JSONSchema.model_validate(PROFILE_SCHEMA))
    profile.description = "The profile, in the form of the answer."
    parameters = ToolParams(properties={"profile": profile}, required=["profile"])
    return ToolDef(execute, TOOL, TOOL_DESCRIPTION, parameters).as_tool()


def _with_gaps(schema: JSONSchema) -> JSONSchema:
    """Inspect checks a call by the schema itself, and a profile may leave out what is null."""
    schema.required = None
    for one in (*(schema.properties or {}).values(), *(schema.anyOf or ()), schema.items):
        if one is not None:
            _with_gaps(one)
    return schema


@solver
def known_answer(answer: str = "reference") -> Solver:
    """Answers without a model: ``reference``, ``poc-only``, ``allow-all`` or ``deny-all``.

    Where a scenario has no such answer, it says that no profile can do it.
    """
    one_of("answer", answer, _KNOWN)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        del generate
        asked = scenario(str(state.sample_id))
        text = known_answers(asked).get(Known(answer))
        found = {
            "explanation": "",
            "possible": text is not None,
            "profile": None if text is None else json.loads(text),
        }
        state.output = ModelOutput.from_content(f"known/{answer}", json.dumps(found))
        state.output.usage = ModelUsage()
        return state

    return solve
