"""The residual model on a vocabulary that can be enumerated: its likelihood sums to 1, and it writes what it says."""

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from helpers import as_arrays, build, random_params, texts_of

from gptgan_jax import LinearConfig, TransformerConfig, Vocabulary, build_discriminator, log_probs, unconditional_batch
from gptgan_jax.data.encoding import Ragged
from gptgan_jax.generation.texts import Drawing
from gptgan_jax.scoring import residual
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.scoring.residual import Networks, ResidualModel

LENGTH = 3
VOCABULARY = Vocabulary(size=4)
TEXTS = list(texts_of(VOCABULARY, LENGTH))
TARGETS = Ragged(np.concatenate([np.array(text, np.int32) for text in TEXTS]), np.cumsum([0, *map(len, TEXTS)]))
GENERATOR, PARAMS = build(TransformerConfig(layers=1, width=8, heads=2, max_positions=8), VOCABULARY)
DISCRIMINATOR = build_discriminator(LinearConfig(embedding=3), VOCABULARY)
TOKENIZER: Any = SimpleNamespace(decode=lambda ids: " ".join(map(str, ids)))


@pytest.fixture(scope="module")
def judge() -> Any:
    """A discriminator whose scores differ by some nats between texts."""
    tokens, _ = as_arrays(TEXTS, LENGTH, VOCABULARY.pad_id)
    shapes = jax.eval_shape(DISCRIMINATOR.init, jax.random.key(0), unconditional_batch(tokens, VOCABULARY))
    return jax.tree.map(lambda x: 1.6 * x, random_params(shapes, seed=4))


def exact(judge: Any, drawing: Drawing) -> tuple[np.ndarray, np.ndarray]:
    """(log p, energy) of every text, float64."""
    tokens, mask = as_arrays(TEXTS, LENGTH, VOCABULARY.pad_id)
    batch = unconditional_batch(tokens, VOCABULARY).replace(target_mask=mask)
    log_p = np.asarray(log_probs(GENERATOR, PARAMS, batch, drawing.temperature).sum(axis=1), np.float64)
    return log_p, np.asarray(DISCRIMINATOR.scores(judge, batch).sequence, np.float64)


def model(judge: Any, candidates: int) -> ResidualModel:
    return ResidualModel(Networks(GENERATOR, PARAMS, DISCRIMINATOR, judge), TOKENIZER, LENGTH, candidates, 0, 200)


@pytest.mark.cases(1)
@pytest.mark.parametrize("drawing", [Drawing(), Drawing(0.6)])
def test_z_is_near_the_exact_one_and_the_likelihood_sums_to_1_up_to_it(judge: Any, drawing: Drawing) -> None:
    log_p, energy = exact(judge, drawing)
    log_z = np.logaddexp.reduce(log_p + energy)
    assert abs(log_z) > 0.05  # not a model that 0 would fit
    one = model(judge, 4)
    relative = np.sqrt(np.exp(log_p) @ np.exp(2 * (energy - log_z)) - 1)  # deviation of exp(s) over its mean
    assert one.log_z(drawing) == pytest.approx(log_z, abs=4 * relative / np.sqrt(residual.TEXTS_FOR_Z))
    found = one.likelihood(HeldOut(-log_p, np.diff(TARGETS.offsets)), TARGETS, drawing)
    np.testing.assert_allclose(found.nats, -(log_p + energy - one.log_z(drawing)), rtol=1e-5, atol=1e-5)
    assert np.exp(-found.nats).sum() == pytest.approx(np.exp(log_z - one.log_z(drawing)), rel=1e-5)
    np.testing.assert_array_equal(found.tokens, np.diff(TARGETS.offsets))


@pytest.mark.thorough
def test_what_it_writes_follows_the_model_and_carries_its_log_probabilities(judge: Any) -> None:
    drawing, count = Drawing(0.8), 6000
    log_p, energy = exact(judge, drawing)
    one = model(judge, 48)
    written = one.write(count, drawing)
    place = {text: i for i, text in enumerate(TEXTS)}
    rows = np.array([place[tuple(t[m].tolist())] for t, m in zip(written.tokens, written.mask, strict=True)])
    np.testing.assert_allclose(written.log_probs, (log_p + energy - one.log_z(drawing))[rows], rtol=1e-4, atol=1e-4)
    share = np.bincount(rows, minlength=len(TEXTS)) / count
    q = np.exp(log_p + energy - np.logaddexp.reduce(log_p + energy))
    by_chance = 0.5 * np.sqrt(2 * q * (1 - q) / (np.pi * count)).sum()
    assert 0.5 * np.abs(share - q).sum() < 2 * by_chance + 0.01
    assert 0.5 * np.abs(share - np.exp(log_p)).sum() > 0.1  # the generator alone is another model


def test_energies_of_any_number_of_texts_are_those_of_each_alone(judge: Any) -> None:
    log_p, _ = exact(judge, Drawing())
    one = model(judge, 2)
    lengths = np.diff(TARGETS.offsets)
    whole = one.likelihood(HeldOut(-log_p, lengths), TARGETS, Drawing()).nats
    few = np.array([7, 0, 3])
    some = one.likelihood(HeldOut(-log_p[few], lengths[few]), TARGETS.subset(few), Drawing()).nats
    np.testing.assert_allclose(some, whole[few], rtol=1e-6)
