"""The pictures and words of a study's report, from results that are made up."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gptgan_jax.metrics.estimates import Estimate
from gptgan_jax.reports.arms_table import Spread, spread_of
from gptgan_jax.reports.frontier_plots import MARKERS
from gptgan_jax.studies.report import axes_of, gain_figure, interval_of, main_table, verdicts
from gptgan_jax.studies.results import CellResult, Row, Sizes
from gptgan_jax.studies.study_file import ReportChoice, Study

AXES = {"generator.width": ("8", "16", "64"), "data.train_size": ("1000", "100000"), "judge": ("small", "large")}
QUALITY = {"quality": "grammatical", "diversity": "held-out NLL"}
NOTHING = Spread(None, None, ())


def gain(*by_seed: float | None) -> Spread:
    return spread_of([Estimate(value) for value in by_seed])


def result(points: Mapping[str, str], found: Spread, figures: Mapping[str, Spread] | None = None) -> CellResult:
    rows = (
        Row("likelihood", True, Sizes(100, None), None, None, figures or {}, gain(10.0)),
        Row("method", False, Sizes(100, 50), found, None, figures or {}, gain(2.0)),
        Row("longer", True, Sizes(100, None), gain(0.0, 0.0), None, {}, gain(7.0)),
    )
    heads = {"JS": "JS ↓", "NLL": "NLL ↓"}
    return CellResult(", ".join(points.values()), points, (0, 1), QUALITY, heads, rows, {})


def study(choice: ReportChoice | None = None) -> Study:
    return Study(Path("x.yaml"), Path("x"), (0, 1), AXES, (), choice or ReportChoice())


def grid() -> list[CellResult]:
    """The gain grows by 0.1 with each step of the width, by 0.3 with the judge, and not with the text."""
    return [
        result({"generator.width": w, "data.train_size": n, "judge": j}, gain(found := 0.1 * i + 0.3 * k, found + 0.02))
        for i, w in enumerate(AXES["generator.width"])
        for n in AXES["data.train_size"]
        for k, j in enumerate(AXES["judge"])
    ]  # fmt: skip


def test_a_picture_runs_along_the_axis_that_gains_differ_most_on() -> None:
    axes, lines = axes_of(study(), grid())
    assert list(axes) == ["judge", "generator.width", "data.train_size"]
    assert lines == "generator.width"


@pytest.mark.parametrize(
    ("choice", "first", "lines"),
    [
        (ReportChoice(along="data.train_size"), "data.train_size", "judge"),
        (ReportChoice(lines="judge"), "generator.width", "judge"),
        (ReportChoice(along="generator.width", lines="data.train_size"), "generator.width", "data.train_size"),
    ],
)
def test_the_file_may_choose_the_axes(choice: ReportChoice, first: str, lines: str) -> None:
    axes, of_lines = axes_of(study(choice), grid())
    assert (next(iter(axes)), of_lines) == (first, lines)
    assert set(axes) == set(AXES)


def test_the_picture_has_every_cells_gain_and_interval_once() -> None:
    figure = gain_figure(grid(), "method", *axes_of(study(ReportChoice("generator.width", "judge")), grid()))
    panels = figure.axes
    assert [panel.get_title() for panel in panels] == ["train_size 1000", "train_size 100000"]
    for panel in panels:
        drawn: dict[tuple[float, ...], list[list[float]]] = {}
        for line in panel.lines:
            if line.get_marker() in MARKERS:
                drawn.setdefault(tuple(line.get_xdata()), []).append(list(line.get_ydata()))
        ((places, values),) = drawn.items()
        assert places == (8, 16, 64)
        assert values == [pytest.approx([0.01, 0.11, 0.21]), pytest.approx([0.31, 0.41, 0.51])]
        assert panel.get_xscale() == "log"
        bars = [bar.get_segments() for bar in panel.collections]
        # Of 2 seeds 0.02 apart: t 12.706, standard error 0.01.
        assert {round(float(end[1][1] - end[0][1]), 3) for of_line in bars for end in of_line} == {0.254}
    assert figure.legends[0].get_texts()[0].get_text() == "judge small"


def test_of_cells_by_name_the_picture_has_them_in_their_order() -> None:
    cells = [result({"cell": name}, gain(value)) for name, value in (("b", 0.5), ("a", 0.1))]
    figure = gain_figure(cells, "method", {"cell": ("b", "a", "not yet")}, None)
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["b", "a", "not yet"]
    assert any(list(line.get_ydata()) == [0.5, 0.1] for line in panel.lines)


def test_there_is_no_picture_of_what_no_cell_has() -> None:
    assert gain_figure([result({"cell": "a"}, gain(None))], "method", {"cell": ("a",)}, None) is None


def test_an_interval_needs_two_seeds() -> None:
    assert interval_of(gain(0.1)) is None
    assert interval_of(gain(0.1, None)) is None
    assert interval_of(spread_of([Estimate(0.1, 0.02)])) is None  # that error is over texts
    low, high = interval_of(gain(0.1, 0.3))
    assert (low + high) / 2 == pytest.approx(0.2)
    assert (high - low) / 2 == pytest.approx(12.706 * 0.1, rel=1e-3)


def test_the_words_count_cells_by_their_intervals() -> None:
    cells = [
        result({"cell": "better"}, gain(0.10, 0.101)),
        result({"cell": "worse"}, gain(-0.10, -0.101)),
        result({"cell": "unclear"}, gain(0.0, 0.2)),
        result({"cell": "one seed"}, gain(0.5, None)),
    ]
    assert verdicts(cells)[0] == (
        "method against likelihood: better in 1 of 4 cells (better), worse in 1 (worse), no difference shown in 1, "
        "without an interval 1"
    )


def test_the_table_shows_what_stands_out_costs_and_the_figures_that_were_chosen() -> None:
    figures = {"JS": gain(0.2, 0.2), "NLL": gain(1.0, 1.0)}
    cells = [result({"cell": "a"}, gain(0.10, 0.101), figures)]
    table = main_table(cells, ReportChoice(figures=("JS",)))
    assert table.heads[-3:] == ("JS ↓", "processor seconds", "in total")
    rows = {row[1]: row for row in table.rows}
    assert rows["method"][2:4] == ("100", "50 (0.5 x)")
    assert rows["method"][4].text == "+0.101 ± 0.006"
    seconds = {name: [float(cell) for cell in rows[name][-2:]] for name in rows}
    assert seconds == {"likelihood": [10, 10], "method": [2, 12], "longer": [7, 7]}
