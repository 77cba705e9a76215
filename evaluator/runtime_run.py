"""A campaign under a container runtime: the filter is the one that runc or crun loads.

Families, controls, outcomes and verdicts are those of a native campaign, from the same code; only
what cannot be tried there (``evaluator.stage``) is told apart.  Nothing is rewritten, and honest
programs are not run.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from errno import EPERM
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from attacks.family import FamilyInstance, Variant
from evaluator.assemble import assemble, failed
from evaluator.confinement import confinement
from evaluator.containers import Containers
from evaluator.enforcement import control_of
from evaluator.errors import EnvironmentLackError, HarnessError
from evaluator.outcome import Terms
from evaluator.plan import Plan, Progress, Rewrites
from evaluator.pods import Engine
from evaluator.posture import posture
from evaluator.records import CandidateResult, CandidateRun, Enforcement, Starts, TrialRecord
from evaluator.runtimes import CannotPerformError, RefusedError, Runtime, sweep
from evaluator.sandbox import explain_step, no_apparmor
from evaluator.share import Groups, Share
from evaluator.stage import untried, why_not, why_not_in_pod
from evaluator.verdict import Outcome
from evaluator.wire import Step
from mitigations.bpf import Filter
from mitigations.candidate import Candidate, FailedCandidate, OwnPosture, SecurityProfile

_ALONE = (
    "nobody may fork under it: each program is pid 1 of a container of its own, which no control is"
)


def evaluate(
    plan: Plan,
    runtime: Runtime | Engine,
    on_progress: Callable[[Progress], None],
    finish: Callable[[CandidateRun, Plan], CandidateResult] = assemble,
) -> Iterator[CandidateResult]:
    """The candidates' results in their order, as ``campaign.evaluate``."""
    sweep()
    tried = testable(plan.families, runtime)
    theirs = replace(plan, families=tried, rewrites=Rewrites.NONE, jobs=1)
    size = sum(one.size for one in tried)
    done = 0

    def step(name: str, more: int, _: int) -> None:
        nonlocal done
        done = min(done + more, total)
        on_progress(Progress(name, done, total))

    total = size * plan.repeats * len(plan.candidates)
    with Containers(runtime) as containers, closing(Groups([[one] for one in tried])) as groups:
        share = Share(theirs, containers, groups, step, honest=False)
        for candidate in plan.candidates:
            if isinstance(candidate, FailedCandidate):
                yield failed(candidate, plan)
            else:
                yield finish(_run(share, containers, candidate, plan), plan)
        share.check_controls()


def why_not_under(runtime: Runtime | Engine) -> Callable[[Variant], str]:
    """Why a variant cannot be tried under a runtime: the judge of a pod lives in it."""
    return why_not_in_pod if isinstance(runtime, Engine) else why_not


def testable(
    families: tuple[FamilyInstance, ...], runtime: Runtime | Engine
) -> tuple[FamilyInstance, ...]:
    """What of each family can be tried under a runtime; families without are left out."""
    why = why_not_under(runtime)
    held = (one.only({v.id for v in one.variants if not why(v)}) for one in families)
    return tuple(one for one in held if one.size)


def _run(share: Share, containers: Containers, candidate: Candidate, plan: Plan) -> CandidateRun:
    """One candidate, with what could not be tried."""
    begin = time.monotonic()
    why = _why_nothing(containers, candidate, plan)
    if why:
        run = CandidateRun(
            candidate=candidate,
            posture=posture(candidate.posture or plan.posture).name,
            enforcement=Enforcement(enforced=False, reason=why),
            starts=Starts(),
            trials=(),
            workloads=(),
            duration_s=time.monotonic() - begin,
        )
    else:
        run = share.run(candidate)
    cause_of = why_not_under(containers.runtime)
    trials = _with_untried(run, plan, why, cause_of)
    left_out = Counter(cause_of(one) for family in plan.families for one in family.variants)
    notes = [
        f"not tried under {containers.runtime.name}: {count}, {cause}"
        for cause, count in left_out.most_common()
        if cause
    ]
    if not why and containers.alone:
        notes.append(_ALONE)
    containers.alone.clear()
    return replace(
        run,
        trials=trials,
        notes=(*run.notes, *notes),
        starts=Starts(reason=why) if why else _starts(run),
    )


def _starts(run: CandidateRun) -> Starts:
    """The runtime did its own work under the filter, and executed a static program."""
    loads = run.enforcement.enforced
    reason = run.enforcement.reason
    return Starts(loads=loads, runtime=loads, static=loads or None, reason=reason)


