"""Stored results that a library is compared with: which candidate of them is which profile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct
from msgspec.structs import replace

from evaluator.check_items import Unit
from evaluator.difference import CandidateDifference, Setting, difference, suites_of
from evaluator.errors import InputError
from evaluator.expectations import Expected, Promise
from reports.check_schema import Item
from reports.document import load_document, parse_document
from reports.schema import Candidate, Document


class Baseline(Struct, frozen=True):
    """A results document, and where it is from."""

    path: str
    document: Document

    def counterpart(self, unit: Unit) -> Candidate | None:
        """The candidate that this unit was, in the same posture and model where it says so."""
        profile = unit.expected.profile
        same = [
            one for one in self.document.candidates if not unit.several or _is_set_up(one, unit)
        ]
        for found in (
            [one for one in same if one.name == unit.name],
            [one for one in same if one.name == profile],
            [one for one in same if _is_same_file(one.source, profile)],
        ):
            here = [one for one in found if _is_set_up(one, unit)]
            if here or len(found) == 1:
                return (here or found)[0]
        return None

    def counterparts(self, units: Sequence[tuple[Unit, str]]) -> list[Candidate | None]:
        """The candidates that these units, with their digests, were; None for a new one.

        What nothing is set up like, but has the name, is compared all the same, if it is the only
        one of that name; then what has another name and the same digest.
        """
        found = [self.counterpart(unit) for unit, _ in units]
        for record in self.document.candidates:
            if any(record is one for one in found):
                continue
            mine = [at for at, (unit, _) in enumerate(units) if _is_unit(record, unit)]
            if mine:
                profile = units[mine[0]][0].expected.profile
                single = sum(_is_named(one, profile) for one in self.document.candidates) == 1
                wanted = mine if single else []
            else:
                wanted = [
                    at
                    for at, (unit, digest) in enumerate(units)
                    if record.digest == digest != "" and _is_set_up(record, unit)
                ]
            for at in wanted:
                found[at] = found[at] or record
        return found

    def left(
        self, used: Iterable[Candidate], profiles: Iterable[str], *, gone: bool
    ) -> Iterator[Item]:
        """An item for each candidate that nothing was compared with, and that so fails.

        ``profiles`` are those that ran; ``gone``: any other profile is not there any more.
        """
        compared, names = list(used), list(profiles)
        items: dict[str, Item] = {}
        for record in self.document.candidates:
            if any(record is one for one in compared):
                continue
            profile = next((one for one in names if _is_named(record, one)), None)
            if profile is not None or gone:
                item = _left(record, profile)
                items.setdefault(item.id, item)
        yield from items.values()

    def unexpected(self, names: Iterable[str], root: Path) -> list[Expected]:
        """Profiles of which the file says nothing and the baseline something: no promises."""
        found: list[Expected] = []
        for name in names:
            mine = [one for one in self.document.candidates if _is_named(one, name)]
            if not mine:
                continue
            postures = dict.fromkeys(one.posture for one in mine if one.posture)
            models = dict.fromkeys(model for one in mine if (model := _model(one)))
            standard = Promise()
            promise = replace(
                standard,
                postures=tuple(postures) or standard.postures,
                runtime_models=tuple(models) or standard.runtime_models,
            )
            found.append(Expected(name, root / name, promise))
        return found

    def compared(
        self, old: Candidate, new: Candidate, now: Document
    ) -> tuple[CandidateDifference | None, Sequence[Setting]]:
        """What differs in one candidate, and what else is not as it was."""
        base = replace(self.document, candidates=(old,))
        fresh = replace(now, candidates=(new,))
        found = difference(base, fresh, suites_of(base, fresh))
        one = found.candidates[0] if found.candidates else None
        # The objective of a check is its file.
        settings = [each for each in found.settings if each.name != "objective"]
        return one, [*settings, *(one.settings if one else ())]


def read(path: str) -> Baseline:
    """Results to compare with; ``InputError`` or ``ReportError`` if they cannot be."""
    if not path:
        raise InputError("--baseline: an empty path")
    try:
        document = parse_document(load_document(Path(path)))
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from None
    if not document.candidates:
        raise InputError(f"{path}: holds no candidate to compare with")
    return Baseline(path, document)


def _left(record: Candidate, profile: str | None) -> Item:
    set_up = ",".join(filter(None, (record.posture, _model(record))))
    mark = f"[{set_up}]" if profile and set_up else ""
    if profile is None:
        message = "in the baseline, and not in the library any more"
        advice = "put it back, or make a new baseline: `sidestep check -o DIRECTORY`"
    else:
        message = f"cannot be compared: the baseline has it {mark or 'set up otherwise'}"
        advice = "test it so as well (postures, runtime-models), or make a new baseline"
    name = profile or record.name.partition("[")[0] or record.source
    return Item(
        id=f"{name}::gone profile{mark}",
        profile=name,
        subject="profile",
        kind="baseline",
        status="fail",
        says="gone",
        message=message,
        detail=(advice,),
        posture=record.posture or "",
        runtime_model=_model(record),
    )


def _is_unit(record: Candidate, unit: Unit) -> bool:
    return _is_named(record, unit.expected.profile)


def _model(candidate: Candidate) -> str:
    return candidate.runtime_model.partition("/")[0]


def _is_set_up(candidate: Candidate, unit: Unit) -> bool:
    return candidate.posture in (None, unit.posture) and _model(candidate) in ("", unit.model)


def _is_named(candidate: Candidate, profile: str) -> bool:
    return candidate.name.partition("[")[0] == profile or _is_same_file(candidate.source, profile)


def _is_same_file(source: str, profile: str) -> bool:
    """Whether one of two paths ends with the other: they are relative to different places."""
    one, other = PurePosixPath(source).parts, PurePosixPath(profile).parts
    common = min(len(one), len(other))
    return common > 0 and one[-common:] == other[-common:]
