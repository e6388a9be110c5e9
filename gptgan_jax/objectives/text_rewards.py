"""Rewards by functions of the generated texts themselves, beside the discriminator's.

A text reward is a function (written, batch) -> float [R], one number per text, given at its last token, or
float [R, T], one number per token. Several rewards can be put on one scale first:

    none     sum of weight * reward
    group    each reward minus its mean over the texts of a prompt, divided by their standard deviation; then weighted
             and summed. This is the first normalisation of GDPO (Liu et al. 2026, arXiv:2601.05242), which preserves
             differences that would vanish if only the sum were normalised
    batch    the same over all texts of the step

The discriminator's reward is one of them. A reward given at several tokens of a text is only divided by the standard
deviation of the texts' totals: subtracting a mean at each token would reward or penalise length.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.objectives.rewards import is_last
from gptgan_jax.schema.ranges import COUNT, REWARD_WEIGHT, is_on
from gptgan_jax.types import Array, Batch, Number, Sample

RewardScaling = Literal["none", "group", "batch"]
RewardFunction = Callable[[Sample, Batch], Array]


@suggests_names
class TextReward(NamedTuple):
    """A reward beside the discriminator's.

    Attributes:
        name: of its metric, reward/NAME.
        function: (written, batch) -> float [R] or [R, T], traced in the step. The batch has one row for each of the R
            texts: its prompt, and as target the real text that answers it. Values outside the masks are ignored. Under
            `Game.axis_name` it only sees this device's rows.
        weight: in the total reward; with 0 it is only measured.
        schedule: factor of the weight at a step of the phase, int32 [] -> float32 [], counted from 0; None: 1.

    Example:
        >>> short = gg.TextReward("short", lambda written, batch: -written.mask.sum(axis=1) / 2, weight=0.5)
        >>> short.measured(written, batch)
        Array([-1.5, -1. ], dtype=float32)
    """

    name: str
    function: RewardFunction
    weight: Number = 1.0
    schedule: Callable[[Array], Array] | None = None

    @property
    def is_paid(self) -> bool:
        """Whether it counts in the total reward."""
        return is_on(self.weight)

    def measured(self, written: Sample, batch: Batch) -> Array:
        """The reward of each text, float32 [R], or of each token, float32 [R, T].

        Raises:
            TypeError, ValueError: during tracing, if the function returns something else.
        """
        found = jnp.asarray(self.function(written, batch))
        rows, tokens = written.mask.shape
        if found.shape not in ((rows,), (rows, tokens)):
            raise ValueError(
                f"reward {self.name} has the shape {list(found.shape)}, and should have [R] = {[rows]}, a number a "
                f"text, or [R, T] = {[rows, tokens]}, a number a token"
            )
        if not jnp.issubdtype(found.dtype, jnp.floating):
            raise TypeError(f"reward {self.name} is {found.dtype}, and should be float")
        return found.astype(jnp.float32)

    def weight_at(self, made: Array) -> Number:
        """Its weight after a number of steps of the phase: int32 [] -> float32 []."""
        return self.weight if self.schedule is None else self.weight * self.schedule(made)


@suggests_names
def linear_schedule(start: Number, end: Number, steps: int) -> Callable[[Array], Array]:
    """A linear schedule from `start` at step 0 to `end` at step `steps`, constant from there on.

    Args:
        start, end: factors of a weight.
        steps: of the phase, above 0.

    Returns:
        a function int32 [] -> float32 [], for `TextReward.schedule`.

    Raises:
        ValueError: a factor is not finite, or `steps` is not a whole number above 0.

    Example:
        >>> factor = gg.linear_schedule(1.0, 0.0, steps=10)
        >>> float(factor(jnp.int32(5))), float(factor(jnp.int32(99)))
        (0.5, 0.0)
    """
    REWARD_WEIGHT.check("start", start)
    REWARD_WEIGHT.check("end", end)
    COUNT.check("steps", steps)

    def factor(made: Array) -> Array:
        return start + (end - start) * jnp.clip(made.astype(jnp.float32) / steps, 0.0, 1.0)

    return factor


class Pay(NamedTuple):
    """The rewards of a step, before text rewards are added.

    Attributes:
        discriminator: float32 [R, T], the discriminator's reward of each token; its value with `values`.
        mask: bool [R, T].
        samples: N, texts per prompt, neighbours.
        values: whether the reward of a token is its value, including all later rewards, instead of its own part (with
            rollouts). A text's reward is then given at every token: the text is one continuation of each of its
            prefixes, so this is correct in expectation.
        is_dense: whether the discriminator rewards every token.
    """

    discriminator: Array
    mask: Array
    samples: int
    values: bool
    is_dense: bool


def combined(
    pay: Pay,
    rewards: Sequence[tuple[TextReward, Array]],
    made: Array,
    scaling: RewardScaling = "none",
    discriminator_weight: Number = 1.0,
) -> Array:
    """The total reward of each token: float32 [R, T].

    Args:
        pay: the discriminator's part.
        rewards: each with its values, [R] or [R, T].
        made: int32 [], steps of the phase made so far, for the schedules.
        scaling: see the module.
        discriminator_weight: of the discriminator's reward.
    """
    size = pay.mask.shape[0] if scaling == "batch" or pay.samples == 1 else pay.samples
    total = jnp.zeros(pay.mask.shape, jnp.float32)
    if is_on(discriminator_weight):
        total += discriminator_weight * (pay.discriminator if scaling == "none" else _scaled_pay(pay, size))
    for reward, found in rewards:
        if not reward.is_paid:
            continue
        if scaling != "none":
            found = normalised(found, size) if found.ndim == 1 else _divided(found, text_totals(found, pay.mask), size)
        total += reward.weight_at(made) * _at_tokens(found, pay)
    return jnp.where(pay.mask, total, 0.0)


def normalised(values: Array, size: int) -> Array:
    """Values minus the mean of their group, divided by its standard deviation (as in NumPy); 0 if all are equal.

    Args:
        values: float32 [R], groups of neighbours.
        size: of a group, a divisor of R.
    """
    groups = values.reshape(-1, size)
    return _divided(values - jnp.repeat(groups.mean(axis=1), size), values, size)


def text_totals(rewards: Array, mask: Array) -> Array:
    """The sum of each text's rewards: float32 [R, T], bool [R, T] -> [R]."""
    return jnp.where(mask, rewards, 0.0).sum(axis=1)


