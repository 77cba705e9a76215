"""pytest items for what a library of seccomp profiles must hold, and the fixture ``sidestep``.

Drives the command ``sidestep`` as a subprocess and imports nothing of it, so that a project's own
packages never meet those of sidestep.  Does nothing where there is no ``sidestep.toml``: in the
root directory of pytest, or where ``--sidestep-library`` or ``sidestep_library`` says; an option
that then has no effect is an error.
"""

from __future__ import annotations

import abc
import contextlib
import fcntl
import hashlib
import itertools
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

__tracebackhide__ = True  # a failure shows the test of the user, not this module

FILE = "sidestep.toml"
SCHEMA = "sidestep.check/1"
_TIMEOUT = 600.0
_GRACE = 5.0
"""Seconds that the command has to end after it was told to."""
_LONG = 400
_PASSES = ("pass", "waived", "warn")
_HOLDS = ("held", "held here")
_DEFAULTS: Mapping[str, Any] = {
    "library": None,
    "command": None,
    "jobs": None,
    "baseline": None,
    "simulate": False,
    "timeout": _TIMEOUT,
}
_NOT_PYTHONS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")

Json = dict[str, Any]


class SidestepError(Exception):
    """Nothing can be said: the command is missing, hangs, refuses its input or failed itself."""


class ExpectationError(AssertionError):
    """An expectation is not met; the text says what got through, and what closes it."""


class SidestepWarning(pytest.PytestWarning):
    """An expectation is met, with a remark: a newer suite knows more, for example."""


# -------------------------------------------------------------------------------------- options


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sidestep", "seccomp profiles (sidestep)")
    group.addoption(
        "--sidestep-library",
        metavar="PATH",
        help="directory with a sidestep.toml, or that file (default: the root directory)",
    )
    group.addoption(
        "--sidestep-command",
        metavar="COMMAND",
        help="how to call sidestep (default: beside this Python, else on PATH)",
    )
    group.addoption(
        "--sidestep-jobs", metavar="N", type=int, help="trials at the same time, for each profile"
    )
    group.addoption(
        "--sidestep-baseline", metavar="RESULTS", help="fail on what is worse than in these results"
    )
    group.addoption(
        "--sidestep-simulate",
        action="store_true",
        default=False,
        help="predict and run nothing; a prediction is no evidence",
    )
    group.addoption(
        "--sidestep-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=_TIMEOUT,
        help=f"for one call of sidestep (default: {_TIMEOUT:g})",
    )
    parser.addini("sidestep_library", "as --sidestep-library, relative to the root directory")


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(text)  # argparse makes one line of it
    return value


def _library(config: pytest.Config) -> Path | None:
    """The sidestep.toml that counts; None where there is nothing to do."""
    given: str | None = config.getoption("sidestep_library")
    if given is not None:
        path = Path(os.path.normpath(config.invocation_params.dir / given))
        return path / FILE if path.is_dir() else path
    said = config.getini("sidestep_library")
    path = Path(os.path.normpath(config.rootpath / str(said or "")))
    path = path / FILE if path.is_dir() else path
    return path if said or path.is_file() else None


