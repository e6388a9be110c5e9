"""FLOP by formula against XLA's count of programs that it sees whole: nothing scanned, nothing computed twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from tiny import tiny_config

from gptgan_jax import Vocabulary, build_discriminator, build_generator
from gptgan_jax.compiling.networks import (
    Work,
    discriminator_behind,
    discriminator_forward,
    generator_forward,
    generator_sampling,
)
from gptgan_jax.compiling.work import step_work
from gptgan_jax.config import Config
from gptgan_jax.models.discriminator_networks import CnnConfig, LinearConfig, MlpConfig, TransformerDiscriminatorConfig
from gptgan_jax.models.leakgan import LeakganConfig
from gptgan_jax.models.lstm import LstmConfig
from gptgan_jax.models.relational import RelationalConfig
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.runs.trained import build_networks, example_batch
from gptgan_jax.training.phases import build_gan
from gptgan_jax.types import Batch

ROWS, PROMPT, TARGET, VOCABULARY = 4, 6, 10, Vocabulary(384)
SIZES: dict[str, Any] = {"layers": 2, "width": 128, "heads": 4, "max_positions": 32}
LLAMA: dict[str, Any] = {"kv_heads": 2, "mlp_width": 200, "activation": "swiglu", "norm": "rms", "positions": "rotary"}
GENERATORS: dict[str, TransformerConfig | LstmConfig] = {
    "gpt2": TransformerConfig(**SIZES),
    "llama": TransformerConfig(**SIZES, **LLAMA, tied_embeddings=False),
    "encoder_decoder": TransformerConfig(**SIZES, encoder_layers=1),
}
DISCRIMINATORS: dict[str, Any] = {
    "mlp": MlpConfig(embedding=128, hidden=256),
    "cnn": CnnConfig(embedding=128, filters=128),
    "highway": CnnConfig(embedding=64, widths=(1, 3), filters=96, highway=True, hidden=80),
    "parts": CnnConfig(embedding=64, widths=(1, 3), filters=96, highway=True, hidden=80, representations=4),
    "transformer": TransformerDiscriminatorConfig(**SIZES),
}


def batch() -> Batch:
    return Batch(
        jnp.ones((ROWS, PROMPT), jnp.int32),
        jnp.ones((ROWS, PROMPT), bool),
        jnp.ones((ROWS, TARGET), jnp.int32),
        jnp.ones((ROWS, TARGET), bool),
        jnp.zeros(ROWS, jnp.int32),
    )


def counted(function: Any, *arguments: Any) -> float:
    """XLA's count, without what is no matrix product: it counts a multiply-add as two, as the formula does."""
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("name", GENERATORS)
def test_a_forward_pass_of_a_generator(name: str) -> None:
    generator = build_generator(GENERATORS[name], VOCABULARY)
    params = jax.eval_shape(generator.init, jax.random.key(0), batch())
    expected = generator_forward(generator.config, VOCABULARY.size, ROWS, PROMPT, TARGET).performed
    assert counted(generator.logits, params, batch()) == pytest.approx(expected, rel=0.05)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", GENERATORS)
def test_writing_is_a_prefill_and_a_step_for_each_token_but_the_first(name: str) -> None:
    generator = build_generator(GENERATORS[name], VOCABULARY)
    params = jax.eval_shape(generator.init, jax.random.key(0), batch())
    prefill = jax.eval_shape(lambda p: generator.prefill(p, batch().prompt, batch().prompt_mask, TARGET), params)
    tokens = jnp.ones(ROWS, jnp.int32)
    start = counted(lambda p: generator.prefill(p, batch().prompt, batch().prompt_mask, TARGET), params)
    step = counted(generator.decode, params, prefill[1], tokens)
    expected = generator_sampling(generator.config, VOCABULARY.size, ROWS, PROMPT, TARGET).performed
    assert start + (TARGET - 1) * step == pytest.approx(expected, rel=0.08)


READ = CnnConfig(embedding=64, widths=(1, 3, 4), filters=96, highway=True, hidden=80, dropout=0.0)


def of_one_prompt_each(count: int) -> Batch:
    """The same rows, of which so many neighbours answer a prompt."""
    return batch().replace(prompt=batch().prompt[::count], prompt_mask=batch().prompt_mask[::count])


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", GENERATORS)
def test_prompts_that_are_read_once(name: str) -> None:
    generator, prompts = build_generator(GENERATORS[name], VOCABULARY), ROWS // 2
    params = jax.eval_shape(generator.init, jax.random.key(0), batch())
    sizes = VOCABULARY.size, ROWS, PROMPT, TARGET, prompts
    expected = generator_forward(generator.config, *sizes).performed
    assert counted(generator.logits, params, of_one_prompt_each(2)) == pytest.approx(expected, rel=0.05)
    assert generator.branch is not None
    arguments = of_one_prompt_each(2).prompt, of_one_prompt_each(2).prompt_mask, TARGET, 2
    branch: Any = generator.branch
    start = counted(lambda p: branch(p, *arguments), params)
    cache = jax.eval_shape(lambda p: branch(p, *arguments), params)[1]
    step = counted(generator.decode, params, cache, jnp.ones(ROWS, jnp.int32))
    written = generator_sampling(generator.config, *sizes)
    assert start + (TARGET - 1) * step == pytest.approx(written.performed, rel=0.08)
    # Of a prompt's keys and values a step reads one copy.
    assert written.cache < generator_sampling(generator.config, *sizes[:-1]).cache


