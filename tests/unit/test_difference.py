"""What is worse, what is better and what merely differs, over made-up results."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from evaluator.cli import main
from evaluator.difference import Change, Difference, Kind, Way, difference, narrowed
from reports.schema import (
    Candidate,
    Document,
    Environment,
    Family,
    Fault,
    Probe,
    Starts,
    Trial,
    Workload,
)

SUITE = {"f/a", "f/b", "f/a~i386", "g/a"}
SUITES = {"old": SUITE, "new": SUITE | {"f/new"}}
ROOT = Path(__file__).parents[2]
SAMPLE = str(ROOT / "tests/data/results/sample.json")


def trial(variant: str, outcome: str, **more: Any) -> Trial:
    return Trial(
        variant,
        "baseline",
        "none",
        outcome,
        None,
        None,
        None,
        None,
        family=variant.partition("/")[0],
        route=variant,
        **more,
    )


def family(name: str, verdict: str) -> Family:
    return Family(name, verdict, True, 0, 0, 0, (), ())


def candidate(*trials: Trial, name: str = "c", **more: Any) -> Candidate:
    """Its families have the verdict that follows from the trials."""
    fields: dict[str, Any] = {"enforced": True, "digest": f"digest of {name}", **more}
    if "families" not in fields:
        names = dict.fromkeys(one.family for one in trials)
        fields["families"] = tuple(family(one, verdict(one, trials)) for one in names)
    return Candidate(name, "c.json", **{"valid": True, **fields}, trials=trials)


def verdict(name: str, trials: tuple[Trial, ...]) -> str:
    outcomes = {one.outcome for one in trials if one.family == name}
    for outcome, said in (("BYPASSED", "leaky"), ("INEFFECTIVE", "undecided"), ("BLOCKED", "held")):
        if outcome in outcomes:
            return said
    return "untested"


def document(*candidates: Candidate, suite: str = "old", kernel: str = "6.1") -> Document:
    where = Environment(kernel, "x86_64", "2.5.4", "namespaces")
    return Document("sidestep.results/1", where, suite, candidates)


def compared(old: Document, new: Document) -> Difference:
    return difference(old, new, SUITES)


def changes(old: Candidate, new: Candidate, *, suite: str = "old") -> list[Change]:
    found = compared(document(old), document(new, suite=suite))
    return [change for one in found.candidates for change in one.changes]


def only(old: Candidate, new: Candidate, *, suite: str = "old") -> Change:
    (change,) = changes(old, new, suite=suite)
    return change


def test_a_variant_that_was_blocked_and_gets_through_is_opened() -> None:
    change = only(candidate(trial("f/a", "BLOCKED")), candidate(trial("f/a", "BYPASSED")))
    assert (change.kind, change.before, change.after) == (Kind.OPENED, "held", "leaky")
    assert (change.was, change.now, change.variants) == (Way.BLOCKED, Way.THROUGH, ("f/a",))
    assert change.shown


def test_a_probe_never_hides_what_is_ours() -> None:
    probe = Probe("kernel", "kernel", "", ok=True)
    old, new = (document(candidate(), kernel=one) for one in ("6.1", "6.2"))
    probed = replace(new, environment=replace(new.environment, probes=(probe,)))
    settings = {one.name: (one.before, one.after) for one in compared(old, probed).settings}
    assert settings["kernel"] == ("6.1", "6.2")
    assert settings["probe kernel"][0] == "unknown"


def test_another_leak_of_a_leaky_family_is_opened() -> None:
    old = candidate(trial("f/a", "BYPASSED"), trial("f/b", "BLOCKED"))
    new = candidate(trial("f/a", "BYPASSED"), trial("f/b", "BYPASSED"))
    assert only(old, new).variants == ("f/b",)


@pytest.mark.parametrize("outcome", ["INEFFECTIVE", "HARNESS_ERROR", "DISAGREEMENT"])
def test_what_was_held_and_is_undecided_counts_as_opened_and_says_so(outcome) -> None:
    change = only(candidate(trial("f/a", "BLOCKED")), candidate(trial("f/a", outcome)))
    assert (change.kind, change.now, change.shown) == (Kind.OPENED, Way.UNDECIDED, False)


def test_what_was_held_and_is_untested_or_not_run_counts_as_opened() -> None:
    old = candidate(trial("f/a", "BLOCKED"))
    untested = only(old, candidate(trial("f/a", "UNSUPPORTED")))
    not_run = only(old, candidate())
    assert [untested.kind, not_run.kind] == [Kind.OPENED, Kind.OPENED]
    assert (untested.after, not_run.after) == ("untested", "not run")
    assert not any(one.shown for one in (untested, not_run))


def test_what_another_kernel_would_let_through_now_counts_as_opened() -> None:
    old = candidate(trial("f/a", "BLOCKED"), trial("f/b", "UNSUPPORTED"))
    allowed = trial("f/b", "UNSUPPORTED", reachable_elsewhere=True)
    change = only(old, candidate(trial("f/a", "BLOCKED"), allowed))
    assert (change.kind, change.now, change.variants) == (Kind.OPENED, Way.ELSEWHERE, ("f/b",))


def test_a_bypass_that_the_suite_did_not_hold_is_newly_known_and_not_worse() -> None:
    old = document(candidate(trial("f/a", "BLOCKED")))
    new = document(candidate(trial("f/a", "BLOCKED"), trial("f/new", "BYPASSED")), suite="new")
    found = compared(old, new)
    ((change,),) = (one.changes for one in found.candidates)
    assert (change.kind, change.variants) == (Kind.NEWLY_KNOWN, ("f/new",))
    assert not found.worse
    assert [one.name for one in found.settings] == ["suite"]


def test_a_rewrite_that_was_not_sampled_is_opened_and_not_newly_known() -> None:
    derived = trial("f/a~i386", "BYPASSED", derived_from="f/a")
    held = candidate(trial("f/a", "BLOCKED"))
    assert only(held, candidate(trial("f/a", "BLOCKED"), derived)).kind is Kind.OPENED
    leaky = candidate(trial("f/a", "BYPASSED"))
    assert changes(leaky, candidate(trial("f/a", "BYPASSED"), derived)) == []


def test_of_a_suite_that_is_not_known_here_the_run_tells() -> None:
    old = document(candidate(trial("f/a", "BLOCKED")), suite="lost")
    new = document(candidate(trial("f/a", "BLOCKED"), trial("f/b", "BYPASSED")))
    ((change,),) = (one.changes for one in compared(old, new).candidates)
    assert change.kind is Kind.NEWLY_KNOWN


def test_what_is_out_of_scope_opens_nothing() -> None:
    old = candidate(trial("f/a", "BLOCKED"), trial("f/b", "BLOCKED"))
    new = candidate(
        trial("f/a", "BLOCKED"),
        trial("f/b", "BYPASSED", scope="assumption"),
        families=(family("f", "held"),),
    )
    assert changes(old, new) == []


def test_a_workload_that_worked_and_does_not_is_broken_and_says_why() -> None:
    works = candidate(workloads=(Workload("w", True, outcome="works"),))
    broken = candidate(workloads=(Workload("w", False, outcome="broken", reason="clone3"),))
    change = only(works, broken)
    assert (change.kind, change.subject, change.why) == (Kind.BROKEN, "w", "clone3")
    assert only(broken, works).kind is Kind.REPAIRED
    assert only(works, candidate()).after == "not run"


def test_a_start_that_fails_now_is_broken() -> None:
    old = candidate(starts=Starts(loads=True, dynamic=True))
    new = candidate(starts=Starts(loads=True, dynamic=False, reason="brk"))
    change = only(old, new)
    assert (change.kind, change.subject) == (Kind.BROKEN, "start (dynamic)")


@pytest.mark.parametrize(
    ("more", "after"),
    [
        ({"enforced": False}, "not in force"),
        ({"valid": False, "errors": (Fault("no JSON"),)}, "cannot be used"),
    ],
)
def test_a_candidate_that_is_no_longer_in_force_is_one_change(more, after) -> None:
    change = only(candidate(trial("f/a", "BLOCKED")), candidate(**more))
    assert (change.kind, change.after) == (Kind.UNENFORCED, after)


def test_verdicts_that_differ_otherwise_are_not_swallowed() -> None:
    old = candidate(families=(family("f", "untested"),))
    new = candidate(families=(family("f", "undecided"),))
    assert only(old, new).kind is Kind.CHANGED


def test_renamed_candidates_are_matched_by_digest_and_missing_ones_are_worse() -> None:
    old = document(candidate(name="a"), candidate(name="b", digest="same"))
    new = document(candidate(name="x"), candidate(name="y", digest="same"))
    found = compared(old, new)
    assert found.compared == 1
    assert {one.kind for each in found.candidates for one in each.changes} == {
        Kind.GONE,
        Kind.ADDED,
    }
    assert found.worse


def test_one_candidate_is_sought_among_many() -> None:
    many = document(candidate(name="a"), candidate(name="b"))
    assert [one.name for one in narrowed(many, document(candidate(name="b"))).candidates] == ["b"]


def test_settings_are_listed() -> None:
    found = compared(document(candidate()), document(candidate(posture="root"), kernel="6.2"))
    assert [(one.name, one.before, one.after) for one in found.settings] == [
        ("kernel", "6.1", "6.2")
    ]
    assert [one.name for one in found.candidates[0].settings] == ["posture"]


OUTCOMES = ["BYPASSED", "BLOCKED", "INEFFECTIVE", "UNSUPPORTED", "NOT_ENFORCED"]
TRIALS = st.lists(
    st.builds(
        trial,
        st.sampled_from([*SUITE, "f/new", "h/found"]),
        st.sampled_from(OUTCOMES),
        scope=st.sampled_from(["in", "assumption"]),
        reachable_elsewhere=st.booleans(),
        derived_from=st.sampled_from(["", "f/a"]),
    ),
    unique_by=lambda one: one.variant,
    max_size=5,
)
WORKLOADS = st.lists(
    st.builds(
        lambda name, outcome: Workload(name, outcome == "works", outcome=outcome),
        st.sampled_from("vw"),
        st.sampled_from(["works", "broken", "unavailable", "unstable"]),
    ),
    unique_by=lambda one: one.workload,
)
CANDIDATES = st.builds(
    lambda trials, workloads, name, enforced: candidate(
        *trials, name=name, workloads=tuple(workloads), enforced=enforced
    ),
    TRIALS,
    WORKLOADS,
    st.sampled_from("abc"),
    st.booleans(),
)
DOCUMENTS = st.builds(
    lambda candidates, suite: document(*candidates, suite=suite),
    st.lists(CANDIDATES, unique_by=lambda one: one.name, max_size=3),
    st.sampled_from(["old", "new", "lost"]),
)


@given(DOCUMENTS)
def test_nothing_differs_from_itself(one: Document) -> None:
    found = compared(one, one)
    assert (found.settings, found.candidates) == ((), ())


@given(DOCUMENTS, DOCUMENTS)
def test_the_other_way_round_it_is_the_mirror_image(one: Document, other: Document) -> None:
    def seen(found: Difference, *, mirrored: bool) -> set[tuple[str, str, Change]]:
        return {
            (*((c.after, c.before) if mirrored else (c.before, c.after)),
             change.mirrored() if mirrored else change)
            for c in found.candidates
            for change in c.changes
        }  # fmt: skip

    there, back = compared(one, other), compared(other, one)
    assert seen(there, mirrored=False) == seen(back, mirrored=True)
    assert there.compared == back.compared


@given(DOCUMENTS, DOCUMENTS)
def test_whatever_was_held_and_is_not_is_named(one: Document, other: Document) -> None:
    found = compared(one, other)
    named = {(c.before, change.subject) for c in found.candidates for change in c.changes}
    news = {candidate.name: candidate for candidate in other.candidates}
    for old in one.candidates:
        new = news.get(old.name)
        if new is None or not (old.enforced and new.enforced):
            continue
        now = {each.family: each.verdict for each in new.families}
        for each in old.families:
            if each.verdict == "held" != now.get(each.family):
                assert (old.name, each.family) in named


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["diff", *arguments])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.mark.parametrize("form", ["table", "json", "markdown"])
def test_the_command_says_that_nothing_differs(capsys, form) -> None:
    code, out, err = call(capsys, SAMPLE, SAMPLE, "--format", form)
    assert (code, err) == (0, "")
    assert ("nothing differs" in out) == (form != "json")


def test_the_command_ends_with_1_where_something_opened(capsys, tmp_path) -> None:
    text = Path(SAMPLE).read_text(encoding="utf-8")
    worse = tmp_path / "worse.json"
    worse.write_text(text.replace('"BLOCKED"', '"BYPASSED"'), encoding="utf-8")
    code, out, _ = call(capsys, SAMPLE, str(worse))
    assert code == 1
    assert "opened: create-directory" in out
    assert max(map(len, out.splitlines())) <= 80
    assert call(capsys, str(worse), SAMPLE)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("/no/such", SAMPLE), "/no/such"),
        ((SAMPLE, SAMPLE, "--posture", "root"), "both sides are stored results"),
        ((SAMPLE, SAMPLE, "--json", "--format", "markdown"), "give one of them"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, said) -> None:
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_candidate_that_is_nowhere_else_is_bad_input(capsys, tmp_path) -> None:
    from reports.document import load_document, parse_document

    stored = parse_document(load_document(Path(SAMPLE)))
    assert narrowed(stored, replace(stored, candidates=(candidate(name="x"),))).candidates == ()
