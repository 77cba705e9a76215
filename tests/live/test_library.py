"""The bundled profiles get the verdicts that they state, and the attack library does what it says.

One hundred runs over all profiles, by hand (minutes):

    SIDESTEP_RUNS=100 .venv/bin/pytest tests/live/test_library.py -k identical
"""

import functools
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from attacks import library
from attacks.family import Assumption, FamilyInstance, Variant
from attacks.program import Program
from evaluator import campaign
from evaluator.enforcement import control_of
from evaluator.explain import Explainer
from evaluator.objectives import objective
from evaluator.plan import Plan, Rewrites
from evaluator.pool import Arm, Pool
from evaluator.posture import posture
from evaluator.records import CandidateResult, TrialRecord
from evaluator.request import families
from evaluator.trial import grade, program_spec
from evaluator.verdict import Outcome, Scope, Verdict
from evaluator.wire import Result
from evaluator.workloads import DEFAULTS, chosen
from mitigations.candidate import Attachment, Candidate, SeccompLayer
from mitigations.load import load

from engine import EPERM, answers_all

LIBRARY = Path(__file__).parents[2] / "mitigations" / "library"
PROFILES: dict[str, dict[str, Any]] = {
    one["file"]: one for one in tomllib.loads((LIBRARY / "library.toml").read_text())["profile"]
}
JOBS = len(os.sched_getaffinity(0))
RUNS = int(os.environ.get("SIDESTEP_RUNS", "10"))
DENY_ALL = answers_all(EPERM)


def deny_all() -> Candidate:
    """A filter that allows nothing at all."""
    return Candidate(
        name="deny-all",
        source="deny-all",
        layers=(SeccompLayer(DENY_ALL, (DENY_ALL,)),),
        attachment=Attachment.SELF,
        meaning="raw",
    )


@functools.cache
def all_families() -> tuple[FamilyInstance, ...]:
    return families([], library.SUITE)


def candidate(name: str) -> Candidate:
    if name == "deny-all":
        return deny_all()
    (one,) = load(LIBRARY / name)
    assert isinstance(one, Candidate)
    return one


def evaluate(*names: str, **changes: Any) -> list[CandidateResult]:
    plan = Plan(
        candidates=tuple(candidate(name) for name in names),
        families=all_families(),
        workloads=(),
        jobs=JOBS,
    )
    return list(campaign.evaluate(replace(plan, **changes), lambda _: None))


@functools.cache
def evaluated(name: str) -> CandidateResult:
    """A profile as a user gets it, under its objective where it names one."""
    goal = PROFILES[name]["objective"]
    (result,) = evaluate(
        name, workloads=chosen(DEFAULTS), objective=objective(goal) if goal else None
    )
    return result


@functools.cache
def unconfined(stance: str) -> Mapping[str, TrialRecord]:
    (result,) = evaluate("unconfined.json", posture=stance)
    return {trial.variant: trial for trial in result.trials}


def verdicts(result: CandidateResult) -> dict[str, str]:
    return {one.family: one.verdict.value for one in result.families}


# ------------------------------------------------------------------ profiles


@pytest.mark.parametrize("name", PROFILES)
def test_a_bundled_profile_gets_its_verdicts(name: str) -> None:
    result = evaluated(name)
    expected = PROFILES[name]["expected"]
    assert {family: verdicts(result)[family] for family in expected} == expected


@pytest.mark.parametrize("name", PROFILES)
def test_a_bundled_profile_gets_its_verdicts_with_reasons(name: str) -> None:
    result = evaluated(name)
    assert result.enforced
    assert result.starts.loads
    for trial in result.trials:
        assert trial.outcome not in (Outcome.HARNESS_ERROR, Outcome.DISAGREEMENT), trial.reason
        assert (trial.stopped_at is not None) == (trial.outcome is Outcome.BLOCKED)
        assert trial.reason or trial.outcome in (Outcome.BYPASSED, Outcome.BLOCKED)
    for family in result.families:
        assert family.summary
        assert bool(family.bypasses) == (family.verdict in (Verdict.LEAKY, Verdict.OPEN))


