"""What the discriminator minimises, against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax.objectives.discrimination import PAIR_LOSSES, PairLoss, non_saturating, pair_accuracy, relativistic

LOSSES = pytest.mark.parametrize("loss", PAIR_LOSSES.values(), ids=PAIR_LOSSES.keys())
REAL = jnp.array([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]])
FAKE = jnp.array([[1.0, 0.0, -2.0], [-1.0, 2.0, 0.0]])
REAL_MASK = jnp.array([[True, True, True], [True, True, False]])
FAKE_MASK = jnp.array([[True, False, False], [True, True, True]])


def softplus(x: float) -> float:
    return float(np.log1p(np.exp(x)))


def test_non_saturating_by_hand() -> None:
    real = np.mean([softplus(-x) for x in (2.0, -1.0, 0.5, 0.0, 1.0)])
    fake = np.mean([softplus(x) for x in (1.0, -1.0, 2.0, 0.0)])
    assert float(non_saturating(REAL, REAL_MASK, FAKE, FAKE_MASK)) == pytest.approx(real + fake, rel=1e-6)


def test_relativistic_by_hand_compares_the_positions_that_both_texts_have() -> None:
    expected = np.mean([softplus(1 - 2), softplus(-1 - 0), softplus(2 - 1)])
    assert float(relativistic(REAL, REAL_MASK, FAKE, FAKE_MASK)) == pytest.approx(expected, rel=1e-6)


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
    real, fake = jax.grad(lambda r, f: loss(r, both, f, both), argnums=(0, 1))(REAL, FAKE)
    assert (np.asarray(real)[np.asarray(both)] < 0).all()
    assert (np.asarray(fake)[np.asarray(both)] > 0).all()


@LOSSES
def test_whole_texts_are_a_single_column(loss: PairLoss) -> None:
    whole = jnp.ones((2, 1), bool)
    value = loss(jnp.array([[2.0], [0.0]]), whole, jnp.array([[1.0], [-1.0]]), whole)
    by_hand = {
        "non_saturating": (softplus(-2) + softplus(0)) / 2 + (softplus(1) + softplus(-1)) / 2,
        "relativistic": softplus(-1),
    }
    name = next(name for name, function in PAIR_LOSSES.items() if function is loss)
    assert float(value) == pytest.approx(by_hand[name], rel=1e-6)


@LOSSES
def test_scores_of_1e4_give_finite_losses_and_gradients(loss: PairLoss) -> None:
    mask = jnp.ones((1, 1), bool)
    value, gradient = jax.value_and_grad(loss)(jnp.array([[-1e4]]), mask, jnp.array([[1e4]]), mask)
    assert float(value) == pytest.approx(2e4)
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
