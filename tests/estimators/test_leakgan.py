"""LeakGAN's estimator over all texts: the worker's expected gradient, the manager's loss, and rewards by rank."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimators.enumeration import (
    DENSE,
    FOLLOWED,
    INTRINSIC,
    LOGITS,
    MASK,
    TEXTS,
    TOKENS,
    T,
    batches,
    chances,
    exact_gradient,
    expected_gradient,
    log_probs_of,
    totals,
    weighted,
)

from gptgan_jax import Experience, Guidance, Sample, guided, leave_one_out, no_baseline
from gptgan_jax.estimators.seqgan import rescaled
from gptgan_jax.gradients.baselines import Baseline


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def known_values() -> np.ndarray:
    """[texts, T]: the expected total of texts that begin with the tokens up to and including t; 1000 in the padding."""
    reward, weight = totals(DENSE), chances()
    values = np.full((len(TEXTS), T), 1e3)
    for i, text in enumerate(TEXTS):
        for t in range(len(text)):
            same = [j for j, other in enumerate(TEXTS) if other[: t + 1] == text[: t + 1]]
            values[i, t] = weight[same] @ reward[same] / weight[same].sum()
    return values


VALUES = known_values()


@pytest.mark.parametrize("baseline", [no_baseline(), leave_one_out()], ids=["none", "leave_one_out"])
def test_without_intrinsic_reward_and_ranks_the_workers_gradient_is_that_of_the_expected_reward(
    baseline: Baseline,
) -> None:
    found = expected_gradient(guided(2, 0.0, 0.0, baseline), VALUES, size=2)
    np.testing.assert_allclose(found, exact_gradient(totals(DENSE)), atol=1e-12)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_token_is_credited_with_its_own_intrinsic_reward_and_its_value(share: float) -> None:
    mixed = np.where(MASK, (1 - share) * VALUES + share * INTRINSIC, 0.0)
    by_hand = weighted(mixed[batches(1)])
    found = expected_gradient(guided(2, share, 0.0, no_baseline()), VALUES)
    np.testing.assert_allclose(found, by_hand, atol=1e-12)
    # The bias: a token's effect on the rewards of later tokens is left out.
    total = (1 - share) * totals(DENSE) + share * totals(np.where(MASK, INTRINSIC, 0.0))
    assert np.abs(found - exact_gradient(total)).max() > 0.01


def test_the_baseline_is_subtracted_from_the_workers_reward() -> None:
    seven_tenths = Baseline(
        lambda width: None, lambda state, experience, returns: jnp.asarray(0.7), lambda *given: None
    )
    sample = Sample(jnp.asarray(TOKENS), jnp.asarray(MASK), log_probs_of(jnp.asarray(LOGITS)))
    guidance = Guidance(jnp.asarray(FOLLOWED), jnp.asarray(INTRINSIC))
    experience = Experience(sample, jnp.asarray(VALUES), jnp.zeros((*MASK.shape, 1)), 1, guidance)
    found, _, metrics = guided(2, 0.3, 0.0, seven_tenths).advantages(None, experience)
    np.testing.assert_allclose(found, np.where(MASK, 0.7 * VALUES + 0.3 * INTRINSIC - 0.7, 0.0), atol=1e-12)
    assert float(metrics["intrinsic_reward"]) == pytest.approx(INTRINSIC[MASK].mean())


def ranks_by_hand(values: np.ndarray, mask: np.ndarray, delta: float) -> np.ndarray:
    out = np.zeros(values.shape)
    for t in range(values.shape[1]):
        rows = [r for r in range(len(values)) if mask[r, t]]
        for r in rows:
            higher = sum(values[o, t] > values[r, t] for o in rows)
            equal = sum(values[o, t] == values[r, t] for o in rows)
            rank = np.mean([higher + 1 + i for i in range(equal)])
            out[r, t] = 1 / (1 + np.exp(-delta * (0.5 - rank / len(rows))))
    return out


def test_a_rank_is_among_the_texts_that_have_the_token() -> None:
    values = np.array([[0.1, 0.5, 9.0], [0.3, 0.5, 9.0], [0.2, 0.4, 7.0]])
    mask = np.array([[True, True, False], [True, True, False], [True, True, True]])
    np.testing.assert_allclose(rescaled(values, mask, 12.0), ranks_by_hand(values, mask, 12.0), atol=1e-12)
    # By the paper's formula: the highest of three has rank 1.
    assert rescaled(values, mask, 12.0)[1, 0] == pytest.approx(1 / (1 + np.exp(-12 * (0.5 - 1 / 3))))


def test_the_worker_learns_from_ranks() -> None:
    by_hand = np.array([ranks_by_hand(VALUES[rows], MASK[rows], 16.0) for rows in batches(3)])
    found = expected_gradient(guided(2, 0.0, 16.0, no_baseline()), VALUES, size=3)
    np.testing.assert_allclose(found, weighted(by_hand), atol=1e-12)
    assert np.abs(found - exact_gradient(totals(DENSE))).max() > 0.02


@pytest.mark.parametrize("rescale", [0.0, 16.0])
def test_the_managers_loss_by_numpy(rescale: float) -> None:
    """-1/R sum_t Q_t followed_t inside the mask, and no gradient of it in the values."""
    estimator = guided(2, 1.0, rescale, no_baseline())
    values = ranks_by_hand(VALUES, MASK, rescale) if rescale else VALUES
    sample = Sample(jnp.asarray(TOKENS), jnp.asarray(MASK), log_probs_of(jnp.asarray(LOGITS)))
    zeros = jnp.zeros(MASK.shape)

    def loss(far: jax.Array, paid: jax.Array) -> jax.Array:
        experience = Experience(sample, paid, jnp.zeros((*MASK.shape, 1)), 1, Guidance(far, zeros))
        return estimator.loss(zeros, experience, zeros)

    value, (gradient, none) = jax.value_and_grad(loss, (0, 1))(jnp.asarray(FOLLOWED), jnp.asarray(VALUES))
    np.testing.assert_allclose(value, -np.where(MASK, values * FOLLOWED, 0).sum() / len(TEXTS), rtol=1e-10)
    np.testing.assert_allclose(gradient, -np.where(MASK, values, 0) / len(TEXTS), atol=1e-12)
    np.testing.assert_array_equal(none, np.zeros(MASK.shape))
