"""The command ``sidestep explain``: what a candidate's filters answer, and why, without a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypedDict

import click

from evaluator import completion as offer
from evaluator.errors import InputError, border
from evaluator.options import debug_option, format_option, reading_options
from evaluator.terminal import page, say

if TYPE_CHECKING:
    from evaluator.explain import (
        CallExplanation,
        Explainer,
        FamilyExplanation,
        VariantExplanation,
    )
    from mitigations.candidate import Candidate
    from mitigations.load import Meaning


class _Explained(TypedDict, total=False):
    """One of them."""

    calls: list[CallExplanation]
    variant: VariantExplanation
    family: FamilyExplanation
    not_judged: list[str]
    """Kinds of layers that may stop more than the filters do; only if there are any."""


@click.command()
@click.argument("candidate", shell_complete=offer.files)
@click.argument("what", required=False, shell_complete=offer.calls_and_attacks)
@reading_options
@format_option
@debug_option
def explain(
    candidate: str, what: str | None, meaning: Meaning, runtime_model: str, form: str, as_json: bool
) -> None:
    """Say what a candidate's filters answer, and which instructions and rules are behind it.

    WHAT is a call, with or without arguments (openat, "i386:openat(AT_FDCWD, _, O_CREAT)", where _
    may be anything), a variant (create-directory/mkdirat~i386), or a family (create-directory):
    then every known way to its effect is judged. Without WHAT the filters are listed, oldest first,
    as text that is a candidate again. Nothing is run. Layers that are no filters are not judged:
    what the filters deny is denied, and what they let through may still be stopped.
    """
    from evaluator import table_explain
    from evaluator.explain import Explainer
    from evaluator.records import plain
    from evaluator.request import candidate_of

    with border():
        named = candidate_of(candidate, meaning=meaning, runtime_model=runtime_model)
        if what is None:
            _list(named, as_json=as_json or form == "json")
            return
        found = _explained(Explainer(named), what)
        beside = list(dict.fromkeys(one.kind for one in named.beside_filters))
        if beside:
            found["not_judged"] = beside
    if as_json or form == "json":
        say(json.dumps(plain(found)))
        return
    with page() as console:
        for call in found.get("calls", []):
            table_explain.show_call(console, call)
        if "variant" in found:
            table_explain.show_variant(console, found["variant"])
        if "family" in found:
            table_explain.show_family(console, found["family"])
        if beside:
            table_explain.show_not_judged(console, beside)


def _list(candidate: Candidate, *, as_json: bool) -> None:
    from mitigations.bpf import disassemble

    listings = [disassemble(layer.program) for layer in candidate.seccomp]
    if as_json:
        say(json.dumps({"filters": listings}))
        return
    if not listings:
        say("# no filter")
    for number, lines in enumerate(listings, 1):
        say(f"# filter {number} of {len(listings)}")
        say("\n".join(lines))


def _explained(explainer: Explainer, what: str) -> _Explained:
    """What was asked for, under the name of its kind."""
    from attacks import library
    from attacks.errors import AttackError
    from evaluator.explain import parse_call

    question = parse_call(what)
    if question is not None:
        return {
            "calls": [explainer.call(abi, question.name, question.args) for abi in question.abis]
        }
    if "(" in what or ":" in what:
        name = what.partition("(")[0].rpartition(":")[2]
        raise InputError(f"{what}: no table of system calls has that name{_nearest_call(name)}")
    if not what.strip():
        raise InputError("WHAT is empty: name a call, a variant or a family")
    try:
        found = library.find_variant(what)
        family = library.parse_reference(found.family).variants
        return {"variant": explainer.variant(found, family)}
    except AttackError:
        if "/" in what.partition("@")[0]:  # behind an @ it may be a part of the target's path
            raise
    try:
        return {"family": explainer.family(library.parse_reference(what))}
    except AttackError as error:
        hint = _nearest_call(what)
        raise InputError(f"{what}: no call{hint}, and as a family: {error}") from None


def _nearest_call(name: str) -> str:
    """A clause that names the call that was meant, perhaps."""
    from mitigations import x86_64
    from mitigations.suggestion import did_you_mean

    return did_you_mean(name, {call for table in x86_64.NUMBERS.values() for call in table})
