"""The verdict is a pure, total function; every combination is tried."""

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from attacks.effects import Grade
from attacks.family import Assumption, Technique
from evaluator.verdict import (
    ExitCode,
    FailOn,
    Gate,
    Judgement,
    Outcome,
    Ratio,
    Scope,
    TrialFacts,
    Verdict,
    decide,
    exit_code,
    gate_fail_on,
    gate_families,
    gate_workloads,
    is_targeted,
    judge,
    scope,
    score,
)

OUTCOME_SETS = [
    frozenset(chosen)
    for chosen in chain.from_iterable(
        combinations(Outcome, size) for size in range(len(Outcome) + 1)
    )
]
# From the news nobody wants to the news everybody wants.
BADNESS = {
    Verdict.LEAKY: 6,
    Verdict.OPEN: 6,
    Verdict.UNDECIDED: 5,
    Verdict.NOT_ENFORCED: 4,
    Verdict.UNTESTED: 3,
    Verdict.HELD_HERE: 2,
    Verdict.HELD: 1,
}


def trial(outcome: Outcome = Outcome.BLOCKED, **changes: object) -> TrialFacts:
    base = TrialFacts("f/v", Technique.BASELINE, outcome, "route")
    return replace(base, **changes)


trials = st.builds(
    TrialFacts,
    variant=st.sampled_from([f"family/v{number}" for number in range(40)]),
    technique=st.sampled_from(Technique),
    outcome=st.sampled_from(Outcome),
    route=st.sampled_from(["r1", "r2", "r3"]),
    assumption=st.sampled_from([Assumption.NONE, Assumption.NONE, Assumption.INHERITED_RING]),
    grade=st.sampled_from([Grade.EXACT, Grade.EXACT, Grade.EQUIVALENT]),
    native=st.booleans(),
    beyond_seccomp=st.booleans(),
    negative=st.booleans(),
    stable=st.booleans(),
    prerequisite_only=st.booleans(),
    reachable_elsewhere=st.booleans(),
    length=st.integers(0, 9),
)
families = st.lists(trials, max_size=12, unique_by=lambda one: one.variant)
named = st.sampled_from([None, True, False])


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("unstable", [True, False])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_every_combination_has_the_verdict_of_the_first_rule_that_applies(
    targeted: bool, unstable: bool, elsewhere: bool
) -> None:
    unsettled = {
        Outcome.INEFFECTIVE,
        Outcome.HARNESS_ERROR,
        Outcome.DISAGREEMENT,
        Outcome.SIMULATED,
    }
    for outcomes in OUTCOME_SETS:
        held = Verdict.HELD_HERE if elsewhere else Verdict.HELD
        rules = [
            (Outcome.BYPASSED in outcomes and targeted and Outcome.BLOCKED in outcomes, "leaky"),
            (Outcome.BYPASSED in outcomes, "open"),
            (bool(unsettled & outcomes) or unstable, "undecided"),
            (Outcome.NOT_ENFORCED in outcomes, "not-enforced"),
            (Outcome.BLOCKED in outcomes, held.value),
            (True, "untested"),
        ]
        expected = next(verdict for applies, verdict in rules if applies)
        actual = decide(
            outcomes, targeted=targeted, unstable=unstable, reachable_elsewhere=elsewhere
        )
        assert actual == expected, outcomes
    assert len(OUTCOME_SETS) == 2 ** len(Outcome)


@pytest.mark.parametrize("outcomes", OUTCOME_SETS)
def test_one_trial_for_each_outcome_gives_what_decide_gives(outcomes: frozenset[Outcome]) -> None:
    facts = [
        trial(outcome, variant=f"f/{outcome}", technique=Technique.NEWER_SYSCALL, route=outcome)
        for outcome in outcomes
    ]
    for targeted in (True, False):
        assert judge(facts, named=targeted).verdict is decide(outcomes, targeted=targeted)


@given(families, trials, named)
def test_a_bypass_more_never_improves_the_verdict(
    facts: list[TrialFacts], extra: TrialFacts, named: bool | None
) -> None:
    bypass = replace(extra, outcome=Outcome.BYPASSED, variant="family/more")
    before = judge(facts, named=named).verdict
    after = judge([*facts, bypass], named=named).verdict
    assert BADNESS[after] >= BADNESS[before]


@given(families, trials, named)
def test_what_is_out_of_scope_changes_nothing_but_what_is_shown_beside(
    facts: list[TrialFacts], extra: TrialFacts, named: bool | None
) -> None:
    outside = replace(extra, variant="family/outside")
    if scope(outside, (), seccomp_only=True) is Scope.IN:
        outside = replace(outside, grade=Grade.EQUIVALENT)
    before = judge(facts, named=named)
    after = judge([*facts, outside], named=named)
    assert replace(after, beside=before.beside) == before


