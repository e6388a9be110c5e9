"""Drawing tokens by inverting the cumulative distribution: two uniforms a row instead of a Gumbel a token.

On a CPU that is an order of magnitude faster than `jax.random.categorical`. Two levels, first a block of 128 tokens and
then a token in it, each with a uniform of its own, keep the sums short and the resolution fine at any vocabulary.
"""

import jax.numpy as jnp

from gptgan_jax.types import Array

BLOCK = 128


def draw_tokens(uniforms: Array, logits: Array) -> Array:
    """Tokens in proportion to softmax(logits), up to float32 rounding; a logit of -inf is never drawn.

    Args:
        uniforms: float32 [2, N] in [0, 1).
        logits: float32 [N, V].

    Returns:
        int32 [N].
    """
    count, vocab_size = logits.shape
    weights = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True))
    weights = jnp.pad(weights, ((0, 0), (0, -vocab_size % BLOCK))).reshape(count, -1, BLOCK)
    block = _first_above(weights.sum(axis=2), uniforms[0])
    inside = jnp.take_along_axis(weights, block[:, None, None], axis=1)[:, 0]
    return block * BLOCK + _first_above(inside, uniforms[1])


def _first_above(weights: Array, uniform: Array) -> Array:
    """Index in proportion to the weights [N, K], by one uniform number [N] in [0, 1) a row; never one of weight 0.

    Rounding may make a cumulative sum move where a weight of 0 is added, so such places are taken out of the search,
    and the total is the largest sum that is left: then some sum is always above the uniform part of it.
    """
    cumulative = jnp.where(weights > 0, jnp.cumsum(weights, axis=1), 0)
    above = cumulative > uniform[:, None] * jnp.max(cumulative, axis=1, keepdims=True)
    places = jnp.arange(weights.shape[1], dtype=jnp.int32)
    return jnp.min(jnp.where(above, places, weights.shape[1] - 1), axis=1)
