"""Runs what the tutorial shows, and says where a page shows something else than what is printed.

.venv/bin/python docs/transcripts.py [PAGE...]

A line that ends with "`NAME`:" before a fenced block makes that file in an empty directory; the
commands of `console` blocks run there, one after another.  `[...]` in their output stands for
anything.  Numbers differ between machines and are not compared, except for exit codes.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[1]
PAGES = sorted(Path(__file__).with_name("tutorial").glob("*.md"))
CUT = "[...]"
_BLOCK = re.compile(
    r"(?P<before>[^\n]*)\n+```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Command(Struct, frozen=True):
    """A command of a page, and what the page says that it prints."""

    line: str
    shown: str


def mistakes(page: Path) -> Iterator[str]:
    """Each command of the page that prints something else, with what it prints."""
    with tempfile.TemporaryDirectory() as directory:
        environment = _environment(Path(directory))
        code = 0
        for block in _BLOCK.finditer(page.read_text()):
            name = re.search(r"`([\w./-]+)`:$", block["before"])
            if name:
                path = Path(directory, "work", name[1])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block["body"])
            elif block["kind"] == "console":
                for command in commands(block["body"]):
                    printed, code = _run(command.line, code, environment)
                    if not _is_so(command, printed):
                        yield f"{page.name}: $ {command.line}\n{printed}"


def commands(block: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        yield Command(line, shown)


def _is_so(command: Command, printed: str) -> bool:
    if command.line == "echo $?":
        return command.shown.strip() == printed.strip()
    return agrees(command.shown, printed)


def agrees(shown: str, printed: str) -> bool:
    """Whether the parts that are shown come one after another in what was printed."""
    parts = [re.escape(_comparable(part)) for part in shown.split(CUT)]
    return re.fullmatch(".*?".join(parts), _comparable(printed), re.DOTALL) is not None


def _comparable(text: str) -> str:
    """Without what depends on the machine: the kernel's name, numbers, widths."""
    text = re.sub(r"(Linux\s+\d+\.\d+)\S*", r"\1", text)
    return "".join(re.sub(r"\d+(\.\d+)*", "0", text).replace("─", "").split())


def _run(line: str, code: int, environment: dict[str, str]) -> tuple[str, int]:
    """What a shell prints for a line after a command with that exit code, and its own."""
    done = subprocess.run(
        ["bash", "-c", f"(exit {code})\n{line}"],
        cwd=Path(environment["HOME"]),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return done.stdout, done.returncode


def _environment(directory: Path) -> dict[str, str]:
    """Its own directory for HOME, and this tree's ``sidestep`` before any other."""
    work, program = directory / "work", directory / "bin" / "sidestep"
    work.mkdir()
    program.parent.mkdir()
    start = "from evaluator.entry import main; main()"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{start}' \"$@\"\n")
    program.chmod(0o755)
    return {
        "PATH": f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(work),
        "COLUMNS": "80",
        "LC_ALL": "C.UTF-8",
    }


def main(names: Sequence[str]) -> int:
    found = [said for page in (map(Path, names) if names else PAGES) for said in mistakes(page)]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
