"""Attention: with all its scores in memory, or by kernels that hold a block of them at a time.

Dimensions: B batch, T new tokens, S attended slots, K key/value heads, G query heads of each, E head width; with N
texts for each of B prompts of P tokens, R = B N.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax.extend.backend import get_backend

from gptgan_jax.distributed.partitioning import on_each_device
from gptgan_jax.types import Array

BLOCK = 128
"""The smallest block of a kernel, in tokens; shorter texts gain nothing from it."""


def attend(queries_BTKGE: Array, keys_BKSE: Array, values_BKSE: Array, mask_BTS: Array) -> Array:
    """Grouped-query scaled dot-product attention with the softmax in float32.

    An all-false row of the mask, which is padding, gives the mean of the values rather than NaN.

    Returns:
        [B, T, K, G, E].
    """
    scale = queries_BTKGE.shape[-1] ** -0.5
    if queries_BTKGE.shape[1] == 1:
        return _attend_once(queries_BTKGE[:, 0] * scale, keys_BKSE, values_BKSE, mask_BTS)[:, None]
    scores = jnp.einsum("btkge,bkse->bkgts", queries_BTKGE * scale, keys_BKSE, preferred_element_type=jnp.float32)
    scores = jnp.where(mask_BTS[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(values_BKSE.dtype)
    return jnp.einsum("bkgts,bkse->btkge", weights, values_BKSE)


def _attend_once(queries_BKGE: Array, keys_BKSE: Array, values_BKSE: Array, mask_B1S: Array) -> Array:
    """`attend` for one token per row, with scaled queries, as matrix products that need no transposes.

    With several query heads per key head, the products of `attend` took three times as long on a CPU, because XLA
    transposed the weights and the result.
    """
    scores = jnp.matmul(queries_BKGE, keys_BKSE.swapaxes(2, 3), preferred_element_type=jnp.float32)
    scores = jnp.where(mask_B1S[:, None], scores, jnp.finfo(jnp.float32).min)
    return jnp.matmul(jax.nn.softmax(scores, axis=-1).astype(values_BKSE.dtype), values_BKSE)


def attend_beside(
    queries_RTKGE: Array,
    prompt_keys_BKPE: Array,
    prompt_values_BKPE: Array,
    prompt_mask_BP: Array,
    keys_RKSE: Array,
    values_RKSE: Array,
    mask_RTS: Array,
) -> Array:
    """`attend` of texts to the cached keys and values of their prompt, shared by N adjacent texts, and to their own.

    One softmax covers both. The queries of a prompt's texts are the rows of one matrix product, so its keys and values
    are read once and never copied (Juravsky et al. 2024, arXiv:2402.05099); their gradient is the sum over the texts.
    No row of `mask_RTS` may be all false.

    Returns:
        [R, T, K, G, E].
    """
    rows, length, kv_heads, group, size = queries_RTKGE.shape
    prompts = prompt_keys_BKPE.shape[0]
    least, of_float = jnp.finfo(jnp.float32).min, {"preferred_element_type": jnp.float32}
    queries_RTKGE = queries_RTKGE * size**-0.5
    queries_BNTKGE = queries_RTKGE.reshape(prompts, -1, length, kv_heads, group, size)
    # Scores keep the layouts of their products, [B, K, N, T, G, P] and [R, K, T, G, S]; only their sums are combined.
    of_prompt = jnp.einsum("bntkge,bkpe->bkntgp", queries_BNTKGE, prompt_keys_BKPE, **of_float)
    of_prompt = jnp.where(prompt_mask_BP[:, None, None, None, None], of_prompt, least)
    of_own = jnp.einsum("rtkge,rkse->rktgs", queries_RTKGE, keys_RKSE, **of_float)
    of_own = jnp.where(mask_RTS[:, None, :, None], of_own, least)

    def by_prompt(x_RKTG: Array) -> Array:
        return x_RKTG.reshape(prompts, -1, *x_RKTG.shape[1:]).swapaxes(1, 2)

    def by_text(x_BKNTG: Array) -> Array:
        return x_BKNTG.swapaxes(1, 2).reshape(rows, *x_BKNTG.shape[1:2], *x_BKNTG.shape[3:])

    largest = jax.lax.stop_gradient(jnp.maximum(by_text(of_prompt.max(axis=-1)), of_own.max(axis=-1)))
    of_prompt = jnp.exp(of_prompt - by_prompt(largest)[..., None])
    of_own = jnp.exp(of_own - largest[..., None])
    total = by_text(of_prompt.sum(axis=-1)) + of_own.sum(axis=-1)
    mixed = by_text(jnp.einsum("bkntgp,bkpe->bkntge", of_prompt.astype(prompt_values_BKPE.dtype), prompt_values_BKPE))
    mixed += jnp.einsum("rktgs,rkse->rktge", of_own.astype(values_RKSE.dtype), values_RKSE)
    return (mixed / total[..., None].astype(mixed.dtype)).swapaxes(1, 2)


def causal_mask(filled: Array, length: int, window: int | None = None) -> Array:
    """The causal mask of the first `length` positions over the filled slots: bool [B, S] -> bool [B, length, S].

    Padding sees itself, so that no row is empty: an empty one would average over all slots, including future ones.

    Args:
        window: the number of most recent slots that each position sees; None: all.
    """
    slots = filled.shape[1]
    return _past(length, slots, window) & filled[:, None, :] | jnp.eye(length, slots, dtype=bool)


def mask_of(tokens_BT: Array, causal: bool, window: int | None = None) -> Array:
    """The attention mask between the tokens of whole texts: bool [B, T] -> bool [B, T, T].

    For segments, int32 [B, T] (see `types.Packed`), tokens see only their own segment.
    """
    length = tokens_BT.shape[1]
    if tokens_BT.dtype != bool:
        same = tokens_BT[:, :, None] == tokens_BT[:, None, :]
        return same & _past(length, length, window) if causal else same
    if causal:
        return causal_mask(tokens_BT, length, window)
    return jnp.broadcast_to(tokens_BT[:, None, :], (*tokens_BT.shape, length))


def _past(length: int, slots: int, window: int | None) -> Array:
    """Whether each slot is at or before each of the first `length`, and in its window: bool [length, slots]."""
    past = jnp.tril(jnp.ones((length, slots), bool))
    return past if window is None else past & ~jnp.tril(past, -window)


def flash_attend(
    queries_BTKGE: Array, keys_BKTE: Array, values_BKTE: Array, tokens_BT: Array, causal: bool = True
) -> Array:
    """`attend` within whole texts, without their T x T scores in memory (Dao et al. 2022, arXiv:2205.14135).

    Uses JAX's Splash attention on a TPU and cuDNN on an NVIDIA GPU, both in bfloat16 and without second derivatives.
    Elsewhere it uses `attend`, and recomputes its scores in the backward pass. Texts shorter than `BLOCK` use `attend`
    on every device. Over a mesh each device computes its own texts and heads.

    Args:
        queries_BTKGE, keys_BKTE, values_BKTE: of all tokens.
        tokens_BT: bool, False for padding; the tokens of a row are contiguous. The results for padding differ from
            those of `attend`. Or int32, the segments of packed rows, for which `attend` replaces cuDNN's kernel, as
            that does not support them.
        causal: whether a token sees only those before it, and itself.

    Returns:
        [B, T, K, G, E].
    """
    arrays = queries_BTKGE, keys_BKTE, values_BKTE, tokens_BT
    if queries_BTKGE.shape[1] < BLOCK:
        return _in_full(*arrays, causal=causal)
    kernels = {"tpu": partial(splash, causal=causal)}
    if tokens_BT.dtype == bool and _cudnn_takes(queries_BTKGE.shape[-1]):  # tracing this kernel needs such a GPU
        kernels["cuda"] = partial(cudnn, causal=causal)

    def of_a_device(*parts: Array) -> Array:
        # A conditional keeps the residuals of all its branches, so those of the last should only be its arguments.
        return jax.lax.platform_dependent(*parts, default=jax.checkpoint(partial(_in_full, causal=causal)), **kernels)

    queries, keys = ("rows", None, "heads", None, None), ("rows", "heads", None, None)
    return on_each_device(of_a_device, arrays, (queries, keys, keys, ("rows", None)))


def splash(
    queries_BTKGE: Array,
    keys_BKTE: Array,
    values_BKTE: Array,
    tokens_BT: Array,
    causal: bool = True,
    interpret: bool = False,
) -> Array:
    """As `flash_attend`, by the Pallas kernel for TPUs; with `interpret` it runs anywhere, slowly."""
    # Imported here because it takes a tenth of a second, and most programs do not need it.
    from jax.experimental.pallas.ops.tpu import splash_attention as kernels

    batch, length, kv_heads, group, size = queries_BTKGE.shape
    block = block_of(length)
    added = -length % block
    slots = length + added
    sizes = kernels.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    mask = (kernels.CausalMask if causal else kernels.FullMask)((slots, slots))
    heads = kernels.MultiHeadMask([mask] * (kv_heads * group))
    kernel = kernels.make_splash_mha_single_device(heads, block_sizes=sizes, interpret=interpret)
    # [B, T, K, G, E] -> [B, H, T, E]; the kernel does not scale.
    queries = (queries_BTKGE * size**-0.5).reshape(batch, length, kv_heads * group, size).swapaxes(1, 2)
    queries, keys, values = (
        jnp.pad(x, ((0, 0), (0, 0), (0, added), (0, 0))) for x in (queries, keys_BKTE, values_BKTE)
    )
    # Tokens see those of their own segment: the text is one, all padding the other.
    segments = jnp.pad(tokens_BT, ((0, 0), (0, added))).astype(jnp.int32)
    mixed = jax.vmap(kernel)(queries, keys, values, kernels.SegmentIds(segments, segments))
    return mixed[:, :, :length].swapaxes(1, 2).reshape(queries_BTKGE.shape)


def block_of(length: int) -> int:
    """Tokens of a block: the largest whose padded length is at most a quarter more than that of the smallest block.

    Splash needs texts whose length is a multiple of the block, so they are padded. No block is larger than 512: 2,048
    overflow a TPU's VMEM.
    """

    def slots(block: int) -> int:
        return -(-length // block) * block

    return max(size for size in range(BLOCK, 4 * BLOCK + 1, BLOCK) if 4 * slots(size) <= 5 * slots(BLOCK))


def cudnn(
    queries_BTKGE: Array,
    keys_BKTE: Array,
    values_BKTE: Array,
    tokens_BT: Array,
    causal: bool = True,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Array:
    """As `flash_attend`, by cuDNN; `implementation` "xla" is the same call without it.

    A mask would be an array of T x T. So each text, whose tokens are contiguous, is moved to the front of its row.
    """
    batch, length, *_, size = queries_BTKGE.shape
    first, places = jnp.argmax(tokens_BT, axis=1)[:, None], jnp.arange(length)
    forth, back = (places + first) % length, (places - first) % length
    queries, keys, values = (
        jnp.take_along_axis(x, forth[:, :, None, None], axis=1)
        for x in (queries_BTKGE.reshape(batch, length, -1, size), keys_BKTE.swapaxes(1, 2), values_BKTE.swapaxes(1, 2))
    )
    lengths = jnp.maximum(tokens_BT.sum(axis=1, dtype=jnp.int32), 1)
    mixed = jax.nn.dot_product_attention(
        queries,
        keys,
        values,
        is_causal=causal,
        query_seq_lengths=lengths,
        key_value_seq_lengths=lengths,
        implementation=implementation,
    )
    return jnp.take_along_axis(mixed, back[:, :, None, None], axis=1).reshape(queries_BTKGE.shape)


def _cudnn_takes(head_size: int) -> bool:
    """Whether there is a GPU whose kernel supports this head size: from Ampere on, twice the size from Hopper on."""
    backend = get_backend()
    if "cuda" not in backend.platform_version:
        return False
    capability = float(backend.local_devices()[0].compute_capability)
    return capability >= 8 and head_size <= (256 if capability >= 9 else 128)


def _in_full(queries_BTKGE: Array, keys_BKTE: Array, values_BKTE: Array, tokens_BT: Array, causal: bool) -> Array:
    return attend(queries_BTKGE, keys_BKTE, values_BKTE, mask_of(tokens_BT, causal))
