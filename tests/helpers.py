"""Tiny networks, batches and references that several tests share."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from gptgan_jax import (
    Batch,
    CnnConfig,
    Generator,
    LeakganConfig,
    LstmConfig,
    RelationalConfig,
    TransformerConfig,
    Vocabulary,
    build_generator,
)

VOCABULARY = Vocabulary(size=7)

_TINY: dict[str, Any] = {"layers": 2, "width": 8, "heads": 2, "max_positions": 24}
_LLAMA: dict[str, Any] = {
    "layers": 2,
    "width": 12,
    "heads": 4,
    "kv_heads": 2,
    "head_width": 4,
    "mlp_width": 10,
    "norm": "rms",
    "activation": "swiglu",
    "positions": "rotary",
    "max_positions": 24,
    "qkv_bias": False,
    "bias": False,
    "qk_norm": True,
    "tied_embeddings": False,
}
_CNN: dict[str, Any] = {"embedding": 4, "widths": (1, 3, 6), "filters": 3, "highway": True, "hidden": 5}
GENERATORS: dict[str, TransformerConfig | LstmConfig | RelationalConfig | LeakganConfig] = {
    "gpt2": TransformerConfig(**_TINY),
    "grouped_queries_scanned": TransformerConfig(**(_TINY | {"heads": 4, "kv_heads": 2, "scan_layers": True})),
    "llama": TransformerConfig(**(_LLAMA | {"layers": 1})),
    "encoder_decoder": TransformerConfig(**(_TINY | {"layers": 1}), encoder_layers=1),
    "encoder_decoder_llama_scanned": TransformerConfig(**_LLAMA, encoder_layers=2, scan_layers=True),
    "lstm": LstmConfig(layers=2, embedding=6, hidden=8),
    "lstm_encoder_decoder": LstmConfig(layers=2, encoder_layers=2, embedding=6, hidden=8),
    "relational": RelationalConfig(slots=2, heads=2, head_width=3, embedding=5),
    "leakgan": LeakganConfig(embedding=5, units=6, goal=3, horizon=2, leaked=CnnConfig(**_CNN, dropout=0.0)),
}


def batch_of(
    prompts: tuple[int, ...] = (1, 3, 2),
    targets: tuple[int, ...] = (4, 2, 3),
    length: int = 4,
    vocabulary: Vocabulary = VOCABULARY,
    seed: int = 0,
) -> Batch:
    """Random text with so many prompt and target tokens a row; a target shorter than `length` ends in EOS."""
    rng = np.random.default_rng(seed)
    first = max(vocabulary.pad_id, vocabulary.bos_id, vocabulary.eos_id or 0) + 1
    shape = (len(prompts), max(prompts))
    prompt, prompt_mask = np.full(shape, vocabulary.pad_id), np.zeros(shape, bool)
    target, target_mask = np.full((len(targets), length), vocabulary.pad_id), np.zeros((len(targets), length), bool)
    for row, (before, after) in enumerate(zip(prompts, targets, strict=True)):
        prompt[row, shape[1] - before :] = rng.integers(first, vocabulary.size, before)
        prompt_mask[row, shape[1] - before :] = True
        target[row, :after] = rng.integers(first, vocabulary.size, after)
        target_mask[row, :after] = True
        if after < length and vocabulary.eos_id is not None:
            target[row, after - 1] = vocabulary.eos_id
    ids = (jnp.asarray(x, jnp.int32) for x in (prompt, target))
    label = jnp.full(len(prompts), -1, jnp.int32)
    return Batch(next(ids), jnp.asarray(prompt_mask), next(ids), jnp.asarray(target_mask), label)


def padded(batch: Batch, left: int = 0, right: int = 0, filler: int = 5) -> Batch:
    """The same texts with more padding, filled with a token that would matter if it were read."""

    def pad(x: jax.Array, widths: tuple[int, int], value: int | bool) -> jax.Array:
        return jnp.pad(x, ((0, 0), widths), constant_values=value)

    return batch.replace(
        prompt=pad(batch.prompt, (left, 0), filler),
        prompt_mask=pad(batch.prompt_mask, (left, 0), False),
        target=pad(batch.target, (0, right), filler),
        target_mask=pad(batch.target_mask, (0, right), False),
    )


def rows(batch: Any, index: Any) -> Any:
    """The rows of a batch that an index picks."""
    return jax.tree.map(lambda x: x[index], batch)


def random_params(shapes: Any, seed: int = 1) -> Any:
    """Parameters far from their initial values: biases are not 0, scales not 1, logits not uniform."""
    rng = np.random.default_rng(seed)

    def fill(path: Any, x: Any) -> jax.Array:
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(rng.normal(centre, 0.4, x.shape), x.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def build(
    config: TransformerConfig | LstmConfig | RelationalConfig | LeakganConfig, vocabulary: Vocabulary = VOCABULARY
) -> tuple[Generator, Any]:
    """A generator and random parameters for it."""
    generator = build_generator(config, vocabulary)
    shapes = jax.eval_shape(generator.init, jax.random.key(0), batch_of(vocabulary=vocabulary))
    return generator, random_params(shapes)


@functools.cache
def generator_of(name: str, vocabulary: Vocabulary = VOCABULARY) -> tuple[Generator, Any]:
    """A generator of `GENERATORS` and random parameters for it."""
    return build(GENERATORS[name], vocabulary)


def texts_of(vocabulary: Vocabulary, length: int) -> Iterator[tuple[int, ...]]:
    """Every text of at most `length` tokens: those that end at EOS, and those that fill the length without it."""
    for size in range(1, length + 1):
        for text in itertools.product(range(vocabulary.size), repeat=size):
            if vocabulary.eos_id not in text[:-1] and (size == length or text[-1] == vocabulary.eos_id):
                yield text


def as_arrays(texts: list[tuple[int, ...]], length: int, pad_id: int) -> tuple[jax.Array, jax.Array]:
    """Texts as (tokens int32 [B, T], mask bool [B, T])."""
    tokens = jnp.asarray([[*text, *[pad_id] * (length - len(text))] for text in texts], jnp.int32)
    return tokens, jnp.asarray([[t < len(text) for t in range(length)] for text in texts])


def assert_drawn_from(counts: np.ndarray, probs: np.ndarray) -> None:
    """Chi-square: the counts look drawn from the distribution. Classes with few expected draws are pooled."""
    counts, expected = np.asarray(counts, float), np.asarray(probs, float) * np.sum(counts)
    np.testing.assert_allclose(expected.sum(), counts.sum(), rtol=1e-4)
    few = expected < 5
    if few.any():
        counts = np.append(counts[~few], counts[few].sum())
        expected = np.append(expected[~few], expected[few].sum())
    if len(counts) == 1:
        return
    statistic = (np.square(counts - expected) / np.maximum(expected, 1e-9)).sum()
    assert stats.chi2.sf(statistic, len(counts) - 1) > 1e-3, (counts, expected)


def assert_trees_close(actual: Any, desired: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Same structure and, leaf by leaf, close numbers."""
    assert jax.tree.structure(actual) == jax.tree.structure(desired)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(desired), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=jax.tree_util.keystr(path))


def assert_trees_differ(a: Any, b: Any) -> None:
    """Some leaf moved by more than rounding."""
    assert max(float(jnp.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)) > 1e-3
