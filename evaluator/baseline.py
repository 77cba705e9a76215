"""Stored results that a library is compared with: which candidate of them is which profile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct
from msgspec.structs import replace

from evaluator.check_items import Unit
from evaluator.difference import CandidateDifference, Setting, difference, suites_of
from evaluator.errors import InputError
from evaluator.expectations import Expected, Promise
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
    document = parse_document(load_document(Path(path)))
    if not document.candidates:
        raise InputError(f"{path}: holds no candidate to compare with")
    return Baseline(path, document)


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