@given(families, named, st.randoms(use_true_random=False))
def test_the_order_of_trials_does_not_matter(
    facts: list[TrialFacts], named: bool | None, random: object
) -> None:
    shuffled = list(facts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert judge(shuffled, named=named) == judge(facts, named=named)


@given(families, named)
def test_counts_and_verdict_tell_one_story(facts: list[TrialFacts], named: bool | None) -> None:
    found = judge(facts, named=named)
    assert (found.verdict in (Verdict.LEAKY, Verdict.OPEN)) == bool(found.bypasses)
    assert 0 <= found.routes.part <= found.routes.whole <= found.working
    assert found.blocked + len(found.bypasses) <= found.working
    if found.verdict in (Verdict.HELD, Verdict.HELD_HERE):
        assert found.routes.part == found.routes.whole > 0
    if found.verdict is Verdict.LEAKY:
        assert found.targeted
        assert found.blocked


def test_each_reason_to_be_out_of_scope_is_named() -> None:
    def of(**changes: object) -> Scope:
        return scope(trial(**changes), (), seccomp_only=True)  # type: ignore[arg-type]

    assert of() is Scope.IN
    assert of(negative=True, grade=Grade.EQUIVALENT) is Scope.NEGATIVE_CONTROL
    assert of(grade=Grade.EQUIVALENT) is Scope.GRADE
    assert of(beyond_seccomp=True) is Scope.BEYOND_SECCOMP
    assert of(assumption=Assumption.INHERITED_RING) is Scope.ASSUMPTION


def test_an_assumption_that_the_user_makes_is_in_scope() -> None:
    ring = trial(assumption=Assumption.INHERITED_RING)
    assert scope(ring, {Assumption.INHERITED_RING}, seccomp_only=True) is Scope.IN
    assert scope(ring, {Assumption.TRUSTED_SETUP}, seccomp_only=True) is Scope.ASSUMPTION


def test_what_no_filter_stops_counts_against_a_candidate_with_other_layers() -> None:
    assert scope(trial(beyond_seccomp=True), (), seccomp_only=False) is Scope.IN


def test_a_blocked_baseline_or_direct_native_sibling_gives_the_intention_away() -> None:
    sibling = trial(technique=Technique.SIBLING_SYSCALL)
    assert is_targeted([trial()], named=None)
    assert is_targeted([sibling], named=None)
    assert not is_targeted([replace(sibling, native=False)], named=None)
    assert not is_targeted([trial(technique=Technique.COMPAT_ABI)], named=None)
    assert not is_targeted([trial(Outcome.BYPASSED)], named=None)
    assert not is_targeted([trial(stable=False)], named=None)


def test_with_an_objective_only_its_families_are_targeted() -> None:
    assert is_targeted([], named=True)
    assert not is_targeted([trial()], named=False)


def test_one_success_in_unstable_repeats_is_a_bypass() -> None:
    facts = [trial(), trial(Outcome.BYPASSED, variant="f/w", stable=False)]
    assert judge(facts).verdict is Verdict.LEAKY


def test_an_unstable_block_is_undecided_and_not_blocked() -> None:
    found = judge([trial(stable=False)])
    assert found.verdict is Verdict.UNDECIDED
    assert found.blocked == 0
    assert found.reason == "1 unstable"


def test_held_comes_with_its_evidence() -> None:
    facts = [
        trial(),
        trial(variant="f/w", route="other", technique=Technique.FD_RELATIVE),
        trial(variant="f/x", route="other", technique=Technique.FD_RELATIVE),
        trial(Outcome.UNSUPPORTED, variant="f/y"),
    ]
    reason = judge(facts).reason
    assert reason == "2 routes, 2 techniques stopped, 1 not testable here, 0 s of search"


def test_held_here_names_what_another_kernel_would_let_through() -> None:
    facts = [trial(), trial(Outcome.UNSUPPORTED, variant="f/y", reachable_elsewhere=True)]
    found = judge(facts)
    assert found.verdict is Verdict.HELD_HERE
    assert found.reachable_elsewhere == ("f/y",)
    assert "1 of these allowed elsewhere" in found.reason


def test_the_shortest_bypass_comes_first() -> None:
    facts = [
        trial(Outcome.BYPASSED, variant="f/a", length=5),
        trial(Outcome.BYPASSED, variant="f/b", length=2),
    ]
    assert judge(facts).bypasses == ("f/b", "f/a")


def test_incidental_blocks_of_an_open_family_are_counted() -> None:
    facts = [
        trial(Outcome.BYPASSED),
        trial(variant="f/w", route="x32", technique=Technique.X32_ABI),
    ]
    found = judge(facts)
    assert found.verdict is Verdict.OPEN
    assert found.reason.endswith("; 1 of 2 routes stopped incidentally")


def test_two_variants_on_one_route_are_one_way_and_blocked_only_together() -> None:
    facts = [
        trial(),
        trial(variant="f/w", route="new", technique=Technique.NEWER_SYSCALL),
        trial(Outcome.BYPASSED, variant="f/x", route="new", technique=Technique.NEWER_SYSCALL),
        trial(variant="f/y", route="newer", technique=Technique.NEWER_SYSCALL),
    ]
    found = judge(facts)
    assert found.routes == Ratio(2, 3)
    assert found.by_technique == {
        Technique.BASELINE: Ratio(1, 1),
        Technique.NEWER_SYSCALL: Ratio(1, 2),
    }
    assert score([found], workloads=Ratio(0, 0)).routes == 0.75


def held(*, targeted: bool = True) -> Judgement:
    return judge([trial()], named=targeted)


def test_scores_are_null_when_there_is_nothing_to_divide() -> None:
    scores = score([held(targeted=False)], workloads=Ratio(0, 0))
    assert (scores.robustness, scores.routes, scores.utility) == (None, None, None)
    assert scores.counted == {
        "robustness": "nothing targeted",
        "routes": "nothing targeted",
        "utility": "no workload works without it",
    }
    nothing = score([], workloads=Ratio(0, 0), ran=False)
    assert nothing.counted["utility"] == "no workload was run"


def test_what_does_not_start_has_no_scores() -> None:
    scores = score([held()], workloads=Ratio(0, 2), starts=False)
    assert (scores.robustness, scores.routes, scores.utility) == (None, None, None)
    assert scores.held == Ratio(1, 1)


def test_a_targeted_family_that_could_not_be_tested_is_not_held() -> None:
    untested = judge([trial(Outcome.UNSUPPORTED)], named=True)
    scores = score([held(), untested], workloads=Ratio(1, 2), starts=True)
    assert scores.counted == {"robustness": "1 of 2", "routes": "1 of 1", "utility": "1 of 2"}
    nowhere = score([untested], workloads=Ratio(1, 2), starts=True)
    assert nowhere.counted["routes"] == "no way works here"
    assert scores.robustness == 0.5
    assert scores.routes == 1.0
    assert scores.utility == 0.5


@pytest.mark.parametrize("verdict", Verdict)
def test_a_named_family_passes_only_as_held(verdict: Verdict) -> None:
    (gate,) = gate_families("c", {"f": verdict}, ["f"], {})
    assert gate.ok == (verdict in (Verdict.HELD, Verdict.HELD_HERE))
    (waived,) = gate_families("c", {"f": verdict}, ["f"], {"f": "known, until May"})
    assert waived.ok


def test_a_named_family_or_workload_that_did_not_run_fails() -> None:
    assert not gate_families("c", {}, ["f"], {})[0].ok
    assert not gate_workloads("c", {}, ["w"])[0].ok
    assert not gate_workloads("c", {"w": False}, ["w"])[0].ok
    assert gate_workloads("c", {"w": True}, ["w"])[0].ok


def test_each_condition_fails_on_its_own_verdict_only() -> None:
    verdicts = {verdict.value: verdict for verdict in Verdict}
    gates = gate_fail_on("c", verdicts, ["shell-basics"], list(FailOn))
    assert [gate.message for gate in gates] == [
        "leaky: leaky",
        "undecided: undecided",
        "reachable-elsewhere: held here",
        "broken-workload: shell-basics",
    ]
    assert all(not gate.ok for gate in gates)
    assert all(gate.ok for gate in gate_fail_on("c", {}, [], list(FailOn)))
    assert gate_fail_on("c", verdicts, [], []) == []


@pytest.mark.parametrize("broken", [True, False])
@pytest.mark.parametrize("lacking", [True, False])
@pytest.mark.parametrize("wrong", [True, False])
@pytest.mark.parametrize("ok", [True, False])
def test_the_highest_exit_code_wins(broken: bool, lacking: bool, wrong: bool, ok: bool) -> None:
    code = exit_code(
        [Gate("c", "g", ok, "")], wrong_input=wrong, lacking=lacking, harness_failed=broken
    )
    applies = {
        ExitCode.HARNESS_FAILED: broken,
        ExitCode.LACKING: lacking,
        ExitCode.WRONG_INPUT: wrong,
        ExitCode.GATE_FAILED: not ok,
        ExitCode.DONE: True,
    }
    assert code == max(number for number, yes in applies.items() if yes)
