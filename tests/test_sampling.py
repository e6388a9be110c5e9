"""Sampling: the sampler writes from the distribution that it says, and says the same as the teacher-forced model."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    GENERATORS,
    VOCABULARY,
    as_arrays,
    assert_drawn_from,
    batch_of,
    generator_of,
    padded,
    texts_of,
)

from gptgan_jax import Batch, Sample, Vocabulary, log_probs, sample
from gptgan_jax.sampling import draw, shape_logits

ALL = {"temperature": 1.0, "top_k": 99, "top_p": 2.0}
SHAPINGS = [
    ALL,
    ALL | {"temperature": 5.0},
    ALL | {"temperature": 0.6},
    ALL | {"temperature": 1.7, "top_k": 3},
    ALL | {"top_p": 0.7},
]
SHAPINGS += [{"temperature": 1.4, "top_k": 5, "top_p": 0.8}]
LENGTH = 4
MANY = batch_of(prompts=(1, 3, 2, 3, 1, 2) * 4, targets=(4,) * 24)


@functools.cache
def compiled(name: str, vocabulary: Vocabulary = VOCABULARY) -> tuple[Any, Any]:
    """(batch, key, shaping, length) -> Sample, and (batch, shaping) -> log-probabilities, both jitted."""
    generator, params = generator_of(name, vocabulary)

    @functools.partial(jax.jit, static_argnames="length")
    def write(params: Any, batch: Batch, key: jax.Array, shaping: dict[str, Any], length: int = LENGTH) -> Sample:
        return sample(generator, params, key, batch.prompt, batch.prompt_mask, length, **shaping)

    @jax.jit
    def judge(params: Any, batch: Batch, shaping: dict[str, Any]) -> jax.Array:
        return log_probs(generator, params, batch, **shaping)

    return functools.partial(write, params), functools.partial(judge, params)


def written(batch: Batch, text: Sample) -> Batch:
    return batch.replace(target=text.tokens, target_mask=text.mask)


@pytest.mark.parametrize("name", GENERATORS)
def test_the_samplers_log_probs_equal_the_teacher_forced_ones_whatever_the_padding(name: str) -> None:
    write, judge = compiled(name)
    for number, shaping in enumerate(SHAPINGS):
        text = write(MANY, jax.random.key(number), shaping)
        assert np.isfinite(text.log_probs).all()
        assert (np.asarray(text.log_probs)[np.asarray(text.mask)] < 0).any()
        assert shaping != SHAPINGS[1] or len(np.unique(np.asarray(text.mask).sum(axis=1))) > 1  # some end early
        forced = judge(padded(written(MANY, text), left=2, right=1), shaping)
        np.testing.assert_allclose(text.log_probs, forced[:, :LENGTH], rtol=1e-4, atol=2e-5)
        assert (forced[:, LENGTH:] == 0).all()


@pytest.mark.parametrize("name", ["llama", "encoder_decoder", "lstm_encoder_decoder"])
def test_left_padding_of_the_prompt_changes_no_text(name: str) -> None:
    key = jax.random.key(5)
    write, _ = compiled(name)
    text, again = write(MANY, key, ALL), write(padded(MANY, left=2), key, ALL)
    np.testing.assert_array_equal(text.tokens, again.tokens)
    np.testing.assert_allclose(text.log_probs, again.log_probs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "lstm"])
@pytest.mark.parametrize("shaping", [ALL, {"temperature": 1.4, "top_k": 3, "top_p": 0.8}], ids=["plain", "shaped"])
def test_every_text_of_a_tiny_vocabulary_is_written_as_often_as_its_log_prob_says(
    name: str, shaping: dict[str, Any]
) -> None:
    vocabulary, length, count = Vocabulary(size=4), 3, 20_000
    write, judge = compiled(name, vocabulary)
    prompt = jnp.array([[1, 3]], jnp.int32)
    label = jnp.array([-1], jnp.int32)
    texts = list(texts_of(vocabulary, length))
    assert len(texts) == 1 + 3 + 9 * 4
    tokens, mask = as_arrays(texts, length, vocabulary.pad_id)
    everything = jnp.ones((len(texts), 2), bool)
    every = Batch(jnp.tile(prompt, (len(texts), 1)), everything, tokens, mask, jnp.tile(label, len(texts)))
    probs = np.exp(judge(every, shaping).sum(axis=1))
    np.testing.assert_allclose(probs.sum(), 1, rtol=1e-5)

    many = Batch(jnp.tile(prompt, (count, 1)), jnp.ones((count, 2), bool), jnp.zeros((count, length), jnp.int32),
                 jnp.zeros((count, length), bool), jnp.tile(label, count))  # fmt: skip
    drawn = write(many, jax.random.key(0), shaping, length=length)
    number = {tuple(row): i for i, row in enumerate(np.asarray(tokens).tolist())}
    counts = np.bincount([number[tuple(row)] for row in np.asarray(drawn.tokens).tolist()], minlength=len(texts))
    assert counts[probs == 0].sum() == 0
    assert_drawn_from(counts, probs)


def test_texts_end_at_eos_and_the_mask_covers_eos_and_nothing_after_it() -> None:
    write, _ = compiled("gpt2")
    text = write(MANY, jax.random.key(0), ALL | {"temperature": 5.0})
    lengths = set()
    for tokens, mask, log_prob in zip(*map(np.asarray, (text.tokens, text.mask, text.log_probs)), strict=True):
        ends = np.flatnonzero(tokens == 2)
        size = ends[0] + 1 if len(ends) else LENGTH
        lengths.add(size)
        np.testing.assert_array_equal(mask, np.arange(LENGTH) < size)
        assert (tokens[size:] == 0).all()
        assert (log_prob[size:] == 0).all()
    assert lengths == {1, 2, 3, 4}


def test_without_an_eos_every_text_fills_the_length() -> None:
    write, _ = compiled("gpt2", Vocabulary(size=7, eos_id=None))
    text = write(MANY, jax.random.key(0), ALL)
    assert text.mask.all()
    assert (text.log_probs < 0).all()


def test_a_text_of_one_token_needs_no_decoding() -> None:
    write, judge = compiled("gpt2")
    text = write(MANY, jax.random.key(0), ALL, length=1)
    assert text.tokens.shape == (24, 1)
    assert text.mask.all()
    longer = MANY.replace(target=MANY.target.at[:, :1].set(text.tokens))
    forced = judge(padded(longer, left=2, right=1), ALL)
    np.testing.assert_allclose(text.log_probs, forced[:, :1], rtol=1e-4, atol=1e-5)


def test_temperature_0_writes_the_likeliest_token_each_time() -> None:
    generator, params = generator_of("gpt2")
    write, _ = compiled("gpt2")
    text = write(MANY, jax.random.key(0), ALL | {"temperature": 0.0})
    again = write(MANY, jax.random.key(1), ALL | {"temperature": 0.0})
    np.testing.assert_array_equal(text.tokens, again.tokens)
    assert (text.log_probs == 0).all()
    likeliest = jax.jit(generator.logits)(params, written(MANY, text)).argmax(axis=-1)
    np.testing.assert_array_equal(np.where(text.mask, likeliest, 0), text.tokens)


def test_the_same_key_writes_the_same_text_and_another_key_another() -> None:
    write, _ = compiled("gpt2")
    first, second, other = (write(MANY, jax.random.key(k), ALL) for k in (3, 3, 4))
    np.testing.assert_array_equal(first.tokens, second.tokens)
    np.testing.assert_array_equal(first.log_probs, second.log_probs)
    assert (first.tokens != other.tokens).any()


def test_rows_of_the_same_prompt_are_written_independently() -> None:
    write, _ = compiled("gpt2")
    same = jax.tree.map(lambda x: jnp.tile(x[:1], (24, *[1] * (x.ndim - 1))), MANY)
    assert len(np.unique(np.asarray(write(same, jax.random.key(0), ALL).tokens)[:, 0])) > 1


def test_new_values_of_temperature_top_k_and_top_p_compile_nothing() -> None:
    generator, params = generator_of("gpt2")
    traces = []

    @jax.jit
    def write(key: jax.Array, shaping: dict[str, Any]) -> Sample:
        traces.append(1)
        batch = batch_of()
        return sample(generator, params, key, batch.prompt, batch.prompt_mask, 2, **shaping)

    texts = [
        write(jax.random.key(0), {"temperature": temperature, "top_k": top_k, "top_p": top_p})
        for temperature, top_k, top_p in [(1.0, 3, 0.9), (0.0, 3, 0.9), (2.5, 1, 0.9), (1.0, 7, 0.1)]
    ]
    assert len(traces) == 1
    assert (texts[0].log_probs < 0).any()
    assert (texts[2].log_probs == 0).all()


@pytest.mark.parametrize("vocab_size", [1, 127, 128, 129, 300])
def test_draw_fits_the_softmax(vocab_size: int) -> None:
    logits = np.random.default_rng(vocab_size).normal(0, 1.5, vocab_size).astype(np.float32)
    tokens, log_prob = jax.jit(draw)(jax.random.key(1), jnp.tile(logits, (30_000, 1)))
    exact = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    assert_drawn_from(np.bincount(tokens, minlength=vocab_size), np.exp(exact))
    np.testing.assert_allclose(log_prob, exact[np.asarray(tokens)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("vocab_size", [127, 128, 129, 300])
@pytest.mark.parametrize("uniform", [None, 0.0, 1 - 2**-24], ids=["random", "lowest", "highest"])
def test_draw_never_draws_a_token_of_minus_infinity(
    vocab_size: int, uniform: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(vocab_size)
    logits = rng.normal(0, 3, (512, vocab_size)).astype(np.float32)
    logits[rng.random(logits.shape) < np.linspace(0.1, 0.99, 512)[:, None]] = -np.inf
    logits[:8, [0, 1, 126, vocab_size - 1]] = -np.inf  # the ends of the vocabulary and of its first block
    logits[8:16, : min(128, vocab_size - 1)] = -np.inf  # a whole block
    logits[16:24, 1:] = -np.inf
    logits[24:32, :-1] = -np.inf
    logits[:, 100] = np.where(np.isinf(logits).all(axis=1), 0, logits[:, 100])
    if uniform is not None:
        monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, uniform, jnp.float32))
    tokens, log_prob = draw(jax.random.key(0), jnp.asarray(logits))
    assert np.isfinite(logits[np.arange(512), np.asarray(tokens)]).all()
    assert np.isfinite(log_prob).all()
    possible = [np.flatnonzero(np.isfinite(row) & (row > row.max() - 10)) for row in logits]
    if uniform == 0.0:
        assert all(token <= some[0] for token, some in zip(np.asarray(tokens), possible, strict=True))
    if uniform and uniform > 0:
        assert all(token >= some[-1] for token, some in zip(np.asarray(tokens), possible, strict=True))


def test_shaping_by_hand() -> None:
    logits = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.3]))

    def probs(**shaping: Any) -> list[float]:
        return np.round(jax.nn.softmax(shape_logits(logits, **shaping)), 4).tolist()

    assert probs(top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=1e-4)
    assert probs(top_p=0.69) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=1e-4)
    assert probs(top_p=0.71) == pytest.approx([0, 4 / 9, 2 / 9, 3 / 9], abs=1e-4)
    assert probs(top_p=0.0) == [0, 1, 0, 0]
    assert probs(top_k=0) == [0, 1, 0, 0]
    assert probs(top_k=3, top_p=0.7) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=1e-4)  # 4/9 + 3/9 reaches 0.7
    assert probs(temperature=0.5) == pytest.approx([1 / 30, 16 / 30, 4 / 30, 9 / 30], abs=1e-4)
    assert probs(temperature=0.5, top_p=0.5) == [0, 1, 0, 0]  # the temperature comes first
    assert probs(temperature=0.0) == [0, 1, 0, 0]


def test_shaping_keeps_what_ties_with_the_last_token_kept() -> None:
    kept = np.isfinite(shape_logits(jnp.array([2.0, 1.0, 1.0, 0.0]), top_k=2))
    np.testing.assert_array_equal(kept, [True, True, True, False])
    np.testing.assert_allclose(jax.nn.softmax(shape_logits(jnp.array([3.0, 3.0, 1.0]), temperature=0)), [0.5, 0.5, 0])


def test_log_probs_are_0_outside_the_mask_and_minus_infinity_for_excluded_tokens() -> None:
    generator, params = generator_of("gpt2")
    batch = batch_of()
    values = np.asarray(jax.jit(lambda p: log_probs(generator, p, batch, top_k=1))(params))
    mask = np.asarray(batch.target_mask)
    assert (values[~mask] == 0).all()
    assert set(values[mask].tolist()) <= {0.0, -np.inf}
    assert np.isinf(values[mask]).any()