def test_the_index_holds_every_profile_of_the_folder() -> None:
    assert set(PROFILES) == {path.name for path in LIBRARY.glob("*.json")}


def test_the_loaded_filter_is_what_the_kernel_holds() -> None:
    said = evaluated("block-mkdir.json").ground_truth.read_back or ""
    assert said == "identical" if os.geteuid() == 0 else said.startswith("not permitted")


# ------------------------------------------------------------------ variants

VARIANTS: dict[str, Variant] = {
    variant.id: variant
    for family in library.load_families().values()
    for variant in family.default.variants
}


@pytest.mark.parametrize("identity", VARIANTS)
def test_a_control_reaches_its_grade_or_says_why_not(identity: str) -> None:
    trials = [unconfined(stance)[identity] for stance in ("container", "root")]
    if VARIANTS[identity].negative:
        assert [one.control_effect for one in trials] == [None, None]
        return
    if any(one.control_effect is VARIANTS[identity].grade for one in trials):
        return
    for one in trials:
        assert one.outcome is Outcome.UNSUPPORTED, one.reason
        assert (one.reason or "").split(":")[0] in ("kernel", "architecture", "capability")


def test_an_empty_program_has_no_effect() -> None:
    """The same objects, the same setup, no attack: what is seen is what the attack did."""
    wanted = [one for one in VARIANTS.values() if unconfined("root")[one.id].control_effect]
    assert len(wanted) > 200
    for variant, result in zip(wanted, _without_attack(wanted), strict=True):
        assert isinstance(result, Result), f"{variant.id}: {result}"
        assert grade(variant, result) is None, variant.id


def _without_attack(variants: Sequence[Variant]) -> list[Result | str]:
    with Pool(JOBS) as pool:
        config = control_of(pool, posture("root"))
        arms: list[Arm] = []
        for variant in variants:
            full = program_spec(variant)
            empty = Program(variant.program.blobs, variant.program.setup, variant.program.victim)
            arms.append(Arm(replace(full, program=empty), config, config, 20_000))
        return pool.run(arms)


def test_a_filter_that_allows_nothing_blocks_everything_that_calls() -> None:
    (result,) = evaluate("deny-all", posture="root")
    for trial in result.trials:
        in_scope = trial.assumption is Assumption.NONE and not trial.beyond_seccomp
        if in_scope and trial.control_effect is not None:
            assert trial.outcome is Outcome.BLOCKED, f"{trial.variant}: {trial.outcome}"
            assert trial.stopped_at is not None
            assert trial.stopped_at.answer == "EPERM"


# ------------------------------------------------------------------ the same, again and otherwise


def rows(result: CandidateResult) -> list[tuple[Any, ...]]:
    """What may not change: all but times and addresses."""
    return [
        (
            one.variant,
            one.outcome,
            one.stopped_at,
            one.control_effect,
            one.mitigated_effect,
            one.predicted,
            one.route,
            one.prerequisite_only,
        )
        for one in result.trials
    ]


def differing(one: CandidateResult, other: CandidateResult) -> list[str]:
    """The trials that are not the same, with both reasons and what the second one did."""
    return [
        f"{left.outcome} ({left.reason}) and {right.outcome} ({right.reason}): {right.variant} "
        + " ".join(f"{step.text}={step.control}/{step.mitigated}" for step in right.steps)
        for left, right, *rest in zip(one.trials, other.trials, rows(one), rows(other), strict=True)
        if rest[0] != rest[1]
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["block-mkdir.json", "no-new-directories.json", "strict-allowlist.json", "deny-all"]
)
def test_the_fast_path_changes_no_row(name: str) -> None:
    fast, slow = (evaluate(name, fast_path=on)[0] for on in (True, False))
    assert "\n".join(differing(fast, slow)) == ""
    assert verdicts(fast) == verdicts(slow)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"rewrites": Rewrites.SAMPLED}], ids=["recorded", "sampled"])
