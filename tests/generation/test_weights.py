"""Weights in bfloat16 while texts are written: what is rounded, what is not, and what it does to the texts."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers import VOCABULARY, build

import gptgan_jax as gg
from gptgan_jax.generation.weights import held_in

ROWS, LENGTH = 64, 12
NETWORKS: dict[str, Any] = {
    "transformer": gg.TransformerConfig(layers=2, width=16, heads=2, max_positions=32),
    "lstm": gg.LstmConfig(embedding=8, hidden=8),
}


def written(generator: gg.Generator, params: Any) -> gg.Sample:
    prompt = jnp.full((ROWS, 1), VOCABULARY.bos_id, jnp.int32)
    write = jax.jit(lambda params: gg.sample(generator, params, jax.random.key(3), prompt, prompt == prompt, LENGTH))
    return write(params)


def as_read(generator: gg.Generator, params: Any, texts: gg.Sample) -> np.ndarray:
    """Teacher-forced log-probabilities of the texts."""
    batch = gg.unconditional_batch(texts.tokens, VOCABULARY).replace(target_mask=texts.mask)
    return np.asarray(jax.jit(lambda params: gg.log_probs(generator, params, batch))(params))


@pytest.mark.cases(1)
@pytest.mark.parametrize("network", NETWORKS)
def test_weights_are_rounded_and_nothing_else_is(network: str) -> None:
    """Drawn with rounded weights, a text has the log-probability that float32 products of those weights give it, and
    nearly that of the weights themselves; most tokens are the ones that these draw."""
    generator, params = build(NETWORKS[network])
    held = held_in(params, "bfloat16")
    halved = {x.dtype.itemsize for x in jax.tree.leaves(held)}
    assert halved == {2, 4}
    texts, whole = written(generator, held), written(generator, params)
    mask = np.asarray(texts.mask)

    def rounded(x: Any, y: Any) -> np.ndarray:
        return np.asarray(x).astype(ml_dtypes.bfloat16).astype(np.float32) if y.dtype == jnp.bfloat16 else np.asarray(x)

    exact = as_read(generator, jax.tree.map(rounded, params, held), texts)
    np.testing.assert_allclose(np.asarray(texts.log_probs)[mask], exact[mask], atol=2e-5)
    apart = np.abs(np.asarray(texts.log_probs) - as_read(generator, params, texts))[mask]
    assert 1e-5 < apart.max() < 0.1
    assert apart.mean() < 0.02
    # A token that differs changes what follows it, so rows are compared up to there.
    same = np.cumprod(np.asarray(texts.tokens) == np.asarray(whole.tokens), axis=1)
    assert same.mean() > 0.8


def test_a_network_that_computes_in_bfloat16_writes_the_same_texts() -> None:
    generator, params = build(dataclasses.replace(NETWORKS["transformer"], dtype="bfloat16"))
    held, whole = written(generator, held_in(params, "bfloat16")), written(generator, params)
    np.testing.assert_array_equal(held.tokens, whole.tokens)


def test_by_default_they_stay_as_they_are() -> None:
    _, params = build(NETWORKS["lstm"])
    assert held_in(params, "float32") is params