def pytest_configure(config: pytest.Config) -> None:
    _refuse_a_word_of_its_own(config)
    file = _library(config)
    if file is None:
        if config.getoption("sidestep_baseline") is not None:
            raise pytest.UsageError(_without_library(config, "--sidestep-baseline"))
        return
    config.stash[_FILE] = file
    if not file.is_file():
        raise pytest.UsageError(f"sidestep: no such file: {_visible(str(file))}")
    named = config.getoption("sidestep_library") is not None
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    if (named or whole) and not any(_covers(config, one, file) for one in config.args):
        config.args.append(str(file))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Without a library the options are for the fixture; without that, too, they are a mistake."""
    config = session.config
    given = [
        f"--sidestep-{name}"
        for name, default in _DEFAULTS.items()
        if config.getoption(f"sidestep_{name}") != default
    ]
    if _FILE in config.stash or not given:
        return
    if not any("sidestep" in getattr(item, "fixturenames", ()) for item in session.items):
        told = _without_library(config, ", ".join(given))
        output: dict[str, Any] | None = getattr(config, "workeroutput", None)
        if output is None:
            raise pytest.UsageError(told)
        output["sidestep_unused"] = told


def _without_library(config: pytest.Config, given: str) -> str:
    where = _line(str(config.rootpath))
    return (
        f"sidestep: {given}: there is no {FILE} in {where}: "
        "--sidestep-library=PATH says where it is"
    )


def _refuse_a_word_of_its_own(config: pytest.Config) -> None:
    """The root directory is looked for before our options are known.

    pytest takes ``PATH`` of ``--sidestep-baseline PATH`` for an argument then, and the library of
    another directory, or none, would be tested.
    """
    valued = {f"--sidestep-{name}" for name in _DEFAULTS if name != "simulate"}
    given = map(str, config.invocation_params.args)
    for words in (given, shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))):
        for option, value in itertools.pairwise(words):
            path = config.invocation_params.dir / value.split("::", 1)[0]
            if option in valued and path.exists():
                raise pytest.UsageError(
                    f"sidestep: {option} {_line(value)}: pytest takes a word of its own for a "
                    f"path to test: write {option}={_line(value)}"
                )


def _covers(config: pytest.Config, argument: str, file: Path) -> bool:
    path = Path(os.path.normpath(config.invocation_params.dir / argument.split("::", 1)[0]))
    return path == file or path in file.parents


_FILE = pytest.StashKey[Path]()
_SHARED = pytest.StashKey[Path]()
_UNUSED = pytest.StashKey[str]()


# -------------------------------------------------------------------- what xdist's workers share


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker of xdist where results are, so that a profile is run once."""
    node.workerinput["sidestep_shared"] = str(_shared(node.config))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes from a worker what it may not raise itself."""
    told = getattr(node, "workeroutput", {}).get("sidestep_unused")
    if told:
        node.config.stash[_UNUSED] = told


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _UNUSED in session.config.stash:
        raise pytest.UsageError(session.config.stash[_UNUSED])


def pytest_unconfigure(config: pytest.Config) -> None:
    if _SHARED in config.stash and not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[_SHARED], ignore_errors=True)


def _shared(config: pytest.Config) -> Path:
    if _SHARED not in config.stash:
        given: Mapping[str, str] = getattr(config, "workerinput", {})
        path = given.get("sidestep_shared") or tempfile.mkdtemp(prefix="pytest-sidestep-")
        config.stash[_SHARED] = Path(path)
    return config.stash[_SHARED]


# ----------------------------------------------------------------------------------- collection


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if parent.config.stash.get(_FILE, None) == file_path:
        return _Library.from_parent(parent, path=file_path)
    return None


class _Library(pytest.File):
    """A ``sidestep.toml``; its children are the profiles it speaks of."""

    profiles: frozenset[str] = frozenset()

    def collect(self) -> Iterable[pytest.Collector | pytest.Item]:
        by_profile: dict[str, list[Json]] = {}
        try:
            listed = _check(self.config, self.path, "--list")
        except SidestepError as error:
            raise self.CollectError(f"sidestep: {error}") from None
        for item in listed["items"]:
            by_profile.setdefault(item["profile"], []).append(item)
        self.profiles = frozenset(by_profile)
        for profile, items in by_profile.items():
            yield _Profile.from_parent(self, name=_line(profile), profile=profile, listed=items)
        if self.config.getoption("sidestep_baseline") is not None:
            yield _Rest.from_parent(self, name="[baseline]")

    def results(self, profile: str | None = None) -> list[Json]:
        """The items of a run, whoever asked for it first: of this profile, or of all.

        With a baseline all profiles are one run, as it decides for itself which of them to compare.
        """
        whole = self.config.getoption("sidestep_baseline") is not None
        return _once(self.config, self.path, None if whole else profile)


class _Profile(pytest.Collector):
    """One profile; all its items come of the same call of the command."""

    def __init__(self, *, profile: str, listed: list[Json], **more: Any) -> None:
        super().__init__(**more)
        self.profile = profile
        self.listed = listed
        if self.config.pluginmanager.hasplugin("xdist"):
            self.add_marker(pytest.mark.xdist_group(self.name))

    def collect(self) -> Iterable[pytest.Item]:
        for item in self.listed:
            name = _line(item["id"].removeprefix(f"{self.profile}::"))
            yield _Expectation.from_parent(self, name=name, listed=item)

    def results(self) -> dict[str, list[Json]]:
        """What was found, by the id of the listed item that it fails or passes.

        What was not listed (worse than in a baseline, newly known, a fault of the harness) goes
        with the item of its subject, else with that of the profile.
        """
        library = self.parent
        assert isinstance(library, _Library)
        found = library.results(self.profile)
        results: dict[str, list[Json]] = {one["id"]: [] for one in self.listed}
        items = [one for one in found if one["profile"] == self.profile]
        for item in sorted(items, key=lambda one: one["id"] not in results):
            results[self._home(item)].append(item)
        return results

    def _home(self, item: Json) -> str:
        def near(listed: Json) -> tuple[bool, ...]:
            same = all(item[name] == listed[name] for name in ("posture", "runtime_model"))
            return (
                item["id"] == listed["id"],
                same and item["subject"] == listed["subject"],
                same and listed["kind"] == "profile",
                listed["kind"] == "profile",
            )

        home: str = max(self.listed, key=near)["id"]
        return home


class _Judged(pytest.Item):
    """Fails by what is said of it."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.found: list[Json] = []

    @abc.abstractmethod
    def asked(self) -> list[Json]:
        """The items of the command that are about this one."""

    def setup(self) -> None:
        """Asks for the results: what goes wrong here is an error, and no failure of the profile."""
        try:
            found = self.asked()
        except SidestepError as error:
            raise pytest.fail.Exception(f"sidestep: {error}", pytrace=False) from None
        unsure = [one for one in found if one["status"] not in (*_PASSES, "fail")]
        if self.config.getoption("sidestep_simulate"):
            unsure = [one for one in unsure if one["status"] != "listed"]
        if unsure:
            pytest.fail(_all_told(unsure), pytrace=False)
        self.found = found

    def runtest(self) -> None:
        by_status: dict[str, list[Json]] = {}
        for one in self.found:
            by_status.setdefault(one["status"], []).append(one)
        if "fail" in by_status:
            pytest.fail(_all_told(by_status["fail"]), pytrace=False)
        for one in by_status.get("warn", ()):
            self.warn(SidestepWarning(_told(one)))
        if "waived" in by_status:
            self.add_report_section("call", "sidestep", _all_told(by_status["waived"]))
        for one in by_status.get("listed", ()):
            pytest.skip(_line(_cut(one["message"] or "a prediction cannot tell")))


