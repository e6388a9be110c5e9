"""Estimators of the generator's gradient from sampled text and its rewards.

An estimator is a pair of pure functions. Its loss is a surrogate: only its gradient means something.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.types import Array, PyTree, Sample


@config_dataclass
class ReinforceConfig:
    """`reinforce`."""

    kind: Literal["reinforce"] = "reinforce"
    discount: float = key(1.0, "how much of the following token's return a token is credited with", ge=0, le=1)
    baseline_decay: float = key(0.9, "weight of the past in the moving-average baseline", ge=0, lt=1)


class SurrogateLoss(Protocol):
    """(state, log_probs, sample, rewards) -> (loss float32 [], (new state, metrics)).

    `log_probs` float32 [B, T] are the generator's, differentiable, of the sampled tokens; `rewards` float32 [B, T].
    """

    def __call__(
        self, state: PyTree, log_probs: Array, sample: Sample, rewards: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]: ...


class Estimator(NamedTuple):
    """How sampled text and its rewards become a gradient of the generator.

    Attributes:
        init: () -> state, carried in `GanState.estimator`.
        loss: see `SurrogateLoss`.
    """

    init: Callable[[], PyTree]
    loss: SurrogateLoss


class MovingAverage(NamedTuple):
    """An exponential moving average with the bias of its start removed."""

    total: Array
    weight: Array

    @classmethod
    def zero(cls) -> "MovingAverage":
        return cls(jnp.float32(0), jnp.float32(0))

    def update(self, value: Array, decay: float) -> "MovingAverage":
        return MovingAverage(decay * self.total + (1 - decay) * value, decay * self.weight + (1 - decay))

    @property
    def value(self) -> Array:
        """The average so far; 0 before the first value."""
        return self.total / jnp.maximum(self.weight, 1e-8)


def discounted_returns(rewards: Array, mask: Array, discount: float) -> Array:
    """R_t = r_t + discount * R_{t+1} over the tokens that count: float32 [B, T], bool [B, T] -> float32 [B, T]."""
    rewards = jnp.where(mask, rewards, 0.0)

    def step(following: Array, reward: Array) -> tuple[Array, Array]:
        now = reward + discount * following
        return now, now

    _, returns = jax.lax.scan(step, jnp.zeros(rewards.shape[0], rewards.dtype), rewards.T, reverse=True)
    return returns.T


def reinforce(discount: float = 1.0, baseline_decay: float = 0.9) -> Estimator:
    """REINFORCE (Williams 1992) with a reward at every token and a moving-average baseline.

    The gradient is that of  -1/B sum_b sum_t log p(y_bt) (R_bt - baseline),  a sum over a text's tokens (never a mean
    over padding) and a mean over texts. With discount = 1 its expectation is the exact gradient of the expected sum of
    rewards. With discount < 1 it credits each token with a shortened future, as ScratchGAN does with .23: a bias that
    buys variance. The baseline is the average return before this batch, so it changes the variance and not the mean.

    Args:
        discount: in [0, 1].
        baseline_decay: weight of the past in the moving average, in [0, 1); 1 would never learn one.
    """

    def loss(
        state: MovingAverage, log_probs: Array, sample: Sample, rewards: Array
    ) -> tuple[Array, tuple[MovingAverage, dict[str, Array]]]:
        returns = discounted_returns(rewards, sample.mask, discount)
        advantages = jax.lax.stop_gradient(jnp.where(sample.mask, returns - state.value, 0.0))
        surrogate = -(advantages * jnp.where(sample.mask, log_probs, 0.0)).sum() / sample.mask.shape[0]
        tokens = jnp.maximum(sample.mask.sum(), 1)
        mean_return = returns.sum() / tokens
        metrics = {"baseline": state.value, "advantage_rms": jnp.sqrt(jnp.square(advantages).sum() / tokens)}
        return surrogate, (state.update(mean_return, baseline_decay), metrics)

    return Estimator(MovingAverage.zero, loss)
