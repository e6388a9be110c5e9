"""GRPO (Shao et al. 2024): returns relative to the other texts that answer the same prompt."""

import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.baselines import discounted_returns, text_means
from gptgan_jax.gradients.families import Experience, Metrics, PolicyGradient
from gptgan_jax.gradients.policy_gradients import Ratio, clipped_surrogate
from gptgan_jax.schema.ranges import DISCOUNT, EPOCHS, GROUP, MINIBATCHES
from gptgan_jax.types import Array, Number


@suggests_names
def grpo(
    samples: int = 8,
    discount: Number = 1.0,
    deviation: bool = True,
    length_normalised: bool = False,
    clip: Number = 0.2,
    epochs: int = 1,
    minibatches: int = 1,
    ratio: Ratio = "token",
) -> PolicyGradient:
    """Group-relative policy optimisation (Shao et al. 2024, arXiv:2402.03300): returns relative to a group of texts.

    With g_i the mean return over the tokens of text i, A_t = (R_t - mean of g) / std of g over the N texts of the
    prompt, and the loss is `clipped_surrogate`.

    The mean includes the text itself. If texts are rewarded only at their last token, the expected gradient without
    `deviation` is (N - 1)/N times the exact one; with dense rewards its direction differs too, because a text's mean
    return is not its return from a given token on.
    Dividing by the group's deviation gives every prompt the same weight, however much its texts differ. This is a bias,
    and it amplifies the noise in a discriminator's rewards (Liu et al. 2025, "Dr. GRPO", arXiv:2503.20783).

    Args:
        samples: texts per prompt, N, at least 2.
        discount: in [0, 1].
        deviation: divide by the standard deviation of the group's returns.
        length_normalised: average over a text's tokens, as the paper does, which favours long bad and short good texts.
        clip, epochs, minibatches, ratio: see `ppo`.

    Raises:
        ValueError: a number is out of its range; during tracing, if there are not `samples` texts per prompt.

    Example:
        >>> advantages, _, _ = gg.grpo(samples=2, deviation=False).advantages(None, experience)
        >>> advantages
        Array([[ 1.25,  0.25, -0.75],
               [ 0.25, -0.75, -1.75]], dtype=float32)
    """
    GROUP.check("samples", samples)
    DISCOUNT.check("discount", discount)
    EPOCHS.check("epochs", epochs)
    MINIBATCHES.check("minibatches", minibatches)
    clipped = clipped_surrogate(clip, ratio)

    def advantages(state: None, experience: Experience) -> tuple[Array, None, Metrics]:
        experience.check("grpo")
        if experience.samples != samples:
            raise ValueError(f"grpo: experience.samples is {experience.samples}, and the estimator's is {samples}")
        experience.check_groups("grpo")
        mask = experience.sample.mask
        returns = discounted_returns(experience.rewards, mask, discount)
        groups = text_means(returns, mask).reshape(-1, samples)
        mean = jnp.repeat(groups.mean(axis=1), samples)[:, None]
        advantages = returns - mean
        if deviation:
            deviations = jnp.repeat(groups.std(axis=1), samples)[:, None]
            # Equal returns have a tiny deviation from rounding; dividing by it would create advantages from nothing.
            advantages = jnp.where(deviations > 1e-5 * jnp.abs(mean), advantages / (deviations + 1e-6), 0.0)
        if length_normalised:
            advantages = advantages / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
        return advantages, None, {"baseline": groups.mean(), "group_deviation": groups.std(axis=1).mean()}

    estimator = PolicyGradient(lambda width: None, advantages, clipped, samples, discount=discount)
    return estimator._replace(epochs=epochs, minibatches=minibatches, whole_texts=ratio == "sequence")
