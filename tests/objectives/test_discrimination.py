"""What the discriminator minimises, against numbers worked out by hand."""

import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax.objectives.discrimination import (
    DIFFERENCES_ONLY,
    PAIR_LOSSES,
    PairLoss,
    PairLossName,
    build_pair_loss,
    hinge,
    non_saturating,
    pair_accuracy,
    relativistic,
    relativistic_tie,
    wasserstein,
)

LOSSES = pytest.mark.parametrize("loss", PAIR_LOSSES.values(), ids=PAIR_LOSSES.keys())
REAL = jnp.array([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]])
FAKE = jnp.array([[1.0, 0.0, -2.0], [-1.0, 2.0, 0.0]])
REAL_MASK = jnp.array([[True, True, True], [True, True, False]])
FAKE_MASK = jnp.array([[True, False, False], [True, True, True]])


def softplus(x: float) -> float:
    return float(np.log1p(np.exp(x)))


def tie_loss(*differences: float) -> float:
    """Mean -log P(tie)."""
    return float(np.mean([np.log(np.exp(d / 2) + np.exp(-d / 2) + 1) for d in differences]))


def win_loss(*differences: float) -> float:
    """Mean -log P(the first wins), where texts may tie."""
    return float(np.mean([np.log(np.exp(d / 2) + np.exp(-d / 2) + 1) - d / 2 for d in differences]))


def test_non_saturating_by_hand() -> None:
    real = np.mean([softplus(-x) for x in (2.0, -1.0, 0.5, 0.0, 1.0)])
    fake = np.mean([softplus(x) for x in (1.0, -1.0, 2.0, 0.0)])
    assert float(non_saturating(REAL, REAL_MASK, FAKE, FAKE_MASK)) == pytest.approx(real + fake, rel=1e-6)


def test_relativistic_by_hand_compares_the_positions_that_both_texts_have() -> None:
    expected = np.mean([softplus(1 - 2), softplus(-1 - 0), softplus(2 - 1)])
    assert float(relativistic(REAL, REAL_MASK, FAKE, FAKE_MASK)) == pytest.approx(expected, rel=1e-6)


def test_hinge_by_hand() -> None:
    real, fake = np.mean([0.0, 2.0, 0.5, 1.0, 0.0]), np.mean([2.0, 0.0, 3.0, 1.0])
    assert float(hinge(REAL, REAL_MASK, FAKE, FAKE_MASK)) == pytest.approx(real + fake, rel=1e-6)


def test_wasserstein_by_hand() -> None:
    real, fake = np.mean([2.0, -1.0, 0.5, 0.0, 1.0]), np.mean([1.0, -1.0, 2.0, 0.0])
    assert float(wasserstein(REAL, REAL_MASK, FAKE, FAKE_MASK)) == pytest.approx(fake - real, rel=1e-6)


def test_relativistic_tie_by_hand_compares_the_positions_that_both_texts_have() -> None:
    expected = win_loss(2 - 1, 0 + 1, 1 - 2) + (tie_loss(2 - 0, -1 - 1) + tie_loss(1 + 1)) / 4
    assert float(relativistic_tie(REAL, REAL_MASK, FAKE, FAKE_MASK)) == pytest.approx(expected, rel=1e-6)


def test_relativistic_tie_pairs_each_text_with_the_next_and_the_last_with_the_first() -> None:
    real, fake, whole = jnp.array([[0.0], [1.0], [3.0], [9.0]]), jnp.zeros((4, 1)), jnp.ones((4, 1), bool)
    expected = win_loss(0, 1, 3, 9) + (tie_loss(1, 2, 6, 9) + tie_loss(0)) / 4
    assert float(relativistic_tie(real, whole, fake, whole)) == pytest.approx(expected, rel=1e-6)


