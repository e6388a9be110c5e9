"""The discriminator's losses on its logits of real and of generated text.

Each is a function (real, real_mask, fake, fake_mask) -> float32 [], of logits float32 [B, T] at every token or [B, 1]
for whole texts. Row i of the real batch is paired with row i of the fake one, so both have the same shape. Masks are
bool and have the shape of their scores.

Example:
    >>> real, fake, mask = jnp.array([[2.0], [0.0]]), jnp.array([[0.5], [-1.0]]), jnp.ones((2, 1), bool)
    >>> round(float(gg.discrimination.build_pair_loss("relativistic", smoothing=0.1)(real, mask, fake, mask)), 4)
    0.3823
    >>> float(gg.discrimination.pair_accuracy(real[:, 0], fake[:, 0]))
    0.75
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.objectives.likelihood import masked_mean
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.schema.ranges import LABEL_SMOOTHING, check_choice, is_on
from gptgan_jax.types import Array, Number

__all__ = [
    "DIFFERENCES_ONLY",
    "PAIR_LOSSES",
    "SMOOTHABLE",
    "PairLoss",
    "PairLossName",
    "build_pair_loss",
    "hinge",
    "non_saturating",
    "pair_accuracy",
    "pair_loss_name",
    "prompt_accuracy",
    "relativistic",
    "relativistic_tie",
    "wasserstein",
]


def __dir__() -> list[str]:
    return __all__


PairLoss = Callable[[Array, Array, Array, Array], Array]
PairLossName = Literal["non_saturating", "hinge", "relativistic", "relativistic_tie", "wasserstein"]


@suggests_names
def non_saturating(real: Array, real_mask: Array, fake: Array, fake_mask: Array, *, smoothing: Number = 0.0) -> Array:
    """Cross-entropy of real against fake (Goodfellow et al. 2014): mean softplus(-real) + mean softplus(fake).

    With smoothing, the target probability of "real" is 1 - smoothing for real text and smoothing for generated text,
    instead of 1 and 0: the optimal logits are then finite, log((1 - smoothing) / smoothing) and minus that.

    Args:
        real, fake: logits of real and of generated texts, float [B, T].
        real_mask, fake_mask: bool [B, T], true for logits that count.
        smoothing: of the labels, at least 0 and below 1/2.

    Returns:
        float32 [].

    Raises:
        TypeError, ValueError: an array of wrong shape or type; smoothing out of its range.

    Example:
        >>> real, fake, mask = jnp.zeros((2, 1)), jnp.zeros((2, 1)), jnp.ones((2, 1), bool)
        >>> round(float(gg.non_saturating(real, mask, fake, mask)), 4)  # 2 log 2
        1.3863
    """
    _check("non_saturating", real, real_mask, fake, fake_mask)
    LABEL_SMOOTHING.check("smoothing", smoothing)
    of_real = jax.nn.softplus(-real) + smoothing * real
    of_fake = jax.nn.softplus(fake) - smoothing * fake
    return masked_mean(of_real, real_mask) + masked_mean(of_fake, fake_mask)


@suggests_names
def hinge(real: Array, real_mask: Array, fake: Array, fake_mask: Array) -> Array:
    """Mean max(0, 1 - real) + mean max(0, 1 + fake) (Lim & Ye 2017): scores beyond the margin have no gradient.

    Args:
        real, fake: logits of real and of generated texts, float [B, T].
        real_mask, fake_mask: bool [B, T], true for logits that count.

    Returns:
        float32 [].

    Raises:
        TypeError, ValueError: an array of wrong shape or type.

    Example:
        >>> real, fake, mask = jnp.array([[2.0]]), jnp.array([[0.5]]), jnp.array([[True]])
        >>> float(gg.hinge(real, mask, fake, mask))  # the real text is beyond the margin
        1.5
    """
    _check("hinge", real, real_mask, fake, fake_mask)
    return masked_mean(jax.nn.relu(1 - real), real_mask) + masked_mean(jax.nn.relu(1 + fake), fake_mask)


@suggests_names
def relativistic(real: Array, real_mask: Array, fake: Array, fake_mask: Array, *, smoothing: Number = 0.0) -> Array:
    """Mean softplus(fake - real) over pairs (Jolicoeur-Martineau 2018); Bradley-Terry with real as the winner.

    With scores at every token, only positions that both texts have are compared. With smoothing, the target probability
    that the real text wins is 1 - smoothing.

    Args:
        real, fake: logits of real and of generated texts, float [B, T].
        real_mask, fake_mask: bool [B, T], true for logits that count.
        smoothing: of the labels, at least 0 and below 1/2.

    Returns:
        float32 [].

    Raises:
        TypeError, ValueError: an array of wrong shape or type; smoothing out of its range.

    Example:
        >>> real, fake, mask = jnp.zeros((2, 1)), jnp.zeros((2, 1)), jnp.ones((2, 1), bool)
        >>> round(float(gg.relativistic(real, mask, fake, mask)), 4)  # log 2
        0.6931
    """
    _check("relativistic", real, real_mask, fake, fake_mask)
    LABEL_SMOOTHING.check("smoothing", smoothing)
    difference = real - fake
    return masked_mean(jax.nn.softplus(-difference) + smoothing * difference, real_mask & fake_mask)


@suggests_names
def relativistic_tie(real: Array, real_mask: Array, fake: Array, fake_mask: Array) -> Array:
    """Bradley-Terry with ties (Davidson 1970): real beats fake, and texts of the same origin tie.

    With the difference d of two scores and Z = exp(d/2) + exp(-d/2) + 1, the first text wins with probability
    exp(d/2) / Z and they tie with probability 1 / Z. The loss is the mean of -log P(real wins) over real-fake pairs,
    plus half the mean of -log P(tie) over pairs of the same origin. The latter is the average of the mean over pairs of
    real texts and the mean over pairs of generated ones, with each row paired with the next and the last with the
    first. The tie label stabilises the critic (RARO 2025), as it discourages ranking real texts against each other.
    With scores at every token, only positions that both texts have are compared.

    Args:
        real, fake: logits of real and of generated texts, float [B, T].
        real_mask, fake_mask: bool [B, T], true for logits that count.

    Returns:
        float32 [].

    Raises:
        TypeError, ValueError: an array of wrong shape or type.

    Example:
        >>> real, fake, mask = jnp.zeros((2, 1)), jnp.zeros((2, 1)), jnp.ones((2, 1), bool)
        >>> round(float(gg.relativistic_tie(real, mask, fake, mask)), 4)  # 1.5 log 3
        1.6479
    """
    _check("relativistic_tie", real, real_mask, fake, fake_mask)
    ties = (_tie_loss(real, real_mask) + _tie_loss(fake, fake_mask)) / 2
    difference = real - fake
    return masked_mean(_log_normalizer(difference) - difference / 2, real_mask & fake_mask) + ties / 2


def _tie_loss(scores: Array, mask: Array) -> Array:
    """Mean -log P(tie) of each row with the next: float32 [B, T], bool [B, T] -> float32 []."""
    difference = scores - jnp.roll(scores, -1, axis=0)
    return masked_mean(_log_normalizer(difference), mask & jnp.roll(mask, -1, axis=0))


def _log_normalizer(difference: Array) -> Array:
    """log(exp(d/2) + exp(-d/2) + 1) at every d."""
    half = difference / 2
    return jax.nn.logsumexp(jnp.stack([half, -half, jnp.zeros_like(half)]), axis=0)


@suggests_names
def wasserstein(real: Array, real_mask: Array, fake: Array, fake_mask: Array) -> Array:
    """Mean fake - mean real (Arjovsky et al. 2017): minus a distance only if the slope of the scores is bounded.

    It has no minimum by itself, so it needs a penalty such as `penalties.gradient_penalty`.

    Args:
        real, fake: logits of real and of generated texts, float [B, T].
        real_mask, fake_mask: bool [B, T], true for logits that count.

    Returns:
        float32 [].

    Raises:
        TypeError, ValueError: an array of wrong shape or type.

    Example:
        >>> real, fake, mask = jnp.array([[2.0]]), jnp.array([[0.5]]), jnp.array([[True]])
        >>> float(gg.wasserstein(real, mask, fake, mask))
        -1.5
    """
    _check("wasserstein", real, real_mask, fake, fake_mask)
    return masked_mean(fake, fake_mask) - masked_mean(real, real_mask)


def _check(loss: str, real: Array, real_mask: Array, fake: Array, fake_mask: Array) -> None:
    check_arrays(
        loss,
        real=(real, "float [B, T]"),
        real_mask=(real_mask, "bool [B, T]"),
        fake=(fake, "float [B, T]"),
        fake_mask=(fake_mask, "bool [B, T]"),
    )


PAIR_LOSSES: dict[PairLossName, PairLoss] = {
    "non_saturating": non_saturating,
    "hinge": hinge,
    "relativistic": relativistic,
    "relativistic_tie": relativistic_tie,
    "wasserstein": wasserstein,
}
SMOOTHABLE: tuple[PairLossName, ...] = ("non_saturating", "relativistic")
"""The losses whose labels can be smoothed."""
DIFFERENCES_ONLY: frozenset[PairLossName] = frozenset({"relativistic", "relativistic_tie", "wasserstein"})
"""The losses that do not change when a constant is added to all scores: only differences of scores are meaningful."""


def build_pair_loss(name: PairLossName, smoothing: Number = 0.0) -> PairLoss:
    """The loss with a given name, with label smoothing.

    Args:
        name: one of `PAIR_LOSSES`.
        smoothing: probability moved from each label to the other; in [0, 1/2).

    Raises:
        ValueError: no loss has that name, smoothing is out of range, or it is not 0 for a loss that can't be smoothed.
    """
    check_choice("the pair loss", name, PAIR_LOSSES)
    LABEL_SMOOTHING.check("label smoothing", smoothing)
    if not is_on(smoothing):
        return PAIR_LOSSES[name]
    if name not in SMOOTHABLE:
        raise ValueError(f"label smoothing is for the losses {' and '.join(SMOOTHABLE)}; {name} cannot be smoothed")
    smoothed: Callable[..., Array] = PAIR_LOSSES[name]
    return functools.partial(smoothed, smoothing=smoothing)


def pair_loss_name(loss: PairLoss) -> tuple[PairLossName | None, float]:
    """The name and smoothing of a loss made by `build_pair_loss`; (None, 0) for a loss of the user's own."""
    plain: Any = loss
    smoothing = 0.0
    if isinstance(plain, functools.partial) and plain.keywords.keys() == {"smoothing"} and not plain.args:
        plain, smoothing = plain.func, plain.keywords["smoothing"]
    return next(((name, smoothing) for name, known in PAIR_LOSSES.items() if known is plain), (None, 0.0))


