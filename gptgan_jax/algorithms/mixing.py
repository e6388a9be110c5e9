"""Mixing texts: real ones into the generator's, and those of earlier steps into the discriminator's.

Demonstrations: TextGAIL (Wu et al. 2021, arXiv:2004.13796). Replay keeps the discriminator from forgetting earlier
generators (Shrivastava et al. 2017, arXiv:1612.07828).
"""

import jax
import jax.numpy as jnp

from gptgan_jax.algorithms.game import Game
from gptgan_jax.algorithms.texts import repeated, texts_alone
from gptgan_jax.objectives.rewards import is_last
from gptgan_jax.types import Array, Batch, GanState, Number, Replay, Sample


def with_demonstrations(
    game: Game,
    state: GanState,
    batch: Batch,
    written: Sample,
    rewards: Array,
    key: Array,
) -> tuple[Sample, Array, Array]:
    """Replaces some texts by real ones; returns texts, rewards, and the share of real ones."""
    demonstrations = game.demonstrations
    assert demonstrations is not None
    made = (state.step - state.begun).astype(jnp.float32)
    share = demonstrations.share * jnp.clip(1 - made / demonstrations.steps, 0.0, 1.0)
    real = repeated(batch, game.samples)
    taken = (jax.random.uniform(key, (written.mask.shape[0],)) < share)[:, None]
    # With rollouts, rewards are values: every token then has the reward of the text.
    paid_at = jnp.ones(written.mask.shape) if game.pays_values else is_last(real.target_mask)
    replaced = Sample(
        tokens=jnp.where(taken, real.target, written.tokens),
        mask=jnp.where(taken, real.target_mask, written.mask),
        log_probs=written.log_probs,
    )
    return replaced, jnp.where(taken, demonstrations.reward * paid_at, rewards), taken.mean()


def empty_replay(batch: Batch, size: int) -> Replay:
    """Room for `size` texts of the batch's shapes."""
    texts = jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), texts_alone(batch))
    return Replay(texts, jnp.int32(0))


def remember(replay: Replay, fakes: Batch) -> Replay:
    """Adds the texts to the replay, in place of the oldest."""
    size, rows = replay.texts.target.shape[0], fakes.target.shape[0]
    places = jnp.arange(rows)[-size:]  # the last ones, if there are more texts than slots
    slots = (replay.written + places) % size
    texts = jax.tree.map(lambda old, new: old.at[slots].set(new[places]), replay.texts, fakes)
    return Replay(texts, replay.written + rows)


def mixed_with(replay: Replay, share: Number, fakes: Batch, key: Array) -> Batch:
    """The texts with a share of them replaced by earlier ones, once there are any."""
    key_rows, key_slots = jax.random.split(key)
    size, rows = replay.texts.target.shape[0], fakes.target.shape[0]
    slots = jax.random.randint(key_slots, (rows,), 0, jnp.clip(replay.written, 1, size))
    old = (jax.random.uniform(key_rows, (rows,)) < share) & (replay.written > 0)
    return jax.tree.map(
        lambda kept, new: jnp.where(old.reshape(-1, *[1] * (new.ndim - 1)), kept[slots], new), replay.texts, fakes
    )
