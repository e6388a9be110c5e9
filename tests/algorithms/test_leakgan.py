"""Steps with LeakGAN: the generator reads the discriminator's present features, and each part learns from its own."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import GENERATORS, VOCABULARY, assert_trees_close, batch_of, random_params

from gptgan_jax import Player, build_discriminator, build_generator, gan_from, guided, no_baseline, reinforce, rewards
from gptgan_jax.algorithms.game import Game
from gptgan_jax.algorithms.gan import begin
from gptgan_jax.algorithms.generator_update import policy_update
from gptgan_jax.algorithms.texts import Drawn
from gptgan_jax.objectives.rewards import Judgement
from gptgan_jax.types import GanState, Params, Sample

CONFIG: Any = GENERATORS["leakgan"]
GENERATOR = build_generator(CONFIG, VOCABULARY)
DISCRIMINATOR = build_discriminator(replace(CONFIG.leaked, dropout=0.2), VOCABULARY)
BATCH = batch_of(prompts=(1, 1, 1, 1), targets=(4, 2, 3, 4))
# Weight decay would move also what has no gradient.
OPTIMIZERS = {"generator_optimizer": optax.adamw(0.1, weight_decay=0.5), "discriminator_optimizer": optax.adam(0.1)}
GUIDED = guided(2, 0.5, 0.0, no_baseline())


def assert_leaked(params: Params, state: GanState) -> None:
    expected = {name: part for name, part in state.discriminator.params.items() if name != "head"}
    jax.tree.map(np.testing.assert_array_equal, params["network"]["leaked"], expected)


def gap(before: Params, after: Params) -> dict[str, float]:
    """How far each part of the generator moved."""
    old, new = before["network"], after["network"]
    moved = {name: jax.tree.map(lambda a, b: float(np.abs(a - b).max()), old[name], new[name]) for name in old}
    return {name: max(jax.tree.leaves(part)) for name, part in moved.items()}


@pytest.mark.parametrize("updates", [1, 2])
def test_after_each_step_the_generator_reads_the_discriminator_as_it_is(updates: int) -> None:
    options: dict[str, Any] = {"dense": False, "ema_decay": 0.9, "discriminator_updates": updates, **OPTIMIZERS}
    gan = gan_from(GENERATOR, DISCRIMINATOR, estimator=GUIDED, likelihood_weight=0.1, **options)
    state = gan.init(jax.random.key(0), BATCH)
    assert_leaked(state.generator.params, state)
    for step, learners in (
        (gan.likelihood_step, {"manager", "direction", "worker", "embedding", "told", "head"}),
        (gan.discriminator_step, {"leaked"}),
        (gan.adversarial_step, {"manager", "direction", "worker", "embedding", "told", "head", "leaked"}),
    ):
        before = state
        state, metrics = jax.jit(step)(state, BATCH)
        assert_leaked(state.generator.params, state)
        assert state.generator.ema is not None
        assert_leaked(state.generator.ema, state)
        moved = gap(before.generator.params, state.generator.params)
        assert {name for name, size in moved.items() if size > 0} == learners
        assert all(np.isfinite(x) for x in metrics.values())
    assert "intrinsic_reward" in metrics


def test_a_phase_begins_with_the_discriminators_features() -> None:
    gan = gan_from(GENERATOR, DISCRIMINATOR, estimator=reinforce(), **OPTIMIZERS)
    state = gan.init(jax.random.key(0), BATCH)
    other = random_params(state.discriminator.params)
    state = gan.begin(state.replace(discriminator=Player(other, None)), BATCH)
    assert_leaked(state.generator.params, state)


def test_the_reference_is_the_generator_with_which_a_phase_begins_with_the_features_that_it_reads() -> None:
    gan = gan_from(GENERATOR, DISCRIMINATOR, estimator=reinforce(), kl_weight=0.3, ema_decay=0.9, **OPTIMIZERS)
    state = gan.init(jax.random.key(0), BATCH)
    later = gan.begin(state.replace(discriminator=Player(random_params(state.discriminator.params), None)), BATCH)
    for begun in (state, later):
        assert_trees_close(begun.reference, begun.generator.params, rtol=0, atol=0)
        assert_trees_close(begun.generator.ema, begun.generator.params, rtol=0, atol=0)
        assert abs(float(jax.jit(gan.adversarial_step)(begun, BATCH)[1]["kl"])) < 1e-6


def test_likelihood_and_goals_of_real_text_are_one_loss_each() -> None:
    gan = gan_from(GENERATOR, DISCRIMINATOR, generator_optimizer=optax.sgd(1.0))
    state = gan.init(jax.random.key(0), BATCH)
    params, guidance = state.generator.params, GENERATOR.guidance
    assert guidance is not None
    tokens = BATCH.target_mask.sum()

    def loss(params: Params) -> jax.Array:
        log_probs = jax.nn.log_softmax(GENERATOR.logits(params, BATCH))
        chosen = jnp.take_along_axis(log_probs, BATCH.target[..., None], axis=-1)[..., 0]
        return -(jnp.where(BATCH.target_mask, chosen, 0) + guidance(params, BATCH).followed).sum() / tokens

    after, metrics = jax.jit(gan.likelihood_step)(state, BATCH)
    assert_trees_close(after.generator.params, jax.tree.map(lambda x, g: x - g, params, jax.grad(loss)(params)), 1e-5)
    np.testing.assert_allclose(metrics["goals_loss"], -guidance(params, BATCH).followed.sum() / tokens, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"] + metrics["goals_loss"], loss(params), rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_update_is_the_gradient_of_both_losses_at_the_temperature_of_sampling(temperature: float) -> None:
    """Without rollouts the value of a text's last token is its score, of the others 0; a goal is of the next token."""
    estimator, generator = GUIDED._replace(rollouts=0), build_generator(replace(CONFIG, horizon=1), VOCABULARY)
    game = Game(
        generator,
        DISCRIMINATOR,
        estimator,
        reward=rewards.logit,
        dense=False,
        temperature=temperature,
        likelihood_weight=0.3,
        generator_optimizer=optax.sgd(1.0),
    )
    state = gan_from(generator, DISCRIMINATOR).init(jax.random.key(0), BATCH)
    state = state.replace(generator=Player(random_params(state.generator.params), None))
    state = begin(game, state, BATCH)
    params, guidance = state.generator.params, generator.guidance
    assert guidance is not None
    others = batch_of(prompts=(1, 1, 1, 1), targets=(3, 4, 2, 4), seed=5)
    texts = BATCH.replace(target=others.target, target_mask=others.target_mask)
    scores = jnp.array([[0.7], [-0.4], [1.3], [0.2]])
    last = texts.target_mask & (jnp.arange(4) == texts.target_mask.sum(axis=1, keepdims=True) - 1)
    values, intrinsic = scores * last, guidance(params, texts).intrinsic

    def log_probs(params: Params, batch: Any, warmth: float) -> jax.Array:
        logits = jax.nn.log_softmax(generator.logits(params, batch) / warmth)
        chosen = jnp.take_along_axis(logits, batch.target[..., None], axis=-1)[..., 0]
        return jnp.where(batch.target_mask, chosen, 0)

    def loss(params: Params) -> jax.Array:
        worker = -((values + intrinsic) / 2 * log_probs(params, texts, temperature)).sum() / 4
        manager = -(values * guidance(params, texts).followed).sum() / 4
        real = -(log_probs(params, BATCH, 1.0) + guidance(params, BATCH).followed).sum() / 4
        return worker + manager + 0.3 * real

    written = Sample(texts.target, texts.target_mask, jnp.zeros((4, 4)))
    judgement = Judgement(scores, jnp.ones((4, 1), bool), scores, jnp.ones((4, 1), bool))
    player, _, _ = policy_update(game, estimator, state, BATCH, Drawn(written), judgement, jax.random.key(2))
    assert_trees_close(player.params, jax.tree.map(lambda x, g: x - g, params, jax.grad(loss)(params)), 1e-5)
