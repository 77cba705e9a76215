"""The pytest plugin and the documents that the command prints; the command is made up here."""

import ast
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from reports.check_schema import CheckDocument, Item
from reports.check_text import way_lines

from checks import EVERYTHING, HOSTILE, ITEMS, LEAKY, RING, WAIVED, document, item

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "integrations" / "pytest" / "pytest_sidestep.py"
COMMAND = """#!{python}
import json, os, pathlib, sys, time
here = pathlib.Path({here!r})
arguments = sys.argv[1:]
with open(here / "calls", "a") as calls:
    calls.write(json.dumps(arguments) + chr(10))
time.sleep(float(os.environ.get("FAKE_SLEEP", "0")))
if arguments[0] == "evaluate":
    sys.stdout.write((here / "evaluate.json").read_text())
    sys.exit(1)
if arguments[0] == "workloads":
    call = dict(call="clone", abi="x86_64", answer="EPERM", decisive=False)
    one = dict(workload="shell-basics", works=True, outcome="works", reason=None, needs=[])
    two = dict(workload="nginx", works=False, outcome="broken", reason="EPERM", needs=[call])
    print(json.dumps(dict(workloads=[one if arguments[2] == "shell-basics" else two])))
    sys.exit(0)
found = json.loads((here / "check.json").read_text())
if "--profile" in arguments:
    name = arguments[arguments.index("--profile") + 1]
    found["items"] = [one for one in found["items"] if one["profile"] == name]
statuses = {{one["status"] for one in found["items"]}}
found["exit_code"] = 3 if "error" in statuses else int("fail" in statuses)
if (here / "exit_code").exists():
    found["exit_code"] = int((here / "exit_code").read_text())
if "--list" in arguments:
    found["exit_code"] = 0
    hidden = ("baseline", "not listed")
    found["items"] = [one for one in found["items"] if one["kind"] not in hidden]
    for one in found["items"]:
        one |= dict(status="listed", says="", message="", detail=[], ways=[])
sys.stdout.write(json.dumps(found))
sys.exit(found["exit_code"])
"""

