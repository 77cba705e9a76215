"""Rates and comparisons of models, on samples whose worth is known."""

import json

import pytest

from evaluator.errors import InputError
from evaluator.leaderboard import leaderboard
from evaluator.samples import Sample, read_samples
from evaluator.scenarios import scenarios
from evaluator.score_run import Scored
from evaluator.scoring import Score, Ways
from mitigations.generate.reply import Status

NAMES = [one.name for one in scenarios()[:20]]
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
    if right is None:
        return Scored(name, model, "single", "effect", number, Status.REFUSED)
    return Scored(name, model, "single", "effect", number, Status.OK, score=score(right))


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
