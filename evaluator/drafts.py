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
from evaluator.request import candidate_of, filters_alone
from mitigations import classic
from mitigations.candidate import Candidate
from mitigations.changes import Change
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

    def _read(self, text: str, suffix: str) -> Draft:
        with tempfile.TemporaryDirectory(prefix="sidestep-") as folder:
            path = Path(folder) / f"{self.candidate.name}{suffix}"
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
        candidate = replace(found, source=self.candidate.source, intent=self.candidate.intent)
        return replace(self, candidate=candidate, text=text)


def draft_of(path: str, meaning: Meaning, runtime_model: str, posture: str) -> Draft:
    """A user's candidate, to begin with; ``InputError`` if it cannot be changed."""
    candidate = filters_alone(
        candidate_of(path, meaning=meaning, runtime_model=runtime_model, stance=posture), "harden"
    )
    if candidate.meaning not in ("oci", "docker", "raw"):
        raise InputError(
            f"{path}: harden changes profiles in JSON: sidestep export --to oci makes one of this"
        )
    if not candidate.seccomp:
        raise InputError(
            f"{path}: it has no filter to change: begin with a profile that allows everything"
        )
    # A pipe was read to its end when it was loaded.
    if not Path(path).is_file():
        raise InputError(f"{path}: is no regular file, and harden reads a profile twice")
    text = "" if path.endswith(".bpf") else Path(path).read_text()
    return Draft(candidate, text, meaning, runtime_model, posture)


def _filter(program: bytes) -> str:
    """An element of ``filters``, with one instruction a line."""
    rows = ",\n        ".join(json.dumps(list(one)) for one in classic.unpack(program))
    return f'{{\n      "instructions": [\n        {rows}\n      ]\n    }}'
