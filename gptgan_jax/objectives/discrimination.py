"""What the discriminator minimises: losses of the logits that it gives real and generated text.

Each is a function (real, real_mask, fake, fake_mask) -> float32 [], of logits float [B, T] at every token or [B, 1] for
whole texts. Row i of the real batch is paired with row i of the fake one.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from gptgan_jax.objectives.likelihood import masked_mean
from gptgan_jax.types import Array

PairLoss = Callable[[Array, Array, Array, Array], Array]


def non_saturating(real: Array, real_mask: Array, fake: Array, fake_mask: Array) -> Array:
    """Cross-entropy of real against fake (Goodfellow et al. 2014): mean softplus(-real) + mean softplus(fake)."""
    return masked_mean(jax.nn.softplus(-real), real_mask) + masked_mean(jax.nn.softplus(fake), fake_mask)


def relativistic(real: Array, real_mask: Array, fake: Array, fake_mask: Array) -> Array:
    """Mean softplus(fake - real) over pairs (Jolicoeur-Martineau 2018); Bradley-Terry with real as the winner.

    At every token, only the positions that both texts have are compared.
    """
    return masked_mean(jax.nn.softplus(fake - real), real_mask & fake_mask)


PairLossName = Literal["non_saturating", "relativistic"]
PAIR_LOSSES: dict[PairLossName, PairLoss] = {"non_saturating": non_saturating, "relativistic": relativistic}


def pair_accuracy(real: Array, fake: Array) -> Array:
    """Share of all real-fake pairs that the scores rank rightly, ties counting half: float [B], [B] -> float32 [].

    The area under the ROC curve: it needs no threshold, so it means the same for every pair loss; chance is 1/2.
    """
    return jnp.heaviside(real[:, None] - fake[None, :], 0.5).mean()
