"""Held-out likelihood: the numbers of a float64 computation, whatever the batches and the padding."""

import jax
import numpy as np
import pytest

from gptgan_jax.evaluation.likelihood import likelihood_of
from gptgan_jax.models.generators import Generator, build_generator
from gptgan_jax.models.lstm import LstmConfig
from gptgan_jax.types import Batch, Params, Vocabulary

TEXTS, LENGTH = 11, 5


def batch_of(rng: np.random.Generator, texts: int = TEXTS) -> Batch:
    lengths = rng.integers(1, LENGTH + 1, texts)
    mask = np.arange(LENGTH) < lengths[:, None]
    return Batch(
        prompt=np.ones((texts, 1), np.int32),
        prompt_mask=np.ones((texts, 1), bool),
        target=np.where(mask, rng.integers(3, 9, (texts, LENGTH)), 0).astype(np.int32),
        target_mask=mask,
        label=np.full(texts, -1, np.int32),
    )


def rows(batch: Batch, chosen: slice | np.ndarray) -> Batch:
    return jax.tree.map(lambda x: x[chosen], batch)


@pytest.fixture(scope="module")
def writer() -> tuple[Generator, Params]:
    generator = build_generator(LstmConfig(hidden=4, embedding=4, init_stddev=1.0), Vocabulary(9))
    return generator, generator.init(jax.random.key(0), batch_of(np.random.default_rng(0), 1))


@pytest.fixture(scope="module")
def text() -> Batch:
    return batch_of(np.random.default_rng(1))


@pytest.fixture(scope="module")
def per_text(writer, text: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Nats and tokens of each text, in float64."""
    generator, params = writer
    logits = np.asarray(generator.logits(params, text), np.float64)
    log_z = np.log(np.exp(logits).sum(axis=-1))
    chosen = np.take_along_axis(logits, text.target[..., None].astype(int), axis=-1)[..., 0]
    return ((log_z - chosen) * text.target_mask).sum(axis=1), text.target_mask.sum(axis=1)


def test_it_is_the_mean_over_tokens_of_a_float64_computation(writer, text, per_text) -> None:
    nats, tokens = per_text
    held_out = likelihood_of(writer[0])(writer[1], [text])
    assert held_out.nats_per_token == pytest.approx(nats.sum() / tokens.sum(), rel=1e-6)
    assert (held_out.tokens, held_out.texts) == (tokens.sum(), TEXTS)


def test_the_standard_error_is_that_of_a_bootstrap_over_texts(writer) -> None:
    text = batch_of(np.random.default_rng(3), 200)
    generator, params = writer
    held_out = likelihood_of(generator)(params, [text])
    single = likelihood_of(generator)
    each = [single(params, [rows(text, slice(i, i + 1))]) for i in range(200)]
    nats = np.array([one.nats_per_token * one.tokens for one in each])
    tokens = np.array([one.tokens for one in each])
    drawn = np.random.default_rng(0).integers(0, 200, (4000, 200))
    bootstrap = (nats[drawn].sum(axis=1) / tokens[drawn].sum(axis=1)).std()
    assert held_out.standard_error == pytest.approx(bootstrap, rel=0.05)


def test_the_batches_and_rows_of_padding_change_nothing(writer, text: Batch) -> None:
    whole = likelihood_of(writer[0])(writer[1], [text])
    empty = rows(text, slice(0, 2)).replace(target_mask=np.zeros((2, LENGTH), bool))
    padded = jax.tree.map(lambda *parts: np.concatenate(parts), rows(text, slice(6, 11)), rows(empty, [0]))
    parts = likelihood_of(writer[0])(writer[1], [rows(text, slice(0, 6)), padded])
    assert (parts.texts, parts.tokens) == (whole.texts, whole.tokens)
    assert parts.nats_per_token == pytest.approx(whole.nats_per_token, rel=1e-6)
    assert parts.standard_error == pytest.approx(whole.standard_error, rel=1e-6)


def test_what_stands_outside_the_mask_changes_nothing(writer, text: Batch) -> None:
    other = text.replace(target=np.where(text.target_mask, text.target, 7).astype(np.int32))
    evaluate = likelihood_of(writer[0])
    assert evaluate(writer[1], [other]) == evaluate(writer[1], [text])
