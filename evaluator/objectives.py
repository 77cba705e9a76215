"""Objectives: named sets of families that must hold and workloads that must run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from msgspec import Struct

from evaluator.errors import InputError


class Objective(Struct, frozen=True):
    """``families`` maps each family that must hold to the reason why it is named."""

    name: str
    title: str
    families: Mapping[str, str]
    workloads: tuple[str, ...]


OBJECTIVES = (
    Objective(
        name="no-new-directories",
        title="Nobody may create a directory, and an ordinary shell still runs",
        families={
            "create-directory": "the effect itself: a directory that was not there before",
        },
        workloads=("static-entry", "shell-basics"),
    ),
    # A shell cannot run without new processes, so this objective asks only for a static program.
    Objective(
        name="no-new-processes",
        title="The program that runs stays the only one",
        families={
            "create-process": "the effect itself: a process beside the one that was confined",
        },
        workloads=("static-entry",),
    ),
)


def objective(name: str) -> Objective:
    """The objective of that name, or an ``InputError`` with the nearest names."""
    for one in OBJECTIVES:
        if one.name == name:
            return one
    raise InputError(unknown("objective", name, [one.name for one in OBJECTIVES]))


def unknown(kind: str, name: str, known: list[str]) -> str:
    """One line that says which names there are: the nearest ones, or all of them."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"no {kind} {name!r}; did you mean {' or '.join(near)}?"
    return f"no {kind} {name!r}; there are: {', '.join(sorted(known))}"
