"""Low-rank adapters: what they compute, beside NumPy; where they are; and that nothing else learns."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest
from helpers import GENERATORS, VOCABULARY, assert_trees_close, batch_of, build, random_params

from gptgan_jax import (
    Generator,
    LoraConfig,
    LstmConfig,
    TransformerConfig,
    TransformerDiscriminatorConfig,
    build_discriminator,
    build_generator,
    log_probs,
    merged,
    sample,
    share_trunk,
)
from gptgan_jax.layers.lora import with_adapters, without_adapters
from gptgan_jax.objectives.likelihood import cross_entropy
from gptgan_jax.objectives.optimizers import parameter_paths

LORA = LoraConfig(rank=2, alpha=3.0)
KINDS = ("gpt2", "grouped_queries_scanned", "llama", "encoder_decoder_llama_scanned", "lstm_encoder_decoder")
SMALL: dict[str, Any] = {"layers": 1, "width": 8, "heads": 2, "max_positions": 16}
BATCH = batch_of(prompts=(3, 2, 3), targets=(4, 4, 3))


@functools.cache
def adapted(name: str, lora: LoraConfig = LORA) -> tuple[Generator, Any]:
    return build(dataclasses.replace(GENERATORS[name], lora=lora))


def flat(params: Any) -> dict[str, np.ndarray]:
    return dict(zip(parameter_paths(params), map(np.asarray, jax.tree.leaves(params)), strict=True))


def merged_by_numpy(params: Any, scale: float) -> dict[str, np.ndarray]:
    """By path, in float64 and one matrix of a stack after the other."""
    found = {}
    leaves = flat(params)
    for path, x in leaves.items():
        name = path.rpartition("/")[2]
        if name.endswith(("lora_a", "lora_b")):
            continue
        beside = path.removesuffix("kernel") if name == "kernel" else f"{path}_"
        if f"{beside}lora_a" in leaves:
            a, b = leaves[f"{beside}lora_a"].astype(np.float64), leaves[f"{beside}lora_b"].astype(np.float64)
            x = x.astype(np.float64).copy()
            for index in np.ndindex(x.shape[:-2]):
                for i in range(x.shape[-2]):
                    for j in range(x.shape[-1]):
                        x[(*index, i, j)] += scale * sum(a[(*index, i, r)] * b[(*index, r, j)] for r in range(2))
        found[path] = x
    return found


@pytest.mark.parametrize("name", KINDS)
def test_merged_weights_are_those_of_numpy_and_nothing_else_changes(name: str) -> None:
    _, params = adapted(name)
    ours, theirs = flat(merged(params, LORA)), merged_by_numpy(params, 3.0 / 2)
    assert ours.keys() == theirs.keys()
    changed = 0
    for path, x in theirs.items():
        np.testing.assert_allclose(ours[path], x, rtol=1e-5, atol=1e-6, err_msg=path)
        changed += not np.array_equal(x, flat(params)[path])
    assert changed == sum(path.endswith("lora_a") for path in flat(params)) > 0


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", KINDS)
def test_the_network_with_adapters_computes_what_the_merged_one_does(name: str) -> None:
    generator, params = adapted(name)
    plain = build_generator(GENERATORS[name], VOCABULARY)
    ours = jax.jit(generator.logits)(params, BATCH)
    np.testing.assert_allclose(ours, jax.jit(plain.logits)(merged(params, LORA), BATCH), rtol=1e-4, atol=1e-4)
    base = jax.jit(plain.logits)(without_adapters(params), BATCH)
    assert np.abs(ours - base).max() > 0.01


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", KINDS)
def test_the_samplers_log_probs_equal_the_teacher_forced_ones(name: str) -> None:
    generator, params = adapted(name)
    text = jax.jit(lambda p, key: sample(generator, p, key, BATCH.prompt, BATCH.prompt_mask, 4))(
        params, jax.random.key(0)
    )
    written = BATCH.replace(target=text.tokens, target_mask=text.mask)
    np.testing.assert_allclose(
        text.log_probs, jax.jit(lambda p: log_probs(generator, p, written))(params), rtol=1e-4, atol=2e-5
    )


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", KINDS)
def test_new_adapters_change_nothing_to_the_bit(name: str) -> None:
    generator = adapted(name)[0]
    new = jax.jit(generator.init)(jax.random.key(1), BATCH)
    plain = build_generator(GENERATORS[name], VOCABULARY)
    base = random_params(without_adapters(new))
    run = jax.jit(generator.logits)
    np.testing.assert_array_equal(run(with_adapters(base, new), BATCH), jax.jit(plain.logits)(base, BATCH))
    for path, x in flat(new).items():
        if path.endswith("lora_a"):
            assert x.std() == pytest.approx(x.shape[-2] ** -0.5, rel=0.5), path
        if path.endswith("lora_b"):
            assert not x.any(), path


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", KINDS)
def test_the_gradient_is_that_of_the_adapters_alone(name: str) -> None:
    generator, params = adapted(name)

    def gradient(params: Any) -> Any:
        return jax.grad(lambda p: cross_entropy(generator.logits(p, BATCH), BATCH.target, BATCH.target_mask))(params)

    for path, x in flat(jax.jit(gradient)(params)).items():
        assert bool(np.any(x)) == path.endswith(("lora_a", "lora_b")), path


def test_what_is_named_learns_besides() -> None:
    generator, params = adapted("gpt2", dataclasses.replace(LORA, trained=("trunk/embedding/*", "*/scale")))

    def gradient(params: Any) -> Any:
        return jax.grad(lambda p: cross_entropy(generator.logits(p, BATCH), BATCH.target, BATCH.target_mask))(params)

    learning = {path for path, x in flat(jax.jit(gradient)(params)).items() if x.any()}
    adapters = {path for path in flat(params) if path.endswith(("lora_a", "lora_b"))}
    scales = {path for path in flat(params) if path.endswith("/scale")}
    assert learning == adapters | scales | {"trunk/embedding/table"}


@pytest.mark.parametrize(
    ("config", "matrices"),
    [
        (TransformerConfig(**SMALL), {"qkv", "out", "up", "down"}),
        (TransformerConfig(**SMALL, activation="swiglu"), {"qkv", "out", "gate", "up", "down"}),
        (TransformerConfig(**SMALL, encoder_layers=1), {"qkv", "query", "key_value", "out", "up", "down"}),
        (LstmConfig(), {"inputs", "recurrent"}),
    ],
    ids=["gpt", "gated", "encoder_decoder", "lstm"],
)
def test_every_matrix_in_a_layer_is_adapted_or_those_that_are_named(config: Any, matrices: set[str]) -> None:
    def found(lora: LoraConfig) -> set[str]:
        params = build(dataclasses.replace(config, lora=lora))[1]
        paths = [path for path in flat(params) if path.endswith("lora_a")]
        return {"recurrent" if path.endswith("/recurrent_lora_a") else path.split("/")[-2] for path in paths}

    assert found(LORA) == matrices
    for name in matrices:
        assert found(dataclasses.replace(LORA, targets=(name,))) == {name}


def test_adapters_are_as_large_as_their_rank_says() -> None:
    params = flat(adapted("gpt2", LoraConfig(rank=3, targets=("up",)))[1])
    assert {path.split("/", 2)[2]: x.shape for path, x in params.items() if "lora" in path} == {
        f"block_{i}/mlp/up/lora_{name}": shape for i in range(2) for name, shape in (("a", (8, 3)), ("b", (3, 32)))
    }


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TransformerConfig(**SMALL, lora=LoraConfig(rank=1, targets=("gate",))), "'gate' is no matrix of this"),
        (lambda: LstmConfig(lora=LoraConfig(rank=1, targets=("qkv",))), "'qkv' is no matrix .* it has inputs, recurre"),
        (lambda: LoraConfig(targets=("qkv",)), "targets has no effect without adapters"),
        (lambda: LoraConfig(alpha=1.0), "alpha has no effect without adapters"),
        (lambda: LoraConfig(trained=("head/*",)), "trained has no effect without adapters"),
        (lambda: TransformerDiscriminatorConfig(**SMALL, lora=LORA), "set from_generator, or drop lora"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_a_discriminator_takes_the_trunk_of_the_generator_and_learns_by_adapters_and_its_head() -> None:
    judge = build_discriminator(
        TransformerDiscriminatorConfig(**SMALL, from_generator=True, lora=LoraConfig(rank=2, alpha=3.0)), VOCABULARY
    )
    own = random_params(jax.eval_shape(judge.init, jax.random.key(0), BATCH))
    _, writer = build(TransformerConfig(**SMALL, lora=LORA))
    with pytest.raises(ValueError, match="only if both have the same Transformer"):
        share_trunk(writer, own)
    params = share_trunk(merged(writer, LORA), own)
    assert_trees_close(without_adapters(params["trunk"]), merged(writer, LORA)["trunk"], rtol=0, atol=0)
    for path, x in flat(params).items():
        if path.startswith("head/") or "lora" in path:
            np.testing.assert_array_equal(x, flat(own)[path])
    plain = build_discriminator(TransformerDiscriminatorConfig(**SMALL), VOCABULARY)
    ours, theirs = jax.jit(judge.scores)(params, BATCH), jax.jit(plain.scores)(merged(params, LORA), BATCH)
    np.testing.assert_allclose(ours.tokens, theirs.tokens, rtol=1e-4, atol=1e-4)

    def gradient(params: Any) -> Any:
        def of(p: Any) -> jax.Array:
            nats = cross_entropy(judge.next_logits(p, BATCH), BATCH.target, BATCH.target_mask)  # type: ignore[misc]
            return judge.scores(p, BATCH).sequence.sum() + nats

        return jax.grad(of)(params)

    learning = {path for path, x in flat(jax.jit(gradient)(params)).items() if x.any()}
    assert learning == {path for path in flat(params) if path.startswith("head/") or "lora" in path}
