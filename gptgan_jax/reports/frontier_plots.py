"""The picture of a sweep: quality over diversity, for each generator and top-p along temperature."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gptgan_jax.evaluation.results import Axes, Sweep
from gptgan_jax.metrics.estimates import REAL, Estimate, mean_of
from gptgan_jax.reports.figures import COLORS, LINES, Style, blank_figure, cycled, legend_above, line_width, tidied
from gptgan_jax.reports.tables import named

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Point:
    """The metrics of texts sampled at one temperature; both values are finite."""

    temperature: float
    diversity: Estimate
    quality: Estimate


def frontier_points(runs: Sequence[Sweep], axes: Axes, column: str, top_p: float) -> list[Point]:
    """The cells of a column and a top-p on test text, by increasing temperature.

    Several runs are averaged, with the standard error over runs. Equal estimates, as of real text or of a baseline that
    runs copied from one, count once; the cell's own value and error stay if there are no others. Cells that are not
    finite in every run are left out.
    """
    found: dict[float, list[tuple[Estimate, Estimate]]] = {}
    for cell in (cell for run in runs for cell in run.cells if (cell.column, cell.top_p) == (column, top_p)):
        both = (cell.test.get(axes.diversity, Estimate(None)), cell.test.get(axes.quality, Estimate(None)))
        if all(one.value is not None and math.isfinite(one.value) for one in both):
            found.setdefault(cell.temperature, []).append(both)
    points = []
    for temperature, pairs in sorted(found.items()):
        if len(pairs) == len(runs):
            diversity, quality = (
                one[0] if len(set(one)) == 1 else mean_of([e.value for e in one if e.value is not None])
                for one in zip(*dict.fromkeys(pairs), strict=True)
            )
            points.append(Point(temperature, diversity, quality))
    return points


def frontier_figure(sweeps: Mapping[str, Sequence[Sweep]], axes: Axes, note: str = "") -> "Figure | None":
    """Quality over diversity on test text: points joined along temperature, one line style per top-p.

    With one label, a single panel in which each column has a colour; with several, one panel per column in which each
    label has a colour. Points and bars are those of `frontier_points`; some have their temperature next to them.

    Args:
        sweeps: those of the runs of each label, which differ only in their seeds.
        axes: the metrics.
        note: small text below, such as how they were measured.
    """
    drawings = dict.fromkeys((c.column, c.top_p) for runs in sweeps.values() for run in runs for c in run.cells)
    lines = {
        (label, *drawing): points
        for label, runs in sweeps.items()
        for drawing in drawings
        if (points := frontier_points(runs, axes, *drawing))
    }
    columns = list(dict.fromkeys(column for _, column, _ in lines if column != REAL))
    if not columns:
        return None
    single = len(sweeps) == 1
    keys = columns if single else list(sweeps)
    looks: dict[str, Style] = {
        key: {
            "color": cycled(COLORS, i),
            "marker": cycled(MARKERS, i),
            "lw": 1.3 if single else line_width(i),
            "ms": 5 if single else 3.5 + 1.5 * line_width(i),
        }
        for i, key in enumerate(keys)
    }
    top_ps = sorted({top_p for _, column, top_p in lines if column != REAL}, reverse=True)
    strokes: dict[float, Style] = {
        p: {"ls": cycled(LINES, i), "mfc": "white" if i else None} for i, p in enumerate(top_ps)
    }
    star: Style = {"color": "black", "marker": "*", "ls": "", "zorder": 4}
    figure, panels = _grid([""] if single else columns, named=0 if single else len(keys))
    marks: list[tuple[Panel, float, float, str, str]] = []
    for (label, column, top_p), points in lines.items():
        x, y = (np.array([e.value for e in side], float) for side in _sides(points))
        bars = [[e.error or 0.0 for e in side] for side in _sides(points)]
        if column == REAL:
            for panel in panels:
                panel.errorbar(x, y, bars[1], bars[0], ms=13, elinewidth=0.7, **star)
            continue
        panel = panels[0 if single else columns.index(column)]
        look = looks[column if single else label]
        panel.errorbar(x, y, bars[1], bars[0], elinewidth=0.7, **look, **strokes[top_p])
        temperatures = np.array([point.temperature for point in points])
        last, near_one = len(points) - 1, int(np.abs(temperatures - 1).argmin())
        for i in dict.fromkeys((0, last, near_one, last // 2) if single else (0, last, near_one)):
            marks.append((panel, x[i], y[i], f"{temperatures[i]:g}", look["color"]))
    arrows = {"higher": "better →", "lower": "← better"}
    for panel in panels:
        x_label = f"{named(axes.diversity, axes.diversity_unit)}    {arrows[axes.diversity_better]}"
        y_label = f"{named(axes.quality, axes.quality_unit)}    {arrows[axes.quality_better]}"
        panel.set_xlabel(x_label, parse_math=False)
        panel.set_ylabel(y_label, parse_math=False)
    if len(strokes) > 1:
        looks |= {f"top-p {p:g}": {"color": "0.35", "marker": "o", **stroke} for p, stroke in strokes.items()}
    if any(column == REAL for _, column, _ in lines):
        looks |= {REAL: {**star, "ms": 11}}
    legend_above(figure, looks)
    if note:
        figure.supxlabel(textwrap.fill(note, 145), x=0.01, ha="left", fontsize=7, color="0.35", parse_math=False)
    _write_beside(figure, marks)
    return figure


def _sides(points: Sequence[Point]) -> tuple[list[Estimate], list[Estimate]]:
    return [point.diversity for point in points], [point.quality for point in points]


def _write_beside(figure: "Figure", marks: "Sequence[tuple[Panel, float, float, str, str]]") -> None:
    """Small labels next to points of panels, where they hide no point, line or other label; otherwise none."""
    figure.draw_without_rendering()  # determines the positions of the panels
    taken = {panel: _drawn(panel) for panel in dict.fromkeys(mark[0] for mark in marks)}
    for panel, x, y, text, color in marks:
        wide, high = 2.7 * len(text) + 0.5, 5.0  # half of each, in pixels
        px, py = panel.transData.transform((x, y))
        for angle in np.arange(16) * math.pi / 8 + math.pi / 4:
            right, up = math.cos(angle), math.sin(angle)
            out = 1 / max(abs(right), abs(up))  # on a rectangle around the point
            cx, cy = px + out * right * (wide + 6), py + out * up * (high + 6)
            box = (cx - wide, cy - high, cx + wide, cy + high)
            inside = panel.bbox.x0 < box[0] < box[2] < panel.bbox.x1 and panel.bbox.y0 < box[1] < box[3] < panel.bbox.y1
            if inside and not any(_overlap(box, other) for other in taken[panel]):
                taken[panel].append(box)
                at = ((cx - px) * 0.72, (cy - py) * 0.72)
                style: Style = {"fontsize": 7.5, "color": color, "ha": "center", "va": "center"}
                panel.annotate(text, (x, y), at, textcoords="offset points", **style).set_in_layout(False)
                break


def _drawn(panel: "Panel") -> list[tuple[float, float, float, float]]:
    """Boxes in pixels around all points, and along all lines and error bars, of a panel."""
    points = [np.asarray(line.get_xydata()) for line in panel.lines]
    joined = [at for at, line in zip(points, panel.lines, strict=True) if line.get_linestyle() != "None"]
    bars = [np.asarray(bar) for bars in panel.collections for bar in bars.get_segments()]  # type: ignore[attr-defined]
    along = np.linspace(0, 1, 40)[:, None, None]
    between = [(at[:-1] * (1 - along) + at[1:] * along).reshape(-1, 2) for at in joined + bars]
    return [
        (x - half, y - half, x + half, y + half)
        for half, of in ((5, points), (1, between))
        for x, y in panel.transData.transform(np.concatenate(of))
    ]


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _grid(titles: Sequence[str], named: int) -> "tuple[Figure, list[Panel]]":
    """A panel for each title, at most two side by side, on the same axes, with room for `named` lines of legend."""
    abreast = min(len(titles), 2)
    rows = math.ceil(len(titles) / abreast)
    figure = blank_figure((6.2 if abreast == 1 else 0.8 + 4.0 * rows) + 0.2 * named)
    panels = tidied(figure.subplots(rows, abreast, sharex=True, sharey=True, squeeze=False).flat)
    for spare in panels[len(titles) :]:
        spare.remove()
    for panel, title in zip(panels, titles, strict=False):
        panel.tick_params(labelbottom=True, labelleft=True)
        panel.set_title(title, fontsize=10, parse_math=False)
    return figure, panels[: len(titles)]
