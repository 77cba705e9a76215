"""A campaign on another kernel: every trial runs in a virtual machine, in one boot.

The runner there is the one of a native campaign and builds the same sandbox, so families, controls,
outcomes and verdicts come from the same code.  Of honest programs it has those of the default
workloads.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager

from msgspec.structs import replace

from evaluator.assemble import assemble, failed
from evaluator.audit_log import audit_log
from evaluator.doctor import ambient, live
from evaluator.errors import SidestepError
from evaluator.needs import core_pattern
from evaluator.plan import Plan, Progress
from evaluator.pool import Pool
from evaluator.records import CandidateResult, CandidateRun, Environment, Probe
from evaluator.share import Groups, Share
from evaluator.vm import SLOWER, Machines, denials
from evaluator.workloads import DEFAULTS
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

    workloads = tuple(
        replace(one, deadline=SLOWER * one.deadline)
        for one in plan.workloads
        if one.name in DEFAULTS
    )
    theirs = replace(plan, jobs=1, workloads=workloads)
    with (
        closing(Groups([[one] for one in plan.families])) as groups,
        closing(Groups([])) as none,
        _here(theirs, none) as here,
    ):
        share = Share(theirs, machines, groups, step, honest=True, here=here)
        for candidate in plan.candidates:
            if isinstance(candidate, FailedCandidate):
                yield failed(candidate, plan)
            else:
                yield finish(_run(share, machines, candidate, plan), plan)
        share.check_controls()


@contextmanager
def _here(plan: Plan, groups: Groups) -> Generator[Share | None]:
    """A share on this machine's own kernel; None if no trial can run here."""
    with ExitStack() as stack:
        try:
            pool = stack.enter_context(Pool(1))
        except SidestepError:
            yield None
            return
        yield Share(plan, pool, groups, _unheard, honest=False)


def _unheard(name: str, done: int, more: int) -> None:
    """Of what runs here nobody counts the trials."""


def _run(share: Share, machines: Machines, candidate: Candidate, plan: Plan) -> CandidateRun:
    """One candidate, with what the kernel's log says of it."""
    profiles = [one.profile for one in candidate.layers if isinstance(one, AppArmorLayer)]
    before = len(machines.log()) if profiles else 0
    run = share.run(candidate)
    enforced = profiles if run.enforcement.enforced else []
    notes = [_denied(one, machines.log()[before:]) for one in enforced]
    without = ", ".join(one.name for one in plan.workloads if one.name not in DEFAULTS)
    if without:
        notes.append(f"not run in the virtual machine, which has not their programs: {without}")
    return replace(run, notes=(*run.notes, *notes))


def _denied(profile: str, console: str) -> str:
    """One line about the audit records of a profile."""
    found = denials(console, profile)
    if not found:
        return f"the kernel there logged nothing that the profile {profile} denied"
    said = ", ".join(f"{operation} {count}" for operation, count in found)
    return f'the kernel there logged apparmor="DENIED" profile="{profile}": {said}'


def environment(machines: Machines, here: Environment) -> Environment:
    """Where trials take place, in a virtual machine of ``here``."""
    machine = machines.first
    lsms = machine.read("/sys/kernel/security/lsm") or ""
    release = machine.read("/proc/sys/kernel/osrelease") or machines.kernel.release
    package = machines.kernel.package
    own = replace(here, kernel=release, lsm=tuple(lsms.split(",")) if lsms else ())
    said = {
        "kernel": (release, f"of the package {package}; this machine has {here.kernel}"),
        "user": ("root", "of the virtual machine, whoever started it"),
        "LSMs": (lsms or "not shown", "of the virtual machine"),
        "core pattern": (core_pattern(machine.read), "of the virtual machine"),
        "user namespaces": (
            machine.read("/proc/sys/user/max_user_namespaces") or "?",
            "how many may exist there",
        ),
        "ambient seccomp": ("mode 0, 0 filters", "nothing confines the runner there"),
    }
    probes = [
        Probe(
            one.name, *said.get(one.name, (one.value, one.meaning)), ok=one.ok or one.name in said
        )
        for one in here.probes
        if one.name != "honest programs"
    ]
    return replace(
        own,
        isolation=f"virtual machine (QEMU), kernel of {package}",
        ambient=ambient(machine.read),
        audit_log=audit_log(read=machine.read),
        user="root",
        id_map=machine.id_map,
        probes=(*probes, *live(machines)),
    )
