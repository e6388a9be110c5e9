"""Texts that answer one prompt, which is read once for all of them: nothing changes but what is computed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GENERATORS, VOCABULARY, assert_trees_close, batch_of, build, generator_of, random_params

from gptgan_jax import LoraConfig, TransformerConfig, TransformerDiscriminatorConfig, build_discriminator, sample
from gptgan_jax.sampling.decoding import log_probs
from gptgan_jax.types import Batch

PROMPTS, EACH = (1, 3, 2), 3
SMALL: dict[str, Any] = {"layers": 2, "width": 8, "heads": 2, "max_positions": 16}


QUICK = ("grouped_queries_scanned", "encoder_decoder", "lstm")


def thorough(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.thorough)


def texts() -> tuple[Batch, Batch]:
    """Three texts for each of three prompts: a prompt a row, and each prompt once."""
    prompts = batch_of(prompts=PROMPTS, targets=(4, 4, 4))
    full = batch_of(prompts=(3,) * 9, targets=(4, 2, 3, 1, 4, 2, 4, 4, 1), seed=1)
    repeated = {name: jnp.repeat(getattr(prompts, name), EACH, axis=0) for name in ("prompt", "prompt_mask")}
    return full.replace(**repeated), full.replace(prompt=prompts.prompt, prompt_mask=prompts.prompt_mask)


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("name", [name if name in QUICK else thorough(name) for name in (*GENERATORS, "adapted")])
def test_likelihoods_and_their_gradients_are_those_of_a_prompt_a_row(name: str) -> None:
    if name == "adapted":  # whose blocks make most of what a gradient needs again
        generator, params = build(TransformerConfig(**SMALL, lora=LoraConfig(rank=2)), VOCABULARY)
    else:
        generator, params = generator_of(name)
    full, once = texts()
    weights = jnp.asarray(np.random.default_rng(0).normal(size=full.target.shape))

    @jax.jit
    def weighted(params: Any, batch: Batch) -> Any:
        return jax.value_and_grad(lambda params: (weights * log_probs(generator, params, batch)).sum())(params)

    (value, gradient), (shared, of_shared) = weighted(params, full), weighted(params, once)
    np.testing.assert_allclose(shared, value, rtol=1e-5)
    assert_trees_close(of_shared, gradient, rtol=1e-3, atol=1e-4)
    hidden = generator.hidden(params, full)[full.target_mask], generator.hidden(params, once)[full.target_mask]
    np.testing.assert_allclose(*hidden, rtol=1e-4, atol=1e-5)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", [name if name in QUICK else thorough(name) for name in GENERATORS])
def test_the_same_texts_are_drawn(name: str) -> None:
    generator, params = generator_of(name)
    full, once = texts()
    key, longest = jax.random.key(3), 12
    expected = sample(generator, params, key, full.prompt, full.prompt_mask, longest)
    found = sample(generator, params, key, once.prompt, once.prompt_mask, longest, samples=EACH)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, rtol=1e-4, atol=1e-5)
    without = generator._replace(branch=None)
    repeated = sample(without, params, key, once.prompt, once.prompt_mask, longest, samples=EACH)
    np.testing.assert_array_equal(repeated.tokens, expected.tokens)


def test_what_stands_in_a_prompts_padding_reaches_no_text() -> None:
    generator, params = generator_of("llama")
    _, once = texts()
    refilled = once.replace(prompt=jnp.where(once.prompt_mask, once.prompt, 6))
    np.testing.assert_array_equal(log_probs(generator, params, refilled), log_probs(generator, params, once))


@pytest.mark.cases(1)
@pytest.mark.parametrize("config", [{}, {"spectral_norm": True, "scan_layers": True, "positions": "rotary"}])
def test_scores_are_those_of_a_prompt_a_row(config: dict[str, Any]) -> None:
    discriminator = build_discriminator(TransformerDiscriminatorConfig(**SMALL, **config), VOCABULARY, classes=3)
    full, once = (batch.replace(target_mask=batch.target_mask.at[4].set(False)) for batch in texts())
    params = random_params(jax.eval_shape(discriminator.init, jax.random.key(0), full))

    @jax.jit
    def of(params: Any, batch: Batch) -> Any:
        scores = discriminator.scores(params, batch)
        counted = jnp.where(batch.target_mask, scores.tokens, 0), scores.sequence, scores.classes, scores.features
        return counted, jax.grad(lambda p: jnp.square(discriminator.scores(p, batch).sequence).sum())(params)

    (expected, gradient), (found, of_shared) = of(params, full), of(params, once)
    assert_trees_close(found, expected, rtol=1e-4, atol=1e-5)
    assert_trees_close(of_shared, gradient, rtol=1e-3, atol=1e-5)
