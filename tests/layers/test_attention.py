"""Attention by kernels against a loop over tokens in float64, and what a backward pass keeps of it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import VOCABULARY, assert_trees_close, batch_of, build

from gptgan_jax import TransformerConfig, build_discriminator
from gptgan_jax.layers.attention import BLOCK, attend, block_of, cudnn, flash_attend, mask_of, splash
from gptgan_jax.models.discriminator_networks import TransformerDiscriminatorConfig
from gptgan_jax.types import Array

LENGTH, KV_HEADS, GROUP, SIZE = 150, 2, 2, 8
# The kernel for TPUs as JAX emulates it; the call of cuDNN without cuDNN; what is left where there is neither.
FORMS: dict[str, Callable[..., Array]] = {
    "splash": partial(splash, interpret=True),
    "cudnn": partial(cudnn, implementation="xla"),
    "flash": flash_attend,
}


def arrays(length: int = LENGTH) -> tuple[Array, Array, Array, Array]:
    """Queries, keys and values of three texts: one padded on the left, one on the right, one without padding."""
    rng = np.random.default_rng(length)
    queries = rng.normal(size=(3, length, KV_HEADS, GROUP, SIZE))
    keys, values = rng.normal(size=(2, 3, KV_HEADS, length, SIZE))
    tokens = np.ones((3, length), bool)
    tokens[0, :9] = False
    tokens[1, -20:] = False
    return (*(jnp.asarray(x, jnp.float32) for x in (queries, keys, values)), jnp.asarray(tokens))


def by_loop(queries: Any, keys: Any, values: Any, tokens: Any, causal: bool) -> np.ndarray:
    """Of each token that is no padding, one at a time; zeros for the others."""
    queries, keys, values = (np.asarray(x, np.float64) for x in (queries, keys, values))
    tokens, mixed = np.asarray(tokens), np.zeros(queries.shape)
    for row, t, k, g in np.ndindex(queries.shape[:4]):
        seen = tokens[row] & (np.arange(tokens.shape[1]) <= t if causal else True)
        if tokens[row, t]:
            weights = np.exp(keys[row, k, seen] @ queries[row, t, k, g] / np.sqrt(SIZE))
            mixed[row, t, k, g] = weights @ values[row, k, seen] / weights.sum()
    return mixed


def test_one_token_attends_as_the_last_of_many() -> None:
    """While decoding, a row asks for one token: grouped queries in products of their own."""
    queries, keys, values, tokens = arrays(40)
    mask = mask_of(tokens, causal=True)
    found = attend(queries[:, -1:], keys, values, mask[:, -1:])
    expected = by_loop(queries, keys, values, tokens, causal=True)[:, -1:]
    whole = [0, 2]  # the last token of the other text is padding
    np.testing.assert_allclose(found[np.array(whole)], expected[whole], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_a_kernel_mixes_as_a_loop_over_tokens_does(form: str, causal: bool) -> None:
    *parts, tokens = arrays()
    mixed = jax.jit(partial(FORMS[form], causal=causal))(*parts, tokens)
    mixed = np.where(np.asarray(tokens)[:, :, None, None, None], mixed, 0)
    np.testing.assert_allclose(mixed, by_loop(*parts, tokens, causal), rtol=1e-4, atol=1e-5)


@pytest.mark.cases(2)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [129, 600])
def test_gradients_are_those_of_attention_in_full(form: str, length: int) -> None:
    """600 tokens are several blocks of the kernel, and 129 a block that is mostly padding."""
    *parts, tokens = arrays(length)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=parts[0].shape), jnp.float32)
    weights = jnp.where(tokens[:, :, None, None, None], weights, 0)

    def gradients(function: Callable[..., Array]) -> Any:
        return jax.jit(jax.grad(lambda parts: (function(*parts, tokens) * weights).sum()))(parts)

    in_full = gradients(lambda *parts: attend(*parts[:3], mask_of(parts[3], causal=True)))
    assert_trees_close(gradients(FORMS[form]), in_full, rtol=2e-4, atol=2e-5)


def test_no_scores_are_kept_for_the_backward_pass() -> None:
    *parts, tokens = arrays(256)
    scores = 3 * KV_HEADS * GROUP * 256 * 256

    def kept(function: Callable[..., Array]) -> int:
        residuals = jax.eval_shape(lambda parts: jax.vjp(lambda p: function(*p, tokens), parts)[1], parts)
        return max(x.size for x in jax.tree.leaves(residuals))

    assert kept(lambda *parts: attend(*parts[:3], mask_of(parts[3], causal=True))) == scores
    assert kept(flash_attend) < scores / 8


FLASH: dict[str, Any] = {"width": 16, "heads": 2, "max_positions": 300, "dtype": "bfloat16", "attention": "flash"}


def used(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether the kernel is part of a program, of whatever device."""
    return "pallas_call" in str(jax.make_jaxpr(function)(*arguments))


