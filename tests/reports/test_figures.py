"""Pictures show what was recorded and measured, nothing else, with units, and nothing on top of another."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reported import AXES, COLUMNS, record, sweep

from gptgan_jax.config import RecordsConfig
from gptgan_jax.evaluation.results import Cell, Sweep
from gptgan_jax.metrics.estimates import REAL, Estimate
from gptgan_jax.reports.figures import (
    PhaseSpan,
    comparison_figure,
    discriminator_figure,
    loss_figure,
    phases_in,
)
from gptgan_jax.reports.frontier_plots import frontier_figure, frontier_points
from gptgan_jax.runs.records import Records, read_metrics

PHASES = [PhaseSpan("likelihood", 0, 20), PhaseSpan("discriminator", 20, 25), PhaseSpan("adversarial", 25, 60)]
FIGURES = {"discriminator_accuracy": 0.7, "entropy": 3.0, "length": 9.0, "kl": 0.1, "repetition": 0.02}


def axes_of(figure: Any) -> list[Any]:
    return figure.axes


def lines_of(panel: Any) -> list[list[list[float]]]:
    return [np.round(line.get_xydata(), 6).tolist() for line in panel.lines]


def test_the_curves_are_the_records(tmp_path: Path) -> None:
    record(tmp_path, 60)
    records = read_metrics(tmp_path)
    (axes,) = axes_of(loss_figure(records, PHASES))
    by_label: dict[str, list[list[list[float]]]] = {}
    for line in axes.lines:
        by_label.setdefault(line.get_label(), []).append(line.get_xydata().tolist())
    (training,) = by_label["training"]
    assert [step for step, _ in training] == [*range(1, 21)], "an adversarial loss is of another unit"
    likelihood, adversarial = ([[step, 2.5] for step in steps] for steps in ((10, 20), (30, 40, 50, 60)))
    assert by_label["validation"] == [likelihood, adversarial], "no line from one phase to the next"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]
    assert [text.get_text() for text in axes.texts] == ["likelihood", "discriminator", "adversarial"]
    panels = axes_of(discriminator_figure(records, PHASES))
    assert [panel.lines[0].get_xdata()[0] for panel in panels] == [21, 26, 26, 26]
    assert all("(" in panel.get_ylabel() for panel in [axes, *panels]), "every axis has its unit"
    assert panels[0].get_legend().get_texts()[0].get_text() == "healthy: 0.55 to 0.95"


def test_each_reward_of_the_texts_has_a_panel() -> None:
    paid = {"reward/short": 0.5, "reward/answers": 0.1}
    records = [{"phase": "adversarial", "step": step, **FIGURES, **paid} for step in (1, 2)]
    panels = axes_of(discriminator_figure(records, []))
    assert [panel.get_ylabel() for panel in panels[len(FIGURES) :]] == [
        "reward\nanswers\n(mean of a text)", "reward\nshort\n(mean of a text)",
    ]  # fmt: skip
    assert lines_of(panels[-1]) == [[[1, 0.5], [2, 0.5]]]


@pytest.mark.parametrize("missing", FIGURES)
def test_a_key_that_was_not_recorded_or_never_finite_has_no_panel(missing: str) -> None:
    records = [{"phase": "adversarial", "step": 5, **FIGURES}]
    assert len(axes_of(discriminator_figure(records, []))) == len(FIGURES)
    for value in ({}, {missing: None}):
        records = [{"phase": "adversarial", "step": 5, **{k: v for k, v in FIGURES.items() if k != missing}, **value}]
        axes = axes_of(discriminator_figure(records, []))
        assert len(axes) == len(FIGURES) - 1
        assert all(len(panel.lines[0].get_xdata()) == 1 for panel in axes)


def test_what_real_text_has_stands_beside_the_samples_where_it_was_recorded() -> None:
    records = [{"phase": "adversarial", "step": 5, **FIGURES}]
    assert all(len(panel.lines) == 1 for panel in axes_of(discriminator_figure(records, [])))
    with_real = [record | {"real_length": 8.0} for record in records]
    panel = axes_of(discriminator_figure(with_real, []))[2]
    assert lines_of(panel) == [[[5, 9.0]], [[5, 8.0]]]
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["samples", "real text"]
    with_real = [record | {"real_repetition": 0.01} for record in records]
    assert lines_of(axes_of(discriminator_figure(with_real, []))[4]) == [[[5, 0.02]], [[5, 0.01]]]


def test_nothing_recorded_nothing_drawn() -> None:
    assert loss_figure([], []) is None
    assert discriminator_figure([], []) is None
    assert comparison_figure({"a": [[], []]}) is None


def test_phases_are_found_in_the_records(tmp_path: Path) -> None:
    with Records.open(tmp_path, RecordsConfig(tensorboard=False)) as records:
        records.write("likelihood", 10, {"loss": 1.0})
        records.write("adversarial", 15, {"loss": 1.0})
    assert phases_in(read_metrics(tmp_path)) == [PhaseSpan("likelihood", 0, 10), PhaseSpan("adversarial", 10, 15)]
    assert phases_in([]) == []


def test_runs_are_compared_in_one_colour_per_group_one_line_per_run() -> None:
    def run(value: float, **more: float) -> list[dict[str, Any]]:
        return [{"phase": "adversarial", "step": 5, "discriminator_accuracy": value, **more}]

    figure = comparison_figure({"a": [run(0.6), run(0.7)], "$b_{$": [run(0.3, kl=0.1), []]})
    accuracy, kl = axes_of(figure)
    assert lines_of(accuracy) == [[[5, 0.6]], [[5, 0.7]], [[5, 0.3]]]
    colors = [line.get_color() for line in accuracy.lines]
    assert colors[0] == colors[1] != colors[2] == kl.lines[0].get_color()
    assert accuracy.get_ylim()[0] < 0.3
    assert accuracy.get_legend().get_texts()[0].get_text() == "healthy: 0.55 to 0.95"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "$b_{$"]
    figure.draw_without_rendering()  # a label that were taken for mathematics would raise


# ---- frontiers


def test_a_frontier_joins_the_cells_of_a_column_and_a_top_p_by_temperature() -> None:
    one = sweep()
    shuffled = dataclasses.replace(one, cells=one.cells[::-1])
    points = frontier_points([shuffled], AXES, "adversarial", 0.9)
    assert [point.temperature for point in points] == [0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2]
    assert points[4].quality.value == pytest.approx(0.9 - 0.3 * 0.98 + 0.1)
    assert points[4].diversity == Estimate(pytest.approx(0.9 - 0.3 * 0.98), 0.02)
    test_only = Cell("adversarial", 1.0, 1.0, {}, one.cells[0].test)
    assert len(frontier_points([dataclasses.replace(one, cells=[test_only])], AXES, "adversarial", 1.0)) == 1


def test_the_picture_of_one_sweep_has_a_colour_per_column_a_style_per_top_p_and_a_star() -> None:
    (panel,) = axes_of(frontier_figure({"": [sweep()]}, AXES, "20 texts"))
    assert len(panel.lines) == 7
    *lines, star = panel.lines
    expected = [
        [[p.diversity.value, p.quality.value] for p in frontier_points([sweep()], AXES, column, top_p)]
        for column in COLUMNS
        for top_p in (1.0, 0.9)
    ]
    assert [line.get_xydata().tolist() for line in lines] == expected
    assert star.get_xydata().tolist() == [[0.5, 0.8]]
    assert star.get_marker() == "*"
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 3
    assert [line.get_color() for line in lines[::2]] == [line.get_color() for line in lines[1::2]]
    assert [line.get_linestyle() for line in lines] == ["-", "--"] * 3
    assert panel.get_xlabel().split() == ["Self-BLEU-4", "(share)", "←", "better"]
    assert panel.get_ylabel().split() == ["BLEU-4", "better", "→"]
    figure = panel.figure
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [*COLUMNS, "top-p 1", "top-p 0.9", "real text"]
    assert figure.get_supxlabel() == "20 texts"
    bars = panel.collections[0].get_segments()
    assert np.ptp(bars[0][:, 0]) == pytest.approx(0.04), "one standard error to each side"


def test_temperatures_stand_beside_some_points_and_nothing_lies_on_another() -> None:
    for sweeps in ({"": [sweep()]}, {"base": [sweep()] * 3, "control: x": [sweep(0.02)] * 3}):
        figure = frontier_figure(sweeps, AXES, "a long signature, " * 20)
        assert figure is not None
        figure.draw_without_rendering()
        assert figure.bbox.width == 800
        for panel in axes_of(figure):
            assert {text.get_text() for text in panel.texts} >= {"0.6", "1.2"}
            boxes = [text.get_window_extent() for text in panel.texts]
            assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
            bars = [
                end for bars in panel.collections for bar in bars.get_segments() for end in (*bar, bar.mean(axis=0))
            ]
            drawn = [xy for line in panel.lines for xy in line.get_xydata()]
            at = [panel.transData.transform(xy) for xy in [*drawn, *bars]]
            assert not any(box.contains(x, y) for box in boxes for x, y in at)
            assert all(text.get_fontsize() >= 7 for text in panel.texts)
        texts = [figure.legends[0].get_window_extent(), *(panel.get_tightbbox() for panel in axes_of(figure))]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(texts, 2))
        assert all(box.x0 >= 0 and box.x1 <= 800 for box in texts)


def test_groups_are_compared_in_a_panel_per_column_and_averaged_over_their_runs() -> None:
    base, control = [sweep(0.1), sweep(0.2), sweep(0.6)], [sweep(0.0)]
    figure = frontier_figure({"base": base, "control: x": control}, AXES)
    panels = axes_of(figure)
    assert [panel.get_title() for panel in panels] == list(COLUMNS)
    assert len({panel.get_xlim() for panel in panels}) == len({panel.get_ylim() for panel in panels}) == 1
    lines = [line for line in panels[2].lines if line.get_marker() != "*"]
    assert [len(line.get_xdata()) for line in lines] == [7] * 4
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()
    point = frontier_points(base, AXES, "adversarial", 1.0)[0]
    assert point.quality.value == pytest.approx(0.9 - 0.3 * 0.6 + 0.3)
    assert point.quality.error == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1) / math.sqrt(3))
    same = frontier_points(base, AXES, REAL, 1.0)[0]
    assert same.quality == Estimate(0.8, 0.01), "real text, the same in all runs, keeps its own error"


def test_a_baseline_that_some_of_the_runs_share_counts_once() -> None:
    points = frontier_points([sweep(0.1), sweep(0.4), sweep(0.1), sweep(0.4), sweep(0.4)], AXES, "adversarial", 1.0)
    assert points == frontier_points([sweep(0.1), sweep(0.4)], AXES, "adversarial", 1.0)
    assert points[0].quality.error == pytest.approx(0.3 / 2)


def test_cells_that_are_not_finite_in_every_run_are_left_out() -> None:
    def changed(value: float | None) -> Sweep:
        one = sweep()
        cells = [
            dataclasses.replace(c, test=c.test | {"BLEU-4": Estimate(value)})
            if (c.column, c.top_p) == ("continued", 0.9) or (c.column, c.temperature) == ("likelihood", 0.6)
            else c
            for c in one.cells
        ]
        return dataclasses.replace(one, cells=cells)

    for value in (math.inf, None):
        (panel,) = axes_of(frontier_figure({"": [sweep(), changed(value)]}, AXES))
        assert [len(line.get_xdata()) for line in panel.lines] == [6, 6, 7, 7, 7, 1]
    nothing = dataclasses.replace(sweep(), cells=[c for c in sweep().cells if c.column == REAL])
    assert frontier_figure({"": [nothing]}, AXES) is None
    assert frontier_figure({}, AXES) is None
