"""The command ``sidestep report``: every form, every place, and one line where it cannot."""

import ctypes
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import boards

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "data" / "results" / "sample.json"
PROGRAM = [sys.executable, "-c", "from evaluator.cli import main; main()", "report"]


def report(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *(str(one) for one in arguments)]
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("html", "<!DOCTYPE html>\n"),
        ("markdown", "## sidestep: block-mkdir leaks, "),
        ("csv", "candidate,family,verdict,"),
        ("json", '{"schema": "sidestep.results/1"'),
        ("table", "suite 2026.11, "),
    ],
)
def test_every_form_is_printed(form: str, start: str) -> None:
    done = report(SAMPLE, "--format", form)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(start)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("html", "report.html"),
        ("markdown", "report.md"),
        ("csv", "summary.csv"),
        ("json", "run.json"),
    ],
)
def test_a_named_form_goes_into_a_file_or_a_directory(form: str, name: str, tmp_path: Path) -> None:
    assert (
        report(SAMPLE, "--format", form, "-o", tmp_path).stdout == f"written to {tmp_path / name}\n"
    )
    assert report(SAMPLE, "--format", form, "-o", tmp_path / "x").returncode == 0
    assert (tmp_path / "x").read_bytes() == (tmp_path / name).read_bytes()
    printed = report(SAMPLE, "--format", form, "-o", "-")
    assert printed.stdout == (tmp_path / "x").read_text()


@pytest.mark.parametrize("name", ["x.html", "x.md", "x.csv", "x.json", "x.parquet"])
def test_a_suffix_names_the_form(name: str, tmp_path: Path) -> None:
    done = report(SAMPLE, "-o", tmp_path / name)
    assert done.stdout.endswith(f"written to {tmp_path / name}\n")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_suffix_of_no_form_makes_no_directory(tmp_path: Path) -> None:
    done = report(SAMPLE, "-o", tmp_path / "x.bogus")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "x.bogus: no form has this suffix: .json, .parquet, .csv, .html, .md; " in done.stderr
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        assert report(SAMPLE, "-o", f"{tmp_path}/x.d/").returncode == 0
    assert report(SAMPLE, "-o", tmp_path / "x.d").returncode == 0
    assert len(list((tmp_path / "x.d").iterdir())) == 4


def test_every_stored_form_gives_the_same_page(tmp_path: Path) -> None:
    report(SAMPLE, "-o", tmp_path / "all")
    pages = {
        report(path, "--format", "html").stdout
        for path in (SAMPLE, tmp_path / "all", tmp_path / "all" / "results.parquet")
    }
    assert len(pages) == 1
    again = report(tmp_path / "all", "-o", tmp_path / "all")
    assert again.returncode == 0


def test_what_ends_in_a_slash_is_a_directory(tmp_path: Path) -> None:
    assert report(SAMPLE, "-o", f"{tmp_path}/x.html/").returncode == 0
    assert (tmp_path / "x.html" / "run.json").is_file()


# --------------------------------------------------------------------------------------- scores


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(boards.board()))
    return path


def test_scores_make_the_leaderboard(stored: Path, tmp_path: Path) -> None:
    page = tmp_path / "x.html"
    assert report(stored, "-o", page).returncode == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert report(stored, "-o", tmp_path / "all").stdout == f"written to {tmp_path / 'all'}\n"
    written = {one.name: one.read_text() for one in (tmp_path / "all").iterdir()}
    assert written["leaderboard.html"] == page.read_text()
    assert json.loads(written["scores.json"]) == json.loads(stored.read_text())
    assert len(written) == 2
    # A directory with them is as good as the file.
    assert report(tmp_path / "all", "--format", "html").stdout == page.read_text()
    assert json.loads(report(stored, "--json").stdout) == json.loads(stored.read_text())
    assert report(stored, "--format", "json", "-o", tmp_path / "y").returncode == 0
    assert (tmp_path / "y").read_text() == written["scores.json"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "add -o leaderboard.html, or --format html or json"),
        (("--format", "csv"), "of scores only html and json can be made"),
        (("-o", "x.bogus"), "no form has this suffix: .html, .json; for a directory end it with /"),
        (("-o", "scores.json"), "the output would overwrite an input"),
        (("-o", "."), "the output would overwrite an input"),
    ],
)
def test_what_is_not_made_of_scores(stored: Path, arguments: tuple[str, ...], said: str) -> None:
    before = stored.read_bytes()
    options = [
        stored.parent / one if one in ("x.bogus", "scores.json", ".") else one for one in arguments
    ]
    done = report(stored, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert [one.name for one in stored.parent.iterdir()] == ["scores.json"]
    assert stored.read_bytes() == before


def test_scores_that_are_wrong(stored: Path) -> None:
    stored.write_text(json.dumps({**boards.board(), "rows": 7}))
    done = report(stored, "--format", "html")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"sidestep: {stored}: ")


