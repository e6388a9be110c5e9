"""Frontiers and areas by hand and by brute force, intervals by exact resampling, by SciPy and by simulated coverage."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gptgan_jax.evaluation.frontiers import (
    BestDrawing,
    Dominance,
    Gap,
    best_drawing,
    dominance,
    frontier,
    gap_over_runs,
    oriented_points,
    quality_at,
)
from gptgan_jax.evaluation.results import Axes, Cell, Sweep
from gptgan_jax.metrics.estimates import REAL, Estimate

INF, NAN = math.inf, math.nan
AXES = Axes("fluency", "variety", "higher", "higher", "nats", "bits")
NOTHING = Gap(None, None, None)
COMBINED = "distance"

Points = Sequence[tuple[float, float]]
SMALL = st.integers(-4, 4).map(float)  # few values, so that points tie
POINTS = st.lists(st.tuples(SMALL, SMALL), max_size=12)


def sweep(axes: Axes = AXES, **columns: Points) -> Sweep:
    """A sweep whose columns have these points (diversity, quality) on test text, in the figures' own orientation."""
    cells = [
        Cell(column, 1.0, 1.0, valid={}, test={axes.diversity: Estimate(d), axes.quality: Estimate(q)})
        for column, points in columns.items()
        for d, q in points
    ]
    return Sweep(cells, [axes], combined={}, signatures={})


def compare(*runs: tuple[Points, Points], axes: Axes = AXES, **options: Any) -> Dominance:
    sweeps = [sweep(axes, adversarial=ours, likelihood=theirs) for ours, theirs in runs]
    return dominance(sweeps, axes, "adversarial", "likelihood", **options)


def lifted(points: Points, by: float) -> Points:
    return [(d, q + by) for d, q in points]


def gap_values(found: Dominance) -> list[float | None]:
    return [row.gap.value for row in found.rows]


def verdicts(found: Dominance) -> list[str]:
    return [row.verdict for row in found.rows]


def numbers_in(found: Any) -> list[float]:
    """Every number within a result, however deep."""
    if dataclasses.is_dataclass(found):
        return [x for field in dataclasses.fields(found) for x in numbers_in(getattr(found, field.name))]
    if isinstance(found, list | tuple):
        return [x for one in found for x in numbers_in(one)]
    return [found] if isinstance(found, float | int) else []


def everything_is_finite_and_plain(found: Any) -> bool:
    return all(type(x) in (int, float) and math.isfinite(x) for x in numbers_in(found))


# ------------------------------------------------------------------------------------------------------- frontiers


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], []),
        ([(2, 3)], [(2, 3)]),
        ([(3, 1), (1, 5), (2, 2)], [(1, 5), (2, 2), (3, 1)]),
        ([(1, 5), (2, 1), (3, 2)], [(1, 5), (3, 2)]),  # (2, 1) is worse in both than (3, 2)
        ([(1, 4), (1, 5), (1, 3), (2, 1)], [(1, 5), (2, 1)]),  # of one diversity the best
        ([(1, 5), (2, 5), (3, 1)], [(2, 5), (3, 1)]),  # of one quality the most diverse
        ([(1, 5), (1, 5), (0, 0)], [(1, 5)]),
    ],
)
def test_the_frontier_holds_what_nothing_beats_sorted_by_diversity(points: list, expected: list) -> None:
    found = frontier(np.array(points, np.float64).reshape(-1, 2))
    assert found.shape == (len(expected), 2)
    assert [tuple(point) for point in found] == expected


@given(POINTS)
def test_the_frontier_is_all_that_is_not_dominated_by_brute_force_over_all_pairs(points: list) -> None:
    def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a != b and a[0] >= b[0] and a[1] >= b[1]

    best = {point for point in points if not any(dominates(other, point) for other in points)}
    found = frontier(np.array(points, np.float64).reshape(-1, 2))
    assert [tuple(point) for point in found] == sorted(best)


@given(POINTS.filter(bool), st.randoms(use_true_random=False))
def test_the_frontier_forgets_the_order_of_the_points_and_is_its_own_frontier(points: list, random: Any) -> None:
    found = frontier(np.array(points))
    shuffled = random.sample(points, len(points))
    np.testing.assert_array_equal(frontier(np.array(shuffled)), found)
    np.testing.assert_array_equal(frontier(found), found)


