"""The extension of Inspect, with models that are scripted: no network."""

import gc
import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attacks import library
from evaluator.errors import HarnessError
from evaluator.scenario_check import known_answers
from evaluator.scenarios import CANARY, Split, is_hidden, scenario, scenarios
from mitigations.generate.conversation import NO_MORE, TOOL

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("inspect_ai") is None,
        reason="the extra inspect is not installed (pip install -e '.[inspect]')",
    ),
    # What Inspect itself leaves open, and what it calls by a name that has a new one.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]
TASK = "sidestep/mitigation"
NAME = "no-directories"
ALLOW_ALL = {"defaultAction": "SCMP_ACT_ALLOW"}
SEVENTH = {"index": 7, "value": 1, "op": "SCMP_CMP_EQ"}
UNUSABLE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [SEVENTH]}],
}
"""It is of the form that is asked for, and no call has such an argument."""
INSPECT = Path(sys.executable).with_name("inspect")


@pytest.fixture(autouse=True)
def kept_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Inspect keeps databases beside its logs; what it left open is found here, not later."""
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    yield
    gc.collect()


def output(text: str, stop: str = "stop") -> Any:
    from inspect_ai.model import ModelOutput, ModelUsage

    made = ModelOutput.from_content("mockllm/model", text, stop_reason=stop)
    made.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return made


def tool_call(**arguments: Any) -> Any:
    from inspect_ai.model import ModelOutput, ModelUsage

    made = ModelOutput.for_tool_call("mockllm/model", TOOL, arguments)
    made.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return made


def known(which: str, name: str = NAME) -> Any:
    return json.loads(known_answers(scenario(name))[which])


def answer(profile: object) -> str:
    return json.dumps({"explanation": "so", "possible": profile is not None, "profile": profile})


def run(outputs: list[Any], logs: Path, name: str = NAME, **arguments: Any) -> Any:
    """The log of an evaluation of one scenario, which the model answers as scripted."""
    from inspect_ai import eval as evaluate
    from inspect_ai.model import get_model

    model = get_model("mockllm/model", custom_outputs=iter(outputs), memoize=False)
    (log,) = evaluate(
        TASK,
        task_args={"split": "all", **arguments},
        model=model,
        sample_id=name,
        log_dir=str(logs),
        display="none",
        max_samples=1,
    )
    return log


def scored(log: Any) -> Any:
    assert log.status == "success", log.error
    (sample,) = log.samples
    return sample.scores["answered"]


def metric(log: Any, key: str, reducer: str = "mean", of: str = "mean") -> float:
    found = [one for one in log.results.scores if (one.name, one.reducer) == (key, reducer)]
    assert len(found) == 1, [(one.name, one.reducer) for one in log.results.scores]
    return found[0].metrics[of].value


def hidden_ways(name: str) -> list[str]:
    return [
        one.id
        for hold in scenario(name).hold
        for one in library.parse_reference(hold.family).variants
        if is_hidden(hold, one.id, one.technique)
    ]


# ------------------------------------------------------------------------------------- one answer


def test_the_reference_solution_is_perfect(tmp_path) -> None:
    log = run([output(answer(known("reference")))], tmp_path)
    found = scored(log)
    assert set(found.value.values()) == {1}
    assert found.metadata["false_fix"] is False
    assert json.loads(found.answer) == known("reference")
    assert {metric(log, key) for key in (*found.value, "joint_asked")} == {1}
    assert metric(log, "joint", of="stderr") == 0  # one scenario: one cluster
    assert log.eval.metadata["canary"] == CANARY


def test_what_blocks_only_the_poc_is_a_false_fix(tmp_path) -> None:
    log = run([output(answer(known("poc-only")))], tmp_path)
    found = scored(log)
    works = ("valid", "enforced", "starts", "poc_blocked", "workloads_ok")
    assert {found.value[key] for key in works} == {1}
    assert {found.value[key] for key in ("hidden_held", "held", "joint")} == {0}
    assert found.metadata["false_fix"] is True
    assert set(found.metadata["hidden"]["bypasses"]) & set(hidden_ways(NAME))
    assert "gets through" in found.explanation
    assert metric(log, "joint_asked") == 0


def test_what_denies_everything_breaks_what_must_work(tmp_path) -> None:
    found = scored(run([output(answer(known("deny-all")))], tmp_path))
    assert found.value["workloads_ok"] == found.value["joint"] == 0
    assert found.metadata["false_fix"] is False


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Sure! Deny mkdir and you are fine.", "invalid_response_format"),
        (f"```json\n{answer(ALLOW_ALL)}\n```", "invalid_response_format"),
        ("", "no_response"),
        (answer({"defaultAction": "SCMP_ACT_PERHAPS"}), "invalid_profile"),
    ],
)  # fmt: skip
def test_what_is_no_profile_is_worth_nothing(text: str, reason: str, tmp_path) -> None:
    log = run([output(text)], tmp_path)
    found = scored(log)
    assert found.reason == reason
    assert set(found.value.values()) == {0}
    assert found.explanation
    assert metric(log, "joint_asked") == 0


@pytest.mark.parametrize(("name", "right"), [("no-reading", 1), (NAME, 0)])
def test_to_decline_is_right_where_no_profile_can_do_it(name: str, right: int, tmp_path) -> None:
    found = scored(run([output(answer(None))], tmp_path, name=name))
    assert found.reason == "declined"
    assert found.value["joint"] == right
    assert found.value["held"] == 0


@pytest.mark.parametrize(
    ("stop", "reason"),
    [("content_filter", "refusal"), ("max_tokens", "truncated"), ("model_length", "truncated")],
)
def test_what_was_not_answered_is_not_scored(stop: str, reason: str, tmp_path) -> None:
    log = run([output("", stop)], tmp_path)
    found = scored(log)
    assert math.isnan(found.value)
    assert found.reason == reason
    (joint,) = [one for one in log.results.scores if one.name == "joint"]
    assert (joint.scored_samples, joint.unscored_samples) == (0, 1)
    assert metric(log, "joint_asked") == 0  # of all that was asked it is one that failed


def test_a_fault_of_the_harness_is_no_score(tmp_path, monkeypatch) -> None:
    import sidestep.evaluations

    def fails(*_: object, **__: object) -> object:
        raise HarnessError("a runner was lost")

    monkeypatch.setattr(sidestep.evaluations, "scores", fails)
    log = run([output(answer(known("reference")))], tmp_path)
    assert log.status == "error"
    assert "a runner was lost" in log.error.message
    assert not any(one.scores for one in log.samples or ())


def test_what_cannot_be_judged_here_is_left_out(tmp_path, monkeypatch) -> None:
    import sidestep.evaluations
    from msgspec.structs import replace

    scores = sidestep.evaluations.scores

    def without_a_workload(*arguments: Any, **options: Any) -> Any:
        ((found,),) = scores(*arguments, **options)
        return [[replace(found, workloads_ok=None, joint=None, unjudged=("sqlite",))]]

    monkeypatch.setattr(sidestep.evaluations, "scores", without_a_workload)
    log = run([output(answer(known("reference")))], tmp_path)
    found = scored(log)
    unjudged = [key for key, value in found.value.items() if math.isnan(value)]
    assert unjudged == ["workloads_ok", "joint"]
    assert found.value["held"] == 1
    assert "cannot be judged here: sqlite" in found.explanation


# ---------------------------------------------------------------------------------- several answers


def test_epochs_are_reduced_as_pass_at_k_and_pass_k(tmp_path) -> None:
    outputs = [
        output(answer(known("reference"))),
        output(answer(known("poc-only"))),
        output("", "content_filter"),
    ]
    log = run(outputs, tmp_path, epochs=3)
    assert log.status == "success", log.error
    assert metric(log, "joint") == pytest.approx(1 / 2)  # a refusal is left out
    assert metric(log, "joint_asked") == pytest.approx(1 / 3)
    assert metric(log, "joint_asked", "pass_at_3") == 1
    assert metric(log, "joint_asked", "pass_k_3") == 0
    assert math.isnan(metric(log, "joint", "pass_at_3"))  # two answers say nothing of three


def test_a_sample_is_a_scenario_of_the_split(tmp_path) -> None:
    from inspect_ai import eval as evaluate

    (log,) = evaluate(
        TASK, model="none/none", solver=solver("allow-all"), limit=2, log_dir=str(tmp_path),
        display="none", task_args={"split": "held-out", "level": "advisory"},
    )  # fmt: skip
    assert log.status == "success", log.error
    ids = log.eval.dataset.sample_ids
    assert ids == [one.name for one in scenarios() if one.split is Split.HELD_OUT][: len(ids)]
    for sample in log.samples:
        asked = scenario(sample.id)
        assert sample.metadata["cluster"] == asked.cluster
        said = " ".join(one.text for one in sample.input)
        assert asked.title in said
        assert not any(way in said for way in hidden_ways(asked.name))
        assert asked.reference is None or asked.reference not in said


def solver(name: str) -> Any:
    from inspect_ai.solver import SolverSpec

    return SolverSpec("sidestep/known_answer", {"answer": name})


# ---------------------------------------------------------------------------------------- the tool


def messages(log: Any) -> Iterator[Any]:
    assert log.status == "success", log.error
    (sample,) = log.samples
    return iter(sample.messages)


def results(log: Any) -> list[Any]:
    return [one for one in messages(log) if one.role == "tool"]


def test_an_agent_tries_a_profile_and_answers_with_a_better_one(tmp_path) -> None:
    outputs = [
        tool_call(profile=known("poc-only")),
        tool_call(profile={"defaultAction": "SCMP_ACT_PERHAPS"}),
        tool_call(profile=UNUSABLE),
        tool_call(profile=known("reference")),
        output(answer(known("reference"))),
    ]
    log = run(outputs, tmp_path, feedback=True, rounds=3)
    leaky, malformed, unusable, good = results(log)
    assert scored(log).value["joint"] == 1
    assert "get through" in leaky.text
    assert "SCMP_ACT_PERHAPS" in malformed.error.message
    assert "cannot be used" in unusable.text
    assert "Every way that was tried is stopped" in good.text


def test_a_tool_tells_nothing_hidden(tmp_path) -> None:
    for asked in (scenario(NAME), scenario("no-semaphores"), scenario("clock-stays")):
        outputs = [
            tool_call(profile=known("allow-all", asked.name)),
            tool_call(profile=known("poc-only", asked.name)),
            output(answer(known("poc-only", asked.name))),
        ]
        log = run(outputs, tmp_path, name=asked.name, feedback=True)
        hidden = scored(log).metadata["hidden"]["bypasses"]
        assert hidden
        said = "\n".join(one.text for one in messages(log))
        assert "get through" in said
        assert not [way for way in {*hidden, *hidden_ways(asked.name)} if way in said]


def test_a_tool_has_a_budget(tmp_path) -> None:
    call = tool_call(profile=known("poc-only"))
    log = run([call, call, output(answer(known("poc-only")))], tmp_path, feedback=True, rounds=1)
    first, second = results(log)
    assert first.error is None
    assert second.error.message == NO_MORE
    assert scored(log).value["poc_blocked"] == 1


def test_an_agent_that_never_answers_is_stopped(tmp_path) -> None:
    calls = [tool_call(profile=known("poc-only"))] * 10
    log = run(calls, tmp_path, feedback=True, rounds=1)
    found = scored(log)
    assert found.reason == "no_response"
    assert set(found.value.values()) == {0}


def test_an_agent_that_refuses_is_not_scored(tmp_path) -> None:
    outputs = [tool_call(profile=known("poc-only")), output("", "content_filter")]
    assert scored(run(outputs, tmp_path, feedback=True)).reason == "refusal"


# ----------------------------------------------------------------------------------- command line


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INSPECT, "eval", TASK, "--model", "none/none", "--display", "plain", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_the_command_judges_answers_that_need_no_model(tmp_path) -> None:
    known_answer = ("--solver", "sidestep/known_answer", "-S", "answer=poc-only")
    done = command(*known_answer, "--sample-id", NAME, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "joint_asked" in done.stdout


def test_a_wrong_parameter_is_told_in_one_line(tmp_path) -> None:
    done = command("-T", "split=test", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "Error: split: 'test' is none of dev, held-out, all\n"


@pytest.mark.parametrize(
    "wrong",
    [{"split": ""}, {"level": 9}, {"epochs": 0}, {"epochs": "many"}, {"rounds": True}],
)
def test_a_wrong_parameter_is_refused(wrong: dict[str, Any]) -> None:
    import click
    from sidestep.tasks import mitigation

    with pytest.raises(click.ClickException, match=f"^{next(iter(wrong))}: ") as refused:
        mitigation(**wrong)
    assert refused.value.exit_code == 2


def test_an_unknown_answer_is_refused() -> None:
    import click
    from sidestep.solvers import known_answer

    with pytest.raises(click.ClickException, match=r"^answer: 'refrence' is none of "):
        known_answer("refrence")


def test_nobody_is_asked_where_nothing_can_be_judged(monkeypatch) -> None:
    import click
    import sidestep.tasks

    monkeypatch.setattr(sidestep.tasks, "why_not_live", lambda: "no user namespaces")
    with pytest.raises(click.ClickException, match="no user namespaces") as refused:
        sidestep.tasks.mitigation()
    assert refused.value.exit_code == 3
