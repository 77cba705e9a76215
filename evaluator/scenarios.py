"""Scenarios: what somebody would ask a model for, and what an answer is judged by, as data.

Each is one TOML file, ``evaluator/asked/NAME.toml``, with the profile that solves it beside it in
``NAME.reference.json`` where there is one.  Prompts and feedback show the visible ways only; the
score counts the hidden ones.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from enum import StrEnum
from importlib.resources.abc import Traversable
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from attacks import library
from attacks.errors import AttackError
from attacks.family import FamilyInstance, Technique
from evaluator.errors import InputError
from evaluator.objectives import Objective, unknown
from evaluator.workloads import workload

CANARY = "sidestep-scenarios:b6c1f0a2-9f0e-4f43-8a53-52f0b17e3d1c"
"""In every file, so that it can be kept out of training data, and looked for in a model."""

Text = Annotated[str, Meta(min_length=1)]


class Split(StrEnum):
    DEV = "dev"
    """To write prompts and strategies with."""
    HELD_OUT = "held-out"
    """To report numbers on."""


class Expect(StrEnum):
    """What a right answer is."""

    MITIGABLE = "mitigable"
    NOT_MITIGABLE = "not-mitigable"
    """The allowed mechanisms cannot do it: to say so is right."""
    CONFLICT = "conflict"
    """What must be held and what must work exclude each other: to say so is right."""
    NOTHING = "nothing-to-stop"
    """Every restriction is one too many."""


class Mechanism(StrEnum):
    SECCOMP = "seccomp"
    LANDLOCK = "landlock"
    APPARMOR = "apparmor"
    CAPABILITIES = "capabilities"


class Hold(Struct, frozen=True, forbid_unknown_fields=True):
    """A family that must hold, and which of its ways nobody is told about."""

    family: Text
    hidden: Annotated[tuple[Text, ...], Meta(min_length=1)]
    """Techniques, or names of variants; all other ways are visible."""


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    canary: str
    title: Text
    task: Text
    """What is asked for: the effect, in the words of whoever runs the program."""
    advisory: str = ""
    """What is known of the attack in public; shown at the level ``advisory`` only."""
    references: tuple[str, ...] = ()
    cluster: Text
    """Scenarios of one cluster are not independent of each other."""
    tier: Annotated[int, Meta(ge=1, le=3)]
    """1: names of calls are enough; 2: arguments; 3: several mechanisms, or a conflict."""
    split: Split
    expect: Expect = Expect.MITIGABLE
    mechanisms: tuple[Mechanism, ...] = (Mechanism.SECCOMP,)
    hold: tuple[Hold, ...] = ()
    keep: Mapping[str, str] = field(default_factory=dict[str, str])
    """Families whose baseline must still work, each with the reason."""
    workloads: tuple[str, ...]
    needs: tuple[Text, ...] = ()
    """What of the machine it cannot be judged without: io_uring, i386, ..."""
    reference: str | None = None
    """The profile that solves it, as JSON."""

    @property
    def families(self) -> tuple[str, ...]:
        """All that has to run for a verdict: what must hold, then what must still work."""
        return (*(one.family for one in self.hold), *self.keep)


def is_hidden(hold: Hold, variant: str, technique: Technique) -> bool:
    """Whether that way, ``family/name`` or what rewrites made of it, is one that nobody is told.

    What a rewrite made is hidden with what it was made of, and by its own technique.  What several
    made, one after another, is always hidden: only a private suite holds it.
    """
    recorded = variant.rpartition("/")[2].partition("~")[0]
    hidden = technique in hold.hidden or recorded in _hidden_names(hold)
    return hidden or is_chained(variant)


def is_chained(variant: str) -> bool:
    """Whether more than one rewrite made it, as its id shows."""
    return variant.rpartition("/")[2].count("~") > 1


@functools.cache
def _hidden_names(hold: Hold) -> frozenset[str]:
    """The recorded variants that it hides, by their own names or by their techniques."""
    instance = library.parse_reference(hold.family)
    return frozenset(
        one.name
        for one in instance.recipes
        if one.technique in hold.hidden or one.name in hold.hidden
    )


@functools.cache
def scenarios() -> tuple[Scenario, ...]:
    """All that ship with the tool, by name; ``InputError`` if one of the files is wrong."""
    directory = importlib.resources.files("evaluator").joinpath("asked")
    files = (one for one in directory.iterdir() if one.name.endswith(".toml"))
    return tuple(_read(one, directory) for one in sorted(files, key=lambda one: one.name))


def scenario(name: str) -> Scenario:
    """The scenario of that name, or an ``InputError`` with the nearest names."""
    for one in scenarios():
        if one.name == name:
            return one
    raise InputError(unknown("scenario", name, [one.name for one in scenarios()]))


def made_of(goal: Objective | None, families: Sequence[str]) -> Scenario:
    """A scenario that is made of an objective and families; none of its ways is hidden.

    ``AttackError`` for a family that is not there.
    """
    named = [*families, *(goal.families if goal else ())]
    labels = dict.fromkeys(library.parse_reference(one).label for one in named)
    name = goal.name if goal else ", ".join(labels)
    title = goal.title if goal else f"Hold {name}"
    return Scenario(
        name=name,
        canary=CANARY,
        title=title,
        task=title,
        cluster=name,
        tier=1,
        split=Split.DEV,
        hold=tuple(Hold(label, ()) for label in labels),
        workloads=goal.workloads if goal else (),
    )


def _read(file: Traversable, directory: Traversable) -> Scenario:
    name = file.name.removesuffix(".toml")
    reference = directory.joinpath(f"{name}.reference.json")
    try:
        raw = msgspec.toml.decode(file.read_bytes())
        solved = {"reference": reference.read_text("utf-8")} if reference.is_file() else {}
        one = msgspec.convert({**raw, "name": name, **solved}, Scenario)
    except msgspec.DecodeError as error:
        raise InputError(f"{file.name}: {error}") from None
    if mistake := _mistake(one):
        raise InputError(f"{file.name}: {mistake}")
    return one


def _mistake(one: Scenario) -> str:
    if one.canary != CANARY:
        return f"canary: write {CANARY!r}"
    if bool(one.hold) == (one.expect is Expect.NOTHING):
        return "hold: families to hold and nothing-to-stop exclude each other"
    if not one.families:
        return "keep: name what must still work, as nothing has to hold"
    for reference in one.workloads:
        workload(reference)
    try:
        instances = [library.parse_reference(reference) for reference in one.families]
    except AttackError as error:
        return str(error)
    for hold, instance in zip(one.hold, instances, strict=False):
        if wrong := _unknown_way(hold, instance):
            return wrong
    return ""


def _unknown_way(hold: Hold, instance: FamilyInstance) -> str:
    names = {identity.partition("/")[2] for identity in instance.ids}
    for way in hold.hidden:
        if way not in names and way not in list(Technique):
            return unknown(f"technique or variant of {hold.family}", way, [*names, *Technique])
    if is_hidden(hold, instance.baseline_id, Technique.BASELINE):
        return f"hidden: the baseline of {hold.family} is the PoC, which anybody may see"
    return ""
