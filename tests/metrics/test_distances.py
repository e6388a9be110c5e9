"""Distances of feature sets: by closed forms, by SciPy, by enumeration, and digit by digit against mauve-text.

The parity tests need `pip install mauve-text` (with faiss-cpu and scikit-learn) and are skipped without it.
"""

import importlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from gptgan_jax.metrics import distances
from gptgan_jax.metrics.distances import frechet_distance, mauve, mauve_of_histograms
from gptgan_jax.metrics.estimates import Estimate

Distance = Callable[[np.ndarray, np.ndarray], Estimate]


def normal(seed: int, rows: int, width: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)) + shift


def exactly(seed: int, rows: int, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Draws moved and stretched until their own mean and unbiased covariance are these."""
    draws = normal(seed, rows, len(mean))
    draws -= draws.mean(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(draws, rowvar=False)), draws.T)
    return (np.linalg.cholesky(covariance) @ white).T + mean


def shifted(seed: int, rows: int, width: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Two sets, far from the origin in the last feature, so that scaling rows to norm 1 is harmless; shifted in the
    first."""
    a, b = normal(seed, 2 * rows, width).reshape(2, rows, width) * np.linspace(1.5, 0.3, width)
    a[:, -1] += 3
    b[:, -1] += 3
    b[:, 0] += shift
    return a, b


# --- Fréchet ---


def test_frechet_by_hand_in_one_dimension() -> None:
    a, b = np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])  # means 1 and 5, variances 2 and 8
    assert frechet_distance(a, b).value == pytest.approx(4**2 + (math.sqrt(8) - math.sqrt(2)) ** 2)


def test_frechet_has_the_closed_form_of_independent_features() -> None:
    scale_a, scale_b, shift = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.1, 0.5]), np.array([1.0, -2.0, 0.0])
    a = exactly(0, 40, np.zeros(3), np.diag(scale_a**2))
    b = exactly(1, 60, shift, np.diag(scale_b**2))
    assert frechet_distance(a, b).value == pytest.approx(np.square(shift).sum() + np.square(scale_a - scale_b).sum())


def test_frechet_has_the_closed_form_of_two_correlated_features() -> None:
    of_a, of_b = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])  # they do not commute
    a, b = exactly(2, 30, np.array([1.0, 0.0]), of_a), exactly(3, 30, np.array([0.0, 2.0]), of_b)
    root = math.sqrt(np.trace(of_a @ of_b) + 2 * math.sqrt(np.linalg.det(of_a) * np.linalg.det(of_b)))
    assert frechet_distance(a, b).value == pytest.approx(1 + 4 + 3 + 4 - 2 * root)


def test_frechet_is_what_scipys_matrix_root_says() -> None:
    rng = np.random.default_rng(4)
    a = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12))
    b = rng.normal(size=(150, 12)) @ rng.normal(size=(12, 12)) + rng.normal(size=12)
    of_a, of_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(of_a @ of_b)
    expected = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + np.trace(of_a + of_b - 2 * root.real)
    assert frechet_distance(a, b).value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("rows", "width"), [(80, 6), (20, 40)])
def test_frechet_is_symmetric_and_blind_to_rotation_and_order(rows: int, width: int) -> None:
    a, b = normal(5, rows, width), 2 * normal(6, rows + 10, width, 0.3)
    expected = pytest.approx(frechet_distance(a, b).value, rel=1e-10)
    rotation, _ = np.linalg.qr(normal(7, width, width))
    assert frechet_distance(b, a).value == expected
    assert frechet_distance(a @ rotation, b @ rotation).value == expected
    assert frechet_distance(a[::-1], b[::-1]).value == expected


def test_frechet_is_right_for_singular_covariances() -> None:
    """Of a and its multiple, (s - 1)² (|mean|² + tr C), which is small: the root of rounding would drown it."""
    a = normal(8, 40, 150) * np.linspace(0.1, 3, 150)
    expected = 0.01**2 * (np.square(a.mean(axis=0)).sum() + np.cov(a.T).trace())
    assert frechet_distance(a, 1.01 * a).value == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("shape", [(50, 8), (10, 60)])
