"""Shared by score-function estimators: the surrogate losses, and advantages as returns minus a baseline.

In the formulas y_t is token t of one of R generated texts, p the generator, r_t the reward, A_t the advantage and
R_t = r_t + discount R_{t+1} the return. Every surrogate is a sum over a text's tokens (never a mean over padding) and a
mean over texts. `tests/estimators/test_policy_gradients.py` compares each estimator's expected gradient with the exact
one, computed over all texts of a tiny vocabulary.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax.numpy as jnp

from gptgan_jax.gradients.baselines import Baseline, discounted_returns
from gptgan_jax.gradients.families import Experience, Metrics, PolicyGradient
from gptgan_jax.schema.ranges import CLIP, DISCOUNT, check_choice
from gptgan_jax.types import Array, Number, PyTree

Ratio = Literal["token", "sequence"]


def surrogate(log_probs: Array, experience: Experience, advantages: Array) -> Array:
    """-1/R sum_r sum_t A_rt log p(y_rt): its gradient is minus that of the expected return."""
    _check_loss("surrogate", log_probs, experience, advantages)
    mask = experience.sample.mask
    return -(jnp.where(mask, advantages, 0.0) * jnp.where(mask, log_probs, 0.0)).sum() / mask.shape[0]


def clipped_surrogate(clip: Number, ratio: Ratio = "token") -> Callable[[Array, Experience, Array], Array]:
    """PPO's surrogate (Schulman et al. 2017, arXiv:1707.06347): -1/R sum min(w A, clip(w, 1 - clip, 1 + clip) A).

    The ratio w is p(y_t | y_<t) / p_old(y_t | y_<t), or p(y) / p_old(y) of the whole text.

    Args:
        clip: ratios beyond 1 - clip and 1 + clip give no further gain; above 0.
        ratio: "token": of each token's current probability to that at sampling time, which ignores changes in the
            probabilities of earlier tokens; "sequence": of the whole text's, the exact importance weight of a text,
            with the advantage at its first token.
    """
    CLIP.check("clip", clip)
    check_choice("ratio", ratio, get_args(Ratio))

    def loss(log_probs: Array, experience: Experience, advantages: Array) -> Array:
        _check_loss("clipped_surrogate", log_probs, experience, advantages)
        mask = experience.sample.mask
        moved = jnp.where(mask, log_probs - experience.sample.log_probs, 0.0)
        if ratio == "sequence":
            moved, advantages, mask = moved.sum(axis=1, keepdims=True), advantages[:, :1], mask[:, :1]
        # The bound keeps the exponential finite, as infinity times a gradient of 0 would be NaN.
        ratios = jnp.exp(jnp.clip(moved, -60, 60))
        worse = jnp.minimum(ratios * advantages, jnp.clip(ratios, 1 - clip, 1 + clip) * advantages)
        return -jnp.where(mask, worse, 0.0).sum() / mask.shape[0]

    return loss


def with_baseline(discount: Number, baseline: Baseline) -> PolicyGradient:
    """A_t = R_t - baseline, loss `surrogate`."""
    DISCOUNT.check("discount", discount)

    def advantages(state: Any, experience: Experience) -> tuple[Array, PyTree, Metrics]:
        experience.check("advantages")
        mask = experience.sample.mask
        returns = discounted_returns(experience.rewards, mask, discount)
        value = baseline.value(state, experience, returns)
        # A value of shape [R] would broadcast along the tokens.
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

    return PolicyGradient(baseline.init, advantages, surrogate, discount=discount)


def _check_loss(loss: str, log_probs: Array, experience: Experience, advantages: Array) -> None:
    experience.check(
        loss,
        log_probs=(log_probs, "float [R, T]"),
        advantages=(advantages, "float [R, T]"),
        **{"sample.log_probs": (experience.sample.log_probs, "float [R, T]")},
    )
