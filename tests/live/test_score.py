"""Models that are made up, and must come out as they were made."""

import json
from typing import Any

import pytest

from evaluator import campaign
from evaluator.cli import main
from evaluator.judging import Asked, results, scores
from evaluator.leaderboard import METRICS
from evaluator.plan import Plan, Rewrites
from evaluator.request import families
from evaluator.scenario_check import candidate, known_answers
from evaluator.scenarios import is_hidden, scenario
from evaluator.scoring import score
from evaluator.shown import feedback
from evaluator.workloads import DEFAULTS, chosen
from reports.leaderboard import render_leaderboard
from reports.leaderboard_document import parse_leaderboard

ASKED = ("no-directories", "no-semaphores", "no-vsock", "clock-stays")


def lines() -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for name in ASKED:
        answers = known_answers(scenario(name))
        for model, answer in (
            ("writes-the-reference", answers["reference"]),
            ("blocks-only-the-poc", answers["poc-only"]),
            ("denies-everything", answers["deny-all"]),
        ):
            found += [
                {"scenario": name, "model": model, "sample": n, "mitigation": answer}
                for n in range(2)
            ]
        found += [
            {"scenario": name, "model": "talks", "sample": 0, "mitigation": "Sure! Here it is:"},
            {"scenario": name, "model": "talks", "sample": 1, "status": "refused"},
        ]
    return found


def test_made_up_models_come_out_as_they_were_made(tmp_path, capsys) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines()))
    with pytest.raises(SystemExit) as ended:
        main(["score", str(path), "--json"])
    assert not ended.value.code
    document = json.loads(capsys.readouterr().out)
    joint = {row["model"]: row["asked"]["joint"]["mean"] for row in document["rows"]}
    false_fix = {row["model"]: row["asked"]["false_fix"]["mean"] for row in document["rows"]}
    works = {row["model"]: row["asked"]["workloads_ok"]["mean"] for row in document["rows"]}
    assert joint["writes-the-reference"] == joint["reference"] == 1
    assert joint["blocks-only-the-poc"] == joint["denies-everything"] == joint["talks"] == 0
    assert false_fix["blocks-only-the-poc"] >= 0.75  # one of them breaks TCP sockets as well
    assert false_fix["writes-the-reference"] == 0
    assert works["denies-everything"] == 0
    assert document["rows"][-1]["statuses"]
    talks = next(row for row in document["rows"] if row["model"] == "talks")
    assert (talks["statuses"]["invalid"], talks["statuses"]["refused"]) == (4, 4)
    winners = [one for one in document["comparisons"] if "reference" in one["first"]]
    assert all(one["difference"]["mean"] == 1 for one in winners)


def scored(capsys, *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        main(["score", *arguments, "--json"])
    assert not ended.value.code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_private_suite_adds_hidden_ways_and_says_so(tmp_path, capsys) -> None:
    path = tmp_path / "samples.jsonl"
    answer = known_answers(scenario("no-semaphores"))["poc-only"]
    line = {"scenario": "no-semaphores", "model": "m", "mitigation": answer}
    path.write_text(json.dumps(line))
    plain = scored(capsys, str(path))
    private = scored(capsys, str(path), "--private-suite", "a seed that nobody knows")
    assert not plain["private_suite"]
    assert len(private["private_suite"]) == 16
    assert "nobody knows" not in json.dumps(private)

    def of(document: dict[str, Any], model: str) -> dict[str, Any]:
        (one,) = (each for each in document["samples"] if each["model"] == model)
        found: dict[str, Any] = one["score"]
        return found

    assert of(private, "reference")["joint"] is True
    hidden = of(private, "reference")["hidden"]["working"]
    assert hidden > of(plain, "reference")["hidden"]["working"]
    through = of(private, "m")["hidden"]["bypasses"]
    assert any(way.count("~") > 1 for way in through)
    assert not any(way.count("~") > 1 for way in of(private, "m")["visible"]["bypasses"])


def test_profiles_from_anywhere_are_scored_by_an_objective(tmp_path, capsys) -> None:
    answers = known_answers(scenario("no-directories"))
    for name, known in (("good", "reference"), ("poc", "poc-only"), ("nothing", "allow-all")):
        (tmp_path / f"{name}.json").write_text(answers[known])
    (tmp_path / "prose.json").write_text("Certainly!")
    document = scored(capsys, str(tmp_path), "--objective", "no-new-directories")
    rows = {row["model"]: row for row in document["rows"]}
    joint = {name: row["asked"]["joint"]["mean"] for name, row in rows.items()}
    assert joint["good"] == 1
    assert joint["poc"] == joint["nothing"] == joint["prose"] == 0
    assert rows["prose"]["statuses"]["invalid"] == 1
    assert "runtime-default" in rows
    assert not document["comparisons"]
    assert all(row["asked"]["hidden_held"]["mean"] is None for row in rows.values())
    assert all(row["gap"]["mean"] is None for row in rows.values())
    with pytest.raises(SystemExit):
        main(["score", str(tmp_path), "--objective", "no-new-directories"])
    assert "no way is hidden" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["no-directories", "no-vsock", "no-keys"])
