"""The entry point of Inspect: what is imported here can be named as ``sidestep/NAME``."""

from sidestep.scorers import answered, joint_asked
from sidestep.solvers import known_answer, with_tool
from sidestep.tasks import mitigation

__all__ = ["answered", "joint_asked", "known_answer", "mitigation", "with_tool"]
