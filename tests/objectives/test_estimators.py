"""Every estimator's expected gradient, summed exactly over all texts of a tiny vocabulary, is the one it claims.

The policy is a table: the logits of the next token after each prefix. Token 2 is EOS; a text has at most three tokens.
All in float64.
"""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import as_arrays, texts_of

from gptgan_jax import Sample, Vocabulary, reinforce
from gptgan_jax.objectives import rewards as reward_functions
from gptgan_jax.objectives.estimators import MovingAverage, discounted_returns

V, T, EOS = 3, 3, 2
VOCABULARY = Vocabulary(size=V, eos_id=EOS)
TEXTS = list(texts_of(VOCABULARY, T))
PREFIXES = sorted({text[:t] for text in TEXTS for t in range(len(text))})
ROW = {prefix: i for i, prefix in enumerate(PREFIXES)}
STATES = np.array([[ROW.get(text[:t], 0) for t in range(T)] for text in TEXTS])  # prefix before each token
LOGITS = np.random.default_rng(0).normal(0, 1, (len(PREFIXES), V))
_NUMBERS = np.random.default_rng(1).normal(0, 1, (len(TEXTS), T))
ANY_REWARD = {text[: t + 1]: _NUMBERS[i, t] for i, text in enumerate(TEXTS) for t in range(len(text))}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def log_probs_of(logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(log-probabilities [texts, T], tokens, mask) of all texts."""
    tokens, mask = as_arrays(TEXTS, T, VOCABULARY.pad_id)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits)[STATES], tokens[..., None], axis=-1)[..., 0]
    return jnp.where(mask, chosen, 0.0), tokens, mask


def paid(reward: Callable[[tuple[int, ...], int], float]) -> np.ndarray:
    """Rewards [texts, T] of (text, t); 1000 in the padding, where nobody may look."""
    return np.array([[reward(text, t) if t < len(text) else 1e3 for t in range(T)] for text in TEXTS])


def table(text: tuple[int, ...], t: int) -> float:
    return ANY_REWARD[text[: t + 1]]


@functools.cache
def gradient_of(discount: float) -> Callable[..., jax.Array]:
    """(logits, rewards, baseline) -> -E[gradient of the surrogate]: each text is a batch, weighted by its chance."""
    estimator = reinforce(discount)

    def expected_loss(logits: jax.Array, rewards: jax.Array, baseline: jax.Array) -> jax.Array:
        log_probs, tokens, mask = log_probs_of(logits)
        weights = jax.lax.stop_gradient(jnp.exp(log_probs.sum(axis=1)))

        def loss(log_probs: jax.Array, tokens: jax.Array, mask: jax.Array, rewards: jax.Array) -> jax.Array:
            text = Sample(tokens[None], mask[None], jax.lax.stop_gradient(log_probs[None]))
            state = MovingAverage(baseline, jnp.float64(1))
            return estimator.loss(state, log_probs[None], text, rewards[None])[0]

        return -(weights * jax.vmap(loss)(log_probs, tokens, mask, rewards)).sum()

    return jax.jit(jax.grad(expected_loss))


def expected_gradient(
    rewards: np.ndarray, discount: float, baseline: float = 0.0, logits: np.ndarray = LOGITS
) -> np.ndarray:
    """Exact in expectation over texts, one row of logits a prefix."""
    return np.asarray(gradient_of(discount)(jnp.asarray(logits), jnp.asarray(rewards), jnp.float64(baseline)))


@jax.jit
def _exact_gradient(logits: jax.Array, totals: jax.Array) -> jax.Array:
    return jax.grad(lambda x: (jnp.exp(log_probs_of(x)[0].sum(axis=1)) * totals).sum())(logits)


def exact_gradient(totals: np.ndarray) -> np.ndarray:
    """Gradient of E[total] = sum over texts of p(text) * total(text)."""
    return np.asarray(_exact_gradient(jnp.asarray(LOGITS), jnp.asarray(totals)))


def totals(rewards: np.ndarray) -> np.ndarray:
    return np.array([sum(row[: len(text)]) for text, row in zip(TEXTS, rewards, strict=True)])


LENGTHS = np.array([len(text) for text in TEXTS], float)


def test_the_texts_are_all_there_are() -> None:
    assert len(TEXTS) == 1 + 2 + 4 * 3
    assert float(jnp.exp(log_probs_of(jnp.asarray(LOGITS))[0].sum(axis=1)).sum()) == pytest.approx(1, abs=1e-12)


def test_without_discount_the_expected_gradient_is_that_of_the_expected_total_reward() -> None:
    rewards = paid(table)
    exact = exact_gradient(totals(rewards))
    assert np.abs(exact).max() > 0.05
    np.testing.assert_allclose(expected_gradient(rewards, 1.0), exact, atol=1e-12)


def test_a_reward_at_the_last_token_alone_reaches_all_tokens() -> None:
    rewards = paid(lambda text, t: ANY_REWARD[text] if t == len(text) - 1 else 0.0)
    np.testing.assert_allclose(expected_gradient(rewards, 1.0), exact_gradient(totals(rewards)), atol=1e-12)


@pytest.mark.parametrize("discount", [0.0, 0.23, 0.9])
def test_with_discount_each_token_is_credited_with_its_discounted_future(discount: float) -> None:
    rewards = paid(table)
    expected = np.zeros_like(LOGITS)
    probs = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    for text, row in zip(TEXTS, rewards, strict=True):
        chance = np.prod([probs[ROW[text[:t]], text[t]] for t in range(len(text))])
        for t in range(len(text)):
            future = sum(discount ** (s - t) * row[s] for s in range(t, len(text)))
            expected[ROW[text[:t]]] += chance * future * (np.eye(V)[text[t]] - probs[ROW[text[:t]]])
    np.testing.assert_allclose(expected_gradient(rewards, discount), expected, atol=1e-12)
    assert np.abs(expected - exact_gradient(totals(rewards))).max() > 1e-3  # the bias is real


@pytest.mark.parametrize("discount", [1.0, 0.23])
def test_the_baseline_leaves_the_expected_gradient_as_it_is(discount: float) -> None:
    rewards = paid(table)
    np.testing.assert_allclose(
        expected_gradient(rewards, discount, baseline=7.0), expected_gradient(rewards, discount), atol=1e-12
    )


def test_paying_1_a_token_is_no_control_where_texts_can_end_because_it_pays_for_length() -> None:
    ones = paid(lambda text, t: 1.0)
    np.testing.assert_allclose(expected_gradient(ones, 1.0), exact_gradient(LENGTHS), atol=1e-12)
    assert np.abs(exact_gradient(LENGTHS)).max() > 0.05
    for discount in (0.23, 0.9):
        assert np.abs(expected_gradient(ones, discount)).max() > 0.01


@pytest.mark.parametrize("discount", [1.0, 0.9, 0.23, 0.0])
def test_paying_1_a_token_has_expected_gradient_0_where_no_text_can_end(discount: float) -> None:
    never_ending = LOGITS - 1e9 * (np.arange(V) == EOS)
    ones = paid(lambda text, t: 1.0)
    np.testing.assert_allclose(expected_gradient(ones, discount, logits=never_ending), 0, atol=1e-12)


@pytest.mark.parametrize("discount", [1.0, 0.9, 0.23, 0.0])
def test_the_constant_reward_has_expected_gradient_0(discount: float) -> None:
    mask = jnp.array([[t < len(text) for t in range(T)] for text in TEXTS])
    rewards = np.asarray(
        reward_functions.constant(discount)(jnp.zeros(mask.shape), mask, jax.random.key(0)), np.float64
    )
    rewards = np.where(mask & (rewards < 1), 1 - discount, rewards)  # float32's rounding of 1 - discount taken back
    np.testing.assert_allclose(expected_gradient(rewards, discount), 0, atol=1e-12)


@pytest.mark.parametrize("discount", [1.0, 0.23])
def test_the_random_reward_has_expected_gradient_0(discount: float) -> None:
    noise = jax.vmap(
        lambda key: reward_functions.random(jnp.zeros((len(TEXTS), T)), jnp.ones((len(TEXTS), T), bool), key)
    )
    draws = np.asarray(noise(jax.random.split(jax.random.key(0), 400)))
    # The gradient is linear in the rewards, so the basis of rewards gives every draw's gradient.
    basis = np.eye(len(TEXTS) * T).reshape(-1, len(TEXTS), T)
    responses = np.array([expected_gradient(one, discount) for one in basis]).reshape(len(basis), -1)
    gradients = draws.reshape(len(draws), -1) @ responses
    assert np.abs(gradients).max() > 0.05
    error = gradients.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(gradients.mean(axis=0)) < 4.5 * error + 1e-12).all()


def batch_loss(
    log_probs: jax.Array,
    mask: np.ndarray,
    rewards: np.ndarray,
    state: MovingAverage | None = None,
    discount: float = 0.5,
) -> tuple[jax.Array, tuple[MovingAverage, dict[str, jax.Array]]]:
    text = Sample(jnp.zeros(mask.shape, jnp.int32), jnp.asarray(mask), log_probs)
    estimator = reinforce(discount, baseline_decay=0.9)
    return estimator.loss(state or estimator.init(), log_probs, text, jnp.asarray(rewards))


MASK = np.array([[True, True, True], [True, False, False]])
PAID = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])


def test_the_gradient_by_hand_is_minus_the_advantage_over_the_number_of_texts() -> None:
    state = MovingAverage(jnp.float64(1.5), jnp.float64(0.5))  # a baseline of 3
    gradient, _ = jax.grad(lambda x: batch_loss(x, MASK, PAID, state), has_aux=True)(jnp.full((2, 3), -1.0))
    np.testing.assert_allclose(gradient, -np.array([[3.0 - 3, 4.0 - 3, 4.0 - 3], [8.0 - 3, 0, 0]]) / 2, atol=1e-6)


def test_padding_contributes_nothing_to_loss_gradient_baseline_or_metrics() -> None:
    def everything(filler: float) -> list[np.ndarray]:
        log_probs, rewards = jnp.where(MASK, -1.0, filler), np.where(MASK, PAID, filler)
        results = jax.value_and_grad(lambda x: batch_loss(x, MASK, rewards), has_aux=True)(log_probs)
        return jax.tree.leaves(results)

    for a, b in zip(everything(0.0), everything(1e6), strict=True):
        np.testing.assert_array_equal(a, b)
    wider = [np.pad(x, ((0, 0), (0, 2))) for x in (np.full((2, 3), -1.0), MASK, PAID)]
    narrow = batch_loss(jnp.full((2, 3), -1.0), MASK, PAID)
    for a, b in zip(
        jax.tree.leaves(batch_loss(jnp.asarray(wider[0]), *wider[1:])), jax.tree.leaves(narrow), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_no_gradient_flows_through_the_rewards() -> None:
    log_probs = jnp.full((2, 3), -1.0)
    gradient = jax.grad(lambda r: batch_loss(log_probs, MASK, r)[0])(jnp.asarray(PAID))
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


def test_the_baseline_of_a_batch_is_the_average_return_of_earlier_batches_alone() -> None:
    log_probs = jnp.full((2, 3), -1.0)
    _, (state, metrics) = batch_loss(log_probs, MASK, PAID)
    assert float(metrics["baseline"]) == 0
    mean_return = (3.0 + 4.0 + 4.0 + 8.0) / 4
    assert float(state.value) == pytest.approx(mean_return, rel=1e-6)
    _, (_, metrics) = batch_loss(log_probs, MASK, PAID, state)
    assert float(metrics["baseline"]) == pytest.approx(mean_return, rel=1e-6)


def test_a_moving_average_is_unbiased_from_its_first_value_on_and_0_before() -> None:
    average = MovingAverage.zero()
    assert float(average.value) == 0
    weights: list[float] = []
    values = [5.0, 1.0, 2.0, 10.0]
    for i, value in enumerate(values):
        average = average.update(jnp.float64(value), 0.9)
        weights = [0.9 ** (i - j) for j in range(i + 1)]
        assert float(average.value) == pytest.approx(np.average(values[: i + 1], weights=weights), rel=1e-6)


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_discounted_returns_by_hand(discount: float) -> None:
    expected = [[1 + discount * (2 + discount * 4), 2 + discount * 4, 4], [8, 0, 0]]
    np.testing.assert_allclose(discounted_returns(jnp.asarray(PAID), jnp.asarray(MASK), discount), expected, rtol=1e-12)