@pytest.mark.parametrize("points", [[[1.0, NAN]], [[1.0, INF]], [1.0, 2.0], [[1.0, 2.0, 3.0]]])
def test_points_that_are_not_finite_pairs_have_no_frontier(points: list) -> None:
    with pytest.raises(ValueError, match="must be finite and"):
        frontier(np.array(points))


def test_quality_along_a_frontier_is_linear_between_points_and_undefined_outside() -> None:
    line = np.array([[1.0, 8.0], [3.0, 4.0], [4.0, 0.0]])
    found = quality_at(line, np.array([0.999, 1.0, 1.5, 3.0, 3.25, 4.0, 4.001]))
    np.testing.assert_allclose(found, [NAN, 8.0, 7.0, 4.0, 3.0, 0.0, NAN])
    np.testing.assert_array_equal(quality_at(line[:1], np.array([0.5, 1.0, 1.5])), [NAN, 8.0, NAN])
    np.testing.assert_array_equal(quality_at(line[:0], np.array([1.0, 2.0])), [NAN, NAN])


def test_points_are_the_cells_of_one_column_with_both_figures_finite_on_test_text() -> None:
    def cell(column: str = "adversarial", **test: float | None) -> Cell:
        good = {"fluency": Estimate(9.0), "variety": Estimate(9.0)}
        return Cell(column, 1.0, 1.0, valid=good, test={name: Estimate(value) for name, value in test.items()})

    cells = [
        cell(fluency=2.0, variety=1.0),
        cell(fluency=2.0, variety=INF),
        cell(fluency=-INF, variety=1.0),
        cell(fluency=NAN, variety=1.0),
        cell(fluency=None, variety=1.0),
        cell(variety=1.0),
        cell("likelihood", fluency=3.0, variety=3.0),
        cell(fluency=4.0, variety=0.0, other=INF),
    ]
    of = Sweep(cells, [AXES], {}, {})
    np.testing.assert_array_equal(oriented_points(of, AXES, "adversarial"), [(1.0, 2.0), (0.0, 4.0)])
    lower = dataclasses.replace(AXES, quality_better="lower")
    np.testing.assert_array_equal(oriented_points(of, lower, "likelihood"), [(3.0, -3.0)])
    assert oriented_points(of, AXES, "continued").shape == (0, 2)


# ------------------------------------------------------------------------------------------------------- comparison

# Ours is 8 - 2d on [0, 4]. Theirs falls from 6 at 1 to 4 at 3 and to 0 at 5. They share [1, 4]; ours is ahead by
# 0 at 1, -2 at 3, and at 4, where ours is 0 and theirs 2, by -2.
OURS: Points = [(0.0, 8.0), (4.0, 0.0)]
THEIRS: Points = [(1.0, 6.0), (3.0, 4.0), (5.0, 0.0), (2.0, 1.0)]  # the last is dominated


def test_rows_and_area_of_one_run_by_hand() -> None:
    found = compare((OURS, THEIRS), levels=3)
    assert [row.diversity for row in found.rows] == [1.5, 2.5, 3.5]
    assert [row.ours for row in found.rows] == [5.0, 3.0, 1.0]
    assert [row.theirs for row in found.rows] == [5.5, 4.5, 3.0]
    assert gap_values(found) == [-0.5, -1.5, -2.0]
    # A triangle of (3 - 1) · 2 / 2 and a box of (4 - 3) · 2, over a range of 3.
    assert found.area == Gap(pytest.approx(-4 / 3), None, None)
    assert (found.ours, found.theirs, found.axes, found.runs) == ("adversarial", "likelihood", AXES, 1)
    assert found.note == "compared at variety 1 to 4 bits, which adversarial and likelihood reach in all runs (1)"


def test_the_area_of_three_runs_is_the_mean_of_theirs_over_the_range_that_all_share() -> None:
    steep = [(3.0, 9.0), (4.0, 5.0)], [(3.0, 4.0), (9.0, 3.0)]
    found = compare((OURS, THEIRS), (lifted(OURS, 3), THEIRS), steep, levels=2)
    # Over [3, 4] the gaps are -2, 1, and 5 falling to 5 - (4 - 1/6).
    over_runs = gap_over_runs(np.array([-2.0, 1.0, (5 + 7 / 6) / 2]))
    assert dataclasses.astuple(found.area) == pytest.approx(dataclasses.astuple(over_runs))
    assert [row.diversity for row in found.rows] == [3.25, 3.75]
    assert [row.ours for row in found.rows] == pytest.approx([(1.5 + 4.5 + 8) / 3, (0.5 + 3.5 + 6) / 3])
    assert found.rows[0].theirs == pytest.approx((3.5 + 3.5 + 4 - 1 / 24) / 3)
    assert found.rows[0].gap.value == pytest.approx((-2 + 1 + 4 + 1 / 24) / 3)
    assert found.note == "compared at variety 3 to 4 bits, which adversarial and likelihood reach in all runs (3)"


