"""What every generator keeps, whatever network it is: causality, padding that changes nothing, decoding that agrees."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GENERATORS, VOCABULARY, batch_of, build, generator_of, padded, rows

from gptgan_jax import (
    Generator,
    LstmConfig,
    RelationalConfig,
    TransformerConfig,
    Vocabulary,
    build_generator,
    parameter_count,
)
from gptgan_jax.objectives.likelihood import cross_entropy
from gptgan_jax.objectives.optimizers import OptimizerConfig, build_optimizer


@functools.cache
def logits_of(name: str) -> Any:
    """(batch) -> logits as NumPy, jitted."""
    generator, params = generator_of(name)
    jitted = jax.jit(generator.logits)
    return lambda batch: np.asarray(jitted(params, batch))


@pytest.mark.cases(4)
@pytest.mark.parametrize("name", GENERATORS)
def test_a_token_changes_the_logits_after_it_and_none_before(name: str) -> None:
    batch, logits_at = batch_of(targets=(4, 4, 4)), logits_of(name)
    before = logits_at(batch)
    for t in range(3):
        changed = batch.replace(target=batch.target.at[:, t].set((batch.target[:, t] + 1) % 7))
        after = logits_at(changed)
        np.testing.assert_array_equal(after[:, : t + 1], before[:, : t + 1])
        assert (np.abs(after[:, t + 1] - before[:, t + 1]).max(axis=-1) > 1e-4).all()


@pytest.mark.parametrize("name", GENERATORS)
def test_what_is_drawn_from_and_learnt_is_float32_whatever_products_are_computed_in(name: str) -> None:
    """Draws by noise in bfloat16 favour low ids, and Adam's 0.999 in bfloat16 is 1."""
    generator = build_generator(dataclasses.replace(GENERATORS[name], dtype="bfloat16"), VOCABULARY)
    batch = batch_of()
    params = jax.eval_shape(generator.init, jax.random.key(0), batch)
    moments = jax.eval_shape(build_optimizer(OptimizerConfig(), 9).init, params)
    assert {x.dtype for x in jax.tree.leaves((params, moments))} == {jnp.float32.dtype, jnp.int32.dtype}
    prefill = functools.partial(generator.prefill, length=4)
    first, cache = jax.eval_shape(prefill, params, batch.prompt, batch.prompt_mask)
    following, _ = jax.eval_shape(generator.decode, params, cache, batch.prompt[:, 0])
    assert {x.dtype for x in (first, following)} == {jnp.float32.dtype}


@pytest.mark.parametrize("name", GENERATORS)
def test_every_prompt_token_reaches_every_logit(name: str) -> None:
    batch, logits_at = batch_of(prompts=(3, 3, 3), targets=(4, 4, 4)), logits_of(name)
    before = logits_at(batch)
    for p in range(3):
        after = logits_at(batch.replace(prompt=batch.prompt.at[:, p].set((batch.prompt[:, p] + 1) % 7)))
        assert (np.abs(after - before).max(axis=-1) > 1e-6).all()


@pytest.mark.parametrize("name", GENERATORS)
def test_what_stands_in_the_padding_changes_no_logit_that_counts(name: str) -> None:
    batch, logits_at = batch_of(), logits_of(name)
    mask = np.asarray(batch.target_mask)
    refilled = batch.replace(
        prompt=jnp.where(batch.prompt_mask, batch.prompt, 6), target=jnp.where(batch.target_mask, batch.target, 6)
    )
    np.testing.assert_array_equal(logits_at(refilled)[mask], logits_at(batch)[mask])


@pytest.mark.cases(3)
@pytest.mark.parametrize("name", GENERATORS)
def test_cached_decoding_gives_the_logits_of_the_full_forward_pass_for_prompts_of_unequal_length(name: str) -> None:
    generator, params = generator_of(name)
    batch = batch_of(targets=(4, 4, 4))
    full = logits_of(name)(batch)
    prefill, decode = jax.jit(generator.prefill, static_argnums=3), jax.jit(generator.decode)
    logits, cache = prefill(params, batch.prompt, batch.prompt_mask, 4)
    for t in range(4):
        assert logits.dtype == jnp.float32
        np.testing.assert_allclose(logits, full[:, t], rtol=1e-4, atol=2e-5)
        if t < 3:
            logits, cache = decode(params, cache, batch.target[:, t])


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", GENERATORS)
def test_copies_of_a_row_decode_on_from_a_repeated_cache_each_by_itself(name: str) -> None:
    generator, params = generator_of(name)
    batch = batch_of(targets=(4, 4, 4))
    copies = rows(batch, jnp.array([0, 0, 1, 1, 2, 2]))
    tails = np.random.default_rng(0).integers(3, 7, (6, 2))
    tails[::2] = np.asarray(batch.target)[:, 2:]  # one copy writes on as the row itself does
    copies = copies.replace(target=copies.target.at[:, 2:].set(tails))
    full = logits_of(name)(copies)
    decode = jax.jit(generator.decode)
    _, cache = jax.jit(generator.prefill, static_argnums=3)(params, batch.prompt, batch.prompt_mask, 4)
    _, cache = decode(params, cache, batch.target[:, 0])
    repeated = jax.jit(generator.repeat, static_argnums=1)(cache, 2)
    assert jax.tree.structure(repeated) == jax.tree.structure(cache)
    for t in (1, 2):
        logits, repeated = decode(params, repeated, copies.target[:, t])
        np.testing.assert_allclose(logits, full[:, t + 1], rtol=1e-4, atol=2e-5)
        alone, cache = decode(params, cache, batch.target[:, t])
        np.testing.assert_allclose(logits[::2], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "encoder_decoder", "lstm_encoder_decoder", "relational"])
