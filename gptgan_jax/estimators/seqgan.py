"""SeqGAN (Yu et al. 2017): the reward of a token is the mean score of its continuations; see `algorithms.seqgan`.

SentiGAN (Wang & Wan 2018) uses a penalty instead, weighted by each token's own probability. LeakGAN (Guo et al. 2018)
gives those scores to a manager that sets goals, and rewards a worker for following them; see `models.leakgan`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.baselines import Baseline, moving_average, no_baseline
from gptgan_jax.gradients.families import Experience, Metrics, PolicyGradient
from gptgan_jax.gradients.policy_gradients import surrogate, with_baseline
from gptgan_jax.schema.ranges import INTRINSIC_SHARE, RESCALE, ROLLOUTS
from gptgan_jax.types import Array, Guidance, Number, PyTree


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
    # Its rewards are values, of which a token has its own alone.
    return with_baseline(0.0, baseline or moving_average())._replace(rollouts=rollouts, discount=None)


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


@suggests_names
def guided(
    rollouts: int = 4, intrinsic_share: Number = 1.0, rescale: Number = 16.0, baseline: Baseline | None = None
) -> PolicyGradient:
    """LeakGAN (Guo et al. 2018, arXiv:1709.08624): rollouts for the manager's goals, and a reward for following them.

        manager: loss = -1/R sum_r sum_t Q_t followed_t           worker: A_t = (1 - s) Q_t + s intrinsic_t - baseline

    The values Q are the rollouts' of `rollout`, rescaled by `rescaled`; `followed` and `intrinsic` are cosines of the
    goals and the features' way, see `types.Guidance`. The paper's worker is paid by its goals alone, s = 1. With s = 0
    and without rescaling its expected gradient is exactly that of the expected score. Otherwise it is not: a token's
    effect on later goals is left out, and a rank depends on the other texts. The manager's is no policy gradient.

    Args:
        rollouts: continuations of each prefix, at least 1.
        intrinsic_share: s, between 0 and 1.
        rescale: delta of `rescaled`; 0: the values as they are.
        baseline: of the worker; default: `moving_average()`.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> estimator = gg.guided(rollouts=2, intrinsic_share=0.5)
        >>> estimator.rollouts, estimator.guided
        (2, True)
    """
    INTRINSIC_SHARE.check("intrinsic_share", intrinsic_share)
    RESCALE.check("rescale", rescale, static=True)
    plain = rollout(rollouts, baseline)

    def values(experience: Experience) -> Array:
        return rescaled(experience.rewards, experience.sample.mask, rescale) if rescale else experience.rewards

    def guidance_of(experience: Experience) -> Guidance:
        if experience.guidance is None:
            raise ValueError("guided: the experience has no guidance; a generator with goals (LeakganConfig) gives one")
        return experience.guidance

    def advantages(state: Any, experience: Experience) -> tuple[Array, PyTree, Metrics]:
        reward, mask = guidance_of(experience).intrinsic, experience.sample.mask
        mixed = (1 - intrinsic_share) * values(experience) + intrinsic_share * reward
        found, state, metrics = plain.advantages(state, experience._replace(rewards=mixed))
        mean = jnp.where(mask, reward, 0.0).sum() / jnp.maximum(mask.sum(), 1)
        return found, state, metrics | {"intrinsic_reward": mean}

    def loss(log_probs: Array, experience: Experience, advantages: Array) -> Array:
        mask = experience.sample.mask
        gained = jnp.where(mask, jax.lax.stop_gradient(values(experience)) * guidance_of(experience).followed, 0.0)
        return surrogate(log_probs, experience, advantages) - gained.sum() / mask.shape[0]

    return plain._replace(advantages=advantages, loss=loss, guided=True)


def rescaled(values: Array, mask: Array, delta: Number) -> Array:
    """LeakGAN's bootstrapped rescaled activation: sigma(delta (1/2 - rank / n)) of each value, float32 [R, T].

    The rank, 1 for the highest, is that among the n texts that have the position, so mean and spread of the rewards
    stay the same in each step. Equal values share the mean of their ranks.

    Args:
        values: float [R, T].
        mask: bool [R, T]; the result is 0 outside.
        delta: the slope; 16 in the authors' code.
    """
    higher = ((values[None] > values[:, None]) & mask).sum(axis=1)
    equal = ((values[None] == values[:, None]) & mask).sum(axis=1)
    rank, count = higher + (equal + 1) / 2, jnp.maximum(mask.sum(axis=0), 1)
    return jnp.where(mask, jax.nn.sigmoid(delta * (0.5 - rank / count)), 0.0)
