"""A check as JUnit XML: a suite for each profile, a case for each expectation."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import groupby

from junitparser import Attr, Error, Failure, IntAttr, JUnitXml, Skipped, TestCase, TestSuite

from reports.check_schema import CheckDocument, Item
from reports.check_text import (
    accepted,
    expectation,
    is_error,
    is_not_run,
    item_lines,
    place,
    said,
    utc,
)
from reports.text import one_line, visible


class _Case(TestCase):
    """With the two attributes by which GitLab and others link a case to its source."""

    file = Attr()
    line = IntAttr()


def junit(document: CheckDocument) -> str:
    """``failure`` for a gate, ``error`` where nothing can be said.

    What is accepted, or only warned of, passes and says so in ``system-out``.  Skipped is only what
    a prediction cannot tell; what could not be tested fails.
    """
    root = JUnitXml("sidestep check")
    by_profile: dict[str, list[Item]] = {}
    for item in document.items:
        by_profile.setdefault(item.profile, []).append(item)
    for profile, items in by_profile.items():
        root.add_testsuite(_suite(document, profile, items))
    root.update_statistics()
    written = io.BytesIO()
    root.write(written)  # pyright: ignore[reportUnknownMemberType] - IO of anything, it says
    return written.getvalue().decode() + "\n"


def _suite(document: CheckDocument, profile: str, items: list[Item]) -> TestSuite:
    suite = TestSuite(one_line(profile))
    if started := utc(document.started):
        suite.timestamp = started
    for name, value in _properties(document, items):
        suite.add_property(name, one_line(value))
    suite.add_testcases([_case(document, item) for item in items])
    return suite


def _properties(document: CheckDocument, items: list[Item]) -> Iterable[tuple[str, str]]:
    yield "sidestep", document.tool.version
    yield "suite", document.suite
    yield "kernel", document.environment.kernel
    yield "libseccomp", document.environment.libseccomp
    yield "expectations", document.expectations
    yield "simulated", "true" if document.simulated else "false"
    if document.baseline is not None:
        yield "baseline", document.baseline
    for name, values in (
        ("posture", [item.posture for item in items]),
        ("runtime model", [item.runtime_model for item in items]),
    ):
        yield from ((name, value) for value, _ in groupby(sorted(filter(None, values))))
    for change in document.changes:
        yield f"changed: {one_line(change.name)}", f"{change.before} -> {change.after}"


def _case(document: CheckDocument, item: Item) -> TestCase:
    where = place(document, item)
    case = _Case(one_line(expectation(item)), one_line(item.profile), item.duration_s)
    case.file = one_line(where.file)
    if where.line is not None:
        case.line = where.line
    message = one_line(f"predicted: {said(item)}" if document.simulated else said(item))
    text = visible("\n".join([said(item), *item_lines(item)]))
    if item.status == "fail" or is_error(document, item):
        result = (Error if is_error(document, item) else Failure)(message, one_line(item.says))
        result.text = text
        case.result = [result]
    elif is_not_run(document, item):
        case.result = [Skipped(message)]
    elif item.status in ("waived", "warn"):
        reasons = [accepted(way.waived) for way in item.ways if way.waived]
        case.system_out = "\n".join([visible("\n".join(reasons)), text]) if reasons else text
    return case