class _Expectation(_Judged):
    """One family or workload that must hold or work, one waiver, or the profile itself."""

    def __init__(self, *, listed: Json, **more: Any) -> None:
        super().__init__(**more)
        self.listed = listed

    def asked(self) -> list[Json]:
        assert isinstance(self.parent, _Profile)
        found = self.parent.results()[self.listed["id"]]
        if not any(one["id"] == self.listed["id"] for one in found):
            raise SidestepError(
                "\n".join(["the command said nothing about this", *map(_told, found)])
            )
        return found

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.listed['profile']}: {self.name}"


class _Rest(_Judged):
    """What a baseline says of the profiles that the library expects nothing of."""

    def asked(self) -> list[Json]:
        library = self.parent
        assert isinstance(library, _Library)
        return [one for one in library.results() if one["profile"] not in library.profiles]

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, "profiles that no entry matches, against the baseline"


# ------------------------------------------------------------------------------------- the text


def _all_told(items: Iterable[Json]) -> str:
    return "\n\n".join(map(_told, items))


def _told(item: Json) -> str:
    """What a person needs to act: the verdict, the way through, its program, the fix."""
    return "\n".join(_visible(line) for line in _lines(item))


def _lines(item: Json) -> Iterator[str]:
    name = item["id"].removeprefix(f"{item['profile']}::")
    yield _cut(f"{name}: {item['message'] or item['says']}")
    place = _position(item["place"])
    yield f"{item['profile']}: {place}" if place else item["profile"]
    told = {f"fix: {way['fix']}" for way in item["ways"]}
    yield from (_cut(line) for line in item["detail"] if line not in told)
    tested = (("posture", item["posture"]), ("runtime model", item["runtime_model"]))
    if named := ", ".join(f"{name} {value}" for name, value in tested if value):
        yield named
    for way in item["ways"]:
        yield ""
        yield from _way(way)


