"""What functions do, as numbers that can be compared: two are taken for the same that do the same."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptgan_jax import (
    Distillation,
    Estimator,
    Experience,
    Matching,
    Mediated,
    Pathwise,
    PolicyGradient,
    Sample,
    Vocabulary,
    unconditional_batch,
)
from gptgan_jax.objectives.discrimination import PairLoss
from gptgan_jax.objectives.rewards import Judgement, Reward

COUNTS = ("samples", "rollouts", "epochs", "minibatches", "whole_texts", "weighs_tokens", "guided")


def of_estimator(estimator: Estimator) -> list[Any]:
    """What an estimator does in two steps with one lot of numbers: its kind, and everything that it returns."""
    rng, found = np.random.default_rng(0), []
    state: Any = estimator.init(4)
    if isinstance(estimator, PolicyGradient):
        found += [getattr(estimator, name) for name in COUNTS]
        if estimator.matching is not None:
            found += of_matching(estimator.matching, estimator.samples)
        for _ in range(2):
            mask = jnp.asarray(np.arange(4) < np.resize([4, 2, 1, 3, 4], 24)[:, None])
            was, paid, log_probs = (jnp.asarray(x) for x in rng.normal(0, 0.5, (3, 24, 4)) * np.asarray(mask))
            sample = Sample(jnp.zeros((24, 4), jnp.int32), mask, was)
            experience = Experience(sample, paid, jnp.asarray(rng.normal(0, 1, (24, 4, 4))), estimator.samples)
            advantages, state, metrics = estimator.advantages(state, experience)
            loss = jax.value_and_grad(estimator.loss)(log_probs, experience, advantages)
            found += [advantages, state, metrics, loss]
    elif isinstance(estimator, Pathwise):
        logits, tokens = jnp.asarray(rng.normal(0, 1, (3, 2, 4))), jnp.asarray(rng.integers(0, 4, (3, 2)))
        weights = jnp.asarray(rng.normal(0, 1, (3, 2, 4)))
        for _ in range(2):
            relaxed, pulled = jax.vjp(lambda x, at=state: estimator.relax(at, jax.random.key(0), x, tokens), logits)
            found += [relaxed, pulled(weights.astype(relaxed.dtype))]
            state, metrics = estimator.advance(state)
            found += [state, metrics]
    elif isinstance(estimator, Mediated):
        logits, mediator = (jnp.asarray(x) for x in rng.normal(0, 1, (2, 3, 4, 5)))
        tokens, mask = jnp.asarray(rng.integers(0, 5, (3, 4))), jnp.asarray(np.arange(4) < np.array([4, 2, 1])[:, None])
        found.append(jax.value_and_grad(estimator.loss, has_aux=True)(logits, mediator, tokens, mask))
    elif isinstance(estimator, Distillation):
        found += [estimator.beta, estimator.on_policy]
    else:
        found.append(estimator.loss(*(jnp.asarray(x) for x in rng.normal(-3, 2, (4, 5)))))
        for _ in range(7):
            state, renew = estimator.refresh(state)
            found += [state, renew]
    return [type(estimator).__name__, found]


def of_matching(matching: Matching, samples: int) -> list[Any]:
    """What it pays, and which stretches of texts it has."""
    rng = np.random.default_rng(4)
    written, real = (jnp.asarray(rng.normal(0, 1, (rows, 2, 3))) for rows in (4 * samples, 4))
    target = jnp.asarray(rng.integers(3, 9, (4, 12)), jnp.int32)
    stretches = matching.stretches(unconditional_batch(target, Vocabulary(9)))
    return [*matching.depths, matching.pay(written, real, jnp.arange(4) > 0), stretches]


def of_pair_loss(loss: PairLoss) -> Any:
    """The loss of some scores, and its gradient."""
    real, fake = (jnp.asarray(x, jnp.float32) for x in np.random.default_rng(1).normal(0, 2, (2, 4, 3)))
    mask = jnp.asarray(np.arange(3) < np.array([3, 1, 2, 3])[:, None])
    return jax.value_and_grad(lambda scores: loss(scores[0], mask, scores[1], mask[::-1]))((real, fake))


def of_reward(reward: Reward) -> Any:
    """The pay of some texts by a discriminator with classes."""
    rng = np.random.default_rng(2)

    def some(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(0, 2, shape), jnp.float32)

    mask = jnp.asarray(np.arange(3) < np.array([3, 1, 2, 3])[:, None])
    label = jnp.array([0, 1, -1, 1])
    judgement = Judgement(some(4, 3), mask, some(4, 3), mask[::-1], some(4, 5), some(4, 5), some(4, 2), label)
    return reward(judgement, jax.random.key(0))


def same(first: Any, second: Any) -> bool:
    """Whether two pieces of behaviour are alike: their structure, and their numbers up to rounding."""
    if jax.tree.structure(first) != jax.tree.structure(second):
        return False
    for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        numbers = all(isinstance(value, jax.Array | np.ndarray | float | int) for value in (x, y))
        alike = np.shape(x) == np.shape(y) and np.allclose(x, y, rtol=1e-6, atol=1e-7) if numbers else x == y
        if not alike:
            return False
    return True
