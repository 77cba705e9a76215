"""Runs the server for trying things by hand: ``python -m tests.messages_api --help``."""

import argparse
import runpy
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.messages_api.instances import shaped
from tests.messages_api.replies import Reply, Script
from tests.messages_api.server import MessagesApi, Recorded

UNSCRIPTED = ("claude-haiku-5-5", "claude-opus-5-5", "claude-sonnet-5-5")

FILE_HELP = """\
A scripted file is Python that defines MODELS, a model's name to what it answers: a list of replies,
used up in order, or a function of the request's body.

    from tests.messages_api import replies

    MODELS = {
        "claude-opus-5-5": lambda body: replies.text("{}", thinking="what is asked here?"),
        "claude-haiku-5-5": [replies.rate_limited(after_ms=500), replies.refusal("cyber")],
    }

Without a file three models answer the plainest JSON of the shape that is asked for."""


class BadFile(Exception):  # noqa: N818  # its text is one line for the terminal
    pass


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.messages_api",
        description="A scripted Messages API on 127.0.0.1. Ctrl-C ends it.",
        epilog=FILE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--models", type=Path, metavar="FILE", help="what the models answer")
    parser.add_argument(
        "--batch-polls", type=int, default=1, metavar="N", help="looks until a batch has ended"
    )
    given = parser.parse_args(arguments)
    try:
        models = scripted(given.models) if given.models else dict.fromkeys(UNSCRIPTED, shaped)
        api = MessagesApi(port=given.port, batch_polls=given.batch_polls, log=log)
    except (BadFile, OSError, OverflowError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    for name, script in models.items():
        api.script(name, script)
    with api:
        for name, value in api.environment.items():
            print(f"export {name}={value}", flush=True)  # noqa: T201
        print(f"models: {', '.join(models)}", file=sys.stderr)  # noqa: T201
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"{len(api.requests)} requests", file=sys.stderr)  # noqa: T201
    for failure in api.errors:
        print(f"error: {failure}", file=sys.stderr)  # noqa: T201
    return 1 if api.errors else 0


def scripted(path: Path) -> Mapping[str, Script]:
    """MODELS of a Python file. Raises BadFile with what is wrong."""
    if not path.is_file():
        raise BadFile(f"{path}: no such file")
    try:
        models = runpy.run_path(str(path)).get("MODELS")
    except Exception as error:  # whatever the file does
        raise BadFile(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(models, dict) or not models:
        raise BadFile(f"{path}: MODELS must be a dict of model names and what they answer")
    for name, script in models.items():
        if not callable(script) and not _are_replies(script):
            raise BadFile(f"{path}: MODELS[{name!r}] is no function and no list of replies")
    return models


def _are_replies(script: Any) -> bool:
    return isinstance(script, list) and all(isinstance(one, Reply) for one in script)


def log(recorded: Recorded) -> None:
    body = recorded.body if isinstance(recorded.body, dict) else {}
    words = [recorded.method, recorded.path, body.get("model"), recorded.status or "cut"]
    print(*(word for word in words if word), file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
