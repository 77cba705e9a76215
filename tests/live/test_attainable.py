"""The page says of some families what a run says of them now."""

import os
from pathlib import Path

import pytest

from evaluator.attainable import Comes, rows
from evaluator.layers import LayerKind
from evaluator.request import families

PAGE = Path(__file__).parents[2] / "docs" / "attainable.md"
SAMPLE = ["create-directory", "create-process", "change-owner", "kexec", "set-host-name"]
MEASURED = (LayerKind.SECCOMP, LayerKind.CAPABILITY, LayerKind.LANDLOCK)


def written() -> dict[str, list[str]]:
    """By family: posture, the mark, and the words of the measured kinds."""
    table: dict[str, list[str]] = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            family, posture, mark, *cells = [one.strip() for one in line.strip("|").split(" | ")]
            table[family.strip("`")] = [posture, mark, *(one.partition(":")[0] for one in cells)]
    return table


@pytest.mark.slow
def test_the_page_is_current_for_a_sample() -> None:
    marks = {True: "yes", False: "no", None: "-"}
    found = list(rows(families(SAMPLE), min(2, len(os.sched_getaffinity(0)))))
    page = written()
    for row in found:
        words = [row.cells[kind].comes.value for kind in MEASURED]
        assert page[row.family] == [row.posture, marks[row.attainable], *words], row.family


def test_what_cannot_be_measured_has_a_reason_and_no_verdict() -> None:
    (row,) = rows(families(["create-directory"]), 1)
    for kind in set(LayerKind).difference(MEASURED):
        assert row.cells[kind].comes is Comes.NOT_TESTED
        assert row.cells[kind].why
