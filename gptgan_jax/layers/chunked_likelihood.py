"""Output layer and cross-entropy as one, a part of the text at a time, so that never all logits lie in memory.

They would be the largest array of likelihood training: every token times the vocabulary. As the weights of the nats
are known beforehand, a part's gradient is computed beside its loss, while its logits are still in the processor's
cache, and nothing is computed twice. (Parts of the vocabulary instead: Wijmans et al. 2024, arXiv 2411.09009.)
"""

from functools import partial

import jax
import jax.numpy as jnp

from gptgan_jax.distributed.partitioning import constrain, is_split
from gptgan_jax.objectives.likelihood import token_log_probs
from gptgan_jax.types import Array

LEAST_ROWS = 512
"""Tokens of a part at least; and twice the width, as each part adds once to the kernel's whole gradient."""


def weighted_nats(
    hidden: Array, kernel: Array, bias: Array | None, targets: Array, weights: Array, dtype: jnp.dtype
) -> Array:
    """The sum over all tokens of weight times negative log-likelihood: float32 [].

    Differentiable once, by hidden states, kernel and bias.

    Args:
        hidden: [B, T, D].
        kernel, bias: of the output layer, float32 [D, V] and [V] or None.
        targets: int32 [B, T].
        weights: float32 [B, T]; no gradient goes to them.
        dtype: of the products' operands; they are summed up in float32.
    """
    return _nats(dtype, hidden, kernel, bias, targets, weights)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _nats(dtype: jnp.dtype, hidden: Array, kernel: Array, bias: Array | None, targets: Array, weights: Array) -> Array:
    def part(total: Array, inputs: tuple[Array, Array, Array]) -> tuple[Array, None]:
        x, target, weight = inputs
        logits = _logits(dtype, x, kernel, bias)
        return total - (weight * token_log_probs(logits, target)).sum(), None

    total, _ = jax.lax.scan(part, jnp.float32(0), _parts(hidden, targets, weights))
    return total


def _nats_and_gradient(
    dtype: jnp.dtype, hidden: Array, kernel: Array, bias: Array | None, targets: Array, weights: Array
) -> tuple[Array, tuple[Array, Array, Array | None]]:
    width = hidden.shape[-1]

    def part(
        so_far: tuple[Array, Array, Array | None], inputs: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array, Array | None], Array]:
        total, of_kernel, of_bias = so_far
        x, target, weight = inputs
        logits = _logits(dtype, x, kernel, bias)
        log_probs, gradient_of = jax.vjp(lambda logits: token_log_probs(logits, target), logits)
        (of_logits,) = gradient_of(-weight)
        if of_bias is not None:
            of_bias = of_bias + of_logits.sum(axis=(0, 1))
        of_logits = of_logits.reshape(-1, kernel.shape[1]).astype(dtype)
        of_x = _product(of_logits, kernel.astype(dtype).T).reshape(x.shape).astype(x.dtype)
        of_kernel = of_kernel + _product(x.reshape(-1, width).astype(dtype).T, of_logits)
        return (total - (weight * log_probs).sum(), of_kernel, of_bias), of_x

    nothing = jnp.float32(0), jnp.zeros_like(kernel), None if bias is None else jnp.zeros_like(bias)
    (total, of_kernel, of_bias), of_hidden = jax.lax.scan(part, nothing, _parts(hidden, targets, weights))
    return total, (_whole(of_hidden, hidden.shape), of_kernel, of_bias)


def _scaled(
    dtype: jnp.dtype, gradients: tuple[Array, Array, Array | None], by: Array
) -> tuple[Array, Array, Array | None, None, None]:
    of_hidden, of_kernel, of_bias = jax.tree.map(lambda x: (by * x).astype(x.dtype), gradients)
    return of_hidden, of_kernel, of_bias, None, None


_nats.defvjp(_nats_and_gradient, _scaled)


def _logits(dtype: jnp.dtype, x: Array, kernel: Array, bias: Array | None) -> Array:
    logits = _product(x.reshape(-1, x.shape[-1]).astype(dtype), kernel.astype(dtype))
    logits = logits.reshape(*x.shape[:-1], kernel.shape[1])
    return constrain(logits if bias is None else logits + bias, "rows", None, "vocabulary")


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _parts(hidden: Array, targets: Array, weights: Array) -> tuple[Array, Array, Array]:
    """All rows of a stretch of tokens at a time, [parts, B, tokens, ...]; the last filled up with tokens of weight 0.

    Split over a mesh there is one part alone: each would send its gradient of the whole kernel between the devices.
    """
    rows, length, width = hidden.shape
    wanted = length if is_split() else max(1, max(LEAST_ROWS, 2 * width) // rows)
    count = -(-length // wanted)
    tokens = -(-length // count)

    def split(x: Array) -> Array:
        rest = [(0, 0)] * (x.ndim - 2)
        filled = jnp.pad(x, [(0, 0), (0, count * tokens - length), *rest])
        return filled.reshape(rows, count, tokens, *x.shape[2:]).swapaxes(0, 1)

    return split(hidden), split(targets), split(weights)


def _whole(parts: Array, shape: tuple[int, ...]) -> Array:
    """What `_parts` split, [parts, B, tokens, D] -> [B, T, D]."""
    return parts.swapaxes(0, 1).reshape(shape[0], -1, shape[2])[:, : shape[1]]
