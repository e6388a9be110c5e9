"""Hyper-parameters that are numbers may be traced: a training is a function of them, and many are one program."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import VOCABULARY, assert_trees_differ, batch_of

import gptgan_jax as gg

GENERATOR = gg.build_generator(gg.LstmConfig(hidden=4, embedding=4), VOCABULARY)
DISCRIMINATOR = gg.build_discriminator(gg.LinearConfig(embedding=4), VOCABULARY)
BATCH = batch_of(prompts=(1, 3, 2, 2), targets=(4, 2, 3, 4))
gan_of = functools.partial(gg.gan_from, GENERATOR, DISCRIMINATOR)
Build = Callable[..., gg.Gan]


def rates(generator: gg.Number, discriminator: gg.Number) -> dict[str, Any]:
    return {
        "generator_optimizer": optax.adam(generator),
        "discriminator_optimizer": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(discriminator)),
    }


def paid_by_length(written: gg.Sample, batch: gg.Batch) -> jax.Array:
    return written.mask.sum(axis=1, dtype=jnp.float32)


def of_policy_gradient(rate: gg.Number, weight: gg.Number, share: gg.Number, temperature: gg.Number) -> gg.Gan:
    """Everything that goes together with REINFORCE."""
    return gan_of(
        estimator=gg.reinforce(discount=share, baseline=gg.moving_average(share)),
        pair_loss=functools.partial(gg.non_saturating, smoothing=weight),
        temperature=temperature,
        entropy_weight=weight,
        likelihood_weight=weight,
        kl_weight=weight,
        kl_estimator="reward",
        r1_weight=weight,
        r2_weight=weight,
        replay_size=4,
        replay_share=share,
        ema_decay=share,
        demonstrations=gg.Demonstrations(share, reward=weight, steps=3),
        text_rewards=(gg.TextReward("length", paid_by_length, weight),),
        reward_scaling="batch",
        discriminator_reward_weight=share,
        real_fake_weight=share,
        **rates(rate, 2 * rate),
    )


def of_ppo(rate: gg.Number, weight: gg.Number, share: gg.Number, temperature: gg.Number) -> gg.Gan:
    estimator = gg.ppo(discount=share, baseline=gg.learned_value(rate), clip=share, epochs=2)
    return gan_of(
        estimator=estimator,
        reward=gg.rewards.ranked(temperature),
        temperature=temperature,
        kl_weight=weight,
        gradient_penalty_weight=weight,
        **rates(rate, rate),
    )


def of_grpo(rate: gg.Number, weight: gg.Number, share: gg.Number, temperature: gg.Number) -> gg.Gan:
    options = rates(rate, rate) | {"temperature": temperature, "kl_weight": weight, "kl_estimator": "low_variance"}
    return gan_of(estimator=gg.grpo(2, discount=share, clip=share), **options)


def of_relaxed_tokens(rate: gg.Number, weight: gg.Number, share: gg.Number, temperature: gg.Number) -> gg.Gan:
    return gan_of(estimator=gg.gumbel(temperature), temperature=share, entropy_weight=weight, **rates(rate, rate))


def of_self_play(rate: gg.Number, weight: gg.Number, share: gg.Number, temperature: gg.Number) -> gg.Gan:
    return gan_of(estimator=gg.spin(scale=weight), temperature=temperature, ema_decay=share, **rates(rate, rate))


LANES = np.array([[0.02, 0.1, 0.5, 0.8], [0.05, 0.3, 0.9, 1.3]], np.float32)
BUILDS: list[Any] = [of_policy_gradient]
BUILDS += [pytest.param(one, marks=pytest.mark.thorough) for one in (of_ppo, of_grpo, of_relaxed_tokens, of_self_play)]


def trained(build: Build, key: jax.Array, *numbers: gg.Number) -> tuple[Any, Any]:
    """The parameters of both players after a short training, and the gradient's norm in its adversarial steps."""
    gan = build(*numbers)
    state, _ = gan.likelihood_step(gan.init(key, BATCH), BATCH)
    state, metrics = jax.lax.scan(
        lambda state, _: gan.adversarial_step(state, BATCH), gan.begin(state, BATCH), length=3
    )
    return (state.generator.averaged, state.discriminator.params), metrics["gradient_norm"]


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("build", BUILDS)
def test_a_training_among_others_of_other_seeds_and_numbers_is_that_training_alone(build: Build) -> None:
    """The one alone is built of Python's numbers, so that what is traced is compared with what is known."""
    keys = jax.random.split(jax.random.key(3), len(LANES))
    at_once = jax.jit(jax.vmap(functools.partial(trained, build)))(keys, *LANES.T)
    alone = jax.jit(lambda: trained(build, keys[1], *map(float, LANES[1])))()
    for found, expected in zip(jax.tree.leaves(at_once), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(found[1], expected, rtol=2e-3, atol=2e-5)
    assert_trees_differ(*(jax.tree.map(lambda x, i=i: x[i], at_once[0][0]) for i in range(2)))


@pytest.mark.thorough
def test_a_weight_of_0_among_others_is_the_training_without_it() -> None:
    def weighted(weight: gg.Number) -> Any:
        return trained(lambda: gan_of(kl_weight=weight, **rates(0.05, 0.05)), jax.random.key(0))[0][0]

    found = jax.jit(jax.vmap(weighted))(jnp.array([0.0, 0.5]))
    for lanes, expected in zip(jax.tree.leaves(found), jax.tree.leaves(jax.jit(lambda: weighted(0.0))()), strict=True):
        np.testing.assert_allclose(lanes[0], expected, rtol=1e-3, atol=1e-6)
    assert_trees_differ(*(jax.tree.map(lambda x, i=i: x[i], found) for i in range(2)))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda x: gan_of(replay_size=x), "replay_size makes shapes, so it can't be traced"),
        (lambda x: gan_of(estimator=gg.rloo(x)), "estimator.samples makes shapes"),
        (lambda x: gg.distill(beta=x), "beta makes shapes"),
        (lambda x: gg.distill(on_policy=x), "on_policy makes shapes"),
        (lambda x: gan_of(kl_weight=jnp.ones(2) * x), r"kl_weight should be one number, not an array of shape \[2\]"),
    ],
)
def test_a_number_that_makes_shapes_and_an_array_are_refused_when_traced(build: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        jax.eval_shape(lambda x: build(x) and None, jnp.float32(2))