def test_what_is_left_out_of_a_score_decides_nothing(name: str) -> None:
    """The same answers come to the same under all ways, with all that is said of them."""
    one = scenario(name)
    candidates = tuple(map(candidate, known_answers(one).values()))
    everything = Plan(
        candidates=candidates,
        families=families(one.families),
        workloads=chosen([*DEFAULTS, *one.workloads]),
        rewrites=Rewrites.SAMPLED,
        jobs=2,
    )
    whole = [score(one, each) for each in campaign.evaluate(everything, lambda _: None)]
    (found,) = scores([Asked(one, candidates)], lambda _: None)
    for full, lean in zip(whole, found, strict=True):
        for metric in METRICS:
            assert getattr(full, metric) == getattr(lean, metric), metric
        assert (full.broken, full.unjudged) == (lean.broken, lean.unjudged)
        assert set(full.visible.bypasses) <= set(lean.visible.bypasses)
        assert set(full.hidden.bypasses) <= set(lean.hidden.bypasses)


def test_feedback_on_a_real_answer_names_visible_ways_only() -> None:
    one = scenario("no-directories")
    answer = candidate(known_answers(one)["poc-only"])
    (result,) = results(Asked(one, (answer,)), lambda _: None, private="seed")
    said = feedback(one, result)
    (family,) = said.families
    assert not said.broken
    assert "create-directory/mkdirat" in {way.id for way in family.through}
    (hold,) = one.hold
    assert not [way for way in family.through if is_hidden(hold, way.id, way.technique)]
    assert score(one, result).hidden.bypasses


def test_a_page_a_table_and_the_scores_are_written(tmp_path, capsys) -> None:
    path, out = tmp_path / "samples.jsonl", tmp_path / "out"
    few = [one for one in lines() if one["scenario"] in ASKED[:2]]
    path.write_text("".join(json.dumps(one) + "\n" for one in few))
    with pytest.raises(SystemExit) as ended:
        main(["score", str(path), "--private-suite", "a seed that nobody knows", "-o", str(out)])
    assert not ended.value.code
    assert capsys.readouterr().out.endswith(f"written to {out}\n")
    assert sorted(one.name for one in out.iterdir()) == [
        "leaderboard.csv",
        "leaderboard.html",
        "scores.json",
    ]
    document = json.loads((out / "scores.json").read_text())
    text = (out / "leaderboard.html").read_text()
    assert text == render_leaderboard(parse_leaderboard(document))
    assert document["private_suite"] in text
    assert "writes-the-reference" in (out / "leaderboard.csv").read_text()
    for name in ("leaderboard.csv", "leaderboard.html", "scores.json"):
        assert "nobody knows" not in (out / name).read_text()
