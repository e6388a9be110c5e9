"""What a token is paid: by hand, and the controls carry nothing of the discriminator's judgement."""

import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax.objectives import rewards
from gptgan_jax.objectives.rewards import RewardName, build_reward

KEY = jax.random.key(0)
SCORES = jnp.array([[0.0, 2.0, -1.0], [50.0, -50.0, 0.5]])
MASK = jnp.array([[True, True, False], [True, True, True]])
WIDE = jnp.ones((100, 100), bool)
NAMES = typing.get_args(RewardName)


def test_sigmoid_by_hand() -> None:
    expected = np.tanh(np.asarray(SCORES, np.float64) / 2)  # 2 sigma(x) - 1
    np.testing.assert_allclose(rewards.sigmoid(SCORES, MASK, KEY), expected, rtol=1e-6, atol=1e-7)


def test_logit_is_the_score_itself() -> None:
    np.testing.assert_array_equal(rewards.logit(SCORES, MASK, KEY), SCORES)


@pytest.mark.parametrize("name", ["constant", "random"])
def test_a_control_depends_on_no_score_in_value_or_gradient(name: RewardName) -> None:
    reward = build_reward(name, 0.9)
    np.testing.assert_array_equal(reward(SCORES, MASK, KEY), reward(-3 * SCORES + 1, MASK, KEY))
    np.testing.assert_array_equal(jax.grad(lambda x: reward(x, MASK, KEY).sum())(SCORES), np.zeros((2, 3)))


@pytest.mark.parametrize("name", ["sigmoid", "logit"])
def test_a_reward_rises_with_the_score_and_ignores_the_key(name: RewardName) -> None:
    reward = build_reward(name, 0.9)
    assert (np.diff(reward(jnp.linspace(-4, 4, 9)[None], jnp.ones((1, 9), bool), KEY)) > 0).all()
    np.testing.assert_array_equal(reward(SCORES, MASK, KEY), reward(SCORES, MASK, jax.random.key(1)))


def test_constant_pays_a_return_of_1_from_every_token() -> None:
    paid = rewards.constant(0.75)(SCORES, MASK, KEY)
    np.testing.assert_array_equal(np.where(MASK, paid, 0), [[0.25, 1, 0], [0.25, 0.25, 1]])


def test_random_is_uniform_between_minus_1_and_1_and_new_for_every_token_and_key() -> None:
    noise = np.asarray(rewards.random(jnp.zeros((100, 100)), WIDE, KEY))
    assert (np.abs(noise) <= 1).all()
    assert abs(noise.mean()) < 4 / np.sqrt(3 * noise.size)
    assert noise.var() == pytest.approx(1 / 3, rel=0.05)
    assert len(np.unique(noise)) > 9900
    assert (noise != np.asarray(rewards.random(jnp.zeros((100, 100)), WIDE, jax.random.key(1)))).mean() > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_rewards_are_float32_of_the_scores_shape(name: RewardName) -> None:
    paid = build_reward(name, 0.9)(SCORES.astype(jnp.bfloat16), MASK, KEY)
    assert paid.shape == SCORES.shape
    assert paid.dtype == jnp.float32
