"""Feature matching: its expected gradient is that of the distance of mean features, summed over all triples of texts.

The features of a text are any numbers; what is compared with is NumPy's, in float64.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimators.enumeration import (
    LOGITS,
    MASK,
    TEXTS,
    TOKENS,
    T,
    batch_chances,
    batches,
    chances,
    exact_gradient,
    log_probs_of,
    score_functions,
)

from gptgan_jax import Batch, Experience, PolicyGradient, Sample, feature_matching
from gptgan_jax.estimators.feature_matching import stretches_of

N, LAYERS, WIDTH = 3, 2, 2
_RNG = np.random.default_rng(5)
FEATURES = _RNG.normal(0.5, 1, (len(TEXTS), LAYERS, WIDTH))
REAL = _RNG.normal(0.5, 1, (6, LAYERS, WIDTH))  # of six prompts; the enumerated texts answer the first
OTHERS = _RNG.normal(0.5, 1, (5 * N, LAYERS, WIDTH))
COUNTS = np.array([True, True, True, True, True, False])
EVERYTHING = batches(N)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# ---- by NumPy


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def root(moment: np.ndarray) -> np.ndarray:
    """Its inverse, by singular values."""
    left, values, right = np.linalg.svd(moment)
    return left @ np.diag(values**-0.5) @ right


def vectors(whitening: str) -> tuple[np.ndarray, np.ndarray]:
    """Features of every text, and of the first prompt's real one, where they depend on that text alone."""
    width = LAYERS * WIDTH
    if whitening == "none":
        every, real = (unit(x).reshape(len(x), width) / LAYERS**0.5 for x in (FEATURES, REAL))
    else:
        every, real = FEATURES.reshape(-1, width), REAL.reshape(-1, width)
        by = root(real[COUNTS].T @ real[COUNTS] / COUNTS.sum()) / width**0.5
        every, real = every @ by, real @ by
    return every, real[0]


def paid_by_hand(rows: np.ndarray, whitening: str, diversity: float) -> np.ndarray:
    """The leave-one-out advantages of one triple, each baseline made of the other two texts and nothing else."""
    if whitening == "group":
        ours = unit(FEATURES[rows]).reshape(N, -1)
        values, directions = np.linalg.eigh(ours @ ours.T)
        roots = np.where(values > 1e-5 * values.max(), 1 / np.sqrt(np.maximum(values, 1e-9)), 0.0)
        ours, real = directions @ np.diag(roots) @ directions.T @ ours, unit(unit(REAL[0]).ravel())
    else:
        every, real = vectors(whitening)
        ours = every[rows]
    alike = ours @ ours.T
    found = []
    for j in range(N):
        i, k = (other for other in range(N) if other != j)
        own = 2 * ours[j] @ real - 2 * diversity * (alike[j, i] + alike[j, k]) / 2
        found.append(own - ((ours[i] + ours[k]) @ real - 2 * diversity * alike[i, k]))
    return np.array(found)


def distance_gradient(whitening: str, diversity: float) -> np.ndarray:
    """Of 2 E f . real - diversity |E f|^2, which with diversity 1 is -|E f - real|^2 and a constant."""
    every, real = vectors(whitening)
    mean = chances() @ every
    return exact_gradient(2 * every @ real - 2 * diversity * every @ mean)


# ---- by the estimator


def advantages_of(estimator: PolicyGradient, rows: jax.Array) -> jax.Array:
    """Of the texts of the first prompt, float64 [N, T]."""
    assert estimator.matching is not None
    written = jnp.concatenate([jnp.asarray(FEATURES)[rows], jnp.asarray(OTHERS)])
    paid, _ = estimator.matching.pay(written, jnp.asarray(REAL), jnp.asarray(COUNTS))
    mask = jnp.asarray(MASK)[rows]
    last = mask & ~jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
    rewards = jnp.where(last, paid[:N, None], jnp.where(mask, 0.0, 1e3))
    sample = Sample(jnp.asarray(TOKENS)[rows], mask, jnp.zeros(mask.shape))
    experience = Experience(sample, rewards, jnp.zeros((*mask.shape, 4)), N)
    found: jax.Array = estimator.advantages(None, experience)[0]
    return found


def expected_gradient(estimator: PolicyGradient) -> np.ndarray:
    """Over all triples of texts, by the estimator's own loss."""

    def ascent(rows: jax.Array) -> jax.Array:
        found = advantages_of(estimator, rows)
        mask = jnp.asarray(MASK)[rows]
        sample = Sample(jnp.asarray(TOKENS)[rows], mask, jnp.zeros(mask.shape))
        experience = Experience(sample, jnp.zeros(mask.shape), jnp.zeros((*mask.shape, 4)), N)
        return -jax.grad(lambda logits: estimator.loss(log_probs_of(logits)[rows], experience, found))(
            jnp.asarray(LOGITS)
        )

    found = jax.jit(jax.vmap(ascent))(jnp.asarray(EVERYTHING))
    return np.tensordot(batch_chances(N), np.asarray(found), axes=1)


