"""LeakGAN's generator: the discriminator's features token by token, and the equations in float64 text by text."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import VOCABULARY, assert_trees_close, batch_of, build, generator_of, random_params

from gptgan_jax import Batch, CnnConfig, LeakganConfig, build_discriminator
from gptgan_jax.models.discriminator_networks import CnnNetwork
from gptgan_jax.models.leakgan import followed, intrinsic
from gptgan_jax.types import Params

BATCH = batch_of(prompts=(1, 3, 2), targets=(5, 2, 4), length=5)
CNNS = {
    "plain": CnnConfig(embedding=4, widths=(2, 3), filters=3),
    "one_token": CnnConfig(embedding=4, widths=(1,), filters=5),
    "highway_hidden_and_longer_than_the_text": CnnConfig(
        embedding=4, widths=(1, 4, 12), filters=2, highway=True, hidden=5
    ),
}


def prefix(batch: Batch, count: int) -> Batch:
    """The texts of at most so many tokens, padded to the whole length."""
    return batch.replace(target_mask=batch.target_mask & (jnp.arange(batch.target.shape[1]) < count))


@pytest.mark.parametrize("name", CNNS)
def test_features_read_token_by_token_are_the_discriminators_of_each_prefix(name: str) -> None:
    config = CNNS[name]
    discriminator = build_discriminator(config, VOCABULARY)
    params = random_params(jax.eval_shape(discriminator.init, jax.random.key(0), BATCH))
    module: Any = CnnNetwork(replace(config, dropout=0.0), VOCABULARY.size)
    kept = module.apply({"params": params}, 3, method="start")
    tokens = jnp.concatenate([BATCH.prompt, BATCH.target], axis=1)
    mask = jnp.concatenate([BATCH.prompt_mask, BATCH.target_mask], axis=1)

    def read(tokens: jax.Array, mask: jax.Array, kept: Any) -> Any:
        return module.apply({"params": params}, tokens, mask, kept, method="read_on")

    at_once, end = read(tokens, mask, kept)
    for t in range(tokens.shape[1]):
        features, kept = read(tokens[:, t : t + 1], mask[:, t : t + 1], kept)
        np.testing.assert_allclose(features[:, 0], at_once[:, t], rtol=1e-5, atol=1e-6)
        if t >= BATCH.prompt.shape[1] - 1:
            expected = discriminator.scores(params, prefix(BATCH, t + 1 - BATCH.prompt.shape[1])).features
            np.testing.assert_allclose(features[:, 0], expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), kept, end)
    assert np.abs(at_once[:, 0] - at_once[:, -1]).max() > 0.1


# ---- the equations


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def unit(x: np.ndarray) -> np.ndarray:
    return x / max(np.linalg.norm(x), 1e-12)


def lstm(p: Params, x: np.ndarray, state: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    gates = x @ p["inputs"]["kernel"] + p["inputs"]["bias"] + state[1] @ p["recurrent"]
    i, f, g, o = np.split(gates, 4)
    cell = sigmoid(f + 1) * state[0] + sigmoid(i) * np.tanh(g)
    return cell, sigmoid(o) * np.tanh(cell)


def features_of(p: Params, config: CnnConfig, tokens: list[int]) -> np.ndarray:
    """Each filter's largest value, the highway layer and the linear one."""
    x = p["embedding"]["table"][tokens]
    pooled = []
    for width in config.widths:
        rows = np.vstack([np.zeros((width - 1, x.shape[1])), x])
        windows = np.stack([rows[t : t + width].ravel() for t in range(len(tokens))])
        layer = p[f"width_{width}"]
        pooled.append(np.maximum((windows @ layer["kernel"] + layer["bias"]).max(axis=0), 0))
    out = np.concatenate(pooled)
    share = sigmoid(out @ p["highway_gate"]["kernel"])
    out = share * np.maximum(out @ p["highway"]["kernel"], 0) + (1 - share) * out
    return out @ p["hidden"]["kernel"] + p["hidden"]["bias"]


def by_numpy(p: Params, config: LeakganConfig, prompt: list[int], text: list[int]) -> tuple[np.ndarray, ...]:
    """Logits before each token of a text, features of the first t tokens for t = 0..T, and goals for t < T."""
    states = [(np.zeros(config.units), np.zeros(config.units)) for _ in range(2)]
    goals, logits, features = [], [], []
    for t in range(len(prompt) + len(text)):
        read = (prompt + text)[: t + 1]
        features.append(features_of(p["leaked"], config.leaked, read))
        states[0] = lstm(p["manager"], features[-1], states[0])
        goals.append(unit(states[0][1] @ p["direction"]["kernel"] + p["direction"]["bias"]))
        told = sum(goals[-config.horizon :]) @ p["told"]["kernel"]
        states[1] = lstm(p["worker"], p["embedding"]["table"][read[-1]], states[1])
        # O_t [V, k] is the worker's state, and 1, times a tensor of weights.
        weights = p["head"]["kernel"].reshape(config.units + 1, config.goal, -1)
        actions = np.einsum("h,hkv->vk", np.append(states[1][1], 1.0), weights)
        logits.append(actions @ told)
    start = len(prompt) - 1
    return np.array(logits[start:-1]), np.array(features[start:]), np.array(goals[start:-1])


