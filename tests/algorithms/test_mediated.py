"""A step with a mediator: each player by what the other was before it, at the temperature that is written at."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import VOCABULARY, assert_trees_close, batch_of, random_params

from gptgan_jax import (
    LstmConfig,
    Player,
    TransformerDiscriminatorConfig,
    build_discriminator,
    build_generator,
    cot,
    gan_from,
    sample,
)
from gptgan_jax.types import Params

RATE, WARM = 0.5, 0.7
BATCH = batch_of(prompts=(2, 3, 1), targets=(4, 2, 3))
GENERATOR = build_generator(LstmConfig(embedding=4, hidden=4), VOCABULARY)
MEDIATOR = build_discriminator(TransformerDiscriminatorConfig(layers=1, width=8, heads=2, max_positions=16), VOCABULARY)


@pytest.mark.thorough
@pytest.mark.parametrize("future", [False, True])
def test_the_generator_follows_the_estimator_and_the_mediator_learns_both_texts_alike(future: bool) -> None:
    optimizers = {"generator_optimizer": optax.sgd(RATE), "discriminator_optimizer": optax.sgd(RATE)}
    gan = gan_from(GENERATOR, MEDIATOR, estimator=cot(future), temperature=WARM, **optimizers)
    shapes = jax.eval_shape(gan.init, jax.random.key(0), BATCH)
    players = [Player(random_params(x.params, i), None) for i, x in enumerate((shapes.generator, shapes.discriminator))]
    key = jax.random.key(3)
    state = gan.begin(shapes.replace(step=jnp.int32(0), key=key, generator=players[0], discriminator=players[1]), BATCH)
    after, metrics = jax.jit(gan.adversarial_step)(state, BATCH)

    key = jax.random.split(jax.random.fold_in(key, 0), 4)[0]
    written = sample(GENERATOR, players[0].params, key, BATCH.prompt, BATCH.prompt_mask, 4, WARM)
    fakes = BATCH.replace(target=written.tokens, target_mask=written.mask)
    assert MEDIATOR.next_logits is not None
    mediator = jax.jit(MEDIATOR.next_logits)(players[1].params, fakes)

    def loss(params: Params) -> jax.Array:
        logits = GENERATOR.logits(params, fakes) / WARM
        return cot(future).loss(logits, mediator, fakes.target, fakes.target_mask)[0]

    def nats(params: Params) -> jax.Array:
        assert MEDIATOR.next_logits is not None
        total, count = jnp.float32(0), 0
        for texts in (BATCH, fakes):
            log_probs = jax.nn.log_softmax(MEDIATOR.next_logits(params, texts))
            chosen = jnp.take_along_axis(log_probs, texts.target[..., None], axis=-1)[..., 0]
            total, count = total - (chosen * texts.target_mask).sum(), count + texts.target_mask.sum()
        return total / count

    for player, before, gradient in (
        (after.generator, players[0], jax.jit(jax.grad(loss))(players[0].params)),
        (after.discriminator, players[1], jax.jit(jax.grad(nats))(players[1].params)),
    ):
        expected = jax.tree.map(lambda x, g: x - RATE * g, before.params, gradient)
        assert_trees_close(player.params, expected, rtol=1e-4, atol=1e-5)
    assert float(metrics["discriminator_loss"]) == pytest.approx(float(jax.jit(nats)(players[1].params)), rel=1e-5)


@pytest.mark.thorough
def test_the_mediator_warms_up_on_both_texts_too() -> None:
    gan = gan_from(GENERATOR, MEDIATOR, estimator=cot())
    state = jax.jit(gan.init)(jax.random.key(0), BATCH)
    step = jax.jit(gan.discriminator_step)
    losses = []
    for _ in range(60):
        state, metrics = step(state, BATCH)
        losses.append(float(metrics["discriminator_loss"]))
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.02