def test_frechet_of_equal_sets_is_zero_and_never_below(shape: tuple[int, int]) -> None:
    for seed in range(5):
        a = normal(seed, *shape, shift=100)
        assert 0 <= frechet_distance(a, a).value < 1e-9
        assert 0 <= frechet_distance(a, a[::-1]).value < 1e-9


def test_frechet_of_one_row_over_and_over_is_defined() -> None:
    same, spread = np.full((20, 3), 0.1), exactly(9, 30, np.array([0.1, 0.1, 2.1]), np.diag([1.0, 2.0, 3.0]))
    assert frechet_distance(same, same) == Estimate(pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert frechet_distance(same, same + 2).value == pytest.approx(12)
    assert frechet_distance(same, spread).value == pytest.approx(4 + 6)
    assert frechet_distance(spread, same).value == pytest.approx(4 + 6)


def test_frechet_is_biased_upward_like_one_over_the_rows() -> None:
    few, many = (
        np.mean([frechet_distance(normal(2 * s, n, 8), normal(2 * s + 1, n, 8)).value for s in range(20)])
        for n in (50, 200)
    )
    assert 3 < few / many < 5


def test_frechets_error_is_the_jackknife_over_groups_of_both_sets() -> None:
    a, b = normal(10, 23, 3), normal(11, 31, 3, 0.5)
    without = []
    for group in range(5):
        rest_a = np.array([row for i, row in enumerate(a) if i % 5 != group])
        rest_b = np.array([row for i, row in enumerate(b) if i % 5 != group])
        without.append(frechet_distance(rest_a, rest_b).value)
    squares = sum((value - sum(without) / 5) ** 2 for value in without)
    assert frechet_distance(a, b, groups=5).error == pytest.approx(math.sqrt(4 / 5 * squares))


@pytest.mark.parametrize(
    ("width", "shift", "at_least", "at_most"), [(4, 1, 0.8, 1.25), (16, 0.5, 0.8, 1.25), (16, 0, 1, 2)]
)
def test_frechets_error_is_the_spread_over_draws(width: int, shift: float, at_least: float, at_most: float) -> None:
    draws = [frechet_distance(normal(2 * s, 100, width), normal(2 * s + 1, 100, width, shift)) for s in range(80)]
    spread = np.std([draw.value for draw in draws])
    assert at_least < np.mean([draw.error for draw in draws]) / spread < at_most


def test_frechet_has_no_error_below_two_rows_a_group() -> None:
    a, b = normal(12, 20, 2), normal(13, 30, 2)
    assert frechet_distance(a, b).error is not None
    assert frechet_distance(a[:19], b).error is None
    assert frechet_distance(b, a[:2]).error is None
    with pytest.raises(ValueError, match="at least 2 groups, not 1"):
        frechet_distance(a, b, groups=1)


# --- The divergence curve ---


def enumerated(p: np.ndarray, q: np.ndarray, scale: float, points: int) -> float:
    """The area under the curve, term by term."""

    def kl(of: np.ndarray, mixture: list[float]) -> float:
        return math.fsum(x * math.log(x / r) for x, r in zip(of, mixture, strict=True) if x > 0)

    curve = [(1.0, 0.0)]
    for i in range(points):
        w = 1e-6 + i * (1 - 2e-6) / (points - 1)
        mixture = [w * x + (1 - w) * y for x, y in zip(p, q, strict=True)]
        curve.append((math.exp(-scale * kl(q, mixture)), math.exp(-scale * kl(p, mixture))))
    curve.append((0.0, 1.0))
    return math.fsum((left[0] - right[0]) * (left[1] + right[1]) / 2 for left, right in itertools.pairwise(curve))


def histograms(seed: int, clusters: int, concentration: float) -> tuple[np.ndarray, np.ndarray]:
    """Two of 300 counts each, with many empty clusters where the concentration is low."""
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.full(clusters, concentration), size=2)
    return rng.multinomial(300, p) / 300, rng.multinomial(300, q) / 300


CASES = [(seed, clusters, c) for seed, clusters in enumerate((2, 3, 10, 50)) for c in (0.1, 1.0, 30.0)]


