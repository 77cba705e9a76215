"""Rates and comparisons of models, on samples whose worth is known."""

import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from evaluator.errors import InputError
from evaluator.intervals import detectable, interval
from evaluator.leaderboard import Bypassed, leaderboard, value
from evaluator.samples import Sample, added, line, read_samples
from evaluator.scenarios import Expect, scenario, scenarios
from evaluator.score_run import Scored
from evaluator.scoring import Score, Tried, Ways, declined
from evaluator.table_score import show
from mitigations.generate.reply import Status

NAMES = [one.name for one in scenarios()[:20]]
CLUSTERS = {one.name: one.cluster for one in scenarios()}
BLOCKED = Ways(3)


def score(joint: bool) -> Score:
    return Score(
        valid=True,
        enforced=True,
        starts=True,
        poc_blocked=True,
        visible=BLOCKED,
        hidden=BLOCKED if joint else Ways(3, ("create-directory/mkdirat",)),
        held=joint,
        workloads_ok=True,
        joint=joint,
        false_fix=not joint,
    )


def sample(model: str, name: str, number: int, right: bool | None) -> Scored:
    worth = None if right is None else score(right)
    status = Status.REFUSED if right is None else Status.OK
    return Scored(
        name,
        model,
        "single",
        "effect",
        number,
        status,
        score=worth,
        cluster=CLUSTERS[name],
        holds=bool(scenario(name).hold),
    )


def test_a_refusal_counts_as_nothing_in_one_rate_and_as_zero_in_the_other() -> None:
    scored = [sample("m", name, n, True if n else None) for name in NAMES for n in range(2)]
    (row,) = leaderboard(scored).rows
    assert row.rates["joint"].mean == 1
    assert row.asked["joint"].mean == 0.5
    assert row.statuses[Status.REFUSED] == len(NAMES)
    assert row.pass_at == {1: 0.5, 2: 1.0}
    assert row.pass_all == {1: 0.5, 2: 0.0}


def test_the_better_one_is_named_only_if_the_interval_says_so() -> None:
    better = [sample("good", name, 0, True) for name in NAMES]
    worse = [sample("bad", name, 0, False) for name in NAMES]
    (found,) = leaderboard([*better, *worse]).comparisons
    assert (found.winner, found.difference.mean) == ("good / single / effect", 1)
    assert found.p is not None
    assert found.p < 0.001

    alike = [sample("other", name, 0, n % 2 == 0) for n, name in enumerate(NAMES)]
    half = [sample("half", name, 0, n % 2 == 1) for n, name in enumerate(NAMES)]
    (found,) = leaderboard([*alike, *half]).comparisons
    assert not found.winner
    assert found.detectable is not None


def test_one_cluster_has_no_interval() -> None:
    cluster = scenarios()[0].cluster
    alike = [one.name for one in scenarios() if one.cluster == cluster]
    (row,) = leaderboard([sample("m", name, 0, True) for name in alike]).rows
    assert row.asked["joint"].low is None


def test_nobody_pays_for_what_no_model_was_asked() -> None:
    (row,) = leaderboard([sample("m", NAMES[0], 0, True)]).rows
    assert row.cost_per_solved is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", ":1: Input data was truncated"),
        ('{"scenario": "no-directory", "model": "m"}', "did you mean no-directories"),
        ('{"scenario": "no-directories", "model": "m"}', "neither mitigation nor path"),
        ('{"scenario": "no-directories", "model": "m", "status": "fine"}', "Invalid enum value"),
        ('{"scenario": "no-directories", "model": "m", "path": "gone.json"}', "No such file"),
    ],
)
def test_a_malformed_line_is_said_with_its_place(tmp_path, line, said) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=said):
        read_samples(path)


def test_one_sample_twice_is_refused(tmp_path) -> None:
    line = json.dumps({"scenario": NAMES[0], "model": "m", "mitigation": "{}"})
    path = tmp_path / "samples.jsonl"
    path.write_text(f"{line}\n{line}\n")
    with pytest.raises(InputError, match="is the same sample as"):
        read_samples(path)


def test_a_tree_is_read_by_its_names(tmp_path) -> None:
    folder = tmp_path / "model-a" / NAMES[0]
    folder.mkdir(parents=True)
    for name in ("b.json", "a.json"):
        (folder / name).write_text(name)
    found = read_samples(tmp_path)
    assert [(one.model, one.sample, one.mitigation) for one in found] == [
        ("model-a", 0, "a.json"),
        ("model-a", 1, "b.json"),
    ]
    assert all(isinstance(one, Sample) for one in found)


def test_scenarios_that_agree_are_no_proof_for_all_others() -> None:
    """No spread is no certainty: few clusters leave much open, and the more there are the less."""
    few = [sample("m", name, 0, True) for name in NAMES[:3]]
    many = [sample("m", one.name, 0, True) for one in scenarios()]
    lows = []
    for scored in (few, many):
        (row,) = leaderboard(scored).rows
        joint = row.asked["joint"]
        assert joint.mean == joint.high == 1
        assert joint.low is not None
        lows.append(joint.low)
    assert 0 < lows[0] < lows[1] < 1


def test_a_few_scenarios_name_no_winner() -> None:
    good = [sample("good", name, 0, True) for name in NAMES[:4]]
    bad = [sample("bad", name, 0, False) for name in NAMES[:4]]
    (found,) = leaderboard([*good, *bad]).comparisons
    assert not found.winner
    assert found.detectable is None  # no two differences differ


def test_comparisons_are_adjusted_for_their_number() -> None:
    scored = [
        sample(model, name, 0, right)
        for model, right in (("a", True), ("b", False), ("c", False))
        for name in NAMES
    ]
    found = leaderboard(scored).comparisons
    assert len(found) == 3
    least = min(found, key=lambda one: one.p or 0)
    assert least.p is not None
    assert least.adjusted == pytest.approx(3 * least.p)


