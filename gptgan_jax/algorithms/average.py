"""An exponential moving average of the generator's parameters, which is then what is evaluated."""

import jax.numpy as jnp

from gptgan_jax.algorithms.game import Game
from gptgan_jax.algorithms.learning import where_learning
from gptgan_jax.types import GanState


def averaged(game: Game, state: GanState) -> GanState:
    """With the generator's average brought up to date; its decay is ramped up, so that the start does not linger.

    What does not learn stays in it to the bit.
    """
    player = state.generator
    if player.ema is None:
        return state
    made = (state.step - state.begun).astype(jnp.float32)
    decay = jnp.minimum(game.ema_decay, made / (made + 9))
    ema = where_learning(
        lambda old, new: old + (1 - decay) * (new - old), game.learning.generator, player.ema, player.params
    )
    return state.replace(generator=player.replace(ema=ema))
