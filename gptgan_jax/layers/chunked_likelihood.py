"""The output layer fused with a loss of its logits, for one part of the text at a time: all logits are never in memory.

They would be the largest array of likelihood training, tokens times vocabulary, and twice that for distillation. The
weights of the tokens are known beforehand, so a part's gradient is computed along with its loss, while its logits are
still in the processor's cache, and nothing is recomputed. (Wijmans et al. 2024, arXiv 2411.09009, split the vocabulary
instead.)
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gptgan_jax.distributed.partitioning import constrain, is_split
from gptgan_jax.objectives.likelihood import generalised_jensen_shannon, token_log_probs, top_k_divergence
from gptgan_jax.types import Array, TopK

LEAST_ROWS = 512
"""The least number of tokens in a part. It is also at least twice the width: each part updates the whole gradient of
the kernel."""


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
    return _weighted(_nats_of, dtype, hidden, kernel, bias, targets, (), weights)


class Teacher(NamedTuple):
    """The model whose next-token distributions are learned.

    Attributes:
        hidden: [B, T, D'], its hidden states.
        kernel, bias: of its output layer, float32 [D', V] and [V] or None.
        dtype: of the products' operands.
    """

    hidden: Array
    kernel: Array
    bias: Array | None
    dtype: Any = jnp.float32


def weighted_divergence(
    hidden: Array,
    kernel: Array,
    bias: Array | None,
    teacher: Teacher,
    weights: Array,
    beta: float,
    temperature: float,
    dtype: jnp.dtype,
) -> Array:
    """The sum over all tokens of weight times the generalised Jensen-Shannon divergence from a teacher: float32 [].

    Neither model's logits are ever all in memory, also on a mesh. Differentiable once, by hidden states, kernel and
    bias.

    Args:
        hidden, kernel, bias, weights, dtype: as in `weighted_nats`; of the student.
        teacher: no gradient goes to it.
        beta: see `generalised_jensen_shannon`.
        temperature: divides the logits of both.
    """
    per_token = _DivergenceOf(beta, temperature, jnp.dtype(teacher.dtype))
    layer = teacher.kernel, teacher.bias
    return _weighted(per_token, dtype, hidden, kernel, bias, teacher.hidden, layer, weights)


def weighted_top_k_divergence(
    hidden: Array, kernel: Array, bias: Array | None, top_k: TopK, weights: Array, beta: float, dtype: jnp.dtype
) -> Array:
    """The sum over all tokens of weight times the divergence from a teacher's K most likely tokens: float32 [].

    Differentiable once, by hidden states, kernel and bias.

    Args:
        hidden, kernel, bias, weights, dtype: as in `weighted_nats`.
        top_k: the teacher's; no gradient goes to it.
        beta: see `top_k_divergence`.
    """
    return _weighted(_TopKDivergenceOf(beta), dtype, hidden, kernel, bias, top_k, (), weights)


def _nats_of(logits: Array, targets: Array, shared: Any) -> Array:
    return -token_log_probs(logits, targets)


class _DivergenceOf(NamedTuple):
    """The divergence of a part's logits; equal instances count as one function, so nothing is traced again."""

    beta: float
    temperature: float
    dtype: Any

    def __call__(self, logits: Array, hidden: Array, layer: Any) -> Array:
        theirs = _logits(self.dtype, hidden, *layer)
        return generalised_jensen_shannon(logits / self.temperature, theirs / self.temperature, self.beta)


class _TopKDivergenceOf(NamedTuple):
    """As `_DivergenceOf`, for a teacher's most likely tokens."""

    beta: float

    def __call__(self, logits: Array, top_k: TopK, shared: Any) -> Array:
        return top_k_divergence(logits, top_k.ids, top_k.log_probs, self.beta)


PerToken = Callable[[Array, Any, Any], Array]
"""(logits [B, t, V] of a part of the text, its other inputs [B, t, ...], inputs shared by all parts) -> [B, t]."""


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _weighted(
    per_token: PerToken,
    dtype: jnp.dtype,
    hidden: Array,
    kernel: Array,
    bias: Array | None,
    others: Any,
    shared: Any,
    weights: Array,
) -> Array:
    def part(total: Array, inputs: tuple[Array, Any, Array]) -> tuple[Array, None]:
        x, other, weight = inputs
        return total + (weight * per_token(_logits(dtype, x, kernel, bias), other, shared)).sum(), None

    total, _ = jax.lax.scan(part, jnp.float32(0), _parts(hidden, others, weights, per_token is _nats_of))
    return total


def _value_and_gradient(
    per_token: PerToken,
    dtype: jnp.dtype,
    hidden: Array,
    kernel: Array,
    bias: Array | None,
    others: Any,
    shared: Any,
    weights: Array,
) -> tuple[Array, tuple[Array, Array, Array | None]]:
    width = hidden.shape[-1]

    def part(
        so_far: tuple[Array, Array, Array | None], inputs: tuple[Array, Any, Array]
    ) -> tuple[tuple[Array, Array, Array | None], Array]:
        total, of_kernel, of_bias = so_far
        x, other, weight = inputs
        logits = _logits(dtype, x, kernel, bias)
        values, gradient_of = jax.vjp(lambda logits: per_token(logits, other, shared), logits)
        (of_logits,) = gradient_of(weight.astype(values.dtype))
        if of_bias is not None:
            of_bias = of_bias + of_logits.sum(axis=(0, 1))
        of_logits = of_logits.reshape(-1, kernel.shape[1]).astype(dtype)
        of_x = _product(of_logits, kernel.astype(dtype).T).reshape(x.shape).astype(x.dtype)
        of_kernel = of_kernel + _product(x.reshape(-1, width).astype(dtype).T, of_logits)
        return (total + (weight * values).sum(), of_kernel, of_bias), of_x

    layer = kernel, bias
    # Summed up in float32, whatever the type of the weights.
    nothing = jnp.float32(0), *jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), layer)
    (total, *sums), of_hidden = jax.lax.scan(part, nothing, _parts(hidden, others, weights, per_token is _nats_of))
    of_kernel, of_bias = jax.tree.map(lambda x, like: x.astype(like.dtype), tuple(sums), layer)
    return total, (_whole(of_hidden, hidden.shape), of_kernel, of_bias)


