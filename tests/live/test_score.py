"""Models that are made up, and must come out as they were made."""

import json

import pytest

from evaluator.cli import main
from evaluator.scenario_check import known_answers
from evaluator.scenarios import scenario
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
