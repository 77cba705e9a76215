"""What is left of an attempt: a record in the audit log, and a process that may try again.

Both follow from the action that answered and from the flags of the filter that gave it, as
``seccomp_log`` and ``__seccomp_filter`` of kernel/seccomp.c have it (seccomp(2), "Audit logging of
seccomp actions").  What a machine makes of that is in ``AuditLog`` and not here: it can silence an
action, or have no audit log at all.
"""

from __future__ import annotations

from collections.abc import Collection

from evaluator.records import Aftermath
from mitigations.bpf import Decision
from mitigations.classic import MAX_INSTRUCTIONS, Action

_RECORDED = (Action.KILL_PROCESS, Action.KILL_THREAD, Action.LOG)
"""Recorded unasked; of the others only those that a filter with SECCOMP_FILTER_FLAG_LOG gives."""
_KILLING = (Action.KILL_PROCESS, Action.KILL_THREAD, Action.TRAP)
_RETURNING = (Action.ERRNO, Action.TRACE, Action.USER_NOTIF)
_EVIDENCE = {True: "with an audit record", False: "silently", None: "perhaps silently"}
_LIVES = {
    True: "the process lives on",
    False: "the process dies",
    None: "the process may live on",
}
_FATES = {
    Action.KILL_PROCESS: (False, "the process dies"),
    Action.KILL_THREAD: (None, "the thread dies, and its process if that has no other"),
    Action.TRAP: (None, "the process dies of SIGSYS if it does not handle it"),
    Action.ERRNO: (True, "the call returns"),
    Action.TRACE: (True, "the call returns"),
    Action.USER_NOTIF: (True, "the call returns"),
    Action.LOG: (True, "the call passes"),
}


def of_action(action: Action, *, asked: bool | None) -> Aftermath:
    """After one answer; ``asked`` is whether its filter has the flag, ``None`` if nobody knows."""
    survives, fate = _FATES[action]
    if action in _RECORDED:
        why = f"{action.name}: {fate}; the kernel records it unasked"
        return Aftermath(survives, True, _said(survives, True, passed=action.allows), why)
    record = {
        True: "SECCOMP_FILTER_FLAG_LOG asks for a record",
        False: "the filter does not ask for a record",
        None: "some of the filters ask for a record",
    }[asked]
    why = f"{action.name}: {fate}; {record}"
    return Aftermath(survives, asked, _said(survives, asked), why)


def of_decision(
    decision: Decision, logging: Collection[int], filters: int, *, killed: bool
) -> Aftermath:
    """After the filters' answer to a call that ran.

    ``logging`` are the positions of the filters with SECCOMP_FILTER_FLAG_LOG, of so many.  Where
    the answer hangs on a word that nobody knows, what the program got (``killed`` by it or not)
    says which ones remain.
    """
    asked = _asked(decision, logging, filters)
    found = [of_action(one, asked=asked) for one in _answers(decision, killed=killed)]
    if len(found) == 1:
        return found[0]
    survives = _common({one.survives for one in found})
    audited = _common({one.audited for one in found})
    why = " or ".join(one.why for one in found)
    return Aftermath(survives, audited, _said(survives, audited), why)


def _said(survives: bool | None, audited: bool | None, *, passed: bool = False) -> str:
    if passed:
        return f"got through {_EVIDENCE[audited]}"
    return f"blocked {_EVIDENCE[audited]}; {_LIVES[survives]}"


def _answers(decision: Decision, *, killed: bool) -> list[Action]:
    if decision.action is not None:
        return [decision.action]
    seen = _KILLING if killed else _RETURNING
    possible = {Action.of(value) for value in decision.possible if value is not None}
    return [one for one in seen if None in decision.possible or one in possible] or list(seen)


def _asked(decision: Decision, logging: Collection[int], filters: int) -> bool | None:
    if decision.ret_pc >= 0:
        return decision.ret_pc // MAX_INSTRUCTIONS in logging
    return bool(logging) if len(logging) in (0, filters) else None


def _common(values: set[bool | None]) -> bool | None:
    return values.pop() if len(values) == 1 else None
