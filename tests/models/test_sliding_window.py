"""Sliding windows: a token sees so many last ones, in whole texts, packed rows and by the cache alike."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import VOCABULARY, batch_of, build

from gptgan_jax import Generator, TransformerConfig, TransformerDiscriminatorConfig, build_discriminator, sample
from gptgan_jax.layers.attention import mask_of
from gptgan_jax.sampling.decoding import log_probs

CONFIG = TransformerConfig(
    layers=1, width=8, heads=2, kv_heads=1, positions="rotary", norm="rms", max_positions=16, window=3, scan_layers=True
)


@pytest.mark.parametrize("window", [1, 2, 4, 9])
def test_a_token_sees_the_last_ones_of_its_own_text_and_no_others(window: int) -> None:
    filled = jnp.array([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool)
    segments = jnp.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 2, 2]])
    for tokens in (filled, segments):
        mask, of = np.asarray(mask_of(tokens, True, window)), np.asarray(tokens)
        for row, t, s in np.ndindex(mask.shape):
            alike = of[row, s] if tokens is filled else of[row, s] == of[row, t]
            assert mask[row, t, s] == ((s <= t and s > t - window and bool(alike)) or s == t), (row, t, s)


def test_a_sampled_text_has_the_probability_that_it_has_when_it_is_read_whole() -> None:
    generator, params = build(CONFIG, VOCABULARY)
    prompts = batch_of(prompts=(1, 5, 3))
    assert generator.branch is None  # each text of a prompt sees another part of it
    asked, mask = (jnp.repeat(x, 2, axis=0) for x in (prompts.prompt, prompts.prompt_mask))
    given = generator, params, jax.random.key(0), prompts.prompt, prompts.prompt_mask, 8
    written = jax.jit(lambda: sample(*given, samples=2))()
    batch = batch_of(prompts=(5,) * 6, targets=(8,) * 6, length=8)
    batch = batch.replace(prompt=asked, prompt_mask=mask, target=written.tokens, target_mask=written.mask)
    read = jax.jit(lambda: log_probs(generator, params, batch))()
    np.testing.assert_allclose(*(np.where(written.mask, x, 0) for x in (read, written.log_probs)), rtol=1e-5, atol=1e-5)


def test_one_layer_knows_nothing_of_what_lies_before_its_window() -> None:
    generator, params = build(CONFIG, VOCABULARY)
    judge = build_discriminator(
        TransformerDiscriminatorConfig(layers=1, width=8, heads=2, max_positions=16, window=3), VOCABULARY
    )
    assert not judge.shares_prompts
    batch = batch_of(prompts=(1, 1), targets=(8, 8), length=8)
    other = batch.replace(target=batch.target.at[:, 0].set(3 + (batch.target[:, 0] - 2) % 4))

    def farthest(network: Generator) -> np.ndarray:
        one, two = jax.jit(lambda: tuple(network.logits(params, each) for each in (batch, other)))()
        return np.abs(one - two).max(axis=(0, 2))

    assert (farthest(generator) > 1e-6).tolist() == [False, True, True, True, *[False] * 4]  # it is read three times
    assert farthest(build(dataclasses.replace(CONFIG, window=None), VOCABULARY)[0])[7] > 1e-6


def test_what_has_no_window_is_refused() -> None:
    for wrong, said in (
        ({"attention": "flash", "dtype": "bfloat16", "head_width": 8}, "flash has no window: .* at most window 3"),
        ({"encoder_layers": 1}, "window is for a decoder-only Transformer"),
    ):
        with pytest.raises(ValueError, match=said):
            dataclasses.replace(CONFIG, **wrong)
    assert dataclasses.replace(CONFIG, window=16).reach is None  # it spans all texts
