"""pytest items for what a library of seccomp profiles must hold, and the fixture ``sidestep``.

Drives the command ``sidestep`` as a subprocess and imports nothing of it, so that a project's own
packages never meet those of sidestep.  Does nothing where there is no ``sidestep.toml``: in the
root directory of pytest, or where ``--sidestep-library`` or ``sidestep_library`` says.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
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
    file = _library(config)
    if file is None:
        return
    config.stash[_FILE] = file
    if not file.is_file():
        raise pytest.UsageError(f"sidestep: no such file: {_visible(str(file))}")
    named = config.getoption("sidestep_library") is not None
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    if (named or whole) and not any(_covers(config, one, file) for one in config.args):
        config.args.append(str(file))


def _covers(config: pytest.Config, argument: str, file: Path) -> bool:
    path = Path(os.path.normpath(config.invocation_params.dir / argument.split("::", 1)[0]))
    return path == file or path in file.parents


_FILE = pytest.StashKey[Path]()
_SHARED = pytest.StashKey[Path]()


# -------------------------------------------------------------------- what xdist's workers share


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker of xdist where results are, so that a profile is run once."""
    node.workerinput["sidestep_shared"] = str(_shared(node.config))


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

    def collect(self) -> Iterable[pytest.Collector]:
        by_profile: dict[str, list[Json]] = {}
        try:
            listed = _check(self.config, self.path, "--list")
        except SidestepError as error:
            raise self.CollectError(f"sidestep: {error}") from None
        for item in listed["items"]:
            by_profile.setdefault(item["profile"], []).append(item)
        for profile, items in by_profile.items():
            yield _Profile.from_parent(self, name=_line(profile), profile=profile, listed=items)


class _Profile(pytest.Collector):
    """One profile; all its items come of one call of the command."""

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

    def results(self) -> Json:
        """The items by id, from one run of this profile whoever asked for it first."""
        file = self.parent
        assert isinstance(file, _Library)
        return _once(self.config, file.path, self.profile)


class _Expectation(pytest.Item):
    """One family or workload that must hold or work, one waiver, or the profile itself."""

    def __init__(self, *, listed: Json, **more: Any) -> None:
        super().__init__(**more)
        self.listed = listed
        self.found: Json = {}

    def setup(self) -> None:
        """Asks for the results: what goes wrong here is an error, and no failure of the profile."""
        assert isinstance(self.parent, _Profile)
        try:
            found = self.parent.results().get(self.listed["id"])
        except SidestepError as error:
            raise pytest.fail.Exception(f"sidestep: {error}", pytrace=False) from None
        if found is None:
            pytest.fail("sidestep: the command said nothing about this", pytrace=False)
        if found["status"] == "listed" and self.config.getoption("sidestep_simulate"):
            pytest.skip(_line(_cut(found["message"] or "a prediction cannot tell")))
        if found["status"] not in (*_PASSES, "fail"):
            pytest.fail(_told(found), pytrace=False)
        self.found = found

    def runtest(self) -> None:
        if self.found["status"] == "fail":
            pytest.fail(_told(self.found), pytrace=False)
        if self.found["status"] == "warn":
            self.warn(SidestepWarning(_told(self.found)))
        if self.found["status"] == "waived":
            self.add_report_section("call", "sidestep", _told(self.found))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.listed['profile']}: {self.name}"


# ------------------------------------------------------------------------------------- the text


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


def _once(config: pytest.Config, file: Path, profile: str) -> Json:
    """Runs a profile, or waits for the worker that does; a fault is kept like a result."""
    name = hashlib.sha256(os.fsencode(f"{file}\0{profile}".encode(errors="replace"))).hexdigest()
    kept = _shared(config) / f"{name}.json"
    with _locked(kept.with_suffix(".lock")):
        if not kept.exists():
            part = kept.with_suffix(".part")
            part.write_text(json.dumps(_run_profile(config, file, profile)), encoding="utf-8")
            part.rename(kept)
    outcome = json.loads(kept.read_text(encoding="utf-8"))
    if outcome["fault"]:
        raise SidestepError(outcome["fault"])
    return {item["id"]: item for item in outcome["items"]}


def _run_profile(config: pytest.Config, file: Path, profile: str) -> Json:
    options: list[str] = ["--profile", profile]
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
    """What ``sidestep check --format json`` printed."""
    document = _call(config, ["check", str(file), *options, "--format", "json"])
    if document.get("schema") != SCHEMA:
        raise SidestepError(
            f"the command prints {document.get('schema')!r} and this plugin reads {SCHEMA!r}: "
            "install both from one version of sidestep"
        )
    return document


def _call(config: pytest.Config, arguments: Sequence[str]) -> Json:
    """The one JSON object that the command prints; ``SidestepError``, one line, if it is none."""
    command = _command(config)
    timeout: Any = config.getoption("sidestep_timeout")
    code, out, err = _run([*command, *arguments], config.rootpath, timeout)
    with contextlib.suppress(ValueError):
        found: Any = json.loads(out)
        if isinstance(found, dict):
            return cast("Json", found)
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
        return _call(self._config, arguments)

    def assert_holds(self, path: str | os.PathLike[str], *families: str, **options: Any) -> None:
        """Fail unless the kernel shows every one of the families to be held."""
        if not families:
            raise SidestepError("assert_holds: name at least one family")
        candidate = self._candidate(path, options | {"family": families})
        verdicts = {one["family"]: one for one in candidate["families"]}
        wrong: list[str] = []
        for family in families:
            found = verdicts.get(family)
            if found is None or found["verdict"] not in _HOLDS:
                wrong += [*_verdict(candidate, family, found), ""]
        self._fail(path, wrong)

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
        found = _call(self._config, arguments)["workloads"]
        wrong = [line for one in found if not one["works"] for line in _broken(one)]
        if not found:
            wrong = ["nothing ran"]
        self._fail(path, wrong)

    def _candidate(self, path: str | os.PathLike[str], options: Mapping[str, Any]) -> Json:
        candidate: Json
        (candidate,) = self.evaluate(path, **options)["candidates"]
        if not candidate["valid"]:
            said = "; ".join(one["message"] for one in candidate["errors"])
            raise SidestepError(_line(f"{os.fspath(path)}: {_cut(said)}"))
        return candidate

    @staticmethod
    def _fail(path: str | os.PathLike[str], wrong: Sequence[str]) -> None:
        if wrong:
            text = "\n".join([f"{os.fspath(path)} does not keep what it must", *wrong])
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
    yield _cut(f"{family} is {found['verdict']}: {found.get('summary') or found.get('reason', '')}")
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
