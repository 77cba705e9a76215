"""What a shell offers for the values of options and arguments; see ``sidestep completion``.

A shell waits for it at every press of the key.  So variants come from the file of the suite: it
would take seconds to record them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

Offer = Callable[[click.Context, click.Parameter, str], list["CompletionItem[Any]"]]
"""What click calls with the beginning that was typed; ``shell_complete`` of a parameter."""


def files(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem[Any]]:
    """Names of files, which the shell knows best itself."""
    return [CompletionItem(typed, type="file")]


def listed(offer: Offer) -> Offer:
    """The same where several values stand in one word with commas between them."""

    def last_of_them(
        context: click.Context, parameter: click.Parameter, typed: str
    ) -> list[CompletionItem[Any]]:
        before, comma, begun = typed.rpartition(",")
        found = offer(context, parameter, begun)
        for item in found:
            item.value = f"{before}{comma}{item.value}"
        return found

    return last_of_them


def families(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem[Any]]:
    """Families of the newest suite."""
    return _beginning(typed, _families())


def variants(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem[Any]]:
    """Recorded variants; what rewrites made of them once a ~ is typed."""
    return _beginning(typed, _variants(derived="~" in typed))


def calls(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem[Any]]:
    """System calls of the machine's own table."""
    return _beginning(typed, _calls())


def calls_and_attacks(
    _: click.Context, __: click.Parameter, typed: str
) -> list[CompletionItem[Any]]:
    """What ``explain`` explains: a call, a family, or behind a slash a variant."""
    if "/" in typed:
        return _beginning(typed, _variants(derived="~" in typed))
    return _beginning(typed, [*_families(), *_calls()])


def objectives(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem[Any]]:
    """Named objectives, with what they ask."""
    from evaluator.objectives import OBJECTIVES

    return _with_titles(typed, {one.name: one.title for one in OBJECTIVES})


def workloads(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem[Any]]:
    """Workloads that ship with the tool, ``all``, and files."""
    from evaluator.workloads import builtin

    titles = {one.name: one.title for one in builtin()}
    offered = _with_titles(typed, {**titles, "all": "all of them"})
    return offered or [CompletionItem(typed, type="file")]


def suites(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem[Any]]:
    """Frozen lists of variants."""
    from attacks.library import SUITES

    return _beginning(typed, sorted(path.stem for path in SUITES.glob("*.json")))


def assumptions(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem[Any]]:
    """What an attacker may have besides code that runs."""
    from attacks.family import Assumption

    return _beginning(typed, [one for one in Assumption if one is not Assumption.NONE])


def techniques(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem[Any]]:
    """Why a variant may get through."""
    from attacks.family import Technique

    return _beginning(typed, list(Technique))


def needs(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem[Any]]:
    """What a variant may need of the machine, as far as it is one word of a shell."""
    from attacks.family import Need

    return _beginning(typed, [one for one in Need if " " not in one])


def words(known: Iterable[str]) -> Offer:
    """These, and no others."""

    def among_them(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem[Any]]:
        return _beginning(typed, known)

    return among_them


def _beginning(typed: str, known: Iterable[str]) -> list[CompletionItem[Any]]:
    return [CompletionItem(str(one)) for one in known if one.startswith(typed)]


def _with_titles(typed: str, titles: Mapping[str, str]) -> list[CompletionItem[Any]]:
    return [
        CompletionItem(one, help=title) for one, title in titles.items() if one.startswith(typed)
    ]


def _variants(*, derived: bool) -> list[str]:
    from attacks.library import suite

    return [one for one in suite().variants if derived or "~" not in one]


def _families() -> list[str]:
    return list(dict.fromkeys(one.partition("/")[0] for one in _variants(derived=False)))


def _calls() -> list[str]:
    from mitigations import x86_64

    return sorted(x86_64.NUMBERS["x86_64"])