def _scaled(
    per_token: PerToken, dtype: jnp.dtype, gradients: tuple[Array, Array, Array | None], by: Array
) -> tuple[Array, Array, Array | None, None, None, None]:
    of_hidden, of_kernel, of_bias = jax.tree.map(lambda x: (by * x).astype(x.dtype), gradients)
    return of_hidden, of_kernel, of_bias, None, None, None


_weighted.defvjp(_value_and_gradient, _scaled)


def _logits(dtype: jnp.dtype, x: Array, kernel: Array, bias: Array | None) -> Array:
    logits = _product(x.reshape(-1, x.shape[-1]).astype(dtype), kernel.astype(dtype))
    logits = logits.reshape(*x.shape[:-1], kernel.shape[1])
    return constrain(logits if bias is None else logits + bias, "rows", None, "vocabulary")


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _parts(hidden: Array, others: Any, weights: Array, one_if_split: bool) -> tuple[Array, Any, Array]:
    """Splits the token axis: [parts, B, tokens, ...]; the last part is padded with tokens of weight 0.

    With `one_if_split` there is only one part over a mesh: each part would send its gradient of the whole kernel
    between the devices.
    """
    rows, length, width = hidden.shape
    wanted = length if one_if_split and is_split() else max(1, max(LEAST_ROWS, 2 * width) // rows)
    count = -(-length // wanted)
    tokens = -(-length // count)

    def split(x: Array) -> Array:
        rest = [(0, 0)] * (x.ndim - 2)
        filled = jnp.pad(x, [(0, 0), (0, count * tokens - length), *rest])
        return filled.reshape(rows, count, tokens, *x.shape[2:]).swapaxes(0, 1)

    return split(hidden), jax.tree.map(split, others), split(weights)


def _whole(parts: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `_parts`: [parts, B, tokens, D] -> [B, T, D]."""
    return parts.swapaxes(0, 1).reshape(shape[0], -1, shape[2])[:, : shape[1]]
