"""A campaign on another kernel: every trial runs in a virtual machine, in one boot.

The runner there is the one of a native campaign and builds the same sandbox, so families, controls,
outcomes and verdicts come from the same code.  Honest programs are not run: the machine has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from msgspec.structs import replace

from evaluator.doctor import live
from evaluator.enforcement import AMBIENT, status_fields
from evaluator.plan import Plan, Progress
from evaluator.posture import posture
from evaluator.records import (
    CandidateResult,
    CandidateRun,
    Environment,
    Probe,
    Starts,
    assemble,
    failed,
)
from evaluator.share import Groups, Share
from evaluator.starts import foreseen
from evaluator.vm import Machines, denials
from mitigations.bpf import Filter
from mitigations.candidate import AppArmorLayer, Candidate, FailedCandidate


def evaluate(
    plan: Plan,
    machines: Machines,
    on_progress: Callable[[Progress], None],
    finish: Callable[[CandidateRun, Plan], CandidateResult] = assemble,
) -> Iterator[CandidateResult]:
    """The candidates' results in their order, as ``campaign.evaluate``."""
    todo = [one for one in plan.candidates if isinstance(one, Candidate)]
    total = sum(one.size for one in plan.families) * plan.repeats * len(todo)
    done = 0

    def step(name: str, more: int, found: int) -> None:
        nonlocal done, total
        total += found
        done = min(done + more, total)
        on_progress(Progress(name, done, total))

    theirs = replace(plan, jobs=1)
    with closing(Groups([[one] for one in plan.families])) as groups:
        share = Share(theirs, machines, groups, step, honest=False)
        for candidate in plan.candidates:
            if isinstance(candidate, FailedCandidate):
                yield failed(candidate, plan)
            else:
                yield finish(_run(share, machines, candidate, plan), plan)
        share.check_controls()


def _run(share: Share, machines: Machines, candidate: Candidate, plan: Plan) -> CandidateRun:
    """One candidate, with what the kernel's log says of it."""
    before = len(machines.first.console)
    run = share.run(candidate)
    filters = [Filter.decode(layer.program) for layer in candidate.seccomp]
    starts = foreseen(candidate, filters, posture(candidate.posture or plan.posture))
    notes = [
        _denied(one.profile, machines.first.console[before:])
        for one in candidate.layers
        if isinstance(one, AppArmorLayer) and run.enforcement.enforced
    ]
    loads = run.enforcement.enforced
    if not loads:
        starts = Starts(reason=run.enforcement.reason)
    return replace(run, starts=replace(starts, loads=loads), notes=(*run.notes, *notes))


def _denied(profile: str, console: str) -> str:
    """One line about the audit records of a profile."""
    found = denials(console, profile)
    if not found:
        return f"the kernel there logged nothing that the profile {profile} denied"
    said = ", ".join(f"{operation} {count}" for operation, count in found)
    return f'the kernel there logged apparmor="DENIED" profile="{profile}": {said}'


def environment(machines: Machines, here: Environment) -> Environment:
    """Where trials take place in a virtual machine of ``here``."""
    machine = machines.first
    own = status_fields(machine.read("/proc/self/status") or "")
    lsms = machine.read("/sys/kernel/security/lsm") or ""
    release = machine.read("/proc/sys/kernel/osrelease") or machines.kernel.release
    package = machines.kernel.package
    return replace(
        here,
        kernel=release,
        isolation=f"virtual machine (QEMU), kernel of {package}",
        lsm=tuple(lsms.split(",")) if lsms else (),
        ambient={name: value for name, value in own.items() if name in AMBIENT},
        user="root",
        id_map=machine.id_map,
        probes=(
            Probe("kernel", release, f"of {package}; this machine has {here.kernel}", ok=True),
            Probe("LSMs", lsms or "not shown", "in the virtual machine", ok=True),
            *live(machines),
        ),
    )
