"""The LSTM against its equations, written out in float64, and what masks and the encoder do to its state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import VOCABULARY, batch_of, build, generator_of

from gptgan_jax import LstmConfig
from gptgan_jax.models.lstm import LstmLayer, LstmNetwork

State = tuple[np.ndarray, np.ndarray]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def step(layer: dict[str, Any], x: np.ndarray, state: State) -> State:
    """One step of one row: Hochreiter & Schmidhuber 1997 with a forget gate that starts open."""
    cell, hidden = state
    kernel, bias = (np.asarray(layer["inputs"][name], np.float64) for name in ("kernel", "bias"))
    i, f, g, o = np.split(x @ kernel + bias + hidden @ np.asarray(layer["recurrent"], np.float64), 4)
    cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
    return cell, sigmoid(o) * np.tanh(cell)


def read(network: dict[str, Any], stack: str, tokens: list[int], states: list[State]) -> tuple[np.ndarray, list[State]]:
    """The last layer's hidden states after each token, and every layer's final state."""
    table, states, top = np.asarray(network["embedding"]["table"], np.float64), list(states), []
    for token in tokens:
        x = table[token]
        for i in range(len(states)):
            states[i] = step(network[f"{stack}_{i}"], x, states[i])
            x = states[i][1]
        top.append(x)
    return np.array(top), states


def reference_logits(params: Any, config: LstmConfig, prompt: list[int], target: list[int]) -> np.ndarray:
    """Logits [T, V] of one text."""
    network = params["network"]
    zero = [(np.zeros(config.hidden), np.zeros(config.hidden))] * config.layers
    prefix, states = prompt, zero
    if config.encoder_layers:
        prefix, states = [VOCABULARY.bos_id], read(network, "encoder", prompt, zero)[1]
    hidden, _ = read(network, "decoder", prefix + target[:-1], states)
    head = {name: np.asarray(x, np.float64) for name, x in network["head"].items()}
    return hidden[len(prefix) - 1 :] @ head["kernel"] + head["bias"]


@pytest.mark.parametrize("name", ["lstm", "lstm_encoder_decoder"])
def test_logits_are_those_of_a_float64_loop_over_each_text_without_padding(name: str) -> None:
    generator, params = generator_of(name)
    batch = batch_of(prompts=(1, 3, 2))
    logits = jax.jit(generator.logits)(params, batch)
    for row in range(3):
        prompt = np.asarray(batch.prompt)[row][np.asarray(batch.prompt_mask)[row]].tolist()
        target = np.asarray(batch.target)[row][np.asarray(batch.target_mask)[row]].tolist()
        expected = reference_logits(params, generator.config, prompt, target)
        np.testing.assert_allclose(logits[row, : len(target)], expected, rtol=1e-4, atol=1e-5)


def test_a_masked_step_leaves_the_state_as_it_is() -> None:
    layer = LstmLayer(hidden=3, dtype="float32", init_stddev=0.5)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 4)), jnp.float32)
    state = (jnp.asarray(rng.normal(size=(2, 3)), jnp.float32), jnp.asarray(rng.normal(size=(2, 3)), jnp.float32))
    mask = jnp.array([[False, True, False, False, True], [False] * 5])
    params = layer.init({"params": jax.random.key(0)}, x, mask, state)
    hidden, final = layer.apply(params, x, mask, state)
    two, final_of_two = layer.apply(
        params, x[:1, jnp.array([1, 4])], jnp.ones((1, 2), bool), (state[0][:1], state[1][:1])
    )
    np.testing.assert_allclose(
        hidden[0], np.stack([state[1][0], two[0, 0], two[0, 0], two[0, 0], two[0, 1]]), rtol=1e-6
    )
    np.testing.assert_allclose(final[0][0], final_of_two[0][0], rtol=1e-6)
    np.testing.assert_array_equal(final[0][1], state[0][1])
    np.testing.assert_array_equal(final[1][1], state[1][1])


def test_only_the_encoders_state_carries_the_prompt_to_the_decoder() -> None:
    generator, params = generator_of("lstm_encoder_decoder")
    batch, other = batch_of(prompts=(3, 3, 3), seed=0), batch_of(prompts=(3, 3, 3), seed=1)
    network = LstmNetwork(generator.config, VOCABULARY.size)
    encode = jax.jit(lambda p, x: network.apply({"params": p["network"]}, x.prompt, x.prompt_mask, method="encode"))
    states = [encode(params, x) for x in (batch, other)]
    assert len(states[0]) == 2
    for layer in range(2):
        assert np.abs(states[0][layer][1] - states[1][layer][1]).max() > 1e-3
    swapped = other.replace(target=batch.target, target_mask=batch.target_mask)
    logits = jax.jit(generator.logits)
    assert np.abs(logits(params, batch) - logits(params, swapped)).max() > 1e-3


def test_bfloat16_gives_float32_logits_near_those_of_float32() -> None:
    batch = batch_of()
    exact, params = generator_of("lstm")
    rounded, _ = build(LstmConfig(layers=2, embedding=6, hidden=8, dtype="bfloat16"))
    logits = jax.jit(rounded.logits)(params, batch)
    assert logits.dtype == jnp.float32
    difference = np.abs(logits - jax.jit(exact.logits)(params, batch)).max()
    assert 1e-6 < difference < 0.1


def test_an_encoder_of_another_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="encoder_layers 2 must be 0 or equal layers 3"):
        LstmConfig(layers=3, encoder_layers=2)
