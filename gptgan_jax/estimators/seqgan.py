"""SeqGAN (Yu et al. 2017): the reward of a token is the mean score of its continuations; see `algorithms.seqgan`.

SentiGAN (Wang & Wan 2018) uses a penalty instead, weighted by each token's own probability.
"""

import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.baselines import Baseline, moving_average, no_baseline
from gptgan_jax.gradients.families import Experience, PolicyGradient
from gptgan_jax.gradients.policy_gradients import surrogate, with_baseline
from gptgan_jax.schema.ranges import ROLLOUTS
from gptgan_jax.types import Array


@suggests_names
def rollout(rollouts: int = 16, baseline: Baseline | None = None) -> PolicyGradient:
    """SeqGAN (Yu et al. 2017, arXiv:1609.05473): the value of a token is the mean score of its continuations.

    A_t = 1/M sum_m D(y_<=t, continuation m) - baseline, with M = `rollouts`; A_T = D(y) - baseline.

    The value of each token is estimated from `rollouts` continuations that the generator samples; that of the last one
    is the score of the text itself. The expected gradient is exactly that of the expected score.

    Args:
        rollouts: continuations of each prefix, at least 1.
        baseline: default: `moving_average()`.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> gg.rollout(rollouts=16).rollouts
        16
    """
    ROLLOUTS.check("rollouts", rollouts)
    return with_baseline(0.0, baseline or moving_average())._replace(rollouts=rollouts)


@suggests_names
def penalised(rollouts: int = 16) -> PolicyGradient:
    """The penalty-based objective of SentiGAN (Wang & Wan, IJCAI 2018, doi:10.24963/ijcai.2018/618).

        loss = 1/R sum_r sum_t p(y_t | y_<t) V(y_<t, y_t)       V = 1/M sum_m penalty of continuation m of y_<=t

    It has p and the penalty 1 - D (minus `rewards.penalty`) where `rollout` has log p and a reward. A token is thus
    also weighted by its own probability: the gradient is E sum_t p(y_t) Q_t grad log p(y_t), with Q = -V, and not that
    of the expected Q. A baseline can't be subtracted from Q, as its expected gradient would not be 0. The paper's
    purpose is to keep the generator from producing only a few well-rewarded texts. A constant reward is therefore no
    control for it; a random one is.

    Args:
        rollouts: continuations of each prefix, M, at least 1.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> log_probs = jnp.full((2, 3), jnp.log(0.5))
        >>> gg.penalised().loss(log_probs, experience, -jnp.ones((2, 3)))  # p V for each of 5 tokens in 2 texts
        Array(1.25, dtype=float32)
    """

    def loss(log_probs: Array, experience: Experience, advantages: Array) -> Array:
        # Masked before the exponential, as its gradient in the padding could otherwise be infinity times 0.
        return surrogate(jnp.exp(jnp.where(experience.sample.mask, log_probs, 0.0)), experience, advantages)

    return rollout(rollouts, no_baseline())._replace(loss=loss, weighs_tokens=True)
