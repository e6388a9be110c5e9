"""DGSAN's minimum is the data, and JSDGAN's gradient that of the divergence; each loss by hand."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimators.enumeration import LOGITS, TEXTS, chances, log_probs_of
from estimators.test_spin import DATA, REAL, REFERENCE, REFERENCE_REAL, REFERENCE_WRITTEN, WRITTEN
from scipy import optimize

from gptgan_jax import dgsan, jsdgan

ARGUMENTS = REAL, REFERENCE_REAL, WRITTEN, REFERENCE_WRITTEN


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# ---- DGSAN


def test_dgsans_loss_by_hand_is_the_cross_entropy_of_the_best_discriminator_of_both_generators() -> None:
    loss, metrics = dgsan().loss(*(jnp.asarray(x) for x in ARGUMENTS))
    of_real = np.exp(REAL) / (np.exp(REAL) + np.exp(REFERENCE_REAL))
    of_written = np.exp(WRITTEN) / (np.exp(WRITTEN) + np.exp(REFERENCE_WRITTEN))
    assert float(loss) == pytest.approx(-np.log(of_real).mean() - np.log(1 - of_written).mean(), rel=1e-12)
    margin = (REAL - REFERENCE_REAL).mean() - (WRITTEN - REFERENCE_WRITTEN).mean()
    assert float(metrics["margin"]) == pytest.approx(margin, rel=1e-12)


def expected_loss(logits: jax.Array) -> jax.Array:
    """Over all real and all written texts, of a generator that may give each of four texts any probability."""
    log_p, log_q = jax.nn.log_softmax(logits), jnp.log(REFERENCE)
    each = jax.vmap(lambda i: dgsan().loss(*(x[i][None] for x in (log_p, log_q, log_p, log_q)))[0])
    apart = jax.vmap(lambda i: dgsan().loss(log_p[i][None], log_q[i][None], jnp.full(1, -99.0), jnp.zeros(1))[0])
    of_real = apart(jnp.arange(4))
    return DATA @ of_real + REFERENCE @ (each(jnp.arange(4)) - of_real)


def test_its_minimum_is_the_data_whatever_the_reference() -> None:
    gradient = jax.jit(jax.value_and_grad(expected_loss))
    found = optimize.minimize(
        lambda x: tuple(np.asarray(y, np.float64) for y in gradient(jnp.asarray(x))),
        np.log(REFERENCE),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-10},
    ).x
    np.testing.assert_allclose(np.exp(found) / np.exp(found).sum(), DATA, atol=1e-6)


def test_at_the_reference_its_gradient_is_half_that_of_likelihood() -> None:
    logits = jnp.log(REFERENCE)
    likelihood = jax.grad(lambda x: -DATA @ jax.nn.log_softmax(x))(logits)
    np.testing.assert_allclose(jax.grad(expected_loss)(logits), likelihood / 2, atol=1e-12)


@pytest.mark.parametrize("every", [1, 3])
def test_the_generator_becomes_its_own_reference_every_so_many_steps(every: int) -> None:
    estimator = dgsan(every)
    state, renewed = estimator.init(4), []
    for _ in range(7):
        state, renew = estimator.refresh(state)
        renewed.append(bool(renew))
    assert renewed == [step % every == 0 for step in range(7)]


# ---- JSDGAN

TRAINING = np.array([0, 3, 3, 7, 11])  # texts, one of them twice


def test_jsdgans_expected_gradient_is_that_of_the_divergence_from_the_training_texts() -> None:
    texts = np.unique(TRAINING)  # each once: d = 1 / N of each

    def divergence(logits: jax.Array) -> jax.Array:
        p = jnp.exp(log_probs_of(logits).sum(axis=1))
        d = jnp.zeros(len(TEXTS)).at[texts].set(1 / len(texts))
        mean = (p + d) / 2
        return (p * jnp.log(p / mean) + jnp.where(d > 0, d * jnp.log(jnp.where(d > 0, d, 1) / mean), 0)).sum() / 2

    def loss(logits: jax.Array) -> jax.Array:
        real = log_probs_of(logits).sum(axis=1)[texts]
        return jsdgan(len(texts), normalised=False).loss(real, real, real, real)[0]

    found, exact = (np.asarray(jax.grad(f)(jnp.asarray(LOGITS))) for f in (loss, divergence))
    np.testing.assert_allclose(found, exact, atol=1e-12)
    assert np.abs(exact).max() > 0.01


def test_its_weights_vanish_for_texts_that_are_all_but_impossible() -> None:
    real = jnp.full(3, -200.0)
    assert float(jsdgan(10_000, normalised=False).loss(real, real, real, real)[1]["weight"]) == pytest.approx(0)
    spread = jnp.array([-200.0, -201.0, -203.0])
    assert float(jsdgan(10_000).loss(spread, spread, spread, spread)[1]["weight"]) < -0.01


def test_the_normalised_weights_by_hand() -> None:
    p = chances()[TRAINING]
    share = (p - p.min()) / (p.max() - p.min())
    d = 1 / len(p)
    by_hand = np.where(share > 0, share / d * np.log(np.maximum(share, 1e-30) / (d + share)), 0)
    real = jnp.log(jnp.asarray(p))
    gradient = jax.grad(lambda x: jsdgan().loss(x, x, x, x)[0])(real)
    np.testing.assert_allclose(gradient, by_hand / (2 * len(p)), atol=1e-12)


def test_it_never_becomes_its_own_reference() -> None:
    estimator = jsdgan()
    assert not any(bool(estimator.refresh(estimator.init(4))[1]) for _ in range(3))
