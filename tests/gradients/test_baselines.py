"""A baseline leaves the expected gradient as it is, summed exactly over all texts, and takes variance away."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimators.enumeration import (
    DENSE,
    LAST,
    MASK,
    PREFIXES,
    STATES,
    TEXTS,
    T,
    batch_chances,
    batches,
    chances,
    exact_gradient,
    expected_gradient,
    paid,
    returns_of,
    table,
    totals,
    variance,
    weighted,
)

from gptgan_jax import Experience, Sample, learned_value, leave_one_out, moving_average, no_baseline, reinforce, rollout
from gptgan_jax.gradients.baselines import Baseline, LearnedValue, MovingAverage, discounted_returns, text_means

WIDTH = 4
DISCOUNTS = [1.0, 0.23]
PAIR_MASK = np.array([[True, True, True], [True, False, False]])
PAIR_PAID = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def average_of(value: float) -> MovingAverage:
    return MovingAverage(jnp.float64(value / 2), jnp.float64(0.5))


def value_of(weights: np.ndarray) -> LearnedValue:
    return learned_value().init(len(weights) - 1)._replace(weights=jnp.asarray(weights))


def experience_of(
    mask: np.ndarray, hidden: np.ndarray | None = None, samples: int = 1, rewards: np.ndarray | None = None
) -> Experience:
    mask = jnp.asarray(mask)
    hidden = np.zeros((*mask.shape, WIDTH)) if hidden is None else hidden
    sample = Sample(jnp.zeros(mask.shape, jnp.int32), mask, jnp.zeros(mask.shape))
    return Experience(sample, jnp.zeros(mask.shape) if rewards is None else rewards, jnp.asarray(hidden), samples)


# ---- returns


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_discounted_returns_by_hand(discount: float) -> None:
    expected = [[1 + discount * (2 + discount * 4), 2 + discount * 4, 4], [8, 0, 0]]
    found = discounted_returns(jnp.asarray(PAIR_PAID), jnp.asarray(PAIR_MASK), discount)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_text_means_are_over_a_texts_tokens_and_0_where_it_has_none() -> None:
    mask = jnp.array([[True, True, False], [True, False, False], [False, False, False]])
    values = jnp.array([[1.0, 4.0, 100.0], [8.0, 100.0, 100.0], [100.0, 100.0, 100.0]])
    np.testing.assert_array_equal(text_means(values, mask), [2.5, 8.0, 0.0])


# ---- the expected gradient stays


@pytest.mark.parametrize("discount", DISCOUNTS)
@pytest.mark.parametrize("name", ["moving_average", "learned_value"])
def test_a_baseline_with_a_state_leaves_the_expected_gradient_as_it_is(name: str, discount: float) -> None:
    weights = np.array([0.7, -1.3, 2.1, 0.4, -3.0])
    baseline, state = {
        "moving_average": (moving_average(), average_of(7.0)),
        "learned_value": (learned_value(), value_of(weights)),
    }[name]
    estimator, without = reinforce(discount, baseline), reinforce(discount, no_baseline())
    expected = expected_gradient(without, DENSE)
    np.testing.assert_allclose(expected_gradient(estimator, DENSE, state=state), expected, atol=1e-12)
    # It does something: the variance is another one.
    assert abs(variance(estimator, DENSE, state=state) - variance(without, DENSE)) > 0.1


@pytest.mark.parametrize("discount", DISCOUNTS)
def test_leave_one_out_of_a_batch_leaves_the_expected_gradient_as_it_is(discount: float) -> None:
    estimator, without = reinforce(discount, leave_one_out()), reinforce(discount, no_baseline())
    expected = expected_gradient(without, DENSE)
    for size in (2, 3):
        np.testing.assert_allclose(expected_gradient(estimator, DENSE, size), expected, atol=1e-12)
    assert abs(variance(estimator, DENSE, 2) - variance(without, DENSE, 2)) > 0.01


def test_a_baseline_that_knew_the_token_would_be_found_out() -> None:
    def value(state: None, experience: Experience, returns: jax.Array) -> jax.Array:
        return experience.sample.log_probs

    knowing = Baseline(lambda width: None, value, lambda *_: None)
    difference = expected_gradient(reinforce(1.0, knowing), DENSE) - exact_gradient(totals(DENSE))
    assert np.abs(difference).max() > 0.05


@pytest.mark.parametrize("name", ["none", "moving_average", "learned_value", "leave_one_out"])
def test_rollouts_take_every_baseline(name: str) -> None:
    baseline, state, size = {
        "none": (no_baseline(), None, 1),
        "moving_average": (moving_average(), average_of(-3.0), 1),
        "learned_value": (learned_value(), value_of(np.array([0.7, -1.3, 2.1, 0.4, -3.0])), 1),
        "leave_one_out": (leave_one_out(), None, 2),
    }[name]
    expected = weighted(np.where(MASK, DENSE, 0.0)[:, None])  # nothing of the tokens after it
    found = expected_gradient(rollout(2, baseline), DENSE, size, state)
    np.testing.assert_allclose(found, expected, atol=1e-12)


# ---- variance goes


def test_the_average_return_takes_variance_away() -> None:
    rewards = LAST + 5 * (np.arange(T) == np.array([len(text) for text in TEXTS])[:, None] - 1)
    mean = float(chances() @ totals(rewards))
    without = variance(reinforce(1.0, no_baseline()), rewards)
    assert variance(reinforce(1.0, moving_average()), rewards, state=average_of(mean)) < 0.2 * without


def test_the_value_of_the_prefix_takes_more_variance_away_than_the_average_return() -> None:
    returns = returns_of(DENSE, 1.0)
    values = np.zeros(len(PREFIXES))
    for row in range(len(PREFIXES)):
        weights = chances()[:, None] * (MASK & (row == STATES))
        values[row] = (weights * returns).sum() / weights.sum()
    hidden = np.eye(len(PREFIXES))[STATES]
    learned = variance(
        reinforce(1.0, learned_value()), DENSE, state=value_of(np.append(values - 1, 1.0)), hidden=hidden
    )
    average = variance(reinforce(1.0, moving_average()), DENSE, state=average_of(float(chances() @ totals(DENSE))))
    assert learned < 0.9 * average
    assert learned < 0.9 * variance(reinforce(1.0, no_baseline()), DENSE)


def test_the_other_texts_take_variance_away() -> None:
    rewards = paid(lambda text, t: table(text, t) + 5.0 * (t == len(text) - 1))
    with_others = [variance(reinforce(1.0, leave_one_out()), rewards, size) for size in (2, 3)]
    without = [variance(reinforce(1.0, no_baseline()), rewards, size) for size in (2, 3)]
    assert with_others[0] < 0.3 * without[0]
    assert with_others[1] < 0.3 * without[1]


# ---- each by hand


def test_no_baseline_is_0() -> None:
    baseline = no_baseline()
    assert baseline.init(WIDTH) is None
    experience, returns = experience_of(PAIR_MASK), jnp.asarray(PAIR_PAID)
    assert float(baseline.value(None, experience, returns)) == 0
    assert baseline.update(None, experience, returns) is None


def test_a_moving_average_is_unbiased_from_its_first_value_on_and_0_before() -> None:
    average = MovingAverage.zero()
    assert float(average.value) == 0
    weights: list[float] = []
    values = [5.0, 1.0, 2.0, 10.0]
    for i, value in enumerate(values):
        average = average.update(jnp.float64(value), 0.9)
        weights = [0.9 ** (i - j) for j in range(i + 1)]
        assert float(average.value) == pytest.approx(np.average(values[: i + 1], weights=weights), rel=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.6])
def test_the_moving_average_is_of_the_returns_of_tokens_with_the_decay_asked_for(decay: float) -> None:
    baseline, experience = moving_average(decay), experience_of(PAIR_MASK)
    state = baseline.init(WIDTH)
    assert float(baseline.value(state, experience, jnp.asarray(PAIR_PAID))) == 0
    state = baseline.update(state, experience, jnp.asarray(PAIR_PAID))
    state = baseline.update(state, experience, 2 * jnp.asarray(PAIR_PAID))
    mean = (1.0 + 2.0 + 4.0 + 8.0) / 4
    expected = np.average([mean, 2 * mean], weights=[decay, 1])
    assert float(baseline.value(state, experience, jnp.asarray(PAIR_PAID))) == pytest.approx(expected, rel=1e-6)


def test_leave_one_out_by_hand() -> None:
    mask = jnp.asarray([[True, True], [True, False], [True, True], [True, True]])
    returns = jnp.array([[1.0, 3.0], [10.0, 99.0], [0.0, 4.0], [7.0, 9.0]])  # means 2, 10, 2, 8
    of_batch = leave_one_out().value(None, experience_of(mask, samples=1), returns)
    np.testing.assert_allclose(of_batch, [[20 / 3], [12 / 3], [20 / 3], [14 / 3]], rtol=1e-12)
    of_prompt = leave_one_out().value(None, experience_of(mask, samples=2), returns)
    np.testing.assert_allclose(of_prompt, [[10], [2], [8], [2]], rtol=1e-12)


def test_leave_one_out_needs_another_text() -> None:
    experience = experience_of(np.ones((1, 3), bool))
    with pytest.raises(ValueError, match="two texts or more"):
        leave_one_out().value(None, experience, jnp.ones((1, 3)))


# ---- the learned value


def problem(seed: int, rows: int = 6) -> tuple[Experience, np.ndarray]:
    """Any texts, hidden states and returns; 1000 in the padding."""
    rng = np.random.default_rng(seed)
    mask = np.arange(T) < rng.integers(1, T + 1, rows)[:, None]
    hidden = np.where(mask[..., None], rng.normal(0, 1, (rows, T, WIDTH)).astype(np.float32), 1e3)
    return experience_of(mask, hidden), np.where(mask, rng.normal(1, 1, (rows, T)), 1e3)


def squared_error_gradient(weights: np.ndarray, experience: Experience, returns: np.ndarray) -> np.ndarray:
    mask = np.asarray(experience.sample.mask)
    inputs = np.append(np.asarray(experience.hidden)[mask], np.ones((mask.sum(), 1)), axis=1)
    return 2 * inputs.T @ (inputs @ weights - returns[mask]) / mask.sum()


def test_the_learned_value_is_linear_in_the_hidden_state_and_0_at_first() -> None:
    experience, returns = problem(0)
    baseline = learned_value()
    start = baseline.value(baseline.init(WIDTH), experience, jnp.asarray(returns))
    np.testing.assert_array_equal(start, np.zeros((6, T)))
    weights = np.array([0.7, -1.3, 2.1, 0.4, -3.0])
    found = baseline.value(value_of(weights), experience, jnp.asarray(returns))
    np.testing.assert_allclose(found, np.asarray(experience.hidden) @ weights[:-1] + weights[-1], rtol=1e-12)


def test_an_update_of_the_learned_value_is_adams_step_of_least_squares() -> None:
    rate, weights = 0.05, np.zeros(WIDTH + 1)
    baseline = learned_value(rate)
    state = baseline.init(WIDTH)
    first, second = np.zeros(WIDTH + 1), np.zeros(WIDTH + 1)
    for step in range(1, 5):  # Adam's first step shows the gradient's sign alone, later ones its size too
        experience, returns = problem(step)
        state = baseline.update(state, experience, jnp.asarray(returns))
        gradient = squared_error_gradient(weights, experience, returns)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        weights = weights - rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        np.testing.assert_allclose(state.weights, weights, rtol=1e-6)


def test_the_learned_value_comes_to_predict_returns_as_least_squares_does() -> None:
    experience, returns = problem(7, rows=12)
    mask = np.asarray(experience.sample.mask)
    inputs = np.append(np.asarray(experience.hidden)[mask], np.ones((mask.sum(), 1)), axis=1)
    expected = np.linalg.lstsq(inputs, returns[mask])[0]
    baseline = learned_value(0.03)

    @jax.jit
    def learn(state: LearnedValue) -> LearnedValue:
        return jax.lax.fori_loop(0, 2000, lambda _, s: baseline.update(s, experience, jnp.asarray(returns)), state)

    state = learn(baseline.init(WIDTH))
    np.testing.assert_allclose(state.weights, expected, atol=1e-5)
    predicted = np.asarray(baseline.value(state, experience, jnp.asarray(returns)))[mask]
    np.testing.assert_allclose(predicted, inputs @ expected, atol=1e-4)


def test_the_value_of_a_step_is_that_before_it_learns_the_steps_returns() -> None:
    experience, rewards = problem(3)
    experience = experience._replace(rewards=jnp.asarray(rewards))
    estimator = reinforce(0.5, learned_value(0.1))
    mask = np.asarray(experience.sample.mask)
    advantages, state, _ = estimator.advantages(estimator.init(WIDTH), experience)
    returns = discounted_returns(jnp.asarray(rewards), jnp.asarray(mask), 0.5)
    np.testing.assert_allclose(np.asarray(advantages)[mask], np.asarray(returns)[mask], rtol=1e-12)
    then, _, metrics = estimator.advantages(state, experience)
    values = np.asarray(experience.hidden) @ state.weights[:-1] + state.weights[-1]
    np.testing.assert_allclose(np.asarray(then)[mask], np.asarray(returns - values)[mask], rtol=1e-10)
    assert float(metrics["baseline"]) == pytest.approx(float(values[mask].mean()), rel=1e-9)


def test_there_are_as_many_batches_as_there_should_be() -> None:
    assert batches(2).shape == (len(TEXTS) ** 2, 2)
    assert batch_chances(2).sum() == pytest.approx(1, abs=1e-12)
    assert batch_chances(3).sum() == pytest.approx(1, abs=1e-12)
