"""Distances between two sets of feature vectors, one row per text: the Fréchet distance and MAUVE.

Both are biased for finite sets and depend on the number of rows. Compare only figures of equal numbers of texts and
the same features.
"""

import math

import numpy as np

from gptgan_jax.errors import suggests_names
from gptgan_jax.metrics.estimates import Estimate

# Distances between rows and centres are computed for this many pairs at a time: 16 MB.
_PAIRS_AT_ONCE = 2**22


@suggests_names
def frechet_distance(a: np.ndarray, b: np.ndarray, *, groups: int = 10) -> Estimate:
    """Squared Fréchet distance between the Gaussians fitted to two sets (Heusel et al. 2017; for text, FED: Semeniuta
    et al. 2018).

    |mean_a - mean_b|² + tr(C_a + C_b - 2 (C_a C_b)^½), with C the unbiased covariances, in float64 and in the squared
    unit of the features. It is 0 for equal sets, never negative, and also correct for singular covariances, which occur
    with fewer rows than features. Its rounding error is about 1e-14 of the traces.

    Biased upward: two sets drawn from one distribution have a positive distance, which falls like 1 / rows. So compare
    only equal numbers of rows.

    The standard error is a delete-a-group jackknife over the rows of both sets: row i is of group i mod `groups`, and
    group g is left out of both at once. It does not include the bias. In comparison with independent draws it was right
    for sets that differ, and up to twice too large for similar sets. None with fewer than 2 rows per group.

    Args:
        a: float [N_a, D].
        b: float [N_b, D].
        groups: of the jackknife, at least 2.

    Raises:
        ValueError: fewer than 2 rows, different widths, features that are not finite, or fewer than 2 groups.
    """
    a, b = _checked(a, b)
    if groups < 2:
        raise ValueError(f"a jackknife needs at least 2 groups, not {groups}")
    value = _frechet(a, b)
    if min(len(a), len(b)) < 2 * groups:
        return Estimate(value)
    of_a, of_b = np.arange(len(a)) % groups, np.arange(len(b)) % groups
    without = np.array([_frechet(a[of_a != group], b[of_b != group]) for group in range(groups)])
    return Estimate(value, math.sqrt((groups - 1) * without.var()))


