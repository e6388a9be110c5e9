"""The report of a study: where each method gains over likelihood, as a table, pictures and a line per method."""

import itertools
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from gptgan_jax.reports.arms_table import CONTINUED, LIKELIHOOD, Spread
from gptgan_jax.reports.document import (
    Block,
    Bold,
    Bullets,
    Cell,
    Code,
    Heading,
    Paragraph,
    Picture,
    Table,
    to_markdown,
    write_document,
)
from gptgan_jax.reports.figures import COLORS, LINES, Style, blank_figure, cycled, legend_above, tidied
from gptgan_jax.reports.frontier_plots import MARKERS
from gptgan_jax.reports.tables import decimals_of, number
from gptgan_jax.studies.results import CellResult, Row
from gptgan_jax.studies.study_file import ReportChoice, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel
    from matplotlib.figure import Figure

PICTURES = "gain-*.png"
NAMED_CELLS = 4
# A range with a larger ratio is drawn on a logarithmic axis.
MUCH = 4.0


def write_report(study: Study, results: Sequence[CellResult], failed: Sequence[str], waiting: int) -> tuple[str, Path]:
    """Writes report.html and report.md with its pictures into the study's folder.

    Args:
        study: of the cells.
        results: of the cells that have results, in order.
        failed: a line for each failed run.
        waiting: how many runs are not done yet.

    Returns: the table as Markdown, and the path of report.html.

    Raises:
        UserError: the folder can't be written.
    """
    table = main_table(results, study.report)
    title = f"Study {study.folder.name}"
    there = len(results)
    state = f"{there} of {len(study.cells)} cells have results; {waiting} runs are not done yet."
    blocks: list[Block] = [
        Heading(title, level=1),
        *([Bullets(tuple(f"FAILED: {line}" for line in failed))] if failed else []),
        *([Paragraph(state)] if waiting or there < len(study.cells) else []),
        Bullets(tuple(verdicts(results)) or ("No cell has results yet.",)),
        *_pictures(study, results),
        Heading("All cells"),
        table,
        Bullets(tuple(_notes(results))),
        Heading("Reproduce"),
        Code(shlex.join(["gptgan", "study", str(study.file), *study.arguments]), "sh"),
        Paragraph("Each cell's folder has cell.json, and in comparison/ a report of its own with the sweeps."),
    ]
    path = write_document(study.folder, title, blocks, (PICTURES,))
    return to_markdown([table]).rstrip("\n"), path


# ---- in words


def verdicts(results: Sequence[CellResult]) -> list[str]:
    """For each model and baseline, in how many cells the interval over seeds of the gain is above or below 0."""
    lines = []
    for model in _models(results):
        for baseline in (LIKELIHOOD, CONTINUED):
            gains = {cell.name: gain for cell in results if (gain := _gain(cell, model, baseline)) is not None}
            known = {name: interval for name, gain in gains.items() if (interval := interval_of(gain)) is not None}
            if not gains:
                continue
            above, below = ([name for name, ends in known.items() if test(ends)] for test in (_above, _below))
            unknown = len(gains) - len(known)
            lines.append(
                f"{model} against {baseline}: better in {len(above)} of {len(gains)} cells{_where(above)}, worse in "
                f"{len(below)}{_where(below)}, no difference shown in {len(known) - len(above) - len(below)}"
                + (f", without an interval {unknown}" if unknown else "")
            )
    return lines


def interval_of(gain: Spread) -> tuple[float, float] | None:
    """The 95 % interval over seeds; None if fewer than two seeds have a gain."""
    count = sum(one.value is not None for one in gain.by_seed)
    if gain.value is None or gain.error is None or count < 2:
        return None
    return gain.value - gain.error, gain.value + gain.error


def _above(ends: tuple[float, float]) -> bool:
    return ends[0] > 0


def _below(ends: tuple[float, float]) -> bool:
    return ends[1] < 0


def _where(names: Sequence[str]) -> str:
    more = f"; and {len(names) - NAMED_CELLS} more" if len(names) > NAMED_CELLS else ""
    return f" ({'; '.join(names[:NAMED_CELLS])}{more})" if names else ""


def _models(results: Sequence[CellResult]) -> list[str]:
    """The models that have a gain, in order of appearance."""
    return list(dict.fromkeys(row.model for cell in results for row in cell.rows if row.model != LIKELIHOOD))


def _gain(cell: CellResult, model: str, baseline: str) -> Spread | None:
    row = next((row for row in cell.rows if row.model == model), None)
    return None if row is None else row.against_likelihood if baseline == LIKELIHOOD else row.against_continued


