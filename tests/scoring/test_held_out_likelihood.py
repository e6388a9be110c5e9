"""Held-out likelihood: the numbers of a float64 computation, whatever the batches and the padding."""

import math
from collections.abc import Callable

import jax
import numpy as np
import pytest

from gptgan_jax.generation.texts import Drawing
from gptgan_jax.metrics.estimates import Estimate
from gptgan_jax.models.generators import Generator, build_generator
from gptgan_jax.models.lstm import LstmConfig
from gptgan_jax.scoring.held_out_likelihood import HeldOut, likelihood_of
from gptgan_jax.types import Batch, Params, Vocabulary

TEXTS, LENGTH = 11, 5
Likelihood = Callable[..., HeldOut]


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


def rows(batch: Batch, chosen: slice | np.ndarray | list[int]) -> Batch:
    return jax.tree.map(lambda x: x[chosen], batch)


@pytest.fixture(scope="module")
def writer() -> tuple[Generator, Params]:
    generator = build_generator(LstmConfig(hidden=4, embedding=4, init_stddev=1.0), Vocabulary(9))
    return generator, generator.init(jax.random.key(0), batch_of(np.random.default_rng(0), 1))


@pytest.fixture(scope="module")
def likelihood(writer) -> Likelihood:
    return likelihood_of(writer[0])


@pytest.fixture(scope="module")
def text() -> Batch:
    return batch_of(np.random.default_rng(1))


def in_float64(writer: tuple[Generator, Params], text: Batch, drawing: Drawing) -> np.ndarray:
    """Nats of each text by loops over its tokens: temperature, then the k most likely, then the fewest that reach p."""
    generator, params = writer
    nats = np.zeros(len(text.target))
    for i, logits in enumerate(np.asarray(generator.logits(params, text), np.float64)):
        for t in np.flatnonzero(text.target_mask[i]):
            probs = np.exp(logits[t] / drawing.temperature)
            if drawing.top_k:
                probs[np.argsort(probs)[: -drawing.top_k]] = 0
            probs /= probs.sum()
            order = np.argsort(-probs)
            kept = order[: 1 + int(np.sum(np.cumsum(probs[order]) < drawing.top_p))] if drawing.top_p < 1 else order
            chosen = text.target[i, t]
            nats[i] += -math.log(probs[chosen] / probs[kept].sum()) if chosen in kept and probs[chosen] else math.inf
    return nats