def _way(way: Json) -> Iterator[str]:
    yield f"way through: {way['variant']} ({way['technique']})"
    waived = way["waived"]
    named = (
        ("route", way["route"]),
        ("call", way["call"]),
        ("cause", way["cause"]),
        ("at", _position(way["place"])),
        ("fix", way["fix"]),
        ("waiver", waived and "accepted by {owner} until {expires}: {reason}".format(**waived)),
    )
    yield from (f"  {name}: {_cut(text)}" for name, text in named if text)
    if way["program"]:
        yield "  program:"
        yield from (f"    {n}  {_cut(text)}" for n, text in enumerate(way["program"], 1))


def _position(place: Json | None) -> str:
    if place is None:
        return ""
    numbers = [str(one) for one in (place["line"], place["column"]) if one is not None]
    return ":".join([place["file"], *numbers]) + (f" ({place['path']})" if place["path"] else "")


def _visible(text: str) -> str:
    """No control character or direction mark reaches the terminal or a report."""
    return "".join(
        one if one.isprintable() or one in "\n\t" else f"\u2039U+{ord(one):04X}\u203a"
        for one in text
    )


def _line(text: str) -> str:
    return _visible(text).replace("\n", "\u240a").replace("\t", "\u2409")


def _cut(text: str) -> str:
    half = _LONG // 2
    return text if len(text) <= _LONG else f"{text[:half]}\u2026{text[-half:]}"


# ---------------------------------------------------------------------------------- the command


def _once(config: pytest.Config, file: Path, profile: str | None) -> list[Json]:
    """The items of a profile, or of all; run once, by whichever worker asks first.

    A fault is kept like a result.
    """
    what = f"{file}\0{'' if profile is None else profile}"
    name = hashlib.sha256(what.encode(errors="replace")).hexdigest()
    kept = _shared(config) / f"{name}.json"
    with _locked(kept.with_suffix(".lock")):
        if not kept.exists():
            part = kept.with_suffix(".part")
            part.write_text(json.dumps(_run_profile(config, file, profile)), encoding="utf-8")
            part.rename(kept)
    outcome = json.loads(kept.read_text(encoding="utf-8"))
    if outcome["fault"]:
        raise SidestepError(outcome["fault"])
    items: list[Json] = outcome["items"]
    return items


def _run_profile(config: pytest.Config, file: Path, profile: str | None) -> Json:
    options: list[str] = [] if profile is None else ["--profile", profile]
    jobs, baseline = (config.getoption(f"sidestep_{name}") for name in ("jobs", "baseline"))
    if jobs is not None:
        options += ["--jobs", str(jobs)]
    if baseline is not None:
        options += ["--baseline", os.path.normpath(config.invocation_params.dir / str(baseline))]
    if config.getoption("sidestep_simulate"):
        options.append("--simulate")
    try:
        return {"fault": "", "items": _check(config, file, *options)["items"]}
    except SidestepError as error:
        return {"fault": str(error), "items": []}


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check(config: pytest.Config, file: Path, *options: str) -> Json:
    """What ``sidestep check --format json`` printed; ``SidestepError`` if it cannot be trusted."""
    document, code = _call(config, ["check", str(file), *options, "--format", "json"])
    if document.get("schema") != SCHEMA:
        raise SidestepError(
            f"the command prints {document.get('schema')!r} and this plugin reads {SCHEMA!r}: "
            "install both from one version of sidestep"
        )
    ids = [one["id"] for one in document["items"]]
    twice = [name for name, times in Counter(ids).items() if times > 1]
    if twice:
        raise SidestepError(_line(f"two items are called {', '.join(map(_cut, twice))}"))
    failed = any(one["status"] not in (*_PASSES, "listed") for one in document["items"])
    for number in (code, document["exit_code"]):
        if number and not failed:
            raise SidestepError(f"nothing failed, and yet the exit code is {number}")
    return document