def test_with_ties_the_three_answers_have_the_probability_1() -> None:
    a, b, whole = jnp.array([[1.5]]), jnp.array([[0.2]]), jnp.ones((1, 1), bool)
    alone = float(jnp.log(3.0)) / 2  # a row ties with itself with the probability 1/3
    wins = [np.exp(alone - float(relativistic_tie(*pair))) for pair in ((a, whole, b, whole), (b, whole, a, whole))]
    assert sum(wins) + np.exp(-tie_loss(1.3)) == pytest.approx(1, rel=1e-6)


def test_ties_draw_texts_of_the_same_origin_together() -> None:
    whole = jnp.ones((2, 1), bool)
    same = jnp.zeros((2, 1))
    apart = jnp.array([[2.0], [-2.0]])
    real = jax.grad(lambda r: relativistic_tie(r, whole, same, whole) - relativistic(r, whole, same, whole))(apart)
    assert float(real[0, 0]) > 0 > float(real[1, 0])


@LOSSES
def test_the_losses_of_differences_only_are_those_that_no_level_changes(loss: PairLoss) -> None:
    name = next(name for name, function in PAIR_LOSSES.items() if function is loss)
    change = float(loss(REAL + 3, REAL_MASK, FAKE + 3, FAKE_MASK) - loss(REAL, REAL_MASK, FAKE, FAKE_MASK))
    assert (abs(change) < 1e-5) == (name in DIFFERENCES_ONLY)
    assert abs(change) < 1e-5 or abs(change) > 0.1


def test_smoothed_non_saturating_is_the_cross_entropy_with_the_smoothed_labels() -> None:
    def cross_entropy(score: float, label: float) -> float:
        return label * softplus(-score) + (1 - label) * softplus(score)

    real = np.mean([cross_entropy(x, 0.8) for x in (2.0, -1.0, 0.5, 0.0, 1.0)])
    fake = np.mean([cross_entropy(x, 0.2) for x in (1.0, -1.0, 2.0, 0.0)])
    value = build_pair_loss("non_saturating", 0.2)(REAL, REAL_MASK, FAKE, FAKE_MASK)
    assert float(value) == pytest.approx(real + fake, rel=1e-6)


def test_smoothed_relativistic_lets_the_real_text_win_with_the_smoothed_probability() -> None:
    expected = np.mean([0.8 * softplus(-d) + 0.2 * softplus(d) for d in (2 - 1, 0 + 1, 1 - 2)])
    value = build_pair_loss("relativistic", 0.2)(REAL, REAL_MASK, FAKE, FAKE_MASK)
    assert float(value) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["non_saturating", "relativistic"])
def test_a_smoothed_loss_is_least_at_finite_scores(name: PairLossName) -> None:
    best, whole = jnp.full((1, 1), np.log(0.9 / 0.1)), jnp.ones((1, 1), bool)
    real, fake = (best, -best) if name == "non_saturating" else (best / 2, -best / 2)
    loss = build_pair_loss(name, 0.1)
    gradients = jax.grad(lambda r, f: loss(r, whole, f, whole), argnums=(0, 1))(real, fake)
    np.testing.assert_allclose(jnp.concatenate(gradients), 0, atol=1e-6)
    curvature = jax.grad(lambda r: loss(r, whole, fake, whole))(real + 1)
    assert float(curvature[0, 0]) > 0.01


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_without_smoothing_a_name_builds_the_plain_loss(name: PairLossName) -> None:
    assert build_pair_loss(name) is PAIR_LOSSES[name]
    assert set(PAIR_LOSSES) == set(typing.get_args(PairLossName))


@pytest.mark.parametrize("name", ["hinge", "relativistic_tie", "wasserstein"])
def test_a_loss_without_smoothed_labels_refuses_smoothing_by_its_name(name: PairLossName) -> None:
    with pytest.raises(ValueError, match=name):
        build_pair_loss(name, 0.1)


@pytest.mark.parametrize("smoothing", [-0.1, 0.5, float("nan")])
def test_smoothing_out_of_range_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match=r"at least 0 and below 0\.5"):
        build_pair_loss("relativistic", smoothing)


