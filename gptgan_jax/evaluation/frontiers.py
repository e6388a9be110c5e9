"""The outcome of quality-diversity sweeps: which generator is better at equal diversity, over paired runs.

A generator may look better only because it is colder. So Caccia et al. 2020, "Language GANs Falling Short"
(https://arxiv.org/abs/1811.02549), sweep the temperature and compare quality at equal diversity. If a single number is
needed, Alihosseini et al. 2019, "Jointly Measuring Diversity and Quality in Text Generation Models"
(https://aclanthology.org/W19-2311), use metrics that penalise both faults; `best_drawing` chooses by such a metric.

The unit of evidence is a run, not a text, so every interval is over runs, which are assumed to be independent. A
frontier is the best of many noisy cells, so it is optimistic, and the more so the more cells it has: compare only
columns that were swept over the same grid.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

import numpy as np

from gptgan_jax.evaluation.results import Axes, Cell, Sweep
from gptgan_jax.metrics.estimates import REAL, Estimate, mean_of

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Gap:
    """A difference of quality, in the unit of the quality; positive if the first is better.

    Attributes:
        value: the mean over runs of the differences within each; None if nothing could be compared.
        low, high: its 95 % interval over runs; None with fewer than 3 runs.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class DominanceRow:
    """Two columns at one diversity, in the metrics' own units and orientation.

    Attributes:
        ours, theirs: quality, the mean over runs; None if the column of some run does not reach this diversity.
        verdict: "higher" (that is, better) or "lower" if the interval of the gap excludes 0, otherwise "no
            difference"; "too few runs" with fewer than 3; "not reached" if nothing could be compared.
    """

    diversity: float
    ours: float | None
    theirs: float | None
    gap: Gap
    verdict: str


@dataclass(frozen=True)
class Dominance:
    """Two columns compared at equal diversity.

    Attributes:
        rows: from least to most diverse.
        area: the mean gap over the range of diversity that all runs share.
        runs: the number of runs.
        note: one line: the range that was compared, or why nothing could be.
    """

    ours: str
    theirs: str
    axes: Axes
    rows: tuple[DominanceRow, ...]
    area: Gap
    runs: int
    note: str


@dataclass(frozen=True)
class BestDrawing:
    """The sampling settings that a combined metric chose on validation text, and its value on test text.

    Attributes:
        temperature, top_p: medians over the runs' choices, which may lie between two settings of the grid.
        valid: the value that it was chosen by, and so too good on average.
        test: the value to report. For one run the cell's own estimate, for several the mean with its standard error
            over runs; undefined if it is not finite for some run, because leaving that run out would flatter. The same
            holds for `valid`.
        runs: how many runs had a cell to choose.
    """

    column: str
    temperature: float
    top_p: float
    valid: Estimate
    test: Estimate
    runs: int


def oriented_points(sweep: Sweep, axes: Axes, column: str) -> np.ndarray:
    """Test values of one column's cells, oriented so that larger is better: float64 [N, 2], (diversity, quality).

    Cells without finite values of both are left out, such as top-p below 1 on an axis of NLL, which is then infinite.
    """
    cells = [cell for cell in sweep.cells if cell.column == column]
    points = [(_finite(cell.test, axes.diversity), _finite(cell.test, axes.quality)) for cell in cells]
    kept = [(a.value, b.value) for a, b in points if a.value is not None and b.value is not None]
    oriented = [(_turned(a, axes.diversity_better), _turned(b, axes.quality_better)) for a, b in kept]
    return np.array(oriented, np.float64).reshape(-1, 2)