def test_any_number_of_workers_gives_equal_rows_in_equal_order(more: dict[str, Any]) -> None:
    (alone,) = evaluate("block-mkdir.json", jobs=1, **more)
    (shared,) = evaluate("block-mkdir.json", jobs=3, **more)
    assert [one.variant for one in alone.trials] == [one.variant for one in shared.trials]
    assert "\n".join(differing(alone, shared)) == ""


def test_who_cannot_wait_nor_end_is_cleared_away_all_the_same(tmp_path: Path) -> None:
    """Tracees of the dying stay as zombies, and the threads of a ring outlive a lone exit."""
    denied = {"names": ["wait4", "exit_group"], "action": "SCMP_ACT_ERRNO"}
    path = tmp_path / "no-wait-no-exit.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denied]}))
    plan = Plan(
        candidates=tuple(load(path)) * 10,
        families=tuple(families(["create-directory", "kill-process"], library.SUITE)),
        workloads=(),
        jobs=JOBS,
        fast_path=False,  # each of the ten is run
    )
    for result in campaign.evaluate(plan, lambda _: None):
        for trial in result.trials:
            known = (Outcome.BYPASSED, Outcome.BLOCKED, Outcome.UNSUPPORTED)
            assert trial.outcome in known, (trial.variant, trial.reason)
        assert result.duration_s < 60


# What the rules for whole programs put around one, and what a process needs to end.
AROUND = {"child": ["fork", "wait4"], "thread": ["clone"], "exec": ["execve"]}


@pytest.mark.parametrize("rule", AROUND)
def test_what_is_put_around_a_program_is_not_its_effect(rule: str, tmp_path: Path) -> None:
    allowed = [*AROUND[rule], "exit", "exit_group"]
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}],
    }
    path = tmp_path / f"only-{rule}.json"
    path.write_text(json.dumps(profile))
    held = {one for one in library.suite().variants if "~" not in one or one.endswith(f"~{rule}")}
    plan = Plan(
        candidates=tuple(load(path)),
        families=all_families(),
        workloads=(),
        jobs=JOBS,
        suite=frozenset(held),
        rewrites=Rewrites.ALL,
    )
    (result,) = campaign.evaluate(plan, lambda _: None)
    outcomes = {trial.variant: trial.outcome for trial in result.trials}
    made = [trial for trial in result.trials if trial.variant.endswith(f"~{rule}")]
    assert Outcome.BLOCKED in {trial.outcome for trial in made}
    for trial in made:
        if outcomes[trial.derived_from] is not Outcome.BYPASSED:
            assert trial.outcome in (Outcome.BLOCKED, Outcome.UNSUPPORTED), trial.variant


@pytest.mark.parametrize(
    ("family", "ways"),
    [
        ("kill-process", ["pidfd-send-signal", "fcntl-owner", "fcntl-owner-ex", "ptrace-kill"]),
        ("read-process-memory", ["ptrace-peek"]),
        ("get-namespace-descriptor", ["pidfd-ioctl", "open-proc-fd"]),
        ("change-own-limits", ["prlimit64-own-pid"]),
        ("run-written-code", ["proc-mem"]),
    ],
)
def test_who_is_named_before_the_filter_is_the_one_who_is_meant(
    family: str, ways: list[str]
) -> None:
    """Numbers of processes, and ``/proc/self``, are those of the subject's pid namespace."""
    whole = library.family(family).default
    names = {f"{family}/{way}" for way in ways}
    plan = Plan(
        candidates=(candidate("unconfined.json"),),
        families=(whole.only(names | {whole.baseline_id}),),
        workloads=(),
        jobs=1,
        suite=frozenset(f"{name}~inherited" for name in names),
        rewrites=Rewrites.ALL,
        repeats=3,
    )
    (result,) = campaign.evaluate(plan, lambda _: None)
    made = {one.variant: one for one in result.trials if one.variant.endswith("~inherited")}
    assert {f"{name}~inherited" for name in names} <= made.keys()
    assert {(one.outcome, one.reason) for one in made.values()} == {(Outcome.BYPASSED, None)}


