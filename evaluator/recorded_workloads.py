"""Workloads recorded in the sandbox, where they run otherwise: services with their customers.

What is exec'ed there is the runner in its record mode, and the workload is its child.  It has what
the posture gives and no candidate's filter, so what is seen is the control arm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attacks.program import Const
from evaluator import enforcement, self_filter
from evaluator.errors import InputError
from evaluator.kept_arguments import ARGUMENTS, kept
from evaluator.pool import Arm, Pool
from evaluator.posture import posture
from evaluator.record import NO_NEW_PRIVS, How, decode, encode
from evaluator.recording import Recording, Use, recording
from evaluator.records import WorkloadRecord
from evaluator.wire import Result
from evaluator.workload_run import run_workloads, spec_of, stop_signal, trouble
from evaluator.workloads import Program, Workload
from mitigations import runtimes
from mitigations.candidate import Attachment, Candidate
from mitigations.rules import Profile

_SLOWER = 2.0
"""So many times its deadline a workload has while it is recorded."""
_NO_DEADLINE_S = 86400.0
"""The judge ends a recorder that takes too long."""
_TRIES = 2


def record_once(
    pool: Pool, wanted: Sequence[Workload], stance: str, on_done: Callable[[int], None]
) -> tuple[Recording, ...]:
    """One run of each.

    ``InputError`` names one that does not work while it is recorded, ``EnvironmentLackError`` says
    why nothing can be recorded here.
    """
    made = [one for one in wanted if one.program is Program.SELF_FILTER]
    found = {one.name: _of_self_filter(one) for one in made}
    on_done(len(made))
    left = [one for one in wanted if one.name not in found]
    failed: dict[str, str] = {}
    for _ in range(_TRIES):
        ran = _run(pool, left, stance)
        recorded = {one.name: _recording_of(one, ran[one.name]) for one in left}
        failed = {name: said for name, said in recorded.items() if isinstance(said, str)}
        found |= {name: one for name, one in recorded.items() if isinstance(one, Recording)}
        on_done(len(recorded) - len(failed))
        left = [one for one in left if one.name in failed]
    if failed:
        name, reason = next(iter(failed.items()))
        raise InputError(f"{name}: does not work while it is recorded: {reason}")
    return tuple(found[one.name] for one in wanted)


def _run(pool: Pool, wanted: Sequence[Workload], stance: str) -> dict[str, Result | str]:
    control = enforcement.control_of(pool, posture(stance))
    arms = [
        Arm(
            spec_of(one, encode(How(_NO_DEADLINE_S, forward=stop_signal(one)))),
            control,
            control,
            int(_SLOWER * one.deadline * 1e6),
        )
        for one in wanted
    ]
    return {one.name: result for one, result in zip(wanted, pool.run(arms), strict=True)}


def _recording_of(one: Workload, result: Result | str) -> Recording | str:
    """What was seen of a run; why it does not count, if it failed."""
    # First, as it knows what could not even be started.
    reported = result.report if isinstance(result, Result) else b""
    ran = decode(reported, one.command) if reported else None
    reason = trouble(one, result)
    if reason or ran is None:
        return reason or "it left no recording"
    # A set-user-ID program of the machine has no rights of its own in the sandbox, anyway.
    notes = [note for note in ran.notes if note != NO_NEW_PRIVS]
    return recording(one.command, ran.uses, notes, ran.end, one.name)


def _of_self_filter(one: Workload) -> Recording:
    """What the check may call is known, whichever way it takes; then it ends."""
    uses = [_use(step) for step in self_filter.steps()]
    end = Use("x86_64", "exit_group", kept("x86_64", "exit_group", [None] * ARGUMENTS), 1)
    return recording(one.command, [*uses, end], (), "worked", one.name)


def _use(step: self_filter.Step) -> Use:
    given = [arg.value if isinstance(arg, Const) else None for arg in step.call.args]
    args = [*given, *[None] * (ARGUMENTS - len(given))]
    return Use("x86_64", step.call.name, kept("x86_64", step.call.name, args), 1)


def verify(
    pool: Pool,
    wanted: Sequence[Workload],
    profile: Profile,
    model: str,
    stance: str,
    on_done: Callable[[int], None],
) -> tuple[WorkloadRecord, ...]:
    """One run of each under the filter that a runtime of that model makes of the profile."""
    candidate = candidate_of(profile, model)
    applied = enforcement.apply(pool, candidate, posture(stance))
    return run_workloads(pool, wanted, applied, on_done)


def candidate_of(profile: Profile, model: str) -> Candidate:
    """A recorded profile as it would be evaluated; ``ProfileError`` where a runtime refuses it."""
    found = runtimes.find_model(model)
    return Candidate(
        name="recorded",
        source="recorded",
        layers=(runtimes.compile_profile(profile, found),),
        attachment=Attachment.RUNTIME,
        meaning="oci",
        runtime_model=runtimes.describe(found),
        default_action=profile.default_action,
        profile=profile,
    )
