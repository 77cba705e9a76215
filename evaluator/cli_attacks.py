"""The command ``sidestep attacks``: the library of attack programs, listed, shown and checked."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from evaluator import completion as offer
from evaluator.errors import InputError, border
from evaluator.options import (
    debug_option,
    format_option,
    jobs_option,
    posture_option,
    reading_options,
)
from evaluator.terminal import page, progress_bar, say

if TYPE_CHECKING:
    from attacks.family import FamilyInstance, Variant
    from evaluator.records import FamilyCheck
    from mitigations.load import Meaning


_family_option = click.option(
    "--family",
    "families",
    metavar="FAMILY",
    multiple=True,
    shell_complete=offer.families,
    help="Only this family; repeatable.",
)
_derived_option = click.option(
    "--exhaustive", is_flag=True, help="With what every rewrite makes of every variant."
)


@click.group()
def attacks() -> None:
    """List, show, check and export the attack programs."""


@attacks.command("list")
@_family_option
@click.option(
    "--technique",
    metavar="NAME",
    shell_complete=offer.techniques,
    help="Only what gets through for this reason.",
)
@click.option(
    "--call",
    metavar="NAME",
    shell_complete=offer.calls,
    help="Only what makes this call: mkdirat, MKDIRAT.",
)
@click.option(
    "--need",
    metavar="NAME",
    shell_complete=offer.needs,
    help="Only what needs this: io_uring, CAP_SYS_ADMIN.",
)
@_derived_option
@format_option
@debug_option
def attacks_list(
    families: tuple[str, ...],
    technique: str | None,
    call: str | None,
    need: str | None,
    exhaustive: bool,
    form: str,
    as_json: bool,
) -> None:
    """All variants, family by family."""
    from evaluator.request import families as families_named
    from evaluator.table import show_attacks

    with border():
        named = families_named(families, exhaustive=exhaustive)
    _check_words(technique, need)
    _check_call(call)
    found = [
        replace(one, recipes=(), made=kept)
        for one in named
        if (kept := tuple(v for v in one.variants if _is_wanted(v, technique, call, need)))
    ]
    if as_json or form == "json":
        say(json.dumps({"families": [_family_json(one) for one in found]}))
        return
    if not found:
        click.echo("sidestep: no variant is like that", err=True)
        return
    with page() as console:
        show_attacks(console, found)


def _check_words(technique: str | None, need: str | None) -> None:
    from attacks.family import Need, Technique
    from evaluator.objectives import unknown

    for kind, given, known in (("technique", technique, Technique), ("need", need, Need)):
        if given is not None and given not in list(known):
            raise InputError(unknown(kind, given, list(known)))


def _check_call(given: str | None) -> None:
    from attacks.ring import OPCODES
    from mitigations import x86_64

    known = {*OPCODES, *(name for table in x86_64.NUMBERS.values() for name in table)}
    if given is not None and given not in known:
        near = get_close_matches(given, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"unknown call or io_uring operation {given!r}{hint}")


def _is_wanted(variant: Variant, technique: str | None, call: str | None, need: str | None) -> bool:
    from attacks.program import Syscall

    made = {
        word
        for section, op in variant.program.flatten()
        if section == "attack" and isinstance(op, Syscall)
        for word in (op.name, *op.opcode.replace("IORING_OP_", "").split(", "))
    }
    return (
        technique in (None, variant.technique)
        and (call is None or call in made)
        and (need is None or need in variant.needs)
    )


def _family_json(instance: FamilyInstance) -> dict[str, Any]:
    return {
        "family": instance.label,
        "title": instance.family.title,
        "group": instance.family.group,
        "attack_technique": instance.family.attack_technique,
        "unrecorded": dict(instance.family.unrecorded),
        "variants": [_variant_json(variant) for variant in instance.variants],
    }


def _variant_json(variant: Variant) -> dict[str, Any]:
    return {
        "variant": variant.id,
        "technique": variant.technique.value,
        "assumption": variant.assumption.value,
        "grade": variant.grade.value,
        "negative": variant.negative,
        "derived_from": variant.parent,
        "beyond_seccomp": variant.beyond_seccomp,
        "needs": sorted(need.value for need in variant.needs),
        "digest": variant.program.digest(),
        "why": variant.why,
        "references": list(variant.references),
    }


@attacks.command("show")
@click.argument("variant", shell_complete=offer.variants)
@format_option
@debug_option
def attacks_show(variant: str, form: str, as_json: bool) -> None:
    """One variant, call by call: create-directory/mkdirat-dirfd, create-directory/mkdir~i386."""
    from attacks.jsonform import document as program_document
    from attacks.library import find_variant
    from evaluator.table import show_variant

    with border():
        found = find_variant(variant)
    if as_json or form == "json":
        say(json.dumps({**_variant_json(found), "program": program_document(found.program)}))
        return
    with page() as console:
        show_variant(console, found)


@attacks.command("check")
@_family_option
@_derived_option
@jobs_option
@format_option
@debug_option
def attacks_check(
    families: tuple[str, ...], exhaustive: bool, jobs: int | None, form: str, as_json: bool
) -> None:
    """Run every control here, without any mitigation: what works, what does not, and why.

    Exit code 4 if a variant fails for a reason that nobody probed.
    """
    from evaluator.check import check
    from evaluator.records import plain
    from evaluator.request import families as families_named
    from evaluator.table import show_check

    with border():
        named = families_named(families, exhaustive=exhaustive)
        with progress_bar() as on_progress:
            found = check(named, jobs or len(os.sched_getaffinity(0)), on_progress)
    if as_json or form == "json":
        say(json.dumps({"families": plain(found)}))
    else:
        with page() as console:
            show_check(console, found)
    _fail_on_faults(found)


def _fail_on_faults(found: Sequence[FamilyCheck]) -> None:
    if any(one.faults for one in found):
        click.get_current_context().exit(4)


@attacks.command("run")
@click.argument("file", shell_complete=offer.files)
@click.option(
    "--family",
    metavar="FAMILY",
    required=True,
    shell_complete=offer.families,
    help="Whose effect it is meant to cause.",
)
@click.option(
    "--under",
    metavar="CANDIDATE",
    required=True,
    shell_complete=offer.files,
    help="The profile that it is tried under.",
)
@reading_options
@posture_option
@format_option
@debug_option
def attacks_run(
    file: str,
    family: str,
    under: str,
    meaning: Meaning,
    runtime_model: str,
    posture: str,
    form: str,
    as_json: bool,
) -> None:
    """Run a program from a JSON file, without and with a profile.

    The form of the file: sidestep attacks export VARIANT --to json, or the schema
    attacks/program.schema.json.
    """
    from attacks.library import parse_reference
    from evaluator import foreign
    from evaluator.campaign import evaluate
    from evaluator.plan import Plan
    from evaluator.records import plain
    from evaluator.request import candidate_of
    from evaluator.table import show_trial

    with border():
        plan = Plan(
            candidates=(
                candidate_of(under, meaning=meaning, runtime_model=runtime_model, stance=posture),
            ),
            families=(foreign.instance(Path(file), parse_reference(family)),),
            workloads=(),
            posture=posture,
        )
        (result,) = evaluate(plan, lambda _: None)
    (trial,) = result.trials
    if as_json or form == "json":
        say(json.dumps(plain(trial)))
    else:
        with page() as console:
            show_trial(console, trial)
    if trial.control_effect is None:
        raise InputError(f"{file}: not tried under the profile: {trial.reason}")


@attacks.command("export")
@click.argument("variant", shell_complete=offer.variants)
@click.option(
    "--to",
    type=click.Choice(["c", "json"]),
    default="c",
    show_default=True,
    help="A C file that shows both arms, or a program for attacks run.",
)
@click.option(
    "--under",
    metavar="CANDIDATE",
    shell_complete=offer.files,
    help="The profile that the C program loads.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    shell_complete=offer.files,
    help="Where to write it; by default to stdout.",
)
@debug_option
def attacks_export(variant: str, to: str, under: str | None, output: str | None) -> None:
    """One variant as a C file that shows both arms, or as JSON for attacks run."""
    from attacks.jsonform import dumps
    from attacks.library import find_variant
    from evaluator.export_c import export_c
    from evaluator.request import candidate_of, filters_alone
    from mitigations import x86_64

    if to == "json" and under is not None:
        raise InputError("--under: a program as JSON has no profile in it (attacks run takes one)")
    with border():
        found = find_variant(variant)
        if to == "json":
            text = dumps(found.program)
        else:
            layers = filters_alone(candidate_of(under), "export").seccomp if under else ()
            text = export_c(found, [layer.program for layer in layers], x86_64.number)
    if output is None:
        say(text.rstrip("\n"))
        return
    try:
        if output.endswith("/") or (Path(output).exists() and not Path(output).is_file()):
            raise InputError(f"{output}: not a regular file")
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output}: {error.strerror}") from None


@attacks.command("coverage")
@_derived_option
@format_option
@debug_option
def attacks_coverage(exhaustive: bool, form: str, as_json: bool) -> None:
    """Which calls the library exercises, and which siblings of them a family lacks."""
    from evaluator.coverage import coverage, missing_siblings
    from evaluator.records import plain
    from evaluator.request import families as families_named
    from evaluator.table import show_coverage

    with border():
        instances = families_named((), exhaustive=exhaustive)
        found, siblings = coverage(instances), missing_siblings(instances)
    if as_json or form == "json":
        say(json.dumps({"tables": plain(found), "missing_siblings": siblings}))
        return
    with page() as console:
        show_coverage(console, found, siblings)
