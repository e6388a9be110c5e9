"""A discriminator whose loss fixes only differences must not pay for the level of its logits."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gptgan_jax as gg
from gptgan_jax.types import GanState

VOCABULARY = gg.Vocabulary(size=7)
GENERATOR = gg.build_generator(gg.TransformerConfig(layers=1, width=8, heads=2, max_positions=8), VOCABULARY)
DISCRIMINATOR = gg.build_discriminator(gg.LinearConfig(embedding=4), VOCABULARY)
BATCH = gg.unconditional_batch(jnp.array([[3, 4, 2, 0], [5, 6, 3, 4], [3, 2, 0, 0], [6, 5, 4, 2]]), VOCABULARY)


@functools.cache
def compiled(relative: bool, dense: bool) -> Any:
    """An adversarial step."""
    reward = gg.rewards.relative(gg.rewards.logit) if relative else gg.rewards.logit
    gan = gg.gan_from(GENERATOR, DISCRIMINATOR, pair_loss=gg.relativistic, reward=reward, dense=dense)
    return jax.jit(gan.adversarial_step)


@functools.cache
def start() -> GanState:
    """A new state; it is the same whatever the reward."""
    return jax.jit(gg.gan_from(GENERATOR, DISCRIMINATOR).init)(jax.random.key(3), BATCH)


def step(relative: bool, dense: bool, level: float) -> tuple[GanState, dict[str, jax.Array]]:
    """One adversarial step with a discriminator all of whose logits are raised by the level."""
    state = start()
    params = jax.tree.map_with_path(
        lambda path, x: x + level if path[-1].key == "bias" else x, state.discriminator.params
    )
    return compiled(relative, dense)(state.replace(discriminator=state.discriminator.replace(params=params)), BATCH)


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("dense", [True, False])
def test_a_relative_reward_is_the_same_at_every_level_and_an_absolute_one_is_not(dense: bool) -> None:
    low, metrics_low = step(True, dense, 0.0)
    high, metrics_high = step(True, dense, 5.0)
    assert float(metrics_high["reward"]) == pytest.approx(float(metrics_low["reward"]), abs=1e-5)
    for one, other in zip(jax.tree.leaves(low.generator), jax.tree.leaves(high.generator), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)
    assert float(step(False, dense, 5.0)[1]["reward"]) == pytest.approx(float(step(False, dense, 0.0)[1]["reward"]) + 5)


@pytest.mark.thorough
def test_a_relative_reward_is_what_a_text_scores_above_the_mean_real_text() -> None:
    state = start()
    key = jax.random.split(jax.random.fold_in(state.key, state.step), 4)[0]
    write = jax.jit(lambda p: gg.sample(GENERATOR, p, key, BATCH.prompt, BATCH.prompt_mask, 4))
    written = write(state.generator.params)
    texts = BATCH.replace(target=written.tokens, target_mask=written.mask)
    real, fake = (DISCRIMINATOR.scores(state.discriminator.params, batch).sequence for batch in (BATCH, texts))
    paid = float(compiled(True, False)(state, BATCH)[1]["reward"])
    assert paid == pytest.approx(float(fake.mean() - real.mean()), abs=1e-6)
