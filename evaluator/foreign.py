"""Programs that came from a file: the same sandbox, limits and controls as those of the library."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from attacks import jsonform
from attacks.effects import Grade
from attacks.family import Assumption, FamilyInstance, Technique, Variant, image_of, needs_of
from attacks.program import Abi, Program
from evaluator.errors import InputError
from mitigations import x86_64
from mitigations.candidate import ProfileError
from mitigations.strict_json import read_limited


def instance(path: Path, family: FamilyInstance) -> FamilyInstance:
    """The program of a file, as the only way to a family's effect.

    It runs over the sentinel, so that nothing dangerous reaches the kernel.  Raises ``InputError``
    with the JSON path of the first mistake.
    """
    try:
        program = read(read_limited(path, jsonform.MAX_DOCUMENT))
    except (jsonform.ProgramError, ProfileError) as error:
        raise InputError(f"{path}: {error}") from None
    return replace(family, recipes=(), made=(variant_of(program, family, path.stem),))


def read(content: str | bytes) -> Program:
    """A program as JSON text, with calls that exist; ``ProgramError`` with its first mistake."""
    return jsonform.loads(content, known_calls=_is_known)


def variant_of(program: Program, family: FamilyInstance, name: str) -> Variant:
    """A program as a way to a family's effect: it finds what the baseline finds, and no more."""
    return Variant(
        id=f"{family.label}/{name}",
        family=family.label,
        technique=Technique.BASELINE,
        assumption=Assumption.NONE,
        grade=Grade.EXACT,
        program=program,
        effect=family.effect,
        objects=(*family.baseline.objects, *image_of(program)),
        why="It came from a file.",
        needs=needs_of(program),
        fresh=family.baseline.fresh,
        guarded=True,
        foreign=True,
    )


def _is_known(abi: Abi, name: str) -> bool:
    return x86_64.number(abi.value, name) is not None
