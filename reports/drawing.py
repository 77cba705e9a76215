"""The plot as inline SVG: matplotlib draws it, the page's style sheet colours it.

Names come from outside and never pass through matplotlib, which would read mathematics in them and
look for their glyphs: it draws a number in the place of each, and they are put in afterwards.  Text
stays text, and no font decides a place.
"""

# pyright: standard
# (matplotlib leaves keyword arguments without types)

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from markupsafe import Markup

from reports.plot import COLUMN, LEFT, SIDE, TOP, WIDTH, Label, Plot
from reports.text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TICKS = (0, 0.25, 0.5, 0.75, 1)
KINDS = frozenset({"plane", "grid", "tick", "axis", "lead", "cross", "point", "name"})
"""What is drawn, and the classes of it."""
_WORK, _NAME = COLUMN + 84, COLUMN + 172
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_ANCHOR = re.compile(r"text-anchor: (\w+)")
_MARK = "text-"


def svg(plot: Plot) -> Markup:
    """An ``svg`` element with a title and a description; equal plots give equal texts."""
    # It would complain of a home that cannot be written, and of fonts that nothing here needs.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib import rc_context, rcdefaults, rcParams
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    names: list[str] = []
    written = io.BytesIO()
    with rc_context():
        rcdefaults()  # whoever runs this may have a style of his own
        rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "sidestep"})
        figure = Figure(figsize=(WIDTH / 72, plot.height / 72), dpi=72, frameon=False)
        FigureCanvasSVG(figure)
        _draw_plane(figure, plot)
        _draw_names(figure, plot, names)
        figure.savefig(written, format="svg", metadata={"Date": None})
    drawn = ET.fromstring(written.getvalue())  # noqa: S314 - of numbers alone, by matplotlib
    return Markup(_page_element(drawn, plot, names))  # noqa: S704 - ElementTree escapes


def _draw_plane(figure: Figure, plot: Plot) -> None:
    """Both axes from 0 to 1, and the points."""
    bottom = plot.height - TOP - plot.tall
    place = (LEFT / WIDTH, bottom / plot.height, SIDE / WIDTH, plot.tall / plot.height)
    axes = figure.add_axes(place, xlim=(0, 1), ylim=(0, 1), xticks=TICKS, yticks=TICKS)
    axes.patch.set_gid("plane")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=10)
    axes.grid(visible=True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        for tick in axis.get_major_ticks():
            tick.gridline.set_gid("grid")
            tick.label1.set_gid("tick")
    axes.set_xlabel(plot.words.x, gid="axis", labelpad=10)
    axes.set_ylabel(plot.words.y, gid="axis", labelpad=10)
    for point in plot.points:
        x, y = (point.x - LEFT) / SIDE, 1 - (point.y - TOP) / plot.tall
        axes.plot([x], [y], "ko", markersize=12, clip_on=False, gid="point")


def _draw_names(figure: Figure, plot: Plot, names: list[str]) -> None:
    """What is beside the plane and below it, in the units of ``plot``."""
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(plot.height, 0))
    axes.set_axis_off()

    def write(x: float, y: float, text: str, kind: str) -> None:
        names.append(visible(text))
        axes.text(x, y, f"{_MARK}{len(names) - 1}", gid=kind, va="center_baseline")

    for x, head in zip((COLUMN, _WORK), plot.words.heads, strict=True):
        write(x, 12, head, "tick")
    for point in plot.points:
        for xs, ys in _leaders(point.x, point.y, point.bend, point.labels):
            axes.plot(xs, ys, gid="lead")
        for label in point.labels:
            write(COLUMN, label.y, label.robustness, "tick")
            write(_WORK, label.y, label.utility, "tick")
            write(_NAME, label.y, label.name, "name")
    for one in plot.apart:
        marker, kind = ("kx", "cross") if one.fails else ("k_", "lead")
        axes.plot([LEFT], [one.y], marker, markersize=10, clip_on=False, gid=kind)
        write(LEFT + 16, one.y, f"{one.name}: {one.why}" if one.why else one.name, "name")


def _leaders(
    x: float, y: float, bend: float, labels: tuple[Label, ...]
) -> Iterator[tuple[list[float], list[float]]]:
    """The line from a point to its names, and the bracket at more than one."""
    end = COLUMN - 10
    yield [x + 7, COLUMN - 34, end], [y, bend, bend]
    if len(labels) > 1:
        yield [end, end], [labels[0].y - 6, labels[-1].y + 6]


def _page_element(drawn: ET.Element, plot: Plot, names: list[str]) -> str:
    """The shapes without matplotlib's groups, fonts and colours: those are the page's.

    The page's policy allows no style in an element.
    """
    box = f"0 0 {WIDTH} {plot.height:g}"
    named = {"role": "img", "aria-labelledby": "plot-title plot-desc"}
    root = ET.Element("svg", {"class": "plot", **named, "viewBox": box})
    ET.SubElement(root, "title", id="plot-title").text = plot.words.title
    ET.SubElement(root, "desc", id="plot-desc").text = plot.words.description
    for group in drawn.iter(f"{_SVG}g"):
        kind = group.get("id")
        if kind in KINDS:
            root.extend(_shape(one, kind, names) for one in group.iter() if one.get("style"))
    return ET.tostring(root, encoding="unicode")


def _shape(drawn: ET.Element, kind: str, names: list[str]) -> ET.Element:
    """One ``path``, ``text`` or ``use``."""
    tag = drawn.tag.removeprefix(_SVG)
    made = ET.Element(tag, {"class": kind} if drawn.get("id") is None else {})
    for name in ("x", "y"):
        if (value := drawn.get(name)) is not None:
            made.set(name, value)
    if tag == "text":
        said = drawn.text or ""
        made.text = names[int(said.removeprefix(_MARK))] if said.startswith(_MARK) else said
        anchor, turned = _ANCHOR.search(drawn.get("style", "")), drawn.get("transform", "")
        made.set("text-anchor", anchor[1] if anchor else "start")
        if not turned.startswith("rotate(-0 "):
            made.set("transform", turned)
    elif tag == "use":
        made.set("href", f"#plot-{drawn.get(_LINK, '').removeprefix('#')}")
    else:
        made.set("d", " ".join(drawn.get("d", "").split()))
    if (mark := drawn.get("id")) is not None:
        made.set("id", f"plot-{mark}")
        made = _defined(made)
    return made


def _defined(mark: ET.Element) -> ET.Element:
    """A marker's outline, shown only where it is used."""
    outer = ET.Element("defs")
    outer.append(mark)
    return outer
