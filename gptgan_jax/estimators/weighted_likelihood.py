"""Weighted likelihood of generated texts: MaliGAN (Che et al. 2017), cooperative training (Lamprier et al. 2022)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.families import Experience, Metrics, PolicyGradient
from gptgan_jax.gradients.policy_gradients import surrogate
from gptgan_jax.schema.ranges import SAMPLES, WEIGHTS_BASELINE
from gptgan_jax.types import Array, Number, PyTree


@suggests_names
def maligan(samples: int = 1, baseline: Number = 1.0) -> PolicyGradient:
    """Maximum-likelihood augmented GAN (Che et al. 2017, arXiv:1702.07983): likelihood of texts weighted by D/(1 - D).

    A_t = N w - baseline at every token of a text, with w = softmax over the N texts of their total reward. With the
    logit as reward, exp(reward) = D/(1 - D) is the density ratio of data to generator if D is optimal, and the weights,
    normalised to sum to 1, reweight the texts to the data distribution. Normalising is a bias of order 1/N.

    Args:
        samples: texts per prompt; weights are normalised over them, or over the batch if it is 1.
        baseline: subtracted from N times each weight; 1 centres them, and no value changes the expected gradient.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> advantages, _, _ = gg.maligan(samples=2).advantages(None, experience)
        >>> [round(float(one), 2) for one in advantages[:, 0]]  # at every token of a text
        [0.46, -0.46]
    """
    SAMPLES.check("samples", samples)
    WEIGHTS_BASELINE.check("baseline", baseline)
    weights = _normalised_weights(baseline)
    return PolicyGradient(lambda width: None, weights, surrogate, samples, whole_texts=True, weighs_by="logit")


@suggests_names
def weighted_likelihood(samples: int = 1) -> PolicyGradient:
    """Cooperative training: likelihood of generated texts, weighted by the probability D that they are real.

    Lamprier et al. 2022, "Generative cooperative networks for natural language generation" (PMLR 162, 11891-11905).
    A_t = N w at every token of a text, with w = softmax over the N texts of their total reward. The target distribution
    is p(x) D(x), to which the normalised weights exp(reward) with log D as reward reweight the texts. Normalising is a
    bias of order 1/N.

    Args:
        samples: texts per prompt; weights are normalised over them, or over the batch if it is 1.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> advantages, _, _ = gg.weighted_likelihood(samples=2).advantages(None, experience)
        >>> [round(float(one), 2) for one in advantages[:, 0]]  # at every token of a text
        [1.46, 0.54]
    """
    SAMPLES.check("samples", samples)
    weights = _normalised_weights(0.0)
    return PolicyGradient(lambda width: None, weights, surrogate, samples, whole_texts=True, weighs_by="log_sigmoid")


def _normalised_weights(baseline: Number) -> Callable[[PyTree, Experience], tuple[Array, PyTree, Metrics]]:
    """Advantages N softmax(total reward) - baseline over the N texts of a prompt, or over the batch."""

    def advantages(state: PyTree, experience: Experience) -> tuple[Array, PyTree, Metrics]:
        experience.check("advantages")
        experience.check_groups("advantages")
        mask = experience.sample.mask
        totals = jnp.where(mask, experience.rewards, 0.0).sum(axis=1)
        size = experience.samples if experience.samples > 1 else len(totals)
        weights = jax.nn.softmax(totals.reshape(-1, size), axis=1)
        effective = 1 / (size * jnp.square(weights).sum(axis=1))
        advantages = (size * weights - baseline).reshape(-1, 1)
        return jnp.broadcast_to(advantages, mask.shape), state, {"effective_share": effective.mean()}

    return advantages
