"""Wherever a number goes wrong, the step changes nothing but the count of steps, and the next one is made again."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import VOCABULARY, batch_of

from gptgan_jax import (
    Batch,
    Gan,
    GanState,
    LinearConfig,
    LstmConfig,
    build_discriminator,
    build_generator,
    gan_from,
    ppo,
    reinforce,
    skipping,
)
from gptgan_jax.algorithms.guards import SKIPPED
from gptgan_jax.gradients.families import PolicyGradient
from gptgan_jax.objectives.discrimination import non_saturating
from gptgan_jax.objectives.rewards import sigmoid

GOOD, BAD = batch_of(targets=(4, 2, 3)), batch_of(targets=(1, 1, 1))
GENERATOR = build_generator(LstmConfig(layers=1, embedding=4, hidden=4), VOCABULARY)
DISCRIMINATOR = build_discriminator(LinearConfig(embedding=4), VOCABULARY)
EVERYTHING = {"ema_decay": 0.9, "replay_size": 8, "kl_weight": 0.1}
HUGE = 1e6


def is_bad(real_mask: jax.Array) -> jax.Array:
    """The bad batch is known by its texts, each of one token."""
    return real_mask.sum() == real_mask.shape[0]


@jax.custom_vjp
def with_broken_gradient(x: jax.Array, broken: jax.Array) -> jax.Array:
    return x


with_broken_gradient.defvjp(
    lambda x, broken: (x, broken), lambda broken, gradient: (jnp.where(broken, jnp.nan, gradient), None)
)


def paid(value: float) -> Callable[..., jax.Array]:
    """A reward that is `value` for the bad batch."""
    return lambda judgement, key: jnp.where(is_bad(judgement.real_mask), value, sigmoid(judgement, key))


def with_loss(estimator: PolicyGradient, changed: Callable[..., jax.Array]) -> PolicyGradient:
    """An estimator whose loss is another where rewards are huge."""

    def loss(log_probs: jax.Array, experience: Any, advantages: jax.Array) -> jax.Array:
        broken = experience.rewards.max() >= HUGE
        return changed(estimator.loss, broken, log_probs, experience, jnp.where(broken, 1.0, advantages))

    return estimator._replace(loss=loss)


def nan_loss(loss: Any, broken: Any, log_probs: Any, experience: Any, advantages: Any) -> jax.Array:
    return jnp.where(broken, jnp.nan, 1.0) * loss(log_probs, experience, advantages)


def nan_gradient(loss: Any, broken: Any, log_probs: Any, experience: Any, advantages: Any) -> jax.Array:
    return loss(with_broken_gradient(log_probs, broken), experience, advantages)


def nan_ratio(loss: Any, broken: Any, log_probs: Any, experience: Any, advantages: Any) -> jax.Array:
    was = jnp.where(broken, jnp.nan, experience.sample.log_probs)
    return loss(log_probs, experience._replace(sample=experience.sample.replace(log_probs=was)), advantages)


def nan_pair_loss(real: jax.Array, real_mask: jax.Array, fake: jax.Array, fake_mask: jax.Array) -> jax.Array:
    return jnp.where(is_bad(real_mask), jnp.nan, 1.0) * non_saturating(real, real_mask, fake, fake_mask)


def infinite_logits(*arguments: Any) -> jax.Array:
    logits = GENERATOR.logits(*arguments)
    return jnp.where(is_bad(arguments[1].target_mask), jnp.inf, 1.0) * logits


def adversarial(**options: Any) -> tuple[Gan, str]:
    return gan_from(GENERATOR, DISCRIMINATOR, **(EVERYTHING | {"estimator": reinforce(0.9)} | options)), (
        "adversarial_step"
    )


# What goes wrong, and the metrics that show it; none where it shows in the parameters alone.
CASES: dict[str, tuple[tuple[Gan, str], set[str]]] = {
    "the likelihood loss": (
        (gan_from(GENERATOR._replace(logits=infinite_logits, weighted_nats=None), DISCRIMINATOR), "likelihood_step"),
        {"loss", "gradient_norm"},
    ),
    "the pair loss of the warm-up": (
        (gan_from(GENERATOR, DISCRIMINATOR, pair_loss=nan_pair_loss), "discriminator_step"),
        {"discriminator_loss", "discriminator_gradient_norm"},
    ),
    "the pair loss": (
        adversarial(pair_loss=nan_pair_loss),
        {"discriminator_loss", "discriminator_gradient_norm"},
    ),
    "the loss of one's own estimator": (
        adversarial(reward=paid(HUGE), estimator=with_loss(reinforce(0.9), nan_loss)),
        {"surrogate_loss", "gradient_norm"},
    ),
    "the gradient alone": (
        adversarial(reward=paid(HUGE), estimator=with_loss(reinforce(0.9), nan_gradient)),
        {"gradient_norm"},
    ),
    "a reward that is NaN": (adversarial(reward=paid(jnp.nan)), {"reward", "surrogate_loss", "gradient_norm"}),
    "a reward that is infinite": (adversarial(reward=paid(-jnp.inf)), {"reward", "surrogate_loss", "gradient_norm"}),
    "importance ratios": (
        adversarial(reward=paid(HUGE), estimator=with_loss(ppo(0.9, epochs=2, minibatches=1), nan_ratio)),
        {"surrogate_loss", "gradient_norm"},
    ),
    "a later update of the discriminator": (
        (gan_from(GENERATOR, DISCRIMINATOR, pair_loss=nan_pair_loss, discriminator_updates=2), "adversarial_step"),
        set(),
    ),
}
EACH = pytest.mark.parametrize("case", CASES)


@functools.cache
def step_of(case: str) -> Callable[[GanState, Batch], tuple[GanState, dict[str, jax.Array]]]:
    gan, name = CASES[case][0]
    return jax.jit(getattr(skipping(gan), name))


def batches(case: str) -> tuple[Batch, Batch]:
    """A good and a bad one. With two updates of the discriminator, only the second one's rows are bad."""
    if "later" not in case:
        return GOOD, BAD
    interleaved = jax.tree.map(lambda a, b: jnp.stack([a, b], axis=1).reshape(-1, *a.shape[1:]), GOOD, BAD)
    return jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), GOOD), interleaved


