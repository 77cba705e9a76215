"""What the run says, in sentences: where each candidate stands, and what to do about it."""

from __future__ import annotations

import re
from enum import StrEnum

from reports.schema import HOLDING, Candidate, Document, Family, Starts
from reports.scores import scores
from reports.text import abbreviate, counted


class Standing(StrEnum):
    """Where a candidate stands as a whole; the order is the order of the page."""

    INVALID = "invalid"
    DOES_NOT_START = "does not start"
    NOT_ENFORCED = "not enforced"
    LEAKY = "leaky"
    UNDECIDED = "undecided"
    OPEN = "open"
    UNTESTED = "untested"
    HELD = "held"


PREDICATES = {
    Standing.INVALID: ("cannot be used", "cannot be used"),
    Standing.DOES_NOT_START: ("does not start", "do not start"),
    Standing.NOT_ENFORCED: ("is not in force here", "are not in force here"),
    Standing.LEAKY: ("leaks", "leak"),
    Standing.UNDECIDED: ("is undecided", "are undecided"),
    Standing.OPEN: ("leaves everything open", "leave everything open"),
    Standing.UNTESTED: ("could not be tested", "could not be tested"),
    Standing.HELD: ("holds", "hold"),
}


_CALL = re.compile(
    r"(?:(?:x86_64|(?P<abi>i386|x32))(?:\([\w-]+\))?:)?"
    r"(?P<call>[a-z]\w*)(?:\[[^]]+\])?\("
)

NAMED = 3
"""Up to so many candidates are named in the headline; more are counted."""


def standing(candidate: Candidate) -> Standing:
    """The worst thing that is true of a candidate."""
    if not candidate.valid:
        return Standing.INVALID
    if candidate.attachment != "self" and not _can_start(candidate.starts):
        return Standing.DOES_NOT_START
    verdicts = {family.verdict for family in candidate.families}
    if (candidate.enforced is False and not candidate.simulated) or "not-enforced" in verdicts:
        return Standing.NOT_ENFORCED
    targeted = {family.verdict for family in candidate.families if family.targeted}
    for verdict, found in (
        ("leaky", Standing.LEAKY),
        ("open", Standing.OPEN),
        ("undecided", Standing.UNDECIDED),
        ("untested", Standing.UNTESTED),
    ):
        if verdict in targeted:
            return found
    if targeted - set(HOLDING):
        return Standing.UNDECIDED
    if targeted:
        return Standing.HELD
    if verdicts - {"untested", "undecided"}:
        return Standing.OPEN
    return Standing.UNDECIDED if "undecided" in verdicts else Standing.UNTESTED


def headline(document: Document) -> str:
    """The answer in one plain sentence."""
    said = _headline(document)
    return f"Prediction only: {said}" if document.simulated else said


def _headline(document: Document) -> str:
    candidates = document.candidates
    if not candidates:
        return "Nothing was evaluated"
    groups: dict[Standing, list[str]] = {}
    for candidate in candidates:
        groups.setdefault(standing(candidate), []).append(abbreviate(candidate.name, 40))
    ranked = [(found, groups[found]) for found in Standing if found in groups]
    if len(candidates) <= NAMED:
        return ", ".join(
            f"{listed(group)} {PREDICATES[found][len(group) > 1]}" for found, group in ranked
        )
    counts = [f"{len(group)} {PREDICATES[found][len(group) > 1]}" for found, group in ranked]
    number, verb = counts[0].split(" ", 1)
    return ", ".join([f"{number} of {len(candidates)} candidates {verb}", *counts[1:]])


def sentence(candidate: Candidate) -> str:
    """What is true of one candidate, without its name in front."""
    said = _sentence(candidate)
    return f"by prediction alone {said}" if candidate.simulated else said


def _sentence(candidate: Candidate) -> str:
    match standing(candidate):
        case Standing.INVALID:
            return "cannot be used: " + (
                candidate.errors[0].message if candidate.errors else "no reason was recorded"
            )
        case Standing.DOES_NOT_START:
            why = _broken_start(candidate.starts)
            return f"does not start: {why}. What never runs protects nothing."
        case Standing.NOT_ENFORCED:
            return "was not in force on this machine, so nothing can be said about what it stops."
        case Standing.LEAKY:
            return _leak(candidate)
        case Standing.UNDECIDED:
            return "has effects about which this run could not decide; their trials say why."
        case Standing.UNTESTED:
            return "is meant to stop effects that this machine could not test."
        case Standing.OPEN:
            return _open(candidate)
        case Standing.HELD:
            return _hold(candidate)


def advice(candidate: Candidate, document: Document) -> str:
    """What to do about a candidate; empty if there is nothing to do."""
    said = _advice(candidate, document)
    return f"By prediction alone: {said}" if said and candidate.simulated else said


