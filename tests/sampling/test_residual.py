"""The residual model of two networks, against all texts of a tiny vocabulary."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gptgan_jax as gg

VOCABULARY = gg.Vocabulary(size=5)
GENERATOR = gg.build_generator(gg.LstmConfig(hidden=4, embedding=4), VOCABULARY)
DISCRIMINATOR = gg.build_discriminator(gg.LinearConfig(embedding=3), VOCABULARY)
LENGTH = 2
END = VOCABULARY.eos_id
TEXTS = np.array([[END, 0], *([a, b] for a, b in itertools.product(range(5), repeat=2) if a != END)])
MODEL = gg.residual(GENERATOR, DISCRIMINATOR)


@pytest.fixture(scope="module")
def players() -> tuple[gg.Batch, dict, dict]:
    batch = gg.unconditional_batch(jnp.asarray(TEXTS, jnp.int32), VOCABULARY)
    params, scorer = (
        jax.tree.map(
            lambda x: 0.8 * jax.random.normal(jax.random.key(x.size), x.shape), player.init(jax.random.key(0), batch)
        )
        for player in (GENERATOR, DISCRIMINATOR)
    )
    return batch, params, scorer


def exact(batch: gg.Batch, params: dict, scorer: dict) -> tuple[np.ndarray, float]:
    """p exp(s) / Z of all texts, and log Z, in float64."""
    log_p = np.float64(gg.log_probs(GENERATOR, params, batch).sum(axis=1))
    weights = np.exp(log_p + np.float64(DISCRIMINATOR.scores(scorer, batch).sequence))
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-5)
    return weights / weights.sum(), float(np.log(weights.sum()))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_at_another_temperature_they_are_of_the_generator_there(players: tuple, temperature: float) -> None:
    batch, params, scorer = players
    energy = np.float64(DISCRIMINATOR.scores(scorer, batch).sequence)
    log_p = np.float64(gg.log_probs(GENERATOR, params, batch, temperature).sum(axis=1))
    log_z = np.log(np.exp(log_p + energy).sum())
    found = np.float64(MODEL.log_probs(params, scorer, batch, log_z, temperature))
    np.testing.assert_allclose(found, log_p + energy - log_z, rtol=1e-4, atol=1e-4)
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-4)


def test_its_probabilities_are_those_of_the_formula(players: tuple) -> None:
    probabilities, log_z = exact(*players)
    batch, params, scorer = players
    np.testing.assert_allclose(np.exp(MODEL.log_probs(params, scorer, batch, log_z)), probabilities, rtol=1e-4)


@pytest.mark.thorough
def test_its_normaliser_is_estimated_with_its_standard_error(players: tuple) -> None:
    _, expected = exact(*players)
    _, *params = players
    found, errors = jax.vmap(lambda key: MODEL.log_z(*params, key, 400, LENGTH))(
        jax.random.split(jax.random.key(1), 20)
    )
    np.testing.assert_allclose(found.std(), errors.mean(), rtol=0.5)
    assert abs(found.mean() - expected) < 4 * errors.mean() / np.sqrt(20)


@pytest.mark.thorough
def test_its_texts_are_drawn_from_it(players: tuple) -> None:
    probabilities, _ = exact(*players)
    _, *params = players
    written = MODEL.sample(*params, jax.random.key(2), 4000, LENGTH, candidates=32)
    tokens = np.where(written.mask, written.tokens, 0)
    shares = np.array([(tokens == text).all(axis=1).mean() for text in TEXTS])
    plain = np.exp(gg.log_probs(GENERATOR, params[0], players[0]).sum(axis=1))
    assert np.abs(shares - probabilities).sum() < 0.1 < np.abs(plain - probabilities).sum()
