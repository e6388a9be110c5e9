"""How steep a discriminator may be: by hand where scores are linear or quadratic, by finite differences elsewhere."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax.objectives.penalties import gradient_norms_squared, gradient_penalty, zero_centred

KEY = jax.random.key(0)
B, S, E, H = 3, 2, 4, 5
WEIGHTS = np.random.default_rng(0).normal(0, 1, (S, E))
TEXTS = np.random.default_rng(1).normal(0, 1, (B, S, E))
OTHERS = np.random.default_rng(2).normal(0, 1, (B, S, E))
PARAMS = np.random.default_rng(3).normal(0, 1, (E + 1, H))


def linear(x: jax.Array) -> jax.Array:
    return (jnp.asarray(WEIGHTS, jnp.float32) * x).sum(axis=(1, 2))


def quadratic(x: jax.Array) -> jax.Array:
    return jnp.square(x).sum(axis=(1, 2)) / 2


def network(params: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """A score that is neither: one hidden layer, whose last row of parameters are the weights above it."""
    return lambda x: (jnp.tanh(x @ params[:-1]).sum(axis=1) ** 2) @ params[-1]


def derivative(function: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences in float64."""
    result = np.zeros(at.shape)
    for index in np.ndindex(at.shape):
        move = np.zeros(at.shape)
        move[index] = step
        result[index] = (float(function(at + move)) - float(function(at - move))) / (2 * step)
    return result


def test_the_gradient_of_a_linear_score_is_as_long_as_its_weights_everywhere() -> None:
    squared = np.square(WEIGHTS).sum()
    texts, others = jnp.asarray(TEXTS, jnp.float32), jnp.asarray(OTHERS, jnp.float32)
    np.testing.assert_allclose(gradient_norms_squared(linear, texts), np.full(B, squared), rtol=1e-6)
    assert float(zero_centred(linear, texts)) == pytest.approx(squared / 2, rel=1e-6)
    penalty = (np.sqrt(squared) - 1) ** 2
    assert float(gradient_penalty(linear, texts, others, KEY)) == pytest.approx(penalty, rel=1e-5)


def test_the_gradient_of_a_quadratic_score_is_the_text_itself() -> None:
    squared = np.square(TEXTS).sum(axis=(1, 2))
    texts = jnp.asarray(TEXTS, jnp.float32)
    np.testing.assert_allclose(gradient_norms_squared(quadratic, texts), squared, rtol=1e-6)
    assert float(zero_centred(quadratic, texts)) == pytest.approx(squared.mean() / 2, rel=1e-6)
    penalty = np.square(np.sqrt(squared) - 1).mean()
    assert float(gradient_penalty(quadratic, texts, texts, KEY)) == pytest.approx(penalty, rel=1e-5)


def test_the_mixture_is_uniform_between_the_two_texts_and_drawn_for_each_text_and_key() -> None:
    rows = 4000
    real, fake = jnp.zeros((rows, S, E)), jnp.full((rows, S, E), 1 / np.sqrt(S * E))

    def shares(x: jax.Array) -> jax.Array:
        """How much of the generated text is in each place, as a score of which only the gradient means something."""
        return jnp.square(x).sum(axis=(1, 2)) / 2

    # At a share u of a text of length 1 the gradient's length is u, and the mean of (u - 1)^2 is 1/3.
    penalty = float(gradient_penalty(shares, real, fake, KEY))
    assert penalty == pytest.approx(1 / 3, abs=4 * np.sqrt(4 / 45 / rows))
    # With one place for all texts it would be what a single text gives.
    alone = [float(gradient_penalty(shares, real[:1], fake[:1], jax.random.key(i))) for i in range(3)]
    assert len({penalty, *alone}) == 4
    assert np.ptp(alone) > 0.05


@pytest.mark.parametrize("name", ["norms", "zero_centred", "gradient_penalty"])
def test_values_and_their_gradients_in_a_parameter_match_finite_differences(name: str) -> None:
    with jax.enable_x64(True):
        texts = jnp.asarray(TEXTS)
        penalty = {
            "norms": lambda params: (gradient_norms_squared(network(params), texts) * jnp.arange(1.0, B + 1)).sum(),
            "zero_centred": lambda params: zero_centred(network(params), texts),
            "gradient_penalty": lambda params: gradient_penalty(network(params), texts, texts, KEY),
        }[name]

        slopes = derivative(lambda x: float(network(jnp.asarray(PARAMS))(jnp.asarray(x)).sum()), TEXTS)
        squared = np.square(slopes).sum(axis=(1, 2))
        expected = {
            "norms": (squared * np.arange(1.0, B + 1)).sum(),
            "zero_centred": squared.mean() / 2,
            "gradient_penalty": np.square(np.sqrt(squared) - 1).mean(),
        }[name]
        value, gradient = jax.jit(jax.value_and_grad(penalty))(jnp.asarray(PARAMS))
        assert float(value) == pytest.approx(float(expected), rel=1e-7)
        compiled = jax.jit(penalty)
        by_differences = derivative(lambda params: float(compiled(jnp.asarray(params))), PARAMS)
        np.testing.assert_allclose(gradient, by_differences, rtol=1e-6, atol=1e-6 * np.abs(by_differences).max())


def test_the_gradient_between_two_different_texts_matches_finite_differences_too() -> None:
    with jax.enable_x64(True):

        def penalty(params: jax.Array) -> jax.Array:
            return gradient_penalty(network(params), jnp.asarray(TEXTS), jnp.asarray(OTHERS), KEY)

        compiled = jax.jit(penalty)
        by_differences = derivative(lambda params: float(compiled(jnp.asarray(params))), PARAMS)
        gradient = jax.grad(penalty)(jnp.asarray(PARAMS))
        np.testing.assert_allclose(gradient, by_differences, rtol=1e-6, atol=1e-6 * np.abs(by_differences).max())


def test_a_score_that_ignores_its_text_has_a_penalty_of_1_and_finite_gradients() -> None:
    texts, others = jnp.asarray(TEXTS, jnp.float32), jnp.asarray(OTHERS, jnp.float32)

    def penalty(scale: jax.Array) -> jax.Array:
        return gradient_penalty(lambda x: scale * linear(x), texts, others, KEY)

    value, gradient = jax.value_and_grad(penalty)(jnp.float32(0))
    assert float(value) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(float(gradient))


def test_bfloat16_embeddings_give_float32() -> None:
    texts = jnp.asarray(TEXTS, jnp.bfloat16)
    squared = gradient_norms_squared(quadratic, texts)
    assert squared.dtype == jnp.float32
    np.testing.assert_allclose(squared, np.square(np.asarray(texts, np.float64)).sum(axis=(1, 2)), rtol=1e-6)
    assert zero_centred(quadratic, texts).dtype == gradient_penalty(quadratic, texts, texts, KEY).dtype == jnp.float32
