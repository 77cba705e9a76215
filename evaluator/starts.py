"""Honest programs under a candidate: the four parts of starting, and the workloads."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Callable, Sequence
from typing import Any

from evaluator.enforcement import Applied
from evaluator.pool import Pool
from evaluator.posture import Posture
from evaluator.records import Starts, WorkloadRecord
from evaluator.wire import ProgramSpec
from evaluator.workload_run import Ran, run_workloads
from evaluator.workloads import Workload, workload
from mitigations import x86_64
from mitigations.bpf import Filter, decide_stack
from mitigations.candidate import Attachment, Candidate
from mitigations.classic import Action

_DYNAMIC = Workload(
    name="dynamic-entry",
    title="A dynamically linked program starts and exits",
    command=("true",),
    stdout="",
)


def honest_programs(
    pool: Pool,
    candidate: Candidate,
    applied: Applied,
    wanted: Sequence[Workload],
    on_step: Callable[[int, int], None],
    controls: dict[str, tuple[Ran, ...]],
    specs: dict[str, ProgramSpec],
    *,
    with_blame: bool = True,
) -> tuple[Starts, tuple[WorkloadRecord, ...]]:
    """What of a container's start works under the candidate, and the wanted workloads.

    ``on_step`` hears how many were done, and how many came up; ``controls`` are kept there for the
    next candidate in this posture, ``specs`` for all.
    """
    if candidate.attachment is Attachment.SELF:
        # Its program had started long before, and nothing is exec'ed under such a filter.
        reason = "" if applied.loads else applied.enforcement.reason
        return Starts(loads=applied.loads, reason=reason), ()
    entries = (workload("static-entry"), _DYNAMIC)
    once = {one.name: one for one in (*wanted, *entries)}
    on_step(0, len(once))
    ran = run_workloads(
        pool,
        tuple(once.values()),
        applied,
        lambda n: on_step(n, 0),
        controls,
        specs,
        with_blame=with_blame,
    )
    records = {one.workload: one for one in ran}
    started = _starts(candidate, applied, [records[one.name] for one in entries])
    return started, tuple(records[one.name] for one in wanted)


def _starts(candidate: Candidate, applied: Applied, entries: Sequence[WorkloadRecord]) -> Starts:
    if not applied.loads:
        return Starts(loads=False, reason=applied.enforcement.reason)
    runtime: bool | None = True
    reason = ""
    if candidate.seccomp:
        nnp = applied.config.no_new_privs
        runtime, reason = _runtime(candidate.runtime_model, applied.filters, no_new_privs=nnp)
    static, dynamic = (one.works if one.works_in_control else None for one in entries)
    if not reason:
        reason = next(
            (f"{one.title}: {one.reason}" for one in entries if one.reason and not one.works), ""
        )
    return Starts(loads=True, runtime=runtime, static=static, dynamic=dynamic, reason=reason)


@functools.cache
def _startup_calls() -> dict[str, Any]:
    text = importlib.resources.files("mitigations").joinpath("data/startup-calls.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def foreseen(candidate: Candidate, filters: Sequence[Filter], stance: Posture) -> Starts:
    """What can be said of starting without a run: whether the runtime can finish its own work."""
    if candidate.attachment is Attachment.SELF or not filters:
        return Starts()
    nnp = candidate.brings_no_new_privs or stance.no_new_privs
    runtime, reason = _runtime(candidate.runtime_model, filters, no_new_privs=nnp)
    return Starts(runtime=runtime, reason=reason)


def _runtime(
    model: str, filters: Sequence[Filter], *, no_new_privs: bool
) -> tuple[bool | None, str]:
    """Whether the runtime's own calls between load and exec pass; simulated on recorded calls.

    A call whose refusal the recorded runtime survived matters only if it is answered by a kill.
    """
    recorded = _startup_calls().get(model.partition("/")[0])
    if recorded is None:
        return None, f"no start of {model or 'this runtime'} was recorded"
    case = "nnp" if no_new_privs else "no-nnp"
    for call in recorded[case]["always"]:
        stopped = _stopped(call, filters)
        if stopped:
            return (
                False,
                f"{model.partition('/')[0]} cannot finish: {call['name']} answers {stopped}",
            )
    return True, ""


def _stopped(call: dict[str, Any], filters: Sequence[Filter]) -> str:
    decision = decide_stack(filters, x86_64.AUDIT_ARCH_X86_64, call["nr"], call["args"])
    if decision.depends or decision.allows:
        return ""
    survivable = (
        decision.action in (Action.ERRNO, Action.TRACE, Action.USER_NOTIF) and not call["needed"]
    )
    return "" if survivable else decision.text
