"""Marks tests by their folder, and says why live tests did not run instead of hiding it."""

import functools
import os
import signal
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.messages_api.fixtures"]

TESTS = Path(__file__).parent
FOLDERS = ("unit", "contract", "sim", "live", "vm")
REQUIRE_LIVE = os.environ.get("SIDESTEP_REQUIRE_LIVE", "0") not in ("", "0")

# The same examples in every run: a failure in CI is a failure here.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")

# A shell starts its background jobs with SIGINT ignored, nohup ignores SIGHUP, and an ignored
# signal is inherited: the commands that tests interrupt must start like one typed at a prompt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGTERM, signal.SIG_DFL)


@functools.cache
def why_not_live() -> str | None:
    """Builds the real sandbox once; the answer is the step that fails here, or None."""
    from evaluator.doctor import why_not_live as probe  # only where live tests were collected

    return probe()


class LiveAlone(LoadScopeScheduling):  # type: ignore[misc]
    """Live tests go one after another: they share the machine, and bound how long it takes.

    The others go file by file, for the sake of what their files prepare; the largest scope, which
    is that of the live ones, comes first.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "live" if path.startswith("tests/live/") else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LiveAlone:
    return LiveAlone(config, log)


def is_live(item: pytest.Item) -> bool:
    return item.get_closest_marker("live") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        try:
            folder = item.path.relative_to(TESTS).parts[0]
        except ValueError:
            continue
        if folder in FOLDERS:
            item.add_marker(folder)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if is_live(item) and (reason := why_not_live()):
        pytest.skip(f"cannot run live here: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if REQUIRE_LIVE and is_live(item) and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"SIDESTEP_REQUIRE_LIVE is set, and this did not run: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")
    live = [r for r in terminalreporter.stats.get("skipped", []) if "live" in r.keywords]
    if not live:
        return
    reasons = sorted({str(r.longrepr[2]).removeprefix("Skipped: ") for r in live})
    terminalreporter.section("live tests that did not run")
    for reason in reasons:
        terminalreporter.write_line(reason)
    terminalreporter.write_line("`sidestep doctor` says what this machine lacks.")
