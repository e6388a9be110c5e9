"""The Transformer against its equations, written out in float64 for one text at a time without any padding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GENERATORS, VOCABULARY, assert_trees_close, batch_of, build
from scipy.special import erf

from gptgan_jax import TransformerConfig
from gptgan_jax.layers.attention import attend
from gptgan_jax.layers.rotary import frequencies, rotate
from gptgan_jax.models import transformer
from gptgan_jax.models.transformer import Trunk, deep_shapes, shallow_config
from gptgan_jax.objectives.likelihood import cross_entropy


def norm(params: Any, x: np.ndarray, kind: str, eps: float) -> np.ndarray:
    if kind == "layer":
        x = x - x.mean()
    return x / np.sqrt((x**2).mean() + eps) * params["scale"] + (params["bias"] if kind == "layer" else 0)


def project(params: Any, x: np.ndarray) -> np.ndarray:
    return x @ params["kernel"] + params.get("bias", 0)


def slowed(speed: float, cfg: TransformerConfig) -> float:
    """Llama 3.1's rule, by the wavelength."""
    wavelength = 2 * np.pi / speed
    if cfg.rope_scaling == "none" or wavelength < cfg.rope_original_positions / cfg.rope_high_turns:
        return speed
    if wavelength > cfg.rope_original_positions / cfg.rope_low_turns:
        return speed / cfg.rope_factor
    turns = cfg.rope_original_positions / wavelength
    share = (turns - cfg.rope_low_turns) / (cfg.rope_high_turns - cfg.rope_low_turns)
    return (1 - share) * speed / cfg.rope_factor + share * speed


def rotated(x: np.ndarray, position: int, cfg: TransformerConfig) -> np.ndarray:
    """Each pair (x_i, x_{i + E/2}) as a complex number, turned by position * theta^(-2i/E), or slower."""
    half = len(x) // 2
    speeds = [slowed(cfg.rope_theta ** (-2 * i / len(x)), cfg) for i in range(half)]
    turned = (x[:half] + 1j * x[half:]) * np.exp(1j * position * np.array(speeds))
    return np.concatenate([turned.real, turned.imag])


def mix(query: np.ndarray, keys: list[np.ndarray], values: list[np.ndarray]) -> np.ndarray:
    weights = np.exp([query @ key / np.sqrt(len(query)) for key in keys])
    return sum(w * v for w, v in zip(weights / weights.sum(), values, strict=True))


def activate(name: str, x: np.ndarray) -> np.ndarray:
    return {
        "gelu_tanh": lambda: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "gelu": lambda: 0.5 * x * (1 + erf(x / np.sqrt(2))),
        "relu": lambda: np.maximum(x, 0),
        "swiglu": lambda: x / (1 + np.exp(-x)),
    }[name]()


