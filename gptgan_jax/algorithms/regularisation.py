"""Regularisers that keep the generator from collapsing or drifting: entropy, KL from a reference, and likelihood.

    loss + kl_weight KL(p || p_ref) - entropy_weight H(p) - likelihood_weight log p(real text)

With `kl_estimator` "reward" the penalty is subtracted from the reward of each token instead (Ziegler et al. 2019,
arXiv:1909.08593); "low_variance" is the estimator r - 1 - log r of KL (Schulman 2020).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gptgan_jax.algorithms.game import Game
from gptgan_jax.algorithms.texts import Metrics
from gptgan_jax.objectives.likelihood import entropy, kl_divergence, token_log_probs
from gptgan_jax.sampling.decoding import log_probs, shape_logits
from gptgan_jax.schema.ranges import is_on
from gptgan_jax.types import Array, Batch, GanState, Params

RULED_OUT = -1e30
"""A logit of a token without probability, but finite: 0 log 0 is then 0, and not NaN."""


def shaped_logits(game: Game, params: Params, texts: Batch) -> Array:
    """The generator's logits at the temperature of sampling, float32 [R, T, V], all finite.

    A generator of the user's may rule tokens out by -inf, as those of a grammar do. The networks here never do, and are
    known by their `weighted_nats`.
    """
    logits = shape_logits(game.generator.logits(params, texts), game.temperature)
    return logits if game.generator.weighted_nats is not None else jnp.maximum(logits, RULED_OUT)


def with_kl_penalty(
    game: Game, state: GanState, rewards: Array, own: Batch, mask: Array, log_probs_now: Array
) -> Array:
    """The rewards [R, T] minus kl_weight log(p / p_ref) of each token, if the penalty is in the reward.

    Args:
        game, state: with the reference.
        rewards, mask: of all rows.
        own: the texts of this program's own rows.
        log_probs_now: log p of each token, of all rows.
    """
    if not (is_on(game.kl_weight) and game.kl_estimator == "reward"):
        return rewards
    reference = game.rows.gathered(log_probs(game.generator, state.reference, own, game.temperature))
    return rewards - game.kl_weight * jnp.where(mask, log_probs_now - reference, 0.0)


def regularised(
    game: Game, params: Params, reference: Params | None, logits: Array, chosen: Array, texts: Batch, real: Batch
) -> tuple[Array, Metrics]:
    """All three as a term of the loss, summed over a text's tokens and averaged over texts; and metrics.

    Args:
        game: of the step.
        params: the generator's; the result is differentiable by them.
        reference: parameters of the reference, if `kl_weight` is not 0.
        logits, chosen: the generator's logits on `texts`, and log p of their tokens.
        texts, real: this program's own rows of the generated and of the real texts.
    """
    mask = game.rows.gathered(texts.target_mask)
    count, tokens = mask.shape[0], jnp.maximum(mask.sum(), 1)
    # If it is only a metric, stop its gradient, which would otherwise be computed and multiplied by 0.
    of_logits = entropy(logits if is_on(game.entropy_weight) else jax.lax.stop_gradient(logits))
    entropy_sum = jnp.where(mask, game.rows.gathered(of_logits), 0.0).sum()
    metrics = {"entropy": entropy_sum / tokens}
    extra = -game.entropy_weight * entropy_sum / count
    if is_on(game.kl_weight):
        reference_logits = shaped_logits(game, reference, texts)
        kl = game.rows.gathered(_KL[game.kl_estimator](logits, reference_logits, chosen, texts.target))
        kl_sum = jnp.where(mask, kl, 0.0).sum()
        metrics["kl"] = kl_sum / tokens
        if game.kl_estimator != "reward":
            extra += game.kl_weight * kl_sum / count
    likelihood, found = with_likelihood(game, params, real)
    return extra + likelihood, metrics | found


def with_likelihood(game: Game, params: Params, real: Batch) -> tuple[Array, Metrics]:
    """The real texts' negative log-likelihood as a term of the loss, summed over a text's tokens, and a metric.

    Args:
        game: of the step.
        params: the generator's; the result is differentiable by them.
        real: this program's own rows of the real batch.
    """
    if not is_on(game.likelihood_weight):
        return jnp.float32(0), {}
    mask = game.rows.gathered(real.target_mask)
    if game.generator.weighted_nats is None:
        own = -log_probs(game.generator, params, real).sum()
    else:
        own = game.generator.weighted_nats(params, real, real.target_mask.astype(jnp.float32))
    nats = game.rows.gathered(own[None]).sum()
    loss = nats if game.generator.guidance is None else nats + goals_loss(game, params, real)
    return game.likelihood_weight * loss / mask.shape[0], {"real_nats": nats / jnp.maximum(mask.sum(), 1)}


def goals_loss(game: Game, params: Params, real: Batch) -> Array:
    """Minus how far real texts follow the goals that a manager sets in them, summed over tokens and texts: float32 [].

    It trains the manager beside the likelihood (LeakGAN, Guo et al. 2018). The generator must have goals.
    """
    assert game.generator.guidance is not None
    return -game.rows.gathered(game.generator.guidance(params, real).followed).sum()


def _exact(logits: Array, reference: Array, chosen: Array, tokens: Array) -> Array:
    return kl_divergence(logits, reference)


def _low_variance(logits: Array, reference: Array, chosen: Array, tokens: Array) -> Array:
    log_ratio = token_log_probs(reference, tokens) - chosen
    return jnp.expm1(log_ratio) - log_ratio


_KL: dict[str, Callable[[Array, Array, Array, Array], Array]] = {
    "exact": _exact,
    "low_variance": _low_variance,
    "reward": _exact,
}
