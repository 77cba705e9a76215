"""What a model is asked that attacks a candidate, and how its answer is read; nothing here runs.

The prompt is a pure function of what it is given: the same candidate, family and history, the same
request, and so the same answer from the store.  Of the library it shows baselines only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from attacks import jsonform, library
from attacks.effects import EffectKind
from attacks.family import FamilyInstance
from attacks.program import MAX_DEPTH, MAX_OPERATIONS, Program
from evaluator.predict import errno_name
from evaluator.records import StepRecord, TrialRecord
from evaluator.sentinel import SENTINEL_ERRNO
from mitigations import disassembly
from mitigations.bpf import Filter
from mitigations.candidate import Candidate, ProfileError
from mitigations.generate.request import Request
from mitigations.strict_json import is_list, is_table, kind, parse

VERSION = "attack/1"
"""Changes with every word of the prompt."""
PER_ANSWER = 4
"""Programs of one answer that are read."""
_LONGEST_ANSWER = 1 << 20
_LONGEST_PROGRAM = 6_000
"""Characters of a program as it is shown again."""
_LONGEST_SAID = 6_000
"""The same of what is said of it."""
_LONGEST_PROFILE = 120_000
_SHOWN = 12
"""Programs that are shown again with all that is known of them; of earlier ones a line."""
_LARGE = "0x"
_GUARDED = f"-1 {errno_name(SENTINEL_ERRNO)}"
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "explanation": {"type": "string"},
        "programs": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["explanation", "programs"],
    "additionalProperties": False,
}
"""Of an answer.  A program is text in it: its form is recursive, which the API does not take."""
_SEEN = {
    EffectKind.DIRECTORY: "a new directory is at {path}",
    EffectKind.FILE: "a new regular file is in the directory {parent}",
    EffectKind.OBJECT: "a name is in the directory {parent} that was not there, for a new inode or "
    "one more link",
    EffectKind.DELETED: "the file at {path} has lost its last name",
    EffectKind.MODE: "the file at {path} has all of the mode bits {bits:#o}",
    EffectKind.EXECUTED: "a process executes the program file of the example",
    EffectKind.PROCESS: "a process is there that was not",
    EffectKind.LEARNED: "a secret, which is made anew for each run, is in the program's memory",
    EffectKind.CODE: "the program has run machine code that it wrote itself",
    EffectKind.WITNESSED: "another process, outside the filter, sees the effect",
}


class Answer(Struct, frozen=True):
    """What a model wrote, as far as it is used; nothing of it is trusted."""

    explanation: str
    programs: tuple[str, ...]


class Shown(Struct, frozen=True):
    """A program that was proposed, and what its author is told of it."""

    program: str
    said: str
    gist: str
    """The same in a few words."""


class Target(Struct, frozen=True, kw_only=True):
    """What is attacked, and how much of it is shown."""

    candidate: Candidate
    family: FamilyInstance
    black_box: bool = False
    """Whether the profile and what its filters say are hidden: results of calls are not."""


def request(
    target: Target,
    tried: Sequence[Shown],
    *,
    model: str,
    programs_left: int,
    max_tokens: int,
    effort: str | None = None,
) -> Request:
    """What to ask after so many programs; the system prompt is the same for the whole family."""
    return Request(
        model=model,
        system=system(target),
        messages=({"role": "user", "content": _turn(tried, programs_left)},),
        max_tokens=max_tokens,
        schema=SCHEMA,
        effort=effort,
    )


def system(target: Target) -> str:
    """All that does not change: the task, the form of programs, the effect, the filter."""
    parts = [_TASK, _FORM, _effect(target.family), _examples(target.family)]
    parts.append(_HIDDEN if target.black_box else _filter(target.candidate))
    return "\n\n".join(parts)


_TASK = f"""\
You test a seccomp filter on Linux (x86-64) on behalf of its author, who wants to know whether it \
stops one effect in all ways or only in the one that came to mind. You write small programs of raw \
system calls. Each is run twice in a disposable sandbox, without network and without the rights of \
the machine: once without the filter, once under it. An observer outside looks at the world before \
and after. A program gets through if the observer sees the effect both times. Nothing else counts: \
neither what calls return nor what you say of it.

