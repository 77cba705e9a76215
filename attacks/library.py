"""Finds the families, resolves references to them, and reads suites."""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path

from msgspec import Struct

import attacks.families
from attacks.errors import AttackError
from attacks.family import Family, FamilyInstance, Variant
from attacks.rewrites import REWRITES, derive, derived

SUITES = Path(__file__).with_name("suites")
SUITE = max(file.stem for file in SUITES.glob("*.json"))
"""The newest one."""
_REFERENCE = re.compile(r"(?P<name>[^\[\]@]+)(?:\[(?P<parameters>[^\[\]]*)\])?(?:@(?P<target>.*))?")
_CLOSE_ENOUGH = 0.5
_LONGEST_TARGET = 48


def load_families() -> dict[str, Family]:
    """Every family of ``attacks.families``, by name, sorted."""
    return {name: _load(name) for name in _names()}


def family(name: str) -> Family:
    """The family of that name, or an error that names the nearest one."""
    if name not in _names():
        raise AttackError(f"unknown family {name!r}{_suggestion(name, _names())}")
    return _load(name)


@cache
def _names() -> tuple[str, ...]:
    modules = pkgutil.iter_modules(attacks.families.__path__)
    return tuple(sorted(module.name.replace("_", "-") for module in modules))


@cache
def _load(name: str) -> Family:
    """A family by its name, which is that of its file."""
    path = f"attacks/families/{name.replace('-', '_')}.py"
    found = getattr(import_module(path.removesuffix(".py").replace("/", ".")), "FAMILY", None)
    if not isinstance(found, Family):
        raise AttackError(f"{path} defines no FAMILY")
    if found.name != name:
        raise AttackError(f"{path} defines family {found.name}, whose file is another")
    return found


def parse_reference(reference: str) -> FamilyInstance:
    """The instance that ``name[parameter=value,...]@/target`` stands for."""
    match = _REFERENCE.fullmatch(reference.strip())
    if match is None:
        raise AttackError(f"{reference!r} is not of the form family[parameter=value]@/directory")
    chosen = family(match["name"])
    parameters = _parse_parameters(reference, chosen, match["parameters"] or "")
    target = match["target"]
    if target is not None:
        target = _parse_target(reference, target)
    if not parameters and target is None:
        return chosen.default
    return chosen.instance(parameters, target)


def find_variant(identity: str) -> Variant:
    """The variant with that id."""
    label, slash, name = identity.rpartition("/")
    if not slash:
        raise AttackError(f"{identity!r} is not of the form family/variant")
    instance = parse_reference(label)
    recorded, *rules = name.split("~")
    names = [variant.name for variant in instance.variants]
    if recorded not in names:
        raise AttackError(
            f"{instance.label} has no variant {recorded!r}{_suggestion(recorded, names)}"
        )
    variant = instance.variant(recorded)
    for rule in rules:
        variant = _rewritten(variant, rule)
    return variant


def _rewritten(variant: Variant, rule: str) -> Variant:
    if rule not in REWRITES:
        raise AttackError(f"unknown rewrite {rule!r}{_suggestion(rule, REWRITES)}")
    other = derive(variant, REWRITES[rule])
    if other is None:
        raise AttackError(f"the rewrite {rule!r} does not apply to {variant.id}")
    return other


class Suite(Struct, frozen=True):
    """A frozen list of variants with the digests of their programs."""

    name: str
    variants: dict[str, str]

    def differences(self) -> list[str]:
        """How the library of today differs from this suite, a line for each variant."""
        today = current_suite().variants
        gone = [f"{identity}: gone" for identity in self.variants if identity not in today]
        new = [f"{identity}: new" for identity in today if identity not in self.variants]
        changed = [
            f"{identity}: changed"
            for identity, digest in self.variants.items()
            if today.get(identity, digest) != digest
        ]
        return sorted(gone + new + changed)

    def to_json(self) -> str:
        document = {"name": self.name, "variants": dict(sorted(self.variants.items()))}
        return json.dumps(document, indent=1) + "\n"


def suite(name: str = SUITE) -> Suite:
    """A suite by name."""
    path = SUITES / f"{name}.json"
    if not path.is_file():
        known = sorted(file.stem for file in SUITES.glob("*.json"))
        raise AttackError(f"unknown suite {name!r} (known: {', '.join(known) or 'none'})")
    return _read_suite(path)


@cache
def _read_suite(path: Path) -> Suite:
    document = json.loads(path.read_text(encoding="utf-8"))
    return Suite(document["name"], document["variants"])


@cache
def current_suite() -> Suite:
    """What the suite would hold, frozen now: every family, and what rewrites make of it.

    A program may hang on parameters: it counts as the first instance that has it makes it.
    """
    variants: dict[str, str] = {}
    for found in load_families().values():
        for instance in found.instances():
            recorded = instance.variants
            for one in (*recorded, *derived(recorded)):
                name = f"{found.name}/{one.name}"
                if name not in variants:
                    variants[name] = one.program.digest()
    return Suite(SUITE, variants)


def _parse_parameters(reference: str, chosen: Family, text: str) -> dict[str, int]:
    parameters: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        number = chosen.value(name, value)
        if not equals or number is None:
            raise AttackError(f"{reference!r}: {_no_value(part, value, chosen, name)}")
        parameters[name] = number
    return parameters


def _no_value(part: str, value: str, chosen: Family, name: str) -> str:
    known = [one.text for one in chosen.constants.get(name, ())]
    if not known:
        return f"{part!r} is not of the form parameter=number"
    hint = _suggestion(value, known) or f" (known: {', '.join(known)})"
    return f"{part!r} is not of the form parameter=constant or parameter=number{hint}"


def _parse_target(reference: str, target: str) -> str:
    parts = target.split("/")
    if not target.startswith("/") or ".." in parts or "\0" in target:
        raise AttackError(f"{reference!r}: the target must be an absolute path without '..'")
    path = "/" + "/".join(part for part in parts if part not in ("", "."))
    if path == "/":
        raise AttackError(f"{reference!r}: the target must be a directory below /")
    if len(path.encode()) > _LONGEST_TARGET:
        raise AttackError(f"{reference!r}: the target is longer than {_LONGEST_TARGET} bytes")
    return path


def _suggestion(name: str, known: Iterable[str]) -> str:
    # Only on the way to an error: the import costs milliseconds.
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1, cutoff=_CLOSE_ENOUGH)
    return f"; did you mean {close[0]!r}?" if close else ""
