"""Likelihood in parts of the text against all logits at once, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gptgan_jax as gg
from gptgan_jax.layers import chunked_likelihood
from gptgan_jax.layers.chunked_likelihood import weighted_nats
from gptgan_jax.models.generators import GeneratorConfig
from gptgan_jax.types import Params

ROWS, WIDTH, VOCABULARY = 3, 4, 11


def _inputs(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(length)
    hidden, kernel = rng.normal(size=(ROWS, length, WIDTH)), rng.normal(size=(WIDTH, VOCABULARY))
    bias, weights = rng.normal(size=VOCABULARY), rng.uniform(-1, 1, size=(ROWS, length))
    targets = rng.integers(0, VOCABULARY, size=(ROWS, length))
    return hidden, kernel, bias, targets, weights


def _reference(hidden: np.ndarray, kernel: np.ndarray, bias: np.ndarray, targets: np.ndarray, weights: np.ndarray):
    """Value and gradients by hidden states, kernel and bias, in float64."""
    logits = hidden @ kernel + bias
    softmax = np.exp(logits - logits.max(axis=-1, keepdims=True))
    softmax /= softmax.sum(axis=-1, keepdims=True)
    token = np.eye(VOCABULARY)[targets]
    nats = -np.log((softmax * token).sum(axis=-1))
    of_logits = weights[..., None] * (softmax - token)
    of_kernel = np.einsum("btd,btv->dv", hidden, of_logits)
    return (weights * nats).sum(), (of_logits @ kernel.T, of_kernel, of_logits.sum(axis=(0, 1)))


@pytest.mark.parametrize("length", [1, 7, 8])
@pytest.mark.parametrize("least_rows", [1, 2 * ROWS, 5 * ROWS, 512])
def test_value_and_gradients_are_those_of_all_logits(
    length: int, least_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_likelihood, "LEAST_ROWS", least_rows)
    hidden, kernel, bias, targets, weights = _inputs(length)

    def nats(hidden: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return 3 * weighted_nats(hidden, kernel, bias, jnp.asarray(targets), jnp.float32(weights), jnp.float32)

    arguments = [jnp.float32(x) for x in (hidden, kernel, bias)]
    value, gradients = jax.jit(jax.value_and_grad(nats, (0, 1, 2)))(*arguments)
    wanted, wanted_gradients = _reference(hidden, kernel, bias, targets, weights)
    np.testing.assert_allclose(value, 3 * wanted, rtol=1e-5)
    np.testing.assert_allclose(nats(*arguments), 3 * wanted, rtol=1e-5)
    for found, exact in zip(gradients, wanted_gradients, strict=True):
        np.testing.assert_allclose(found, 3 * exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_weights_of_half_the_size_have_gradients_that_were_summed_up_in_float32(
    dtype: jnp.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_likelihood, "LEAST_ROWS", 1)
    hidden, kernel, bias, targets, weights = _inputs(300)
    given = [jnp.asarray(x, dtype) for x in (hidden, kernel, bias)]

    def nats(hidden: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return weighted_nats(hidden, kernel, bias, jnp.asarray(targets), jnp.float32(weights), jnp.float32)

    value, gradients = jax.jit(jax.value_and_grad(nats, (0, 1, 2)))(*given)
    exact_value, exact = _reference(*(np.asarray(x, np.float64) for x in given), targets, weights)
    np.testing.assert_allclose(value, exact_value, rtol=1e-5)
    for found, wanted in zip(gradients, exact, strict=True):
        assert found.dtype == dtype
        rounded = np.asarray(jnp.asarray(wanted, dtype), np.float64)
        np.testing.assert_allclose(np.asarray(found, np.float64), rounded, rtol=2**-7, atol=1e-3)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "config",
    [
        gg.LstmConfig(embedding=4, hidden=6),
        gg.TransformerConfig(layers=1, width=8, heads=2, max_positions=16),
        gg.TransformerConfig(layers=1, width=8, heads=2, max_positions=16, tied_embeddings=False, encoder_layers=1),
    ],
)
def test_a_generators_nats_are_those_of_its_logits(config: GeneratorConfig) -> None:
    vocabulary = gg.Vocabulary(VOCABULARY)
    generator = gg.build_generator(config, vocabulary)
    text = jax.random.randint(jax.random.key(0), (ROWS, 7), 0, VOCABULARY)
    batch = gg.unconditional_batch(text, vocabulary)
    params = generator.init(jax.random.key(1), batch)
    weights = jax.random.uniform(jax.random.key(2), text.shape)

    def of_logits(params: Params) -> jax.Array:
        log_probs = jax.nn.log_softmax(generator.logits(params, batch), axis=-1)
        return -(weights * jnp.take_along_axis(log_probs, text[..., None], axis=-1)[..., 0]).sum()

    assert generator.weighted_nats is not None
    found = jax.value_and_grad(generator.weighted_nats)(params, batch, weights)
    wanted = jax.value_and_grad(of_logits)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), found, wanted)
