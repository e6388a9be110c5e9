"""Drawing by two uniforms: in proportion to the softmax, and never what has no probability."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from gptgan_jax.sampling import categorical
from gptgan_jax.sampling.categorical import draw_tokens

# As on a CPU, and as on a TPU at a distance that parts these vocabularies.
WAYS = {"blocks": jax.jit(draw_tokens), "distance": jax.jit(functools.partial(categorical._by_distance, distance=128))}


@pytest.mark.cases(3)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vocab_size", [1, 2, 127, 128, 129, 300, 5000])
def test_frequencies_fit_the_softmax(vocab_size: int, way: str) -> None:
    logits = np.random.default_rng(vocab_size).normal(0, 1.5, vocab_size).astype(np.float32)
    count = 20_000
    uniforms = jax.random.uniform(jax.random.key(vocab_size), (2, count))
    tokens, log_total = map(np.asarray, WAYS[way](uniforms, jnp.broadcast_to(logits, (count, vocab_size))))
    np.testing.assert_allclose(log_total, special.logsumexp(logits.astype(np.float64)), rtol=1e-5)
    expected = np.exp(logits.astype(np.float64))
    expected *= count / expected.sum()
    common = expected >= 5
    observed = np.bincount(tokens, minlength=vocab_size)
    if not common.all():
        observed = np.append(observed[common], observed[~common].sum())
        expected = np.append(expected[common], expected[~common].sum())
    assert vocab_size == 1 or stats.chisquare(observed, expected).pvalue > 1e-4
    assert observed.sum() == count


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vocab_size", [3, 128, 300])
def test_several_draws_of_a_row_are_those_of_the_row_repeated(vocab_size: int, way: str) -> None:
    logits = jax.random.normal(jax.random.key(0), (4, vocab_size))
    uniforms = jax.random.uniform(jax.random.key(1), (2, 12))
    tokens, log_total = WAYS[way](uniforms, logits)
    wanted, repeated = WAYS[way](uniforms, jnp.repeat(logits, 3, axis=0))
    np.testing.assert_array_equal(tokens, wanted)
    np.testing.assert_allclose(log_total, repeated[::3], rtol=1e-6)


def test_a_program_for_tpus_draws_by_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = jax.random.uniform(jax.random.key(0), (2, 40)), jax.random.normal(jax.random.key(1), (40, 9000))
    by_blocks = draw_tokens(*arguments)[0]
    monkeypatch.setattr(categorical, "is_for_tpu", lambda: True)
    tokens = draw_tokens(*arguments)[0]
    np.testing.assert_array_equal(tokens, categorical._by_distance(*arguments)[0])
    assert (tokens != by_blocks).any()


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), possible=st.integers(1, 300), data=st.data())
def test_a_token_of_no_probability_is_never_drawn(way: str, seed: int, possible: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    logits = np.full((64, 300), -np.inf, np.float32)
    logits[:, rng.permutation(300)[:possible]] = rng.normal(0, 3, (64, possible))
    almost_one = float(np.nextafter(np.float32(1), np.float32(0)))
    first, second = (data.draw(st.sampled_from([0.0, 0.5, almost_one])) for _ in range(2))
    tokens, log_total = WAYS[way](jnp.array([[first] * 64, [second] * 64], jnp.float32), jnp.asarray(logits))
    assert np.isfinite(logits[np.arange(64), tokens]).all()
    np.testing.assert_allclose(log_total, special.logsumexp(logits.astype(np.float64), axis=1), rtol=1e-5, atol=1e-6)