@pytest.mark.slow
def test_runs_are_identical() -> None:
    names = tuple(PROFILES) if "SIDESTEP_RUNS" in os.environ else ("block-mkdir.json",)
    first = evaluate(*names)
    for _ in range(RUNS - 1):
        for one, other in zip(first, evaluate(*names), strict=True):
            assert "\n".join(differing(one, other)) == ""
            assert verdicts(one) == verdicts(other)


# ------------------------------------------------------------------ mutation

HELD = "no-new-directories.json"
# A verdict that stays without a name needs a reason why that name is there nevertheless.
REDUNDANT = {
    "io_uring_enter": "without io_uring_setup there is no ring to enter",
    "io_uring_register": "without io_uring_setup there is no ring to register with",
    "fsmount": "without fsconfig there is no file system to mount, and it would be no exact effect",
    "move_mount": "what open_tree copies can be attached then, which is no exact effect",
}


def profile_names(document: Any) -> list[str]:
    return [name for rule in document["syscalls"] for name in rule["names"]]


def test_every_name_of_a_held_profile_is_needed_or_redundant(tmp_path: Path) -> None:
    """With all capabilities, as some names matter only to who may mount."""
    document = json.loads((LIBRARY / HELD).read_text())
    for dropped in profile_names(document):
        mutant = json.loads(json.dumps(document))
        for rule in mutant["syscalls"]:
            rule["names"] = [name for name in rule["names"] if name != dropped]
        (tmp_path / f"{dropped}.json").write_text(json.dumps(mutant))
    plan = Plan(
        candidates=tuple(load(tmp_path)),
        families=(library.family("create-directory").default,),
        workloads=(),
        objective=objective("no-new-directories"),
        posture="root",
        jobs=JOBS,
    )
    results = campaign.evaluate(plan, lambda _: None)
    still_held = {one.name for one in results if one.families[0].verdict is Verdict.HELD}
    assert still_held == REDUNDANT.keys()


EXPLAINED = (
    "change-mode",
    "create-directory",
    "create-file",
    "create-filesystem-object",
    "create-process",
    "delete-file",
    "execute-program",
)


@pytest.mark.parametrize("name", PROFILES)
def test_what_is_explained_as_held_is_not_bypassed(name: str) -> None:
    explainer = Explainer(candidate(name))
    for family in EXPLAINED:
        found = explainer.family(library.parse_reference(family))
        denied = {one for way in found.ways if way.verdict == "denied" for one in way.variants}
        through = {
            trial.variant
            for trial in evaluated(name).trials
            if trial.family == family
            and trial.scope is Scope.IN
            and trial.outcome is Outcome.BYPASSED
        }
        assert not denied & through
        assert not (found.held and through)


def test_a_family_that_would_be_held_by_chance_is_rewritten_as_well(tmp_path: Path) -> None:
    """Its baseline cannot run here, so that nothing shows that somebody meant to stop it."""
    profile = tmp_path / "no-open.json"
    rule = {"names": ["open"], "action": "SCMP_ACT_ERRNO"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    plan = Plan(
        candidates=tuple(load(profile)),
        families=families(["offset-clock"], library.SUITE),
        workloads=(),
        rewrites=Rewrites.SAMPLED,
    )
    (result,) = campaign.evaluate(plan, lambda _: None)
    through = [one for one in result.trials if one.outcome is Outcome.BYPASSED]
    assert any(one.derived_from for one in through)
    assert verdicts(result) == {"offset-clock": "open"}