def test_a_row_does_not_depend_on_the_others_or_on_their_padding(name: str) -> None:
    batch = batch_of()
    together = logits_of(name)(batch)
    alone = logits_of(name)(padded(rows(batch, jnp.array([2, 0])), left=1, right=1))
    for row, original in enumerate([2, 0]):
        count = int(batch.target_mask[original].sum())
        np.testing.assert_allclose(alone[row, :count], together[original, :count], rtol=1e-4, atol=2e-5)


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", ["llama", "encoder_decoder", "lstm_encoder_decoder", "relational"])
def test_every_parameter_has_a_gradient(name: str) -> None:
    generator, params = generator_of(name)
    batch = batch_of(prompts=(3, 2, 3), targets=(4, 4, 4))

    @jax.jit
    def gradient(params: Any) -> Any:
        return jax.grad(lambda p: cross_entropy(generator.logits(p, batch), batch.target, batch.target_mask))(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 1e-7, jax.tree_util.keystr(path)


def test_initial_logits_are_small_so_that_the_first_loss_is_that_of_a_uniform_guess() -> None:
    batch = batch_of()
    for config in (TransformerConfig(layers=1, width=16, heads=2), LstmConfig(init_stddev=0.02)):
        generator = build_generator(config, VOCABULARY)

        @jax.jit
        def first_loss(key: jax.Array, generator: Generator = generator) -> jax.Array:
            logits = generator.logits(generator.init(key, batch), batch)
            return cross_entropy(logits, batch.target, batch.target_mask)

        assert float(first_loss(jax.random.key(0))) == pytest.approx(np.log(7), abs=0.1)


@pytest.mark.parametrize("kind", ["transformer", "lstm"])
def test_dropout_acts_only_where_a_key_is_given_and_differs_between_keys(kind: str) -> None:
    sizes: dict[str, Any] = {"layers": 1, "dropout": 0.3}
    config = TransformerConfig(width=8, heads=2, **sizes) if kind == "transformer" else LstmConfig(**sizes)
    generator, params = build(config)
    plain, _ = build(
        TransformerConfig(width=8, heads=2, layers=1) if kind == "transformer" else LstmConfig(layers=1),
    )
    batch = batch_of()
    dropped = jax.jit(generator.logits)
    without = dropped(params, batch)
    np.testing.assert_array_equal(without, jax.jit(plain.logits)(params, batch))
    first, again, other = (dropped(params, batch, jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - without).max() > 1e-3
    assert np.abs(first - other).max() > 1e-3


def test_a_text_longer_than_max_positions_is_refused_and_one_as_long_is_not() -> None:
    generator, params = build(TransformerConfig(layers=1, width=4, heads=1, max_positions=7))
    batch = batch_of(prompts=(1, 3, 2), length=4)
    assert jax.eval_shape(generator.logits, params, batch).shape == (3, 4, 7)
    assert generator.max_length == 7
    with pytest.raises(ValueError, match="max_positions >= 8, not 7"):
        generator.logits(params, padded(batch, right=1))
    with pytest.raises(ValueError, match="max_positions >= 9, not 7"):
        generator.prefill(params, batch.prompt, batch.prompt_mask, 6)
    assert generator_of("lstm")[0].max_length is None


def test_a_decoder_with_an_encoder_starts_from_the_vocabularys_bos() -> None:
    batch = batch_of()
    generator, params = generator_of("encoder_decoder")
    other = build_generator(generator.config, Vocabulary(size=7, bos_id=4))
    assert np.abs(logits_of("encoder_decoder")(batch) - jax.jit(other.logits)(params, batch)).max() > 1e-3


def test_parameter_count_by_hand() -> None:
    _, params = build(TransformerConfig(layers=1, width=4, heads=2, max_positions=10))
    norms, attention, mlp = 3 * 8, (4 * 12 + 12) + (4 * 4 + 4), (4 * 16 + 16) + (16 * 4 + 4)
    assert parameter_count(params) == 7 * 4 + 10 * 4 + norms + attention + mlp


@pytest.mark.parametrize("name", ["gpt2", "llama", "encoder_decoder", "lstm_encoder_decoder", "relational"])
def test_hidden_gives_the_states_that_the_logits_are_read_from(name: str) -> None:
    generator, params = generator_of(name)
    batch = batch_of()
    hidden = np.asarray(jax.jit(generator.hidden)(params, batch), np.float64)
    config = generator.config
    recurrent = isinstance(config, LstmConfig | RelationalConfig)
    width = config.hidden if recurrent else config.width
    assert hidden.shape == (3, 4, width)
    if recurrent:
        head = params["network"]["head"]
        by_hand = hidden @ np.asarray(head["kernel"], np.float64) + np.asarray(head["bias"], np.float64)
    elif config.tied_embeddings:
        by_hand = hidden @ np.asarray(params["trunk"]["embedding"]["table"], np.float64).T
    else:
        by_hand = hidden @ np.asarray(params["head"]["kernel"], np.float64)
    np.testing.assert_allclose(by_hand, logits_of(name)(batch), rtol=1e-4, atol=2e-5)


def test_hidden_refuses_what_logits_refuse() -> None:
    generator, params = generator_of("gpt2")
    with pytest.raises(ValueError, match="max_positions >= 33, not 24"):
        generator.hidden(params, batch_of(length=30))