@pytest.fixture(scope="module")
def per_text(writer, text: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Nats and tokens of each text, in float64."""
    generator, params = writer
    logits = np.asarray(generator.logits(params, text), np.float64)
    log_z = np.log(np.exp(logits).sum(axis=-1))
    chosen = np.take_along_axis(logits, text.target[..., None].astype(int), axis=-1)[..., 0]
    return ((log_z - chosen) * text.target_mask).sum(axis=1), text.target_mask.sum(axis=1)


def test_it_is_text_by_text_a_float64_computation_and_together_the_mean_over_tokens(
    writer, likelihood: Likelihood, text: Batch, per_text
) -> None:
    nats, tokens = per_text
    held_out = likelihood(writer[1], [text])
    np.testing.assert_allclose(held_out.nats, nats, rtol=1e-6)
    np.testing.assert_array_equal(held_out.tokens, tokens)
    assert held_out.nats.dtype == np.float64
    assert held_out.per_token().value == pytest.approx(nats.sum() / tokens.sum(), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_the_temperature_divides_the_logits(writer, likelihood: Likelihood, text: Batch, temperature: float) -> None:
    drawing = Drawing(temperature)
    found = likelihood(writer[1], [text], drawing)
    np.testing.assert_allclose(found.nats, in_float64(writer, text, drawing), rtol=1e-5)
    assert np.isfinite(found.nats).all(), "without top-k and top-p every text is possible"


def test_the_default_drawing_is_the_model_itself(writer, likelihood: Likelihood, text: Batch) -> None:
    np.testing.assert_array_equal(
        likelihood(writer[1], [text]).nats, likelihood(writer[1], [text], Drawing(1.0, 0, 1.0)).nats
    )


@pytest.mark.parametrize(
    "drawing", [Drawing(top_p=0.7), Drawing(0.7, 0, 0.8), Drawing(1.3, 6), Drawing(0.9, 7, 0.9)], ids=str
)
def test_a_text_that_is_never_drawn_is_impossible_and_the_others_gain(
    writer, likelihood: Likelihood, drawing: Drawing
) -> None:
    text = batch_of(np.random.default_rng(2), 60)
    found = likelihood(writer[1], [text], drawing)
    expected = in_float64(writer, text, drawing)
    possible = np.isfinite(expected)
    assert 5 < possible.sum() < 55, "the drawing should forbid some of the texts and allow others"
    np.testing.assert_array_equal(np.isfinite(found.nats), possible)
    np.testing.assert_allclose(found.nats[possible], expected[possible], rtol=1e-5)
    assert np.isposinf(found.nats[~possible]).all()
    assert found.per_token() == Estimate(math.inf, None)
    at_temperature = likelihood(writer[1], [text], Drawing(drawing.temperature))
    assert (found.nats[possible] < at_temperature.nats[possible]).any()
    assert (found.nats <= at_temperature.nats + 1e-5)[possible].all()


def test_the_standard_error_is_that_of_a_bootstrap_over_texts(writer, likelihood: Likelihood) -> None:
    text = batch_of(np.random.default_rng(3), 200)
    held_out = likelihood(writer[1], [text])
    each = [likelihood(writer[1], [rows(text, slice(i, i + 1))]) for i in range(200)]
    nats = np.array([float(one.nats[0]) for one in each])
    tokens = np.array([int(one.tokens[0]) for one in each])
    drawn = np.random.default_rng(0).integers(0, 200, (4000, 200))
    bootstrap = (nats[drawn].sum(axis=1) / tokens[drawn].sum(axis=1)).std()
    assert held_out.per_token().error == pytest.approx(bootstrap, rel=0.05)


def test_the_batches_and_rows_of_padding_change_nothing(writer, likelihood: Likelihood, text: Batch) -> None:
    whole = likelihood(writer[1], [text])
    empty = rows(text, slice(0, 2)).replace(target_mask=np.zeros((2, LENGTH), bool))
    padded = jax.tree.map(lambda *parts: np.concatenate(parts), rows(text, slice(6, 11)), rows(empty, [0]))
    parts = likelihood(writer[1], [rows(text, slice(0, 6)), padded])
    np.testing.assert_array_equal(parts.tokens, whole.tokens)
    np.testing.assert_allclose(parts.nats, whole.nats, rtol=1e-6)
    assert parts.per_token().value == pytest.approx(whole.per_token().value, rel=1e-6)
    assert parts.per_token().error == pytest.approx(whole.per_token().error, rel=1e-6)


def test_what_stands_outside_the_mask_changes_nothing(writer, likelihood: Likelihood, text: Batch) -> None:
    other = text.replace(target=np.where(text.target_mask, text.target, 7).astype(np.int32))
    found, expected = likelihood(writer[1], [other]), likelihood(writer[1], [text])
    np.testing.assert_array_equal(found.nats, expected.nats)
    np.testing.assert_array_equal(found.tokens, expected.tokens)


def test_per_token_by_hand() -> None:
    assert HeldOut(np.array([6.0, 3.0]), np.array([4, 2])).per_token() == Estimate(1.5, 0.0)
    assert HeldOut(np.array([2.0, 4.0]), np.array([1, 1])).per_token().value == 3.0
    assert HeldOut(np.array([2.0, math.inf]), np.array([1, 3])).per_token() == Estimate(math.inf)
    assert HeldOut(np.array([]), np.array([], int)).per_token() == Estimate(None)