def _notes(results: Sequence[CellResult]) -> list[str]:
    if not results:
        return []
    quality = results[0].quality
    seeds = max(len(cell.seeds) for cell in results)
    intervals = sum(
        gain is not None and interval_of(gain) is not None
        for cell in results
        for row in cell.rows
        for gain in (row.against_likelihood, row.against_continued)
    )
    return [
        f"Gain: the difference of {quality['quality']} at equal {quality['diversity']}, within each seed, on average "
        "over the range that the frontiers of both reach; positive is better. – where they share none.",
        f"± is half the 95 % Student-t interval over {seeds} seeds; bold: the interval excludes 0."
        if seeds > 1
        else "One seed: ± is one standard error over texts, and nothing is known of how much seeds differ.",
        *(
            [
                f"There is no correction for many comparisons: of {intervals} intervals about one in twenty excludes 0 "
                "where nothing differs."
            ]
            if intervals
            else []
        ),
        "Figures are on test text at temperature 1. Processor seconds: of what comes after the likelihood training; in "
        "total: with it. A model from scratch is trained by likelihood alone, and has no part of the first. Both are "
        "means over seeds, without the evaluation.",
        *(f"{cell.name}: of {len(cell.seeds)} seed(s) alone" for cell in results if len(cell.seeds) < seeds),
    ]


# ---- the table


def main_table(results: Sequence[CellResult], choice: ReportChoice) -> Table:
    """A row for each cell and model."""
    rows = [(cell, row) for cell in results for row in cell.rows]
    heads = {name: head for cell in results for name, head in cell.heads.items()}
    if choice.figures:
        heads = {name: heads.get(name, name) for name in choice.figures}
    own = [row.seconds for _, row in rows]
    totals = [_total(cell, row) for cell, row in rows]
    columns = [
        ("cell", [cell.name for cell, _ in rows]),
        ("model", [row.model for _, row in rows]),
        ("generator's parameters", [f"{row.sizes.generator:,}" if row.sizes else "–" for _, row in rows]),
        ("discriminator's", [_discriminator(row) for _, row in rows]),
        (f"gain against {LIKELIHOOD}", _gains_shown([row.against_likelihood for _, row in rows])),
        (f"gain against {CONTINUED}", _gains_shown([row.against_continued for _, row in rows])),
        *((head, _spreads_shown([row.figures.get(name) for _, row in rows])) for name, head in heads.items()),
        ("processor seconds", [number(one.value, 1) for one in own]),
        ("in total", [number(one, 1) for one in totals]),
    ]
    cells: list[tuple[Cell, ...]] = list(zip(*(column for _, column in columns), strict=True))
    return Table(tuple(head for head, _ in columns), tuple(cells), right=range(2, len(columns)))


def _total(cell: CellResult, row: Row) -> float | None:
    first = cell.rows[0]
    if row is first or row.from_scratch:
        return row.seconds.value
    both = row.seconds.value, first.seconds.value
    return None if both[0] is None or both[1] is None else both[0] + both[1]


def _discriminator(row: Row) -> str:
    count = row.sizes.discriminator if row.sizes else None
    return "–" if row.sizes is None or count is None else f"{count:,} ({count / row.sizes.generator:.2g} x)"


def _gains_shown(gains: Sequence[Spread | None]) -> list[Cell]:
    decimals = decimals_of([gain.value for gain in gains if gain is not None], whole=False)
    shown: list[Cell] = []
    for gain in gains:
        text = "–" if gain is None else gain.shown(decimals, sign=True)
        ends = None if gain is None else interval_of(gain)
        shown.append(Bold(text) if ends is not None and (_above(ends) or _below(ends)) else text)
    return shown


def _spreads_shown(spreads: Sequence[Spread | None]) -> list[Cell]:
    decimals = decimals_of([one.value for one in spreads if one is not None], whole=False)
    return ["–" if one is None else one.shown(decimals) for one in spreads]


# ---- the pictures


def _pictures(study: Study, results: Sequence[CellResult]) -> list[Block]:
    blocks: list[Block] = []
    for i, model in enumerate(_models(results), 1):
        figure = gain_figure(results, model, *axes_of(study, results))
        if figure is not None:
            alt = f"Gain of {model} over likelihood at equal diversity, in each cell"
            blocks += [Heading(f"Gain of {model} over likelihood", 3), Picture(f"gain-{i}.png", alt, figure)]
    return [Heading("Where each method gains"), *blocks] if blocks else []