def _advice(candidate: Candidate, document: Document) -> str:
    match standing(candidate):
        case Standing.INVALID:
            return "Repair the source first; the remarks on it name the place."
        case Standing.DOES_NOT_START:
            return "Allow the calls that a container needs to start; see what breaks."
        case Standing.NOT_ENFORCED:
            return "Test it where it can be enforced; the probes of this machine say what lacks."
        case Standing.LEAKY:
            leaks = [f for f in candidate.families if f.targeted and f.verdict == "leaky"]
            through = _culprits(candidate, leaks)
            return (
                f"Do not rely on it to stop {names(leaks)}. What still gets through is "
                f"{through or 'listed below'}: stop that too, and test again."
                f"{_alternative(leaks, document)}"
            )
        case Standing.UNDECIDED | Standing.UNTESTED:
            return "Do not rely on it yet: no verdict is not a good verdict."
        case Standing.OPEN if any(family.targeted for family in candidate.families):
            return "It does not do what the objective asks for; nothing in it stops that."
        case Standing.OPEN | Standing.HELD:
            return ""


def names(families: list[Family]) -> str:
    """Names of families as a list in words; only the first three."""
    return listed([abbreviate(family.family) for family in families])


def listed(words: list[str], limit: int = 3) -> str:
    """``a, b and c``; what is beyond the limit is counted."""
    shown = words[:limit]
    if len(words) > limit:
        shown.append(f"{len(words) - limit} more")
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]


def _culprits(candidate: Candidate, leaks: list[Family]) -> str:
    """The operations that cause the leaked effects, most frequent first."""
    wanted = {variant for family in leaks for variant in family.bypasses}
    calls: dict[str, int] = {}
    for trial in candidate.trials:
        if trial.variant in wanted:
            call = _CALL.match(trial.title)
            if call is None:
                continue
            name = call["call"] + (f" ({call['abi']})" if call["abi"] else "")
            calls[name] = calls.get(name, 0) + 1
    return listed(sorted(calls, key=lambda name: -calls[name]), 4) if calls else ""


def _alternative(leaks: list[Family], document: Document) -> str:
    wanted = {family.family for family in leaks}
    able = [
        candidate
        for candidate in document.candidates
        if standing(candidate) is Standing.HELD
        and wanted <= {f.family for f in candidate.families if f.verdict == "held"}
    ]
    if not able:
        return ""
    best = max(able, key=lambda candidate: candidate.utility or 0.0)
    held = "it" if len(leaks) == 1 else "them"
    return f" In this run {abbreviate(best.name)} holds {held}{_cost(best)}."


def _cost(candidate: Candidate) -> str:
    """What honest programs pay: no candidate is praised for one axis alone."""
    utility = scores(candidate).utility
    return " and breaks no workload" if utility.value == 1.0 else f", at {utility}"


def _leak(candidate: Candidate) -> str:
    leaks = [f for f in candidate.families if f.targeted and f.verdict == "leaky"]
    held = [f for f in candidate.families if f.targeted and f.verdict.startswith("held")]
    ways = counted(sum(family.bypassed for family in leaks), "way")
    still = f" It holds {names(held)}." if held else ""
    if len(leaks) == 1:
        return (
            f"leaks: it stops {leaks[0].blocked} of the {counted(leaks[0].working, 'way')} tried "
            f"to reach {abbreviate(leaks[0].family)}, and {ways} still "
            f"{'works' if leaks[0].bypassed == 1 else 'work'}.{still}"
        )
    return (
        f"leaks: {len(leaks)} of the {counted(candidate.targeted, 'effect')} that it is meant to "
        f"stop can still be reached ({names(leaks)}), in {ways} together.{still}"
    )


def _hold(candidate: Candidate) -> str:
    held = [family for family in candidate.families if family.targeted]
    ways = counted(sum(family.working for family in held), "way")
    here = any(family.verdict == "held here" for family in held)
    untestable = sum(family.untestable for family in held)
    missing = f"; {untestable} more cannot be tested on this machine" if untestable else ""
    elsewhere = (
        " On another kernel, or with more capabilities, gaps may open; they are listed."
        if here
        else ""
    )
    return (
        f"holds{' on this machine' if here else ''}: all {ways} tried to reach "
        f"{names(held)} were stopped{missing}.{elsewhere}"
    )


def _open(candidate: Candidate) -> str:
    meant = [f for f in candidate.families if f.targeted and f.verdict == "open"]
    if meant:
        return f"stops none of the ways to reach {names(meant)}, though it has to."
    reached = sum(family.verdict == "open" for family in candidate.families)
    if reached == len(candidate.families):
        return f"leaves everything open: each of {counted(reached, 'effect')} can be reached."
    return (
        f"leaves {reached} of {counted(len(candidate.families), 'effect')} open, and nothing "
        "shows that it is meant to stop one."
    )


def _can_start(starts: Starts) -> bool:
    """False if something is known to fail; a kind of entry point that was not tried is no fault."""
    entries = [entry for entry in (starts.static, starts.dynamic) if entry is not None]
    works = any(entries) or not entries
    return starts.loads is not False and starts.runtime is not False and works


def _broken_start(starts: Starts) -> str:
    where = f" ({starts.reason})" if starts.reason else ""
    if starts.loads is False:
        return f"the kernel refuses the filter{where}"
    if starts.runtime is False:
        return f"the container runtime cannot finish its own work after loading it{where}"
    return f"no program runs under it{where}"