Look for ways that differ in what a filter can tell apart: another call with the same effect, \
another system call table, the kernel doing it on request, arguments that a comparison misses, \
another process. What gets through should be as short as possible. Propose up to {PER_ANSWER} \
programs in an answer; a program on a route that got through already is of no use. If you have \
nothing more to try, answer with an empty list.

Answer with one JSON object: "explanation" (one or two sentences), "programs" (a list of strings; \
each is one program as JSON text in the form below)."""

_FORM = f"""\
# The form of a program

{{"format": "{jsonform.FORMAT}", "blobs": [...], "attack": [...]}}

A blob is memory: {{"name": N}} with one of "string" (a NUL is added), "text", "base64", and "size"
(zeros follow the contents up to it; alone: zeros), "align" (a power of two; 8). All lie below 4G.

"attack" is a list of operations, done in order; no loops, no branches. Every operation has a slot,
its number from 0 in the whole program; the operations of a "body" follow their call.

{{"op": "syscall", "name": "mkdirat", "args": [...]}}, at most six arguments, and if needed
  "abi": "x86_64" (default), "x32", or "i386" with "entry": "int80"; names are of that table
  "may_fail": true; without it the program ends at the first call that returns an error
  "body": [...] for a call that makes a process or thread: what the new one does, up to \
{MAX_DEPTH} deep
{{"op": "load", "address": V, "offset": 0, "width": 8}} slot = what is there, 1, 2, 4 or 8 bytes
{{"op": "store", "address": V, "offset": 0, "width": 8, "value": V}}
{{"op": "copy", "address": V, "source": V, "size": V}}
{{"op": "add", "a": V, "b": V}} slot = a + b
{{"op": "print", "address": V, "value": V, "suffix": V}} the value in decimal, then the text there
{{"op": "wait", "address": V, "offset": 0, "value": 0}} until the 32-bit word there is not the value
{{"op": "expect", "value": V, "equals": 0, "mask": N}} ends the program unless value & mask is that
{{"op": "call", "address": V}} calls the code there; {{"op": "fault"}} ud2

A value V is a number (64 bits, or negative), {{"blob": N, "offset": 0}} the address of a blob by
name or index, {{"slot": n}} the result of an earlier operation, or {{"env": E}}: "victim_pid",
"subject_pid", "syscall_insn", "handler", "restorer", "caught", "secret".

Constants are numbers: AT_FDCWD is -100. Exactly one operation of the attack, a syscall, store,
copy, call or fault, has "decisive": true: the one that causes the effect. Paths are relative to the
working directory, or absolute below /work or /proc/self. At most {MAX_OPERATIONS} operations.
There is no "setup": what runs before the filter is no way past it. Where the first example has a
"victim" section, a neighbour process that the effect is about, copy it with its blobs unchanged,
and count its operations first; elsewhere there is none."""

_HIDDEN = """\
# The filter