@given(POINTS, POINTS)
@settings(max_examples=60, deadline=None)
def test_the_area_is_the_integral_of_the_difference_as_a_fine_grid_finds_it(ours: list, theirs: list) -> None:
    found = compare((ours, theirs))
    a, b = (frontier(np.array(points, np.float64).reshape(-1, 2)) for points in (ours, theirs))
    assert everything_is_finite_and_plain(found)
    if not len(a) or not len(b) or max(a[0, 0], b[0, 0]) > min(a[-1, 0], b[-1, 0]):
        assert found.area == NOTHING
        return
    # Knots lie at whole numbers, so a grid of 64ths meets all of them and the trapezoid rule on it is exact.
    low, high = max(a[0, 0], b[0, 0]), min(a[-1, 0], b[-1, 0])
    grid = np.linspace(low, high, max(1, round((high - low) * 64)) + 1)
    gaps = quality_at(a, grid) - quality_at(b, grid)
    assert found.area.value == pytest.approx((gaps[1:] + gaps[:-1]).mean() / 2, abs=1e-9)


def test_a_shared_range_of_one_point_makes_one_row_and_its_gap_the_area() -> None:
    found = compare(([(0.0, 4.0), (2.0, 3.0)], [(2.0, 1.0), (5.0, 0.0)]))
    assert [(row.diversity, row.ours, row.theirs) for row in found.rows] == [(2.0, 3.0, 1.0)]
    assert found.area == found.rows[0].gap == Gap(2.0, None, None)


@pytest.mark.parametrize("quality", ["lower", "higher"])
@pytest.mark.parametrize("diversity", ["lower", "higher"])
def test_orientation_mirrors_figures_and_leaves_gaps_and_verdicts(quality: Any, diversity: Any) -> None:
    rng = np.random.default_rng(0)
    runs = [([(d, 9 - d + rng.normal()) for d in range(8)], [(d, 4 - d) for d in range(8)]) for _ in range(3)]
    straight = compare(*runs)
    q, d = (1 if better == "higher" else -1 for better in (quality, diversity))
    turned = [tuple([(d * x, q * y) for x, y in points] for points in run) for run in runs]
    axes = Axes("fluency", "variety", quality, diversity, "nats", "bits")
    mirrored = compare(*turned, axes=axes)
    assert verdicts(straight) == ["higher"] * 5
    assert mirrored.area == straight.area
    for row, other in zip(mirrored.rows, straight.rows, strict=True):
        assert row.gap == other.gap
        assert row.verdict == other.verdict
        assert (row.diversity, row.ours, row.theirs) == (d * other.diversity, q * other.ours, q * other.theirs)


def test_a_zero_of_an_axis_where_lower_is_better_is_not_minus_zero() -> None:
    axes = Axes("nll", "self-bleu", "lower", "lower", "nats/token", "")
    found = compare(([(0.0, 0.0)], [(0.0, 0.0)]), axes=axes)
    assert str(found.rows[0]) == str(dataclasses.replace(found.rows[0], diversity=0.0, ours=0.0, theirs=0.0))
    assert "self-bleu 0 to 0," in found.note


def test_the_note_gives_the_range_in_the_figures_own_orientation_from_least_to_most_diverse() -> None:
    axes = Axes("nll", "self-bleu", "lower", "lower", "nats/token", "")
    found = compare(([(0.75, 1.0), (0.25, 2.0)], [(0.5, 2.0), (0.125, 3.0)]), axes=axes, levels=1)
    assert found.note.startswith("compared at self-bleu 0.5 to 0.25, which")
    assert [(row.diversity, row.ours) for row in found.rows] == [(0.375, 1.75)]
    assert found.rows[0].theirs == pytest.approx(2 + 1 / 3)
    assert found.rows[0].gap.value == pytest.approx(1 / 3 + 0.25)  # theirs costs more nats, so ours is ahead


