"""From what a campaign saw to what it means, and to the document."""

import json

import pytest
from msgspec.structs import replace

from attacks.effects import Grade
from attacks.family import Assumption, FamilyInstance
from attacks.library import family
from evaluator import aftermath
from evaluator.assemble import assemble, broken_workloads, failed, gates, run_exit_code
from evaluator.objectives import objective
from evaluator.plan import Plan
from evaluator.records import (
    SCHEMA,
    AftermathCount,
    CandidateRun,
    Enforcement,
    Environment,
    GroundTruth,
    Run,
    Starts,
    StoppedAt,
    Tool,
    TrialRecord,
    WorkloadOutcome,
    WorkloadRecord,
    document,
)
from evaluator.verdict import ExitCode, FailOn, Outcome, Scope, Verdict
from evaluator.workloads import DEFAULTS, chosen
from mitigations.candidate import (
    Attachment,
    Candidate,
    FailedCandidate,
    Finding,
    ProfileError,
    SeccompLayer,
)
from mitigations.classic import Action
from reports.document import parse_document

ALLOW = bytes.fromhex("060000000000ff7f")
CANDIDATE = Candidate(
    name="block-mkdir",
    source="library/block-mkdir.json",
    layers=(SeccompLayer(ALLOW, (ALLOW,)),),
    attachment=Attachment.RUNTIME,
    meaning="oci",
    runtime_model="runc-1.1/libseccomp-2.5.4",
    warnings=(Finding("no-architectures", "no architectures", "architectures"),),
)
STARTS = Starts(loads=True, runtime=True, static=True, dynamic=True)
FAMILY = family("create-directory").default


def plan(**changes: object) -> Plan:
    base = Plan(candidates=(CANDIDATE,), families=(FAMILY,), workloads=chosen(DEFAULTS))
    return replace(base, **changes)  # type: ignore[arg-type]


def trial(name: str, outcome: Outcome, instance: FamilyInstance = FAMILY) -> TrialRecord:
    variant = instance.variant(name)
    bypassed = outcome is Outcome.BYPASSED
    return TrialRecord(
        variant=variant.id,
        family=instance.label,
        title=variant.name,
        technique=variant.technique,
        assumption=variant.assumption,
        grade=variant.grade,
        outcome=outcome,
        control_effect=None if outcome is Outcome.UNSUPPORTED else variant.grade,
        mitigated_effect=variant.grade if bypassed else None,
        predicted=outcome.value,
        route=variant.name,
        stopped_at=None if bypassed else StoppedAt("mkdir", "x86_64", "EPERM", decisive=True),
        negative=variant.negative,
        beyond_seccomp=variant.beyond_seccomp,
        why=variant.why,
    )


