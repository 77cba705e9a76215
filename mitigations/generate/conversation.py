"""The ways to ask for one mitigation: once, with feedback on what was answered, with a tool.

What is told between two requests comes from whoever drives this, by a function, and is kept in the
store with the answers: a conversation that is read again needs no evaluation either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from mitigations.candidate import ProfileError
from mitigations.generate.answer import (
    PROFILE_SCHEMA,
    SCHEMA,
    Answer,
    profile_text,
    read_answer,
)
from mitigations.generate.client import Asker
from mitigations.generate.reply import Reply, Status, Usage
from mitigations.generate.request import Request
from mitigations.strict_json import is_table

TOOL = "evaluate_profile"
TOOL_DESCRIPTION = (
    "Runs known ways to the effects of the task, and the programs that must work, under a profile, "
    "and says which ways get through and what no longer works."
)
NO_MORE = "No evaluation is left. Answer now."
_LONGEST_ANSWER = 8_000
MOST_TURNS = 3
"""Times the budget of evaluations: a model that only talks does not talk for ever."""


class Strategy(StrEnum):
    SINGLE = "single"
    """One request, one answer."""
    FEEDBACK = "feedback"
    """The answer is evaluated, what the prompt may show of that is said, and it is asked again."""
    TOOLS = "tools"
    """The model evaluates profiles with a tool before it answers."""


class Said(Struct, frozen=True):
    """What a model is told of a profile that it wrote."""

    text: str
    content: bool
    """Whether there is nothing to complain of: no more rounds."""


class Task(Struct, frozen=True, kw_only=True):
    """What to ask; the same for every sample of it."""

    model: str
    system: str
    prompt: str
    strategy: Strategy = Strategy.SINGLE
    rounds: int = 3
    """Of feedback: so many answers at most; of a tool: so many evaluations."""
    max_tokens: int = 16_000
    effort: str | None = None
    judged_as: str = ""
    """Names what a profile is judged by: the same name and profile, the same feedback."""

    def opening(self) -> Request:
        """The first request."""
        return Request(
            model=self.model,
            system=self.system,
            messages=({"role": "user", "content": self.prompt},),
            max_tokens=self.max_tokens,
            schema=SCHEMA,
            tools=(_tool(),) if self.strategy is Strategy.TOOLS else (),
            effort=self.effort,
        )


class Outcome(Struct, frozen=True, kw_only=True):
    """What one sample of a task came to."""

    status: Status
    why: str = ""
    answer: Answer | None = None
    usage: Usage = Usage(cost=0.0)
    """Of all its requests."""
    answered_by: str = ""
    """The model as the provider named it."""
    stop_reason: str = ""
    requests: tuple[str, ...] = ()
    """Their digests, in order: the files of the store."""


Judge = Callable[[str], Awaitable[Said]]
"""What may be said of a profile, given as JSON text."""


async def converse(asker: Asker, task: Task, sample: int, judge: Judge) -> Outcome:
    """One sample of a task.  Raises what ``Asker.ask`` raises."""
    match task.strategy:
        case Strategy.SINGLE:
            return await _single(asker, task, sample)
        case Strategy.FEEDBACK:
            return await _with_feedback(asker, task, sample, judge)
        case Strategy.TOOLS:
            return await _with_tool(asker, task, sample, judge)


async def _single(asker: Asker, task: Task, sample: int) -> Outcome:
    request = task.opening()
    reply = await asker.ask(request, sample)
    return _add(Outcome(status=reply.status), request, reply)


async def _with_feedback(asker: Asker, task: Task, sample: int, judge: Judge) -> Outcome:
    """The last answer that could be read counts; after one that could not, it is asked again."""
    request = task.opening()
    outcome = Outcome(status=Status.INVALID)
    best: Answer | None = None
    for turn in range(task.rounds):
        reply = await asker.ask(request, sample)
        outcome = _add(outcome, request, reply)
        best = outcome.answer or best
        last = turn + 1 == task.rounds or reply.status is not Status.OK
        if last or reply.tool_uses or not _echo(reply):
            break
        said = await _feedback(asker, task, outcome, judge)
        if said.content:
            break
        request = _continued(request, reply, [{"type": "text", "text": said.text}])
    if outcome.status is Status.API_ERROR or best is None:
        return outcome  # nothing is known of the model yet, or there is nothing to fall back on
    if outcome.answer is None:
        return replace(outcome, status=Status.OK, why="", answer=best)
    return outcome


async def _feedback(asker: Asker, task: Task, outcome: Outcome, judge: Judge) -> Said:
    answer = outcome.answer
    if answer is None:
        return Said(f"That is no answer: {outcome.why}. Answer again.", content=False)
    if answer.profile is None:
        return Said("", content=True)
    return await _judged(asker, task, answer.profile, judge)


async def _with_tool(asker: Asker, task: Task, sample: int, judge: Judge) -> Outcome:
    request = task.opening()
    outcome = Outcome(status=Status.INVALID)
    left = task.rounds
    for _ in range(task.rounds * MOST_TURNS):
        reply = await asker.ask(request, sample)
        outcome = _add(outcome, request, reply)
        if reply.status is not Status.OK or not (reply.tool_uses or _is_paused(reply)):
            return outcome
        results: list[dict[str, Any]] = []
        for use in reply.tool_uses:
            text, wrong = await _used(asker, task, use, left, judge)
            left -= not wrong and left > 0
            results.append(_result(use, text, wrong=wrong))
        request = _continued(request, reply, results)
    why = f"no answer after {task.rounds * MOST_TURNS} turns with the tool"
    return replace(outcome, status=Status.INVALID, why=why, answer=None)


def _is_paused(reply: Reply) -> bool:
    """Whether it goes on as soon as it is sent back; with nothing in it, it cannot be."""
    return reply.stop_reason == "pause_turn" and bool(_echo(reply))


async def _used(
    asker: Asker, task: Task, use: Mapping[str, Any], left: int, judge: Judge
) -> tuple[str, bool]:
    """What a call of the tool returns, and whether that is an error."""
    if use.get("name") != TOOL:
        return f"There is no such tool; there is {TOOL}.", True
    if not left:
        return NO_MORE, True
    given: object = use.get("input")
    try:
        text = profile_text(given.get("profile") if is_table(given) else given)
    except ProfileError as error:
        return str(error), True
    return (await _judged(asker, task, text, judge)).text, False


def _result(use: Mapping[str, Any], text: str, *, wrong: bool) -> dict[str, Any]:
    return {
        "type": "tool_result",
        "tool_use_id": use.get("id"),
        "content": text,
        "is_error": wrong,
    }


async def _judged(asker: Asker, task: Task, profile: str, judge: Judge) -> Said:
    """From the store, or by the judge, whose word is then kept."""
    name = f"{task.judged_as}:{hashlib.sha256(profile.encode()).hexdigest()}"
    kept = asker.store.said(name, Said)
    if kept is None:
        kept = await judge(profile)
        asker.store.say(name, kept)
    return kept


def _continued(request: Request, reply: Reply, content: list[dict[str, Any]]) -> Request:
    """With the answer as it came, signatures and all, and what is said to it."""
    mine: tuple[dict[str, Any], ...] = ({"role": "user", "content": content},) if content else ()
    theirs = {"role": "assistant", "content": _echo(reply)}
    return replace(request, messages=(*request.messages, theirs, *mine))


def _echo(reply: Reply) -> list[Mapping[str, Any]]:
    """The answer as it is sent back: the API refuses blocks of text without text, even its own."""
    return [
        one for one in reply.content if one["type"] != "text" or str(one.get("text", "")).strip()
    ]


def _add(outcome: Outcome, request: Request, reply: Reply) -> Outcome:
    """What the conversation came to with one more reply."""
    status, why, answer = reply.status, reply.why, None
    if status is Status.OK and reply.tool_uses and not request.tools:
        status, why = Status.INVALID, "the answer calls a tool, and there is none"
    elif status is Status.OK and not reply.tool_uses:
        try:
            answer = read_answer(reply.text)
        except ProfileError as error:
            status, why = Status.INVALID, _shortly(f"the answer is invalid: {error}")
    return Outcome(
        status=status,
        why=why,
        answer=answer,
        usage=outcome.usage.plus(reply.usage),
        answered_by=reply.model or outcome.answered_by,
        stop_reason=reply.stop_reason,
        requests=(*outcome.requests, request.digest()),
    )


def _shortly(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_ANSWER]


def _tool() -> dict[str, Any]:
    return {
        "name": TOOL,
        "description": TOOL_DESCRIPTION,
        "input_schema": {
            "type": "object",
            "properties": {"profile": PROFILE_SCHEMA},
            "required": ["profile"],
            "additionalProperties": False,
        },
        "strict": True,
    }
