"""What a token is paid: by hand, and the controls carry nothing of the discriminator's judgement."""

import functools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax.objectives import rewards
from gptgan_jax.objectives.rewards import Judgement, Reward, RewardName, build_reward

KEY = jax.random.key(0)
SCORES = jnp.array([[0.0, 2.0, -1.0], [50.0, -50.0, 0.5]])
MASK = jnp.array([[True, True, False], [True, True, True]])
REAL = jnp.array([[1.0, -0.5, 7.0], [3.0, 1.5, -9.0]])
REAL_MASK = jnp.array([[True, True, False], [True, False, False]])  # none has the last position
JUDGEMENT = Judgement(SCORES, MASK, REAL, REAL_MASK)
WIDE = jnp.ones((100, 100), bool)
NAMES = tuple(n for n in typing.get_args(RewardName) if n not in ("mmd", "formula"))  # test_mmd, test_formulas
CONTROLS = ("constant", "random")
JUDGING = tuple(name for name in NAMES if name not in CONTROLS)
OF_SCORES = ("sigmoid", "logit", "log_sigmoid", "softplus", "penalty", "log_ratio")
COUNTED = ([1.0, 3.0], [-0.5], [1.0, 3.0, -0.5])  # real scores that each position is compared with


def sigma(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def of_scores(scores: jax.Array) -> Judgement:
    """A judgement of full texts against three full real ones."""
    real = jnp.broadcast_to(jnp.array([[-1.0], [0.5], [2.0]]), (3, scores.shape[1]))
    return Judgement(scores, jnp.ones(scores.shape, bool), real, jnp.ones(real.shape, bool))


def test_sigmoid_by_hand() -> None:
    expected = np.tanh(np.asarray(SCORES, np.float64) / 2)  # 2 sigma(x) - 1
    np.testing.assert_allclose(rewards.sigmoid(JUDGEMENT, KEY), expected, rtol=1e-6, atol=1e-7)


def test_logit_is_the_score_itself() -> None:
    np.testing.assert_array_equal(rewards.logit(JUDGEMENT, KEY), SCORES)


def test_log_sigmoid_and_softplus_by_hand() -> None:
    scores = np.asarray(SCORES, np.float64)
    np.testing.assert_allclose(rewards.log_sigmoid(JUDGEMENT, KEY), -np.log1p(np.exp(-scores)), rtol=1e-6)
    np.testing.assert_allclose(rewards.softplus(JUDGEMENT, KEY), np.log1p(np.exp(scores)), rtol=1e-6)


def test_log_ratio_is_what_each_token_adds_to_the_score() -> None:
    np.testing.assert_array_equal(rewards.log_ratio(JUDGEMENT, KEY), [[0, 2, -3], [50, -100, 50.5]])


def test_the_log_ratios_of_a_text_sum_to_its_last_score() -> None:
    total = jnp.where(MASK, rewards.log_ratio(JUDGEMENT, KEY), 0.0).sum(axis=1)
    np.testing.assert_allclose(total, [2.0, 0.5])


def test_log_ratio_of_density_ratios_is_that_of_the_next_token() -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.uniform(0.1, 0.9, (2, 4, 5))
    scores = jnp.asarray(np.log(np.cumprod(real, axis=1) / np.cumprod(generated, axis=1)), jnp.float32)
    np.testing.assert_allclose(rewards.log_ratio(of_scores(scores), KEY), np.log(real / generated), atol=1e-5)


def test_pair_probability_by_hand() -> None:
    expected = [[np.mean([sigma(score - r) for r in COUNTED[t]]) for t, score in enumerate(row)] for row in SCORES]
    np.testing.assert_allclose(rewards.pair_probability(JUDGEMENT, KEY), expected, rtol=1e-5, atol=1e-20)


def test_penalty_by_hand() -> None:
    expected = [[sigma(score) - 1 for score in row] for row in SCORES]
    np.testing.assert_allclose(rewards.penalty(JUDGEMENT, KEY), expected, rtol=1e-5, atol=1e-7)


def test_penalty_with_classes_is_minus_all_but_the_probability_of_the_one_that_was_asked_for() -> None:
    classes, label = np.array([[0.5, -1.0], [2.0, 1.0], [0.0, 0.3]]), jnp.array([1, 0, -1])
    whole, column = np.log(np.exp(classes).sum(axis=1)), jnp.ones((3, 1), bool)
    judgement = Judgement(jnp.asarray(whole[:, None]), column, jnp.zeros((3, 1)), column)
    paid = rewards.penalty(judgement._replace(fake_classes=jnp.asarray(classes), fake_label=label), KEY)
    everything = 1 + np.exp(classes).sum(axis=1)
    of_real = [np.exp(classes[0, 1]), np.exp(classes[1, 0]), np.exp(classes[2]).sum()]
    np.testing.assert_allclose(paid[:, 0], of_real / everything - 1, rtol=1e-5)


def test_penalty_with_classes_is_of_whole_texts() -> None:
    """A prefix has no class logits; with those of the whole text its reward would be without bound."""
    of_parts = JUDGEMENT._replace(fake_classes=jnp.zeros((2, 3)), fake_label=jnp.array([0, -1]))
    for reward in (rewards.penalty, rewards.relative(rewards.penalty)):
        with pytest.raises(ValueError, match="classes, which whole texts alone have: set dense to false"):
            reward(of_parts, KEY)


def test_a_relative_penalty_takes_the_level_from_score_and_classes_alike() -> None:
    column, label = jnp.ones((3, 1), bool), jnp.array([1, 0, -1])
    classes, real = jnp.array([[0.5, -1.0], [2.0, 1.0], [0.0, 0.3]]), jnp.array([[4.0], [2.0], [3.0]])

    def judgement(level: float) -> Judgement:
        score = jax.nn.logsumexp(classes - level, axis=1, keepdims=True)
        return Judgement(score, column, real - level, column, None, None, classes - level, label)

    found = rewards.relative(rewards.penalty)(judgement(0.0), KEY)
    np.testing.assert_allclose(found, rewards.penalty(judgement(3.0), KEY), rtol=1e-5)
    np.testing.assert_allclose(found, rewards.relative(rewards.penalty)(judgement(7.0), KEY), rtol=1e-4)


def test_log_pair_probability_by_hand() -> None:
    expected = [
        [np.mean([np.log(sigma(score - r)) for r in COUNTED[t]]) for t, score in enumerate(row)] for row in SCORES
    ]
    np.testing.assert_allclose(rewards.log_pair_probability(JUDGEMENT, KEY), expected, rtol=1e-5, atol=1e-20)


@pytest.mark.parametrize("sharpness", [1.0, 2.5])
def test_ranked_by_hand(sharpness: float) -> None:
    def share(score: float, real: list[float]) -> float:
        rivals = 2 * np.mean(np.exp(sharpness * np.asarray(real)))  # of both real texts
        return float(sharpness * score - np.log(np.exp(sharpness * score) + rivals))

    expected = [[share(score, COUNTED[t]) for t, score in enumerate(map(float, row))] for row in SCORES]
    np.testing.assert_allclose(rewards.ranked(sharpness)(JUDGEMENT, KEY), expected, rtol=1e-5, atol=1e-6)


def test_ranked_by_hand_of_whole_texts() -> None:
    real, column = jnp.array([[0.0], [1.0], [-2.0]]), jnp.ones((3, 1), bool)
    paid = rewards.ranked()(Judgement(jnp.array([[0.5]]), column[:1], real, column), KEY)
    share = np.exp(0.5) / (np.exp(0.5) + np.exp(0.0) + np.exp(1.0) + np.exp(-2.0))
    assert float(paid[0, 0]) == pytest.approx(np.log(share), rel=1e-6)


@pytest.mark.parametrize("sharpness", [0.0, -1.0, float("nan")])
def test_a_ranking_that_is_not_sharp_is_refused(sharpness: float) -> None:
    with pytest.raises(ValueError, match="should be above 0"):
        rewards.ranked(sharpness)


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("relative", [False, True])
def test_a_control_depends_on_no_score_in_value_or_gradient(name: RewardName, relative: bool) -> None:
    reward = build_reward(name, 0.9, relative)

    def total(fake: jax.Array, real: jax.Array) -> jax.Array:
        return reward(Judgement(fake, MASK, real, REAL_MASK), KEY).sum()

    other = JUDGEMENT._replace(fake=-3 * SCORES + 1, real=REAL - 2)
    np.testing.assert_array_equal(reward(JUDGEMENT, KEY), reward(other, KEY))
    gradients = jax.grad(total, argnums=(0, 1))(SCORES, REAL)
    np.testing.assert_array_equal(jnp.stack(gradients), np.zeros((2, 2, 3)))


@pytest.mark.parametrize("name", JUDGING)
@pytest.mark.parametrize("relative", [False, True])
def test_a_reward_rises_with_the_score_and_ignores_the_key(name: RewardName, relative: bool) -> None:
    reward = build_reward(name, 0.9, relative)
    assert (np.diff(reward(of_scores(jnp.linspace(-4, 4, 9)[:, None]), KEY)[:, 0]) > 0).all()
    if name != "log_ratio":  # which pays for the gain
        assert (np.diff(reward(of_scores(jnp.linspace(-4, 4, 9)[None]), KEY)) > 0).all()
    np.testing.assert_array_equal(reward(JUDGEMENT, KEY), reward(JUDGEMENT, jax.random.key(1)))


@pytest.mark.parametrize("name", JUDGING)
@pytest.mark.parametrize("relative", [False, True])
def test_the_gradient_in_the_score_is_that_of_finite_differences(name: RewardName, relative: bool) -> None:
    reward = build_reward(name, 0.9, relative)
    weights = jnp.array([[1.0, -2.0, 0.0], [0.5, 3.0, 1.5]])  # nothing outside the mask

    @jax.jit
    def total(fake: jax.Array) -> jax.Array:
        return (weights * reward(JUDGEMENT._replace(fake=fake), KEY)).sum()

    scores = jnp.array([[0.3, 1.1, 0.0], [-0.7, 0.2, 0.9]])
    step = 1e-2
    moves = step * jnp.eye(6).reshape(6, 2, 3)
    expected = [float(total(scores + move) - total(scores - move)) / (2 * step) for move in moves]
    np.testing.assert_allclose(jax.grad(total)(scores).ravel(), expected, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("garbage", [1e6, -1e6])
def test_padding_changes_neither_what_counts_nor_its_gradient(name: RewardName, relative: bool, garbage: float) -> None:
    reward = build_reward(name, 0.9, relative)

    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def paid(fake: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
        result = jnp.where(MASK, reward(Judgement(fake, MASK, real, REAL_MASK), KEY), 0.0)
        return result.sum(), result

    (_, clean), gradients = paid(jnp.where(MASK, SCORES, 0.0), jnp.where(REAL_MASK, REAL, 0.0))
    (_, padded), others = paid(jnp.where(MASK, SCORES, garbage), jnp.where(REAL_MASK, REAL, garbage))
    np.testing.assert_array_equal(clean, padded)
    for gradient, other, mask in zip(gradients, others, (MASK, REAL_MASK), strict=True):
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient, other)
        assert (np.asarray(other)[~np.asarray(mask)] == 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("relative", [False, True])
def test_several_texts_a_prompt_are_paid_like_one(name: RewardName, relative: bool) -> None:
    reward = build_reward(name, 0.9, relative)
    twice = Judgement(jnp.repeat(SCORES, 2, axis=0), jnp.repeat(MASK, 2, axis=0), REAL, REAL_MASK)
    paid = reward(twice, KEY)
    assert paid.shape == (4, 3)
    if name != "random":
        np.testing.assert_allclose(paid, jnp.repeat(reward(JUDGEMENT, KEY), 2, axis=0), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_only_a_relative_reward_or_one_of_differences_ignores_the_level_of_all_scores(name: RewardName) -> None:
    raised = JUDGEMENT._replace(fake=SCORES + 3, real=REAL + 3)
    for relative in (False, True):
        reward = build_reward(name, 0.9, relative)
        change = np.abs(np.where(MASK, reward(raised, KEY) - reward(JUDGEMENT, KEY), 0)).max()
        if name in OF_SCORES and not relative:
            assert change > 0.1
        else:
            assert change < 1e-5


@pytest.mark.parametrize("name", OF_SCORES)
def test_a_relative_reward_is_paid_for_what_a_score_is_above_the_mean_real_one(name: RewardName) -> None:
    means = jnp.array([np.mean(real) for real in COUNTED])
    np.testing.assert_array_equal(means, [2.0, -0.5, np.float32(3.5 / 3)])
    expected = build_reward(name, 0.9)(JUDGEMENT._replace(fake=SCORES - means), KEY)
    np.testing.assert_allclose(build_reward(name, 0.9, relative=True)(JUDGEMENT, KEY), expected, rtol=1e-5, atol=1e-20)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OF_SCORES])
def test_rewards_of_differences_and_controls_are_the_same_when_relative(name: RewardName) -> None:
    pair = (build_reward(name, 0.9, relative)(JUDGEMENT, KEY) for relative in (False, True))
    np.testing.assert_array_equal(next(pair), next(pair))


def test_a_relative_reward_hands_the_key_on() -> None:
    paid = rewards.relative(rewards.random)(JUDGEMENT, jax.random.key(5))
    np.testing.assert_array_equal(paid, rewards.random(JUDGEMENT, jax.random.key(5)))


def test_constant_pays_a_return_of_1_from_every_token() -> None:
    paid = rewards.constant(0.75)(JUDGEMENT, KEY)
    np.testing.assert_array_equal(np.where(MASK, paid, 0), [[0.25, 1, 0], [0.25, 0.25, 1]])


def test_random_is_uniform_between_minus_1_and_1_and_new_for_every_token_and_key() -> None:
    judgement = Judgement(jnp.zeros((100, 100)), WIDE, jnp.zeros((100, 100)), WIDE)
    noise = np.asarray(rewards.random(judgement, KEY))
    assert (np.abs(noise) <= 1).all()
    assert abs(noise.mean()) < 4 / np.sqrt(3 * noise.size)
    assert noise.var() == pytest.approx(1 / 3, rel=0.05)
    assert len(np.unique(noise)) > 9900
    assert (noise != np.asarray(rewards.random(judgement, jax.random.key(1)))).mean() > 0.99


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("relative", [False, True])
def test_rewards_are_float32_of_the_scores_shape(name: RewardName, relative: bool) -> None:
    coarse = JUDGEMENT._replace(fake=SCORES.astype(jnp.bfloat16), real=REAL.astype(jnp.bfloat16))
    paid = build_reward(name, 0.9, relative)(coarse, KEY)
    assert paid.shape == SCORES.shape
    assert paid.dtype == jnp.float32


@pytest.mark.parametrize("name", NAMES)
def test_rewards_compile_to_the_same_numbers(name: RewardName) -> None:
    reward: Reward = build_reward(name, 0.9, relative=True)
    np.testing.assert_allclose(jax.jit(reward)(JUDGEMENT, KEY), reward(JUDGEMENT, KEY), rtol=1e-5, atol=1e-6)
