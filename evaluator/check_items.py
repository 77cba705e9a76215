"""Which items a check of a library has, before anything is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from evaluator.errors import InputError
from evaluator.expectations import Expected, Library, Waiver
from evaluator.objectives import unknown
from reports.check_schema import Item, Place

PROFILE = "profile"
"""The subject of the item about the file itself."""


class Unit(Struct, frozen=True):
    """One profile under one posture and runtime model."""

    expected: Expected
    posture: str
    model: str

    @property
    def several(self) -> bool:
        """Whether the profile has more than one."""
        promise = self.expected.promise
        return len(promise.postures) * len(promise.runtime_models) > 1

    @property
    def name(self) -> str:
        """What results call the candidate."""
        return f"{self.expected.profile}{self.mark}"

    @property
    def mark(self) -> str:
        return f"[{self.posture},{self.model}]" if self.several else ""

    def item(self, subject: str, kind: str, status: str, says: str, message: str = "") -> Item:
        """An item of this unit, which points to the profile."""
        profile = self.expected.profile
        what = f"{says} {subject}" if kind == "baseline" else subject
        title, technique = self._about(subject)
        return Item(
            id=f"{profile}::{what}{self.mark}",
            profile=profile,
            subject=subject,
            kind=kind,
            status=status,
            says=says,
            title=title,
            attack_technique=technique,
            message=message,
            posture=self.posture,
            runtime_model=self.model,
            place=Place(shown(self.expected.path)),
        )

    def _about(self, subject: str) -> tuple[str, str]:
        """What a family or workload is, in words, and the ATT&CK technique of a family."""
        promise = self.expected.promise
        for one in promise.families:
            if one.label == subject:
                return one.family.title, one.family.attack_technique
        titles = {one.name: one.title for one in promise.workloads}
        return titles.get(subject, ""), ""


def mark_of(item: Item) -> str:
    """What tells an item from those of the same profile in other postures and models."""
    mark = f"[{item.posture},{item.runtime_model}]"
    return mark if item.posture and item.id.endswith(mark) else ""


def units(profiles: Sequence[Expected]) -> list[Unit]:
    """All combinations that the profiles are to be tested in."""
    return [
        Unit(one, posture, model)
        for one in profiles
        for posture in one.promise.postures
        for model in one.promise.runtime_models
    ]


def selected(library: Library, names: Collection[str]) -> list[Expected]:
    """The profiles of these names, or all; ``InputError`` for a name that is none of them."""
    known = [one.profile for one in library.profiles]
    for name in names:
        if name not in known:
            raise InputError(f"--profile: {unknown('profile', name, known)}")
    return [one for one in library.profiles if not names or one.profile in names]


def listed(library: Library, profiles: Sequence[Expected]) -> tuple[Item, ...]:
    """Every item, as it is known before anything runs."""
    found = tuple(_listed(library, profiles))
    check_ids(found)
    return found


def check_ids(items: Iterable[Item]) -> None:
    """``AssertionError`` if two items have one id: the one would hide what the other says."""
    counts = Counter(one.id for one in items)
    twice = [one for one, count in counts.items() if count > 1]
    if twice:
        raise AssertionError(f"two items are called {twice[0]}")


def _listed(library: Library, profiles: Sequence[Expected]) -> Iterator[Item]:
    for one in profiles:
        for unit in units([one]):
            yield unit.item(PROFILE, "profile", "listed", "")
            for family in one.promise.families:
                yield unit.item(family.label, "family", "listed", "")
            for workload in one.promise.workloads:
                yield unit.item(workload.name, "workload", "listed", "")
        for waiver in one.waivers:
            yield waiver_item(library, one, waiver, "listed", "", "")


def waiver_item(
    library: Library, one: Expected, waiver: Waiver, status: str, says: str, message: str
) -> Item:
    """The item of a waiver, which points to its line."""
    return Item(
        id=f"{one.profile}::accept {waiver.subject}",
        profile=one.profile,
        subject=waiver.subject,
        kind="waiver",
        status=status,
        says=says,
        message=message,
        place=Place(shown(library.file), waiver.line),
    )


def shown(path: Path) -> str:
    """A path relative to the working directory where it is below it."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):
        return path.as_posix()
