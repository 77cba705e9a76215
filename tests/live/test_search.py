"""A search finds what it was not told of, on profiles made up for it; what it finds runs again."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from attacks import library
from evaluator.cli import main
from evaluator.request import candidate_of
from evaluator.search_records import Ended, Limits, Searched, SearchVerdict
from evaluator.search_run import Memory, search, targeted

from synthetic import IO_URING, denies, denies_numbers, lets_pass_with_mark

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "mitigations" / "library"
COMMAND = [sys.executable, "-c", "from evaluator.cli import main; main()"]
OPENS = ("open", "openat", "openat2", "creat")
BOTH = ("X86_64", "X86")


def searched(profile: Path, family: str, limits: Limits, memory: Memory | None = None) -> Searched:
    instance = library.parse_reference(family)
    (found,) = search(candidate_of(str(profile)), [instance], limits, memory=memory)
    return found


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )


# What is left open, how the profile leaves it, and of which technique the way is.
Make = Callable[[Path], Path]
CLASSES: dict[str, tuple[str, Make, str]] = {
    "io_uring where the calls are blocked": (
        "create-directory",
        lambda path: denies(path / "p.json", "mkdir", "mkdirat"),
        "async-kernel",
    ),
    "io_uring for a step on the way": (
        "read-file",
        lambda path: denies(path / "p.json", *OPENS),
        "async-kernel",
    ),
    "io_uring without the call that submits": (
        "create-directory",
        lambda path: denies(path / "p.json", "mkdir", "mkdirat", "io_uring_enter", "mmap"),
        "async-kernel",
    ),
    "i386 where the architecture is not checked": (
        "create-directory",
        lambda path: denies_numbers(path / "p.bpf", 83, 258, 425, 426, 427),
        "compat-abi",
    ),
    "io_uring without a mapping": (
        "create-directory",
        lambda path: denies_numbers(path / "p.bpf", 83, 258, 39, 296, 9),
        "async-kernel",
    ),
    "any bits where 64 are compared": (
        "change-mode",
        lambda path: LIBRARY / "wide-argument-hole.json",
        "wide-argument",
    ),
    "the very bits that are let through": (
        "change-mode",
        lambda path: lets_pass_with_mark(
            path / "p.bpf", 0x1234, 15, 91, 94, 268, 306, 452, 425, 426, 427
        ),
        "wide-argument",
    ),
    "a multiplexer": (
        "open-socket",
        lambda path: denies_numbers(path / "p.bpf", 41, 53, 359, 360, 425, 426, 427),
        "multiplexer",
    ),
    "a call that an old list does not know": (
        "change-mode",
        lambda path: denies(path / "p.json", "chmod", "fchmod", "fchmodat", *IO_URING),
        "newer-syscall",
    ),
    "a call that an old list does not know, on the way": (
        "read-file",
        lambda path: denies(path / "p.json", "open", "openat", "creat", *IO_URING),
        "newer-syscall",
    ),
    "its own tracer": (
        "create-directory",
        lambda path: denies(
            path / "p.json", "mkdir", "mkdirat", action="SCMP_ACT_TRACE", arches=BOTH
        ),
        "supervisor-self",
    ),
    "its own listener": (
        "create-directory",
        lambda path: denies(
            path / "p.json", "mkdir", "mkdirat", action="SCMP_ACT_NOTIFY", arches=BOTH
        ),
        "supervisor-self",
    ),
}


@pytest.mark.parametrize("what", CLASSES)
def test_it_is_found_from_the_baseline_alone(what: str, tmp_path: Path) -> None:
    family, make, technique = CLASSES[what]
    found = searched(make(tmp_path), family, Limits(seconds=20, baseline_only=True))
    assert found.verdict is SearchVerdict.FOUND, found.evidence
    assert found.baseline == "BLOCKED"
    assert technique in [one.technique.value for one in found.finds]
    assert all(one.steps for one in found.finds)


def test_a_search_that_counts_programs_is_the_same_each_time(tmp_path: Path) -> None:
    profile = denies(tmp_path / "p.json", "mkdir", "mkdirat")
    limits = Limits(seconds=None, programs=80, seed=3, baseline_only=True)
    first, second = (searched(profile, "create-directory", limits) for _ in range(2))
    assert replace(first, seconds=0) == replace(second, seconds=0)


def test_a_profile_that_holds_yields_nothing_and_says_what_was_spent() -> None:
    found = searched(LIBRARY / "no-new-directories.json", "create-directory", Limits(programs=200))
    assert (found.verdict, found.finds, found.unsettled) == (SearchVerdict.HELD, (), ())
    assert re.fullmatch(
        r"nothing found: \d+ programs built, \d+ run, \d+ distinct routes, \d+\.\d s",
        found.evidence,
    )
    assert found.baseline == "BLOCKED"
    assert found.built >= 200
    assert found.ended is Ended.PROGRAMS


def test_what_is_not_stopped_at_all_is_open_without_search(tmp_path: Path) -> None:
    found = searched(denies(tmp_path / "p.json", "mkdir"), "delete-file", Limits())
    assert (found.verdict, found.built, found.run) == (SearchVerdict.OPEN, 1, 1)
    assert found.ended is Ended.NO_NEED


def test_what_is_remembered_is_not_run_again(tmp_path: Path) -> None:
    profile = denies(tmp_path / "p.json", "mkdir", "mkdirat")
    memory: Memory = {}
    limits = Limits(seconds=None, programs=100, baseline_only=True)
    first = searched(profile, "create-directory", limits, memory)
    known = dict(memory)
    assert len(known) == first.run - repeats(first)
    second = searched(profile, "create-directory", limits, memory)
    assert memory == known
    assert replace(second, seconds=0) == replace(first, seconds=0)


def repeats(found: Searched) -> int:
    """The shortest program is run three times more, under one name in the memory."""
    return 3 * len(found.finds)


def test_families_that_somebody_meant_to_stop(tmp_path: Path) -> None:
    every = [one.default for one in library.load_families().values()]
    meant = targeted(candidate_of(str(denies(tmp_path / "p.json", "mkdir"))), every)
    labels = {one.label for one in meant}
    assert "create-directory" in labels
    assert "delete-file" not in labels


def test_the_command_keeps_finds_that_run_again_and_goes_on(tmp_path: Path) -> None:
    profile, out = denies(tmp_path / "p.json", "mkdir", "mkdirat"), tmp_path / "out"
    arguments = ("search", profile, "create-directory", "--baseline-only", "--json", "-o", out)
    done = command(*arguments, "--most-programs", 40)
    assert done.returncode in (0, 1), done.stderr
    again = command(*arguments, "--most-programs", 300)
    assert (again.returncode, again.stdout) == (2, "")
    assert "holds a search already" in again.stderr
    tried = json.loads((out / "state.json").read_text())["tried"]
    more = command(*arguments, "--most-programs", 300, "--resume")
    assert more.returncode == 1, more.stderr
    assert tried.items() <= json.loads((out / "state.json").read_text())["tried"].items()
    document: dict[str, Any] = json.loads(more.stdout)
    assert document["schema"] == "sidestep.search/1"
    (family,) = document["families"]
    for find in family["finds"]:
        assert Path(find["file"]).is_file()
        words = shlex.split(find["replay"])
        assert words[0] == "sidestep"
        trial = json.loads(command(*words[1:], "--json").stdout)
        assert (trial["outcome"], trial["mitigated_effect"]) == ("BYPASSED", "exact")


def test_a_state_of_another_profile_is_refused_in_one_line(tmp_path: Path) -> None:
    first, second = denies(tmp_path / "a.json", "mkdir"), denies(tmp_path / "b.json", "rmdir")
    out = tmp_path / "out"
    command("search", first, "create-directory", "-o", out, "--most-programs", 5)
    done = command("search", second, "create-directory", "-o", out, "--resume")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "is of another profile" in line


def test_an_interruption_keeps_what_was_found(tmp_path: Path) -> None:
    profile = LIBRARY / "strict-allowlist.json"
    arguments = ["search", str(profile), "create-directory", "read-file", "--budget", "60"]
    running = subprocess.Popen(
        [*COMMAND, *arguments, "--json", "-o", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    state = tmp_path / "out" / "state.json"
    wait_until(lambda: state.exists() and "create-directory " in state.read_text())
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130, err
    assert err.splitlines()[-1].startswith("sidestep: interrupted")
    assert json.loads(out)["families"][0]["ended"] == "interrupted"


def wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(300):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError("it never happened")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create-directori",), "did you mean 'create-directory'?"),
        (("create-directory", "--resume"), "say with -o which directory"),
        (("create-directory", "--budget", "nan"), "nan is no number of seconds"),
        (("create-directory", "-o", ""), "an empty path"),
        (("create-directory", "-o", "README.md"), "README.md"),
        (("create-directory", "-o", "docs", "--resume"), "there is nothing to resume"),
        (("create-directory", "--most-programs", "0"), "--most-programs"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = command("search", LIBRARY / "block-mkdir.json", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert said in line


def evaluated(profile: Path, *options: str) -> dict[str, Any]:
    run = command("evaluate", profile, "--json", *options)
    assert run.returncode in (0, 1), run.stderr
    found: dict[str, Any] = json.loads(run.stdout)["candidates"][0]
    return found


def test_what_is_held_is_leaky_once_a_search_gets_through(tmp_path: Path) -> None:
    """The library has the right call, but not with the one upper half that this filter takes."""
    mark = lets_pass_with_mark(
        tmp_path / "p.bpf",
        0x1234,
        15,
        91,
        94,
        188,
        189,
        268,
        306,
        452,
        425,
        426,
        427,
        190,
        463,
        226,
        227,
        228,
    )
    options = ("--family", "change-mode")
    before = evaluated(mark, *options)["families"][0]
    after = evaluated(mark, *options, "--search", "10")
    (family,) = after["families"]
    assert before["verdict"].startswith("held")
    assert before["search"] is None
    assert family["verdict"] == "leaky"
    assert family["bypasses"] == family["search"]["found"]
    (trial,) = [one for one in after["trials"] if one["variant"] == family["bypasses"][0]]
    assert trial["outcome"] == "BYPASSED"
    assert trial["mitigated_effect"] == "exact"
    assert trial["why"].startswith("Found by search: ")
    assert trial["steps"]


def test_held_carries_the_search_that_failed_to_break_it() -> None:
    options = ("--family", "create-directory", "--search", "10")
    (family,) = evaluated(LIBRARY / "no-new-directories.json", *options)["families"]
    assert family["verdict"] == "held"
    assert family["search"]["built"] > 100
    assert not family["search"]["found"]
    assert not family["reason"].endswith(", 0 s of search")


def test_who_interrupts_the_search_keeps_the_verdicts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluator.deepen.search", interrupted)
    options = ["--family", "create-directory", "--search", "10", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(LIBRARY / "no-new-directories.json"), *options])
    assert ended.value.code == 130
    (candidate,) = json.loads(capsys.readouterr().out)["candidates"]
    (family,) = candidate["families"]
    assert family["verdict"] == "held"
    assert family["search"] is None


# ------------------------------------------------------------------- candidates of several layers


def layered(folder: Path, *layers: str, profile: str = "") -> Path:
    denied = json.loads((LIBRARY / "block-mkdir.json").read_text())
    (folder / "profile.json").write_text(profile or json.dumps(denied))
    path = folder / "layered.toml"
    path.write_text("\n".join(["[[layer]]\nkind = 'seccomp'\nfile = 'profile.json'", *layers]))
    return path


RULESET = """
[[layer]]
kind = "landlock"
abi = 1
[[layer.ruleset]]
handled_access_fs = ["make_dir"]
"""


def test_a_find_gets_past_every_layer(tmp_path: Path) -> None:
    """What the filters let through, the ruleset holds; a ruleset about something else does not."""
    limits = Limits(seconds=None, programs=150)
    alone = layered(tmp_path)
    assert searched(alone, "create-directory", limits).verdict is SearchVerdict.FOUND
    both = searched(layered(tmp_path, RULESET), "create-directory", limits)
    assert both.verdict is SearchVerdict.HELD
    assert not both.finds
    other = layered(tmp_path, RULESET.replace("make_dir", "make_fifo"))
    assert searched(other, "create-directory", limits).verdict is SearchVerdict.FOUND


def test_a_search_wants_every_layer_in_force_and_says_what_leads_it(tmp_path: Path) -> None:
    some = layered(tmp_path, "[[layer]]\nkind = 'apparmor'\nprofile = 'some'")
    done = command("search", some, "create-directory", "--budget", "1")
    assert (done.returncode, done.stdout) == (3, "")
    led, reason = done.stderr.splitlines()
    assert "not by what the other layers do (apparmor)" in led
    assert "AppArmor profile 'some'" in reason


def test_evaluate_searches_in_what_several_layers_hold(tmp_path: Path) -> None:
    done = command(
        *("evaluate", layered(tmp_path, RULESET), "--family", "create-directory"),
        *("--search", "1", "--json"),
    )
    (found,) = json.loads(done.stdout)["candidates"]
    (family,) = found["families"]
    assert family["verdict"] in ("held", "held here")
    assert family["search"]["run"] > 0
    assert any("not by what the other layers do" in one for one in found["notes"])
