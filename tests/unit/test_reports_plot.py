"""Candidates on both axes: every one is there once, and no name lies upon another."""

import itertools
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from msgspec.structs import replace

import reports
from reports.drawing import KINDS, svg
from reports.plot import COLUMN, LEFT, ROW, SIDE, TOP, Plot, plot
from reports.schema import Candidate, Fault, Starts
from reports.text import visible

NAMES = ("robustness", "routes", "utility")


def candidate(name: str, robustness: float | None, utility: float | None) -> Candidate:
    counted = {"robustness": f"{robustness} held", "utility": f"{utility} work"}
    return Candidate(
        name, f"{name}.json", valid=True, robustness=robustness, utility=utility, counted=counted
    )


def drawn(*candidates: Candidate) -> Plot:
    found = plot(candidates)
    assert found is not None
    return found


def test_one_candidate_needs_no_plot() -> None:
    assert plot([]) is None
    assert plot([candidate("a", 1.0, 1.0)]) is None


def test_candidates_without_a_point_make_no_plot() -> None:
    assert plot([candidate("a", 1.0, None), candidate("b", None, 1.0)]) is None


def test_robustness_goes_right_and_utility_up() -> None:
    found = drawn(candidate("best", 1.0, 1.0), candidate("worst", 0.0, 0.0))
    assert [(one.x, one.y) for one in found.points] == [
        (LEFT + SIDE, TOP),
        (LEFT, TOP + found.tall),
    ]
    assert [one.labels[0].name for one in found.points] == ["best", "worst"]


def test_equal_scores_share_a_point() -> None:
    found = drawn(candidate("a", 0.5, 1.0), candidate("b", 0.5, 1.0), candidate("c", 0.0, 1.0))
    assert [[label.name for label in one.labels] for one in found.points] == [["a", "b"], ["c"]]
    assert found.points[0].labels[1].robustness == "0.5 held"


def test_what_does_not_start_or_has_no_score_stands_apart_with_the_reason() -> None:
    dead = replace(
        candidate("dead", None, None), starts=Starts(loads=True, runtime=False, static=False)
    )
    invalid = Candidate("wrong", "wrong.json", valid=False, errors=(Fault("not JSON"),))
    aimless = replace(
        candidate("aimless", None, 1.0), counted={"robustness": "nothing targeted", "utility": "u"}
    )
    found = drawn(candidate("a", 0.5, 1.0), dead, invalid, aimless)
    assert [(one.name, one.why, one.fails) for one in found.apart] == [
        ("dead", "does not start", True),
        ("wrong", "invalid", True),
        ("aimless", "robustness \u2013 (nothing targeted), utility 1.00 (u)", False),
    ]
    assert all(one.y > TOP + found.tall for one in found.apart)
    assert found.apart[-1].y < found.height


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("count", [2, 20, 60])
def test_no_name_lies_upon_another_and_all_are_within_the_drawing(seed: int, count: int) -> None:
    random_ = random.Random(seed)
    # Few values, so that some candidates share a point and some lie close together.
    values = [0.0, 0.01, 0.5, 0.98, 1.0, None] if seed % 2 else [1.0]
    candidates = [
        candidate(f"{n}", random_.choice(values), random_.choice(values)) for n in range(count)
    ]
    found = plot([candidate("first", 0.5, 0.5), *candidates])
    assert found is not None
    labels = [label for point in found.points for label in point.labels]
    heights = [one.y for one in labels] + [one.y for one in found.apart]
    assert all(b - a >= ROW - 1e-9 for a, b in itertools.pairwise(heights))
    assert min(heights) >= TOP
    assert max(one.y for one in labels) <= TOP + found.tall + 1e-9
    assert max(heights) < found.height
    assert all(LEFT <= one.x <= LEFT + SIDE < COLUMN for one in found.points)
    if count < 20:
        names = {one.name for one in labels} | {one.name for one in found.apart}
        assert names == {"first", *(one.name for one in candidates)}


class TestDrawing:
    def drawing(self, **names: str) -> str:
        first, second = names.get("first", "a"), names.get("second", "b")
        lost = Candidate(names.get("lost", "c"), "c.json", valid=False, errors=(Fault("m"),))
        found = drawn(candidate(first, 0.5, 1.0), candidate(second, 0.0, 0.25), lost)
        return str(svg(found))

    def test_equal_plots_are_equal_texts_wherever_they_are_drawn(self, tmp_path: Path) -> None:
        """In another process, whose user has a style of his own and a home that takes nothing."""
        (tmp_path / "matplotlibrc").write_text(
            "axes.facecolor: red\nfont.size: 30\naxes.grid: no\n"
        )
        program = (
            "import sys; sys.path.insert(0, 'tests/unit'); import test_reports_plot as t; "
            "sys.stdout.write(t.TestDrawing().drawing())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[2],
            env={
                **os.environ,
                "MATPLOTLIBRC": str(tmp_path),
                "HOME": "/proc/1",
                "TZ": "Asia/Tokyo",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == (self.drawing(), "")

    def test_the_page_colours_it(self) -> None:
        text = self.drawing()
        root = ET.fromstring(text)
        attributes = {name for one in root.iter() for name in one.attrib}
        assert attributes <= {
            "class", "role", "aria-labelledby", "viewBox", "id", "d", "x", "y", "href",
            "text-anchor", "transform",
        }  # fmt: skip
        assert "#000" not in text
        assert "font" not in text
        style = (Path(reports.__file__).parent / "templates" / "report.css").read_text()
        for kind in KINDS - {"axis", "name"}:
            assert re.search(rf"\.{kind}\b", style), kind

    def test_every_name_and_point_is_drawn_once(self) -> None:
        root = ET.fromstring(self.drawing())
        names = [one.text for one in root.iter("text") if one.get("class") == "name"]
        assert names == ["a", "b", "c: invalid"]
        assert len([one for one in root.iter("use") if one.get("class") == "point"]) == 2
        uses = [(float(one.get("x", 0)), float(one.get("y", 0))) for one in root.iter("use")]
        found = drawn(candidate("a", 0.5, 1.0), candidate("b", 0.0, 0.25))
        assert [(one.x, one.y) for one in found.points] == uses[:2]
        ids = [one.get("id") for one in root.iter() if one.get("id")]
        assert len(ids) == len(set(ids))

    @pytest.mark.parametrize(
        "name", ["$x^2$", "\\frac{1}{2}", "text-0", "<b>&", "\u202e\x00\ud800", "\u6f22"]
    )
    def test_a_name_is_text_and_nothing_else(self, name: str) -> None:
        root = ET.fromstring(self.drawing(first=name))
        names = [one.text for one in root.iter("text") if one.get("class") == "name"]
        assert names[0] == visible(name)


def test_nothing_to_compare_loads_no_plotting_library() -> None:
    program = (
        "import json, sys\n"
        "from reports.document import parse_document\n"
        "from reports.html import render\n"
        "raw = json.load(open('tests/data/results/sample.json'))\n"
        "render(parse_document({**raw, 'candidates': raw['candidates'][:1]}))\n"
        "assert 'matplotlib' not in sys.modules\n"
        "render(parse_document(raw))\n"
        "assert 'matplotlib' in sys.modules\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)
