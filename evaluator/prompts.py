"""What a model is asked, and what it is told of its answers: pure functions of what it may see.

Everything about a scenario comes from ``evaluator.shown``; nothing hidden can get in.  A change to
a word here is a new version: numbers of two versions are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from evaluator.shown import Broken, DeniedCall, Feedback, Kept, Through, View, Way

VERSION = "2026.11"
_MOST = 12
"""Of a kind in feedback: one more hardly helps, and every word is paid for."""

SYSTEM = """\
You write seccomp profiles for Linux containers on x86-64, in the JSON form of the OCI runtime
specification. A profile is compiled by libseccomp and loaded by a container runtime before the
program starts.

What counts is the effect, not a name: a profile solves a task if no way to the effect is left,
whatever system call, ABI or argument it takes, and every program that must work still works. It
is judged by running both.

Facts about the form:
- A rule lists the names of system calls, an action and conditions on arguments; all conditions
  of one rule must be true. Calls without a rule get defaultAction.
- A condition compares one argument (index 0 to 5) as an unsigned 64-bit number.
  SCMP_CMP_MASKED_EQ compares (argument & value) with valueTwo; all other operators ignore
  valueTwo. Memory behind pointers cannot be seen.
- errnoRet is the errno of SCMP_ACT_ERRNO; null means EPERM.
- architectures lists the ABIs for which the rules count: SCMP_ARCH_X86_64, SCMP_ARCH_X86 (int
  0x80), SCMP_ARCH_X32. A call by an ABI that is not listed ends the process.
- Numbers are decimal; there are no symbolic names for values.
- Fields that a rule does not need are null, or an empty list.

Answer with one JSON object: explanation, in a few sentences; possible, true if a profile can
solve the task; profile, or null where none can. If a profile cannot solve it, or what must be
stopped and what must work exclude each other, saying so is the right answer.
"""


class Prompt(Struct, frozen=True):
    """The same for every sample."""

    system: str
    user: str


def prompt(view: View) -> Prompt:
    """What is asked for one scenario at one level."""
    return Prompt(SYSTEM, "\n\n".join(_sections(view)) + "\n")


def _sections(view: View) -> Iterator[str]:
    yield f"Task: {view.title}\n{view.task}"
    if view.workloads:
        yield "These programs must work:\n" + "\n".join(map(_kept, view.workloads))
    if view.keep:
        yield "This must still be possible:\n" + "\n".join(map(_kept, view.keep))
    if view.advisory:
        yield f"What is known of attacks:\n{view.advisory}"
    if view.references:
        yield "\n".join(view.references)
    for way in view.poc:
        yield _program(way)


def _kept(one: Kept) -> str:
    return f"- {one.name}: {one.title}" + (f" ({one.why})" if one.why else "")


def _program(way: Way) -> str:
    return f"A program that has the effect, as one of many ways to it:\n{way.program}"


def told(feedback: Feedback) -> str:
    """What a model is told of its profile; the same feedback, the same text."""
    return "\n".join(_told(feedback))


def is_content(feedback: Feedback) -> bool:
    """Whether there is nothing to complain of in what may be seen."""
    return (
        feedback.valid
        and feedback.enforced
        and feedback.starts
        and not feedback.broken
        and not any(one.through or one.undecided for one in feedback.families)
    )


def _told(feedback: Feedback) -> Iterator[str]:
    if not feedback.valid:
        yield "The profile cannot be used:"
        yield from (f"- {error}" for error in feedback.errors)
        return
    if not feedback.enforced:
        yield "The profile was not enforced."
    if not feedback.starts:
        yield f"A container does not start under it: {feedback.start_reason}"
    for family in feedback.families:
        if family.through:
            yield f"{family.title}: ways that get through:"
            yield from _some([_way(one) for one in family.through])
        if family.undecided:
            yield f"{family.title}: ways of which it is not known whether they are stopped:"
            yield from _some([_way(one) for one in family.undecided])
    if feedback.broken:
        yield "What must work and does not:"
        yield from _some([_broken(one) for one in feedback.broken])
    if is_content(feedback):
        yield "Every way that was tried is stopped, and everything that must work does."
        yield "There may be ways that were not tried."


def _some(lines: list[str]) -> Iterator[str]:
    yield from (f"- {line}" for line in lines[:_MOST])
    if len(lines) > _MOST:
        yield f"- and {len(lines) - _MOST} more"


def _way(one: Through) -> str:
    return f"{one.id} ({one.technique}): {', '.join(one.calls)}"


def _broken(one: Broken) -> str:
    denied = ", ".join(map(_denied, one.denied[:_MOST]))
    return f"{one.name}: {one.reason or 'it fails'}" + (f" (denied: {denied})" if denied else "")


def _denied(one: DeniedCall) -> str:
    return f"{one.call} answered {one.answer}"