@suggests_names
def mauve(
    a: np.ndarray,
    b: np.ndarray,
    *,
    clusters: int | None = None,
    seed: int = 0,
    scale: float = 5.0,
    points: int = 25,
    explained_variance: float = 0.9,
    max_iterations: int = 500,
    restarts: int = 5,
    resamples: int = 100,
) -> Estimate:
    """MAUVE (Pillutla et al. 2021): the similarity of two sets, from near 0 (disjoint) to 1 (equal), without a unit.

    As in the package mauve-text 0.4: the rows of both sets, each scaled to L2 norm 1, are projected on their leading
    principal components and clustered together by k-means; the two histograms over the clusters give the area under
    their divergence curve (`mauve_of_histograms`, unsmoothed). With the same clusters the figures are equal. The random
    numbers of k-means differ from the package's, so the figures agree within the spread over seeds, up to 0.05 for
    either.

    The figure does not depend on the order of rows or of the two sets. Rows of equal direction share a cluster, so sets
    of equal rows have a value too: 1 if both have the same row, and otherwise the 0.004 of disjoint sets.

    Biased: finite samples of one distribution score below 1, and lower with fewer rows per cluster. So compare only
    equal numbers of rows and clusters.

    The standard error is a bootstrap over the rows with fixed clusters: the spread of the value over `resamples`
    multinomial redraws of both histograms. It does not include the variation from the clustering. In comparison with
    independent draws it was up to a third too small for sets that differ, and two to three times too large for similar
    sets.

    Args:
        a: float [N_a, D], the paper's P.
        b: float [N_b, D], the paper's Q.
        clusters: k of k-means, at least 2; None for a tenth of the smaller set. At most the number of distinct rows.
        seed: of k-means and the bootstrap.
        scale: c of the divergence curve.
        points: of the divergence curve, between its two ends.
        explained_variance: share of the variance that the principal components keep, in (0, 1).
        max_iterations: of each k-means.
        restarts: of k-means; the one of least inertia is used.
        resamples: of the bootstrap, at least 2.

    Raises:
        ValueError: fewer than 2 rows, different widths, features that are not finite, or an argument out of range.
    """
    a, b = _checked(a, b)
    clusters = max(2, round(min(len(a), len(b)) / 10)) if clusters is None else clusters
    if clusters < 2:
        raise ValueError(f"MAUVE needs at least 2 clusters, not {clusters}")
    if not 0 < explained_variance < 1:
        raise ValueError(f"explained_variance must lie between 0 and 1, not at {explained_variance}")
    if min(max_iterations, restarts) < 1 or resamples < 2:
        raise ValueError("MAUVE needs at least 1 iteration, 1 restart and 2 resamples")

    # Equal rows become one row with a weight. So rounding cannot separate equal texts, of which a collapsed generator
    # has many, and the order of rows has no effect. In single precision, which mauve-text also clusters in, rows that
    # are equal at norm 1 up to rounding become one.
    joint = np.concatenate([_unit(a), _unit(b)]).astype(np.float32)
    rows, row_of, weights = np.unique(joint, axis=0, return_inverse=True, return_counts=True)
    row_of = row_of.reshape(-1)
    projected = _principal_components(rows.astype(np.float64), weights, explained_variance).astype(np.float32)
    clusters = min(clusters, len(rows))
    rng = np.random.default_rng(seed)
    labels = _k_means(projected, weights, clusters, restarts, max_iterations, rng)[row_of]

    p = np.bincount(labels[: len(a)], minlength=clusters) / len(a)
    q = np.bincount(labels[len(a) :], minlength=clusters) / len(b)
    redrawn = [
        mauve_of_histograms(rng.multinomial(len(a), p) / len(a), rng.multinomial(len(b), q) / len(b), scale, points)
        for _ in range(resamples)
    ]
    return Estimate(mauve_of_histograms(p, q, scale, points), float(np.std(redrawn, ddof=1)))


def mauve_of_histograms(p: np.ndarray, q: np.ndarray, scale: float = 5.0, points: int = 25) -> float:
    """Area under the divergence curve of two histograms (Pillutla et al. 2021, section 2), in [0, 1].

    The curve runs through (exp(-scale KL(q | r)), exp(-scale KL(p | r))) for the mixtures r = w p + (1 - w) q with
    `points` weights w evenly from 1e-6 to 1 - 1e-6, and ends at (1, 0) and (0, 1). The area is by the trapezoid rule,
    and the same with p and q exchanged.

    It is taken along the curve. mauve-text sorts the points by each coordinate instead, which gives the same area
    unless points tie with an end: for histograms with all mass in one cluster the package gives 0.75, and this 1.

    Args:
        p: float64 [k], sums to 1.
        q: float64 [k], sums to 1.
        scale: c of the paper, positive.
        points: at least 1.

    Raises:
        ValueError: histograms of different shapes, fewer than 1 point, or a scale that is not positive.
    """
    if p.ndim != 1 or p.shape != q.shape:
        raise ValueError(f"histograms must be of one shape [k], not {p.shape} and {q.shape}")
    if points < 1 or not scale > 0:
        raise ValueError(f"the divergence curve needs points and a positive scale, not {points} and {scale}")
    weights = np.linspace(1e-6, 1 - 1e-6, points)[:, None]
    mixtures = weights * p + (1 - weights) * q
    x = np.concatenate([[1.0], np.exp(-scale * _divergences(q, mixtures)), [0.0]])
    y = np.concatenate([[0.0], np.exp(-scale * _divergences(p, mixtures)), [1.0]])
    # From (1, 0) to (0, 1), so x falls. Rounding can take a KL, and with it the area, past its bound.
    return min(1.0, float(-np.trapezoid(y, x)))


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not a.shape[1]:
        raise ValueError(f"features must be two arrays [N, D] of one width, not {a.shape} and {b.shape}")
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a distance needs at least 2 rows on each side, not {len(a)} and {len(b)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features must be finite, and some are not")
    return a, b


def _frechet(a: np.ndarray, b: np.ndarray) -> float:
    of_a, of_b = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (a, b))
    # tr (C_a C_b)^½ is tr (Rᵀ C_b R)^½ for any R with C_a = R Rᵀ: symmetric, so its eigenvalues are real. Those that
    # are zero up to rounding are dropped: the root would turn 1e-16 into 1e-8, for each null dimension of a singular
    # covariance.
    values, vectors = np.linalg.eigh(of_a)
    kept = _above_rounding(values)
    root = vectors[:, kept] * np.sqrt(values[kept])
    values = np.linalg.eigvalsh(root.T @ of_b @ root)
    overlap = np.sqrt(values[_above_rounding(values)]).sum()
    distance = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + np.trace(of_a) + np.trace(of_b) - 2 * overlap
    return max(0.0, float(distance))


