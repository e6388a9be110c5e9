"""Layers that Transformer, LSTM and discriminators share.

Every matrix product runs on two-dimensional operands: XLA's CPU backend is 1.6x faster on [B*T, D] @ [D, F] than on
[B, T, D] @ [D, F], and no backend is slower. Parameters are float32; `dtype` is that of the products.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from gptgan_jax.distributed.partitioning import constrain
from gptgan_jax.layers.chunked_likelihood import weighted_nats
from gptgan_jax.layers.lora import LoraConfig, adapters
from gptgan_jax.types import Array

Initializer = Callable[..., Array]

DEPTHS = "depths"
"""The collection of the outputs of each layer, recorded only on request (`Generator.depths`)."""

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Projection(nn.Module):
    """x [..., D] -> x @ kernel (+ bias), [..., features]; with an adapter if `lora` names it."""

    features: int
    use_bias: bool = True
    dtype: str = "float32"
    kernel_init: Initializer = nn.initializers.normal(0.02)
    lora: LoraConfig = LoraConfig()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = x.shape[-1], self.features
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        dtype = DTYPES[self.dtype]
        flat = x.reshape(-1, x.shape[-1]).astype(dtype)
        y = flat @ kernel.astype(dtype)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32).astype(dtype)
        if beside := adapters(self, self.lora, self.name, shape):
            a, b, scale = beside
            # Two thin products: W + A @ B is never computed, neither here nor in the backward pass.
            product = flat @ a.astype(dtype) @ b.astype(dtype)
            y = y + (product if scale == 1 else scale * product)
        if self.lora.rank:
            y = checkpoint_name(y, self.name or "")
        return y.reshape(*x.shape[:-1], self.features)


class Embedding(nn.Module):
    """A table [vocab_size, width] that embeds token ids and, if tied, gives the output logits."""

    vocab_size: int
    width: int
    dtype: str = "float32"
    stddev: float = 0.02

    def setup(self) -> None:
        self.table = self.param(
            "table", nn.initializers.normal(self.stddev), (self.vocab_size, self.width), jnp.float32
        )

    def __call__(self, tokens: Array) -> Array:
        """int32 [...] -> [..., width]."""
        # A table that is split by width is gathered first: rows and width can't both be split over one axis.
        return jnp.take(constrain(self.table, "vocabulary", None), tokens, axis=0).astype(DTYPES[self.dtype])

    def relaxed(self, weights: Array) -> Array:
        """Weighted sums of embeddings: weights of the tokens, float [..., vocab_size] -> [..., width]."""
        dtype = DTYPES[self.dtype]
        mixed = weights.reshape(-1, self.vocab_size).astype(dtype) @ self.table.astype(dtype)
        return mixed.reshape(*weights.shape[:-1], self.width)

    def logits(self, hidden: Array) -> Array:
        """[..., width] -> float32 [..., vocab_size]: the dot products with every row of the table."""
        return output_logits(hidden, self.table.T, self.dtype)

    def weighted_nats(self, hidden: Array, targets: Array, weights: Array) -> Array:
        """See `chunked_likelihood.weighted_nats`; the table is the output layer."""
        return weighted_nats(hidden, self.table.T, None, targets, weights, DTYPES[self.dtype])


def output_logits(hidden: Array, kernel: Array, dtype: str) -> Array:
    """hidden [..., D] @ kernel [D, V] -> float32 logits [..., V], accumulated in float32 whatever the dtype."""
    compute = DTYPES[dtype]
    flat = hidden.reshape(-1, hidden.shape[-1]).astype(compute)
    logits = jnp.matmul(flat, kernel.astype(compute), preferred_element_type=jnp.float32)
    logits = logits.reshape(*hidden.shape[:-1], kernel.shape[-1])
    return constrain(logits, "rows", *[None] * (logits.ndim - 2), "vocabulary")


class OutputHead(nn.Module):
    """An untied output layer: [..., D] -> float32 logits [..., vocab_size]."""

    vocab_size: int
    use_bias: bool = False
    dtype: str = "float32"
    kernel_init: Initializer = nn.initializers.normal(0.02)

    def __call__(self, hidden: Array) -> Array:
        kernel, bias = self.weights(hidden.shape[-1])
        if bias is None:
            return output_logits(hidden, kernel, self.dtype)

        def added(hidden: Array, kernel: Array, bias: Array) -> Array:
            return output_logits(hidden, kernel, self.dtype) + bias

        def multiplied(hidden: Array, kernel: Array, bias: Array) -> Array:
            """The bias as the weights of a constant input 1."""
            hidden = jnp.concatenate([hidden, jnp.ones((*hidden.shape[:-1], 1), hidden.dtype)], axis=-1)
            return output_logits(hidden, jnp.concatenate([kernel, bias[None]]), self.dtype)

        if self.dtype != "float32":
            return added(hidden, kernel, bias)
        # On a CPU, adding the bias would be one more pass over the logits. Elsewhere a product would round it, even in
        # float32.
        return jax.lax.platform_dependent(hidden, kernel, bias, cpu=multiplied, default=added)

    def weighted_nats(self, hidden: Array, targets: Array, weights: Array) -> Array:
        """See `chunked_likelihood.weighted_nats`."""
        return weighted_nats(hidden, *self.weights(hidden.shape[-1]), targets, weights, DTYPES[self.dtype])

    @nn.compact
    def weights(self, width: int) -> tuple[Array, Array | None]:
        """Kernel [width, vocab_size], and bias [vocab_size] if there is one."""
        kernel = self.param("kernel", self.kernel_init, (width, self.vocab_size), jnp.float32)
        if not self.use_bias:
            return kernel, None
        return kernel, self.param("bias", nn.initializers.zeros_init(), (self.vocab_size,), jnp.float32)


class Norm(nn.Module):
    """LayerNorm (Ba et al. 2016) or RMSNorm (Zhang & Sennrich 2019) over the last axes, computed in float32.

    Scale and bias are those of the last axis.
    """

    kind: str = "layer"
    eps: float = 1e-5
    axes: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (width,), jnp.float32)
        y, axes = x.astype(jnp.float32), tuple(range(-self.axes, 0))
        if self.kind == "layer":
            y = y - y.mean(axis=axes, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=axes, keepdims=True) + self.eps) * scale
        if self.kind == "layer":
            y = y + self.param("bias", nn.initializers.zeros_init(), (width,), jnp.float32)
        return y.astype(x.dtype)


class Dropout(nn.Module):
    """Dropout that is active only if the caller passes a `dropout` key; evaluation passes none."""

    rate: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dropout(self.rate, deterministic=not self.has_rng("dropout"))(x)


def positions_of(mask: Array) -> Array:
    """Position of each token, not counting padding: bool [B, S] -> int32 [B, S]; 0 before the first token.

    For segments, int32 [B, S] (see `types.Packed`), the position within each.
    """
    if mask.dtype != bool:
        places = jnp.broadcast_to(jnp.arange(mask.shape[-1], dtype=jnp.int32), mask.shape)
        begins = jnp.diff(mask, axis=-1, prepend=mask[..., :1]) != 0
        return places - jax.lax.cummax(jnp.where(begins, places, 0), axis=mask.ndim - 1)
    return jnp.maximum(jnp.cumsum(mask.astype(jnp.int32), axis=-1) - 1, 0)


def last_token(values: Array, mask: Array) -> Array:
    """The entry at each row's last true position: [B, S, ...], bool [B, S] -> [B, ...]. Every row must have one."""
    index = values.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=-1)
    return jnp.take_along_axis(values, index.reshape(-1, *[1] * (values.ndim - 1)), axis=1)[:, 0]
