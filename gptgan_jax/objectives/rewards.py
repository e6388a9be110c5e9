"""What a generator is paid for a token: functions of the discriminator's logits there.

Each is a function (scores float [B, T], mask bool [B, T], key) -> float32 [B, T], of which nothing counts outside the
mask. `constant` and `random` are controls: their expected gradient is zero, so whatever gain they show was not
adversarial.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from gptgan_jax.types import Array

Reward = Callable[[Array, Array, Array], Array]
RewardName = Literal["sigmoid", "logit", "constant", "random"]


def sigmoid(scores: Array, mask: Array, key: Array) -> Array:
    """2 sigma(score) - 1, between -1 and 1 (d'Autume et al. 2019, ScratchGAN)."""
    return 2 * jax.nn.sigmoid(scores.astype(jnp.float32)) - 1


def logit(scores: Array, mask: Array, key: Array) -> Array:
    """The score itself: the log-odds that the text so far is real."""
    return scores.astype(jnp.float32)


def constant(discount: float) -> Reward:
    """Control: pays so that the return of every token of every text is 1, whatever its length.

    That is 1 at the last token and 1 - discount at those before it. A reward of 1 a token would not do: where texts may
    end, its return grows with their length, and the generator would learn to write long ones.

    Args:
        discount: the estimator's.
    """

    def reward(scores: Array, mask: Array, key: Array) -> Array:
        return jnp.where(is_last(mask), 1.0, 1.0 - discount).astype(jnp.float32)

    return reward


def random(scores: Array, mask: Array, key: Array) -> Array:
    """Control: uniform noise between -1 and 1, drawn anew for every token."""
    return jax.random.uniform(key, scores.shape, minval=-1.0, maxval=1.0)


def build_reward(name: RewardName, discount: float) -> Reward:
    """The reward of a name; `discount` is the estimator's."""
    return {"sigmoid": sigmoid, "logit": logit, "constant": constant(discount), "random": random}[name]


def is_last(mask: Array) -> Array:
    """True at each row's last token: bool [B, T] -> bool [B, T]."""
    following = jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
    return mask & ~following