def _above_rounding(eigenvalues: np.ndarray) -> np.ndarray:
    return eigenvalues > eigenvalues.max(initial=0.0) * len(eigenvalues) * np.finfo(np.float64).eps


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms == 0, 1.0, norms)


def _principal_components(rows: np.ndarray, weights: np.ndarray, explained_variance: float) -> np.ndarray:
    """Rows [N, D] in the fewest leading components that keep this share of their weighted variance: [N, at least 1]."""
    centred = rows - np.average(rows, axis=0, weights=weights)
    variances, components = np.linalg.eigh((centred * weights[:, None]).T @ centred)
    cumulative = np.cumsum(np.maximum(variances[::-1], 0.0))
    count = 1 + int(np.argmax(cumulative >= explained_variance * cumulative[-1]))
    return centred @ components[:, ::-1][:, :count]


def _k_means(
    rows: np.ndarray, weights: np.ndarray, clusters: int, restarts: int, max_iterations: int, rng: np.random.Generator
) -> np.ndarray:
    """Labels [N] of distinct rows [N, D] by Lloyd's algorithm, the best of several restarts by weighted inertia.

    Centres start at rows drawn by weight, as with faiss in mauve-text. A centre that loses all its rows moves to a row
    drawn by weight; faiss splits a cluster drawn by size.
    """
    share = weights / weights.sum()
    best, best_inertia = np.zeros(len(rows), np.int64), math.inf
    for _ in range(restarts):
        centres = rows[rng.choice(len(rows), clusters, replace=False, p=share)]
        labels, inertia = _nearest(rows, weights, centres)
        for _ in range(max_iterations):
            centres = _means(rows, weights, labels, clusters)
            empty = np.flatnonzero(np.isnan(centres[:, 0]))
            centres[empty] = rows[rng.choice(len(rows), len(empty), p=share)]
            before = labels
            labels, inertia = _nearest(rows, weights, centres)
            if np.array_equal(labels, before):
                break
        if inertia < best_inertia:
            best, best_inertia = labels, inertia
    return best


def _nearest(rows: np.ndarray, weights: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    """The nearest centre of each row, and the weighted sum of squared distances to it."""
    labels = np.empty(len(rows), np.int64)
    # |row|² is the same for all centres, so it is left out of the comparison of half squared distances.
    half_norms = np.square(centres).sum(axis=1) / 2
    block = max(1, _PAIRS_AT_ONCE // len(centres))
    for start in range(0, len(rows), block):
        labels[start : start + block] = (half_norms - rows[start : start + block] @ centres.T).argmin(axis=1)
    return labels, float(weights @ np.square(rows - centres[labels]).sum(axis=1, dtype=np.float64))


def _means(rows: np.ndarray, weights: np.ndarray, labels: np.ndarray, clusters: int) -> np.ndarray:
    """Weighted mean [k, D] of each cluster's rows; NaN for a cluster without any."""
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    sums = np.add.reduceat(rows[order] * weights[order, None], starts, dtype=np.float64)
    means = np.full((clusters, rows.shape[1]), np.nan, rows.dtype)
    means[present] = sums / np.add.reduceat(weights[order], starts)[:, None]
    return means


def _divergences(p: np.ndarray, mixtures: np.ndarray) -> np.ndarray:
    """KL(p | r) in nats for each mixture r: [points]."""
    held = p > 0
    return np.log(p[held] / mixtures[:, held]) @ p[held]
