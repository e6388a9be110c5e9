"""Gumbel-softmax: the score is differentiated through continuous relaxations of the tokens.

The usual sampler draws the tokens, and Gumbel noise is then sampled conditional on them. The gradient therefore needs
one teacher-forced pass and no backward pass through the decoding, and several noise samples for the same text can be
averaged.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.families import Metrics, Pathwise
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.schema.ranges import DRAWS, RELAXATION_TEMPERATURE
from gptgan_jax.types import Array, Number

Schedule = Callable[[Array], Array]


@suggests_names
def gumbel(temperature: Number | Schedule = 1.0, straight_through: bool = True, draws: int = 1) -> Pathwise:
    """Gumbel-softmax (Jang et al. 2017, arXiv:1611.01144; Maddison et al. 2017, arXiv:1611.00712).

    In place of a token the discriminator reads softmax((log p + g) / temperature), where g is Gumbel noise for which
    log p + g is largest at that token. Straight-through, it reads the token itself, with the gradient of the softmax.

    The generator reads its own sampled tokens, as in RelGAN (Nie et al. 2019): no gradient flows from a token into the
    ones after it. This and the relaxation are its biases.

    Args:
        temperature: of the relaxation, above 0; or a function of the number of adversarial steps made. RelGAN's is
            beta^(-i/N) with an inverse temperature beta of 100 or 1000 at the end.
        straight_through: the discriminator reads the tokens, and the gradient is that of the relaxed ones; otherwise it
            reads the relaxed ones.
        draws: noise samples given the tokens, averaged: Rao-Blackwellised straight-through (Paulus et al. 2021,
            arXiv:2010.04838).

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> estimator = gg.gumbel(temperature=0.5)
        >>> relaxed = estimator.relax(jnp.int32(0), key, generator.logits(params, batch), batch.target)
        >>> relaxed.argmax(axis=-1)  # straight-through: the tokens themselves
        Array([[3, 4, 5],
               [6, 2, 0]], dtype=int32)
    """
    if not callable(temperature):
        RELAXATION_TEMPERATURE.check("temperature", temperature)
    DRAWS.check("draws", draws)
    schedule = temperature if callable(temperature) else lambda step: jnp.float32(temperature)

    def relax(step: Array, key: Array, logits: Array, tokens: Array) -> Array:
        check_arrays("gumbel", logits=(logits, "float [R, T, V]"), tokens=(tokens, "int [R, T]"))
        log_probs = jax.nn.log_softmax(logits)
        now = schedule(step)

        def one(key: Array) -> Array:
            noise = jax.lax.stop_gradient(conditional_perturbed(key, log_probs, tokens) - log_probs)
            return jax.nn.softmax((log_probs + noise) / now)

        soft = jax.vmap(one)(jax.random.split(key, draws)).mean(axis=0)
        if not straight_through:
            return soft
        hard = jax.nn.one_hot(tokens, logits.shape[-1], dtype=soft.dtype)
        return hard + (soft - jax.lax.stop_gradient(soft))  # in this order: exactly the tokens

    def advance(step: Array) -> tuple[Array, Metrics]:
        return step + 1, {"relaxation_temperature": jnp.asarray(schedule(step), jnp.float32)}

    return Pathwise(lambda width: jnp.int32(0), relax, advance)


def conditional_perturbed(key: Array, log_probs: Array, tokens: Array) -> Array:
    """log_probs + Gumbel noise, sampled under the condition that the token's entry is the largest.

    With E exponential, the largest entry is -log E_k, and the others are -log(E_i / p_i + E_k) (Maddison et al. 2014).

    Args:
        key: PRNG key.
        log_probs: float32 [..., V], normalised.
        tokens: int32 [...].
    """
    check_arrays("conditional_perturbed", log_probs=(log_probs, "float [..., V]"), tokens=(tokens, "int [...]"))
    logs = jnp.log(jnp.maximum(jax.random.exponential(key, log_probs.shape, log_probs.dtype), 1e-30))
    is_token = jnp.arange(log_probs.shape[-1]) == tokens[..., None]
    top = jnp.where(is_token, logs, 0.0).sum(axis=-1, keepdims=True)
    return -jnp.where(is_token, top, jnp.logaddexp(logs - log_probs, top))