def pair_accuracy(real: Array, fake: Array) -> Array:
    """Share of all real-fake pairs that the scores rank correctly, ties counting half: float [B], [R] -> float32 [].

    This is the area under the ROC curve. It needs no threshold, so it is comparable across pair losses; chance is 1/2.
    """
    check_arrays("pair_accuracy", real=(real, "float [B]"), fake=(fake, "float [R]"))
    return jnp.heaviside(real[:, None] - fake[None, :], 0.5).mean()


def prompt_accuracy(real: Array, fake: Array) -> Array:
    """Share of same-prompt real-fake pairs that are ranked correctly, ties counting half: [B], [R] -> float32 [].

    Scores of different prompts need not be comparable, especially with a loss of differences, which only compares texts
    of the same prompt; `pair_accuracy` counts all pairs.

    Args:
        real: scores of the prompts' real texts.
        fake: scores of R/B generated texts per prompt, neighbours by prompt.

    Raises:
        ValueError: R is not a multiple of B.
    """
    check_arrays("prompt_accuracy", real=(real, "float [B]"), fake=(fake, "float [R]"))
    if fake.shape[0] % real.shape[0]:
        raise ValueError(
            f"prompt_accuracy: fake has {fake.shape[0]} texts, and should have as many for each of {real.shape[0]} real"
        )
    return jnp.heaviside(jnp.repeat(real, fake.shape[0] // real.shape[0]) - fake, 0.5).mean()