@pytest.mark.parametrize(("seed", "clusters", "concentration"), CASES)
def test_mauve_of_histograms_is_the_enumerated_area(seed: int, clusters: int, concentration: float) -> None:
    p, q = histograms(seed, clusters, concentration)
    for scale, points in [(5.0, 25), (1.0, 100), (8.0, 2)]:
        assert mauve_of_histograms(p, q, scale, points) == pytest.approx(enumerated(p, q, scale, points), abs=1e-12)


def test_mauve_of_disjoint_histograms_is_the_beta_integral() -> None:
    """The curve is ((1 - w)^5, w^5), so the area is 5 B(5, 6) = 1/252."""
    p, q = np.array([0.5, 0.5, 0.0, 0.0]), np.array([0.0, 0.0, 0.9, 0.1])
    assert mauve_of_histograms(p, q, points=4000) == pytest.approx(1 / 252, rel=1e-4)
    assert mauve_of_histograms(p, q, scale=1.0, points=7) == pytest.approx(0.5, abs=2e-6)  # a straight line


@pytest.mark.parametrize("clusters", [1, 2, 7, 200])
def test_mauve_of_equal_histograms_is_one(clusters: int) -> None:
    for p in (np.full(clusters, 1 / clusters), *np.random.default_rng(0).dirichlet(np.ones(clusters), size=10)):
        assert mauve_of_histograms(p, p) == pytest.approx(1, abs=1e-12)


def test_rounding_does_not_take_mauve_past_one() -> None:
    rng = np.random.default_rng(1)
    for p in rng.dirichlet(np.ones(20), size=100):
        nearly = p * (1 + 1e-9 * rng.normal(size=20))
        assert 1 - 1e-12 < mauve_of_histograms(p, nearly / nearly.sum(), scale=50.0) <= 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0.05, 50))
@settings(max_examples=60, deadline=None)
def test_mauve_of_histograms_is_symmetric_and_within_its_bounds(seed: int, clusters: int, concentration: float) -> None:
    p, q = histograms(seed, clusters, concentration)
    area = mauve_of_histograms(p, q)
    assert 0 < area <= 1
    assert area == pytest.approx(mauve_of_histograms(q, p), abs=1e-12)


def test_bad_histograms_and_curves_are_refused() -> None:
    p = np.array([0.5, 0.5])
    for q in (np.ones(1), np.ones(3) / 3, p[None]):
        with pytest.raises(ValueError, match="of one shape"):
            mauve_of_histograms(p, q)
    with pytest.raises(ValueError, match="needs points and a positive scale, not 0 and 5"):
        mauve_of_histograms(p, p, points=0)
    with pytest.raises(ValueError, match="needs points and a positive scale, not 25 and 0"):
        mauve_of_histograms(p, p, scale=0.0)


# --- Clusters ---


