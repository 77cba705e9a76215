"""Which variants can be tried where somebody else has put the confinement on, and what they show.

There the subject is the child of a performer (native/perform.h) that is under the confinement
itself.  Nothing can be prepared before the layers come, nobody stands beside the subject without
them, and nothing traces it: what needs that is said to be untested, by the name of what is missing.
"""

from __future__ import annotations

from msgspec.structs import replace

from attacks.family import Need, Variant
from attacks.program import Env, Environment, Program
from evaluator import outcome
from evaluator.outcome import Pair, Terms
from evaluator.records import TrialRecord
from evaluator.trial import program_spec
from evaluator.wire import ProgramFlag

SETUP = "order: something has to be done before the confinement is there"
NAMESPACES = "namespaces: it needs new ones in each trial"
NEIGHBOUR = "neighbour: whoever is beside the subject would be confined as well"
EVENTS = "events: nobody follows the subject there"
SENTINEL = "sentinel: the call may only be made under an older filter of ours"
POSTURE = "posture: it brings no_new_privs of its own"
LIMITS = "limits: it needs room for a core file"
PID = "pid: who looks for the effect does not know the subject's"
PLACE = "place: it acts outside the working directory"
IDS = "ids: nobody knows beforehand whether there is more than one user there"
NAME = "name: it calls the working directory by the name that it has in the sandbox"
FSETID = "fsetid: root of the machine, which a pod's root is, keeps set-id bits when it writes"
CAUSES = (
    FSETID,
    SENTINEL,
    SETUP,
    NEIGHBOUR,
    NAMESPACES,
    EVENTS,
    LIMITS,
    POSTURE,
    PID,
    PLACE,
    IDS,
    NAME,
)
_WORK = b"/work"
_FOLLOWED = (
    ProgramFlag.WATCH_PROCESS
    | ProgramFlag.WATCH_EXEC
    | ProgramFlag.WATCH_MAPPED
    | ProgramFlag.WATCH_CODE
    | ProgramFlag.STAY
)


def why_not(variant: Variant) -> str:
    """Why a variant cannot be tried there, one of ``CAUSES``; empty if it can."""
    spec, program = program_spec(variant), variant.program
    causes = {
        SENTINEL: variant.guarded,
        SETUP: bool(program.setup),
        NEIGHBOUR: bool(program.victim) or ProgramFlag.VICTIM in spec.flags,
        NAMESPACES: bool(variant.fresh),
        EVENTS: bool(spec.flags & _FOLLOWED),
        LIMITS: ProgramFlag.CORE in spec.flags,
        POSTURE: variant.no_new_privs,
        PID: spec.witness is not None and _asks_for_pid(spec.witness.program),
        PLACE: variant.effect.parent.startswith("/"),
    }
    return next((cause for cause, holds in causes.items() if holds), "")


def why_not_inside(variant: Variant) -> str:
    """The same where the judge lives in the confinement too, in a directory of any name."""
    cause = why_not(variant)
    if cause or Need.MANY_IDS in variant.needs:
        return cause or IDS
    return NAME if any(_WORK in blob.data for blob in variant.program.blobs) else ""


def why_not_in_pod(variant: Variant) -> str:
    """The same where ids are the machine's own as well (fs/inode.c: CAP_FSETID)."""
    return why_not(variant) or (FSETID if variant.id.startswith("clear-set-id-bits/") else "")


def _asks_for_pid(program: Program) -> bool:
    wanted = (Environment.SUBJECT_PID, Environment.VICTIM_PID)
    operands = (
        value
        for _, op in program.flatten()
        for name in op.__struct_fields__
        for value in _values(getattr(op, name))
    )
    return any(isinstance(one, Env) and one.name in wanted for one in operands)


def _values(found: object) -> tuple[object, ...]:
    return found if isinstance(found, tuple) else (found,)  # pyright: ignore[reportUnknownVariableType] - any tuple


def untried(variant: Variant, terms: Terms, why: str) -> TrialRecord:
    """The record of a variant that cannot be tried there; another kernel would not change that."""
    found = outcome.classify(Pair(variant, why, ()), terms, why)
    return replace(found, reachable_elsewhere=False)
