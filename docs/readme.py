"""Puts what `make demo` prints now into README.md: python docs/readme.py."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def demo() -> str:
    command = ["make", "--no-print-directory", "demo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    output = done.stdout.replace(str(ROOT), "/path/to/sidestep")
    return re.sub(r"(Linux \d+\.\d+)\S*", r"\1", output)  # not which build of it we have


def abridged(output: str) -> str:
    """The first candidate and what comes after the last; a reader needs no more to begin."""
    paragraphs = output.rstrip().split("\n\n")
    head, first, *others = paragraphs
    tail = others[-3:]
    return "\n\n".join([head, first, "[...]", *tail])


def main() -> None:
    text = README.read_text()
    shown = f"$ make demo\n{abridged(demo())}\n$ make test\n"
    changed, count = re.subn(
        r"^\$ make demo\n.*?^\$ make test\n", lambda _: shown, text, flags=re.MULTILINE | re.DOTALL
    )
    assert count == 1, "README.md no longer shows the two commands"
    README.write_text(changed)


if __name__ == "__main__":
    main()
