"""Sampling: the sampler writes from the distribution that it says, and says the same as the teacher-forced model."""

import functools
from collections.abc import Callable
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

from gptgan_jax import (
    Batch,
    Generator,
    Sample,
    TransformerConfig,
    Vocabulary,
    log_probs,
    resample,
    rollout_values,
    sample,
)
from gptgan_jax.sampling import decoding
from gptgan_jax.sampling.decoding import draw, shape_logits

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


@pytest.mark.cases(1)
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


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["llama", "encoder_decoder", "lstm_encoder_decoder"])
def test_left_padding_of_the_prompt_changes_no_text(name: str) -> None:
    key = jax.random.key(5)
    write, _ = compiled(name)
    text, again = write(MANY, key, ALL), write(padded(MANY, left=2), key, ALL)
    np.testing.assert_array_equal(text.tokens, again.tokens)
    np.testing.assert_allclose(text.log_probs, again.log_probs, rtol=1e-4, atol=1e-5)


@pytest.mark.cases(1)
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


@pytest.mark.parametrize("name", ["gpt2", "lstm", "relational", "leakgan"])
def test_several_texts_of_one_token_each_answer_a_prompt_that_is_read_once(name: str) -> None:
    generator, params = generator_of(name)
    batch = batch_of(prompts=(2, 3), targets=(1, 1), length=1)
    each: Batch = jax.tree.map(lambda x: jnp.repeat(x, 3, axis=0), batch)
    once = each.replace(prompt=batch.prompt, prompt_mask=batch.prompt_mask)
    np.testing.assert_allclose(log_probs(generator, params, once), log_probs(generator, params, each), rtol=1e-5)


def test_a_text_of_one_token_needs_no_decoding() -> None:
    write, judge = compiled("gpt2")
    text = write(MANY, jax.random.key(0), ALL, length=1)
    assert text.tokens.shape == (24, 1)
    assert text.mask.all()
    longer = MANY.replace(target=MANY.target.at[:, :1].set(text.tokens))
    forced = judge(padded(longer, left=2, right=1), ALL)
    np.testing.assert_allclose(text.log_probs, forced[:, :1], rtol=1e-4, atol=1e-5)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["gpt2", "grouped_queries_scanned", "encoder_decoder_llama_scanned", "lstm"])
def test_in_stages_the_same_texts_are_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four stages, the first of which is the prefill's token alone; with texts that end in each of them."""
    generator, params = generator_of(name)
    whole = compiled(name)[0](MANY, jax.random.key(4), ALL | {"temperature": 5.0})
    assert len(np.unique(np.asarray(whole.mask).sum(axis=1))) > 2
    monkeypatch.setattr(decoding, "LEAST_STAGE", 1)
    write = functools.partial(sample, generator, length=LENGTH, temperature=5.0, top_k=99)
    staged = jax.jit(write)(params, jax.random.key(4), MANY.prompt, MANY.prompt_mask, top_p=2.0)
    np.testing.assert_array_equal(staged.tokens, whole.tokens)
    np.testing.assert_array_equal(staged.mask, whole.mask)
    np.testing.assert_allclose(staged.log_probs, whole.log_probs, rtol=1e-5, atol=1e-6)


def test_a_deep_network_has_fewer_stages_as_each_is_compiled() -> None:
    sizes: dict[str, Any] = {"width": 8, "heads": 2}
    counts = [len(decoding.stages_of(64, TransformerConfig(layers=n, **sizes))) for n in (4, 12, 24, 30, 100)]
    assert counts == [4, 4, 2, 1, 1]
    assert len(decoding.stages_of(64, TransformerConfig(layers=100, scan_layers=True, **sizes))) == 4
    assert decoding.stages_of(64, TransformerConfig(layers=24, **sizes)) == [32, 64]