def test_several_runs_make_an_index(tmp_path: Path) -> None:
    older = json.loads(SAMPLE.read_text()) | {"started": "2026-01-01T00:00:00+00:00"}
    (tmp_path / "older.json").write_text(json.dumps(older))
    done = report(SAMPLE, tmp_path / "older.json", "-o", tmp_path / "out")
    assert (done.stdout, done.stderr) == (f"written to {tmp_path}/out/index.html (2 runs)\n", "")
    assert len(list((tmp_path / "out").iterdir())) == 3


def wrong(tmp_path: Path) -> dict[str, tuple[list[object], str]]:
    (tmp_path / "damaged.json").write_bytes(SAMPLE.read_bytes()[:5000])
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1" + b"\0" * 100)
    newer = json.loads(SAMPLE.read_text()) | {"schema": "sidestep.results/9"}
    (tmp_path / "newer.json").write_text(json.dumps(newer))
    (tmp_path / "copy.json").write_bytes(SAMPLE.read_bytes())
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    return {
        "damaged": ([tmp_path / "damaged.json"], "damaged.json: not JSON"),
        "damaged parquet": ([tmp_path / "damaged.parquet"], "not a readable parquet file"),
        "newer": ([tmp_path / "newer.json"], "another version of sidestep wrote it"),
        "missing": ([tmp_path / "none"], "No such file or directory"),
        "empty": ([tmp_path / "empty"], "neither run.json nor results.parquet"),
        "over itself": (
            [tmp_path / "copy.json", "-o", tmp_path / "copy.json"],
            "overwrite an input",
        ),
        "full": ([SAMPLE, "--format", "csv", "-o", "/dev/full"], "not a regular file"),
        "no place": ([SAMPLE, "-o", "/proc/none/x"], "cannot write"),
        "no directory": ([SAMPLE, "-o", tmp_path / "file" / "x.md"], "cannot write"),
        "one of several": ([SAMPLE, tmp_path / "damaged.json", "-o", tmp_path / "h"], "not JSON"),
        "several to stdout": ([SAMPLE, SAMPLE], "add -o DIRECTORY"),
        "several as csv": ([SAMPLE, SAMPLE, "--format", "csv", "-o", "x"], "only html"),
        "several into a file": ([SAMPLE, SAMPLE, "-o", tmp_path / "file"], "cannot write"),
        "two minds": ([SAMPLE, "--json", "--format", "csv"], "give one of them"),
        "nothing to print": ([SAMPLE, "-o", "-"], "add --format"),
        "no path": ([SAMPLE, "-o", ""], "an empty path"),
    }


WRONG = (
    "damaged", "damaged parquet", "newer", "missing", "empty", "over itself", "full", "no place",
    "no directory", "one of several", "several to stdout", "several as csv", "several into a file",
    "two minds", "nothing to print", "no path",
)  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line_and_writes_nothing(name: str, tmp_path: Path) -> None:
    arguments, said = wrong(tmp_path)[name]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = report(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_disk_that_fills_up_keeps_the_good_files(tmp_path: Path) -> None:
    """The size of a file is limited: the page fails where a full disk would make it fail."""
    good = tmp_path / "index.html"
    good.write_text("good")
    other = json.loads(SAMPLE.read_text()) | {"started": "2026-01-01T00:00:00+00:00"}
    (tmp_path / "older.json").write_text(json.dumps(other))

    def limited() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = report(SAMPLE, tmp_path / "older.json", "-o", tmp_path, preexec_fn=limited)
    assert done.returncode == 2
    assert done.stderr == f"sidestep: {tmp_path}: cannot write: File too large\n"
    assert good.read_text() == "good"
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "older.json"}
    page = tmp_path / "new" / "deep" / "x.html"
    done = report(SAMPLE, "-o", page, preexec_fn=limited)
    assert done.stderr == f"sidestep: {page}: cannot write: File too large\n"
    report(SAMPLE, "-o", tmp_path / "new" / "all", preexec_fn=limited)
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "older.json"}