def inertia(rows: np.ndarray, weights: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for label in set(labels.tolist()):
        held = labels == label
        centre = np.average(rows[held], axis=0, weights=weights[held])
        total += float(weights[held] @ np.square(rows[held] - centre).sum(axis=1))
    return total


@pytest.mark.parametrize("seed", range(4))
def test_k_means_finds_the_best_of_all_partitions_of_a_few_weighted_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, weights = rng.normal(size=(7, 2)).astype(np.float32), rng.integers(1, 6, 7)
    labels = distances._k_means(rows, weights, 3, 30, 100, rng)
    best = min(inertia(rows, weights, np.array(part)) for part in itertools.product(range(3), repeat=7))
    assert inertia(rows, weights, labels) == pytest.approx(best, rel=1e-5)


def test_k_means_leaves_each_row_with_its_nearest_mean() -> None:
    rows, weights = normal(14, 400, 5).astype(np.float32), np.ones(400, int)
    labels = distances._k_means(rows, weights, 60, 1, 500, np.random.default_rng(0))
    means = np.array([rows[labels == label].mean(axis=0) for label in range(60)])
    squares = np.square(rows[:, None] - means).sum(axis=2)
    assert squares[np.arange(400), labels] == pytest.approx(squares.min(axis=1), abs=1e-5)


def test_a_centre_that_loses_its_rows_gets_others() -> None:
    """On a line some do lose them all: without a remedy, in 3 of these 40."""
    for seed in range(40):
        rows = normal(seed, 100, 1).astype(np.float32)
        labels = distances._k_means(rows, np.ones(100, int), 50, 1, 500, np.random.default_rng(seed))
        assert set(labels.tolist()) == set(range(50))


def test_more_restarts_find_better_clusters() -> None:
    rows, weights = normal(15, 300, 4).astype(np.float32), np.ones(300, int)

    def found(restarts: int) -> float:
        clustered = (
            distances._k_means(rows, weights, 20, restarts, 500, np.random.default_rng(seed)) for seed in range(6)
        )
        return sum(inertia(rows, weights, labels) for labels in clustered)

    assert found(8) < 0.99 * found(1)


def test_blocks_do_not_change_the_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = shifted(16, 50, 4, 1.0)
    whole = mauve(a, b)
    monkeypatch.setattr(distances, "_PAIRS_AT_ONCE", 70)  # 14 rows of 5 clusters, and a rest
    assert mauve(a, b) == whole


def test_principal_components_are_the_fewest_that_keep_the_variance() -> None:
    rng = np.random.default_rng(17)
    rows, weights = rng.normal(size=(30, 6)) * [5, 4, 3, 1, 0.5, 0.1] + 7, rng.integers(1, 4, 30)
    repeated = np.repeat(rows, weights, axis=0)
    centred = repeated - repeated.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    shares = np.cumsum(values**2) / np.square(values).sum()
    for kept in (0.3, 0.9, 0.9999):
        count = next(i + 1 for i, share in enumerate(shares) if share >= kept)
        projected = np.repeat(distances._principal_components(rows, weights, kept), weights, axis=0)
        assert projected.shape == (len(repeated), count)
        np.testing.assert_allclose(np.abs(projected), np.abs(left * values)[:, :count], atol=1e-9)


# --- MAUVE ---


def test_mauve_is_near_one_for_alike_and_near_zero_for_apart_and_falls_between() -> None:
    values = [mauve(*shifted(18, 300, 4, shift)).value for shift in (0.0, 0.7, 1.4, 2.1, 2.8, 20.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.95
    assert values[-1] == pytest.approx(1 / 252, abs=1e-3)


def test_mauve_of_equal_sets_is_one() -> None:
    a = normal(19, 100, 5)
    assert mauve(a, a).value == pytest.approx(1, abs=1e-12)
    assert mauve(a, np.concatenate([a, a])[::-1]).value == pytest.approx(1, abs=1e-12)


def test_mauve_depends_on_the_seed_alone_and_not_on_the_order_of_rows_or_sets() -> None:
    a, b = shifted(20, 120, 6, 1.5)
    first = mauve(a, b)
    order = np.random.default_rng(0).permutation(120)
    assert mauve(a.copy(), b.copy()) == first
    assert mauve(a[order], b[::-1]) == first
    assert mauve(b, a).value == pytest.approx(first.value, abs=1e-12)
    assert mauve(a, b, seed=1) != first


def test_mauve_sees_directions_only() -> None:
    a, b = shifted(21, 100, 4, 1.0)
    lengths = np.random.default_rng(1).choice([0.5, 1, 2, 64], size=(100, 1))  # powers of 2: exact
    assert mauve(a * lengths, 8 * b) == mauve(a, b)


def test_rows_of_one_direction_are_one_row_whatever_rounding_makes_of_them() -> None:
    for row in normal(33, 10, 5):
        assert mauve(np.tile(row, (20, 1)), np.tile(3 * row, (30, 1))) == Estimate(1.0, 0.0)


def test_mauve_of_one_row_over_and_over_is_defined() -> None:
    same, other, spread = np.full((30, 4), 0.3), np.tile([0.3, 0.3, 0.3, -0.3], (20, 1)), normal(22, 40, 4)
    zero = np.zeros((30, 4))
    for row in (same, zero):
        assert mauve(row, row) == Estimate(1.0, 0.0)
    for apart in (mauve(same, other), mauve(same, zero)):
        assert apart.value == pytest.approx(mauve_of_histograms(np.array([1.0, 0.0]), np.array([0.0, 1.0])))
        assert apart.error == 0.0
    for one_side in (mauve(same, spread), mauve(spread, same)):  # spread rows may share the cluster
        assert 0 < one_side.value < 0.2
        assert math.isfinite(one_side.error)


def test_equal_texts_share_a_cluster() -> None:
    """Sets of the same few texts differ in their shares alone, and rounding adds nothing."""
    texts = normal(23, 5, 7)
    counts_a, counts_b = np.array([50, 20, 20, 9, 1]), np.array([10, 30, 20, 0, 40])
    found = mauve(np.repeat(texts, counts_a, axis=0), np.repeat(texts, counts_b, axis=0)[::-1], clusters=50)
    assert found.value == pytest.approx(mauve_of_histograms(counts_a / 100, counts_b / 100), abs=1e-12)


def test_mauve_takes_its_number_of_clusters_from_the_smaller_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    found = distances._k_means

    def watched(rows: np.ndarray, weights: np.ndarray, clusters: int, *rest: Any) -> np.ndarray:
        asked.append(clusters)
        return found(rows, weights, clusters, *rest)

    monkeypatch.setattr(distances, "_k_means", watched)
    a, b = normal(24, 300, 3), normal(25, 127, 3)
    mauve(a, b)
    mauve(b, a)
    mauve(a[:5], b)
    mauve(a, b, clusters=31)
    mauve(a[:3], b[:4], clusters=31)
    assert asked == [13, 13, 2, 31, 7]


def test_mauves_error_is_the_spread_over_draws() -> None:
    draws = [mauve(normal(2 * s, 200, 4), normal(2 * s + 1, 200, 4, 1.0)) for s in range(40)]
    spread = np.std([draw.value for draw in draws])
    assert 0.5 < np.mean([draw.error for draw in draws]) / spread < 1.5


def test_mauves_error_is_the_bootstrap_of_the_histograms() -> None:
    """Two texts are two clusters, so the histograms are known."""
    texts = np.array([[1.0, 0.0], [0.0, 1.0]])
    a, b = np.repeat(texts, [60, 40], axis=0), np.repeat(texts, [100, 150], axis=0)
    rng = np.random.default_rng(2)
    shares = zip(rng.binomial(100, 0.6, 3000) / 100, rng.binomial(250, 0.4, 3000) / 250, strict=True)
    expected = np.std([mauve_of_histograms(np.array([p, 1 - p]), np.array([q, 1 - q])) for p, q in shares])
    assert mauve(a, b, resamples=2000).error == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clusters", 1),
        ("explained_variance", 0.0),
        ("explained_variance", 1.0),
        ("max_iterations", 0),
        ("restarts", 0),
        ("resamples", 1),
        ("points", 0),
        ("scale", -1.0),
    ],
)
def test_mauve_refuses_arguments_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"MAUVE needs|explained_variance must|divergence curve needs"):
        mauve(normal(26, 20, 3), normal(27, 20, 3), **{name: value})


