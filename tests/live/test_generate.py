"""The whole loop: models are asked through the real SDK, on the loopback, and judged live."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evaluator.scenario_check import Known, known_answers
from evaluator.scenarios import scenario
from mitigations.generate.conversation import TOOL
from tests.messages_api import replies
from tests.messages_api.server import MessagesApi
from tests.scripted_models import DENIES, MODELS, POC_ONLY, SOLVES, answer, asked, solution

COMMAND = (sys.executable, "-c", "from evaluator.entry import main; main()")
SCENARIO = "no-directories"
ONE = scenario(SCENARIO)


def sidestep(api: MessagesApi, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**_environment(api)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def _environment(api: MessagesApi) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if "ANTHROPIC" not in name}
    return {**own, **api.environment}


def lines(directory: Path) -> list[dict[str, Any]]:
    text = (directory / "samples.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def posts(api: MessagesApi) -> int:
    return len(api.asked())


@pytest.fixture
def api(messages_api: MessagesApi) -> MessagesApi:
    for name, script in MODELS.items():
        messages_api.script(name, script)
    return messages_api


def test_three_models_come_out_as_they_were_made(api: MessagesApi, tmp_path: Path) -> None:
    """Two samples of three scenarios, one of which no profile solves."""
    out = tmp_path / "run"
    models = [word for name in (SOLVES, POC_ONLY, DENIES) for word in ("--model", name)]
    names = [SCENARIO, "no-socket-filters", "no-reading"]
    found = sidestep(api, "generate", *names, *models, "--samples", "2", "-o", str(out))
    assert found.returncode == 0, found.stderr
    assert "18 of 18 samples: 18 ok" in found.stdout
    scores = sidestep(api, "score", str(out / "samples.jsonl"), "--json")
    assert scores.returncode == 0, scores.stderr
    rows = {row["model"]: row["asked"] for row in json.loads(scores.stdout)["rows"]}
    joint = {name: rows[name]["joint"]["mean"] for name in (SOLVES, POC_ONLY, DENIES)}
    assert joint == {SOLVES: 1.0, POC_ONLY: 0.0, DENIES: 0.0}
    assert rows[POC_ONLY]["false_fix"]["mean"] > 0
    assert rows[SOLVES]["false_fix"]["mean"] == 0
    assert rows[POC_ONLY]["poc_blocked"]["mean"] > 0
    assert rows[DENIES]["workloads_ok"]["mean"] == 0
    before = posts(api)
    again = sidestep(api, "generate", *names, *models, "--samples", "2", "-o", str(out))
    assert again.returncode == 0
    assert posts(api) == before == 18


def test_a_replay_needs_no_key_and_no_network(api: MessagesApi, tmp_path: Path) -> None:
    arguments = ("generate", SCENARIO, "--model", SOLVES, "--samples", "2", "-o", str(tmp_path))
    assert sidestep(api, *arguments).returncode == 0
    first = (tmp_path / "samples.jsonl").read_bytes()
    environment = {name: value for name, value in os.environ.items() if "ANTHROPIC" not in name}
    again = subprocess.run(
        [*COMMAND, *arguments, "--replay"],
        env={**environment, "ANTHROPIC_BASE_URL": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "samples.jsonl").read_bytes() == first


def test_feedback_shows_what_may_be_seen_until_nothing_gets_through(
    api: MessagesApi, tmp_path: Path
) -> None:
    profiles = [known_answers(ONE)[Known.POC_ONLY], solution(ONE), "never asked for"]

    def learns(body: Mapping[str, Any]) -> replies.Reply:
        return replies.text(answer(profiles[len(body["messages"]) // 2]))

    api.script("learner", learns)
    arguments = ("generate", SCENARIO, "--model", "learner", "--samples", "1")
    found = sidestep(api, *arguments, "--strategy", "feedback", "-o", str(tmp_path))
    assert found.returncode == 0, found.stderr
    (line,) = lines(tmp_path)
    assert json.loads(line["mitigation"]) == json.loads(str(solution(ONE)))
    assert len(line["requests"]) == 2
    told = api.asked()[-1]["messages"][-1]["content"][0]["text"]
    assert "mkdirat" in told
    hidden = [name for hold in ONE.hold for name in hold.hidden]
    assert not any(name in told for name in hidden)
    before = posts(api)
    again = sidestep(api, *arguments, "--strategy", "feedback", "-o", str(tmp_path), "--replay")
    assert again.returncode == 0
    assert posts(api) == before
    assert lines(tmp_path) == [line]


def test_a_model_evaluates_with_the_tool_and_then_answers(api: MessagesApi, tmp_path: Path) -> None:
    profile = json.loads(known_answers(ONE)[Known.POC_ONLY])

    def uses(body: Mapping[str, Any]) -> replies.Reply:
        turn = len(body["messages"]) // 2
        script = (
            replies.tool_use(TOOL, {"profile": profile}, thinking="does it leak?"),
            replies.tool_use("rm", {"profile": profile}),
            replies.tool_use(TOOL, {"profile": [profile, profile]}),
            replies.tool_uses([(TOOL, {"profile": profile}), (TOOL, {"profile": profile})]),
            replies.text(answer(solution(asked(body)))),
        )
        return script[turn]

    api.script("user", uses)
    found = sidestep(
        api, "generate", SCENARIO, "--model", "user", "--samples", "1",
        "--strategy", "tools", "--rounds", "2", "-o", str(tmp_path),
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    (line,) = lines(tmp_path)
    assert line["status"] == "ok"
    results = [
        block
        for message in api.asked()[-1]["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
    errors = [block["is_error"] for block in results]
    assert errors == [False, True, True, False, True]  # the last one: no evaluation is left
    assert "mkdirat" in results[0]["content"]


def test_a_batch_is_taken_up_again(api: MessagesApi, tmp_path: Path) -> None:
    arguments = ("generate", SCENARIO, "--model", SOLVES, "--samples", "3", "--batch")
    found = sidestep(api, *arguments, "-o", str(tmp_path))
    assert found.returncode == 0, found.stderr
    assert len(lines(tmp_path)) == 3
    assert posts(api) == 0  # all of them went by the batch
    assert len(api.asked("/v1/messages/batches")) == 1
    assert sidestep(api, *arguments, "-o", str(tmp_path)).returncode == 0
    assert len(api.asked("/v1/messages/batches")) == 1


def test_an_interrupted_run_loses_nothing_and_asks_for_nothing_twice(
    api: MessagesApi, tmp_path: Path
) -> None:
    served: list[str] = []

    def slow(body: Mapping[str, Any]) -> replies.Reply:
        served.append(str(body["messages"][0]["content"]))
        return replies.text(answer(solution(asked(body))), delay=0.5)

    api.script("slow", slow)
    arguments = [
        "generate",
        "--split",
        "all",
        "--model",
        "slow",
        "--samples",
        "1",
        "--at-once",
        "4",
    ]
    command = [*COMMAND, *arguments, "-o", str(tmp_path)]
    run = subprocess.Popen(
        command, env=_environment(api), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while len(served) < 6:
        time.sleep(0.02)
        assert run.poll() is None
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "waiting for what is on its way" in err
    assert "Traceback" not in err
    kept = lines(tmp_path)
    assert len(kept) == len(served) < 46
    assert "interrupted before it was asked" in out
    again = sidestep(api, *arguments, "-o", str(tmp_path))
    assert again.returncode == 0, again.stderr
    assert len(lines(tmp_path)) == 46
    assert sorted(served) == sorted(set(served))  # each prompt once


@pytest.mark.parametrize(
    ("reply", "status", "said"),
    [
        (replies.text("You should deny mkdir."), "invalid", "not JSON"),
        (replies.text("defaultAction: SCMP_ACT_ALLOW"), "invalid", "not JSON"),
        (replies.text(f"```json\n{answer(None)}\n```"), "invalid", "not JSON"),
        (replies.text(answer(None) * 2), "invalid", "not JSON"),
        (replies.text('{"x": "' + "y" * (5 << 20) + '"}'), "invalid", "characters"),
        (replies.tool_use("run_shell", {"command": "id"}), "invalid", "calls a tool"),
        (replies.text(answer(json.dumps({"a": [0] * 400_000}))), "invalid", "at most"),
        (replies.refusal("cyber"), "refused", "cyber"),
        (replies.truncated('{"explanation": "'), "truncated", "max_tokens"),
    ],
    ids=["prose", "yaml", "fence", "two", "5 MB", "a tool", "large", "refusal", "cut"],
)
def test_every_answer_is_classified_and_none_stops_the_run(
    api: MessagesApi, tmp_path: Path, reply: replies.Reply, status: str, said: str
) -> None:
    api.script("odd", lambda _: reply)
    models = ("--model", "odd", "--model", SOLVES)
    found = sidestep(api, "generate", SCENARIO, *models, "--samples", "1", "-o", str(tmp_path))
    assert found.returncode == 0, found.stderr
    odd, right = lines(tmp_path)
    assert (odd["status"], right["status"]) == (status, "ok")
    assert said in odd["why"]
    assert "\n" not in odd["why"]
    assert odd["usage"]["output_tokens"] >= 0


def _denying(name: str, action: str = "SCMP_ACT_ERRNO") -> str:
    rule = {"names": [name], "action": action}
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_denying("forbid_directories"), ""),
        (_denying("mkd\u0456r"), ""),
        (_denying("mkdir", "SCMP_ACT_MAYBE"), "SCMP_ACT_MAYBE"),
    ],
    ids=["an invented call", "a look-alike", "an invented action"],
)
def test_what_is_no_real_rule_stops_nothing(
    api: MessagesApi, tmp_path: Path, text: str, said: str
) -> None:
    """A runtime skips names that it does not know; it does not load an action like that."""
    api.script("odd", lambda _: replies.text(answer(text)))
    out = str(tmp_path)
    found = sidestep(api, "generate", SCENARIO, "--model", "odd", "--samples", "1", "-o", out)
    assert found.returncode == 0, found.stderr
    scores = sidestep(api, "score", str(tmp_path / "samples.jsonl"), "--json")
    (mine, *_) = json.loads(scores.stdout)["samples"]
    assert said in mine["why"]
    assert mine["score"] is None if said else mine["score"]["held"] is False


def test_a_wrong_key_is_one_line_and_is_not_tried_again(api: MessagesApi, tmp_path: Path) -> None:
    arguments = ("generate", "--model", SOLVES, "--samples", "5", "--at-once", "1")
    found = subprocess.run(
        [*COMMAND, *arguments, "-o", str(tmp_path)],
        env={**_environment(api), "ANTHROPIC_API_KEY": "sk-wrong-key"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "401" in found.stderr
    assert "sk-wrong-key" not in found.stderr + found.stdout
    assert posts(api) <= 1
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or b"sk-wrong-key" not in file.read_bytes()


def test_an_unknown_model_does_not_stop_the_others(api: MessagesApi, tmp_path: Path) -> None:
    models = ("--model", "no-such-model", "--model", SOLVES)
    found = sidestep(api, "generate", SCENARIO, *models, "--samples", "2", "-o", str(tmp_path))
    assert found.returncode == 3
    assert [one["status"] for one in lines(tmp_path)] == ["api_error"] * 2 + ["ok"] * 2
    assert "404" in found.stderr


def test_the_key_is_nowhere_in_what_is_kept(api: MessagesApi, tmp_path: Path) -> None:
    sidestep(api, "generate", SCENARIO, "--model", SOLVES, "--samples", "1", "-o", str(tmp_path))
    key = api.environment["ANTHROPIC_API_KEY"].encode()
    files = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert len(files) == 4  # with the lock of the store
    assert not any(key in one.read_bytes() for one in files)