def test_each_stage_reads_the_slots_that_it_can_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, params = generator_of("llama")
    rooms: list[int] = []

    def decode(params: Any, cache: Any, tokens: jax.Array) -> Any:
        rooms.append(cache.mask.shape[1])
        return generator.decode(params, cache, tokens)

    def write(batch: Batch, length: int) -> Any:
        watched = generator._replace(decode=decode)
        return sample(watched, params, jax.random.key(0), batch.prompt, batch.prompt_mask, length)

    jax.eval_shape(functools.partial(write, length=8), MANY)
    one_stage, prompt = set(rooms), MANY.prompt.shape[1]
    assert one_stage == {prompt + 7}
    rooms.clear()
    monkeypatch.setattr(decoding, "LEAST_STAGE", 2)
    jax.eval_shape(functools.partial(write, length=8), MANY)
    assert set(rooms) == {prompt + end - 1 for end in (2, 4, 6, 8)}


def test_each_row_can_have_a_temperature_of_its_own() -> None:
    generator, params = generator_of("gpt2")
    write = jax.jit(functools.partial(sample, generator, length=LENGTH))
    rows = MANY.prompt.shape[0]
    given = params, jax.random.key(2), MANY.prompt, MANY.prompt_mask
    mixed = write(*given, temperature=jnp.where(jnp.arange(rows) % 2, 5.0, 0.0)[:, None])
    for parity, temperature in ((1, 5.0), (0, 0.0)):
        alone = write(*given, temperature=jnp.float32(temperature))
        np.testing.assert_array_equal(mixed.tokens[parity::2], alone.tokens[parity::2])
        np.testing.assert_allclose(mixed.log_probs[parity::2], alone.log_probs[parity::2], rtol=1e-5, atol=1e-6)


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


@pytest.mark.cases(1)
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
        monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype: jnp.full(shape, uniform, dtype))
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


def test_however_low_the_temperature_the_likeliest_token_is_drawn_and_nothing_overflows() -> None:
    logits = jnp.array([[-40.0, 90.0, 89.999, 3.0], [-1e4, -2e4, -1e5, -1e5]])
    for temperature in (1e-6, 1e-20, 1e-30, 1e-37, 1e-38):
        tokens, log_p = draw(jax.random.key(0), shape_logits(logits, temperature))
        assert tokens.tolist() == [1, 0]
        np.testing.assert_allclose(log_p, 0.0, atol=1e-6)


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


# ---- the value of a prefix: rollouts

TINY = Vocabulary(size=3, pad_id=0, bos_id=0, eos_id=1)  # the padding is a token like any other
ENDLESS = Vocabulary(size=3, pad_id=0, bos_id=0, eos_id=None)
KINDS = ["gpt2", "grouped_queries_scanned", "lstm", "encoder_decoder", "lstm_encoder_decoder"]
SIZE = 3


def every_text(vocabulary: Vocabulary, length: int, prompts: int = 1) -> tuple[list[tuple[int, ...]], Batch]:
    """All texts, each as an answer to all of so many prompts, neighbours by text."""
    texts = list(texts_of(vocabulary, length))
    tokens, mask = (jnp.repeat(x, prompts, axis=0) for x in as_arrays(texts, length, vocabulary.pad_id))
    prompt = jnp.array([[0, 0, 2], [2, 0, 2]], jnp.int32)[:prompts]
    prompt_mask = jnp.array([[False, True, True], [True, True, True]])[:prompts]
    several = jnp.tile(prompt, (len(texts), 1)), jnp.tile(prompt_mask, (len(texts), 1))
    return texts, Batch(*several, tokens, mask, jnp.full(len(tokens), -1, jnp.int32))