@pytest.mark.parametrize("distance", [frechet_distance, mauve])
def test_features_that_make_no_sense_are_refused_in_one_line(distance: Distance) -> None:
    good = normal(28, 20, 3)
    holed = good.copy()
    holed[4, 1] = np.nan
    endless = good.copy()
    endless[4, 1] = -np.inf
    for bad, message in [
        (good[:1], "at least 2 rows on each side"),
        (good[:0], "at least 2 rows on each side"),
        (good[:, :2], r"of one width, not \(20, "),
        (good[0], r"two arrays \[N, D\]"),
        (holed, "must be finite"),
        (endless, "must be finite"),
    ]:
        for pair in ((good, bad), (bad, good)):
            with pytest.raises(ValueError, match=message) as caught:
                distance(*pair)
            assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="of one width"):
        distance(good[:, :0], good[:, :0])


# --- Parity with mauve-text ---


@pytest.fixture(scope="module")
def package() -> Any:
    pytest.importorskip("mauve", reason="mauve-text is not installed", exc_type=ImportError)
    # The package exports a function of the module's name, so the module is had by its full name only.
    module = importlib.import_module("mauve.compute_mauve")
    module.faiss.omp_set_num_threads(1)  # threads that wait for each other take ten times as long here
    return module


@pytest.mark.parametrize(("seed", "clusters", "concentration"), CASES)
def test_mauve_of_histograms_is_the_packages_area(package: Any, seed: int, clusters: int, concentration: float) -> None:
    p, q = histograms(seed, clusters, concentration)
    for scale, points in [(5.0, 25), (1.0, 100)]:
        weights = np.linspace(1e-6, 1 - 1e-6, points)
        x, y = package.get_divergence_curve_for_multinomials(p, q, weights, scale).T
        by_x, by_y = np.argsort(x), np.argsort(y)
        area = package.compute_area_under_curve
        expected = (area(x[by_x], y[by_x]) + area(y[by_y], x[by_y])) / 2
        assert mauve_of_histograms(p, q, scale, points) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("shift", [0.0, 1.0, 1.5, 2.0, 3.0, 6.0])