def _with_untried(
    run: CandidateRun, plan: Plan, why: str, cause_of: Callable[[Variant], str]
) -> tuple[TrialRecord, ...]:
    """All trials in the order of the library."""
    filters = tuple(Filter.decode(layer.program) for layer in run.candidate.seccomp)
    terms = Terms(filters, "", no_new_privs=False, syscall_insn=0, with_steps=plan.with_steps)
    known = {one.variant: one for one in run.trials if not _is_denied(one)}
    why_denied = {one.variant: one.reason or "" for one in run.trials if _is_denied(one)}
    return tuple(
        known[one.id]
        if one.id in known
        else untried(one, terms, why or why_denied.get(one.id) or cause_of(one))
        for family in plan.families
        for one in family.variants
    )


def _is_denied(trial: TrialRecord) -> bool:
    """Whether the confinement denies the runner what it takes to end this one program."""
    said = explain_step(Step.NEEDS_KILL, EPERM).partition(" (")[0]
    return trial.outcome is Outcome.HARNESS_ERROR and said in (trial.reason or "")


def _why_nothing(containers: Containers, candidate: Candidate, plan: Plan) -> str:
    """Why nothing can be tried of a candidate, though the runtime may start it; empty if it can."""
    name = containers.runtime.name
    others = [one.kind for one in candidate.layers if one.kind not in _PUT_ON]
    if others:
        return f"{name} is not given layers of the kind {others[0]} here"
    if len(candidate.seccomp) > 1:
        return f"{name} loads one filter, and this candidate has {len(candidate.seccomp)}"
    stance = posture(candidate.posture or plan.posture)
    control = control_of(containers, stance)
    confined = confinement(control, candidate, 0, containers.first.load_apparmor)
    config = confined.config
    lacking = [one.reason for one in confined.absent]
    if isinstance(containers.runtime, Engine):
        lacking += _not_asked_for(candidate, containers.first.read)
    if lacking:
        return lacking[0]
    if candidate.seccomp:
        profile = profile_for(candidate, containers.runtime)
        if profile is None:
            return f"{name} takes a profile, and this candidate is a raw filter"
        containers.told(config.filters, profile)
    try:
        containers.container(config)
    except CannotPerformError as error:
        return str(error)
    except (RefusedError, HarnessError):
        return ""  # which enforcement says better
    return ""


_PUT_ON = ("seccomp", "no-new-privs", "capabilities", "apparmor")


def _not_asked_for(candidate: Candidate, read: Callable[[str], str | None]) -> Iterator[str]:
    """What a kubelet would ask a CRI runtime for, and is not asked for here, with the reason."""
    asked = candidate.requested_apparmor
    if asked is not None and asked.type == "RuntimeDefault":
        refused = no_apparmor(read)
        why = f"{refused}; a kubelet refuses the pod" if refused else _ITS_OWN
        yield f"AppArmor RuntimeDefault: {why}"


_ITS_OWN = "containerd would load its own profile into the kernel of this machine"


def profile_for(
    candidate: Candidate, runtime: Runtime | Engine
) -> Mapping[str, Any] | SecurityProfile | None:
    """The ``linux.seccomp`` of a bundle: an OCI profile as its file has it, others resolved.

    For a container of a manifest a CRI runtime is asked as the kubelet asks it.  None where nobody
    has the rules.
    """
    requested = candidate.requested if isinstance(runtime, Engine) else None
    if requested is not None and not _hangs_on_bounding_set(requested, candidate):
        return requested
    path = Path(candidate.source)
    if candidate.meaning == "oci" and path.is_file():
        found: Mapping[str, Any] = json.loads(path.read_bytes())
        if "defaultAction" in found:  # or it is a section of something else
            return found
    return candidate.profile.as_dict() if candidate.profile is not None else None


def _hangs_on_bounding_set(requested: SecurityProfile, candidate: Candidate) -> bool:
    """Whether containerd would render another RuntimeDefault than in a pod.

    It looks at the bounding set, and postures leave an ordinary user none.
    """
    own = candidate.posture
    return requested.type == "RuntimeDefault" and isinstance(own, OwnPosture) and own.uid != 0


def check_model(candidate: Candidate, runtime: Runtime | Engine) -> None:
    """``EnvironmentLackError`` if a candidate was compiled as another runtime would."""
    model = candidate.runtime_model.partition("/")[0]
    if model and model != runtime.model:
        raise EnvironmentLackError(
            f"{candidate.source}: compiled as {model} does, and {runtime.name} {runtime.version} "
            f"does as {runtime.model}: leave --runtime-model out"
        )
