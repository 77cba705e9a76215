"""From results and promises to items: every class, over made-up results."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from attacks import library as families
from evaluator.check_decision import (
    Terms,
    baseline_items,
    items_of,
    repeatable,
    settled,
    waiver_items,
)
from evaluator.check_items import Unit
from evaluator.difference import difference
from evaluator.expectations import Expected, Library, Promise, Waiver
from evaluator.library_check import exit_code
from evaluator.verdict import Outcome, Verdict, decide
from evaluator.workloads import workload
from reports.check_schema import Item, Place
from reports.schema import (
    Candidate,
    Cause,
    Document,
    Environment,
    Family,
    Fault,
    GroundTruth,
    Layer,
    Starts,
    StoppedAt,
    Trial,
    Workload,
)

TODAY = datetime.date(2026, 11, 23)
FAMILY = "create-directory"
TERMS = Terms(TODAY, lambda cause: Place("a.json", 3, 5, cause.where if cause else ""))
SUITE = {f"{FAMILY}/{name}" for name in ("mkdir", "mkdirat", "uring")}


def unit(*waivers: Waiver, untested: dict[str, str] | None = None, **promise: Any) -> Unit:
    given = {
        "families": (families.parse_reference(FAMILY),),
        "workloads": (workload("static-entry"),),
        "waivers": waivers,
        "untested": untested or {},
        **promise,
    }
    return Unit(Expected("a.json", Path("a.json"), Promise(**given)), "container", "runc-1.1")


def waiver(**more: Any) -> Waiver:
    return Waiver(**{"reason": "known", "owner": "me", "expires": TODAY, **more})


def trial(name: str, outcome: str = "BLOCKED", **more: Any) -> Trial:
    fields = {"family": FAMILY, "route": f"x86_64:{name}", **more}
    technique = fields.pop("technique", "baseline")
    predicted = fields.pop("predicted", None)
    variant = f"{FAMILY}/{name}"
    return Trial(variant, technique, "none", outcome, None, None, predicted, None, **fields)


def verdict(trials: Sequence[Trial]) -> Verdict:
    inside = [one for one in trials if one.scope == "in"]
    return decide(
        {Outcome(one.outcome) for one in inside},
        targeted=True,
        unstable=not all(one.agree for one in inside),
        reachable_elsewhere=any(one.reachable_elsewhere for one in inside),
    )


def candidate(*trials: Trial, works: str = "works", **more: Any) -> Candidate:
    fields: dict[str, Any] = {
        "valid": True,
        "enforced": True,
        "families": (
            Family(FAMILY, str(verdict(trials)), True, 0, 0, 0, (), (), reason="for a reason"),
        ),
        "workloads": (Workload("static-entry", works == "works", outcome=works),),
        **more,
    }
    return Candidate("a.json", "a.json", **fields, trials=trials)


def of(kind: str, items: Sequence[Item]) -> Item:
    (one,) = [item for item in items if item.kind == kind]
    return one


def judged(*trials: Trial, **more: Any) -> Item:
    return of("family", items_of(unit(**more), candidate(*trials), TERMS))


# -------------------------------------------------------------------------------------- families


@pytest.mark.parametrize(
    ("trials", "status", "says"),
    [
        ((trial("mkdir"),), "pass", "held"),
        ((trial("mkdir"), trial("x", "UNSUPPORTED", reachable_elsewhere=True)), "pass", "held"),
        ((trial("mkdir"), trial("mkdirat", "BYPASSED")), "fail", "leaky"),
        ((trial("mkdir", "BYPASSED"),), "fail", "open"),
        ((trial("mkdir"), trial("x", "INEFFECTIVE")), "fail", "undecided"),
        ((trial("mkdir", agree=False),), "fail", "undecided"),
        ((trial("mkdir", "UNSUPPORTED"),), "fail", "untested"),
        ((trial("mkdir", "NOT_ENFORCED"),), "fail", "not-enforced"),
        ((trial("mkdir"), trial("x", "HARNESS_ERROR")), "error", "harness"),
        ((trial("mkdir"), trial("x", "DISAGREEMENT")), "error", "harness"),
        ((trial("mkdir"), trial("x", "HARNESS_ERROR", scope="grade")), "error", "harness"),
        ((trial("mkdir"), trial("x", "BYPASSED", scope="assumption")), "pass", "held"),
    ],
)
def test_a_family_passes_only_as_held(trials: tuple[Trial, ...], status: str, says: str) -> None:
    item = judged(*trials)
    assert (item.status, item.says) == (status, says)
    assert item.id == "a.json::create-directory"


def two_on_one_route() -> tuple[Trial, ...]:
    """A short way and a longer one by another technique, both on the route of mkdirat."""
    short = trial("mkdirat", "BYPASSED", length=1)
    long = trial("uring", "BYPASSED", length=2, route="x86_64:mkdirat", technique="alternate-abi")
    return trial("mkdir"), short, long


def test_a_route_is_accepted_only_if_all_on_it_is() -> None:
    trials = two_on_one_route()
    one = waiver(technique="baseline")
    item = judged(*trials, waivers=(one,))
    assert (item.status, item.says) == ("fail", "leaky")
    (way,) = item.ways
    assert (way.variant, way.technique, way.waived) == (
        "create-directory/uring", "alternate-abi", None,
    )  # fmt: skip
    expired = waiver(technique="alternate-abi", expires=TODAY - datetime.timedelta(1))
    assert judged(*trials, waivers=(one, expired)).status == "fail"
    item = judged(*trials, waivers=(one, waiver(technique="alternate-abi")))
    assert (item.status, item.ways[0].variant) == ("waived", "create-directory/mkdirat")
    assert judged(*trials, waivers=(waiver(route="x86_64:mkdirat"),)).status == "waived"


def test_what_opened_is_accepted_only_if_all_on_its_route_is() -> None:
    new = candidate(*two_on_one_route())
    old = candidate(*(replace(one, outcome="BLOCKED") for one in two_on_one_route()))
    (found,) = difference(document(old), document(new), {"2026.11": SUITE}).candidates
    by_one = unit(waiver(technique="baseline"))
    (item,) = baseline_items(by_one, found, new, TERMS)
    assert (item.status, item.says) == ("fail", "newly-opened")
    by_both = unit(waiver(technique="baseline"), waiver(technique="alternate-abi"))
    (item,) = baseline_items(by_both, found, new, TERMS)
    assert item.status == "waived"


@pytest.mark.parametrize("part", ["loads", "runtime", "static", "dynamic"])
def test_that_nothing_starts_is_a_warning(part: str) -> None:
    started = Starts(**{part: False}, reason="execve is denied")
    item = of("profile", items_of(unit(), candidate(trial("mkdir"), starts=started), TERMS))
    assert (item.status, item.says) == ("warn", "not-starting")
    assert "does not start: execve is denied" in item.message
    alone = candidate(trial("mkdir"), starts=started, attachment="self")
    assert of("profile", items_of(unit(), alone, TERMS)).status == "pass"


def test_workloads_of_a_filter_that_attaches_itself_say_why_they_did_not_run() -> None:
    found = candidate(trial("mkdir"), attachment="self", workloads=())
    item = of("workload", items_of(unit(), found, TERMS))
    assert (item.status, item.says) == ("fail", "untested")
    assert "attaches this filter to itself" in item.message
    assert "take workloads out" in item.detail[0]


def test_a_family_that_was_not_run_fails() -> None:
    item = of("family", items_of(unit(), candidate(families=()), TERMS))
    assert (item.status, item.says) == ("fail", "untested")


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("UNSUPPORTED", "waived"),
        ("INEFFECTIVE", "waived"),
        ("NOT_ENFORCED", "waived"),
        ("BYPASSED", "fail"),
        ("HARNESS_ERROR", "error"),
    ],
)
def test_what_cannot_be_tested_may_be_allowed_by_name(outcome: str, status: str) -> None:
    assert judged(trial("mkdir", outcome), untested={FAMILY: "why"}).status == status
    assert judged(trial("mkdir", outcome), untested={"static-entry": "why"}).status != "waived"


def test_each_route_is_one_way_with_its_shortest_program() -> None:
    cause = Cause((f"{FAMILY}/b",), "rule-allows", "x86_64:b", "syscalls[0].names[1]", "said", "it")
    found = candidate(
        trial("mkdir"),
        trial("a", "BYPASSED", route="r", length=9),
        trial("b", "BYPASSED", route="r", length=2, title="b()"),
        trial("c", "BYPASSED", route="s"),
    )
    found = replace(found, families=(replace(found.families[0], causes=(cause,)),))
    item = of("family", items_of(unit(), found, TERMS))
    assert [(one.route, one.variant) for one in item.ways] == [
        ("s", f"{FAMILY}/c"), ("r", f"{FAMILY}/b"),
    ]  # fmt: skip
    way = item.ways[1]
    assert (way.call, way.cause, way.fix) == ("b()", "said", "it")
    assert way.place == Place("a.json", 3, 5, "syscalls[0].names[1]")
    assert item.detail == ("fix: it",)


# --------------------------------------------------------------------------------------- waivers


LEAKY = (
    trial("mkdir"),
    trial("mkdirat", "BYPASSED"),
    trial("uring", "BYPASSED", technique="async-kernel"),
)
BOTH = (waiver(route="x86_64:mkdirat"), waiver(technique="async-kernel", family=FAMILY))


def test_a_family_is_waived_if_every_way_through_is() -> None:
    assert of("family", items_of(unit(*BOTH), candidate(*LEAKY), TERMS)).status == "waived"
    for one in BOTH:
        item = of("family", items_of(unit(one), candidate(*LEAKY), TERMS))
        assert (item.status, item.says) == ("fail", "leaky")
        assert sum(way.waived is not None for way in item.ways) == 1
        assert "1 route gets through" in item.message


def test_what_is_left_beside_waived_ways_is_judged() -> None:
    every = waiver(route="x86_64:mkdirat")
    for other, status, says in (
        (trial("x", "INEFFECTIVE"), "fail", "undecided"),
        (trial("x", "NOT_ENFORCED"), "fail", "not-enforced"),
        (trial("x", "UNSUPPORTED"), "waived", "open"),
        (trial("x", "BLOCKED"), "waived", "leaky"),
    ):
        found = candidate(trial("mkdirat", "BYPASSED"), other)
        verdict_ = "leaky" if other.outcome == "BLOCKED" else "open"
        found = replace(found, families=(replace(found.families[0], verdict=verdict_),))
        item = of("family", items_of(unit(every), found, TERMS))
        assert (item.status, item.says) == (status, says)


def test_a_waiver_counts_on_its_last_day_and_not_after_it() -> None:
    tomorrow = replace(TERMS, today=TODAY + datetime.timedelta(days=1))
    found = candidate(*LEAKY)
    assert of("family", items_of(unit(*BOTH), found, TERMS)).status == "waived"
    assert of("family", items_of(unit(*BOTH), found, tomorrow)).status == "fail"


def fate(one: Waiver, *trials: Trial, terms: Terms = TERMS, **more: Any) -> tuple[str, str]:
    mine = unit(one)
    every = Library(Path("sidestep.toml"), "2026.11", (mine.expected,))
    result = candidate(*trials, **more)
    (item,) = waiver_items(every, mine.expected, [(mine, result)], terms)
    assert item.place == Place("sidestep.toml", 1)
    return item.status, item.says


YESTERDAY = TODAY - datetime.timedelta(days=1)
MKDIRAT = waiver(route="x86_64:mkdirat")


@pytest.mark.parametrize(
    ("one", "trials", "expected"),
    [
        (MKDIRAT, LEAKY, ("pass", "waived")),
        (waiver(route="x86_64:mkdirat", expires=YESTERDAY), LEAKY, ("fail", "expired")),
        (MKDIRAT, (trial("mkdirat"),), ("fail", "unneeded")),
        (MKDIRAT, (trial("mkdir"),), ("fail", "unneeded")),
        (waiver(route="x86_64:mkdirat", expires=YESTERDAY), (trial("mkdirat"),),
         ("fail", "unneeded")),
        (waiver(route="x86_64:mkdirat", family="create-file"), LEAKY, ("fail", "unneeded")),
        (MKDIRAT, (trial("mkdirat", "INEFFECTIVE"),), ("warn", "undecided")),
        (MKDIRAT, (trial("mkdirat", "UNSUPPORTED", reachable_elsewhere=True),),
         ("warn", "untested")),
        (MKDIRAT, (trial("mkdirat", "UNSUPPORTED"),), ("fail", "unneeded")),
        (MKDIRAT, (trial("mkdirat", "BYPASSED", scope="assumption"),), ("fail", "unneeded")),
        (waiver(technique="namespace"), LEAKY, ("fail", "unneeded")),
    ],
)  # fmt: skip
def test_what_becomes_of_a_waiver(
    one: Waiver, trials: tuple[Trial, ...], expected: tuple[str, str]
) -> None:
    assert fate(one, *trials) == expected


def test_a_waiver_of_what_was_not_in_force_is_not_unneeded() -> None:
    assert fate(MKDIRAT, trial("mkdirat", "NOT_ENFORCED"), enforced=False)[0] == "fail"
    assert fate(MKDIRAT, valid=False, families=()) == ("fail", "invalid")


def test_a_prediction_only_warns_of_a_waiver() -> None:
    terms = replace(TERMS, simulated=True)
    assert fate(MKDIRAT, trial("mkdirat"), terms=terms, simulated=True) == ("warn", "unneeded")


# ------------------------------------------------------------------------- profiles and workloads


def test_a_profile_that_cannot_be_used_fails_with_all_that_was_promised() -> None:
    bad = candidate(valid=False, errors=(Fault("expected a string", "defaultAction"),))
    items = items_of(unit(untested={FAMILY: "x", "static-entry": "x"}), bad, TERMS)
    assert [(one.kind, one.status, one.says) for one in items] == [
        ("profile", "fail", "invalid"),
        ("family", "fail", "invalid"),
        ("workload", "fail", "invalid"),
    ]
    assert items[0].message == "defaultAction: expected a string"


def test_a_profile_that_is_not_in_force_fails() -> None:
    off = candidate(trial("mkdir", "NOT_ENFORCED"), enforced=False, notes=("not in force: x",))
    assert of("profile", items_of(unit(), off, TERMS)).says == "not-enforced"


def test_another_filter_than_ours_is_an_error_of_the_harness() -> None:
    truth = GroundTruth(seccomp_filters=1, read_back="different")
    found = candidate(trial("mkdir"), ground_truth=truth, layers=(Layer("seccomp"),))
    assert of("profile", items_of(unit(), found, TERMS)).status == "error"


def test_what_ran_for_a_baseline_alone_must_not_break_unseen() -> None:
    found = candidate(trial("mkdir"))
    other = replace(trial("x", "HARNESS_ERROR"), family="kexec", variant="kexec/x")
    more = replace(
        found,
        trials=(*found.trials, other),
        families=(*found.families, Family("kexec", "undecided", False, 0, 0, 0, (), ())),
    )
    items = items_of(unit(), more, TERMS)
    assert [one.subject for one in items if one.status == "error"] == ["kexec"]


@pytest.mark.parametrize(
    ("outcome", "status", "allowed"),
    [
        ("works", "pass", "pass"),
        ("broken", "fail", "fail"),
        ("unstable", "fail", "fail"),
        ("unavailable", "fail", "waived"),
    ],
)
def test_a_workload_passes_only_if_it_works(outcome: str, status: str, allowed: str) -> None:
    found = candidate(trial("mkdir"), works=outcome)
    assert of("workload", items_of(unit(), found, TERMS)).status == status
    some = unit(untested={"static-entry": "not here"})
    assert of("workload", items_of(some, found, TERMS)).status == allowed


def test_a_workload_that_was_not_run_fails() -> None:
    found = candidate(trial("mkdir"), workloads=())
    assert of("workload", items_of(unit(), found, TERMS)).says == "untested"
    terms = replace(TERMS, simulated=True)
    assert of("workload", items_of(unit(), found, terms)).status == "listed"


def test_a_broken_workload_names_the_calls_to_allow() -> None:
    needs = (StoppedAt("openat", "x86_64", "EPERM", False),)
    broken = Workload("static-entry", False, outcome="broken", reason="it died", needs=needs)
    item = of("workload", items_of(unit(), candidate(workloads=(broken,)), TERMS))
    assert item.message == "must work and is broken: it died"
    assert item.detail == ("fix: allow openat",)


# ------------------------------------------------------------------------------ suites, baselines


def test_what_the_suite_does_not_hold_warns_until_it_is_raised() -> None:
    terms = replace(TERMS, suite=frozenset(SUITE))
    found = candidate(trial("mkdir"), trial("newest", "BYPASSED"))
    items = items_of(unit(), found, terms)
    assert of("family", items).status == "pass"
    known = of("baseline", items)
    assert (known.status, known.says) == ("warn", "newly-known")
    assert exit_code(items) == 0
    assert exit_code(items_of(unit(), found, TERMS)) == 1


def document(*candidates: Candidate, suite: str = "old") -> Document:
    return Document("sidestep.results/1", Environment("6", "x86_64", "2", "n"), suite, candidates)


def compared(old: Candidate, new: Candidate, mine: Unit | None = None) -> list[Item]:
    suites = {"old": SUITE, "new": SUITE | {f"{FAMILY}/newest"}}
    found = difference(document(old), document(new, suite="new"), suites)
    return baseline_items(mine or unit(), found.candidates[0], new, TERMS)


HELD = candidate(trial("mkdir"), trial("mkdirat"), digest="a")


@pytest.mark.parametrize(
    ("new", "says", "status"),
    [
        (candidate(trial("mkdir"), trial("mkdirat", "BYPASSED")), "newly-opened", "fail"),
        (candidate(trial("mkdir"), trial("mkdirat", "INEFFECTIVE")), "newly-opened", "fail"),
        (candidate(trial("mkdir", "UNSUPPORTED")), "newly-opened", "fail"),
        (candidate(trial("mkdir"), works="broken"), "newly-broken", "fail"),
        (candidate(enforced=False), "newly-unenforced", "fail"),
        (candidate(valid=False), "newly-unenforced", "fail"),
        (candidate(trial("mkdir"), trial("newest", "BYPASSED")), "newly-known", "warn"),
    ],
)
def test_what_is_worse_than_the_baseline(new: Candidate, says: str, status: str) -> None:
    items = compared(HELD, new)
    assert [(one.says, one.status, one.kind) for one in items] == [(says, status, "baseline")]


def test_what_is_better_than_the_baseline_is_no_item() -> None:
    assert compared(candidate(trial("mkdir", "BYPASSED"), works="broken"), HELD) == []


def test_what_opened_and_is_accepted_is_waived() -> None:
    new = candidate(trial("mkdir"), trial("mkdirat", "BYPASSED"))
    (item,) = compared(HELD, new, unit(MKDIRAT))
    assert item.status == "waived"
    also = candidate(trial("mkdir", "INEFFECTIVE"), trial("mkdirat", "BYPASSED"))
    (item,) = compared(HELD, also, unit(MKDIRAT))
    assert item.status == "fail"


def test_what_is_no_longer_tested_may_be_allowed_by_name() -> None:
    new = candidate(trial("mkdir", "UNSUPPORTED"), works="unavailable")
    mine = unit(untested={FAMILY: "x", "static-entry": "x"})
    assert {one.status for one in compared(HELD, new, mine)} == {"waived"}


def test_a_prediction_says_nothing_of_programs() -> None:
    new = candidate(trial("mkdir"), trial("mkdirat"), workloads=())
    found = difference(document(HELD), document(new), {}).candidates[0]
    assert baseline_items(unit(), found, new, replace(TERMS, simulated=True)) == []


# ---------------------------------------------------------------------------------- repeated runs


def test_what_repeats_keeps_its_verdict() -> None:
    first = judged(*LEAKY)
    again = settled(first, [first, first])
    assert (again.status, again.says, again.reruns) == ("fail", "leaky", 2)


def test_what_does_not_repeat_is_undecided_and_says_how_often() -> None:
    leaky, held = judged(*LEAKY), judged(trial("mkdir"))
    item = settled(leaky, [held, leaky])
    assert (item.status, item.says, item.reruns) == ("fail", "undecided", 2)
    assert "UNDECIDED" in item.message
    assert "2 leaky, 1 held of 3 runs" in item.message


def test_a_way_that_did_not_repeat_is_undecided_even_if_the_others_are_accepted() -> None:
    mine = unit(MKDIRAT)
    first = of("family", items_of(mine, candidate(*LEAKY), TERMS))
    later = of("family", items_of(mine, candidate(*LEAKY[:2]), TERMS))
    assert (first.status, later.status) == ("fail", "waived")
    assert settled(first, [later, first]).says == "undecided"


def test_what_a_baseline_shows_once_only_is_undecided() -> None:
    (item,) = compared(HELD, candidate(trial("mkdir"), trial("mkdirat", "BYPASSED")))
    end = settled(item, [None, item])
    assert "2 newly-opened, 1 no difference of 3 runs" in end.message
    assert end.status == "fail"


def test_a_harness_that_fails_in_a_later_run_is_an_error() -> None:
    broken = judged(trial("mkdir", "HARNESS_ERROR"))
    assert settled(judged(*LEAKY), [judged(*LEAKY), broken]).status == "error"


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [("BLOCKED", False), ("BYPASSED", True), ("INEFFECTIVE", True), ("UNSUPPORTED", False),
     ("HARNESS_ERROR", False)],
)  # fmt: skip
def test_what_is_looked_at_again(outcome: str, expected: bool) -> None:
    assert repeatable(judged(trial("mkdir", outcome))) is expected


OUTCOMES = st.sampled_from(
    ["BYPASSED", "BLOCKED", "INEFFECTIVE", "UNSUPPORTED", "NOT_ENFORCED", "HARNESS_ERROR"]
)


@given(st.lists(OUTCOMES, max_size=4), st.sets(st.integers(0, 3)))
def test_nothing_passes_that_is_not_shown_to_be_stopped(
    outcomes: list[str], accepted: set[int]
) -> None:
    """Whatever is accepted: a way through that is not fails, and so does what nobody knows."""
    trials = [trial(f"v{n}", one) for n, one in enumerate(outcomes)]
    waivers = [waiver(route=f"x86_64:v{n}") for n in accepted]
    item = of("family", items_of(unit(*waivers), candidate(*trials), TERMS))
    bad = {"INEFFECTIVE", "NOT_ENFORCED", "HARNESS_ERROR"}
    open_ = any(one == "BYPASSED" and n not in accepted for n, one in enumerate(outcomes))
    if open_ or bad.intersection(outcomes) or not set(outcomes) & {"BLOCKED", "BYPASSED"}:
        assert item.status in ("fail", "error")
    else:
        assert item.status in ("pass", "waived")
        assert (item.status == "waived") == ("BYPASSED" in outcomes)


def test_the_highest_exit_code_wins() -> None:
    passed, failed = judged(trial("mkdir")), judged(*LEAKY)
    broken = judged(trial("mkdir", "HARNESS_ERROR"))
    assert exit_code([passed]) == 0
    assert exit_code([passed, failed]) == 1
    assert exit_code([failed, broken]) == 4