@pytest.mark.parametrize("horizon", [1, 2, 4, 7])
def test_logits_and_cosines_are_those_of_a_float64_loop_over_each_text_without_padding(horizon: int) -> None:
    generator, params = build(replace(generator_of("leakgan")[0].config, horizon=horizon))  # type: ignore[type-var]
    config: Any = generator.config
    assert generator.guidance is not None
    logits, guidance = jax.jit(generator.logits)(params, BATCH), jax.jit(generator.guidance)(params, BATCH)
    network = jax.tree.map(lambda x: np.asarray(x, np.float64), params["network"])
    for row in range(3):
        prompt = np.asarray(BATCH.prompt)[row][np.asarray(BATCH.prompt_mask)[row]].tolist()
        text = np.asarray(BATCH.target)[row][np.asarray(BATCH.target_mask)[row]].tolist()
        expected, f, g = by_numpy(network, config, prompt, text)
        np.testing.assert_allclose(logits[row, : len(text)], expected, rtol=1e-4, atol=1e-5)
        far, rewards = np.zeros(5), np.zeros(5)
        for t in range(len(text)):
            if t + horizon <= len(text):
                far[t] = unit(f[t + horizon] - f[t]) @ g[t]
            reached = range(1, min(horizon, t + 1) + 1)
            rewards[t] = sum(unit(f[t + 1] - f[t + 1 - i]) @ g[t + 1 - i] for i in reached) / horizon
        np.testing.assert_allclose(guidance.followed[row], far, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(guidance.intrinsic[row], rewards, rtol=1e-4, atol=1e-5)


def test_several_texts_of_a_prompt_that_is_given_once_have_the_goals_of_a_prompt_a_row() -> None:
    generator, params = generator_of("leakgan")
    assert generator.guidance is not None
    texts: Any = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), BATCH)
    texts = texts.replace(target=texts.target.at[1::2].set(texts.target[::-2]))
    once = texts.replace(prompt=BATCH.prompt, prompt_mask=BATCH.prompt_mask)
    found, expected = (jax.jit(generator.guidance)(params, batch) for batch in (once, texts))
    assert_trees_close(found, expected, rtol=0, atol=0)


def test_rewards_of_a_way_by_hand() -> None:
    """Three tokens, two features: right, then up, then nowhere; both goals of one token's text are up, then right."""
    features = jnp.array([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]]])
    goals, mask = jnp.array([[[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]]), jnp.ones((1, 3), bool)
    half = 0.5**0.5
    # Of two tokens: up and right against up; up against up.
    np.testing.assert_allclose(followed(features, goals, mask, 2), [[half, 1, 0]], atol=1e-6)
    # Right against up; up against up, and both against up; nowhere, and up against up.
    np.testing.assert_allclose(intrinsic(features, goals, mask, 2), [[0, (1 + half) / 2, 1 / 2]], atol=1e-6)
    shorter = jnp.array([[True, True, False]])
    np.testing.assert_allclose(followed(features, goals, shorter, 2), [[half, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(intrinsic(features, goals, shorter, 2), [[0, (1 + half) / 2, 0]], atol=1e-6)


# ---- whose gradient is whose

MANAGER, WORKER = {"manager", "direction"}, {"worker", "embedding", "told", "head"}


def moved_by(loss: Any, params: Params) -> set[str]:
    gradient = jax.grad(loss)(params)["network"]
    return {name for name, part in gradient.items() if any(np.abs(x).max() > 1e-7 for x in jax.tree.leaves(part))}


def test_likelihood_moves_the_worker_alone_and_the_goals_the_manager_alone() -> None:
    generator, params = generator_of("leakgan")
    assert generator.weighted_nats is not None
    assert generator.guidance is not None
    weights, guidance = BATCH.target_mask.astype(jnp.float32), generator.guidance
    assert moved_by(lambda params: generator.logits(params, BATCH)[0, 1, 3], params) == WORKER
    assert moved_by(lambda params: generator.weighted_nats(params, BATCH, weights), params) == WORKER
    assert moved_by(lambda params: guidance(params, BATCH).followed.sum(), params) == MANAGER
    assert set(params["network"]) == MANAGER | WORKER | {"leaked"}


def test_a_generator_reads_whatever_discriminator_is_leaked_to_it() -> None:
    generator, params = generator_of("leakgan")
    assert generator.leak is not None
    config: Any = generator.config
    discriminator = build_discriminator(replace(config.leaked, dropout=0.3), VOCABULARY)
    scorer = random_params(jax.eval_shape(discriminator.init, jax.random.key(0), BATCH), seed=7)
    after = generator.leak(params, scorer)
    expected = {name: part for name, part in scorer.items() if name != "head"}
    jax.tree.map(np.testing.assert_array_equal, after["network"]["leaked"], expected)
    assert np.abs(generator.logits(after, BATCH) - generator.logits(params, BATCH)).max() > 0.01
    # Dropout in training is not the generator's.
    key = jax.random.key(1)
    np.testing.assert_array_equal(generator.logits(after, BATCH, key), generator.logits(after, BATCH))
