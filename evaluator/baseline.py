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
        same = [one for one in self.document.candidates if not unit.several or _is_set_up(one, unit)]
        profile = unit.expected.profile
        for is_it in (
            lambda one: one.name == unit.name,
            lambda one: one.name == profile,
            lambda one: _is_below(one.source, profile),
            lambda one: one.name == PurePosixPath(profile).stem,
        ):
            found = [one for one in same if is_it(one)]
            if len(found) == 1:
                return found[0]
            here = [one for one in found if _is_set_up(one, unit)]
            if here:
                return here[0]
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
    names = (profile, PurePosixPath(profile).stem)
    plain = candidate.name.partition("[")[0]
    return plain in names or _is_below(candidate.source, profile)


def _is_below(source: str, profile: str) -> bool:
    """Whether a path ends with that of a profile."""
    wanted = PurePosixPath(profile).parts
    return PurePosixPath(source).parts[-len(wanted) :] == wanted
