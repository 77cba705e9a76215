"""How often Python looks for cycles."""

import gc

_OBJECTS = 500_000
"""What is made here has next to no cycles: looking for them was a tenth of the time."""


def collect_rarely() -> None:
    """For this process and all that are forked from it."""
    gc.set_threshold(_OBJECTS)
