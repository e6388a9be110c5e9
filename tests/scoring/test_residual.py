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


def chosen_from(log_p: np.ndarray, energy: np.ndarray, candidates: int) -> np.ndarray:
    """q of every text, by a sum over all groups of other texts."""
    weights, total, chances = np.exp(energy), np.zeros(1), np.ones(1)
    for _ in range(candidates - 1):
        total = (total[:, None] + weights).ravel()
        chances = (chances[:, None] * np.exp(log_p)).ravel()
    shares = weights[:, None] / (weights[:, None] + total)
    return candidates * np.exp(log_p) * (shares @ chances)


@pytest.mark.parametrize(("drawing", "candidates"), [(Drawing(), 1), (Drawing(), 2), (Drawing(0.6), 3)])
def test_the_likelihood_is_that_of_choosing_one_of_so_many(judge: Any, drawing: Drawing, candidates: int) -> None:
    log_p, energy = exact(judge, drawing)
    q = chosen_from(log_p, energy, candidates)
    assert q.sum() == pytest.approx(1)
    found = model(judge, candidates).likelihood(HeldOut(-log_p, np.diff(TARGETS.offsets)), TARGETS, drawing)
    assert np.abs(np.log(q) - log_p).max() > 0.3 or candidates == 1  # not the generator
    np.testing.assert_allclose(-found.nats, np.log(q), atol=0.03)
    limit = np.exp(log_p + energy - np.logaddexp.reduce(log_p + energy))
    assert np.abs(np.log(limit) - np.log(q)).max() > 0.3  # nor what it tends to
    np.testing.assert_array_equal(found.tokens, np.diff(TARGETS.offsets))


def test_of_very_many_it_is_p_times_exp_s_over_z(judge: Any) -> None:
    log_p, energy = exact(judge, Drawing())
    others = np.random.default_rng(1).choice(energy, 200_000, p=np.exp(log_p) / np.exp(log_p).sum())
    limit = energy - np.logaddexp.reduce(log_p + energy)
    np.testing.assert_allclose(residual.resampled_gain(energy, others, 2000), limit, atol=0.03)


def test_energies_that_are_far_apart_or_all_alike_give_numbers() -> None:
    np.testing.assert_allclose(residual.resampled_gain(np.zeros(3), np.zeros(64), 8), 0, atol=1e-12)
    far = residual.resampled_gain(np.array([-1e4, 0.0, 1e4]), np.zeros(64), 8)
    np.testing.assert_allclose(far, [np.log(8) - 1e4 - np.log(7), 0, np.log(8)], atol=1e-9)


def test_what_it_writes_follows_the_model_and_carries_its_log_probabilities(judge: Any) -> None:
    drawing, count = Drawing(0.8), 6000
    log_p, energy = exact(judge, drawing)
    one = model(judge, 3)
    written = one.write(count, drawing)
    place = {text: i for i, text in enumerate(TEXTS)}
    rows = np.array([place[tuple(t[m].tolist())] for t, m in zip(written.tokens, written.mask, strict=True)])
    q = chosen_from(log_p, energy, 3)
    np.testing.assert_allclose(written.log_probs, np.log(q)[rows], atol=0.03)
    share = np.bincount(rows, minlength=len(TEXTS)) / count
    by_chance = 0.5 * np.sqrt(2 * q * (1 - q) / (np.pi * count)).sum()
    assert 0.5 * np.abs(share - q).sum() < 2 * by_chance
    limit = np.exp(log_p + energy - np.logaddexp.reduce(log_p + energy))
    for other in (np.exp(log_p), limit):  # the generator alone, and what many candidates would give
        assert 0.5 * np.abs(share - other).sum() > 3 * by_chance


def test_energies_of_any_number_of_texts_are_those_of_each_alone(judge: Any) -> None:
    log_p, _ = exact(judge, Drawing())
    one = model(judge, 2)
    lengths = np.diff(TARGETS.offsets)
    whole = one.likelihood(HeldOut(-log_p, lengths), TARGETS, Drawing()).nats
    few = np.array([7, 0, 3])
    some = one.likelihood(HeldOut(-log_p[few], lengths[few]), TARGETS.subset(few), Drawing()).nats
    np.testing.assert_allclose(some, whole[few], rtol=1e-6)