def without_signal(totals: Array, samples: int) -> Array:
    """Groups whose texts all have the same reward, so that nothing can be learned from them: [R] -> bool [R / N]."""
    groups = totals.reshape(-1, samples)
    spread = groups.max(axis=1) - groups.min(axis=1)
    return spread <= 1e-6 * jnp.abs(groups).max(axis=1)


def _divided(values: Array, of: Array, size: int) -> Array:
    """Values [R] or [R, T] divided by the standard deviation of their group's `of` [R]; 0 if that is only rounding."""
    groups = of.reshape(-1, size)
    deviation, level = groups.std(axis=1), jnp.abs(groups).max(axis=1)
    inverse = jnp.where(deviation > 1e-6 * level, 1 / jnp.maximum(deviation, 1e-30), 0.0)
    factor = jnp.repeat(inverse, size)
    return values * (factor if values.ndim == 1 else factor[:, None])


def _scaled_pay(pay: Pay, size: int) -> Array:
    """The discriminator's part on the scale of the others."""
    last = is_last(pay.mask)
    if pay.values:  # the value of the last token is the score of the text
        return _divided(pay.discriminator, text_totals(pay.discriminator, last), size)
    totals = text_totals(pay.discriminator, pay.mask)
    if pay.is_dense:
        return _divided(pay.discriminator, totals, size)
    return normalised(totals, size)[:, None] * last


def _at_tokens(found: Array, pay: Pay) -> Array:
    """A reward at the tokens where it is given: [R] or [R, T] -> [R, T]."""
    if found.ndim == 1:
        return found[:, None] * (pay.mask if pay.values else is_last(pay.mask))
    own = jnp.where(pay.mask, found, 0.0)
    return jnp.cumsum(own[:, ::-1], axis=1)[:, ::-1] if pay.values else own