def test_what_is_not_written_by_this_version_replaces_nothing(tmp_path: Path) -> None:
    raw = json.loads(SAMPLE.read_text())
    for number, family in enumerate(raw["candidates"][0]["families"]):
        raw["candidates"][0]["families"][number] = family | {"verdict": "bogus"}
    (tmp_path / "bogus.json").write_text(json.dumps(raw))
    good = tmp_path / "good"
    report(SAMPLE, "-o", good)
    before = {path: path.read_bytes() for path in good.iterdir()}
    for more in ([], ["--format", "html"], ["--format", "markdown"]):
        done = report(tmp_path / "bogus.json", "-o", good, *more)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "bogus.json: candidates[0].families[0].verdict: 'bogus' is none of" in done.stderr
        assert {path: path.read_bytes() for path in good.iterdir()} == before


def test_an_invalid_candidate_needs_no_reason(tmp_path: Path) -> None:
    raw = json.loads(SAMPLE.read_text())
    raw["candidates"][0] |= {"valid": False, "errors": []}
    (tmp_path / "x.json").write_text(json.dumps(raw))
    done = report(tmp_path / "x.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "invalid: no reason was recorded" in done.stdout


def _without_override() -> None:
    """Root obeys modes as well, after the next exec: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH."""
    if os.geteuid() == 0:
        for capability in (1, 2):
            assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP


@pytest.mark.parametrize(
    "arguments",
    [
        "report {}/x",
        "report {}",
        "report {sample} -o {}/x.html",
        "report {sample} --format csv -o {}/x",
        "report {sample} {}/x -o {}/../h",
        "diff {}/a.json {}/b.json",
        "diff {sample} {}/b",
        "harden {}/x.json",
        "explain {}/x.json mkdir",
        "explain {}/x.json#a mkdir",
        "workloads run shell-basics --under {}/x.json",
        "workloads run shell-basics --under={}/x.json",
    ],
)
def test_a_directory_that_cannot_be_searched_is_one_line(arguments: str, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    places = arguments.replace("{}", str(locked)).format(sample=SAMPLE)
    command = [*PROGRAM[:-1], *places.split()]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False,
        preexec_fn=_without_override,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"sidestep: {locked}")
    assert done.stderr.endswith("Permission denied\n")


def test_only_what_the_user_named_is_the_users_fault() -> None:
    from evaluator.cli import is_named

    assert is_named("a/b/run.json", ["report", "./a/b/"])
    assert is_named("/x/y", ["--under=/x/y"])
    assert is_named("/x/y.yaml", ["/x/y.yaml#deployment/web"])
    assert not is_named("/proc/self/setgroups", ["report", "", "a", "#b", "--under="])
    assert not is_named("/x/yy", ["/x/y"])


def test_damaged_results_are_named_by_diff(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(SAMPLE.read_text()[:5000])
    done = subprocess.run(
        [*PROGRAM[:-1], "diff", str(SAMPLE), str(tmp_path / "t.json")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"sidestep: {tmp_path}/t.json: not JSON: ")


def test_a_short_write_to_stdout_is_seen_without_a_buffer(tmp_path: Path) -> None:
    """A file of limited size takes the first part, as a disk does that is full."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    with (tmp_path / "f").open("w") as stream:
        done = subprocess.run(
            [*PROGRAM, str(SAMPLE), "--format", "html"], cwd=ROOT, stdout=stream, check=False,
            stderr=subprocess.PIPE, text=True, preexec_fn=limited,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    assert (tmp_path / "f").stat().st_size == 20_000
    assert done.stderr == "sidestep: cannot write to stdout: File too large\n"
    assert done.returncode == 2


def test_stdout_that_is_full_is_one_line() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*PROGRAM, str(SAMPLE), "--format", "html"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