def run(*trials: TrialRecord, **changes: object) -> CandidateRun:
    base = CandidateRun(
        candidate=CANDIDATE,
        posture="container",
        enforcement=Enforcement(True, GroundTruth(2, 1, False, "identical")),
        starts=STARTS,
        trials=trials or (trial("mkdir", Outcome.BLOCKED), trial("mkdirat", Outcome.BYPASSED)),
        workloads=(
            WorkloadRecord("static-entry", "", True, True, outcome=WorkloadOutcome.WORKS),
            WorkloadRecord(
                "shell-basics", "", False, True, "EPERM", outcome=WorkloadOutcome.BROKEN
            ),
        ),
        duration_s=0.25,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def whole(*results: object, exit_code: int = 0) -> dict[str, object]:
    environment = Environment(
        kernel="6.12.0",
        arch="x86_64",
        libseccomp="2.5.4",
        isolation="namespaces",
        lsm=(),
        ambient={},
        user="root",
        id_map=65536,
        probes=(),
    )
    return document(
        Run(
            tool=Tool("sidestep", "0"),
            started="2026-01-01T00:00:00+00:00",
            duration_s=1.0,
            exit_code=exit_code,
            arguments=(),
            environment=environment,
            suite="2026.11",
            objective=None,
            assume=(),
            gates=(),
            candidates=results,  # type: ignore[arg-type]
        )
    )


def test_a_leak_is_judged_counted_and_named() -> None:
    result = assemble(run(), plan())
    (found,) = result.families
    assert found.verdict is Verdict.LEAKY
    assert (found.working, found.blocked, found.bypassed) == (2, 1, 1)
    assert found.shortest_bypass == "create-directory/mkdirat"
    assert found.summary == (
        "create-directory leaks: 1 of 2 routes stopped, 1 open; "
        "the shortest way through is create-directory/mkdirat."
    )
    assert (result.robustness, result.held, result.targeted) == (0.0, 0, 1)
    assert (result.utility, result.works, result.works_in_control) == (0.5, 1, 2)
    assert result.counted == {"robustness": "0 of 1", "routes": "1 of 2", "utility": "1 of 2"}
    assert result.instructions == 1


def test_a_family_counts_what_its_trials_in_scope_leave_behind() -> None:
    silent, loud = (aftermath.of_action(one, asked=False) for one in (Action.ERRNO, Action.TRAP))
    blocked = trial("mkdir", Outcome.BLOCKED)
    lent = replace(blocked, assumption=Assumption.INHERITED_DESCRIPTOR)
    result = assemble(
        run(
            replace(blocked, aftermath=loud),
            replace(blocked, aftermath=silent),
            replace(blocked, aftermath=silent),
            replace(blocked, aftermath=silent, agree=False),
            replace(lent, aftermath=silent),
            trial("mkdirat", Outcome.BYPASSED),
        ),
        plan(),
    )
    assert result.families[0].aftermaths == (
        AftermathCount(Outcome.BLOCKED, 2, True, False, silent.said),
        AftermathCount(Outcome.BLOCKED, 1, None, False, loud.said),
    )
    parse_document(whole(result))


def test_an_objective_decides_what_is_targeted_and_a_sibling_family_is_not() -> None:
    other = family("create-file").default
    goal = objective("no-new-directories")
    result = assemble(run(), plan(objective=goal, families=(FAMILY, other)))
    assert [one.targeted for one in result.families] == [True, False]
    assert [one.verdict for one in result.families] == [Verdict.LEAKY, Verdict.UNTESTED]


def test_the_scope_of_each_trial_is_written_down() -> None:
    lent = replace(trial("mkdirat", Outcome.BYPASSED), assumption=Assumption.INHERITED_DESCRIPTOR)
    result = assemble(run(trial("mkdir", Outcome.BLOCKED), lent), plan())
    assert [one.scope for one in result.trials] == [Scope.IN, Scope.ASSUMPTION]
    assert result.families[0].verdict is Verdict.HELD
    assert result.families[0].beside == (lent.variant,)
    assumed = plan(assume=frozenset({Assumption.INHERITED_DESCRIPTOR}))
    again = assemble(run(trial("mkdir", Outcome.BLOCKED), lent), assumed)
    assert again.families[0].verdict is Verdict.LEAKY


def test_a_control_that_reached_only_an_equivalent_effect_decides_nothing() -> None:
    lesser = replace(trial("mkdirat", Outcome.BYPASSED), control_effect=Grade.EQUIVALENT)
    result = assemble(run(trial("mkdir", Outcome.BLOCKED), lesser), plan())
    assert result.trials[1].scope is Scope.GRADE
    assert result.families[0].verdict is Verdict.HELD


def test_negative_controls_are_not_counted() -> None:
    negative = replace(trial("mkdirat", Outcome.UNSUPPORTED), negative=True)
    result = assemble(run(trial("mkdir", Outcome.BLOCKED), negative), plan())
    assert result.counts == {Outcome.BLOCKED: 1}
    assert result.families[0].untestable == 0


def test_a_runtime_candidate_that_does_not_start_has_no_scores() -> None:
    dead = run(starts=Starts(loads=True, runtime=False, static=False, dynamic=False))
    result = assemble(dead, plan())
    assert (result.robustness, result.routes, result.utility) == (None, None, None)
    assert set(result.counted.values()) == {"does not start"}
    assert broken_workloads(result) == ["start", "shell-basics"]
    own = replace(CANDIDATE, attachment=Attachment.SELF)
    assert assemble(replace(dead, candidate=own), plan()).robustness == 0.0


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        (Starts(), None),
        (Starts(loads=True), True),
        (Starts(loads=False, static=True), False),
        (Starts(loads=True, static=True, dynamic=False), True),
        (Starts(loads=True, static=False, dynamic=True), True),
        (Starts(loads=True, runtime=True, static=False), False),
    ],
)
def test_something_starts_if_one_kind_of_entry_point_runs(
    starts: Starts, expected: bool | None
) -> None:
    assert starts.ok is expected


def test_the_document_is_json_and_what_the_report_reads() -> None:
    broken = FailedCandidate("odd", "odd.json", ProfileError("not JSON", "line 3", "syntax"))
    raw = whole(assemble(run(), plan()), failed(broken, plan()))
    assert raw["schema"] == SCHEMA
    parsed = parse_document(raw)
    assert parse_document(json.loads(json.dumps(raw))) == parsed
    assert [one.valid for one in parsed.candidates] == [True, False]
    assert parsed.candidates[1].errors[0].where == "line 3"


def test_the_keys_of_the_contract_come_in_one_order() -> None:
    first = whole(assemble(run(), plan()))
    second = whole(assemble(run(), plan()))
    assert json.dumps(first) == json.dumps(second)
    assert list(first)[:3] == ["schema", "tool", "started"]


def test_a_named_family_fails_closed_and_an_invalid_candidate_has_no_gates() -> None:
    broken = failed(FailedCandidate("odd", "odd.json", ProfileError("not JSON")), plan())
    result = assemble(run(), plan())
    found = gates(
        [result, broken],
        families=["create-directory", "delete-file"],
        workloads=["shell-basics"],
        fail_on=[FailOn.LEAKY],
    )
    assert [gate.ok for gate in found] == [False, False, False, False]
    assert {gate.candidate for gate in found} == {"block-mkdir"}


def test_exit_codes_come_from_what_happened() -> None:
    good = assemble(run(), plan())
    assert run_exit_code([good], []) is ExitCode.DONE
    broken = failed(FailedCandidate("odd", "odd.json", ProfileError("not JSON")), plan())
    assert run_exit_code([good, broken], []) is ExitCode.WRONG_INPUT
    absent = assemble(run(enforcement=Enforcement(False, reason="EPERM")), plan())
    assert run_exit_code([broken, absent], []) is ExitCode.LACKING
    assert absent.notes == ("not in force: EPERM",)
    disagreed = assemble(run(trial("mkdir", Outcome.DISAGREEMENT)), plan())
    assert run_exit_code([broken, absent, disagreed], []) is ExitCode.HARNESS_FAILED
    other = assemble(
        run(enforcement=Enforcement(True, GroundTruth(2, 1, False, "different"))), plan()
    )
    assert run_exit_code([other], []) is ExitCode.HARNESS_FAILED