You are not shown it. You see what your calls return under it."""


def _effect(family: FamilyInstance) -> str:
    effect = family.effect
    seen = _SEEN[effect.kind].format(path=effect.path, parent=effect.parent, bits=effect.bits)
    given = "".join(f"\n{name} = {value}" for name, value in sorted(family.parameters.items()))
    parameters = f"\nParameters:{given}" if given else ""
    return f"# The effect\n\n{family.family.title}. The observer checks that {seen}.{parameters}"


def _examples(family: FamilyInstance) -> str:
    other = next(name for name in ("read-file", "create-directory") if name != family.family.name)
    simple = library.parse_reference(other)
    return (
        "# Two examples\n\n"
        f"The way that everybody knows to this effect:\n\n{_compact(family.baseline.program)}\n\n"
        f"For the form only, one of another effect ({simple.family.title.lower()}):\n\n"
        f"{_compact(simple.baseline.program)}"
    )


def _compact(program: Program) -> str:
    return json.dumps(jsonform.document(program))


def _filter(candidate: Candidate) -> str:
    return f"# The filter\n\n{_profile(candidate)[:_LONGEST_PROFILE]}"


def _profile(candidate: Candidate) -> str:
    """Its rules as they were read, without comments or names that somebody wrote; else its code."""
    if candidate.profile is not None and len(candidate.seccomp) == 1:
        runtime = candidate.runtime_model or "a runtime"
        rules = json.dumps(candidate.profile.as_dict())
        return f"The rules, of which {runtime} makes the filter:\n\n{rules}"
    listings = [
        "\n".join(disassembly.render(Filter.decode(one.program).instructions))
        for one in candidate.seccomp
    ]
    return "The code, by filter:\n\n" + "\n\n".join(listings)


def _turn(tried: Sequence[Shown], programs_left: int) -> str:
    if not tried:
        return f"Nothing was tried yet. {_left(programs_left)}"
    early, late = tried[:-_SHOWN], tried[-_SHOWN:]
    lines = ["What was tried:"]
    lines += [f"{number}. {one.gist}" for number, one in enumerate(early, 1)]
    for number, one in enumerate(late, len(early) + 1):
        shown = one.program[:_LONGEST_PROGRAM]
        lines.append(f"\n{number}. {shown}\n{one.said[:_LONGEST_SAID]}")
    text = "\n".join([*lines, "", _left(programs_left)])
    # Half a surrogate pair is a string in JSON, and none that can be sent.
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def _left(programs: int) -> str:
    return f"At most {programs} more programs are read. Propose some."


# ---------------------------------------------------------------------------------- the answer


def read_answer(text: str) -> Answer:
    """The answer that a text is; ``ProfileError`` with what is wrong, and where.

    No prose is searched for a program, and no fence is taken off.
    """
    if len(text) > _LONGEST_ANSWER:
        raise ProfileError(f"{len(text)} characters; an answer has at most {_LONGEST_ANSWER}")
    if not text.strip():
        raise ProfileError("it is empty")
    document = parse(text.encode("utf-8", errors="surrogatepass"))
    if not is_table(document):
        raise ProfileError(f"it is {kind(document)}, not an object")
    if odd := sorted(set(document) ^ set(SCHEMA["required"])):
        known = odd[0] in SCHEMA["required"]
        raise ProfileError("missing" if known else "not one of the keys of an answer", odd[0][:80])
    explanation, programs = document["explanation"], document["programs"]
    if not isinstance(explanation, str):
        raise ProfileError(f"is {kind(explanation)}, not a string", "explanation")
    if not is_list(programs) or not all(isinstance(one, str) for one in programs):
        raise ProfileError("not a list of strings", "programs")
    return Answer(explanation, tuple(programs))


# ---------------------------------------------------------------------------------- observations


def observation(trial: TrialRecord, *, effect: bool, black_box: bool) -> str:
    """What is said of a trial: what each call returned, and what the judge saw.

    Addresses and other large numbers differ from run to run and are not shown.
    """
    lines = [_verdict(trial, effect=effect)]
    if trial.reason and not black_box:
        lines.append(f"reason: {trial.reason}")
    lines += [_step(one, black_box=black_box) for one in trial.steps if one.section == "attack"]
    return "\n".join(lines)


def _verdict(trial: TrialRecord, *, effect: bool) -> str:
    if effect:
        return "It gets through: the observer saw the effect without the filter and under it."
    if trial.control_effect is None:
        return "No effect even without the filter: it is not a way to the effect here."
    if trial.mitigated_effect is None:
        return "The observer saw the effect without the filter, and not under it."
    return "Without the filter or under it the observer saw something like the effect, not itself."


def _step(step: StepRecord, *, black_box: bool) -> str:
    mark = "*" if step.decisive else " "
    parts = [f"without: {_result(step.control)}", f"under it: {_result(step.mitigated)}"]
    if step.filter and not black_box:
        parts.append(f"the filter says: {step.filter}")
    return f"{mark} slot {step.slot}: {'; '.join(parts)}"


def _result(result: str | None) -> str:
    if result is None:
        return "not reached"
    if result == _GUARDED:
        return "let through, and kept from the kernel: this call is never run here"
    return "a large number" if result.startswith(_LARGE) else result
