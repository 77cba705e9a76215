"""The first of us that runs: until the command is ready for it, Ctrl-C ends the process at once."""

import gc
import signal
from typing import NoReturn

_GARBAGE = 500_000
"""What is made here has next to no cycles: looking for them was a tenth of the time."""


def main() -> NoReturn:
    """The command ``sidestep``; its modules are imported with SIGINT at its default."""
    gc.set_threshold(_GARBAGE)  # for all that are forked as well
    taken = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if taken:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from evaluator.cli import main as command

    if taken:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()