@pytest.mark.cases(2)
@pytest.mark.thorough
@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("encoder_layers", [0, 1])
def test_a_network_with_it_is_the_one_without(scan: bool, encoder_layers: int) -> None:
    sizes = FLASH | {"layers": 2, "scan_layers": scan, "encoder_layers": encoder_layers}
    batch = batch_of(prompts=(1, 140, 9), targets=(130, 20, 7), length=130)
    flash, params = build(TransformerConfig(**sizes))
    dense, _ = build(TransformerConfig(**(sizes | {"attention": "dense"})))

    def prefilled(generator: Any) -> Any:
        return lambda params: generator.prefill(params, batch.prompt, batch.prompt_mask, 8)[0]

    for of in (lambda generator: lambda params: generator.logits(params, batch), prefilled):
        assert used(of(flash), params)
        assert not used(of(dense), params)
        mask = batch.target_mask[:, :, None] if of is not prefilled else True
        one, other = (np.where(mask, jax.jit(of(generator))(params), 0) for generator in (flash, dense))
        np.testing.assert_allclose(one, other, atol=0.02 * np.abs(other).max())


@pytest.mark.thorough
def test_a_discriminator_scores_with_it_as_without() -> None:
    sizes = FLASH | {"layers": 1}
    batch = batch_of(targets=(130, 20, 7), length=130)
    flash, dense = (
        build_discriminator(TransformerDiscriminatorConfig(**(sizes | {"attention": attention})), VOCABULARY)
        for attention in ("flash", "dense")
    )
    params = flash.init(jax.random.key(0), batch)
    assert used(flash.scores, params, batch)
    one, other = (jax.jit(network.scores)(params, batch).sequence for network in (flash, dense))
    np.testing.assert_allclose(one, other, atol=0.02 * float(np.abs(other).max()))


def test_blocks_fit_vmem_and_divide_what_a_text_is_lengthened_to() -> None:
    """Blocks of 2,048 overflow the VMEM of a v5e at 4,096 tokens, and Splash takes no block that does not divide."""
    for length in range(BLOCK, 5000):
        block = block_of(length)
        assert block % BLOCK == 0
        assert block <= 512
        assert -(-length // block) * block <= 1.25 * -(-length // BLOCK) * BLOCK
    assert block_of(4096) == block_of(2048) == 512


def test_texts_shorter_than_a_block_and_single_tokens_are_attended_to_in_full() -> None:
    generator, params = build(TransformerConfig(**FLASH, layers=1))
    batch = batch_of()
    assert not used(generator.logits, params, batch)
    _, cache = generator.prefill(params, jnp.ones((1, 140), jnp.int32), jnp.ones((1, 140), bool), 8)
    assert not used(generator.decode, params, cache, jnp.ones(1, jnp.int32))


def test_what_the_kernels_do_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="needs dtype bfloat16: set that, or attention dense"):
        TransformerConfig(attention="flash")
    with pytest.raises(ValueError, match="heads of a multiple of 8 features, not 12"):
        TransformerConfig(attention="flash", dtype="bfloat16", width=48, heads=4)
