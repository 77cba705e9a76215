"""A model that answers what a test wrote down, in the place of ``Asker``."""

import json
from collections.abc import Sequence
from typing import Any

from mitigations.generate.client import NotAskedError
from mitigations.generate.reply import Reply, Status, Usage
from mitigations.generate.request import Request


def program(*attack: dict[str, Any], blobs: Sequence[dict[str, Any]] = (), **more: Any) -> str:
    """A program as text."""
    document = {"format": "sidestep.program/1", "blobs": list(blobs), "attack": list(attack)}
    return json.dumps({**document, **more})


def call(name: str, *arguments: Any, **more: Any) -> dict[str, Any]:
    return {"op": "syscall", "name": name, "args": list(arguments), **more}


def answer(*programs: str, explanation: str = "Try this.") -> Reply:
    return said(json.dumps({"explanation": explanation, "programs": list(programs)}))


def said(text: str) -> Reply:
    """An answer with that text, after some thinking."""
    blocks = [{"type": "thinking", "thinking": "..."}, {"type": "text", "text": text}]
    usage = Usage(input_tokens=100, output_tokens=10, cost=0.01)
    return Reply(status=Status.OK, model="scripted-1", usage=usage, raw={"content": blocks})


REFUSED = Reply(
    status=Status.REFUSED,
    why="refused: cyber",
    model="scripted-1",
    category="cyber",
    usage=Usage(input_tokens=100, cost=0.01),
    raw={"content": []},
)
TRUNCATED = Reply(status=Status.TRUNCATED, why="cut off: max_tokens", raw={"content": []})
NO_ANSWER = Reply(status=Status.API_ERROR, why="HTTP 529: overloaded")


class Script:
    """Gives these replies one after another, then sends nothing; ``asked`` is what it was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.asked: list[Request] = []

    async def ask(self, request: Request, sample: int) -> Reply:
        assert sample == len(self.asked)
        if not self.replies:
            raise NotAskedError("the script is at its end")
        self.asked.append(request)
        return self.replies.pop(0)

    @property
    def turns(self) -> list[str]:
        """What it was told, request by request."""
        return [str(one.messages[0]["content"]) for one in self.asked]


class Memory:
    """What was told of programs, in the place of ``Store``."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def said(self, key: str, kind: type[str]) -> str | None:
        assert kind is str
        return self.kept.get(key)

    def say(self, key: str, what: str) -> None:
        self.kept[key] = what


PATH = {"string": "d/t"}
MKDIR = program(call("mkdir", {"blob": 0}, 0o755, decisive=True), blobs=[PATH])
MKDIR_I386 = program(
    call("mkdirat", -100, {"blob": 0}, 0o755, abi="i386", entry="int80", decisive=True),
    blobs=[PATH],
)