def test_relativistic_depends_on_differences_only_and_non_saturating_does_not() -> None:
    shift = jnp.array([[5.0], [-3.0]])
    pair = (REAL + shift, REAL_MASK, FAKE + shift, FAKE_MASK)
    assert float(relativistic(*pair)) == pytest.approx(float(relativistic(REAL, REAL_MASK, FAKE, FAKE_MASK)), rel=1e-5)
    assert abs(float(non_saturating(*pair) - non_saturating(REAL, REAL_MASK, FAKE, FAKE_MASK))) > 0.1


@LOSSES
def test_masked_scores_change_neither_the_loss_nor_its_gradient(loss: PairLoss) -> None:
    def both(filler: float) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        real, fake = jnp.where(REAL_MASK, REAL, filler), jnp.where(FAKE_MASK, FAKE, filler)
        return jax.value_and_grad(lambda r, f: loss(r, REAL_MASK, f, FAKE_MASK), argnums=(0, 1))(real, fake)

    value, gradient = both(0.0)
    other, other_gradient = both(50.0)
    assert float(value) == float(other)
    for a, b, mask in zip(gradient, other_gradient, (REAL_MASK, FAKE_MASK), strict=True):
        np.testing.assert_array_equal(a, b)
        assert (np.asarray(a)[~np.asarray(mask)] == 0).all()


@LOSSES
def test_descent_raises_real_scores_and_lowers_generated_ones(loss: PairLoss) -> None:
    both = REAL_MASK & FAKE_MASK
    scale = 0.25 if loss is hinge else 1.0  # within the margin
    real, fake = jax.grad(lambda r, f: loss(r, both, f, both), argnums=(0, 1))(scale * REAL, scale * FAKE)
    assert (np.asarray(real)[np.asarray(both)] < 0).all()
    assert (np.asarray(fake)[np.asarray(both)] > 0).all()


@LOSSES
def test_whole_texts_are_a_single_column(loss: PairLoss) -> None:
    whole = jnp.ones((2, 1), bool)
    value = loss(jnp.array([[2.0], [0.0]]), whole, jnp.array([[1.0], [-1.0]]), whole)
    by_hand = {
        "non_saturating": (softplus(-2) + softplus(0)) / 2 + (softplus(1) + softplus(-1)) / 2,
        "hinge": 0.5 + 1.0,
        "relativistic": softplus(-1),
        "relativistic_tie": win_loss(1) + tie_loss(2) / 2,
        "wasserstein": 0.0 - 1.0,
    }
    name = next(name for name, function in PAIR_LOSSES.items() if function is loss)
    assert float(value) == pytest.approx(by_hand[name], rel=1e-6)


@LOSSES
def test_scores_of_1e4_give_finite_losses_and_gradients(loss: PairLoss) -> None:
    mask = jnp.ones((1, 1), bool)
    value, gradient = jax.value_and_grad(loss)(jnp.array([[-1e4]]), mask, jnp.array([[1e4]]), mask)
    name = next(name for name, function in PAIR_LOSSES.items() if function is loss)
    added = {"hinge": 2.0, "relativistic_tie": np.log(3) / 2}
    assert float(value) == pytest.approx(2e4 + added.get(name, 0.0))
    assert np.isfinite(gradient).all()


def test_pair_accuracy_is_the_area_under_the_roc_curve_with_ties_counting_half() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.integers(0, 5, 30) + 1.0, rng.integers(0, 5, 20) * 1.0
    wins = [1.0 if r > f else 0.5 if r == f else 0.0 for r in real for f in fake]
    assert 0.5 in wins
    assert float(pair_accuracy(jnp.asarray(real), jnp.asarray(fake))) == pytest.approx(np.mean(wins), rel=1e-6)


def test_pair_accuracy_is_1_when_all_pairs_are_ranked_rightly_half_between_equals_and_0_when_wrong() -> None:
    high, low = jnp.array([1.0, 2.0]), jnp.array([-1.0, 0.0])
    assert [float(pair_accuracy(*pair)) for pair in ((high, low), (high, high), (low, high))] == [1.0, 0.5, 0.0]
