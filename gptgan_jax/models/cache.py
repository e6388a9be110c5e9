"""A generator's cache of the tokens it has read: keys and values of texts and of shared prompts, or a recurrent state.

Dimensions: B rows, S slots, K key/value heads, E head width; P tokens of a prompt, R = B N where N texts answer each.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from gptgan_jax.distributed.partitioning import constrain, is_for_tpu
from gptgan_jax.types import Array

Kept = Array | tuple[Array, Array]
"""Keys and values [B, K, S, E] of a layer, or both side by side, [B, K, S, 2E]."""


def kept(keys: Array, values: Array) -> Kept:
    """Keys and values in the layout for a decoding loop.

    A TPU pads the last dimension to 128 lanes, which would double the memory of heads of 64, so there keys and values
    are stored side by side. A CPU multiplies separate matrices without copying them.
    """
    return jnp.concatenate([keys, values], axis=-1) if is_for_tpu() else (keys, values)


def keys_and_values(of: Kept) -> tuple[Array, Array]:
    """The inverse of `kept`."""
    if isinstance(of, tuple):
        return of
    keys, values = jnp.split(of, 2, axis=-1)
    return keys, values


def written(of: Kept, keys: Array, values: Array, index: Array) -> Kept:
    """With the keys and values of new tokens, [B, K, T, E], in the slots from `index` on."""
    new = (keys, values) if isinstance(of, tuple) else jnp.concatenate([keys, values], axis=-1)
    return jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, index, axis=2), of, new)


class Cache(struct.PyTreeNode):
    """Keys and values of a decoding in progress.

    Attributes:
        layers: per decoder layer {"own"}, the keys and values of its slots (and {"cross"}, of the encoder's P tokens);
            with scan_layers one such dict with a leading layer axis. Heads come before slots, as the attention products
            need them: otherwise every decoded token would transpose the whole cache. For texts that share prompts,
            "own" has R rows, and the keys and values of the prompts are stored once, {"prompt"} of [B, K, P, E], as are
            those of the cross-attention.
        mask: bool [B, S], the slots that hold a token; [R, S] for texts that share prompts.
        index: int32 [], the next slot to write.
        context_mask: bool [B, P], which prompt tokens the cross-attention sees; None without an encoder.
        prompt_mask: bool [B, P], which slots of shared prompts hold a token; None if no prompts are shared.
    """

    layers: Any
    mask: Array
    index: Array
    context_mask: Array | None
    prompt_mask: Array | None = None

    def repeat(self, count: int) -> "Cache":
        """Each row `count` times, copies next to each other."""
        if self.prompt_mask is not None:
            raise ValueError("a cache whose rows have their prompts in common is not repeated")
        return self.replace(
            layers=jax.tree.map(lambda x: jnp.repeat(x, count, axis=-4), self.layers),
            mask=jnp.repeat(self.mask, count, axis=0),
            context_mask=None if self.context_mask is None else jnp.repeat(self.context_mask, count, axis=0),
        )

    def of_prompts(self) -> "Cache":
        """The cache with its content as prompts to be shared, and without own slots."""

        def layer(parts: dict[str, Kept]) -> dict[str, Kept]:
            return {"prompt" if name == "own" else name: x for name, x in parts.items()}

        return Cache(
            self._each_layer(layer), jnp.zeros((0, 0), bool), jnp.int32(0), self.context_mask, prompt_mask=self.mask
        )

    def branched(self, count: int, slots: int) -> "Cache":
        """The cache for `count` texts, neighbours, that continue each row, with empty slots of their own."""

        def layer(parts: dict[str, Kept]) -> dict[str, Kept]:
            keys, values = keys_and_values(parts["prompt"])
            *lead, rows, heads, _, size = keys.shape
            empty = jnp.zeros((*lead, rows * count, heads, slots, size), keys.dtype)
            empty = constrain(empty, *[None] * len(lead), "rows", "heads", None, None)
            return parts | {"prompt": kept(keys, values), "own": kept(empty, empty)}

        prompts = self.of_prompts()
        return prompts.replace(
            layers=prompts._each_layer(layer), mask=jnp.zeros((self.mask.shape[0] * count, slots), bool)
        )

    def prompt_lengths(self, rows: int) -> Array:
        """int32 [R]: the number of prompt tokens of each row."""
        assert self.prompt_mask is not None
        lengths = self.prompt_mask.sum(axis=1, dtype=jnp.int32)
        return jnp.repeat(lengths, rows // lengths.shape[0], total_repeat_length=rows)

    def resized(self, by: int) -> "Cache":
        """The cache with room for `by` more tokens, or for fewer if `by` is negative; removed slots must be empty."""

        def of(x: Array, axis: int) -> Array:
            pad = [(0, max(by, 0) if i == axis % x.ndim else 0) for i in range(x.ndim)]
            return jnp.pad(jax.lax.slice_in_dim(x, 0, min(by, 0) or None, axis=axis), pad)

        def layer(parts: dict[str, Kept]) -> dict[str, Kept]:
            return parts | {"own": jax.tree.map(lambda x: of(x, -2), parts["own"])}

        return self.replace(layers=self._each_layer(layer), mask=of(self.mask, 1))

    def _each_layer(self, change: Any) -> Any:
        return change(self.layers) if isinstance(self.layers, dict) else tuple(map(change, self.layers))


class RecurrentCache(struct.PyTreeNode):
    """The state of a recurrent network: arrays [B, ...] whose size does not depend on the number of tokens."""

    states: Any

    def repeat(self, count: int) -> "RecurrentCache":
        """Each row `count` times, copies next to each other."""
        return jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), self)