def numbered(tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """A number for each text: its tokens that count, one digit each."""
    return ((jnp.where(mask, tokens, -1) + 1) * 4 ** jnp.arange(tokens.shape[1])).sum(axis=1)


def values_of(
    generator: Generator,
    params: Any,
    texts: Batch,
    count: int,
    value: Callable[..., jax.Array],
    seed: int = 0,
    **more: Any,
) -> np.ndarray:
    """Compiled rollouts of the texts."""
    written = Sample(texts.target, texts.target_mask, jnp.full(texts.target.shape, jnp.nan))

    @jax.jit
    def run(params: Any, key: jax.Array) -> jax.Array:
        return rollout_values(generator, params, key, texts.prompt, texts.prompt_mask, written, count, value, **more)

    return np.asarray(run(params, jax.random.key(seed)))


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", KINDS)
def test_a_prefix_is_worth_the_expected_value_of_the_texts_that_begin_with_it(name: str) -> None:
    """Against sums over all texts, for two prompts, and with a value that only knows whole, well-formed texts."""
    generator, params = generator_of(name, TINY)
    count, temperature = 2000, 0.8
    texts, every = every_text(TINY, SIZE, prompts=2)
    rng = np.random.default_rng(0)
    worth = rng.normal(0, 1, 4**SIZE).astype(np.float32)
    numbers = np.asarray(numbered(every.target, every.target_mask))
    possible = np.isin(np.arange(4**SIZE), numbers)
    table = jnp.asarray(np.where(possible, worth, np.nan))

    def value(key: jax.Array, tokens: jax.Array, mask: jax.Array, shared: int) -> jax.Array:
        padded_right = jnp.where(mask, 0, tokens).sum(axis=1) == 0
        return jnp.where(padded_right, table[numbered(tokens, mask)], jnp.nan)

    found = values_of(generator, params, every, count, value, temperature=temperature)
    assert found.shape == (30, SIZE)
    chances = np.exp(jax.jit(lambda p: log_probs(generator, p, every, temperature).sum(axis=1))(params)).astype(float)
    own = worth[numbers]
    apart = 0.0
    for row, text in enumerate(np.repeat(np.arange(15), 2)):
        for t in range(SIZE):
            if t >= len(texts[text]) - 1:
                np.testing.assert_allclose(found[row, t], own[row], rtol=1e-5, atol=1e-6)
                continue
            same = [texts[x][: t + 1] == texts[text][: t + 1] and y % 2 == row % 2
                    for y, x in enumerate(np.repeat(np.arange(15), 2))]  # fmt: skip
            share = np.where(same, chances, 0)
            share /= share.sum()
            mean = (share * own).sum()
            error = np.sqrt((share * np.square(own - mean)).sum() / count)
            assert found[row, t] == pytest.approx(mean, abs=4 * error + 1e-5), (row, t)
            apart = max(apart, abs(mean - own[same].mean()))
    assert apart > 0.1


def test_continuations_begin_with_the_tokens_that_were_written() -> None:
    generator, params = generator_of("lstm", TINY)
    _, every = every_text(TINY, SIZE)
    count = 40
    for kept in range(1, SIZE + 1):

        def same(key: jax.Array, tokens: jax.Array, mask: jax.Array, shared: int, kept: int = kept) -> jax.Array:
            wanted, counted = (jnp.repeat(x[:, :kept], count, axis=0) for x in (every.target, every.target_mask))
            equal = (tokens[:, :kept] == wanted) | ~counted
            return (equal & (mask[:, :kept] == counted)).all(axis=1).astype(jnp.float32)

        found = values_of(generator, params, every, count, same)
        np.testing.assert_array_equal(found[:, kept - 1 :], 1)
        assert kept == 1 or (found[:, : kept - 1] < 1).any(axis=0).all()


def test_the_written_text_is_decoded_once_and_no_prefix_is_read_twice() -> None:
    """Counted as the program runs: rows of each call of the network."""
    generator, params = generator_of("lstm", ENDLESS)
    length, rows, count = 5, 4, 3
    calls: dict[str, list[int]] = {"prefill": [], "decode": []}

    def counted(name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            size = arguments[1].shape[0] if name == "prefill" else arguments[2].shape[0]
            jax.debug.callback(lambda: calls[name].append(size))
            return getattr(generator, name)(*arguments)

        return call

    counting = generator._replace(prefill=counted("prefill"), decode=counted("decode"))
    texts = batch_of(prompts=(2,) * rows, targets=(length,) * rows, length=length, vocabulary=TINY)
    written = Sample(texts.target, texts.target_mask, jnp.zeros((rows, length)))

    def value(key: jax.Array, tokens: jax.Array, mask: jax.Array, shared: int) -> jax.Array:
        return tokens.sum(axis=1).astype(jnp.float32)

    run = jax.jit(
        lambda p: rollout_values(counting, p, jax.random.key(0), texts.prompt, texts.prompt_mask, written, count, value)
    )
    jax.block_until_ready(run(params))
    jax.effects_barrier()
    assert calls["prefill"] == [rows]
    assert calls["decode"].count(rows) == length - 1
    # After t + 1 tokens the first of those that follow needs no decoding of its own.
    assert calls["decode"].count(rows * count) == sum(length - 2 - t for t in range(length - 1))
    assert len(calls["decode"]) == length - 1 + 6


@pytest.mark.thorough
def test_rollouts_are_independent_over_rows_positions_and_continuations() -> None:
    generator, params = generator_of("lstm", ENDLESS)
    rows = 3000
    texts = jax.tree.map(
        lambda x: jnp.repeat(x, rows, axis=0),
        batch_of(prompts=(2,), targets=(4,), vocabulary=ENDLESS),
    )

    def last(key: jax.Array, tokens: jax.Array, mask: jax.Array, shared: int) -> jax.Array:
        return (tokens[:, -1] == 2).astype(jnp.float32)

    one, four = (values_of(generator, params, texts, count, last) for count in (1, 4))
    assert set(np.unique(one)) == {0.0, 1.0}
    for t in range(3):
        assert 0.1 < one[:, t].mean() < 0.9
        assert abs(np.corrcoef(one[:-1, t], one[1:, t])[0, 1]) < 4 / np.sqrt(rows)
        assert abs(np.corrcoef(one[:, t], one[:, (t + 1) % 3])[0, 1]) < 4 / np.sqrt(rows)
        # The mean of four independent ones has a quarter of the variance; the deviation of that is near 2.6 %.
        assert four[:, t].var() / four[:, t].mean() / (1 - four[:, t].mean()) == pytest.approx(0.25, rel=0.11)
    other = values_of(generator, params, texts, 1, last, seed=1)
    assert (other[:, :3] != one[:, :3]).any(axis=0).all()


def test_the_value_of_every_position_has_randomness_of_its_own() -> None:
    generator, params = generator_of("lstm", TINY)
    _, every = every_text(TINY, SIZE)

    def noise(key: jax.Array, tokens: jax.Array, mask: jax.Array, shared: int) -> jax.Array:
        return jax.random.uniform(key, tokens.shape[:1])

    assert len(np.unique(values_of(generator, params, every, 1, noise))) == 15 * SIZE


@pytest.mark.thorough
@pytest.mark.parametrize("stretches", [2, 3, 9])
def test_stretches_change_no_value_and_tell_how_much_is_shared(stretches: int) -> None:
    generator, params = generator_of("lstm", ENDLESS)
    rows, count, length = 5, 3, 7
    texts = batch_of(prompts=(2,) * rows, targets=(length,) * rows, length=length, vocabulary=ENDLESS)
    written = jnp.repeat(texts.target, count, axis=0)
    told: list[int] = []

    def value(key: jax.Array, tokens: jax.Array, mask: jax.Array, shared: int) -> jax.Array:
        told.append(shared)
        same = (tokens == written)[:, :shared].all(axis=1)
        return jnp.where(same, numbered(tokens, mask).astype(jnp.float32), jnp.nan)

    at_once = values_of(generator, params, texts, count, value)
    told.clear()
    found = values_of(generator, params, texts, count, value, stretches=stretches)
    np.testing.assert_array_equal(found, at_once)
    assert np.isfinite(found).all()
    # Six tokens have continuations; the last value is of the text itself, all of which is shared.
    assert sorted(set(told)) == {2: [1, 4, 7], 3: [1, 3, 5, 7], 9: [1, 2, 3, 4, 5, 6, 7]}[stretches]


@pytest.mark.parametrize("count", [1, 2])
def test_texts_of_one_token_need_no_rollouts(count: int) -> None:
    generator, params = generator_of("lstm", TINY)
    _, every = every_text(TINY, 1)

    def value(key: jax.Array, tokens: jax.Array, mask: jax.Array, shared: int) -> jax.Array:
        return 10.0 * tokens[:, 0]

    np.testing.assert_array_equal(values_of(generator, params, every, count, value), [[0], [10], [20]])


# ---- the residual energy-based model


def drawn_again(candidates: int, rows: int, energy: Callable[..., jax.Array], **more: Any) -> np.ndarray:
    """Counts of all texts of at most two tokens, for each of two prompts in turn: [2, 7]."""
    generator, params = generator_of("gpt2", TINY)
    texts, every = every_text(TINY, 2, prompts=2)
    prompts = jnp.tile(every.prompt[:2], (rows, 1)), jnp.tile(every.prompt_mask[:2], (rows, 1))

    @jax.jit
    def run(params: Any) -> Sample:
        return resample(generator, params, energy, jax.random.key(1), *prompts, 2, candidates, **more)

    found = run(params)
    assert found.tokens.shape == found.mask.shape == found.log_probs.shape == (2 * rows, 2)
    batch = every.replace(prompt=prompts[0], prompt_mask=prompts[1], target=found.tokens, target_mask=found.mask,
                          label=jnp.zeros(2 * rows, jnp.int32))  # fmt: skip
    forced = jax.jit(lambda p: log_probs(generator, p, batch, **more))(params)
    np.testing.assert_allclose(found.log_probs, forced, rtol=1e-4, atol=1e-5)
    numbers = np.asarray(numbered(found.tokens, found.mask))
    order = np.asarray(numbered(every.target[::2], every.target_mask[::2])).tolist()
    counts = np.array([[(numbers[start::2] == number).sum() for number in order] for start in (0, 1)])
    assert counts.sum() == 2 * rows
    assert len(texts) == len(order) == 7
    return counts


def chances_of_two_tokens(**more: Any) -> np.ndarray:
    generator, params = generator_of("gpt2", TINY)
    _, every = every_text(TINY, 2, prompts=2)
    chances = np.exp(jax.jit(lambda p: log_probs(generator, p, every, **more).sum(axis=1))(params))
    return np.asarray(chances, float).reshape(7, 2).T


ENERGIES = np.random.default_rng(3).normal(0, 1, 16).astype(np.float32)


def table_energy(tokens: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.asarray(ENERGIES)[numbered(tokens, mask) % 16]


def energies_in_order() -> np.ndarray:
    _, every = every_text(TINY, 2)
    return np.asarray(table_energy(every.target, every.target_mask), float)


@pytest.mark.thorough
def test_with_many_candidates_a_text_is_drawn_by_its_chance_times_exp_of_its_energy() -> None:
    counts, chances, energies = drawn_again(64, 800, table_energy), chances_of_two_tokens(), energies_in_order()
    assert np.ptp(energies) > 1
    for found, chance in zip(counts, chances, strict=True):
        weights = chance * np.exp(energies)
        assert_drawn_from(found, weights / weights.sum())
    assert np.abs(chances[0] - chances[1]).max() > 0.05  # each prompt has its own distribution


@pytest.mark.thorough
@pytest.mark.parametrize("candidates", [1, 2])
def test_with_few_candidates_the_distribution_is_that_of_the_choice_among_them(candidates: int) -> None:
    more = {"temperature": 0.7, "top_k": 2}
    counts = drawn_again(candidates, 5000, table_energy, **more)
    energies = np.exp(energies_in_order())
    for found, chance in zip(counts, chances_of_two_tokens(**more), strict=True):
        if candidates == 2:  # one of each pair of texts, by their energies
            first = energies[:, None] / (energies[:, None] + energies[None, :])
            pairs = chance[:, None] * chance[None, :]
            expected = (pairs * first).sum(axis=1) + (pairs * (1 - first)).sum(axis=0)
        else:
            expected = chance
        assert found[chance == 0].sum() == 0
        assert_drawn_from(found, expected)


def test_the_candidates_of_a_row_are_neighbours_and_rows_choose_for_themselves() -> None:
    candidates, rows = 32, 200

    def energy(tokens: jax.Array, mask: jax.Array) -> jax.Array:
        """Even rows want the token 0 first, odd ones 2."""
        wanted = jnp.where((jnp.arange(tokens.shape[0]) // candidates) % 2 == 0, 0, 2)
        return 50.0 * (tokens[:, 0] == wanted)

    generator, params = generator_of("lstm", TINY)
    prompt = jnp.zeros((rows, 1), jnp.int32)
    run = jax.jit(lambda p: resample(generator, p, energy, jax.random.key(0), prompt, prompt == 0, 2, candidates))
    found = run(params)
    np.testing.assert_array_equal(found.tokens[:, 0], np.tile([0, 2], rows // 2))
    assert len(np.unique(np.asarray(found.tokens)[::2, 1])) > 1