def stack(
    params: Any, cfg: TransformerConfig, x: list[np.ndarray], causal: bool, context: Any = None
) -> list[np.ndarray]:
    """The blocks and the final norm on one text: head h uses key/value head h // (heads / kv_heads)."""
    kv_heads, head = cfg.kv_heads or cfg.heads, cfg.head_width or cfg.width // cfg.heads
    group, eps, count = cfg.heads // kv_heads, cfg.norm_eps, range(len(x))
    for layer in range(sum(name.startswith("block_") for name in params)):
        block = params[f"block_{layer}"]
        qkv = [project(block["attention"]["qkv"], norm(block["attention_norm"], v, cfg.norm, eps)) for v in x]
        qkv = [v.reshape(kv_heads, group + 2, head) for v in qkv]
        mixed = [np.zeros((cfg.heads, head)) for _ in x]
        for h in range(cfg.heads):
            k = h // group
            queries, keys = [v[k, h % group] for v in qkv], [v[k, group] for v in qkv]
            if cfg.qk_norm:
                queries = [norm(block["attention"]["query_norm"], v, "rms", eps) for v in queries]
                keys = [norm(block["attention"]["key_norm"], v, "rms", eps) for v in keys]
            if cfg.positions == "rotary":
                queries = [rotated(queries[t], t, cfg) for t in count]
                keys = [rotated(keys[t], t, cfg) for t in count]
            for t in count:
                end = t + 1 if causal else len(x)
                mixed[t][h] = mix(queries[t], keys[:end], [v[k, group + 1] for v in qkv[:end]])
        x = [x[t] + project(block["attention"]["out"], mixed[t].ravel()) for t in count]
        if context is not None:
            cross = block["cross"]
            kv = [project(cross["key_value"], v).reshape(kv_heads, 2, head) for v in context]
            for t in count:
                queries = project(cross["query"], norm(block["cross_norm"], x[t], cfg.norm, eps)).reshape(-1, head)
                heads = [mix(queries[h], [v[h // group, 0] for v in kv], [v[h // group, 1] for v in kv])
                         for h in range(cfg.heads)]  # fmt: skip
                x[t] = x[t] + project(cross["out"], np.concatenate(heads))
        for t in count:
            y = norm(block["mlp_norm"], x[t], cfg.norm, eps)
            up = project(block["mlp"]["up"], y)
            gated = cfg.activation == "swiglu"
            hidden = (
                activate("swiglu", project(block["mlp"]["gate"], y)) * up if gated else activate(cfg.activation, up)
            )
            x[t] = x[t] + project(block["mlp"]["down"], hidden)
    return [norm(params["norm"], v, cfg.norm, eps) for v in x]


def reference_logits(params: Any, cfg: TransformerConfig, prompt: list[int], target: list[int]) -> np.ndarray:
    """Logits [T, V] of one text."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    trunk = params["trunk"]

    def embed(tokens: list[int]) -> list[np.ndarray]:
        learned = trunk.get("positions", np.zeros((cfg.max_positions, cfg.width)))
        return [trunk["embedding"]["table"][token] + learned[t] for t, token in enumerate(tokens)]

    prefix, context = prompt, None
    if cfg.encoder_layers:
        prefix, context = [VOCABULARY.bos_id], stack(trunk["encoder"], cfg, embed(prompt), causal=False)
    hidden = stack(trunk["decoder"], cfg, embed(prefix + target[:-1]), causal=True, context=context)
    kernel = trunk["embedding"]["table"].T if cfg.tied_embeddings else params["head"]["kernel"]
    return np.array(hidden[len(prefix) - 1 :]) @ kernel


CONFIGS = {
    **{name: GENERATORS[name] for name in ("gpt2", "llama", "encoder_decoder")},
    "encoder_decoder_grouped_rotary": TransformerConfig(
        layers=1, encoder_layers=1, width=8, heads=4, kv_heads=2, positions="rotary", activation="gelu", norm="rms"
    ),
    "rotary_slowed": TransformerConfig(
        layers=1,
        width=8,
        heads=1,
        positions="rotary",
        rope_theta=20.0,
        rope_scaling="llama3",
        rope_factor=3.0,
        rope_low_turns=0.3,
        rope_high_turns=0.9,
        rope_original_positions=8,
    ),
    "one_key_head_relu": TransformerConfig(
        layers=1, width=8, heads=4, kv_heads=1, positions="rotary", rope_theta=100.0, activation="relu", bias=False
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_a_float64_loop_over_each_text_without_padding(name: str) -> None:
    generator, params = build(CONFIGS[name])
    batch = batch_of(prompts=(1, 3, 2))
    logits = jax.jit(generator.logits)(params, batch)
    for row in range(3):
        prompt = np.asarray(batch.prompt)[row][np.asarray(batch.prompt_mask)[row]].tolist()
        target = np.asarray(batch.target)[row][np.asarray(batch.target_mask)[row]].tolist()
        expected = reference_logits(params, CONFIGS[name], prompt, target)
        np.testing.assert_allclose(logits[row, : len(target)], expected, rtol=2e-4, atol=2e-5)


def test_attend_gives_a_row_without_slots_finite_values() -> None:
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(1, 2, 1, 2, 4)), rng.normal(size=(1, 1, 3, 4))
    out = attend(*(jnp.asarray(x, jnp.float32) for x in (q, k, k)), jnp.array([[[False] * 3, [True, False, False]]]))
    np.testing.assert_allclose(out[0, 0, 0, 0], k[0, 0].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(out[0, 1, 0, 1], k[0, 0, 0], rtol=1e-5)


def test_rotary_products_depend_on_the_distance_of_positions_only() -> None:
    rng = np.random.default_rng(0)
    query, key = (jnp.asarray(rng.normal(size=(1, 1, 1, 6)), jnp.float32) for _ in range(2))

    def product(at: int, to: int) -> float:
        speeds = frequencies(6, 50.0)
        return float((rotate(query, jnp.array([[at]]), speeds) * rotate(key, jnp.array([[to]]), speeds)).sum())

    assert product(9, 7) == pytest.approx(product(2, 0), abs=1e-5)
    assert product(9, 7) != pytest.approx(product(9, 6), abs=1e-3)
    assert product(4, 4) == pytest.approx(float((query * key).sum()), abs=1e-5)


def test_scanned_layers_equal_unrolled_ones_with_the_same_weights() -> None:
    sizes: dict[str, Any] = {"layers": 3, "encoder_layers": 2, "width": 8, "heads": 2, "max_positions": 16}
    unrolled, params = build(TransformerConfig(**sizes))
    scanned, shapes = build(TransformerConfig(**sizes, scan_layers=True))
    stacked = dict(params["trunk"])
    for name in ("encoder", "decoder"):
        blocks = [params["trunk"][name][f"block_{i}"] for i in range(3 if name == "decoder" else 2)]
        stacked[name] = {
            "blocks": jax.tree.map(lambda *x: jnp.stack(x), *blocks),
            "norm": params["trunk"][name]["norm"],
        }
    stacked = {"trunk": stacked}
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, shapes)
    batch = batch_of()
    expected = jax.jit(unrolled.logits)(params, batch)
    np.testing.assert_allclose(jax.jit(scanned.logits)(stacked, batch), expected, rtol=1e-4, atol=1e-5)


SIX: dict[str, Any] = {"layers": 6, "width": 8, "heads": 2, "max_positions": 16}


def test_equal_blocks_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a deep network it would take seconds to trace each; with dropout each has random numbers of its own."""
    traced: list[None] = []

    def counted(*arguments: Any) -> Any:
        traced.append(None)
        return attend(*arguments)

    monkeypatch.setattr(transformer, "attend", counted)
    generator, params = build(TransformerConfig(**SIX, dropout=0.5))
    traced.clear()
    jax.eval_shape(generator.logits, params, batch_of())
    assert len(traced) == 1
    jax.eval_shape(generator.logits, params, batch_of(), jax.random.key(0))
    assert len(traced) == 1 + 6


@pytest.mark.parametrize("more", [{}, {"encoder_layers": 3}, {"scan_layers": True}, {"tied_embeddings": False}])
def test_the_shapes_of_a_deep_network_are_those_of_its_blocks(more: dict[str, Any]) -> None:
    config = TransformerConfig(**SIX, **more)
    _, params = build(config)
    _, shallow = build(shallow_config(config))
    expected, found = jax.tree.map(jnp.shape, params), jax.tree.map(jnp.shape, deep_shapes(shallow, config))
    assert found == expected


@pytest.mark.cases(1)
@pytest.mark.parametrize("scan", [False, True])
def test_remat_recomputes_and_changes_neither_loss_nor_gradient(scan: bool) -> None:
    sizes: dict[str, Any] = {"layers": 2, "width": 8, "heads": 2, "max_positions": 16, "scan_layers": scan}
    batch, results = batch_of(), []
    for remat in (False, True):
        generator, params = build(TransformerConfig(**sizes, remat=remat))

        def loss(params: Any, generator: Any = generator) -> jax.Array:
            return cross_entropy(generator.logits(params, batch), batch.target, batch.target_mask)

        assert ("remat" in str(jax.make_jaxpr(jax.grad(loss))(params))) == remat
        results.append(jax.jit(jax.value_and_grad(loss))(params))
    assert_trees_close(results[1], results[0], rtol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_bfloat16_gives_float32_logits_near_those_of_float32(tied: bool) -> None:
    sizes: dict[str, Any] = {"layers": 1, "width": 8, "heads": 2, "tied_embeddings": tied}
    exact, params = build(TransformerConfig(**sizes))
    rounded, _ = build(TransformerConfig(**sizes, dtype="bfloat16"))
    batch = batch_of()
    logits = jax.jit(rounded.logits)(params, batch)
    assert logits.dtype == jnp.float32
    assert 1e-6 < np.abs(logits - jax.jit(exact.logits)(params, batch)).max() < 0.15


def test_the_encoder_sees_the_whole_prompt_both_ways_and_no_padding() -> None:
    cfg = CONFIGS["encoder_decoder"]
    _, params = build(cfg)
    trunk = Trunk(cfg, VOCABULARY.size)
    batch = batch_of(prompts=(3, 4, 4), targets=(4, 4, 4))

    @jax.jit
    def encode(tokens: jax.Array) -> jax.Array:
        return trunk.apply({"params": params["trunk"]}, tokens, batch.prompt_mask, method="encode")

    before = encode(batch.prompt)
    for changed, seen in [(0, 3), (3, 0), (1, 2)]:
        after = encode(batch.prompt.at[1, changed].set(0))
        assert np.abs(after[1, seen] - before[1, seen]).max() > 1e-4
        np.testing.assert_array_equal(after[2], before[2])
    np.testing.assert_array_equal(encode(batch.prompt.at[0, 0].set(6))[0, 1:], before[0, 1:])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 10, "heads": 4}, "width 10 is not a multiple of heads 4"),
        ({"heads": 4, "kv_heads": 3}, "heads 4 is not a multiple of kv_heads 3"),
        ({"width": 12, "heads": 4, "positions": "rotary"}, "even head width"),
        ({"head_width": 5, "positions": "rotary"}, "even head width"),
        ({"rope_scaling": "llama3"}, "rope_scaling llama3 needs positions rotary, not learned"),
        ({"rope_low_turns": 4.0}, "rope_low_turns 4.0 is not less than rope_high_turns 4.0"),
        ({"rope_factor": 0.5}, "greater than or equal to 1"),
        ({"layers": 0}, "greater than or equal to 1"),
        ({"dropout": 1.0}, "less than 1"),
        ({"norm": "batch"}, "'layer' or 'rms'"),
        ({"widht": 8}, "widht"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**fields)


def test_a_head_width_frees_the_width_from_being_a_multiple_of_the_heads() -> None:
    generator, params = build(TransformerConfig(layers=1, width=10, heads=4, head_width=3))
    assert params["trunk"]["decoder"]["block_0"]["attention"]["out"]["kernel"].shape == (12, 10)
    assert np.isfinite(jax.jit(generator.logits)(params, batch_of())).all()
