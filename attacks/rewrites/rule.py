"""Rules that turn a program into an equivalent one: the same effect, another way into the kernel.

A rule is a function with a name, a technique and a reason.  It is asked about every native call of
an attack, and either records what takes its place or leaves it as it is; where it changes nothing
there is no derived variant.  A rule cannot make a wrong result: a derived program that does not
reach the effect without a filter is unsupported, never evidence.

Which calls mean the same is in the man pages; ``attacks/arguments.py`` says what a call reads of
its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from attacks.errors import AttackError
from attacks.family import Assumption, Technique, Variant, image_of, needs_of
from attacks.program import Program
from attacks.replay import Rule, replay


class Rewrite(Struct, frozen=True):
    """One rule; ``name`` shows in the id of what it derives: ``create-directory/mkdirat~i386``."""

    name: str
    technique: Technique
    why: str
    rewrite: Callable[[Variant], Program | None]
    """The other program, or None where the rule does not apply."""
    assumption: Assumption = Assumption.NONE
    call: Rule | None = None
    """What it makes of one call; None where it looks at the program as a whole."""


REWRITES: dict[str, Rewrite] = {}
"""All rules by name, in the order in which they are shown."""


def call_by_call(
    name: str, technique: Technique, rules: dict[str, Rewrite] = REWRITES
) -> Callable[[Rule], Rule]:
    """Adds the decorated function as a rule; its docstring is the reason."""

    def add(rule: Rule) -> Rule:
        def rewrite(variant: Variant) -> Program | None:
            return replay(variant.program, variant.effect, rule)

        rules[name] = Rewrite(name, technique, reason(rule), rewrite, call=rule)
        return rule

    return add


def whole(
    name: str, technique: Technique, assumption: Assumption = Assumption.NONE
) -> Callable[[Callable[[Variant], Program | None]], Callable[[Variant], Program | None]]:
    """The same for a rule that looks at the program as a whole."""

    def add(rule: Callable[[Variant], Program | None]) -> Callable[[Variant], Program | None]:
        REWRITES[name] = Rewrite(name, technique, reason(rule), rule, assumption)
        return rule

    return add


def reason(rule: Callable[..., object]) -> str:
    """Its docstring on one line."""
    return " ".join((rule.__doc__ or "").split())


def derive(variant: Variant, rewrite: Rewrite) -> Variant | None:
    """The variant that a rule makes of another; None where it does not apply.

    Only what needs no assumption and can get through is rewritten: the rest has its own reasons.
    """
    if variant.negative or variant.assumption is not Assumption.NONE:
        return None
    try:
        program = rewrite.rewrite(variant)
    except AttackError:
        return None  # too many operations, or too much memory
    if program is None or program == variant.program:
        return None
    return replace(
        variant,
        id=f"{variant.id}~{rewrite.name}",
        parent=variant.id,
        technique=rewrite.technique,
        assumption=rewrite.assumption,
        program=program,
        # What is executed may have been there before.
        objects=tuple(dict.fromkeys((*variant.objects, *image_of(program)))),
        why=rewrite.why,
        needs=variant.needs | needs_of(program),
        references=(),
    )


def derived(variants: tuple[Variant, ...]) -> Iterator[Variant]:
    """What one application of each rule makes of each variant, less what is there already."""
    known = {variant.program for variant in variants}
    for variant in variants:
        for rewrite in REWRITES.values():
            other = derive(variant, rewrite)
            if other is not None and other.program not in known:
                known.add(other.program)
                yield other
