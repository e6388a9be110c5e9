"""Likelihood and its kin against SciPy and NumPy in float64; masked positions never matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from gptgan_jax.objectives.likelihood import cross_entropy, entropy, kl_divergence, masked_mean, token_log_probs

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (2, 4, 5)).astype(np.float32)
OTHER = RNG.normal(0, 3, (2, 4, 5)).astype(np.float32)
TOKENS = RNG.integers(0, 5, (2, 4))
MASK = np.array([[True, True, True, True], [True, True, False, False]])
LOG_PROBS = special.log_softmax(LOGITS.astype(np.float64), axis=-1)
CHOSEN = np.take_along_axis(LOG_PROBS, TOKENS[..., None], axis=-1)[..., 0]


def test_token_log_probs_equal_log_softmax_at_the_token() -> None:
    np.testing.assert_allclose(token_log_probs(jnp.asarray(LOGITS), jnp.asarray(TOKENS)), CHOSEN, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_token_log_probs_is_onehot_minus_softmax() -> None:
    gradient = jax.grad(lambda x: token_log_probs(x, jnp.asarray(TOKENS)).sum())(jnp.asarray(LOGITS))
    np.testing.assert_allclose(gradient, np.eye(5)[TOKENS] - np.exp(LOG_PROBS), atol=1e-6)


def test_an_excluded_token_has_log_prob_minus_infinity_and_troubles_no_other() -> None:
    logits = jnp.array([[0.0, -jnp.inf, 0.0], [0.0, -jnp.inf, 0.0]])
    tokens = jnp.array([0, 1])
    np.testing.assert_allclose(token_log_probs(logits, tokens), [-np.log(2), -np.inf], rtol=1e-6)
    gradient = jax.grad(lambda x: token_log_probs(x, tokens)[0])(logits)
    np.testing.assert_allclose(gradient, [[0.5, 0, -0.5], [0, 0, 0]], atol=1e-6)


def test_logits_of_1e4_and_bfloat16_logits_stay_finite_and_float32() -> None:
    assert float(token_log_probs(jnp.array([1e4, 0.0]), jnp.int32(1))) == pytest.approx(-1e4)
    assert float(entropy(jnp.array([1e4, 0.0]))) == 0
    for function in (entropy, lambda x: kl_divergence(x, x), lambda x: token_log_probs(x, jnp.asarray(TOKENS))):
        assert function(jnp.asarray(LOGITS, jnp.bfloat16)).dtype == jnp.float32


def test_cross_entropy_is_the_mean_over_the_tokens_that_count() -> None:
    loss = cross_entropy(jnp.asarray(LOGITS), jnp.asarray(TOKENS), jnp.asarray(MASK))
    assert float(loss) == pytest.approx(-CHOSEN[MASK].mean(), rel=1e-5)


@pytest.mark.parametrize("filler", [0.0, 1e30, -np.inf, np.inf, np.nan])
def test_masked_positions_change_neither_the_mean_nor_its_gradient(filler: float) -> None:
    values = jnp.asarray(CHOSEN, jnp.float32)
    mean, gradient = jax.value_and_grad(masked_mean)(jnp.where(MASK, values, filler), jnp.asarray(MASK))
    assert float(mean) == pytest.approx(CHOSEN[MASK].mean(), rel=1e-5)
    np.testing.assert_allclose(gradient, MASK / MASK.sum(), rtol=1e-6)


def test_masked_logits_and_tokens_change_neither_the_cross_entropy_nor_its_gradient() -> None:
    def both(logits: np.ndarray, tokens: np.ndarray) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(cross_entropy)(jnp.asarray(logits), jnp.asarray(tokens), jnp.asarray(MASK))

    loss, gradient = both(LOGITS, TOKENS)
    other_loss, other_gradient = both(np.where(MASK[..., None], LOGITS, OTHER), np.where(MASK, TOKENS, 4))
    assert float(loss) == float(other_loss)
    np.testing.assert_array_equal(gradient, other_gradient)
    assert (np.asarray(gradient)[~MASK] == 0).all()
    assert (np.abs(np.asarray(gradient)[MASK]) > 0).all()


def test_a_mean_over_nothing_is_0_and_so_is_its_gradient() -> None:
    mean, gradient = jax.value_and_grad(masked_mean)(jnp.ones(3), jnp.zeros(3, bool))
    assert float(mean) == 0
    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_entropy_equals_scipys_and_runs_from_0_to_the_log_of_the_vocabulary() -> None:
    np.testing.assert_allclose(
        entropy(jnp.asarray(LOGITS)), stats.entropy(np.exp(LOG_PROBS), axis=-1), rtol=1e-4, atol=1e-6
    )
    assert float(entropy(jnp.zeros(8))) == pytest.approx(np.log(8), rel=1e-6)


def test_kl_divergence_equals_scipys_is_not_symmetric_and_is_0_between_equals() -> None:
    p, q = np.exp(LOG_PROBS), special.softmax(OTHER.astype(np.float64), axis=-1)
    np.testing.assert_allclose(
        kl_divergence(jnp.asarray(LOGITS), jnp.asarray(OTHER)), stats.entropy(p, q, axis=-1), rtol=1e-4
    )
    np.testing.assert_allclose(kl_divergence(jnp.asarray(LOGITS), jnp.asarray(LOGITS) + 5), np.zeros((2, 4)), atol=1e-5)
