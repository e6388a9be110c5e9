"""Every estimator's expected gradient, summed exactly over all texts of a tiny vocabulary, is the one it claims.

`enumeration` has the policy, a table of logits, and all batches of texts that it may write.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimators.enumeration import (
    ANY_REWARD,
    DENSE,
    EOS,
    LAST,
    LENGTHS,
    LOGITS,
    MASK,
    OTHER_LOGITS,
    TEXTS,
    T,
    V,
    ascents,
    batches,
    chances,
    exact_gradient,
    expected_gradient,
    log_probs_of,
    paid,
    returns_of,
    score_functions,
    softmax,
    token_chances,
    totals,
    weighted,
)

from gptgan_jax import (
    Experience,
    PolicyGradient,
    Sample,
    grpo,
    learned_value,
    leave_one_out,
    maligan,
    no_baseline,
    penalised,
    ppo,
    reinforce,
    rewards,
    rloo,
    rollout,
    weighted_likelihood,
)
from gptgan_jax.gradients.baselines import Baseline, MovingAverage
from gptgan_jax.gradients.policy_gradients import clipped_surrogate, surrogate

PAIR = np.array([[True, True, True], [True, False, False]])
PAIR_PAID = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
ESTIMATORS: dict[str, Callable[[], PolicyGradient]] = {
    "reinforce": lambda: reinforce(0.5),
    "reinforce_none": lambda: reinforce(0.5, no_baseline()),
    "reinforce_learned": lambda: reinforce(0.5, learned_value(0.1)),
    "reinforce_leave_one_out": lambda: reinforce(0.5, leave_one_out()),
    "rollout": lambda: rollout(4),
    "penalised": lambda: penalised(4),
    "rloo": lambda: rloo(2, 0.5),
    "ppo": lambda: ppo(0.5, clip=0.9),
    "ppo_sequence": lambda: ppo(0.5, clip=0.9, ratio="sequence"),
    "grpo": lambda: grpo(2, 0.5, clip=0.9),
    "grpo_length_normalised": lambda: grpo(2, 0.5, length_normalised=True, clip=0.9),
    "grpo_sequence": lambda: grpo(2, deviation=False, clip=0.9, ratio="sequence"),
    "maligan": lambda: maligan(),
    "maligan_samples": lambda: maligan(2, 0.5),
    "weighted_likelihood": lambda: weighted_likelihood(2),
}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def plain(discount: float = 1.0) -> PolicyGradient:
    return reinforce(discount, no_baseline())


def average_of(value: float) -> MovingAverage:
    return MovingAverage(jnp.float64(value), jnp.float64(1))


def experience_of(
    mask: np.ndarray,
    paid: np.ndarray | jax.Array,
    samples: int = 1,
    was: np.ndarray | jax.Array | float = -1.0,
    hidden: np.ndarray | None = None,
) -> Experience:
    mask = jnp.asarray(mask)
    hidden = np.zeros((*mask.shape, 4)) if hidden is None else hidden
    sample = Sample(jnp.zeros(mask.shape, jnp.int32), mask, jnp.broadcast_to(jnp.asarray(was), mask.shape))
    return Experience(sample, jnp.asarray(paid), jnp.asarray(hidden), samples)


def batch_loss(
    estimator: PolicyGradient, log_probs: jax.Array, experience: Experience, state: Any = None
) -> tuple[jax.Array, tuple[Any, dict[str, jax.Array]]]:
    """(loss, (state, metrics)), as a step of training has it."""
    state = estimator.init(experience.hidden.shape[-1]) if state is None else state
    advantages, state, metrics = estimator.advantages(state, experience)
    return estimator.loss(log_probs, experience, jax.lax.stop_gradient(advantages)), (state, metrics)


def test_the_texts_are_all_there_are() -> None:
    assert len(TEXTS) == 1 + 2 + 4 * 3
    assert float(jnp.exp(log_probs_of(jnp.asarray(LOGITS)).sum(axis=1)).sum()) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(jnp.exp(log_probs_of(jnp.asarray(LOGITS))), token_chances(), rtol=1e-12)


def test_the_exact_gradient_is_that_of_the_expected_total_reward() -> None:
    by_jax = jax.grad(lambda x: (jnp.exp(log_probs_of(x).sum(axis=1)) * totals(DENSE)).sum())(jnp.asarray(LOGITS))
    np.testing.assert_allclose(exact_gradient(totals(DENSE)), by_jax, atol=1e-12)
    assert np.abs(by_jax).max() > 0.05


# ---- REINFORCE


@pytest.mark.parametrize("rewards", [DENSE, LAST], ids=["dense", "at_the_last"])
@pytest.mark.parametrize(
    "estimator", [plain, reinforce, lambda: ppo(baseline=no_baseline())], ids=["none", "default", "ppo"]
)
def test_without_discount_the_expected_gradient_is_that_of_the_expected_total_reward(
    estimator: Callable[[], PolicyGradient], rewards: np.ndarray
) -> None:
    np.testing.assert_allclose(expected_gradient(estimator(), rewards), exact_gradient(totals(rewards)), atol=1e-12)


def discounted_gradient(rewards: np.ndarray, discount: float) -> np.ndarray:
    """Each token credited with its discounted future, term by term."""
    expected = np.zeros_like(LOGITS)
    scores, of_text = score_functions(), chances()
    for i, text in enumerate(TEXTS):
        for t in range(len(text)):
            future = sum(discount ** (s - t) * rewards[i, s] for s in range(t, len(text)))
            expected += of_text[i] * future * scores[i, t]
    return expected


@pytest.mark.parametrize("discount", [0.0, 0.23, 0.9])
def test_with_discount_each_token_is_credited_with_its_discounted_future(discount: float) -> None:
    expected = discounted_gradient(DENSE, discount)
    for estimator in (plain(discount), reinforce(discount), ppo(discount)):
        np.testing.assert_allclose(expected_gradient(estimator, DENSE), expected, atol=1e-12)
    assert np.abs(expected - exact_gradient(totals(DENSE))).max() > 1e-3  # the bias is real


@pytest.mark.parametrize("discount", [1.0, 0.23])
def test_the_baseline_leaves_the_expected_gradient_as_it_is(discount: float) -> None:
    estimator = reinforce(discount)
    np.testing.assert_allclose(
        expected_gradient(estimator, DENSE, state=average_of(7.0)), expected_gradient(estimator, DENSE), atol=1e-12
    )


def test_paying_1_a_token_is_no_control_where_texts_can_end_because_it_pays_for_length() -> None:
    ones = paid(lambda text, t: 1.0)
    np.testing.assert_allclose(expected_gradient(reinforce(), ones), exact_gradient(LENGTHS), atol=1e-12)
    assert np.abs(exact_gradient(LENGTHS)).max() > 0.05
    for discount in (0.23, 0.9):
        assert np.abs(expected_gradient(reinforce(discount), ones)).max() > 0.01


@pytest.mark.parametrize("discount", [1.0, 0.9, 0.23, 0.0])
def test_paying_1_a_token_has_expected_gradient_0_where_no_text_can_end(discount: float) -> None:
    never_ending = LOGITS - 1e9 * (np.arange(V) == EOS)
    ones = paid(lambda text, t: 1.0)
    np.testing.assert_allclose(expected_gradient(reinforce(discount), ones, logits=never_ending), 0, atol=1e-12)


def constant(discount: float) -> np.ndarray:
    judgement = rewards.Judgement(jnp.zeros(MASK.shape), jnp.asarray(MASK), jnp.zeros((1, T)), jnp.ones((1, T), bool))
    found = np.asarray(rewards.constant(discount)(judgement, jax.random.key(0)), np.float64)
    return np.where(MASK & (found < 1), 1 - discount, found)  # float32's rounding of 1 - discount taken back


@pytest.mark.parametrize("discount", [1.0, 0.9, 0.23, 0.0])
def test_the_constant_reward_has_expected_gradient_0(discount: float) -> None:
    np.testing.assert_allclose(expected_gradient(reinforce(discount), constant(discount)), 0, atol=1e-12)
    if discount in (1.0, 0.23):  # and in every batch where there are texts to compare with
        np.testing.assert_allclose(ascents(rloo(2, discount), constant(discount)), 0, atol=1e-12)
        np.testing.assert_allclose(ascents(grpo(2, discount, deviation=False), constant(discount)), 0, atol=1e-12)


@pytest.mark.parametrize("discount", [1.0, 0.23])
def test_the_random_reward_has_expected_gradient_0(discount: float) -> None:
    judgement = rewards.Judgement(*(jnp.zeros((len(TEXTS), T)), jnp.ones((len(TEXTS), T), bool)) * 2)
    noise = jax.vmap(lambda key: rewards.random(judgement, key))
    draws = np.asarray(noise(jax.random.split(jax.random.key(0), 400)))
    # The gradient is linear in the rewards, so the basis of rewards gives every draw's gradient.
    estimator = reinforce(discount)
    basis = np.eye(len(TEXTS) * T).reshape(-1, len(TEXTS), T)
    responses = np.array([expected_gradient(estimator, one) for one in basis]).reshape(len(basis), -1)
    gradients = draws.reshape(len(draws), -1) @ responses
    assert np.abs(gradients).max() > 0.05
    error = gradients.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(gradients.mean(axis=0)) < 4.5 * error + 1e-12).all()


def test_the_gradient_by_hand_is_minus_the_advantage_over_the_number_of_texts() -> None:
    state = MovingAverage(jnp.float64(1.5), jnp.float64(0.5))  # a baseline of 3
    experience = experience_of(PAIR, PAIR_PAID)
    gradient, _ = jax.grad(lambda x: batch_loss(reinforce(0.5), x, experience, state), has_aux=True)(
        jnp.full((2, 3), -1.0)
    )
    np.testing.assert_allclose(gradient, -np.array([[3.0 - 3, 4.0 - 3, 4.0 - 3], [8.0 - 3, 0, 0]]) / 2, atol=1e-6)


def test_the_baseline_of_a_batch_is_the_average_return_of_earlier_batches_alone() -> None:
    estimator, log_probs, experience = reinforce(0.5), jnp.full((2, 3), -1.0), experience_of(PAIR, PAIR_PAID)
    _, (state, metrics) = batch_loss(estimator, log_probs, experience)
    assert float(metrics["baseline"]) == 0
    mean_return = (3.0 + 4.0 + 4.0 + 8.0) / 4
    assert float(state.value) == pytest.approx(mean_return, rel=1e-6)
    _, (_, metrics) = batch_loss(estimator, log_probs, experience, state)
    assert float(metrics["baseline"]) == pytest.approx(mean_return, rel=1e-6)


def test_the_metrics_are_over_tokens() -> None:
    experience = experience_of(PAIR, PAIR_PAID)
    _, _, metrics = reinforce(0.5).advantages(average_of(2.0), experience)  # returns 3, 4, 4 and 8
    assert float(metrics["baseline"]) == pytest.approx(2, rel=1e-12)
    assert float(metrics["advantage_rms"]) == pytest.approx(np.sqrt((1 + 4 + 4 + 36) / 4), rel=1e-12)
    _, _, metrics = rloo(2, 0.5).advantages(None, experience_of(PAIR, PAIR_PAID, samples=2))
    assert float(metrics["baseline"]) == pytest.approx((3 * 8 + 11 / 3) / 4, rel=1e-12)


# ---- several texts a prompt


@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize("rewards", [DENSE, LAST], ids=["dense", "at_the_last"])
def test_rloo_is_exact(rewards: np.ndarray, samples: int) -> None:
    np.testing.assert_allclose(expected_gradient(rloo(samples), rewards), exact_gradient(totals(rewards)), atol=1e-12)


def test_rloo_with_discount_is_as_reinforce() -> None:
    np.testing.assert_allclose(
        expected_gradient(rloo(2, 0.23), DENSE), expected_gradient(reinforce(0.23), DENSE), atol=1e-12
    )


def test_rloo_by_hand_takes_the_other_texts_mean_return() -> None:
    experience = experience_of(PAIR, PAIR_PAID, samples=2)
    advantages, _, _ = rloo(2, 0.5).advantages(None, experience)
    np.testing.assert_allclose(advantages, [[3 - 8, 4 - 8, 4 - 8], [8 - 11 / 3, 0, 0]], rtol=1e-12)


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    "estimator",
    [
        rloo(2, 0.5),
        grpo(2, 0.5),
        grpo(2, deviation=False, length_normalised=True),
        maligan(2),
        weighted_likelihood(2),
    ],
    ids=["rloo", "grpo", "grpo_length_normalised", "maligan", "weighted_likelihood"],
)
def test_texts_of_different_prompts_do_not_mix(estimator: PolicyGradient) -> None:
    mask, paid = np.concatenate([PAIR, PAIR[::-1]]), np.concatenate([PAIR_PAID, np.sin(PAIR_PAID)]) / 4
    together, _, _ = estimator.advantages(None, experience_of(mask, paid, samples=2))
    apart = [estimator.advantages(None, experience_of(mask[i : i + 2], paid[i : i + 2], samples=2))[0] for i in (0, 2)]
    np.testing.assert_allclose(together, np.concatenate(apart), rtol=1e-12)
    assert np.abs(together[:2] - together[2:]).max() > 0.05


# ---- GRPO


@pytest.mark.parametrize("samples", [2, 3])
def test_grpo_without_deviation_is_short_by_its_own_share_of_the_mean(samples: int) -> None:
    expected = (samples - 1) / samples * exact_gradient(totals(LAST))
    np.testing.assert_allclose(expected_gradient(grpo(samples, deviation=False), LAST), expected, atol=1e-12)


def grpo_advantages(rewards: np.ndarray, discount: float, deviation: bool, length_normalised: bool) -> np.ndarray:
    """Of all pairs of texts, by the formula: [pairs, 2, T]; 0 where there is no deviation to divide by."""
    returns = returns_of(rewards, discount)[batches(2)]
    means = returns.sum(axis=2) / LENGTHS[batches(2)]
    advantages = returns - means.mean(axis=1)[:, None, None]
    if deviation:
        half = np.abs(means[:, 0] - means[:, 1])[:, None, None] / 2  # the deviation of two numbers
        advantages = np.where(half > 0, advantages / (half + 1e-6), 0.0)
    if length_normalised:
        advantages = advantages / LENGTHS[batches(2)][:, :, None]
    return advantages


GRPO_CASES = {
    "at_the_last": (LAST, 1.0),
    "dense": (DENSE, 1.0),
    "dense_discounted": (DENSE, 0.23),
}


@pytest.mark.parametrize("case", GRPO_CASES)
@pytest.mark.parametrize("length_normalised", [False, True])
@pytest.mark.parametrize("deviation", [False, True])
def test_grpo_is_by_its_formula_which_is_not_the_exact_gradient(
    deviation: bool, length_normalised: bool, case: str
) -> None:
    rewards, discount = GRPO_CASES[case]
    expected = weighted(grpo_advantages(rewards, discount, deviation, length_normalised))
    found = expected_gradient(grpo(2, discount, deviation, length_normalised), rewards)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
    exact = exact_gradient(totals(rewards))
    direction = (found * exact).sum() / np.linalg.norm(found) / np.linalg.norm(exact)
    if deviation or length_normalised or case != "at_the_last":
        assert direction < 0.999  # the bias is one of direction, and real


@pytest.mark.parametrize(("rewards", "discount"), [(DENSE, 1.0), (DENSE, 0.23), (LAST, 0.9)])
def test_a_group_that_wrote_one_text_twice_has_no_advantage_beyond_bounds(rewards: np.ndarray, discount: float) -> None:
    row = len(TEXTS) - 1  # of three tokens, whose returns differ
    experience = experience_of(MASK[[row, row]], rewards[[row, row]], samples=2)
    advantages, _, _ = grpo(2, discount).advantages(None, experience)
    assert np.abs(np.where(MASK[[row, row]], advantages, 0.0)).max() < 10


@pytest.mark.parametrize("deviation", [False, True])
@pytest.mark.parametrize("length_normalised", [False, True])
def test_a_group_with_equal_rewards_teaches_nothing(deviation: bool, length_normalised: bool) -> None:
    estimator = grpo(2, 1.0, deviation, length_normalised)
    found = ascents(estimator, paid(lambda text, t: 2.0 * (t == len(text) - 1)))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, np.zeros_like(found))


@pytest.mark.parametrize("reward", [0.1, 0.3, 5.3, 53.7])
def test_a_group_with_equal_rewards_teaches_nothing_in_float32_where_their_mean_rounds(reward: float) -> None:
    mask = np.arange(6) < np.array([6, 3, 5, 2, 4, 1, 6, 6])[:, None]
    last = mask & ~np.pad(mask[:, 1:], ((0, 0), (0, 1)))
    experience = experience_of(mask, np.where(last, reward, 0).astype(np.float32), samples=8)
    advantages, _, _ = grpo(8).advantages(None, experience)
    assert advantages.dtype == jnp.float32
    np.testing.assert_allclose(np.where(mask, advantages, 0.0), 0, atol=1e-2)


def test_grpo_by_hand() -> None:
    experience = experience_of(PAIR, PAIR_PAID, samples=2)
    advantages, state, metrics = grpo(2, 0.5).advantages(None, experience)
    mean, half = (11 / 3 + 8) / 2, (8 - 11 / 3) / 2
    expected = np.array([3 - mean, 4 - mean, 4 - mean, 8 - mean]) / half
    np.testing.assert_allclose(np.asarray(advantages)[PAIR], expected, rtol=1e-6)
    assert state is None
    assert {name: float(x) for name, x in metrics.items()} == pytest.approx(
        {"baseline": mean, "group_deviation": half}, rel=1e-12
    )


# ---- PPO


@pytest.mark.parametrize("discount", [1.0, 0.23])
def test_ppos_first_gradient_is_reinforces_batch_by_batch(discount: float) -> None:
    for clip in (0.2, 0.01):
        np.testing.assert_allclose(
            ascents(ppo(discount, clip=clip), DENSE, state=average_of(0.3)),
            ascents(reinforce(discount), DENSE, state=average_of(0.3)),
            atol=1e-12,
        )


def test_with_the_texts_ratio_ppos_first_gradient_is_reinforces_too_where_the_text_is_paid() -> None:
    state, estimator = average_of(0.3), ppo(ratio="sequence")
    np.testing.assert_allclose(
        ascents(estimator, LAST, state=state), ascents(reinforce(), LAST, state=state), atol=1e-12
    )
    np.testing.assert_allclose(expected_gradient(estimator, DENSE), exact_gradient(totals(DENSE)), atol=1e-12)


@pytest.mark.parametrize("rewards", [DENSE, LAST], ids=["dense", "at_the_last"])
@pytest.mark.parametrize("baseline", [0.0, 3.0])
def test_with_the_texts_ratio_unclipped_texts_of_another_policy_give_the_exact_gradient(
    rewards: np.ndarray, baseline: float
) -> None:
    estimator = ppo(clip=1e9, ratio="sequence")
    found = expected_gradient(estimator, rewards, state=average_of(baseline), wrote=OTHER_LOGITS)
    np.testing.assert_allclose(found, exact_gradient(totals(rewards)), atol=1e-12)


@pytest.mark.parametrize("discount", [1.0, 0.23])
def test_with_tokens_ratios_texts_of_another_policy_are_weighed_token_by_token_which_is_not_exact(
    discount: float,
) -> None:
    found = expected_gradient(ppo(discount, clip=1e9), DENSE, wrote=OTHER_LOGITS)
    ratios = token_chances() / token_chances(OTHER_LOGITS)
    expected = weighted((ratios * returns_of(DENSE, discount))[:, None], by=OTHER_LOGITS)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    exact = exact_gradient(totals(DENSE)) if discount == 1 else discounted_gradient(DENSE, discount)
    assert np.abs(found - exact).max() > 0.01  # how the earlier tokens' probabilities moved is left out


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_grpo_takes_ratios_as_ppo_does(ratio: Any) -> None:
    found = expected_gradient(
        grpo(2, 0.5, deviation=False, clip=1e9, ratio=ratio), DENSE, wrote=OTHER_LOGITS, logits=LOGITS
    )
    advantages = grpo_advantages(DENSE, 0.5, False, False)
    ratios = token_chances() / token_chances(OTHER_LOGITS)
    if ratio == "sequence":
        advantages, ratios = np.repeat(advantages[:, :, :1], T, axis=2), np.repeat(ratios.prod(1)[:, None], T, axis=1)
    np.testing.assert_allclose(found, weighted(advantages * ratios[batches(2)], by=OTHER_LOGITS), atol=1e-12)
    clipped = expected_gradient(grpo(2, 0.5, deviation=False, ratio=ratio), DENSE, wrote=OTHER_LOGITS)
    assert np.abs(found - clipped).max() > 0.01


@pytest.mark.parametrize("clip", [0.2, 0.4])
def test_tokens_are_clipped_where_the_advantage_pushes_further_out_and_nowhere_else(clip: float) -> None:
    ratios = np.array([0.3, 1 - clip - 0.01, 1 - clip + 0.01, 1.0, 1 + clip - 0.01, 1 + clip + 0.01, 3.0])
    for advantage in (2.0, -0.5):
        for t, ratio in enumerate(ratios):
            mask = np.ones((1, len(ratios)), bool)
            was = np.linspace(-2, -1, len(ratios))[None]
            moved = was + np.log(np.where(np.arange(len(ratios)) == t, ratio, 1.0))
            estimator = ppo(clip=clip)
            experience = experience_of(mask, mask * 1.0, was=was)
            advantages = jnp.full(mask.shape, advantage)
            value, gradient = jax.value_and_grad(estimator.loss)(jnp.asarray(moved), experience, advantages)
            further_out = ratio > 1 + clip if advantage > 0 else ratio < 1 - clip
            expected = np.full(mask.shape, -advantage)
            expected[0, t] = 0 if further_out else -advantage * ratio
            np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=0)
            counted = min(max(ratio, 1 - clip), 1 + clip) if further_out else ratio
            assert float(value) == pytest.approx(-advantage * (len(ratios) - 1 + counted), rel=1e-12)


@pytest.mark.parametrize("advantage", [2.0, -0.5])
@pytest.mark.parametrize("ratio", [0.3, 0.79, 0.81, 1.19, 1.21, 3.0])
def test_texts_are_clipped_whole_by_the_texts_ratio(ratio: float, advantage: float) -> None:
    was = np.array([[-1.0, -2.0, -3.0], [-1.0, 0.0, 0.0]])
    share = np.array([[2.0, -1.5, 0.5], [0.0, 0.0, 0.0]])  # no token's own ratio is the text's
    advantages = jnp.array([[advantage, 77.0, 77.0], [3.0, 0.0, 0.0]])
    experience = experience_of(PAIR, PAIR_PAID, was=was)
    gradient = jax.grad(ppo(ratio="sequence").loss)(jnp.asarray(was + np.log(ratio) * share), experience, advantages)
    further_out = ratio > 1.2 if advantage > 0 else ratio < 0.8
    expected = 0 if further_out else -advantage * ratio / 2
    np.testing.assert_allclose(gradient, [[expected] * 3, [-3.0 / 2, 0, 0]], rtol=1e-12, atol=0)


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_a_clipped_text_has_gradient_0_however_far_it_moved(ratio: Any) -> None:
    far = jnp.array([[120.0]], jnp.float32)  # its exponential is infinite in float32
    experience = experience_of(np.ones((1, 1), bool), np.ones((1, 1), np.float32), was=np.float32(0))
    gradient = jax.grad(ppo(ratio=ratio).loss)(far, experience, jnp.ones((1, 1), jnp.float32))
    np.testing.assert_array_equal(gradient, [[0.0]])
    gradient = jax.grad(ppo(ratio=ratio).loss)(-far, experience, -jnp.ones((1, 1), jnp.float32))
    np.testing.assert_array_equal(gradient, [[0.0]])


# ---- rollouts


def action_values() -> np.ndarray:
    """E[reward of the text | it begins with these tokens], of every token of every text."""
    values = {text: ANY_REWARD[text] for text in TEXTS}
    of_text = chances()

    def value(prefix: tuple[int, ...]) -> float:
        going_on = [i for i, text in enumerate(TEXTS) if text[: len(prefix)] == prefix]
        weights = of_text[going_on]
        return float(weights @ [values[TEXTS[i]] for i in going_on] / weights.sum())

    return paid(lambda text, t: value(text[: t + 1]))


@pytest.mark.parametrize("baseline", [0.0, 7.0])
def test_rollouts_that_know_each_tokens_value_give_the_exact_gradient_of_the_judgement(baseline: float) -> None:
    values = action_values()
    last = (np.arange(len(TEXTS)), LENGTHS.astype(int) - 1)
    np.testing.assert_allclose(values[last], LAST[last])
    found = expected_gradient(rollout(2), values, state=average_of(baseline))
    np.testing.assert_allclose(found, exact_gradient(totals(LAST)), atol=1e-12)
    summed = expected_gradient(reinforce(), values)
    assert np.abs(summed - found).max() > 0.01  # values are not rewards: they may not be summed


def test_a_rollouts_advantage_is_the_tokens_own_value() -> None:
    advantages, state, _ = rollout(2).advantages(average_of(3.0), experience_of(PAIR, PAIR_PAID))
    np.testing.assert_allclose(advantages, [[-2.0, -1.0, 1.0], [5.0, 0.0, 0.0]], rtol=1e-12)
    assert float(state.value) == pytest.approx((0.9 * 3 + 0.1 * (1 + 2 + 4 + 8) / 4), rel=1e-6)


# ---- normalised weights


def weights_of(total: np.ndarray, size: int) -> np.ndarray:
    """Normalised weights of every batch: [batches, size]."""
    return softmax(total[batches(size)])


@pytest.mark.parametrize("rewards", [DENSE, LAST], ids=["dense", "at_the_last"])
@pytest.mark.parametrize("samples", [1, 2])
def test_maligan_and_weighted_likelihood_weigh_texts_by_their_normalised_exponential(
    rewards: np.ndarray, samples: int
) -> None:
    over = np.repeat(2 * weights_of(totals(rewards), 2)[:, :, None], T, axis=2)
    expected = weighted(over)
    for estimator in (maligan(samples), maligan(samples, 0.3), weighted_likelihood(samples)):
        np.testing.assert_allclose(expected_gradient(estimator, rewards, 2), expected, atol=1e-12)
    assert np.abs(expected - exact_gradient(np.exp(totals(rewards)))).max() > 1e-3
    each = [maligan(samples), maligan(samples, 0.3), weighted_likelihood(samples)]
    scores = score_functions()[batches(2)]
    for estimator, baseline in zip(each, (1.0, 0.3, 0.0), strict=True):  # before the mean, the baseline is there
        by_hand = np.einsum("bit,bitpv->bpv", over - baseline, scores) / 2
        np.testing.assert_allclose(ascents(estimator, rewards, 2), by_hand, atol=1e-12)


def test_a_constant_reward_teaches_maligan_nothing_and_weighted_likelihood_nothing_on_average() -> None:
    equal = paid(lambda text, t: 0.7 * (t == len(text) - 1))
    for estimator in (maligan(), maligan(2)):
        np.testing.assert_array_equal(ascents(estimator, equal, 2), np.zeros((len(batches(2)), *LOGITS.shape)))
    estimator = weighted_likelihood(2)
    assert np.abs(ascents(estimator, equal)).max() > 0.1
    np.testing.assert_allclose(expected_gradient(estimator, equal), 0, atol=1e-12)


def test_weights_that_are_the_density_ratio_give_the_likelihood_gradient_and_normalising_biases_by_1_over_n() -> None:
    data = softmax(np.random.default_rng(5).normal(0, 1, len(TEXTS)))
    ratio = np.log(data / chances())
    rewards = paid(lambda text, t: ratio[TEXTS.index(text)] * (t == len(text) - 1))
    likelihood = np.einsum("i,itpv->pv", data, score_functions())

    def advantages(state: None, experience: Experience) -> tuple[jax.Array, None, dict[str, jax.Array]]:
        mask = experience.sample.mask
        weights = jnp.exp(jnp.where(mask, experience.rewards, 0.0).sum(axis=1, keepdims=True))
        return jnp.broadcast_to(weights, mask.shape), None, {}

    exact = expected_gradient(PolicyGradient(lambda width: None, advantages, surrogate), rewards)
    np.testing.assert_allclose(exact, likelihood, atol=1e-12)
    biases = [np.linalg.norm(expected_gradient(maligan(), rewards, size) - likelihood) for size in (1, 2, 3)]
    assert biases[0] > biases[1] > biases[2] > 0
    # Of order 1/N: N times it settles.
    assert 2 * biases[1] < 3 * biases[2] < 1.3 * 2 * biases[1]
    far, near = 3 * biases[2] / (2 * biases[1]), 2 * biases[1] / biases[0]
    assert far < near


def test_the_effective_share_by_hand() -> None:
    mask = np.ones((4, 1), bool)
    totals = np.log([[1.0], [3.0], [2.0], [2.0]])
    advantages, _, metrics = maligan(2, 0.5).advantages(None, experience_of(mask, totals, samples=2))
    np.testing.assert_allclose(advantages, [[0.0], [1.0], [0.5], [0.5]], atol=1e-12)
    pairs = 1 / (2 * (1 / 16 + 9 / 16)), 1.0
    assert float(metrics["effective_share"]) == pytest.approx(np.mean(pairs), rel=1e-12)
    advantages, _, metrics = weighted_likelihood().advantages(None, experience_of(mask, totals))
    np.testing.assert_allclose(advantages, [[0.5], [1.5], [1.0], [1.0]], rtol=1e-12)
    assert float(metrics["effective_share"]) == pytest.approx(1 / (4 * (1 + 9 + 4 + 4) / 64), rel=1e-12)


# ---- all of them


def everything(
    name: str, mask: np.ndarray, filler: float, width: int = 0, log_filler: float | None = None
) -> list[jax.Array]:
    """Losses, gradients, states and metrics of two steps, with a filler wherever the mask is false."""
    log_filler = filler if log_filler is None else log_filler
    rng = np.random.default_rng(0)
    shape = mask.shape
    paid, log_probs, was = PAIR_PAID / 8, -1 - rng.random(shape) / 4, -1 - rng.random(shape) / 4
    hidden = rng.normal(0, 1, (*shape, 4)).astype(np.float32)

    def filled(x: np.ndarray, filler: float = filler) -> jax.Array:
        there = mask if x.ndim == 2 else mask[..., None]
        x = np.where(there, x, filler)
        return jnp.asarray(np.pad(x, ((0, 0), (0, width), (0, 0))[: x.ndim], constant_values=filler))

    wide = np.pad(mask, ((0, 0), (0, width)))
    estimator, state, found = ESTIMATORS[name](), None, []
    for scale in (1.0, -0.5):
        experience = experience_of(
            wide, filled(scale * paid), ESTIMATORS[name]().samples, filled(was, log_filler), np.asarray(filled(hidden))
        )
        (loss, (state, metrics)), gradient = jax.value_and_grad(
            lambda x, e=experience, s=state: batch_loss(estimator, x, e, s), has_aux=True
        )(filled(log_probs, log_filler))
        np.testing.assert_array_equal(np.where(wide, 0.0, gradient), 0)
        found += [loss, gradient[:, : shape[1]], metrics, state]
    return jax.tree.leaves(found)


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_padding_contributes_nothing_to_loss_gradient_state_or_metrics(name: str) -> None:
    plain = everything(name, PAIR, 0.0)
    assert all(np.isfinite(x).all() for x in plain)
    for log_filler in (1e6, -np.inf):
        for a, b in zip(plain, everything(name, PAIR, 1e6, log_filler=log_filler), strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(plain, everything(name, PAIR, 5.0, width=2), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize(
    "loss", [surrogate, clipped_surrogate(0.9), clipped_surrogate(0.9, "sequence")], ids=["plain", "token", "sequence"]
)
def test_advantages_in_the_padding_do_not_count_whatever_they_are(loss: Any) -> None:
    def found(filler: float) -> tuple[jax.Array, jax.Array]:
        advantages = jnp.where(PAIR, PAIR_PAID, filler)
        return jax.value_and_grad(loss)(jnp.full((2, 3), -1.1), experience_of(PAIR, PAIR_PAID), advantages)

    for a, b in zip(found(0.0), found(np.nan), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_text_that_is_not_padding_counts(name: str) -> None:
    estimator, rng = ESTIMATORS[name](), np.random.default_rng(0)
    experience = experience_of(PAIR, PAIR_PAID / 8, estimator.samples, hidden=rng.normal(0, 1, (2, 3, 4)))
    gradient, _ = jax.grad(lambda x: batch_loss(estimator, x, experience), has_aux=True)(jnp.full((2, 3), -1.1))
    assert (np.abs(gradient)[PAIR] > 1e-3).all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_gradient_flows_through_the_rewards(name: str) -> None:
    estimator, log_probs = ESTIMATORS[name](), jnp.full((2, 3), -1.1)
    gradient = jax.grad(
        lambda r: batch_loss(estimator, log_probs, experience_of(PAIR, r, max(estimator.samples, 1)))[0]
    )(jnp.asarray(PAIR_PAID))
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


def test_what_each_asks_of_a_step() -> None:
    def asked(estimator: PolicyGradient) -> tuple[int, ...]:
        return estimator.samples, estimator.rollouts, estimator.epochs, estimator.minibatches

    assert asked(reinforce()) == (1, 0, 1, 1)
    assert asked(rollout()) == (1, 16, 1, 1)
    assert asked(rollout(3)) == (1, 3, 1, 1)
    assert asked(rloo()) == (4, 0, 1, 1)
    assert asked(rloo(3)) == (3, 0, 1, 1)
    assert asked(ppo()) == (1, 0, 4, 1)
    assert asked(ppo(epochs=2, minibatches=3)) == (1, 0, 2, 3)
    assert asked(grpo()) == (8, 0, 1, 1)
    assert asked(grpo(5, epochs=2, minibatches=3)) == (5, 0, 2, 3)
    assert asked(maligan()) == asked(weighted_likelihood()) == (1, 0, 1, 1)
    assert asked(maligan(3)) == asked(weighted_likelihood(3)) == (3, 0, 1, 1)


@pytest.mark.parametrize("build", [reinforce, rollout, ppo], ids=["reinforce", "rollout", "ppo"])
def test_the_default_baseline_is_the_moving_average_and_another_may_take_its_place(build: Any) -> None:
    estimator: PolicyGradient = build()
    assert isinstance(estimator.init(4), MovingAverage)
    other: Baseline = learned_value()
    assert build(baseline=other).init is other.init