def test_texts_behind_prompts_that_a_discriminator_reads_once() -> None:
    discriminator = build_discriminator(DISCRIMINATORS["transformer"], VOCABULARY)
    params = jax.eval_shape(discriminator.init, jax.random.key(0), batch())
    config, prompts = discriminator.config, ROWS // 2
    assert isinstance(config, TransformerDiscriminatorConfig)
    behind = discriminator_behind(config, ROWS, prompts, PROMPT, TARGET).performed
    expected = behind + discriminator_forward(config, prompts, PROMPT).performed
    assert counted(discriminator.scores, params, of_one_prompt_each(2)) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    "config",
    [
        LstmConfig(layers=2, embedding=96, hidden=128),
        RelationalConfig(slots=3, heads=4, head_width=64, embedding=96),
        LeakganConfig(embedding=96, units=64, goal=32, horizon=2, leaked=READ),
    ],
    ids=lambda config: config.kind,
)
def test_a_recurrent_network_step_by_step(config: LstmConfig | RelationalConfig | LeakganConfig) -> None:
    # Teacher forcing scans over time, so XLA's count is compared where a step stands alone.
    generator = build_generator(config, VOCABULARY)
    params = jax.eval_shape(generator.init, jax.random.key(0), batch())
    cache = jax.eval_shape(lambda p: generator.prefill(p, batch().prompt, batch().prompt_mask, TARGET), params)[1]
    step = counted(generator.decode, params, cache, jnp.ones(ROWS, jnp.int32))
    forward = generator_forward(generator.config, VOCABULARY.size, ROWS, PROMPT, TARGET).performed
    written = generator_sampling(generator.config, VOCABULARY.size, ROWS, PROMPT, TARGET).performed
    unread = (PROMPT - 1) * 2 * ROWS * config.hidden * VOCABULARY.size  # logits within the prompt
    assert step * (PROMPT + TARGET - 1) - unread == pytest.approx(forward, rel=0.05)
    assert written == forward


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_a_forward_pass_of_a_discriminator(name: str) -> None:
    discriminator = build_discriminator(DISCRIMINATORS[name], VOCABULARY)
    params = jax.eval_shape(discriminator.init, jax.random.key(0), batch())
    embeddings = jnp.zeros((ROWS, PROMPT + TARGET, getattr(discriminator.config, "embedding", 128)))
    for whole in (False, True):

        def scores(params: Any, embeddings: Any, whole: bool = whole) -> Any:
            found = discriminator.judge(params, embeddings, batch())
            return found.sequence if whole else found.tokens

        expected = discriminator_forward(discriminator.config, ROWS, PROMPT + TARGET, whole).performed
        # The rest are running sums and maxima, and the score.
        assert counted(scores, params, embeddings) == pytest.approx(expected, rel=0.1)


def test_a_linear_discriminator_multiplies_each_embedding_once() -> None:
    # XLA's count is mostly of the running mean, which is no product.
    assert discriminator_forward(LinearConfig(embedding=128), 3, 5).performed == 2 * 3 * 5 * 128


def test_a_causal_token_sees_half_of_what_the_program_computes() -> None:
    work = discriminator_forward(DISCRIMINATORS["transformer"], 1, 16)
    attention = 2 * 4 * 128  # layers, two products of a multiply-add, width
    assert work.performed - work.model == attention * (16 * 16 - 16 * 17 / 2)


def test_a_token_sees_no_more_than_its_window() -> None:
    whole, narrow = (TransformerConfig(**SIZES | {"max_positions": 64}, window=window) for window in (None, 5))
    of_a_pair = 4 * 128 * 2  # two layers

    def saved(forward: Callable[[TransformerConfig], Work]) -> float:
        return (forward(whole).model - forward(narrow).model) / of_a_pair

    def seen(first: int, last: int) -> int:
        return sum(min(5, t) for t in range(first, last + 1))

    assert saved(lambda c: generator_forward(c, 50, 1, 3, 14)) == 16 * 17 // 2 - seen(1, 16)
    # Three texts of 14 tokens that answer one prompt of 7, which is read once.
    found = saved(lambda c: generator_forward(c, 50, 3, 7, 14, prompts=1))
    assert found == (28 - seen(1, 7)) + 3 * (sum(range(8, 21)) - seen(8, 20))
    found = saved(lambda c: generator_sampling(c, 50, 1, 3, 14))
    assert found == (6 - seen(1, 3)) + sum(range(4, 17)) - seen(4, 16)


