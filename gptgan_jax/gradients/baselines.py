"""Returns, and the baselines that are subtracted from them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.families import Experience
from gptgan_jax.objectives.likelihood import masked_mean
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.schema.ranges import BASELINE_DECAY, DISCOUNT, LEARNING_RATE
from gptgan_jax.types import Array, Number, PyTree


def discounted_returns(rewards: Array, mask: Array, discount: Number) -> Array:
    """R_t = r_t + discount * R_{t+1} over the masked tokens: float32 [B, T], bool [B, T] -> float32 [B, T].

    The discount is in [0, 1].
    """
    check_arrays("discounted_returns", rewards=(rewards, "float [B, T]"), mask=(mask, "bool [B, T]"))
    DISCOUNT.check("discount", discount)
    rewards = jnp.where(mask, rewards, 0.0)

    def step(following: Array, reward: Array) -> tuple[Array, Array]:
        now = reward + discount * following
        return now, now

    _, returns = jax.lax.scan(step, jnp.zeros(rewards.shape[0], rewards.dtype), rewards.T, reverse=True)
    return returns.T


def text_means(values: Array, mask: Array) -> Array:
    """Mean of each text over its tokens: float32 [R, T], bool [R, T] -> [R]; 0 for a text without any."""
    check_arrays("text_means", values=(values, "float [R, T]"), mask=(mask, "bool [R, T]"))
    return jnp.where(mask, values, 0.0).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1)


class Baseline(NamedTuple):
    """The expected return of a token before it is sampled; must not depend on that token or later ones.

    It then reduces the variance of the gradient without changing its expectation.

    Attributes:
        init: width of the hidden states -> state.
        value: (state, Experience, returns [R, T]) -> float32 [], [R, 1] or [R, T].
        update: (state, Experience, returns [R, T]) -> state for the next step.
    """

    init: Callable[[int], PyTree]
    value: Callable[[Any, Experience, Array], Array]
    update: Callable[[Any, Experience, Array], PyTree]


def no_baseline() -> Baseline:
    """A baseline of 0: the advantages are the returns themselves.

    Example:
        >>> advantages, _, _ = gg.reinforce(baseline=gg.no_baseline()).advantages(None, experience)
        >>> advantages
        Array([[3., 2., 1.],
               [2., 1., 0.]], dtype=float32)
    """
    return Baseline(lambda width: None, lambda state, experience, returns: jnp.float32(0), lambda *_: None)


class MovingAverage(NamedTuple):
    """An exponential moving average, corrected for the bias of its start."""

    total: Array
    weight: Array

    @classmethod
    def zero(cls) -> "MovingAverage":
        return cls(jnp.float32(0), jnp.float32(0))

    def update(self, value: Array, decay: Number) -> "MovingAverage":
        value = value.astype(self.total.dtype)  # also where a reward is in float64
        return MovingAverage(decay * self.total + (1 - decay) * value, decay * self.weight + (1 - decay))

    @property
    def value(self) -> Array:
        """The average so far; 0 before the first value."""
        return self.total / jnp.maximum(self.weight, 1e-8)


@suggests_names
def moving_average(decay: Number = 0.9) -> Baseline:
    """The average return of earlier steps.

    Args:
        decay: weight of the past, in [0, 1).

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> baseline = gg.moving_average(decay=0.9)
        >>> baseline.update(baseline.init(4), experience, jnp.full((2, 3), 2.0)).value
        Array(2., dtype=float32)
    """
    BASELINE_DECAY.check("decay", decay)

    def update(state: MovingAverage, experience: Experience, returns: Array) -> MovingAverage:
        experience.check("moving_average", returns=(returns, "float [R, T]"))
        return state.update(masked_mean(returns, experience.sample.mask), decay)

    return Baseline(lambda width: MovingAverage.zero(), lambda state, experience, returns: state.value, update)


def leave_one_out() -> Baseline:
    """The mean return of the other texts that answer the same prompt, or of the batch if prompts have one text each.

    Kool et al. 2019. The return of each other text is averaged over its tokens.

    Raises:
        ValueError: during tracing, if there is no other text.

    Example:
        >>> gg.leave_one_out().value(None, experience, jnp.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
        Array([[0.],
               [1.]], dtype=float32)
    """

    def value(state: None, experience: Experience, returns: Array) -> Array:
        experience.check("leave_one_out", returns=(returns, "float [R, T]"))
        experience.check_groups("leave_one_out")
        means = text_means(returns, experience.sample.mask)
        size = experience.samples if experience.samples > 1 else len(means)
        if size < 2:
            raise ValueError("a leave-one-out baseline needs two texts or more in a batch")
        groups = means.reshape(-1, size)
        return ((groups.sum(axis=1, keepdims=True) - groups) / (size - 1)).reshape(-1, 1)

    return Baseline(lambda width: None, value, lambda *_: None)


class LearnedValue(NamedTuple):
    """A linear regression of returns on hidden states, with its optimiser."""

    weights: Array
    opt_state: PyTree


@suggests_names
def learned_value(learning_rate: Number = 1e-3) -> Baseline:
    """A learned value of the prefix: linear in the hidden state from which the token is sampled, with squared error.

    Each step uses the value from before it is fitted to the step's returns. As the generator's hidden states change
    during training, the regression follows them.

    Args:
        learning_rate: Adam's.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> baseline = gg.learned_value(learning_rate=0.1)
        >>> value = baseline.value(baseline.init(4), experience, experience.rewards)
        >>> value.shape, float(value.sum())  # it has learned nothing yet
        ((2, 3), 0.0)
    """
    LEARNING_RATE.check("learning_rate", learning_rate)
    optimizer = optax.adam(learning_rate)

    def init(width: int) -> LearnedValue:
        weights = jnp.zeros(width + 1)
        return LearnedValue(weights, optimizer.init(weights))

    def predict(weights: Array, hidden: Array) -> Array:
        return hidden.astype(jnp.float32) @ weights[:-1] + weights[-1]

    def value(state: LearnedValue, experience: Experience, returns: Array) -> Array:
        _check_hidden(state, experience, returns)
        return predict(state.weights, experience.hidden)

    def update(state: LearnedValue, experience: Experience, returns: Array) -> LearnedValue:
        _check_hidden(state, experience, returns)

        def loss(weights: Array) -> Array:
            return masked_mean(jnp.square(predict(weights, experience.hidden) - returns), experience.sample.mask)

        updates, opt_state = optimizer.update(jax.grad(loss)(state.weights), state.opt_state, state.weights)
        return LearnedValue(state.weights + updates, opt_state)

    return Baseline(init, value, update)


def _check_hidden(state: LearnedValue, experience: Experience, returns: Array) -> None:
    experience.check("learned_value", returns=(returns, "float [R, T]"), hidden=(experience.hidden, "float [R, T, D]"))
    width, known = experience.hidden.shape[-1], state.weights.shape[0] - 1
    if width != known:
        raise ValueError(f"learned_value: hidden has {width} numbers a token, and the value was begun with {known}")