def _call(config: pytest.Config, arguments: Sequence[str]) -> tuple[Json, int]:
    """The one JSON object that the command prints, and its exit code.

    ``SidestepError``, one line, if it prints none.
    """
    command = _command(config)
    timeout: Any = config.getoption("sidestep_timeout")
    code, out, err = _run([*command, *arguments], config.rootpath, timeout)
    with contextlib.suppress(ValueError):
        found: Any = json.loads(out)
        if isinstance(found, dict):
            return cast("Json", found), code
    lines = err.strip().splitlines()
    said = lines[-1] if lines else "it printed no JSON and said nothing"
    raise SidestepError(_line(f"{_cut(said)} (exit code {code})"))


def _command(config: pytest.Config) -> list[str]:
    given: str | None = config.getoption("sidestep_command")
    try:
        command = shlex.split(given) if given is not None else ["sidestep"]
    except ValueError as error:
        raise SidestepError(f"--sidestep-command: {error}") from None
    if not command:
        raise SidestepError("--sidestep-command: empty")
    beside = Path(sys.executable).with_name("sidestep")
    if given is None and os.access(beside, os.X_OK):
        return [str(beside)]
    found = shutil.which(command[0])
    if found is None:
        raise SidestepError(
            f"{command[0]}: no such command beside {sys.executable} or on PATH: install sidestep, "
            "or name it with --sidestep-command"
        )
    return [found, *command[1:]]