def frontier(points: np.ndarray) -> np.ndarray:
    """The points of [N, 2], (diversity, quality), that no other matches in both and beats in one: [M, 2].

    From each point to the next, diversity rises and quality falls; equal points are merged.

    Raises:
        ValueError: for points of another shape, or not finite.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"points must be finite and [N, 2], not {points}")
    points = points[np.lexsort((-points[:, 1], -points[:, 0]))]  # the most diverse first, and of those the best first
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(points[:, 1])])[: len(points)]
    return points[points[:, 1] > best_before][::-1]


def quality_at(frontier_points: np.ndarray, diversity: np.ndarray) -> np.ndarray:
    """Quality [K] at diversities [K] along a frontier [M, 2]: linear between its points, NaN outside its range."""
    if not len(frontier_points):
        return np.full(np.shape(diversity), np.nan)
    return np.interp(diversity, frontier_points[:, 0], frontier_points[:, 1], left=np.nan, right=np.nan)


def gap_over_runs(differences: np.ndarray, seed: int = 0) -> Gap:
    """The mean of differences [n], one per run, with its 95 % bootstrap interval; none with fewer than 3 runs.

    The ends are percentiles of the resampled mean, moved away from the mean by the factor sqrt(n / (n - 1)) * t / z,
    with the 97.5 % points of Student's and the normal distribution. Plain percentile intervals are too narrow by that
    factor (Hesterberg 2015, "What Teachers Should Know about the Bootstrap", https://arxiv.org/abs/1411.5279).
    Hesterberg uses more extreme percentiles instead, but for 3 runs those are the smallest and the largest difference,
    which miss a normal mean in 1 case of 4. The bootstrap-t divides by a resample's spread, which for 3 runs is
    sometimes 0. Up to 5 runs use all n^n resamples, more use 10,000 random ones from `seed`.

    Simulated coverage of a normal mean: 94 to 95 % for 3 to 20 runs (plain percentiles: 75 % for 3, 84 % for 5). For an
    exponential distribution it is 88 to 89 % for 3 to 6 runs, like that of a t-interval: so few runs can't show their
    skewness.

    Raises:
        ValueError: no differences, or some that are not finite.
    """
    runs = len(differences)
    if not runs or not np.isfinite(differences).all():
        raise ValueError(f"differences must be finite, one a run, not {differences}")
    mean = float(np.mean(differences))
    if runs < 3:
        return Gap(mean, None, None)
    # The quantile of a discrete distribution: interpolation between 27 resamples would pull the ends inwards.
    ends = np.quantile(_resamples(runs, seed) @ differences / runs, [0.025, 0.975], method="averaged_inverted_cdf")
    low, high = mean + math.sqrt(runs / (runs - 1)) * student(runs - 1) / _Z * (ends - mean)
    return Gap(mean, float(low), float(high))


def dominance(runs: Sequence[Sweep], axes: Axes, ours: str, theirs: str, levels: int = 5, seed: int = 0) -> Dominance:
    """Is the quality of one column higher than another's at equal diversity (Caccia et al. 2020), on test text?

    Frontiers are compared over the range that all runs' frontiers of both columns cover. Runs are paired, because a
    run's adversarial generator started from its likelihood generator: a gap is the mean of the differences within runs,
    and its interval resamples runs (`gap_over_runs`). The area is the exact integral of the difference of two frontiers
    over the range, divided by its length. Each row's interval holds for that row only; for a single answer, use the
    area.

    If a run has no point in a column, nothing is compared: going on with the other runs would hide failures. Then, and
    if no diversity is shared, the rows span the range of all frontiers and show where each column lies.

    Args:
        runs: sweeps of runs that differ only in their seeds.
        axes: a pair of axes that every sweep has.
        levels: the number of rows, at the midpoints of equal parts of the range (one row if the range is a point).
        seed: of the bootstrap, with more than 5 runs.

    Raises:
        ValueError: no runs, a sweep that does not hold the axes, or levels below 1.
    """
    if not runs or not all(axes in sweep.axes for sweep in runs):
        raise ValueError(f"nothing to compare: of {len(runs)} runs not all, or none, measured {axes}")
    if levels < 1:
        raise ValueError(f"a comparison needs at least 1 level, not {levels}")
    of_ours, of_theirs = ([frontier(oriented_points(one, axes, column)) for one in runs] for column in (ours, theirs))
    low = max(one[:, 0].min(initial=np.inf) for one in of_ours + of_theirs)
    high = min(one[:, 0].max(initial=-np.inf) for one in of_ours + of_theirs)
    reached = np.array([low, high]) if low <= high else np.concatenate(of_ours + of_theirs)[:, 0]
    diversities = reached
    if len(reached):
        diversities = np.unique(np.interp((np.arange(levels) + 0.5) / levels, [0, 1], [reached.min(), reached.max()]))
    at = [np.stack([quality_at(one, diversities) for one in of_column]) for of_column in (of_ours, of_theirs)]
    if low <= high:
        areas = [_mean_difference(a, b, low, high) for a, b in zip(of_ours, of_theirs, strict=True)]
        gaps = [gap_over_runs(one, seed) for one in np.column_stack([_difference(*at), areas]).T]
        note = f"compared at {_span(axes, reached)}, which {ours} and {theirs} reach in all runs ({len(runs)})"
    else:
        gaps = [Gap(None, None, None)] * (len(diversities) + 1)
        note = _why_nothing(axes, {ours: of_ours, theirs: of_theirs})
    means = [[None if np.isnan(q) else _turned(q, axes.quality_better) for q in one.mean(axis=0)] for one in at]
    rows = tuple(
        DominanceRow(_turned(diversity, axes.diversity_better), our, their, gap, _verdict(gap))
        for diversity, our, their, gap in zip(diversities, *means, gaps[:-1], strict=True)
    )
    return Dominance(ours, theirs, axes, rows, gaps[-1], len(runs), note)


def best_drawing(sweeps: Sequence[Sweep], combined: str) -> list[BestDrawing]:
    """For each column, the cell that a combined metric chooses on validation text, and its value on test text.

    In each run that is the cell with the smallest finite `combined` (Alihosseini et al. 2019); ties go to the
    temperature nearest 1, then to the largest top-p, then to the first. The test text plays no part in the choice. A
    column for which no run has a choice is left out. Real text is a column too, and keeps its error over texts if that
    is equal in all runs.

    Raises:
        ValueError: no runs, or a sweep without the metric.
    """
    if not sweeps or not all(combined in sweep.combined for sweep in sweeps):
        raise ValueError(f"nothing to choose by: of {len(sweeps)} runs not all, or none, measured {combined}")
    best = []
    for column in dict.fromkeys(cell.column for sweep in sweeps for cell in sweep.cells):
        cells = [cell for sweep in sweeps if (cell := chosen_cell(sweep, combined, column))]
        if cells:
            temperature, top_p = (median(getattr(cell, name) for cell in cells) for name in ("temperature", "top_p"))
            valid = _over_runs([_finite(cell.valid, combined) for cell in cells], column)
            test = _over_runs([_finite(cell.test, combined) for cell in cells], column)
            best.append(BestDrawing(column, float(temperature), float(top_p), valid, test, len(cells)))
    return best


def _turned(figure: float, better: str) -> float:
    return float(figure if better == "higher" else -figure) + 0.0  # turns -0.0 into 0.0


def _finite(figures: Mapping[str, Estimate], name: str) -> Estimate:
    one = figures.get(name, Estimate(None))
    value, error = (x if x is not None and math.isfinite(x) else None for x in (one.value, one.error))
    return Estimate(value, None if value is None else error)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    # Equal lines with different knots differ by rounding, perhaps equally in all runs: that is not "higher".
    return np.where(np.isclose(ours, theirs, rtol=1e-12, atol=0), 0.0, ours - theirs)


def _mean_difference(ours: np.ndarray, theirs: np.ndarray, low: float, high: float) -> float:
    knots = np.unique(np.concatenate([[low, high], ours[:, 0], theirs[:, 0]]))
    knots = knots[(knots >= low) & (knots <= high)]
    differences = _difference(quality_at(ours, knots), quality_at(theirs, knots))
    return float(np.trapezoid(differences, knots) / (high - low) if low < high else differences[0])


@functools.lru_cache(maxsize=4)
def _resamples(runs: int, seed: int) -> np.ndarray:
    """How often each resample contains each run: [resamples, runs], with rows that sum to `runs`."""
    if runs > 5:
        return np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), size=10_000)
    return np.array([np.bincount(one, minlength=runs) for one in itertools.product(range(runs), repeat=runs)])


def student(degrees: int) -> float:
    """The 97.5 % point of Student's distribution."""
    from scipy import stats  # imported late, as it is slow

    return float(stats.t.ppf(0.975, degrees))


def _verdict(gap: Gap) -> str:
    if gap.low is None or gap.high is None:
        return "not reached" if gap.value is None else "too few runs"
    return "higher" if gap.low > 0 else "lower" if gap.high < 0 else "no difference"


def _span(axes: Axes, oriented: np.ndarray) -> str:
    low, high = (_turned(end, axes.diversity_better) for end in (oriented.min(), oriented.max()))
    return f"{axes.diversity} {low:.4g} to {high:.4g} {axes.diversity_unit}".rstrip()


def _why_nothing(axes: Axes, frontiers: Mapping[str, Sequence[np.ndarray]]) -> str:
    for column, of_runs in frontiers.items():
        if empty := [str(run) for run, one in enumerate(of_runs, 1) if not len(one)]:
            cell = f"{column} cell with finite {axes.quality} and {axes.diversity}"
            return f"nothing to compare: no {cell} in run {', '.join(empty)} of {len(of_runs)}"
    lying = "; ".join(f"{column} at {_span(axes, np.concatenate(one)[:, 0])}" for column, one in frontiers.items())
    return f"nothing to compare: no {axes.diversity} is reached by all runs ({lying})"


def chosen_cell(sweep: Sweep, combined: str, column: str) -> Cell | None:
    """The cell of a column that a combined metric chooses on validation text; None if it is finite in no cell."""
    cells = [cell for cell in sweep.cells if cell.column == column and _finite(cell.valid, combined).value is not None]
    return min(cells, key=lambda one: (one.valid[combined].value, abs(one.temperature - 1), -one.top_p), default=None)


def _over_runs(estimates: Sequence[Estimate], column: str) -> Estimate:
    values = [one.value for one in estimates if one.value is not None]
    if len(values) < len(estimates):
        return Estimate(None)
    same_text = column == REAL and len(set(estimates)) == 1
    return estimates[0] if same_text or len(estimates) == 1 else mean_of(values)
