"""Score-function estimators: REINFORCE and what grew from it.

In the formulas y_t is token t of one of R generated texts, p the generator, r_t its reward, A_t its advantage and
R_t = r_t + discount R_{t+1} its return. Every surrogate is a sum over a text's tokens (never a mean over padding) and a
mean over texts. `tests/objectives/
test_policy_gradients.py` compares each one's expected gradient with the exact one over all texts of a tiny vocabulary.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from gptgan_jax.objectives.baselines import (
    Baseline,
    discounted_returns,
    leave_one_out,
    moving_average,
    text_means,
)
from gptgan_jax.objectives.estimators import Experience, Metrics, PolicyGradient
from gptgan_jax.ranges import (
    CLIP,
    DISCOUNT,
    EPOCHS,
    GROUP,
    MINIBATCHES,
    ROLLOUTS,
    SAMPLES,
    WEIGHTS_BASELINE,
    check_choice,
)
from gptgan_jax.types import Array, PyTree

Ratio = Literal["token", "sequence"]


def surrogate(log_probs: Array, experience: Experience, advantages: Array) -> Array:
    """-1/R sum_r sum_t A_rt log p(y_rt): its gradient is minus that of the expected return."""
    _check_loss("surrogate", log_probs, experience, advantages)
    mask = experience.sample.mask
    return -(jnp.where(mask, advantages, 0.0) * jnp.where(mask, log_probs, 0.0)).sum() / mask.shape[0]


def clipped_surrogate(clip: float, ratio: Ratio = "token") -> Callable[[Array, Experience, Array], Array]:
    """PPO's surrogate (Schulman et al. 2017, arXiv:1707.06347): -1/R sum min(w A, clip(w, 1 - clip, 1 + clip) A).

    The ratio w is p(y_t | y_<t) / p_old(y_t | y_<t), or p(y) / p_old(y) of the whole text.

    Args:
        clip: how far the ratio may move and still be rewarded for it, above 0.
        ratio: of each token's probability now to that when it was written, which leaves out how the earlier tokens'
            probabilities moved; or of the whole text's, which is the exact importance weight of a text. The latter
            pays a text its advantage at its first token.
    """
    CLIP.check("clip", clip)
    check_choice("ratio", ratio, get_args(Ratio))

    def loss(log_probs: Array, experience: Experience, advantages: Array) -> Array:
        _check_loss("clipped_surrogate", log_probs, experience, advantages)
        mask = experience.sample.mask
        moved = jnp.where(mask, log_probs - experience.sample.log_probs, 0.0)
        if ratio == "sequence":
            moved, advantages, mask = moved.sum(axis=1, keepdims=True), advantages[:, :1], mask[:, :1]
        # The bound keeps the exponential finite; infinity times a gradient of 0 would be no number.
        ratios = jnp.exp(jnp.clip(moved, -60, 60))
        worse = jnp.minimum(ratios * advantages, jnp.clip(ratios, 1 - clip, 1 + clip) * advantages)
        return -jnp.where(mask, worse, 0.0).sum() / mask.shape[0]

    return loss


def _check_loss(loss: str, log_probs: Array, experience: Experience, advantages: Array) -> None:
    experience.check(
        loss,
        log_probs=(log_probs, "float [R, T]"),
        advantages=(advantages, "float [R, T]"),
        **{"sample.log_probs": (experience.sample.log_probs, "float [R, T]")},
    )


def reinforce(discount: float = 1.0, baseline: Baseline | None = None) -> PolicyGradient:
    """REINFORCE (Williams 1992, doi:10.1007/BF00992696): A_t = R_t - baseline, loss -1/R sum A_t log p(y_t | y_<t).

    With discount = 1 the expected gradient is that of the expected sum of rewards, exactly. With discount < 1 each
    token is credited with a shortened future, as ScratchGAN (d'Autume et al. 2019, arXiv:1905.09922) does with .23: a
    bias that buys variance.

    Args:
        discount: in [0, 1].
        baseline: default: `moving_average()`.
    """
    return _with_baseline(discount, baseline or moving_average())


def rollout(rollouts: int = 16, baseline: Baseline | None = None) -> PolicyGradient:
    """SeqGAN (Yu et al. 2017, arXiv:1609.05473): a token is worth the mean score of texts that go on from it.

    A_t = 1/M sum_m D(y_<=t, continuation m) - baseline, with M = `rollouts`; A_T = D(y) - baseline.

    The value of each token is estimated by `rollouts` continuations that the generator writes; that of the last one is
    the judgement of the text itself. The expected gradient is that of the expected judgement, exactly.

    Args:
        rollouts: continuations of each prefix, at least 1.
        baseline: default: `moving_average()`.
    """
    ROLLOUTS.check("rollouts", rollouts)
    return _with_baseline(0.0, baseline or moving_average())._replace(rollouts=rollouts)


def rloo(samples: int = 4, discount: float = 1.0) -> PolicyGradient:
    """REINFORCE leave-one-out: A_t = R_t - mean of the mean returns of the prompt's N - 1 other texts.

    Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free"; Ahmadian et al. 2024, arXiv:2402.14740.

    With discount = 1 the expected gradient is exact.

    Args:
        samples: texts a prompt, at least 2.
        discount: in [0, 1].
    """
    GROUP.check("samples", samples)
    return _with_baseline(discount, leave_one_out())._replace(samples=samples)


def ppo(
    discount: float = 1.0,
    baseline: Baseline | None = None,
    clip: float = 0.2,
    epochs: int = 4,
    minibatches: int = 1,
    ratio: Ratio = "token",
) -> PolicyGradient:
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347): several updates from the texts of a step.

    A_t = R_t - baseline, as in `reinforce`, and the loss is `clipped_surrogate`. The first update's gradient is
    REINFORCE's; later ones weigh by probability ratios.

    Args:
        discount: in [0, 1].
        baseline: default: `moving_average()`.
        clip, ratio: see `clipped_surrogate`.
        epochs: passes over the texts.
        minibatches: updates a pass; must divide the texts of a step.
    """
    EPOCHS.check("epochs", epochs)
    MINIBATCHES.check("minibatches", minibatches)
    estimator = _with_baseline(discount, baseline or moving_average())
    return estimator._replace(
        loss=clipped_surrogate(clip, ratio), epochs=epochs, minibatches=minibatches, whole_texts=ratio == "sequence"
    )


def grpo(
    samples: int = 8,
    discount: float = 1.0,
    deviation: bool = True,
    length_normalised: bool = False,
    clip: float = 0.2,
    epochs: int = 1,
    minibatches: int = 1,
    ratio: Ratio = "token",
) -> PolicyGradient:
    """Group-relative policy optimisation (Shao et al. 2024, arXiv:2402.03300): a return against those of its group.

    With g_i the mean over the tokens of text i of its returns, A_t = (R_t - mean of g) / std of g over the N texts of
    the prompt, and the loss is `clipped_surrogate`.

    The mean includes the text itself, so without `deviation` the expected gradient is (N - 1)/N times the exact one.
    Dividing by the group's deviation gives every prompt the same weight, however much its texts differ: a bias, and
    for a discriminator's noisy rewards an amplifier (Liu et al. 2025, "Dr. GRPO", arXiv:2503.20783).

    Args:
        samples: texts a prompt, N, at least 2.
        discount: in [0, 1].
        deviation: divide by the standard deviation of the group's returns.
        length_normalised: average over a text's tokens, as the paper does, which favours long bad and short good texts.
        clip, epochs, minibatches, ratio: see `ppo`.
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
            # Of equal returns a rounded mean leaves a deviation of its own, which would make advantages of nothing.
            advantages = jnp.where(deviations > 1e-5 * jnp.abs(mean), advantages / (deviations + 1e-6), 0.0)
        if length_normalised:
            advantages = advantages / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
        return advantages, None, {"baseline": groups.mean(), "group_deviation": groups.std(axis=1).mean()}

    return PolicyGradient(lambda width: None, advantages, clipped, samples, 0, epochs, minibatches, ratio == "sequence")


def maligan(samples: int = 1, baseline: float = 1.0) -> PolicyGradient:
    """Maximum-likelihood augmented GAN (Che et al. 2017, arXiv:1702.07983): likelihood of texts weighted by D/(1 - D).

    A_t = N w - baseline at every token of a text, with w = softmax over the N texts of their total reward. With the
    logit as reward, exp(reward) = D/(1 - D) is the density ratio of data and generator where D is right, and the
    weights, normalised to sum to 1, make the texts stand for real ones. Normalising is a bias of order 1/N.

    Args:
        samples: texts a prompt; weights are normalised over them, or over the batch where it is 1.
        baseline: taken from N times each weight; 1 centres them, and any leaves the expected gradient as it is.
    """
    SAMPLES.check("samples", samples)
    WEIGHTS_BASELINE.check("baseline", baseline)
    return PolicyGradient(lambda width: None, _normalised_weights(baseline), surrogate, samples, whole_texts=True)


def weighted_likelihood(samples: int = 1) -> PolicyGradient:
    """Cooperative training: likelihood of generated texts, weighted by the probability D that they are real.

    Lamprier et al. 2022, "Generative cooperative networks for natural language generation" (PMLR 162, 11891-11905).
    A_t = N w at every token of a text, with w = softmax over the N texts of their total reward. The target is
    p(x) D(x), and with log D as reward the normalised weights exp(reward) draw from it. Normalising is a bias of order
    1/N.

    Args:
        samples: texts a prompt; weights are normalised over them, or over the batch where it is 1.
    """
    SAMPLES.check("samples", samples)
    return PolicyGradient(lambda width: None, _normalised_weights(0.0), surrogate, samples, whole_texts=True)


def _normalised_weights(baseline: float) -> Callable[[PyTree, Experience], tuple[Array, PyTree, Metrics]]:
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


def _with_baseline(discount: float, baseline: Baseline) -> PolicyGradient:
    DISCOUNT.check("discount", discount)

    def advantages(state: Any, experience: Experience) -> tuple[Array, PyTree, Metrics]:
        experience.check("advantages")
        mask = experience.sample.mask
        returns = discounted_returns(experience.rewards, mask, discount)
        value = baseline.value(state, experience, returns)
        # [R] would broadcast along the tokens.
        if jnp.shape(value) not in ((), (mask.shape[0], 1), mask.shape):
            raise ValueError(
                f"the baseline's value has the shape {list(jnp.shape(value))}, and should have [], "
                f"[R, 1] = {[mask.shape[0], 1]} or [R, T] = {list(mask.shape)}"
            )
        advantages = jnp.where(mask, returns - value, 0.0)
        tokens = jnp.maximum(mask.sum(), 1)
        metrics = {
            "baseline": jnp.where(mask, value, 0.0).sum() / tokens,
            "advantage_rms": jnp.sqrt(jnp.square(advantages).sum() / tokens),
        }
        return advantages, baseline.update(state, experience, returns), metrics

    return PolicyGradient(baseline.init, advantages, surrogate)