def _run(command: Sequence[str], cwd: Path, timeout: float) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; the command and all it started are gone afterwards."""
    environment = {k: v for k, v in os.environ.items() if k not in _NOT_PYTHONS}
    # Files and not pipes: a pipe that a grandchild holds open would keep us waiting.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment | {"PYTHONSAFEPATH": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise SidestepError(f"{command[0]}: cannot be started: {error}") from None
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise SidestepError(
                f"sidestep did not answer within {timeout:g} s: {shlex.join(command)}; "
                "--sidestep-timeout gives it longer"
            ) from None
        finally:
            _end(process)
        out.seek(0)
        err.seek(0)
        return code, out.read().decode(errors="replace"), err.read().decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)


# ---------------------------------------------------------------------------------- the fixture


class Sidestep:
    """Evaluates profiles in tests; paths are relative to the root directory of pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def evaluate(self, path: str | os.PathLike[str], **options: Any) -> Json:
        """What ``sidestep evaluate PATH --json`` prints.

        ``family=["mount", "umount"]`` is ``--family mount --family umount``, ``exhaustive=True`` is
        ``--exhaustive``.  ``SidestepError`` if nothing can be said about the profile.
        """
        arguments = ["evaluate", os.fspath(path), "--json"]
        if self._config.getoption("sidestep_simulate"):
            arguments.append("--simulate")
        jobs = self._config.getoption("sidestep_jobs")
        if jobs is not None and "jobs" not in options:
            arguments += ["--jobs", str(jobs)]
        for name, value in options.items():
            arguments += _option(name.replace("_", "-"), value)
        return _call(self._config, arguments)[0]

    def assert_holds(self, path: str | os.PathLike[str], *families: str, **options: Any) -> None:
        """Fail unless every one of the families is held: shown by the kernel.

        With ``simulate=True`` or ``--sidestep-simulate`` it is predicted, and nothing is shown.
        """
        if not families:
            raise SidestepError("assert_holds: name at least one family")
        candidate = self._candidate(path, options | {"family": families})
        verdicts = {one["family"]: one for one in candidate["families"]}
        wrong: list[str] = []
        # The tool has one way to write a label: what it printed for "mkdir[]" is called "mkdir".
        asked = set(families) - set(verdicts)
        printed = set(verdicts) - set(families)
        if len(asked) == len(printed) == 1:
            verdicts[asked.pop()] = verdicts[printed.pop()]
        for family in families:
            found = verdicts.get(family)
            if found is None or found["verdict"] not in _HOLDS:
                wrong += [*_verdict(candidate, family, found), ""]
        kept = "is predicted not to keep" if candidate.get("simulated") else "does not keep"
        self._fail(path, kept, wrong)

    def assert_works(self, path: str | os.PathLike[str], *workloads: str, **options: Any) -> None:
        """Fail unless every one of the honest programs works under the profile.

        Options are those of ``sidestep workloads run``.
        """
        if not workloads:
            raise SidestepError("assert_works: name at least one workload")
        if self._config.getoption("sidestep_simulate"):
            raise SidestepError("--sidestep-simulate: whether a program works cannot be predicted")
        arguments = ["workloads", "run", *workloads, "--under", os.fspath(path), "--json"]
        for name, value in options.items():
            arguments += _option(name.replace("_", "-"), value)
        found = _call(self._config, arguments)[0]["workloads"]
        wrong = [line for one in found if not one["works"] for line in _broken(one)]
        if not found:
            wrong = ["nothing ran"]
        self._fail(path, "does not keep", wrong)

    def _candidate(self, path: str | os.PathLike[str], options: Mapping[str, Any]) -> Json:
        if (self._config.rootpath / path).is_dir():
            raise SidestepError(_line(f"{os.fspath(path)}: a directory: name one profile in it"))
        candidates = self.evaluate(path, **options)["candidates"]
        if len(candidates) != 1:
            counted = f"{len(candidates)} candidates, and this is about one"
            raise SidestepError(_line(f"{os.fspath(path)}: {counted}"))
        candidate: Json = candidates[0]
        if not candidate["valid"]:
            said = "; ".join(one["message"] for one in candidate["errors"])
            raise SidestepError(_line(f"{os.fspath(path)}: {_cut(said)}"))
        return candidate

    @staticmethod
    def _fail(path: str | os.PathLike[str], kept: str, wrong: Sequence[str]) -> None:
        if wrong:
            text = "\n".join([f"{os.fspath(path)} {kept} what it must", *wrong])
            raise ExpectationError(_visible(text).rstrip())


def _option(name: str, value: Any) -> list[str]:
    if value is True:
        return [f"--{name}"]
    if value is None or value is False:
        return []
    values = cast("Iterable[Any]", value) if isinstance(value, (list, tuple)) else [value]
    return [part for one in values for part in (f"--{name}", str(one))]


def _verdict(candidate: Json, family: str, found: Json | None) -> Iterator[str]:
    if found is None:
        yield f"{family}: no verdict"
        return
    said = "is predicted" if candidate.get("simulated") else "is"
    yield _cut(
        f"{family} {said} {found['verdict']}: {found.get('summary') or found.get('reason', '')}"
    )
    variant = found["shortest_bypass"]
    for trial in candidate["trials"]:
        if trial["variant"] == variant:
            yield f"  way through: {variant} ({trial['technique']})"
            yield f"  route: {_cut(trial['route'])}"
            yield from (f"    {step['slot']}  {_cut(step['text'])}" for step in trial["steps"])
    for cause in found.get("causes", ()):
        yield f"  cause: {_cut(cause['said'])}"
        if cause["fix"]:
            yield f"  fix: {_cut(cause['fix'])}"


def _broken(found: Json) -> Iterator[str]:
    yield _cut(f"{found['workload']} is {found['outcome']}: {found['reason'] or 'no reason'}")
    if found["needs"]:
        calls = ", ".join(dict.fromkeys(one["call"] for one in found["needs"]))
        yield f"  fix: allow {_cut(calls)}"


@pytest.fixture
def sidestep(pytestconfig: pytest.Config) -> Sidestep:
    """Evaluates profiles: ``evaluate``, ``assert_holds``, ``assert_works``."""
    return Sidestep(pytestconfig)