def axes_of(study: Study, results: Sequence[CellResult]) -> tuple[dict[str, tuple[str, ...]], str | None]:
    """The axes with their labels, in the order of the pictures, and the axis with a line for each point.

    If FILE doesn't choose them, those along which the gains vary most: by the range of the means of their points.
    """
    varying = {axis: labels for axis, labels in study.axes.items() if len(labels) > 1} or dict(study.axes)
    effects = {axis: _effect(axis, results) for axis in varying}
    order = sorted(varying, key=lambda axis: (-effects[axis], -len(varying[axis])))
    for chosen in (study.report.lines, study.report.along):  # the last is the first
        if chosen is not None:
            order = [chosen, *(axis for axis in order if axis != chosen)]
    if study.report.along is None and study.report.lines is not None and len(order) > 1:
        order[:2] = order[1::-1]
    return {axis: study.axes[axis] for axis in order}, order[1] if len(order) > 1 else None


def _effect(axis: str, results: Sequence[CellResult]) -> float:
    ranges = []
    for model in _models(results):
        means: dict[str, list[float]] = {}
        for cell in results:
            gain = _gain(cell, model, LIKELIHOOD)
            if gain is not None and gain.value is not None:
                means.setdefault(cell.points[axis], []).append(gain.value)
        at = [fmean(values) for values in means.values()]
        ranges.append(max(at) - min(at) if at else 0.0)
    return fmean(ranges) if ranges else 0.0


def gain_figure(
    results: Sequence[CellResult], model: str, axes: Mapping[str, tuple[str, ...]], lines: str | None
) -> "Figure | None":
    """The gain over likelihood along the first axis, with its interval over seeds; one panel for each combination of
    points of the other axes.

    Args:
        results: of the cells.
        model: whose gain is drawn.
        axes: with the labels of their points; the first is the picture's x-axis.
        lines: the axis with a line for each point; None for a single line.

    Returns: None if no cell has a gain.
    """
    gains = {
        tuple(cell.points[axis] for axis in axes): gain
        for cell in results
        if (gain := _gain(cell, model, LIKELIHOOD)) is not None and gain.value is not None
    }
    if not gains:
        return None
    along, others = next(iter(axes)), [axis for axis in list(axes)[1:] if axis != lines]
    panels = list(itertools.product(*(axes[axis] for axis in others)))
    abreast = min(len(panels), 2)
    rows = math.ceil(len(panels) / abreast)
    labels = axes[lines] if lines is not None else ("",)
    figure = blank_figure(0.6 + 0.2 * len(labels) + 3.2 * rows)
    drawn = tidied(figure.subplots(rows, abreast, sharex=True, sharey=True, squeeze=False).flat)
    for spare in drawn[len(panels) :]:
        spare.remove()
    places = _places(axes[along])
    looks: dict[str, Style] = {
        label: {"color": cycled(COLORS, i), "ls": cycled(LINES, i), "marker": cycled(MARKERS, i), "ms": 5}
        for i, label in enumerate(labels)
    }
    for panel, combination in zip(drawn, panels, strict=False):
        panel.axhline(0, color="0.35", linewidth=1)
        for label in labels:
            fixed = dict(zip(others, combination, strict=True)) | ({} if lines is None else {lines: label})
            points = [
                (places[at], gain)
                for at in axes[along]
                if (gain := gains.get(tuple((fixed | {along: at})[axis] for axis in axes))) is not None
            ]
            if points:
                bars = [gain.error or 0.0 if interval_of(gain) else 0.0 for _, gain in points]
                at = [place for place, _ in points]
                panel.errorbar(at, [gain.value or 0.0 for _, gain in points], bars, capsize=3, **looks[label])
        _label(panel, along, axes[along], places, ", ".join(map(_named, others, combination)))
        panel.set_ylabel(f"gain of {results[0].quality['quality']}", parse_math=False)
    if lines is not None:
        legend_above(figure, {_named(lines, label): look for label, look in looks.items()})
    return figure


def _label(panel: "Panel", along: str, labels: Sequence[str], places: Mapping[str, float], title: str) -> None:
    values = list(places.values())
    if min(values) > 0 and max(values) >= MUCH * min(values) and _numbers(labels):
        panel.set_xscale("log")
    panel.set_xticks(values, labels, parse_math=False)
    panel.minorticks_off()
    panel.tick_params(labelbottom=True, labelleft=True)
    panel.set_xlabel(along.rpartition(".")[2], parse_math=False)
    panel.set_title(title, fontsize=10, parse_math=False)


def _named(axis: str, label: str) -> str:
    return f"{axis.rpartition('.')[2]} {label}"


def _places(labels: Sequence[str]) -> dict[str, float]:
    """The position of each point of an axis: its value if all are numbers, otherwise its index."""
    numbers = _numbers(labels)
    return dict(zip(labels, numbers or map(float, range(len(labels))), strict=True))


def _numbers(labels: Sequence[str]) -> list[float]:
    """The values of labels if all are finite numbers; otherwise empty."""
    try:
        found = [float(label) for label in labels]
    except ValueError:
        return []
    return found if all(map(math.isfinite, found)) else []