@pytest.mark.parametrize(
    ("length", "pairs"),
    [
        (100, 100 * 100),  # shorter than a block of the kernel
        (1024, 3 * 512**2),  # of four blocks of 512 the one above the diagonal is left out
        (1025, 6 * 384**2),  # filled up to 1,152
    ],
)
def test_a_kernel_leaves_out_the_blocks_above_the_diagonal(length: int, pairs: int) -> None:
    sizes = SIZES | {"layers": 1, "max_positions": 2000, "dtype": "bfloat16"}
    dense, flash = (
        discriminator_forward(TransformerDiscriminatorConfig(**sizes, attention=attention), 1, length)
        for attention in ("dense", "flash")
    )
    of_a_pair = 4 * 128
    assert dense.model == flash.model
    assert dense.performed - flash.performed == of_a_pair * (length * length - pairs)


def test_remat_computes_the_blocks_again_and_the_head_not() -> None:
    plain, again = (TransformerConfig(**SIZES, remat=remat) for remat in (False, True))
    forward = generator_forward(plain, VOCABULARY.size, ROWS, PROMPT, TARGET)
    head = 2 * ROWS * TARGET * 128 * VOCABULARY.size
    kept = forward.with_backward()
    recomputed = generator_forward(again, VOCABULARY.size, ROWS, PROMPT, TARGET).with_backward()
    assert kept.performed == 3 * forward.performed
    assert recomputed.performed - kept.performed == forward.performed - head
    assert recomputed.model == kept.model


@pytest.mark.cases(2)
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("phase", "adapted"),
    [("likelihood", False), ("warmup", False), ("adversarial", False), ("likelihood", True), ("adversarial", True)],
)
def test_a_step_is_the_sum_of_its_parts(tmp_path: Path, phase: Any, adapted: bool) -> None:
    network = {f"generator.{key}": value for key, value in SIZES.items()}
    judge = {f"discriminator.{key}": value for key, value in SIZES.items()}
    overrides = network | judge | {"discriminator.kind": "transformer", "discriminator.embedding": None}
    overrides |= {"objective.dense": False, "objective.estimator": {"kind": "grpo", "samples": 2}}
    overrides |= {"objective.kl_weight": 0.1, "objective.kl_estimator": "low_variance", "data.max_length": 12}
    if adapted:
        overrides |= {"init_from": "another", "generator.lora.rank": 1, "discriminator.lora.rank": 1}
        overrides |= {"discriminator.from_generator": True, "generator.max_positions": SIZES["max_positions"]}
    config = tiny_config(tmp_path, overrides)
    parts = step_work(config, phase, VOCABULARY.size, 1)
    written = parts.pop("sampling", None)
    expected = sum(work.performed for work in parts.values())
    if written is not None:
        # Of the loop over tokens XLA counts one turn.
        samples = 2 * config.batch_size(phase)
        expected += 2 * generator_sampling(config.generator, VOCABULARY.size, samples, 1, 2).performed / 2
    # Optimisers, norms and softmaxes are in XLA's count alone.
    assert counted_step(config, phase) == pytest.approx(expected, rel=0.07)


def counted_step(config: Config, phase: Any) -> float:
    """XLA's count of a step of a phase."""
    players = build_networks(config, VOCABULARY)
    gan, example = build_gan(config, phase, *players), example_batch(config, VOCABULARY, False)
    first = build_gan(config, "likelihood", *players)
    state = jax.eval_shape(lambda key: gan.begin(first.init(key, example), example), jax.random.key(0))
    rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct((config.batch_size(phase), *x.shape[1:]), x.dtype), example)
    step = {"likelihood": gan.likelihood_step, "warmup": gan.discriminator_step}.get(phase, gan.adversarial_step)
    return counted(step, state, rows)


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("estimator", "rows", "prompt"),
    [
        ({"kind": "jsdgan"}, 0, 1),
        ({"kind": "feature_matching", "samples": 3, "depths": [0.5, 1.0]}, 8, 1),
        # Of 12 tokens: 3 to 5, 6 to 8 and 9 to 11, after BOS and at most 8 tokens.
        ({"kind": "feature_matching", "samples": 3, "depths": [0.5], "length": 3, "context": 2}, 8 * 3, 9),
    ],
    ids=["jsdgan", "whole texts", "stretches"],
)
def test_a_step_without_a_discriminator_is_the_sum_of_its_parts(
    estimator: dict[str, Any], rows: int, prompt: int, tmp_path: Path
) -> None:
    overrides = {f"generator.{key}": value for key, value in SIZES.items()} | {"data.max_length": 12}
    overrides |= {"objective.estimator": estimator, "objective.dense": False, "objective.likelihood_weight": 0.0}
    overrides |= {"objective.reward": "logit", "warmup.steps": 0, "objective.pair_loss": "non_saturating"}
    config = tiny_config(tmp_path, overrides)
    parts = step_work(config, "adversarial", VOCABULARY.size, 1)
    assert ("sampling" in parts) == (rows > 0)
    parts.pop("sampling", None)
    expected = sum(work.performed for work in parts.values())
    if rows:  # of the loop over tokens XLA counts one turn
        once = rows if prompt > 1 else None
        expected += generator_sampling(config.generator, VOCABULARY.size, 3 * rows, prompt, 2, once).performed
    assert counted_step(config, "adversarial") == pytest.approx(expected, rel=0.1)