def test_the_gap_is_what_is_held_of_visible_ways_less_what_is_held_of_hidden_ones() -> None:
    (row,) = leaderboard([sample("m", name, 0, False) for name in NAMES]).rows
    assert row.asked["visible_held"].mean == 1
    assert row.asked["hidden_held"].mean == 0
    assert row.gap.mean == 1


def test_where_nothing_is_hidden_there_is_no_gap() -> None:
    bare = msgspec.structs.replace(score(True), hidden=Ways(0))
    one = msgspec.structs.replace(sample("m", NAMES[0], 0, True), score=bare, hides=False)
    (row,) = leaderboard([one]).rows
    assert row.gap.mean is None
    assert row.asked["hidden_held"].mean is None


def test_what_bypassed_whom_is_counted_by_answers() -> None:
    tried = {"compat-abi": Tried(2, 2), "baseline": Tried(1, 0)}
    worth = msgspec.structs.replace(score(False), techniques=tried)
    scored = [
        msgspec.structs.replace(sample("m", NAMES[n], 0, False), score=worth) for n in range(3)
    ]
    (row,) = leaderboard(scored).rows
    assert row.techniques == (Bypassed("compat-abi", 3, 3, 6), Bypassed("baseline", 3, 0, 0))


def test_a_solution_costs_what_all_answers_did_by_what_was_solved() -> None:
    costs = ((NAMES[0], True, 0.5), (NAMES[0], False, 0.5), (NAMES[1], None, 1.0))
    scored = [
        msgspec.structs.replace(sample("m", name, n, right), cost=cost)
        for n, (name, right, cost) in enumerate(costs)
    ]
    (row,) = leaderboard(scored).rows
    assert row.cost_per_solved == 2
    unknown = [*scored, sample("m", NAMES[2], 0, False)]
    (row,) = leaderboard(unknown).rows
    assert row.cost_per_solved is None
    unsolved = [scored[1]]
    (row,) = leaderboard(unsolved).rows
    assert row.cost_per_solved is None


def test_an_answer_that_is_none_says_nothing_where_nothing_has_to_be_held() -> None:
    (name,) = (one.name for one in scenarios() if not one.hold)
    (row,) = leaderboard([sample("m", name, 0, None)]).rows
    assert row.asked["held"].mean is None
    assert row.asked["joint"].mean == 0


def test_nobody_may_pass_for_an_answer_that_needs_no_model(tmp_path) -> None:
    line = {"scenario": NAMES[0], "model": "reference", "strategy": "known", "mitigation": "{}"}
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(line))
    with pytest.raises(InputError, match="strategy 'known'"):
        read_samples(path)


def test_that_nothing_can_do_it_is_the_right_answer_where_nothing_can() -> None:
    joint = {one.expect: declined(one).joint for one in scenarios()}
    assert joint == {
        Expect.MITIGABLE: False,
        Expect.NOTHING: False,
        Expect.NOT_MITIGABLE: True,
        Expect.CONFLICT: True,
    }


def test_differences_that_arithmetic_makes_are_none() -> None:
    """0.6 - 0.4, 0.8 - 0.6 and 1 - 0.8 are three numbers in floating point."""
    means = {f"s{n}": a - b for n, (a, b) in enumerate([(0.6, 0.4), (0.8, 0.6), (1.0, 0.8)])}
    clusters = {name: name for name in means}
    found = interval(means, clusters, least=-1.0)
    assert found.mean is not None
    assert found.low is not None
    assert found.low < 0 < found.mean
    assert detectable(means, clusters) is None


def test_hidden_ways_that_nobody_had_to_try_are_not_held() -> None:
    """Under a profile that lets the visible ones through, what is made of them is not run."""
    worst = msgspec.structs.replace(score(joint=False), hidden=Ways(0))
    one = msgspec.structs.replace(sample("m", NAMES[0], 0, right=False), score=worst)
    assert value(one, "hidden_held") == 0.0
    assert value(msgspec.structs.replace(one, hides=False), "hidden_held") is None


def test_new_samples_join_those_of_a_file_and_no_answer_replaces_one(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    old = [Sample(scenario=NAMES[n], model="m", mitigation=str(n)) for n in range(3)]
    path.write_text("".join(line(one) + "\n" for one in old))
    new = [
        Sample(scenario=NAMES[0], model="m", status=Status.API_ERROR),
        Sample(scenario=NAMES[1], model="m", status=Status.REFUSED),
        Sample(scenario=NAMES[0], model="n", status=Status.API_ERROR),
    ]
    found = [(one.scenario, one.model, one.status) for one in added(path, new)]
    assert found == [
        (NAMES[0], "m", Status.OK),
        (NAMES[1], "m", Status.REFUSED),
        (NAMES[2], "m", Status.OK),
        (NAMES[0], "n", Status.API_ERROR),
    ]
    assert added(tmp_path / "none.jsonl", new) == new


def test_every_comparison_says_what_difference_would_have_shown() -> None:
    for rights in ([False] * len(NAMES), [number % 2 == 0 for number in range(len(NAMES))]):
        known = [sample("all", name, 0, True) for name in NAMES]
        other = [sample("some", name, 0, one) for name, one in zip(NAMES, rights, strict=True)]
        board = leaderboard([*known, *other])
        console = Console(width=400)
        with console.capture() as caught:
            show(console, board, [*known, *other])
        (least,) = (one.detectable for one in board.comparisons)
        assert (least is None) == (not any(rights))
        known = f"a difference of {least or 0:.2f} would have shown"
        assert ("would have shown is not known" if least is None else known) in caught.get()