@pytest.mark.parametrize("diversity", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("whitening", ["real", "none"])
def test_the_expected_gradient_is_that_of_the_distance_of_mean_features(whitening: Any, diversity: float) -> None:
    estimator = feature_matching(N, whitening=whitening, diversity=diversity)
    exact = distance_gradient(whitening, diversity)
    np.testing.assert_allclose(expected_gradient(estimator), exact, atol=1e-10)
    assert np.abs(exact).max() > 0.01
    if diversity == 0.5:  # what the authors' weight matches is another distance
        assert np.abs(exact - distance_gradient(whitening, 1.0)).max() > 0.01


def test_whitening_by_the_group_is_by_its_formula_and_a_bias() -> None:
    found = expected_gradient(feature_matching(N, whitening="group"))
    by_hand = np.array([paid_by_hand(rows, "group", 1.0) for rows in EVERYTHING])
    scores = (score_functions() * MASK[..., None, None]).sum(axis=1)[EVERYTHING]
    expected = np.einsum("b,bj,bjpv->pv", batch_chances(N), by_hand, scores) / N
    np.testing.assert_allclose(found, expected, atol=1e-8)
    gradients = [distance_gradient(whitening, 1.0) for whitening in ("real", "none")]
    cosines = [float((found * one).sum() / np.linalg.norm(found) / np.linalg.norm(one)) for one in gradients]
    assert max(cosines) < 0.99  # of no distance of mean features


@pytest.mark.cases(1)
@pytest.mark.parametrize("whitening", ["real", "group", "none"])
def test_the_advantages_by_hand(whitening: Any) -> None:
    estimator = feature_matching(N, whitening=whitening, diversity=0.7)
    for rows in (np.array([0, 4, 9]), np.array([3, 3, 7])):
        found = np.asarray(advantages_of(estimator, jnp.asarray(rows)))
        expected = paid_by_hand(rows, whitening, 0.7)
        np.testing.assert_allclose(found, np.where(MASK[rows], expected[:, None], 0.0), atol=1e-9)


def test_a_constant_or_equal_features_teach_nothing() -> None:
    found = advantages_of(feature_matching(N), jnp.array([5, 5, 5]))
    np.testing.assert_allclose(found, 0, atol=1e-12)


def test_a_stretch_of_no_tokens_is_none_that_features_are_whitened_by_or_that_metrics_count() -> None:
    pay: Any = feature_matching(N).matching.pay  # type: ignore[union-attr]
    written = jnp.asarray(np.concatenate([FEATURES[:N], OTHERS]))
    other = REAL.copy()
    other[5] = 1e6
    paid, metrics = pay(written, jnp.asarray(REAL), jnp.asarray(COUNTS))
    again, same = pay(written, jnp.asarray(other), jnp.asarray(COUNTS))
    np.testing.assert_allclose(again[: 5 * N], paid[: 5 * N], rtol=1e-12)
    every, real = vectors("real")
    assert float(metrics["alignment"]) != pytest.approx(float(every[:N].mean(axis=0) @ real))
    for name in metrics:
        assert float(metrics[name]) == pytest.approx(float(same[name]), rel=1e-12)


# ---- stretches


def test_stretches_are_the_texts_parts_after_all_that_stands_before_them() -> None:
    target = jnp.array([[5, 6, 7, 8, 9, 2, 0, 0], [5, 4, 3, 2, 0, 0, 0, 0]])
    mask = jnp.arange(8) < jnp.array([[6], [4]])
    prompt, prompt_mask = jnp.array([[1, 4], [0, 1]]), jnp.array([[True, True], [False, True]])
    found = stretches_of(Batch(prompt, prompt_mask, target, mask, jnp.array([3, 1])), length=2, context=1, stride=3)
    # They begin at tokens 1 and 4; a third one, at 7, would not be whole.
    assert found.target.tolist() == [[6, 7], [9, 2], [4, 3], [0, 0]]
    assert found.target_mask.tolist() == [[True, True], [True, True], [True, True], [False, False]]
    shown = [
        row[kept].tolist() for row, kept in zip(np.asarray(found.prompt), np.asarray(found.prompt_mask), strict=True)
    ]
    assert shown[:3] == [[1, 4, 5], [1, 4, 5, 6, 7, 8], [1, 5]]
    for kept in np.asarray(found.prompt_mask):
        assert kept[np.argmax(kept) :].all()  # no hole
    assert found.label.tolist() == [3, 3, 1, 1]


def test_a_stretch_longer_than_the_texts_is_refused() -> None:
    prompt, target = jnp.ones((1, 1), jnp.int32), jnp.ones((1, T), jnp.int32)
    batch = Batch(prompt, prompt > 0, target, target > 0, jnp.zeros(1, jnp.int32))
    with pytest.raises(ValueError, match="a stretch of 3 tokens after 1 does not fit into texts of 3"):
        stretches_of(batch, 3, 1, 3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"samples": 2}, "samples should be a whole number, at least 3"),
        ({"diversity": -1.0}, "diversity should be at least 0"),
        ({"whitening": "all"}, "whitening should be one of real, group, none"),
        ({"depths": (0.0,)}, "depths should be above 0 and at most 1"),
        ({"length": 0}, "length should be a whole number, at least 1"),
    ],
)
def test_what_is_out_of_range_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        feature_matching(**options)