def started(case: str) -> GanState:
    """The state after one good step."""
    gan = CASES[case][0][0]
    state, metrics = step_of(case)(gan.init(jax.random.key(0), GOOD), batches(case)[0])
    assert metrics[SKIPPED] == 0
    return state


def bits(state: GanState) -> list[bytes]:
    """Of all arrays but the two counts."""
    zero = jnp.int32(0)
    leaves = jax.tree.leaves(state.replace(step=zero, skipped=zero, key=jax.random.key_data(state.key)))
    return [np.asarray(leaf).tobytes() for leaf in leaves]


@pytest.mark.cases(1)
@EACH
def test_a_step_that_goes_wrong_changes_nothing_and_the_next_goes_on(case: str) -> None:
    good, bad = batches(case)
    before = started(case)
    after, metrics = step_of(case)(before, bad)
    wrong = {name for name, value in metrics.items() if not np.isfinite(value)}
    assert wrong >= CASES[case][1]
    assert wrong or not CASES[case][1]
    assert bits(after) == bits(before)
    assert (int(after.step), int(after.skipped)) == (2, 1)
    third, metrics = step_of(case)(after, good)
    assert all(np.isfinite(value) for value in metrics.values())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(third.generator.params))
    assert (int(third.step), int(third.skipped), int(metrics[SKIPPED])) == (3, 0, 0)
    assert bits(third) != bits(before)


@pytest.mark.cases(1)
@pytest.mark.parametrize("case", ["the likelihood loss", "the gradient alone", "a later update of the discriminator"])
def test_without_the_wrapper_such_a_step_spoils_the_parameters(case: str) -> None:
    """What the test above would not notice, were the bad batch harmless."""
    gan, name = CASES[case][0]
    after, _ = jax.jit(getattr(gan, name))(started(case), batches(case)[1])
    params = jax.tree.leaves((after.generator.params, after.discriminator.params))
    assert not all(np.isfinite(leaf).all() for leaf in params)


def test_skips_are_counted_while_they_follow_each_other() -> None:
    case = "the likelihood loss"
    state, counts = started(case), []
    for batch in (BAD, BAD, BAD, GOOD, BAD):
        state, metrics = step_of(case)(state, batch)
        counts.append(int(metrics[SKIPPED]))
    assert counts == [1, 2, 3, 0, 1]


@pytest.mark.thorough
def test_a_skipped_step_takes_its_random_numbers_with_it() -> None:
    """The step after one that was skipped is the one that would have come anyway, not the skipped one again."""
    case = "the pair loss"
    before = started(case)
    skipped, _ = step_of(case)(before, BAD)
    once, _ = step_of(case)(skipped, GOOD)
    other, _ = step_of(case)(before.replace(step=before.step + 1), GOOD)
    again, _ = step_of(case)(before, GOOD)
    assert bits(once) == bits(other)
    assert bits(once) != bits(again)


def test_a_step_that_is_made_is_the_step_without_the_wrapper() -> None:
    gan, name = CASES["the pair loss"][0]
    state = started("the pair loss")
    guarded, _ = step_of("the pair loss")(state, GOOD)
    plain, _ = jax.jit(getattr(gan, name))(state, GOOD)
    for one, other in zip(jax.tree.leaves(guarded.generator), jax.tree.leaves(plain.generator), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
