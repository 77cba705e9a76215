"""The first of us that runs: until the command is ready for it, Ctrl-C ends the process at once."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """The command ``sidestep``; its modules are imported with SIGINT at its default."""
    taken = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if taken:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from evaluator.garbage import collect_rarely

    collect_rarely()
    from evaluator.cli import main as command

    if taken:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()
