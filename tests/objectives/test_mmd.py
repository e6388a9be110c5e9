"""The discrepancy of features against NumPy in float64, and its reward's expected gradient against an enumeration."""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimators.enumeration import LOGITS, TEXTS, batch_chances, batches, chances, exact_gradient, score_functions

from gptgan_jax import rewards
from gptgan_jax.errors import UserError
from gptgan_jax.objectives.mmd import squared_mmd, witness
from gptgan_jax.objectives.rewards import Judgement

_RNG = np.random.default_rng(0)
FEATURES, REAL = _RNG.normal(size=(len(TEXTS), 2)), _RNG.normal(0.5, 1, (4, 2))
BANDWIDTHS = (0.7, 2.0)
KEY = jax.random.key(0)


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    return sum(float(np.exp(-np.square(a - b).sum() / (2 * h**2))) for h in BANDWIDTHS)


def kernels(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([[kernel(x, y) for y in b] for x in a])


def paid(fake: np.ndarray, real: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """By the reward, for whole texts where no mask is given."""
    mask = np.ones((len(fake), 1), bool) if mask is None else mask
    of_real = jnp.zeros((len(real), mask.shape[1])), jnp.ones((len(real), mask.shape[1]), bool)
    judgement = Judgement(jnp.full(mask.shape, 1e3), jnp.asarray(mask), *of_real)
    judgement = judgement._replace(fake_features=jnp.asarray(fake), real_features=jnp.asarray(real))
    return np.asarray(rewards.mmd(BANDWIDTHS)(judgement, KEY))


def test_the_estimate_is_the_mean_kernel_within_less_that_between() -> None:
    x, y = FEATURES[:5], REAL
    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(z, 2)]) for z in (x, y)]
    expected = sum(within) - 2 * kernels(x, y).mean()
    assert float(squared_mmd(jnp.asarray(x), jnp.asarray(y), BANDWIDTHS)) == pytest.approx(expected, abs=3e-6)


def test_it_has_no_bias_and_is_0_in_the_mean_between_two_samples_of_one_distribution() -> None:
    """Over all pairs of pairs that a distribution on five points draws."""
    points, p, q = FEATURES[:5], np.full(5, 0.2), np.array([0.1, 0.4, 0.2, 0.2, 0.1])
    pairs = list(itertools.product(range(5), repeat=2))
    estimate = jax.jit(jax.vmap(jax.vmap(lambda x, y: squared_mmd(x, y, BANDWIDTHS), (None, 0)), (0, None)))
    found = np.asarray(estimate(*[jnp.asarray(points[np.array(pairs)])] * 2), np.float64)
    matrix = kernels(points, points)
    for other in (p, q):
        weights = np.outer([p[a] * p[b] for a, b in pairs], [other[a] * other[b] for a, b in pairs])
        expected = (p - other) @ matrix @ (p - other)
        assert (weights * found).sum() == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("size", [2, 3])
def test_by_policy_gradients_the_expected_gradient_is_exactly_that_of_minus_the_discrepancy(size: int) -> None:
    """Over all batches of texts; with the real texts of a batch as they are."""
    found = np.stack([paid(FEATURES[rows], REAL)[:, 0] for rows in batches(size)]) if size == 2 else None
    if found is None:
        reward = jax.jit(jax.vmap(lambda x: witness(x, jnp.asarray(REAL), BANDWIDTHS)))
        found = np.asarray(reward(jnp.asarray(FEATURES[batches(size)])))
    scores = score_functions().sum(axis=1)[batches(size)]
    ours = np.einsum("b,bi,bipv->pv", batch_chances(size), found, scores) / size
    worth = 2 * kernels(FEATURES, REAL).mean(axis=1) - 2 * kernels(FEATURES, FEATURES) @ chances()
    np.testing.assert_allclose(ours, exact_gradient(worth), atol=1e-5)
    assert np.abs(ours).max() > 0.02
    step = LOGITS + 0.1 * ours
    assert discrepancy(chances(step)) < discrepancy(chances())  # the sign


def discrepancy(p: np.ndarray) -> float:
    return float(p @ kernels(FEATURES, FEATURES) @ p - 2 * p @ kernels(FEATURES, REAL).mean(axis=1))


def test_through_the_features_the_gradient_is_that_of_minus_the_estimate() -> None:
    x = jnp.asarray(FEATURES[:4], jnp.float32)
    ours = jax.grad(lambda x: witness(x, jnp.asarray(REAL), BANDWIDTHS).mean())(x)
    exact = jax.grad(lambda x: -squared_mmd(x, jnp.asarray(REAL), BANDWIDTHS))(x)
    np.testing.assert_allclose(ours, exact, atol=1e-6)
    assert np.abs(exact).max() > 0.01


def test_a_text_is_paid_at_its_last_token_and_by_no_score() -> None:
    mask = np.array([[True, True, False], [True, True, True], [True, False, False]])
    found = paid(FEATURES[:3], REAL, mask)
    whole = paid(FEATURES[:3], REAL)[:, 0]
    np.testing.assert_allclose(found, [[0, whole[0], 0], [0, 0, whole[1]], [whole[2], 0, 0]], rtol=1e-6)


def test_the_bandwidth_says_what_is_near() -> None:
    """A wide kernel sees the means alone: that of feature matching (Salimans et al. 2016), over h^2."""
    x, y = jnp.asarray(FEATURES[:4], jnp.float32), jnp.asarray(REAL, jnp.float32)
    wide = jax.grad(lambda x: witness(x, y, (30.0,)).mean())(x) * 30.0**2
    others = (x.sum(axis=0) - x) / 3
    np.testing.assert_allclose(wide, 2 * (y.mean(axis=0) - others) / 4, rtol=0.02, atol=2e-3)
    near = witness(jnp.zeros((2, 1)), jnp.full((1, 1), 3.0), (1.0,))
    np.testing.assert_allclose(near, 2 * np.exp(-4.5) - 2, rtol=1e-5)


def test_what_can_not_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more"):
        squared_mmd(jnp.zeros((1, 2)), jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match="this discriminator gives none"):
        rewards.mmd()(Judgement(*[jnp.zeros((2, 1)), jnp.ones((2, 1), bool)] * 2), KEY)
    with pytest.raises(ValueError, match="at least one number above 0"):
        rewards.mmd(())
    with pytest.raises(UserError, match="mmd_bandwidths should be above 0"):
        rewards.mmd((1.0, 0.0))
