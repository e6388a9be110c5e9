"""SeqGAN (Yu et al. 2017): tokens are paid what the texts that go on from them are worth; see `algorithms.seqgan`.

SentiGAN (Wang & Wan 2018) charges them instead, those most that are likely to be written.
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
    """SeqGAN (Yu et al. 2017, arXiv:1609.05473): a token is worth the mean score of texts that go on from it.

    A_t = 1/M sum_m D(y_<=t, continuation m) - baseline, with M = `rollouts`; A_T = D(y) - baseline.

    The value of each token is estimated by `rollouts` continuations that the generator writes; that of the last one is
    the judgement of the text itself. The expected gradient is that of the expected judgement, exactly.

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

        loss = 1/R sum_r sum_t p(y_t | y_<t) V(y_<t, y_t)       V = 1/M sum_m penalty of texts that go on from y_t

    with the penalty 1 - D (`rewards.penalty` is minus that) where `rollout` has log p and a reward. So a token is
    weighed by its own probability besides: the gradient is E sum_t p(y_t) Q_t grad log p(y_t), with Q = -V, and not
    that of the expected Q. Nor may a baseline be taken from Q: its expected gradient would not be 0. The paper means it
    to keep a generator from a few texts that are paid well.

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
        # Masked before the exponential, whose gradient in the padding would else be infinity times 0.
        return surrogate(jnp.exp(jnp.where(experience.sample.mask, log_probs, 0.0)), experience, advantages)

    return rollout(rollouts, no_baseline())._replace(loss=loss)
