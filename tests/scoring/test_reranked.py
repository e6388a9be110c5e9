"""The likeliest of several texts, on a vocabulary that can be enumerated: how likely each is to be chosen."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import as_arrays, build, texts_of

from gptgan_jax import TransformerConfig, Vocabulary, log_probs, unconditional_batch
from gptgan_jax.generation.texts import Drawing
from gptgan_jax.scoring import reranked
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.scoring.reranked import Reranked, best_of_log_probs

LENGTH = 3
VOCABULARY = Vocabulary(size=4)
TEXTS = list(texts_of(VOCABULARY, LENGTH))
GENERATOR, PARAMS = build(TransformerConfig(layers=1, width=8, heads=2, max_positions=8), VOCABULARY)
TOKENIZER: Any = SimpleNamespace(decode=lambda ids: " ".join(map(str, ids)))


def by_enumeration(p: np.ndarray, candidates: int) -> np.ndarray:
    """The probability that each text is the likeliest of so many drawn from p: over all draws, float64."""
    chosen = np.zeros(len(p))
    for draws in itertools.product(range(len(p)), repeat=candidates):
        chosen[max(draws, key=lambda i: p[i])] += np.prod(p[list(draws)])
    return chosen


@pytest.mark.parametrize("candidates", [1, 2, 5])
def test_the_formula_is_the_sum_over_all_draws(candidates: int) -> None:
    counts = np.array([3, 70, 10, 17])
    p = counts / 100
    of_model = np.repeat(np.log(p), counts * 10_000)  # F as it is
    found = np.exp(best_of_log_probs(np.log(p), of_model, candidates))
    np.testing.assert_allclose(found, by_enumeration(p, candidates), rtol=1e-4, atol=1e-12)
    assert found.sum() == pytest.approx(1, abs=1e-5)


def test_extreme_texts_keep_their_digits() -> None:
    of_model = np.log(np.full(9999, 0.3))
    unlikely, never = best_of_log_probs(np.array([-200.0, -np.inf]), of_model, 8)
    # Of texts below all others F is half a text of 10,000, and p / F as good as nothing: N F^(N-1) p.
    assert unlikely == pytest.approx(np.log(8) + 7 * np.log(0.5 / 10_000) - 200, rel=1e-12)
    assert never == -np.inf


@pytest.mark.cases(1)
@pytest.mark.parametrize("drawing", [Drawing(), Drawing(0.7)])
def test_what_it_writes_follows_its_likelihood(drawing: Drawing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reranked, "TEXTS_FOR_F", 20_000)
    candidates, count = 3, 6000
    tokens, mask = as_arrays(TEXTS, LENGTH, VOCABULARY.pad_id)
    batch = unconditional_batch(tokens, VOCABULARY).replace(target_mask=mask)
    log_p = np.asarray(log_probs(GENERATOR, PARAMS, batch, drawing.temperature).sum(axis=1), np.float64)
    order = np.argsort(log_p)
    less = np.cumsum(np.exp(log_p)[order])[np.argsort(order)] - np.exp(log_p)
    q = (less + np.exp(log_p)) ** candidates - less**candidates
    one = Reranked(GENERATOR, PARAMS, TOKENIZER, LENGTH, candidates, 0, 500)
    lengths = np.array([len(text) for text in TEXTS])
    found = one.likelihood(HeldOut(-log_p, lengths), drawing)
    known = less > 0.005  # of 20,000 texts at least a hundred are less likely
    np.testing.assert_allclose(found.nats[known], -np.log(q)[known], atol=0.3)
    np.testing.assert_array_equal(found.tokens, lengths)
    assert np.exp(-found.nats).sum() == pytest.approx(1, abs=0.02)
    written = one.write(count, drawing)
    place = {text: i for i, text in enumerate(TEXTS)}
    rows = np.array([place[tuple(t[m].tolist())] for t, m in zip(written.tokens, written.mask, strict=True)])
    np.testing.assert_allclose(written.log_probs, -found.nats[rows], atol=1e-3)
    share = np.bincount(rows, minlength=len(TEXTS)) / count
    by_chance = 0.5 * np.sqrt(2 * q * (1 - q) / (np.pi * count)).sum()
    assert 0.5 * np.abs(share - q).sum() < 2 * by_chance
    assert 0.5 * np.abs(share - np.exp(log_p)).sum() > 0.1  # one text alone would be another model
