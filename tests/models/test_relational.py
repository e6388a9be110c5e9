"""The relational memory against its equations, written out in float64 slot by slot, and what it keeps of a text."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import batch_of, build, generator_of

from gptgan_jax import RelationalConfig
from gptgan_jax.models.relational import RelationalNetwork


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def normed(rows: np.ndarray, norm: dict[str, np.ndarray]) -> np.ndarray:
    """All numbers of the rows together have mean 0 and variance 1; scale and bias are a column's."""
    return (rows - rows.mean()) / rows.std() * norm["scale"] + norm["bias"]


def step(memory: dict[str, Any], config: RelationalConfig, slots: np.ndarray, token: np.ndarray) -> np.ndarray:
    """The memory [S, H E] after one more token, given by its embedding."""
    p, width = memory, config.head_width
    x = token @ p["inputs"]["kernel"] + p["inputs"]["bias"]
    rows = np.vstack([slots, x])
    qkv = normed(rows @ p["qkv"]["kernel"], p["qkv_norm"])
    attended = np.zeros_like(rows)
    for head in range(config.heads):
        q, k, v = (qkv[:, (3 * head + part) * width : (3 * head + part + 1) * width] for part in range(3))
        for i in range(len(rows)):
            weights = np.exp([q[i] @ k[j] / np.sqrt(3 * width) for j in range(len(rows))])
            attended[i, head * width : (head + 1) * width] = weights / weights.sum() @ v
    rows = normed(rows + attended, p["attended_norm"])
    hidden = np.maximum(rows @ p["mlp_in"]["kernel"] + p["mlp_in"]["bias"], 0)
    rows = normed(rows + hidden @ p["mlp_out"]["kernel"] + p["mlp_out"]["bias"], p["mlp_norm"])
    gates = x @ p["gate_inputs"]["kernel"] + np.tanh(slots) @ p["gate_memory"]["kernel"]
    write, keep = np.split(gates, 2, axis=1)
    return sigmoid(write) * np.tanh(rows[:-1]) + sigmoid(keep + 1) * slots


@pytest.mark.parametrize("slots", [1, 2, 9])
def test_logits_are_those_of_a_float64_loop_over_each_text_without_padding(slots: int) -> None:
    generator, params = build(RelationalConfig(slots=slots, heads=2, head_width=3, embedding=5))
    config = generator.config
    assert isinstance(config, RelationalConfig)
    batch = batch_of(prompts=(1, 3, 2))
    logits = jax.jit(generator.logits)(params, batch)
    network = jax.tree.map(lambda x: np.asarray(x, np.float64), params["network"])
    for row in range(3):
        prompt = np.asarray(batch.prompt)[row][np.asarray(batch.prompt_mask)[row]].tolist()
        target = np.asarray(batch.target)[row][np.asarray(batch.target_mask)[row]].tolist()
        memory, found = np.eye(slots, config.width), []
        for token in prompt + target[:-1]:
            memory = step(network["memory"], config, memory, network["embedding"]["table"][token])
            found.append(memory.ravel() @ network["head"]["kernel"] + network["head"]["bias"])
        np.testing.assert_allclose(logits[row, : len(target)], found[len(prompt) - 1 :], rtol=1e-4, atol=1e-5)


def test_a_masked_step_leaves_the_memory_as_it_is() -> None:
    generator, params = generator_of("relational")
    network = RelationalNetwork(generator.config, 7)  # type: ignore[arg-type]

    def read(tokens: list[int], mask: list[bool]) -> tuple[jax.Array, jax.Array]:
        arguments = jnp.asarray([tokens]), jnp.asarray([mask]), jnp.full((1, 2, 6), 0.3)
        found: Any = network.apply({"params": params["network"]}, *arguments, method="decode_all")
        return found

    hidden, final = read([3, 4, 5, 6], [False, True, False, True])
    _, final_of_two = read([4, 6], [True, True])
    np.testing.assert_allclose(final, final_of_two, rtol=1e-6)
    np.testing.assert_allclose(hidden[0, 0], np.full(12, 0.3), rtol=1e-6)
    np.testing.assert_array_equal(hidden[0, 2], hidden[0, 1])


def test_bfloat16_gives_float32_logits_near_those_of_float32() -> None:
    batch = batch_of()
    exact, params = generator_of("relational")
    config = RelationalConfig(slots=2, heads=2, head_width=3, embedding=5, dtype="bfloat16")
    logits = jax.jit(build(config)[0].logits)(params, batch)
    assert logits.dtype == jnp.float32
    assert 1e-6 < np.abs(logits - jax.jit(exact.logits)(params, batch)).max() < 0.3