pytestmark = pytest.mark.slow
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """pytest in a process of its own, with the plugin from this tree and none that is installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(PLUGIN.parent))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(*arguments: str) -> pytest.RunResult:
        strict = ("--strict-markers", "--strict-config", "-W", "error", "-rA")
        return pytester.runpytest_subprocess("-p", "pytest_sidestep", *strict, *arguments)

    return run


@pytest.fixture
def says(pytester: pytest.Pytester) -> Callable[[CheckDocument], str]:
    """Makes a library of which a command of our own says this; the option that names it."""

    def says(found: CheckDocument) -> str:
        command = pytester.path / "fake" / "sidestep"
        command.parent.mkdir(exist_ok=True)
        command.write_text(COMMAND.format(python=sys.executable, here=str(command.parent)))
        command.chmod(0o755)
        (command.parent / "check.json").write_text(json.dumps(msgspec.to_builtins(found)))
        (pytester.path / "sidestep.toml").write_text("")
        return f"--sidestep-command={command}"

    return says


def calls(pytester: pytest.Pytester) -> list[list[str]]:
    lines = (pytester.path / "fake" / "calls").read_text().splitlines()
    return [json.loads(line) for line in lines]


def profiles_run(pytester: pytest.Pytester) -> list[str]:
    return sorted(one[one.index("--profile") + 1] for one in calls(pytester) if "--profile" in one)


def worse(profile: str, subject: str, says: str, status: str = "fail", **more: object) -> Item:
    """An item that is not listed, as the command makes them of a baseline."""
    name = f"{profile}::{says} {subject}"
    return item(profile, subject, status, says, kind="baseline", id=name, **more)


def test_it_imports_the_standard_library_and_pytest_alone() -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(PLUGIN.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported - sys.stdlib_module_names == {"pytest"}


class TestWithoutALibrary:
    def test_it_does_nothing(self, pytester: pytest.Pytester, run: Run) -> None:
        pytester.makepyfile("def test_one(): pass")
        run().assert_outcomes(passed=1)

    @pytest.mark.parametrize(
        "given", ["command=/nonexistent", "simulate", "jobs=2", "timeout=5", "baseline=old"]
    )
    def test_an_option_that_has_no_effect_is_an_error(
        self, pytester: pytest.Pytester, run: Run, given: str
    ) -> None:
        pytester.makepyfile("def test_one(): pass")
        result = run(f"--sidestep-{given}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        option = given.partition("=")[0]
        result.stderr.fnmatch_lines([f"ERROR: sidestep: --sidestep-{option}: there is no*"])

    def test_with_xdist_as_well(self, pytester: pytest.Pytester, run: Run) -> None:
        pytester.makepyfile("def test_one(): pass")
        result = run("-p", "xdist.plugin", "-n2", "--sidestep-simulate")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: sidestep: --sidestep-simulate: there is no*"])
        assert "INTERNALERROR" not in result.stdout.str()

    def test_a_baseline_is_not_for_the_fixture(self, pytester: pytest.Pytester, run: Run) -> None:
        pytester.makepyfile("def test_one(sidestep): pass")
        run("--sidestep-jobs=2").assert_outcomes(passed=1)
        assert run("--sidestep-baseline=old").ret == pytest.ExitCode.USAGE_ERROR

    def test_nothing_is_left_behind(
        self, pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        temporary = pytester.mkdir("temporary")
        monkeypatch.setenv("TMPDIR", str(temporary))
        pytester.makepyfile("def test_one(): pass")
        run()
        assert not list(temporary.glob("pytest-sidestep-*"))

    def test_a_library_below_the_root_is_nobodys_business(
        self, pytester: pytest.Pytester, run: Run
    ) -> None:
        pytester.mkdir("examples").joinpath("sidestep.toml").write_text("not even TOML")
        pytester.makepyfile("def test_one(): pass")
        run().assert_outcomes(passed=1)

    def test_a_library_that_is_named_has_to_exist(self, run: Run) -> None:
        result = run("--sidestep-library=nowhere")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: sidestep: no such file: *nowhere"])


class TestItems:
    def test_one_for_each_expectation(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        found = msgspec.structs.replace(
            EVERYTHING, items=tuple(one for one in ITEMS if one.kind != "baseline")
        )
        result = run(says(found))
        result.assert_outcomes(passed=3, failed=4, errors=1)
        result.stdout.fnmatch_lines_random(
            [
                "PASSED sidestep.toml::block-mkdir.json::profile*",
                "FAILED sidestep.toml::block-mkdir.json::create-directory*",
                "FAILED sidestep.toml::block-mkdir.json::static-entry*",
                "PASSED sidestep.toml::block-mkdir.json::create-file*",
                "FAILED sidestep.toml::open.json::send-signal*",
                "ERROR sidestep.toml::open.json::mount*",
                "FAILED sidestep.toml::open.json::create-file x86_64:creat*",
            ]
        )
        assert profiles_run(pytester) == ["block-mkdir.json", "open.json", "quiet.json"]

    def test_a_failure_says_what_to_do(
        self, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        result = run(says(document(LEAKY)))
        text = result.stdout.str()
        for told in (LEAKY.message, *LEAKY.detail, *way_lines(RING)):
            assert told in text
        assert "Traceback" not in text
        assert "pytest_sidestep.py" not in text.split("FAILURES")[1]

    def test_the_harness_is_an_error_with_its_text(
        self, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        result = run(says(document(item("p.json", "mount", "error", "harness", message="it died"))))
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["mount: it died"])

    @pytest.mark.parametrize("status", ["listed", "", "of a later version"])
    def test_a_status_that_is_no_verdict_is_an_error(
        self, run: Run, says: Callable[[CheckDocument], str], status: str
    ) -> None:
        run(says(document(item("p.json", "mount", status, "")))).assert_outcomes(errors=1)

    def test_what_a_prediction_cannot_tell_is_skipped(
        self, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        option = says(document(item("p.json", "x", "listed", ""), simulated=True))
        run(option, "--sidestep-simulate").assert_outcomes(skipped=1)

    def test_what_is_accepted_passes_with_its_reason(
        self, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        way = msgspec.structs.replace(RING, waived=WAIVED)
        result = run(says(document(item("p.json", "x", "waived", "leaky", ways=(way,)))))
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines([f"  waiver: accepted by {WAIVED.owner} until*"])

    def test_a_remark_is_a_warning(self, run: Run, says: Callable[[CheckDocument], str]) -> None:
        option = says(document(item("p.json", "x", "warn", "newly-known")))
        result = run(option, "-W", "default::pytest.PytestWarning")
        result.assert_outcomes(passed=1, warnings=1)
        result.stdout.fnmatch_lines(["*SidestepWarning: x: must be held and is newly-known"])

    def test_an_item_that_the_run_does_not_speak_of_is_an_error(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        option = says(document(item("p.json", "x", "pass", "held")))
        command = pytester.path / "fake" / "sidestep"
        command.write_text(
            command.read_text().replace('if "--list" in', 'if "--list" not in arguments:\n'
            '    found["items"] = []\nif "--list" in', 1)
        )  # fmt: skip
        run(option).assert_outcomes(errors=1)

    def test_node_ids_select(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        profile = "sub/p.json"
        option = says(
            document(
                item(profile, "change-mode[bits=04000]", "pass", "held"),
                item(profile, "create-file@/data", "pass", "held"),
            )
        )
        run(option, f"sidestep.toml::{profile}::change-mode[bits=04000]").assert_outcomes(passed=1)
        run(option, "-k", "create-file").assert_outcomes(passed=1, deselected=1)
        run(option, f"sidestep.toml::{profile}").assert_outcomes(passed=2)

    def test_collecting_runs_nothing(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        run(says(EVERYTHING), "--collect-only", "-q").stdout.fnmatch_lines(
            ["sidestep.toml::block-mkdir.json::create-directory"]
        )
        assert [one[2] for one in calls(pytester)] == ["--list"]

    def test_hostile_text_is_text(self, run: Run, says: Callable[[CheckDocument], str]) -> None:
        names = [text for text in HOSTILE if text.strip() and len(text) < 200]
        ways = tuple(msgspec.structs.replace(RING, call=text, route=text) for text in names)
        items = [
            item("p.json", f"{n} {name}", "fail", "leaky", ways=ways)
            for n, name in enumerate(names)
        ]
        result = run(says(document(*items)))
        result.assert_outcomes(failed=len(names))
        text = result.stdout.str()
        assert not {"\x00", "\x1b", "\x07", "\u202e", "\u2066", "\x85"} & set(text)

    def test_options_reach_the_command(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        option = says(document(item("p.json", "x", "pass", "held")))
        run(option, "--sidestep-jobs=3", "--sidestep-baseline=old", "--sidestep-simulate")
        _, made = calls(pytester)
        assert made == [
            "check", str(pytester.path / "sidestep.toml"), "--jobs", "3",
            "--baseline", str(pytester.path / "old"), "--simulate", "--format", "json",
        ]  # fmt: skip

    @pytest.mark.parametrize("form", ["{}", "{}::node"])
    @pytest.mark.parametrize("option", ["baseline", "library", "command"])
    def test_a_value_that_pytest_takes_for_a_path_is_an_error(
        self, pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch, option: str,
        form: str, tmp_path_factory: pytest.TempPathFactory,
    ) -> None:  # fmt: skip
        pytester.makepyfile("def test_one(): pass")
        value = form.format(tmp_path_factory.mktemp("elsewhere"))
        words = (f"--sidestep-{option}", value)
        told = f"ERROR: sidestep: * write --sidestep-{option}={value}"
        result = run(*words)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([told])
        monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(words))
        result = run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([told])


class TestWhatIsNotListed:
    BASELINE = "--sidestep-baseline=old"

    @pytest.mark.parametrize("says_what", ["newly-opened", "newly-broken", "newly-unenforced"])
    def test_what_is_worse_than_in_a_baseline_fails(
        self, run: Run, says: Callable[[CheckDocument], str], says_what: str
    ) -> None:
        found = document(
            item("p.json", "profile", "pass", "", kind="profile"),
            item("p.json", "x", "pass", "held"),
            worse("p.json", "other", says_what),
            item("q.json", "profile", "pass", "", kind="profile"),
        )
        result = run(says(found), self.BASELINE)
        result.assert_outcomes(passed=3, failed=1)
        result.stdout.fnmatch_lines(
            [f"{says_what} other: must be held and is*", "FAILED sidestep.toml::p.json::profile*"]
        )

    def test_it_goes_with_the_item_of_its_subject(
        self, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        models = [
            item(
                "p.json", subject, "pass", "", kind=kind, posture=posture,
                id=f"p.json::{subject}[{posture}]",
            )
            for posture in ("container", "root")
            for subject, kind in (("profile", "profile"), ("x", "family"))
        ]  # fmt: skip
        more = (
            worse("p.json", "x", "newly-opened", posture="root"),
            worse("p.json", "y", "newly-opened", posture="root"),
        )
        option = says(document(*models, *more))
        result = run(option, self.BASELINE)
        result.assert_outcomes(passed=3, failed=2)
        result.stdout.fnmatch_lines_random(
            ["FAILED *::x[[]root]*", "FAILED *::profile[[]root]*", "PASSED *::x[[]container]"]
        )
        run(option, self.BASELINE, "-k", "x and root").assert_outcomes(failed=1, deselected=4)

    def test_a_profile_without_an_entry_has_an_item(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        found = document(
            item("p.json", "profile", "pass", "", kind="profile"),
            worse("stray.json", "x", "newly-opened"),
        )
        option = says(found)
        result = run(option, self.BASELINE)
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["FAILED sidestep.toml::[[]baseline]*"])
        assert len([one for one in calls(pytester) if "--baseline" in one]) == 1
        run(option, self.BASELINE, "sidestep.toml::[baseline]").assert_outcomes(failed=1)

    def test_newly_known_is_a_warning_with_and_without_a_baseline(
        self, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        option = says(
            document(
                item("p.json", "x", "pass", "held"), worse("p.json", "x", "newly-known", "warn")
            )
        )
        for more, items in (((), 1), ((self.BASELINE,), 2)):
            result = run(option, "-W", "default::pytest.PytestWarning", *more)
            result.assert_outcomes(passed=items, warnings=1)
            run(option, *more).assert_outcomes(passed=items - 1, failed=1)

    def test_a_fault_of_the_harness_is_an_error(
        self, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        more = item("p.json", "y", "error", "harness", kind="not listed", message="it died")
        result = run(says(document(item("p.json", "x", "pass", "held"), more)))
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["y: it died"])

    @pytest.mark.parametrize("code", [1, 3, 4])
    def test_an_exit_code_that_no_item_explains_is_an_error(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str], code: int
    ) -> None:
        option = says(document(item("p.json", "x", "pass", "held")))
        (pytester.path / "fake" / "exit_code").write_text(str(code))
        result = run(option)
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines([f"*nothing failed, and yet the exit code is {code}"])

    @pytest.mark.parametrize("kind", ["family", "not listed"])
    def test_two_items_of_one_name_are_an_error(
        self, run: Run, says: Callable[[CheckDocument], str], kind: str
    ) -> None:
        twice = (item("p.json", "x", "fail", "leaky"), item("p.json", "x", "pass", "held"))
        found = document(*(msgspec.structs.replace(one, kind=kind) for one in twice[:1]), twice[1])
        result = run(says(found))
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*sidestep: two items are called p.json::x"])


class TestWhere:
    @pytest.mark.parametrize("how", ["option", "ini"])
    def test_the_library_may_be_elsewhere(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str], how: str
    ) -> None:
        option = says(document(item("p.json", "x", "pass", "held")))
        pytester.mkdir("profiles")
        (pytester.path / "sidestep.toml").rename(pytester.path / "profiles" / "sidestep.toml")
        pytester.mkdir("tests").joinpath("test_one.py").write_text("def test_one(): pass")
        ini = "[pytest]\ntestpaths = tests\n"
        pytester.makefile(".ini", pytest=ini + "sidestep_library = profiles\n" * (how == "ini"))
        result = run(option, *["--sidestep-library=profiles"] * (how == "option"))
        result.assert_outcomes(passed=2)
        result.stdout.fnmatch_lines(["PASSED profiles/sidestep.toml::p.json::x"])

    def test_other_tests_can_be_run_alone(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        option = says(EVERYTHING)
        pytester.makepyfile(test_one="def test_one(): pass")
        run(option, "test_one.py").assert_outcomes(passed=1)


class TestXdist:
    @pytest.mark.parametrize("how", ["load", "loadgroup"])
    def test_a_profile_is_run_once(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str], how: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setenv("FAKE_SLEEP", "0.3")
        items = [
            item(profile, f"family-{n}", "fail" if n == 2 else "pass", "open" if n == 2 else "held")
            for profile in ("a.json", "b.json")
            for n in range(6)
        ]
        option = says(document(*items))
        result = run("-p", "xdist.plugin", "-n2", f"--dist={how}", option)
        result.assert_outcomes(passed=10, failed=2)
        assert profiles_run(pytester) == ["a.json", "b.json"]
        result = run("-p", "xdist.plugin", "-n2", f"--dist={how}", option, "--sidestep-baseline=b")
        result.assert_outcomes(passed=11, failed=2)
        assert len([one for one in calls(pytester) if "--baseline" in one]) == 1
        assert "way" not in result.stderr.str()


class TestFaults:
    def test_a_wrong_library_is_one_error_of_collection(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        option = says(EVERYTHING)
        (pytester.path / "fake" / "sidestep").write_text(
            "#!/bin/sh\necho 'sidestep: sidestep.toml:3: famlies: unknown key' >&2\nexit 2\n"
        )
        pytester.makepyfile("def test_one(): pass")
        result = run(option, "--continue-on-collection-errors")
        result.assert_outcomes(errors=1, passed=1)
        result.stdout.fnmatch_lines(
            ["sidestep: sidestep: sidestep.toml:3: famlies: unknown key (exit code 2)"]
        )
        assert "Traceback" not in result.stdout.str()

    @pytest.mark.parametrize("given", ["/nonexistent/sidestep", "", "'", "/"])
    def test_a_missing_command_is_one_error(
        self, run: Run, says: Callable[[CheckDocument], str], given: str
    ) -> None:
        says(EVERYTHING)
        result = run(f"--sidestep-command={given}")
        result.assert_outcomes(errors=1)
        assert "Traceback" not in result.stdout.str()

    def test_a_command_that_hangs_is_ended_with_all_it_started(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        option = says(document(*[item("p.json", f"x{n}", "pass", "held") for n in range(3)]))
        command = pytester.path / "fake" / "sidestep"
        real = command.rename(command.with_name("real"))
        command.write_text(
            f'#!/bin/sh\ncase $* in *--list*) exec {real} "$@";; esac\n'
            f"trap '' TERM\nsleep 60 & echo $! > {command.parent}/pid\nwait\nsleep 60\n"
        )
        command.chmod(0o755)
        started = time.monotonic()
        result = run(option, "--sidestep-timeout=1")
        assert time.monotonic() - started < 30
        result.assert_outcomes(errors=3)
        result.stdout.fnmatch_lines(["sidestep: sidestep did not answer within 1 s: *"])
        assert "During handling" not in result.stdout.str()
        child = Path("/proc", (command.parent / "pid").read_text().strip(), "stat")
        assert not child.exists() or child.read_text().split()[2] == "Z"

    @pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
    def test_a_timeout_is_a_number_of_seconds(self, run: Run, seconds: str) -> None:
        assert run(f"--sidestep-timeout={seconds}").ret == pytest.ExitCode.USAGE_ERROR

    def test_what_another_version_prints_is_refused(
        self, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        result = run(says(msgspec.structs.replace(EVERYTHING, schema="sidestep.check/9")))
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*prints 'sidestep.check/9' and this plugin reads*"])


class TestFixture:
    TESTS = """
    import pytest

    def test_evaluate(sidestep):
        found = sidestep.evaluate("p.json", family=["create-directory"], exhaustive=True, jobs=None)
        assert found["candidates"][0]["name"] == "block-mkdir"

    def test_holds(sidestep):
        sidestep.assert_holds("p.json", "create-directory")

    def test_held(sidestep):
        sidestep.assert_holds("p.json", "x")

    def test_works(sidestep):
        sidestep.assert_works("p.json", "shell-basics", posture="root")

    def test_broken(sidestep):
        sidestep.assert_works("p.json", "nginx")

    def test_nothing_named(sidestep):
        with pytest.raises(Exception, match="at least one"):
            sidestep.assert_holds("p.json")

    def test_a_directory(sidestep):
        with pytest.raises(Exception, match="^[.]: a directory: name one profile in it$"):
            sidestep.assert_holds(".", "x")

    def test_the_label_that_is_printed_counts(sidestep, monkeypatch):
        evaluate = type(sidestep).evaluate

        def only(self, path, **options):
            found = evaluate(self, path, **options)
            for one in found["candidates"]:
                one["simulated"] = simulated
                one["families"] = [f for f in one["families"] if f["family"] in left]
            return found

        monkeypatch.setattr(type(sidestep), "evaluate", only)
        simulated, left = False, ["x"]
        sidestep.assert_holds("p.json", "x[]")
        left = ["x", "create-directory"]
        with pytest.raises(AssertionError, match=r"create-directory\\[\\] is leaky"):
            sidestep.assert_holds("p.json", "x", "create-directory[]")
        with pytest.raises(AssertionError, match="no verdict"):
            sidestep.assert_holds("p.json", "y", "z", "x")
        simulated = True
        with pytest.raises(AssertionError, match="(?s)predicted not to keep.*is predicted leaky"):
            sidestep.assert_holds("p.json", "create-directory", simulate=True)

    def test_two_candidates(sidestep, monkeypatch):
        two = lambda self, path, **options: dict(candidates=[{}, {}])
        monkeypatch.setattr(type(sidestep), "evaluate", two)
        with pytest.raises(Exception, match="2 candidates, and this is about one"):
            sidestep.assert_holds("p.json", "x")
    """

    def test_it_asserts(
        self, pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str]
    ) -> None:
        option = says(document())
        (pytester.path / "sidestep.toml").unlink()
        sample = json.loads((ROOT / "tests" / "data" / "results" / "sample.json").read_text())
        sample["candidates"] = sample["candidates"][:1]
        leaky = next(
            f for f in sample["candidates"][0]["families"] if f["family"] == "create-directory"
        )
        sample["candidates"][0]["families"].append(leaky | {"family": "x", "verdict": "held here"})
        (pytester.path / "fake" / "evaluate.json").write_text(json.dumps(sample))
        pytester.makepyfile(self.TESTS)
        result = run(option)
        text = result.stdout.str()
        result.assert_outcomes(passed=7, failed=2)
        assert "create-directory is leaky" in text
        assert "way through: create-directory/io-uring-mkdirat" in text
        assert "nginx is broken: EPERM" in text
        assert "fix: allow clone" in text
        assert calls(pytester)[0] == [
            "evaluate", "p.json", "--json", "--family", "create-directory", "--exhaustive",
        ]  # fmt: skip
        assert [
            "workloads", "run", "shell-basics", "--under", "p.json", "--json", "--posture", "root",
        ] in calls(pytester)  # fmt: skip


def test_python_variables_of_the_caller_do_not_reach_the_command(
    pytester: pytest.Pytester, run: Run, says: Callable[[CheckDocument], str]
) -> None:
    """A package of the project that is called like one of ours must not be found first."""
    option = says(document(item("p.json", "x", "pass", "held")))
    command = pytester.path / "fake" / "sidestep"
    command.write_text(
        command.read_text().replace("here = ", "assert 'PYTHONPATH' not in os.environ\nhere = ", 1)
    )
    run(option).assert_outcomes(passed=1)