@given(st.lists(st.tuples(POINTS, POINTS), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_exchanging_the_columns_turns_every_gap_round(runs: list) -> None:
    found = compare(*runs)
    turned = compare(*[(theirs, ours) for ours, theirs in runs])
    opposite = {"higher": "lower", "lower": "higher"}
    assert everything_is_finite_and_plain(found)
    assert verdicts(turned) == [opposite.get(verdict, verdict) for verdict in verdicts(found)]
    for gap, other in zip(
        [r.gap for r in found.rows] + [found.area], [r.gap for r in turned.rows] + [turned.area], strict=True
    ):
        assert (gap.value is None) == (other.value is None)
        if gap.value is not None:
            assert gap.value == pytest.approx(-other.value)
        if gap.low is not None:
            assert (gap.low, gap.high) == (pytest.approx(-other.high), pytest.approx(-other.low))


def test_cells_with_an_infinite_figure_change_nothing() -> None:
    plain = compare((OURS, THEIRS))
    assert compare(([*OURS, (INF, 9.0), (2.0, INF), (-INF, 1.0)], [*THEIRS, (INF, INF), (3.0, -INF)])) == plain


def test_the_same_line_with_more_knots_is_no_difference_whatever_the_rounding() -> None:
    line = [(0.0, 0.7), (0.3, 0.4), (0.7, 0.0)]
    found = compare(*[([line[0], line[2]], line)] * 3, levels=50)
    assert set(verdicts(found)) == {"no difference"}
    assert found.area == Gap(0.0, 0.0, 0.0)


# ------------------------------------------------------------------------------------------------------- no comparison


def test_frontiers_that_share_no_diversity_are_laid_out_but_not_compared() -> None:
    ours, theirs = [(0.0, 9.0), (1.0, 8.0)], [(3.0, 2.0), (4.0, 1.0)]
    found = compare((ours, theirs), (ours, theirs), (ours, theirs), levels=4)
    assert [row.diversity for row in found.rows] == [0.5, 1.5, 2.5, 3.5]
    assert [row.ours for row in found.rows] == [8.5, None, None, None]
    assert [row.theirs for row in found.rows] == [None, None, None, 1.5]
    assert {row.gap for row in found.rows} == {NOTHING}
    assert set(verdicts(found)) == {"not reached"}
    assert found.area == NOTHING
    assert found.note == (
        "nothing to compare: no variety is reached by all runs "
        "(adversarial at variety 0 to 1 bits; likelihood at variety 3 to 4 bits)"
    )


def test_runs_that_each_share_a_range_but_not_with_one_another_are_not_compared() -> None:
    low, high = [(0.0, 2.0), (1.0, 1.0)], [(2.0, 2.0), (3.0, 1.0)]
    found = compare((low, low), (high, high))
    assert found.area == NOTHING
    assert set(verdicts(found)) == {"not reached"}
    assert {row.ours for row in found.rows} == {None}


def test_a_run_without_a_column_is_not_dropped_in_silence() -> None:
    found = compare((OURS, THEIRS), ([], THEIRS), (OURS, THEIRS), ([(INF, 1.0)], THEIRS))
    assert found.note == "nothing to compare: no adversarial cell with finite fluency and variety in run 2, 4 of 4"
    assert found.area == NOTHING
    assert found.runs == 4
    assert set(verdicts(found)) == {"not reached"}
    assert {row.ours for row in found.rows} == {None}
    assert found.rows[2].diversity == 2.5
    assert found.rows[2].theirs == 4.5


def test_no_column_at_all_makes_no_rows() -> None:
    found = compare(([], []))
    assert (found.rows, found.area) == ((), NOTHING)
    assert "no adversarial cell" in found.note


def test_no_runs_unknown_axes_and_no_levels_are_refused() -> None:
    of = sweep(adversarial=OURS, likelihood=THEIRS)
    with pytest.raises(ValueError, match="of 0 runs"):
        dominance([], AXES, "adversarial", "likelihood")
    other = dataclasses.replace(AXES, diversity="distinct texts")
    with pytest.raises(ValueError, match=r"of 1 runs not all.*distinct texts"):
        dominance([of], other, "adversarial", "likelihood")
    with pytest.raises(ValueError, match="of 2 runs not all"):
        dominance([of, dataclasses.replace(of, axes=[other])], AXES, "adversarial", "likelihood")
    with pytest.raises(ValueError, match="at least 1 level"):
        dominance([of], AXES, "adversarial", "likelihood", levels=0)


# ------------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_runs_have_a_gap_but_no_interval_and_no_verdict(count: int) -> None:
    found = compare(*[(lifted(OURS, 5), OURS)] * count)
    assert [row.gap for row in found.rows] == [Gap(pytest.approx(5.0), None, None)] * 5
    assert verdicts(found) == ["too few runs"] * 5
    assert (found.area.low, found.area.high, found.runs) == (None, None, count)


@pytest.mark.parametrize(("by", "verdict"), [(0.5, "higher"), (-0.5, "lower"), (0.0, "no difference")])
def test_runs_that_differ_much_but_not_in_their_gap_give_a_narrow_interval_as_they_are_paired(
    by: float, verdict: str
) -> None:
    levels_of_runs = [0.0, 30.0, -20.0, 55.0]
    runs = [(lifted(OURS, level + by), lifted(OURS, level)) for level in levels_of_runs]
    found = compare(*runs)
    assert verdicts(found) == [verdict] * 5
    for gap in [row.gap for row in found.rows] + [found.area]:
        assert (gap.low, gap.high) == (pytest.approx(by), pytest.approx(by))
    # The same columns paired otherwise: the gaps between runs swamp it.
    shuffled = compare(*[(ours, theirs) for (ours, _), (_, theirs) in zip(runs, runs[1:] + runs[:1], strict=True)])
    assert verdicts(shuffled) == ["no difference"] * 5
    assert shuffled.area.value == pytest.approx(by)


def test_the_verdict_follows_whether_the_interval_of_the_gaps_holds_0() -> None:
    def found(*by: float) -> Dominance:
        return compare(*[(lifted(OURS, one), OURS) for one in by])

    assert found(1.0, 1.2, 1.1).rows[0].verdict == "higher"
    assert found(-1.0, -1.2, -1.1).rows[0].verdict == "lower"
    assert found(0.1, 1.2, 1.1).rows[0].verdict == "no difference"  # all ahead, and yet too few to tell


@pytest.mark.parametrize("runs", [3, 4, 5])
def test_up_to_five_runs_the_interval_is_that_of_all_resamples_moved_by_the_factor(runs: int) -> None:
    differences = np.array([0.3, -1.0, 2.5, 0.9, 7.0])[:runs]
    means = np.sort([np.mean(one) for one in itertools.product(differences, repeat=runs)])
    # 2.5 % of n^n is no whole number, so the quantile is the next resample's mean.
    tail = math.ceil(0.025 * runs**runs)
    mean = differences.mean()
    factor = math.sqrt(runs / (runs - 1)) * stats.t.ppf(0.975, runs - 1) / stats.norm.ppf(0.975)
    found = gap_over_runs(differences)
    assert found.value == pytest.approx(mean)
    assert found.low == pytest.approx(mean - factor * (mean - means[tail - 1]), rel=1e-6)
    assert found.high == pytest.approx(mean + factor * (means[-tail] - mean), rel=1e-6)


@pytest.mark.parametrize("runs", [6, 7, 8, 9, 10, 11, 12, 15, 40])
def test_beyond_five_runs_the_interval_is_that_of_draws_moved_by_the_factor_and_near_the_t_interval(runs: int) -> None:
    differences = stats.norm.ppf((np.arange(runs) + 0.5) / runs)
    found = gap_over_runs(differences, seed=1)
    drawn_runs = np.random.default_rng(1).multinomial(runs, np.full(runs, 1 / runs), size=10_000)
    means = np.sort(drawn_runs @ differences) / runs
    factor = math.sqrt(runs / (runs - 1)) * stats.t.ppf(0.975, runs - 1) / stats.norm.ppf(0.975)
    assert found.low == pytest.approx(factor * (means[249] + means[250]) / 2, rel=2e-4)
    assert found.high == pytest.approx(factor * (means[-250] + means[-251]) / 2, rel=2e-4)
    half = stats.t.ppf(0.975, runs - 1) * differences.std(ddof=1) / math.sqrt(runs)
    assert (found.low, found.high) == (pytest.approx(-half, rel=0.06), pytest.approx(half, rel=0.06))


def test_the_seed_matters_beyond_five_runs_only() -> None:
    differences = np.random.default_rng(0).normal(size=6)
    assert gap_over_runs(differences[:5], seed=1) == gap_over_runs(differences[:5], seed=2)
    assert gap_over_runs(differences, seed=1) != gap_over_runs(differences, seed=2)
    runs = [(lifted(OURS, by), OURS) for by in differences]
    once = dataclasses.astuple(gap_over_runs(differences, seed=1))
    assert dataclasses.astuple(compare(*runs, seed=1).area) == pytest.approx(once)
    assert compare(*runs, seed=1).area != compare(*runs, seed=2).area


@pytest.mark.parametrize(
    ("runs", "trials", "least"), [(3, 3000, 0.93), (4, 2000, 0.93), (5, 2000, 0.93), (8, 400, 0.91)]
)
def test_the_interval_covers_a_normal_mean_about_95_times_of_100(runs: int, trials: int, least: float) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for differences in rng.normal(2.0, 3.0, size=(trials, runs)):
        gap = gap_over_runs(differences)
        assert gap.low is not None
        assert gap.high is not None
        covered += gap.low <= 2.0 <= gap.high
    assert least < covered / trials < 0.97


@pytest.mark.parametrize("differences", [[], [1.0, NAN, 2.0], [1.0, INF]])
def test_differences_that_are_none_or_not_finite_are_refused(differences: list) -> None:
    with pytest.raises(ValueError, match="must be finite, one a run"):
        gap_over_runs(np.array(differences))


# ------------------------------------------------------------------------------------------------------- best drawing


def drawn(
    column: str,
    temperature: float,
    valid: float | None,
    test: float | None,
    top_p: float = 1.0,
    error: float | None = 0.5,
) -> Cell:
    estimates = ({COMBINED: Estimate(value, error)} for value in (valid, test))
    return Cell(column, temperature, top_p, *estimates)


def drawings(*runs: Sequence[Cell]) -> dict[str, BestDrawing]:
    found = best_drawing([Sweep(list(cells), [], {COMBINED: "nats"}, {}) for cells in runs], COMBINED)
    assert everything_is_finite_and_plain(found)
    assert len({one.column for one in found}) == len(found)
    return {one.column: one for one in found}


def test_the_drawing_is_chosen_on_validation_text_though_another_is_better_on_test_text() -> None:
    cells = [drawn("likelihood", 0.8, valid=2.0, test=7.0), drawn("likelihood", 1.2, valid=3.0, test=1.0)]
    found = drawings(cells)["likelihood"]
    assert found == BestDrawing("likelihood", 0.8, 1.0, Estimate(2.0, 0.5), Estimate(7.0, 0.5), runs=1)


def test_every_column_has_its_own_drawing_and_real_text_its_single_cell() -> None:
    cells = [
        drawn(REAL, 1.0, 0.5, 0.6),
        drawn("likelihood", 0.7, 3.0, 3.0),
        drawn("adversarial", 1.3, 1.0, 2.0, top_p=0.9),
        drawn("likelihood", 0.9, 2.0, 4.0),
    ]
    found = drawings(cells)
    assert list(found) == [REAL, "likelihood", "adversarial"]
    assert found[REAL] == BestDrawing(REAL, 1.0, 1.0, Estimate(0.5, 0.5), Estimate(0.6, 0.5), 1)
    assert (found["likelihood"].temperature, found["likelihood"].test.value) == (0.9, 4.0)
    assert (found["adversarial"].temperature, found["adversarial"].top_p) == (1.3, 0.9)


@pytest.mark.parametrize("reverse", [False, True])
def test_of_equal_drawings_the_temperature_nearest_1_counts_and_then_the_largest_top_p(reverse: bool) -> None:
    cells = [
        drawn("likelihood", 0.5, 2.0, 1.0),
        drawn("likelihood", 0.9, 2.0, 2.0, top_p=0.8),
        drawn("likelihood", 0.9, 2.0, 3.0, top_p=0.9),
        drawn("likelihood", 1.2, 2.0, 4.0),
        drawn("likelihood", 1.0, 2.1, 5.0),
    ]
    found = drawings(cells[::-1] if reverse else cells)["likelihood"]
    assert (found.temperature, found.top_p, found.test.value) == (0.9, 0.9, 3.0)


def test_cells_without_a_finite_figure_on_validation_text_are_no_choice() -> None:
    cells = [
        drawn("likelihood", 0.5, -INF, 1.0),
        drawn("likelihood", 0.6, NAN, 1.0),
        drawn("likelihood", 0.7, None, 1.0),
        Cell("likelihood", 0.8, 1.0, {}, {COMBINED: Estimate(0.0)}),
        drawn("likelihood", 0.9, 5.0, 6.0),
        drawn("adversarial", 1.0, INF, 1.0),
    ]
    found = drawings(cells)
    assert list(found) == ["likelihood"]
    assert found["likelihood"].temperature == 0.9


@pytest.mark.parametrize("test", [INF, NAN, None])
def test_the_choice_stands_where_its_figure_on_test_text_is_not_finite_and_is_undefined_then(
    test: float | None,
) -> None:
    cells = [drawn("likelihood", 0.5, 1.0, test), drawn("likelihood", 1.0, 2.0, 2.0)]
    assert drawings(cells)["likelihood"].test == Estimate(None)
    assert drawings(cells)["likelihood"].temperature == 0.5
    several = drawings(cells, [drawn("likelihood", 0.5, 3.0, 4.0)])["likelihood"]
    assert (several.valid.value, several.test) == (2.0, Estimate(None))
    lacking = [Cell("likelihood", 0.5, 1.0, {COMBINED: Estimate(1.0, NAN)}, {})]
    assert drawings(lacking)["likelihood"].valid == Estimate(1.0, None)
    assert drawings(lacking)["likelihood"].test == Estimate(None)


def test_over_runs_each_chooses_for_itself_and_the_error_is_over_runs() -> None:
    def run(cold: float, hot: float, test: float) -> list[Cell]:
        return [
            drawn("likelihood", 0.6, cold, test, top_p=0.8, error=9.0),
            drawn("likelihood", 1.2, hot, test + 1, error=9.0),
            drawn(REAL, 1.0, 0.1, 0.2, error=0.03),
        ]

    found = drawings(run(1.0, 2.0, 3.0), run(2.0, 1.0, 4.0), run(3.0, 2.0, 6.0))
    one = found["likelihood"]
    assert (one.temperature, one.top_p, one.runs) == (1.2, 1.0, 3)
    tests = np.array([3.0, 5.0, 7.0])
    assert one.test == Estimate(5.0, pytest.approx(tests.std(ddof=1) / math.sqrt(3)))
    assert one.valid == Estimate(pytest.approx(4 / 3), pytest.approx(1 / 3))
    # The same real text in every run: one measurement, not three that agree by luck.
    assert found[REAL] == BestDrawing(REAL, 1.0, 1.0, Estimate(0.1, 0.03), Estimate(0.2, 0.03), 3)
    two = drawings(run(1.0, 2.0, 3.0), run(2.0, 1.0, 4.0))["likelihood"]
    assert (two.temperature, two.top_p) == (pytest.approx(0.9), pytest.approx(0.9))


def test_equal_runs_of_a_generator_do_not_borrow_the_error_over_texts() -> None:
    cells = [drawn("likelihood", 1.0, 1.0, 2.0, error=0.5)]
    assert drawings(cells, cells)["likelihood"].test == Estimate(2.0, 0.0)


def test_real_text_that_differs_between_runs_is_averaged_like_the_others() -> None:
    found = drawings([drawn(REAL, 1.0, 1.0, 2.0)], [drawn(REAL, 1.0, 1.0, 4.0)])[REAL]
    assert found.test == Estimate(3.0, pytest.approx(1.0))


def test_a_column_counts_the_runs_that_have_it() -> None:
    found = drawings([drawn("likelihood", 1.0, 1.0, 2.0)], [drawn("continued", 0.5, 1.0, 3.0)])
    assert {name: one.runs for name, one in found.items()} == {"likelihood": 1, "continued": 1}


def test_no_runs_and_a_figure_that_some_run_lacks_are_refused() -> None:
    of = Sweep([drawn("likelihood", 1.0, 1.0, 2.0)], [], {COMBINED: "nats"}, {})
    with pytest.raises(ValueError, match="of 0 runs"):
        best_drawing([], COMBINED)
    with pytest.raises(ValueError, match=r"of 2 runs not all.*distance"):
        best_drawing([of, dataclasses.replace(of, combined={})], COMBINED)
