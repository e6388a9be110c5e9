"""Gumbel-softmax: its noise is what would have drawn the token, and its gradient is that of the relaxed judgement.

What is compared with is integrated numerically by NumPy, or drawn by it without regard to any token.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gptgan_jax import gumbel
from gptgan_jax.estimators.gumbel import conditional_perturbed

DRAWS = 20_000
LOGITS = np.array([0.8, -0.5])
NOISE = np.linspace(-40, 40, 20_001)  # of the logistic distribution, the difference of two Gumbels
DENSITY = 1 / (4 * np.cosh(NOISE / 2) ** 2)
JUDGED = np.array([1.7, -0.6])  # what each token's share is worth


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def sigma(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def draws_of(logits: np.ndarray, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    """(logits [draws, 1, V], tokens [draws, 1] drawn from them)."""
    rows = jnp.broadcast_to(jnp.asarray(logits), (DRAWS, 1, len(logits)))
    return rows, jax.random.categorical(jax.random.key(seed), rows)


def assert_mean(draws: np.ndarray, expected: np.ndarray | float) -> None:
    """The mean of draws along the first axis is what is expected, to 4.5 of its standard errors, and those small."""
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert (error < 0.03 * np.abs(expected) + 1e-3).all()
    assert (np.abs(draws.mean(axis=0) - expected) < 4.5 * error).all(), (draws.mean(axis=0), expected, error)


def some_texts(dtype: type = jnp.float64) -> tuple[jax.Array, jax.Array]:
    """(logits [300, 3, 5], tokens [300, 3], unlikely ones too)."""
    rng = np.random.default_rng(3)
    return jnp.asarray(rng.normal(0, 1.5, (300, 3, 5)), dtype), jnp.asarray(rng.integers(0, 5, (300, 3)))


# ---- the noise


def test_the_perturbed_tokens_largest_is_the_one_that_was_drawn_always() -> None:
    for dtype in (jnp.float32, jnp.float64):
        logits, tokens = some_texts(dtype)
        found = conditional_perturbed(jax.random.key(0), jax.nn.log_softmax(2 * logits), tokens)
        assert found.dtype == dtype
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found.argmax(axis=-1), tokens)


def test_over_the_tokens_the_noise_is_gumbel_and_independent() -> None:
    probs = np.array([0.6, 0.3, 0.08, 0.02])
    rows, tokens = draws_of(np.log(probs))
    found = np.asarray(conditional_perturbed(jax.random.key(1), rows, tokens))[:, 0]
    noise = found - np.log(probs)
    for each in noise.T:
        assert stats.kstest(each, stats.gumbel_r.cdf).pvalue > 1e-3
    assert_mean(noise, np.full(4, np.euler_gamma))
    assert_mean((noise - np.euler_gamma) ** 2, np.full(4, np.pi**2 / 6))
    uniform = stats.gumbel_r.cdf(noise)
    correlations = np.corrcoef(uniform.T) - np.eye(4)
    assert np.abs(correlations).max() < 4.5 / np.sqrt(DRAWS)


def test_given_a_token_the_largest_is_gumbel_and_the_others_are_cut_off_at_it() -> None:
    probs, token = np.array([0.6, 0.3, 0.1]), 2
    tokens = jnp.full((DRAWS, 1), token)
    found = np.asarray(
        conditional_perturbed(jax.random.key(2), jnp.broadcast_to(jnp.log(probs), (DRAWS, 1, 3)), tokens)
    )[:, 0]
    assert stats.kstest(found[:, token], stats.gumbel_r.cdf).pvalue > 1e-3  # whatever the token
    for other in (0, 1):
        share = np.exp(stats.gumbel_r.logcdf(found[:, other], np.log(probs[other])))
        share /= np.exp(stats.gumbel_r.logcdf(found[:, token], np.log(probs[other])))
        assert stats.kstest(share, stats.uniform.cdf).pvalue > 1e-3


# ---- what the discriminator reads


@pytest.mark.cases(2)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("draws", [1, 3])
def test_straight_through_reads_the_tokens_themselves(draws: int, dtype: type) -> None:
    logits, tokens = some_texts(dtype)
    estimator = gumbel(0.7, draws=draws)
    found = estimator.relax(estimator.init(4), jax.random.key(0), logits, tokens)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.eye(5)[tokens])


@pytest.mark.parametrize("draws", [1, 3])
def test_soft_tokens_are_distributions_of_which_the_draws_largest_is_the_token(draws: int) -> None:
    logits, tokens = some_texts()
    estimator = gumbel(0.7, straight_through=False, draws=draws)
    found = estimator.relax(estimator.init(4), jax.random.key(0), logits, tokens)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-12)
    np.testing.assert_array_equal(found.argmax(axis=-1), tokens)
    assert found.min() > 0
    assert np.median(found.max(axis=-1)) < 0.999  # not one-hot


def test_soft_tokens_are_those_of_the_conditional_noise() -> None:
    logits, tokens = some_texts()
    logits += 2
    estimator, key = gumbel(0.75, straight_through=False), jax.random.key(0)
    found = estimator.relax(estimator.init(4), key, logits, tokens)
    perturbed = conditional_perturbed(jax.random.split(key, 1)[0], jax.nn.log_softmax(logits), tokens)
    np.testing.assert_allclose(found, jax.nn.softmax(perturbed / 0.75), rtol=1e-9)


# ---- the gradient


def gradients(
    temperature: float,
    straight_through: bool,
    judge: Callable[[jax.Array], jax.Array],
    logits: np.ndarray = LOGITS,
    draws: int = 1,
) -> np.ndarray:
    """Of the judgement in the logits, one a drawn text of one token: [draws, V]."""
    rows, tokens = draws_of(logits)
    estimator = gumbel(temperature, straight_through, draws)

    def judged(rows: jax.Array) -> jax.Array:
        return judge(estimator.relax(estimator.init(4), jax.random.key(7), rows, tokens)[:, 0]).sum()

    return np.asarray(jax.grad(judged)(rows))[:, 0]


def linear(shares: jax.Array) -> jax.Array:
    return shares @ jnp.asarray(JUDGED)


def curved(shares: jax.Array) -> jax.Array:
    return jnp.square(shares @ jnp.asarray(JUDGED)) + jnp.sin(3 * shares[:, 0])


def integral(values: np.ndarray) -> float:
    return float((values * DENSITY).sum() * (NOISE[1] - NOISE[0]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("straight_through", [True, False])
def test_the_gradient_of_a_linear_judgement_is_that_integrated_over_the_noise(
    straight_through: bool, temperature: float
) -> None:
    relaxed = sigma((LOGITS[0] - LOGITS[1] + NOISE) / temperature)
    expected = integral(relaxed * (1 - relaxed) / temperature) * (JUDGED[0] - JUDGED[1])
    assert expected > 0.1  # towards the token that is worth more
    found = gradients(temperature, straight_through, linear)
    assert_mean(found[:, 0], expected)
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-12)  # the other logit goes the other way


def test_straight_through_is_biased_towards_the_end_of_no_temperature() -> None:
    probs = sigma(LOGITS[0] - LOGITS[1])
    exact = probs * (1 - probs) * (JUDGED[0] - JUDGED[1])
    errors = [gradients(temperature, True, linear)[:, 0].mean() - exact for temperature in (2.0, 0.3)]
    assert abs(errors[1]) < 0.3 * abs(errors[0])


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_soft_gradient_of_a_curved_judgement_is_that_integrated_over_the_noise(temperature: float) -> None:
    first = sigma((LOGITS[0] - LOGITS[1] + NOISE) / temperature)
    worth = JUDGED[0] * first + JUDGED[1] * (1 - first)
    slope = 2 * worth * (JUDGED[0] - JUDGED[1]) + 3 * np.cos(3 * first)
    expected = integral(slope * first * (1 - first) / temperature)
    found = gradients(temperature, False, curved)
    assert_mean(found[:, 0], expected)
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-12)
    # Straight-through takes the slope at the tokens instead.
    ends = 2 * JUDGED * (JUDGED[0] - JUDGED[1]) + 3 * np.cos([3.0, 0.0])
    slope = np.where(LOGITS[0] - LOGITS[1] + NOISE > 0, ends[0], ends[1])
    assert_mean(gradients(temperature, True, curved)[:, 0], integral(slope * first * (1 - first) / temperature))


def test_with_more_tokens_the_gradient_is_that_over_noise_that_knows_no_token() -> None:
    logits, worth, temperature = np.array([0.5, -1.0, 0.2, 0.9]), np.array([1.0, -2.0, 0.5, 3.0]), 0.8
    noise = np.random.default_rng(0).gumbel(size=(DRAWS, 4))
    shares = np.exp((logits + noise) / temperature)
    shares /= shares.sum(axis=1, keepdims=True)
    expected = shares * (worth - shares @ worth[:, None]) / temperature
    for straight_through in (True, False):
        found = gradients(temperature, straight_through, lambda x: x @ jnp.asarray(worth), logits)
        error = np.sqrt((found.var(axis=0) + expected.var(axis=0)) / DRAWS)
        assert (np.abs(found.mean(axis=0) - expected.mean(axis=0)) < 4.5 * error).all()
        assert (np.abs(expected.mean(axis=0)) > 10 * error).all()


@pytest.mark.parametrize("straight_through", [True, False])
def test_more_draws_of_the_noise_have_the_same_mean_and_less_variance(straight_through: bool) -> None:
    one, four = (gradients(0.5, straight_through, linear, draws=draws)[:, 0] for draws in (1, 4))
    relaxed = sigma((LOGITS[0] - LOGITS[1] + NOISE) / 0.5)
    expected = integral(relaxed * (1 - relaxed) / 0.5) * (JUDGED[0] - JUDGED[1])
    assert_mean(one, expected)
    assert_mean(four, expected)
    assert 0.25 < four.var() / one.var() < 0.6  # a quarter, and the variance between tokens, which stays


def test_a_token_gets_no_gradient_of_another_position_or_text() -> None:
    logits, tokens = some_texts()
    estimator = gumbel()

    def judged(logits: jax.Array) -> jax.Array:
        return estimator.relax(estimator.init(4), jax.random.key(0), logits, tokens)[1, 0, 0]

    gradient = np.array(jax.grad(judged)(logits))
    assert np.abs(gradient[1, 0]).min() > 1e-5
    gradient[1, 0] = 0
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


# ---- the temperature


def test_the_temperature_is_the_schedules_at_the_steps_made() -> None:
    estimator = gumbel(lambda step: 2.0 * 0.5**step, straight_through=False)
    logits, tokens = some_texts()
    state = estimator.init(4)
    for expected in (2.0, 1.0, 0.5, 0.25):
        fixed = gumbel(expected, straight_through=False)
        np.testing.assert_allclose(
            estimator.relax(state, jax.random.key(0), logits, tokens),
            fixed.relax(fixed.init(4), jax.random.key(0), logits, tokens),
            rtol=1e-9,
        )
        state, metrics = estimator.advance(state)
        assert {name: float(x) for name, x in metrics.items()} == {"relaxation_temperature": expected}


def test_the_default_is_straight_through_at_a_temperature_of_1_with_one_draw() -> None:
    logits, tokens = some_texts()
    weights = jnp.asarray(np.random.default_rng(5).normal(0, 1, logits.shape))

    def gradient(estimator: object) -> np.ndarray:
        def judged(x: jax.Array) -> jax.Array:
            return (weights * estimator.relax(estimator.init(4), jax.random.key(0), x, tokens)).sum()

        return np.asarray(jax.grad(judged)(logits))

    np.testing.assert_array_equal(gradient(gumbel()), gradient(gumbel(1.0, True, 1)))
    assert np.abs(gradient(gumbel()) - gradient(gumbel(1.0, True, 2))).max() > 1e-3
