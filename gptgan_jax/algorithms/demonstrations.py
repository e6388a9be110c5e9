"""Demonstrations (TextGAIL, Wu et al. 2021, arXiv:2004.13796): real texts among those the generator learns from."""

import jax
import jax.numpy as jnp

from gptgan_jax.algorithms.game import Game
from gptgan_jax.algorithms.texts import repeated
from gptgan_jax.objectives.rewards import is_last
from gptgan_jax.types import Array, Batch, GanState, Sample


def with_demonstrations(
    game: Game,
    state: GanState,
    batch: Batch,
    written: Sample,
    rewards: Array,
    key: Array,
) -> tuple[Sample, Array, Array]:
    """Some texts replaced by real ones, and the share of them."""
    demonstrations = game.demonstrations
    assert demonstrations is not None
    made = (state.step - state.begun).astype(jnp.float32)
    share = demonstrations.share * jnp.clip(1 - made / demonstrations.steps, 0.0, 1.0)
    real = repeated(batch, game.samples)
    taken = (jax.random.uniform(key, (written.mask.shape[0],)) < share)[:, None]
    # Rollouts take rewards for values: there every token is worth what the text is paid.
    paid_at = jnp.ones(written.mask.shape) if game.pays_values else is_last(real.target_mask)
    replaced = Sample(
        tokens=jnp.where(taken, real.target, written.tokens),
        mask=jnp.where(taken, real.target_mask, written.mask),
        log_probs=written.log_probs,
    )
    return replaced, jnp.where(taken, demonstrations.reward * paid_at, rewards), taken.mean()
