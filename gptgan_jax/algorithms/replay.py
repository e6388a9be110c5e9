"""Replay for the discriminator: texts of earlier steps among those that it learns to tell from real ones.

What it learned of earlier generators it then does not forget (Shrivastava et al. 2017, arXiv:1612.07828).
"""

import jax
import jax.numpy as jnp

from gptgan_jax.types import Array, Batch, Replay


def empty_replay(batch: Batch, size: int) -> Replay:
    """Room for `size` texts of the batch's shapes."""
    texts = jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), batch)
    return Replay(texts, jnp.int32(0))


def remember(replay: Replay, fakes: Batch) -> Replay:
    """With the texts put in, in place of the oldest."""
    size, rows = replay.texts.target.shape[0], fakes.target.shape[0]
    places = jnp.arange(rows)[-size:]  # of more texts than there is room for, the last
    slots = (replay.written + places) % size
    texts = jax.tree.map(lambda old, new: old.at[slots].set(new[places]), replay.texts, fakes)
    return Replay(texts, replay.written + rows)


def mixed_with(replay: Replay, share: float, fakes: Batch, key: Array) -> Batch:
    """The texts, a share of them replaced by earlier ones; by none as long as there are none."""
    key_rows, key_slots = jax.random.split(key)
    size, rows = replay.texts.target.shape[0], fakes.target.shape[0]
    slots = jax.random.randint(key_slots, (rows,), 0, jnp.clip(replay.written, 1, size))
    old = (jax.random.uniform(key_rows, (rows,)) < share) & (replay.written > 0)
    return jax.tree.map(
        lambda kept, new: jnp.where(old.reshape(-1, *[1] * (new.ndim - 1)), kept[slots], new), replay.texts, fakes
    )
