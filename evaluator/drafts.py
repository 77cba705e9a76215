"""A candidate with changes, as a file that is read again like any other.

What is run is what is printed: the text is loaded from a file, and nothing else is.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from errno import ENOSYS, EPERM
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from attacks.program import Syscall
from evaluator.elements import Element
from evaluator.errors import InputError
from evaluator.outline import seen_as
from evaluator.repairs import FALLBACKS
from evaluator.request import candidate_of
from mitigations import classic
from mitigations.analysis import InexactError, difference
from mitigations.bpf import Filter
from mitigations.candidate import (
    AppArmorLayer,
    Candidate,
    Layer,
    ProfileError,
    SeccompLayer,
)
from mitigations.changes import Change
from mitigations.export import export
from mitigations.merge import merged
from mitigations.profile_text import appended, edited
from mitigations.stacked import denying

if TYPE_CHECKING:
    from mitigations.load import Meaning


class Draft(Struct, frozen=True):
    """A candidate and the text of its file."""

    candidate: Candidate
    text: str
    meaning: Meaning = "auto"
    runtime_model: str = "runc-1.1"
    posture: str = "container"
    is_part: bool = False
    """Whether the text is a profile made of the candidate's filters, which alone change."""
    beside: tuple[Layer, ...] = ()
    """Its other layers, in force whenever it is run."""
    leaves_out: tuple[str, ...] = ()
    """Kinds of those that nobody can put on here."""

    @property
    def has_source(self) -> bool:
        """Whether there are rules to change; a filter in bytes gets another one beside it."""
        return self.candidate.profile is not None

    def with_changes(self, changes: Iterable[Change]) -> Draft:
        """After these changes to the profile; ``InputError`` where no runtime would take it."""
        profile = self.candidate.profile
        assert profile is not None
        made = list(changes)
        if not made:
            return self
        return self._read(edited(self.text, profile, merged(profile, made)), ".json")

    def with_elements(self, elements: Sequence[Element]) -> Draft:
        """After all of these."""
        if self.has_source or not elements:
            return self.with_changes(one.closing.change for one in elements)
        return self._read(self._stacked([one.step for one in elements]), ".json")

    def _stacked(self, steps: Iterable[Syscall]) -> str:
        """The filters that are there, and one more that denies these calls."""
        answers = {seen_as(one): ENOSYS if one.name in FALLBACKS else EPERM for one in steps}
        more = _filter(classic.pack(denying(answers)))
        if self.text:
            return appended(self.text, "filters", more)
        filters = ",\n    ".join([*(_filter(one.program) for one in self.candidate.seccomp), more])
        attachment = self.candidate.attachment.value
        return f'{{\n  "attachment": "{attachment}",\n  "filters": [\n    {filters}\n  ]\n}}\n'

    def with_text(self, text: str) -> Draft:
        """What a text in JSON comes to in its place."""
        return self._read(text, ".json")

    def _read(self, text: str, suffix: str) -> Draft:
        with tempfile.TemporaryDirectory(prefix="sidestep-") as folder:
            # The name of a pod's container is no file name.
            name = "profile" if self.is_part else self.candidate.name
            path = Path(folder) / f"{name}{suffix}"
            path.write_text(text)
            try:
                found = candidate_of(
                    str(path),
                    meaning=self.meaning,
                    runtime_model=self.runtime_model,
                    stance=self.posture,
                )
            except InputError as error:
                message = str(error).replace(str(path), self.candidate.source)
                raise InputError(message) from None
        old = self.candidate
        candidate = replace(found, source=old.source, intent=old.intent)
        if self.is_part:
            candidate = replace(
                candidate,
                name=old.name,
                layers=(*self.beside, *found.seccomp),
                posture=old.posture,
                attachment=old.attachment,
                assumes=old.assumes,
            )
        return replace(self, candidate=candidate, text=text)


def draft_of(path: str, meaning: Meaning, runtime_model: str, posture: str) -> Draft:
    """A user's candidate, to begin with; ``InputError`` if it cannot be changed."""
    candidate = candidate_of(path, meaning=meaning, runtime_model=runtime_model, stance=posture)
    if not candidate.seccomp:
        raise InputError(
            f"{path}: it has no filter to change: begin with a profile that allows everything"
        )
    if candidate.meaning not in ("oci", "docker", "raw"):
        return _part_of(candidate, runtime_model, posture)
    # A pipe was read to its end when it was loaded.
    if not Path(path).is_file():
        raise InputError(f"{path}: is no regular file, and harden reads a profile twice")
    text = "" if path.endswith(".bpf") else Path(path).read_text()
    return Draft(candidate, text, meaning, runtime_model, posture)


def _part_of(candidate: Candidate, runtime_model: str, posture: str) -> Draft:
    """The profile behind the filters of a manifest, a unit and the like, as ``export`` writes it.

    Whatever else the candidate consists of stays in force, but for what nobody can put on here.
    """
    try:
        written = export(candidate, "oci")
    except ProfileError as error:
        raise InputError(f"{candidate.source}: its filters are no profile: {error}") from None
    if written.differs:
        said = f"no profile answers as its filters do ({written.differs[0]})"
        raise InputError(f"{candidate.source}: {said}")
    beside = tuple(
        one for one in candidate.layers if not isinstance(one, SeccompLayer | AppArmorLayer)
    )
    lost = [one.kind for one in candidate.layers if isinstance(one, AppArmorLayer)]
    part = Draft(
        candidate,
        written.content.decode(),
        "oci",
        runtime_model,
        posture,
        is_part=True,
        beside=beside,
        leaves_out=tuple(lost),
    )
    made = part.with_text(part.text)
    if not _decide_alike(candidate, made.candidate):
        raise InputError(f"{candidate.source}: its filters are no profile of {runtime_model}")
    return made


def _decide_alike(one: Candidate, other: Candidate) -> bool:
    old, new = ([Filter.decode(each.program) for each in of.seccomp] for of in (one, other))
    try:
        return old == new or not any(difference(old, new))
    except InexactError:
        return False


def _filter(program: bytes) -> str:
    """An element of ``filters``, with one instruction a line."""
    rows = ",\n        ".join(json.dumps(list(one)) for one in classic.unpack(program))
    return f'{{\n      "instructions": [\n        {rows}\n      ]\n    }}'
