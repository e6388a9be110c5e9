"""What a generator is paid for a token: functions of the discriminator's logits there.

Each is a function (scores float [B, T], key) -> float32 [B, T]. `constant` and `random` are controls: they carry
nothing of the discriminator's judgement, so whatever gain they show was not adversarial.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from gptgan_jax.types import Array

Reward = Callable[[Array, Array], Array]


def sigmoid(scores: Array, key: Array) -> Array:
    """2 sigma(score) - 1, between -1 and 1 (d'Autume et al. 2019, ScratchGAN)."""
    return 2 * jax.nn.sigmoid(scores.astype(jnp.float32)) - 1


def logit(scores: Array, key: Array) -> Array:
    """The score itself: the log-odds that the text so far is real."""
    return scores.astype(jnp.float32)


def constant(scores: Array, key: Array) -> Array:
    """Control: 1 for every token of every text."""
    return jnp.ones_like(scores, dtype=jnp.float32)


def random(scores: Array, key: Array) -> Array:
    """Control: uniform noise between -1 and 1, drawn anew for every token."""
    return jax.random.uniform(key, scores.shape, minval=-1.0, maxval=1.0)


RewardName = Literal["sigmoid", "logit", "constant", "random"]
REWARDS: dict[RewardName, Reward] = {"sigmoid": sigmoid, "logit": logit, "constant": constant, "random": random}
