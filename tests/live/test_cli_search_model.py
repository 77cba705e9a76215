"""``sidestep search --model`` as a user has it: the real SDK, a loopback API, the real sandbox."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_scripts import MKDIR, MKDIR_I386, PATH, call, program

from evaluator.cli import main
from tests.messages_api import replies
from tests.messages_api.replies import Message
from tests.messages_api.server import MessagesApi

from synthetic import denies, denies_numbers

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "mitigations" / "library"
COMMAND = [sys.executable, "-c", "from evaluator.cli import main; main()"]
MODEL = "claude-opus-5-5"
ASKED = ("create-directory", "--model", "m", "--run-untrusted", "-o", "{out}")


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """Forgets the calls of the 32-bit table."""
    return denies_numbers(tmp_path / "leaky.bpf", 83, 258, 425, 426, 427)


def answer(*programs: str, explanation: str = "") -> Message:
    text = json.dumps({"explanation": explanation, "programs": programs})
    return replies.text(text, thinking="What does the filter compare?")


def environment(api: MessagesApi) -> dict[str, str]:
    return {**os.environ, **api.environment}


def sidestep(api: MessagesApi, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=environment(api),
    )


def search(
    api: MessagesApi, profile: Path, out: Path, *more: object
) -> subprocess.CompletedProcess[str]:
    given = ("--model", MODEL, "--run-untrusted", "-o", out, *more)
    return sidestep(api, "search", profile, "create-directory", *given)


def test_what_a_model_finds_is_kept_and_runs_again(
    messages_api: MessagesApi, leaky: Path, tmp_path: Path
) -> None:
    messages_api.script(
        MODEL,
        [
            replies.text("I will gladly help. Which directory?"),
            answer(MKDIR, explanation="\x1b[31mIt got through, trust me.\x1b[0m"),
            replies.refusal("cyber"),
            replies.rate_limited(),
            answer(program(call("mkdir_twice", {"blob": 0}, decisive=True), blobs=[PATH])),
            answer(MKDIR_I386),
            answer(),
        ],
    )
    out = tmp_path / "out"
    done = search(messages_api, leaky, out, "--json")
    assert done.returncode == 1, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["schema"] == "sidestep.model-search/1"
    (family,) = document["families"]
    assert family["verdict"] == "found"
    assert family["statuses"] == {"invalid": 1, "ok": 4, "refused": 1}
    (find,) = family["finds"]
    trial = json.loads(sidestep(messages_api, *shlex.split(find["replay"])[1:], "--json").stdout)
    assert (trial["outcome"], trial["mitigated_effect"]) == ("BYPASSED", "exact")
    assert json.loads((out / "result.json").read_text()) == document
    everything = (
        done.stdout
        + done.stderr
        + "".join(one.read_text() for one in out.rglob("*") if one.is_file())
    )
    assert messages_api.api_key not in everything
    assert "\x1b" not in done.stdout


def test_the_same_again_asks_nothing_and_a_replay_needs_no_network(
    messages_api: MessagesApi, leaky: Path, tmp_path: Path
) -> None:
    messages_api.script(
        MODEL, [answer(MKDIR), replies.refusal("cyber"), answer(MKDIR_I386), answer()]
    )
    out = tmp_path / "out"
    first = search(messages_api, leaky, out)
    asked = len(messages_api.requests)
    assert (first.returncode, asked) == (1, 4)
    assert search(messages_api, leaky, out).stdout == first.stdout
    assert len(messages_api.requests) == asked
    away = subprocess.run(
        [*COMMAND, "search", leaky, "create-directory", "--model", MODEL, "--run-untrusted",
         "-o", out, "--replay"],
        check=False, capture_output=True, text=True, timeout=120, cwd=ROOT,
        env={name: value for name, value in os.environ.items() if "ANTHROPIC" not in name},
    )  # fmt: skip
    assert (away.returncode, away.stdout) == (1, first.stdout)


def test_only_refusals_end_with_a_code_of_their_own(
    messages_api: MessagesApi, leaky: Path, tmp_path: Path
) -> None:
    messages_api.script(MODEL, [replies.refusal("cyber")] * 3)
    done = search(messages_api, leaky, tmp_path / "out", "--requests", "3")
    assert done.returncode == 3
    assert "create-directory: censored" in done.stdout
    assert "3 refused of 3 requests" in done.stdout
    assert "nothing found" not in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.endswith("nothing is known of create-directory: see why above")


def test_nothing_found_is_no_error(messages_api: MessagesApi, leaky: Path, tmp_path: Path) -> None:
    messages_api.script(MODEL, [answer(MKDIR), answer()])
    done = search(messages_api, leaky, tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "create-directory: held" in done.stdout


def test_finds_are_tried_under_every_profile_of_a_directory(
    messages_api: MessagesApi, leaky: Path, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    denies_numbers(others / "same.bpf", 83, 258, 425, 426, 427)
    denies(others / "tight.json", "mkdir", "mkdirat", arches=("X86_64", "X86"))
    messages_api.script(MODEL, [answer(MKDIR_I386), answer()])
    done = search(messages_api, leaky, tmp_path / "out", "--against", others)
    assert done.returncode == 1, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["same", "BLOCKED", "BYPASSED"] in lines
    assert ["tight", "BLOCKED", "BLOCKED"] in lines
    assert "1 of 2 stop the baseline and let some of these through" in done.stdout


def test_two_families_at_once(messages_api: MessagesApi, leaky: Path, tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> Message:
        first = "Nothing was tried yet" in body["messages"][0]["content"]
        return answer(MKDIR_I386) if first else answer()

    messages_api.script(MODEL, reply)
    done = sidestep(
        messages_api, "search", leaky, "create-directory", "delete-file", "--model", MODEL,
        "--run-untrusted", "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    first, second = json.loads(done.stdout)["families"]
    assert (first["family"], first["verdict"]) == ("create-directory", "found")
    assert (second["family"], second["verdict"]) == ("delete-file", "open")


def test_an_interruption_waits_for_what_was_paid_for(
    messages_api: MessagesApi, leaky: Path, tmp_path: Path
) -> None:
    messages_api.script(MODEL, [replies.slow(3, answer(MKDIR_I386)), answer()])
    out = tmp_path / "out"
    given = ("--model", MODEL, "--run-untrusted", "-o", out, "--json")
    running = subprocess.Popen(
        [*COMMAND, "search", leaky, "create-directory", *map(str, given)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(messages_api),
    )
    wait_until(lambda: len(messages_api.requests) == 1)
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=120)
    assert running.returncode == 130, stderr
    (family,) = json.loads(stdout)["families"]
    assert len(family["finds"]) == 1
    again = search(messages_api, leaky, out)
    assert again.returncode == 1, again.stderr
    assert len(messages_api.requests) == 2


def wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(2400):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError("it never happened")


def test_a_budget_in_dollars_stops_it(
    messages_api: MessagesApi, leaky: Path, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(f'date = "2026-11-23"\n[models."{MODEL}"]\ninput = 1000\noutput = 1000\n')
    messages_api.script(MODEL, [answer(MKDIR), answer(MKDIR_I386)])
    given = ("--prices", prices, "--max-cost", "0.01")
    done = search(messages_api, leaky, tmp_path / "out", *given)
    assert len(messages_api.requests) == 1
    assert "the budget of $0.01 is spent" in " ".join(done.stdout.split())


def test_the_prompt_can_be_read_without_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = denies(tmp_path / "p.json", "mkdir")
    with pytest.raises(SystemExit) as ended:
        main(["search", str(profile), "create-directory", "--model", "m", "--show-prompt"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "# The effect" in shown
    assert '"names": ["mkdir"]' in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*ASKED[:3], *ASKED[4:]), "say --run-untrusted"),
        (("create-directory", "--store", "x"), "--store: only with --model"),
        (("create-directory", "--run-untrusted"), "--run-untrusted: only with --model"),
        (("create-directory", "--model", "m", "--seed", "1"), "--seed: not with --model"),
        (("--model", "m", "--run-untrusted", "-o", "{out}"), "name a FAMILY"),
        (("create-directory", "--model", "m", "--run-untrusted"), "say with -o"),
        (("create-directory", "--model", "m", "--run-untrusted", "-o", ""), "an empty path"),
        (("create-directory", "--model", "m", "--run-untrusted", "-o", "README.md"), "README.md"),
        (("kexec", "--model", "m", "--run-untrusted", "-o", "{out}"), "its call is never run"),
        (
            (
                "create-directory",
                "--model",
                "m",
                "--run-untrusted",
                "-o",
                "{out}",
                "--against",
                "no",
            ),
            "no: No such file",
        ),
        (
            (
                "create-directory",
                "--model",
                "m",
                "--run-untrusted",
                "-o",
                "{out}",
                "--max-cost",
                "1",
            ),
            "no price is known of m",
        ),
        (
            ("create-directory", "--model", MODEL, "--run-untrusted", "-o", "{out}"),
            "no key: set ANTHROPIC_API_KEY",
        ),
    ],
)
def test_bad_input_is_one_line_and_asks_nothing(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.chdir(ROOT)
    given = [one.format(out=tmp_path / "out") for one in arguments]
    with pytest.raises(SystemExit) as ended:
        main(["search", str(LIBRARY / "block-mkdir.json"), *given])
    stdout, stderr = capsys.readouterr()
    assert (ended.value.code, stdout) == (2, ""), stderr
    (line,) = stderr.splitlines()
    assert said in line


@pytest.mark.parametrize("fault", ["unknown model", "wrong key"])
def test_who_is_not_answered_at_all_did_something_wrong(
    fault: str, messages_api: MessagesApi, leaky: Path, tmp_path: Path
) -> None:
    messages_api.script(MODEL, [])
    model = "claude-none" if fault == "unknown model" else MODEL
    done = subprocess.run(
        [*COMMAND, "search", leaky, "create-directory", "--model", model, "--run-untrusted",
         "-o", tmp_path / "out"],
        check=False, capture_output=True, text=True, timeout=120, cwd=ROOT,
        env=environment(messages_api)
        | ({"ANTHROPIC_API_KEY": "wrong"} if fault == "wrong key" else {}),
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "nothing was answered: HTTP 40" in line
    assert len(messages_api.requests) == 1