def test_mauve_is_the_packages_digit_by_digit_with_the_same_clusters(
    package: Any, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    """The package's faiss is replaced by the labels found here, row by row; all before and after it is the package's.

    So this also says that both cluster the same projected rows, up to the signs of the components.
    """
    seen: dict[str, np.ndarray] = {}
    found = distances._k_means

    def watched(rows: np.ndarray, *rest: Any) -> np.ndarray:
        seen.update(rows=rows, labels=found(rows, *rest))
        return seen["labels"]

    class Clustered:
        def __init__(self, width: int, clusters: int, **settings: Any) -> None:
            assert width == seen["rows"].shape[1]
            assert clusters == 15  # of the smaller set
            assert (settings["niter"], settings["nredo"]) == (500, 5)  # the defaults are the package's
            self.index = self

        def train(self, rows: np.ndarray) -> None:
            assert len(rows) == len(seen["rows"])

        def search(self, rows: np.ndarray, _: int) -> tuple[None, np.ndarray]:
            apart = np.abs(np.abs(rows)[:, None] - np.abs(seen["rows"])).max(axis=2)
            assert apart.min(axis=1).max() < 1e-6
            return None, seen["labels"][apart.argmin(axis=1)][:, None]

    monkeypatch.setattr(distances, "_k_means", watched)
    a, b = shifted(29, 200, 12, shift)
    value = mauve(a, b[:150]).value
    monkeypatch.setattr(package.faiss, "Kmeans", Clustered)
    theirs = package.compute_mauve(p_features=a, q_features=b[:150])
    assert theirs.num_buckets == 15
    assert value == pytest.approx(theirs.mauve, abs=1e-10)


@pytest.mark.parametrize("shift", [0.0, 1.0, 1.5, 2.0, 3.0, 8.0])
def test_mauve_is_the_packages_where_k_means_has_one_good_answer(package: Any, shift: float) -> None:
    a, b = shifted(30, 300, 2, shift)
    theirs = package.compute_mauve(p_features=a, q_features=b, num_buckets=3, kmeans_max_iter=100)
    assert mauve(a, b, clusters=3).value == pytest.approx(theirs.mauve, abs=0.02)


def test_k_means_does_as_well_as_the_packages(package: Any) -> None:
    rows, weights = normal(31, 600, 8).astype(np.float32), np.ones(600, int)
    ours, theirs = [], []
    for seed in range(3):
        labels = distances._k_means(rows, weights, 30, 5, 500, np.random.default_rng(seed))
        ours.append(inertia(rows, weights, labels))
        k_means = package.faiss.Kmeans(8, 30, niter=100, nredo=5, seed=seed, min_points_per_centroid=1)
        k_means.train(rows)
        theirs.append(inertia(rows, weights, k_means.index.search(rows, 1)[1].reshape(-1)))
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.02)


def test_mauve_is_the_packages_in_the_mean_over_seeds(package: Any) -> None:
    """At the defaults each spreads by 0.03 over seeds here."""
    a, b = shifted(32, 300, 16, 1.5)
    ours = [mauve(a, b, seed=seed, resamples=2).value for seed in range(8)]
    theirs = [package.compute_mauve(p_features=a, q_features=b, seed=seed, kmeans_max_iter=100) for seed in range(8)]
    assert np.mean(ours) == pytest.approx(np.mean([result.mauve for result in theirs]), abs=0.05)
